# %% [markdown]
# # Compress rows without loss
# A variational autoencoder predicts the bits of each row; what it predicts well costs little.

# %% data
import lzma
import zlib

import numpy as np

from isthmus import VariationalAutoencoder, compress_lossless, datasets, decompress_lossless

rows = (datasets.load_digits().X.reshape(-1, 64) > 0.5).astype("float32")  # black and white pixels

# %% job
model = VariationalAutoencoder(8, network=(64,), max_epochs=60, random_state=0).fit(rows)
stream = compress_lossless(model, rows)  # bytes
assert np.array_equal(decompress_lossless(model, stream), rows)  # every bit comes back

packed = np.packbits(rows.astype(bool)).tobytes()
sizes = {"one bit a pixel": packed, "zlib": zlib.compress(packed, 9), "lzma": lzma.compress(packed), "isthmus": stream}
for name, data in sizes.items():
    print(f"{name:16}{len(data):7,} bytes, {8 * len(data) / rows.size:.3f} bits a pixel")
