# %% [markdown]
# # Images without flattening
# A convolutional network takes images as they are.

# %% data
import numpy as np
from sklearn.datasets import load_sample_images

from isthmus import ConvolutionalAutoencoder
from isthmus.plots import plot_reconstructions, save

temple, flower = [image.mean(axis=2).astype("uint8") for image in load_sample_images().images]


def tiles(image):
    """All tiles of 24×32 pixels, (n, 24, 32) bytes."""
    return image[:408].reshape(17, 24, 20, 32).swapaxes(1, 2).reshape(-1, 24, 32)


X = np.concatenate([tiles(temple), tiles(flower)])[np.random.default_rng(0).permutation(680)]
train, test = X[:600], X[600:]

# %% job
model = ConvolutionalAutoencoder(64, max_epochs=10, random_state=0).fit(train)
codes = model.transform(test)  # (80, 64) for 768 pixels each
restored = model.reconstruct(test)  # (80, 24, 32) bytes

print(f"{model.restored_variance(test):.1%} of the variance of new tiles in 64 numbers")

# %% picture
busy = np.argsort(-test.std(axis=(1, 2)))[:8]  # many tiles are nothing but sky
save(plot_reconstructions(test[busy], restored[busy], n=8, names=("original", "restored")), "images_of_any_size.png")
