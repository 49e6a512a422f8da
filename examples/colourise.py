# %% [markdown]
# # Colour grey images and enlarge small ones
# A target may have other channels than the input, or be a whole number of times as large.

# %% data
import numpy as np
from sklearn.datasets import load_sample_images

from isthmus import Restorer, UNet
from isthmus.plots import plot_restorations, save

photo = load_sample_images().images[1]  # (427, 640, 3) bytes
right, left = photo[:416, 320:], photo[:416, :320]  # learn from the right half, test on the left half


def halved(image):
    """Means of blocks of 2×2 pixels."""
    return image.reshape(208, 2, 160, 2, 3).mean(axis=(1, 3)).astype(np.uint8)


def grey(image):
    """The mean of the colours."""
    return image.mean(axis=2).astype(np.uint8)


# %% job
brief = {"network": UNet((16, 32), n_blocks=1), "crop_size": 32, "batch_size": 4, "max_steps": 150, "random_state": 0}
colourer = Restorer(**brief).fit([grey(right)], target=[right])
coloured = colourer.restore([grey(left)])[0]  # (416, 320, 3)

enlarger = Restorer(**brief).fit([halved(right)], target=[right])
enlarged = enlarger.restore([halved(left)])[0]  # (416, 320, 3)

given = {"coloured": grey(left)[..., None], "enlarged": halved(left).repeat(2, axis=0).repeat(2, axis=1)}
for (name, before), after in zip(given.items(), (coloured, enlarged), strict=True):
    errors = [np.sqrt(np.square(image.astype(float) - left).mean()) for image in (before, after)]
    print(f"{name}: RMSE {errors[0]:.1f} before, {errors[1]:.1f} after, of 255 levels")

# %% picture
part = slice(150, 278), slice(190, 318)
small = halved(left)[75:139, 95:159]
rows = [[grey(left)[part], coloured[part], left[part]], [small, enlarged[part], left[part]]]
save(plot_restorations(rows, columns=("given", "made", "original")), "colourise.png")
