# %% [markdown]
# # Images without flattening
# A convolutional network takes images as they are.

# %% data
import numpy as np

from isthmus import ConvolutionalAutoencoder
from isthmus.plots import plot_reconstructions, save

draw = np.random.default_rng(0)
y, x = np.mgrid[:24, :32]


def drawing():
    """A soft ring anywhere in a frame of 24×32 pixels."""
    away = np.hypot(y - draw.uniform(7, 17), x - draw.uniform(8, 24))
    return 255 / (1 + np.square((away - draw.uniform(2, 6)) / draw.uniform(0.8, 1.6)))


X = np.stack([drawing() for _ in range(900)]).astype("uint8")  # (900, 24, 32) bytes
train, test = X[:800], X[800:]

# %% job
model = ConvolutionalAutoencoder(8, max_epochs=15, random_state=0).fit(train)
codes = model.transform(test)  # (100, 8) for 768 pixels each
restored = model.reconstruct(test)  # (100, 24, 32) bytes

print(f"{model.restored_variance(test):.1%} of the variance of new images in 8 numbers")

# %% picture
save(plot_reconstructions(test, restored, n=8, names=("original", "restored")), "images_of_any_size.png")
