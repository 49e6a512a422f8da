# %% [markdown]
# # Denoise images
# Learn from clean photographs to remove noise from others.

# %% data
from sklearn.datasets import load_sample_images

from isthmus import Restorer, UNet
from isthmus.plots import plot_restorations, save

temple, flower = [image.mean(axis=2).astype("uint8") for image in load_sample_images().images]  # (427, 640) bytes
test = flower[100:292, 200:392]  # nothing of this photograph is learned from

# %% job
brief = {
    "network": UNet((16, 32), n_blocks=1),
    "crop_size": 32,
    "batch_size": 4,
    "max_steps": 300,
}  # leave out for quality
restorer = Restorer("noise:0.05-0.2", **brief, random_state=0).fit([temple])

noisy = restorer.damage_images([test], random_state=1)  # or your own noisy images
restored = restorer.restore(noisy)

quality = restorer.score(noisy, target=[test])
print(f"PSNR before: {quality.psnr_before:.1f} dB, after: {quality.psnr:.1f} dB")

# %% picture
save(plot_restorations([[noisy[0], restored[0], test]], columns=("noisy", "restored", "clean")), "denoise.png")
