# %% [markdown]
# # Morph between examples
# Paths through the code lead from one example to another, or along a concept.

# %% data
import numpy as np

from isthmus import Autoencoder, datasets
from isthmus.plots import plot_rows, save

digits = datasets.load_digits()
X, y = digits.X.reshape(-1, 8, 8), digits.y

# %% job
model = Autoencoder(8, max_epochs=40, random_state=0).fit(X)
zero, one, three, eight = (X[y == digit][0] for digit in (0, 1, 3, 8))
paths = [model.interpolate(zero, one, 10), model.interpolate(three, eight, 10)]  # (10, 8, 8) each

towards = model.direction(X[y == 3], X[y == 8])  # from threes to eights
threes = X[y == 3][:10]
moved = model.moved(threes, towards, strength=1.0)

# %% picture
rows = np.concatenate([*paths, threes, moved])
save(plot_rows(rows, columns=10, names=("0 to 1", "3 to 8", "threes", "moved to 8")), "morph.png")
