# %% [markdown]
# # Sparse, contractive and variational models
# The same data and code size under four kinds of autoencoders.

# %% data
import numpy as np

from isthmus import Autoencoder, ContractiveAutoencoder, SparseAutoencoder, VariationalAutoencoder, datasets
from isthmus.plots import plot_rows, save

X = datasets.load_digits().X.reshape(-1, 64)
train, test = X[:1500], X[1500:]
noisy = test + np.random.default_rng(0).normal(0, 0.1, test.shape)

# %% job
models = {
    "plain": Autoencoder(32, max_epochs=15, random_state=0),
    "sparse": SparseAutoencoder(32, max_epochs=15, random_state=0),  # also penalty="kl-sparsity", code="top-k"
    "contractive": ContractiveAutoencoder(32, max_epochs=15, random_state=0),
    "variational": VariationalAutoencoder(32, max_epochs=15, random_state=0),
}
print("kind         variance restored   units active per row   change of the code under noise")
for name, model in models.items():
    codes = model.fit(train).transform(test)
    active = (np.abs(codes) > 0.1 * codes.std()).sum(axis=1).mean()
    change = (
        np.linalg.norm(model.transform(noisy) - codes, axis=1).mean()
        / np.linalg.norm(codes - codes.mean(axis=0), axis=1).mean()
    )
    print(f"{name:12} {model.restored_variance(test):17.1%} {active:22.1f} {change:32.2f}")

# %% picture
rows = np.stack([test[:12], *(model.reconstruct(test[:12]) for model in models.values())]).reshape(-1, 8, 8)
save(plot_rows(rows, columns=12, names=("original", *models)), "regularise.png")
