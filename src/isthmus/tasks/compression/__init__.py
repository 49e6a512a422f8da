"""Compression of images, and of rows without loss."""

from isthmus.tasks.compression.codec import ImageCodec
from isthmus.tasks.compression.container import Container, read
from isthmus.tasks.compression.lossless import compress_lossless, decompress_lossless
from isthmus.tasks.compression.pictures import as_pictures
from isthmus.tasks.compression.records import peak_signal_to_noise

__all__ = [
    "Container",
    "ImageCodec",
    "as_pictures",
    "compress_lossless",
    "decompress_lossless",
    "peak_signal_to_noise",
    "read",
]
