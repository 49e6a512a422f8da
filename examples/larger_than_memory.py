# %% [markdown]
# # Train on data larger than memory
# A source reads rows on demand.

# %% data
import numpy as np

from isthmus import Autoencoder, Source

draw = np.random.default_rng(0)
mixing = draw.normal(size=(4, 20))
rows = np.lib.format.open_memmap("rows.npy", mode="w+", dtype="float32", shape=(40_000, 20))
for start in range(0, 40_000, 10_000):  # written in parts too
    rows[start : start + 10_000] = draw.normal(size=(10_000, 4)) @ mixing + 0.1 * draw.normal(size=(10_000, 20))
rows.flush()


# %% job
class Rows(Source):
    """The rows of a .npy file, read on demand."""

    def __init__(self, path):
        self.array = np.load(path, mmap_mode="r")
        self.n_rows, self.feature_shape, self.dtype = len(self.array), self.array.shape[1:], self.array.dtype
        self.feature_names, self.random_access = None, True

    def read(self, index):
        return np.asarray(self.array[index])


model = Autoencoder(4, max_epochs=2, random_state=0).fit(Rows("rows.npy"))  # your own format
print(f"{rows.shape[0]:,} rows of {rows.shape[1]} columns, {rows.nbytes / 1e6:.1f} MB on disk")
print(f"{model.score(rows[:1000]):.2%} of the variance of 20 columns in 4 numbers")
