# %% [markdown]
# # Inpaint images
# Fill holes of which it is known where they are.

# %% data
from sklearn.datasets import load_sample_images

from isthmus import BlockMask, Restorer, UNet
from isthmus.plots import plot_restorations, save

temple, flower = [image.mean(axis=2) / 255 for image in load_sample_images().images]  # (427, 640), in [0, 1]
test = flower[100:292, 200:392]

# %% job
holes = BlockMask(0.15, size=6, value=-0.5)  # no pixel is -0.5: the network sees where the holes are
brief = {
    "network": UNet((16, 32), n_blocks=1),
    "crop_size": 32,
    "batch_size": 4,
    "max_steps": 300,
}  # leave out for quality
restorer = Restorer(holes, **brief, random_state=0).fit([temple])

damaged = restorer.damage_images([test], random_state=1)  # or your own image, with -0.5 in its holes
filled = restorer.restore(damaged)

quality = restorer.score(damaged, target=[test])
print(f"PSNR before: {quality.psnr_before:.1f} dB, after: {quality.psnr:.1f} dB")

# %% picture
save(plot_restorations([[damaged[0], filled[0], test]], columns=("with holes", "filled", "original")), "inpaint.png")
