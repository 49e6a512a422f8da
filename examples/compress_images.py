# %% [markdown]
# # Compress images
# A codec that was fitted to photographs, beside JPEG at the same number of bytes.

# %% data
import io

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from isthmus import ImageCodec
from isthmus.plots import plot_restorations, save

temple, flower = load_sample_images().images
image = temple[128:320, 256:448]


def psnr(other):
    """Decibels."""
    return 10 * np.log10(255**2 / np.square(other.astype(float) - image).mean())


def jpeg(limit):
    """The best JPEG of at most so many bytes."""
    quality, out = 96, io.BytesIO(bytes(limit + 1))
    while len(out.getvalue()) > limit:
        quality, out = quality - 1, io.BytesIO()
        Image.fromarray(image).save(out, "jpeg", quality=quality)
    return np.asarray(Image.open(out)), len(out.getvalue())


# %% job
codec = ImageCodec("0.6 bpp", n_steps=60, random_state=0).fit([flower[100:356, 200:456], temple[128:320, :256]])
stream = codec.compress([image])  # bytes, for a file
(restored,) = codec.decompress(stream)  # (192, 192, 3) bytes, the same on every machine

other, size = jpeg(len(stream))
print(f"raw     {image.size:7,} bytes")
print(f"isthmus {len(stream):7,} bytes, {psnr(restored):.1f} dB")
print(f"JPEG    {size:7,} bytes, {psnr(other):.1f} dB")

# %% picture
save(plot_restorations([[image, restored, other]], columns=("original", "isthmus", "JPEG")), "compress_images.png")
