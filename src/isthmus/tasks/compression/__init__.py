"""Compression of images, and of rows without loss."""

from isthmus.tasks.compression.codec import ImageCodec
from isthmus.tasks.compression.lossless import compress_lossless, decompress_lossless

__all__ = ["ImageCodec", "compress_lossless", "decompress_lossless"]
