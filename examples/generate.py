# %% [markdown]
# # Generate images
# Samples of the model: digits that nobody wrote.

# %% data
import numpy as np

from isthmus import Autoencoder, VariationalAutoencoder, datasets
from isthmus.plots import plot_rows, save

digits = datasets.load_digits()
X, y = digits.X.reshape(-1, 8, 8), digits.y

# %% job
model = Autoencoder(8, max_epochs=40, random_state=0).fit(X)
samples = model.sample(15, random_state=0)  # (15, 8, 8), from a mixture of Gaussians on the codes
sevens = model.fit_sampler(X, y).sample(15, 7, random_state=0)  # a mixture for each label

variational = VariationalAutoencoder(8, max_epochs=40, random_state=0).fit(X)
from_prior = variational.sample(15, random_state=0)  # its code has a prior to draw from

for name, new in {"samples": samples, "from the prior": from_prior}.items():
    nearest = [np.square(X - row).sum(axis=(1, 2)).min() ** 0.5 for row in new]
    print(f"{name:15} mean distance to the nearest digit {np.mean(nearest):.2f}")
apart = [np.sort(np.square(X - row).sum(axis=(1, 2)))[1] ** 0.5 for row in X[:200]]
print(f"{'digits':15} mean distance to the nearest other {np.mean(apart):.2f}")

# %% picture
rows = np.concatenate([samples, sevens, from_prior])
save(plot_rows(rows, columns=15, names=("samples", "sevens", "from the prior")), "generate.png")
