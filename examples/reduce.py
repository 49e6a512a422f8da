# %% [markdown]
# # Reduce dimensions
# 64 pixels become 8 numbers, from which the digits can be restored.

# %% data
from sklearn.decomposition import PCA

from isthmus import Autoencoder, datasets
from isthmus.plots import plot_reconstructions, save

digits = datasets.load_digits()  # 1,797 digits of 8×8 pixels
X = digits.X.reshape(-1, 64)
train, test = X[:1500], X[1500:]

# %% job
model = Autoencoder(code_size=8, max_epochs=40, random_state=0).fit(train)
codes = model.transform(test)  # (297, 8)
restored = model.inverse_transform(codes)  # (297, 64), in the units of X

pca = PCA(8).fit(train)
error = {"autoencoder": model.reconstruct(test), "PCA": pca.inverse_transform(pca.transform(test))}
for name, found in error.items():
    lost = ((found - test) ** 2).sum() / ((test - train.mean(axis=0)) ** 2).sum()
    print(f"{name:12} keeps {1 - lost:.1%} of the variance of new digits in 8 numbers")

# %% picture
save(plot_reconstructions(test, restored, names=("original", "from 8 numbers")), "reduce.png")
