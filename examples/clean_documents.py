# %% [markdown]
# # Clean scanned documents
# Pairs of damaged and clean pages teach a model to remove stains and shadows.

# %% data
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from isthmus import GaussianNoise, Huber, Restorer, Stains, UNet, UnevenLight
from isthmus.plots import plot_restorations, save

draw = np.random.default_rng(0)
words = ["the", "page", "shows", "a", "line", "of", "text", "typed", "long", "before", "any", "scanner", "was", "built"]


def page():
    """A page of random words, (192, 192) bytes."""
    image = Image.new("L", (192, 192), 255)
    for line in range(12):
        text = " ".join(draw.choice(words, 5))
        ImageDraw.Draw(image).text((8, 6 + 15 * line), text, fill=20, font=ImageFont.load_default(12))
    return np.asarray(image)


clean = np.stack([page() for _ in range(12)])
damage = Restorer([UnevenLight(0.5), Stains(strength=0.5), GaussianNoise(0.02)], max_steps=1, random_state=0).fit(clean)
scanned = damage.damage_images(clean, random_state=1)

# %% job
brief = {
    "network": UNet((16, 32), n_blocks=1),
    "crop_size": 32,
    "batch_size": 4,
    "max_steps": 400,
}  # leave out for quality
restorer = Restorer(loss=Huber(0.05), augment=False, **brief, random_state=0)
restorer.fit(scanned[:10], target=clean[:10])  # or two folders: fit("scanned/", target="clean/")
cleaned = restorer.restore(scanned[10:])

quality = restorer.score(scanned[10:], target=clean[10:])
print(f"PSNR before: {quality.psnr_before:.1f} dB, after: {quality.psnr:.1f} dB")

# %% picture
rows = [[scanned[10 + i], cleaned[i], clean[10 + i]] for i in range(2)]
save(plot_restorations(rows, columns=("scanned", "cleaned", "clean")), "clean_documents.png")
