"""Compression of images, and of rows without loss."""

from isthmus.tasks.compression.codec import ImageCodec

__all__ = ["ImageCodec"]
