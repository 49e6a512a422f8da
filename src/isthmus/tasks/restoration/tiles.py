"""Restoration of large images in tiles, with the same result as for the whole image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from isthmus.choices.unet import reflection

PIXELS_AT_ONCE = 2**19
"""Pixels of a batch of small images."""


@dataclass(frozen=True)
class Tiling:
    """The division of an image into tiles.

    Attributes
    ----------
    tile
        Height and width of the kept part of a tile, in pixels of the input; rounded up to a multiple of `stride`.
    margin
        The margin of a tile on each side; at least the receptive radius of the network.
    stride
        Tiles begin at multiples of it, like the cells of the network.
    scale
        The enlargement of the network.
    """

    tile: int
    margin: int
    stride: int
    scale: int = 1

    def spans(self, length: int) -> Iterator[tuple[int, int, int, int]]:
        """Along one axis of an image: begin and end of what is read, then of what is kept."""
        step, margin = (-(-size // self.stride) * self.stride for size in (self.tile, self.margin))
        padded = -(-length // self.stride) * self.stride
        for begin in range(0, length, step):
            end = min(begin + step, length)
            yield max(0, begin - margin), min(padded, begin + step + margin), begin, end


def restore_alike(
    network: Callable[[Tensor], Tensor], images: Sequence[np.ndarray], read: Read, tiling: Tiling
) -> list[np.ndarray]:
    """Restore images of one shape, (h, w, c) each, at once if they are small, else one by one in tiles.

    Parameters
    ----------
    network, tiling
        As for `restore_whole`.
    images
        Pixels in any unit.
    read
        Turns pixels, (n, h, w, c), into the network's numbers, (n, c, h, w).
    """
    height, width = images[0].shape[:2]
    if height * width * len(images) <= PIXELS_AT_ONCE and max(height, width) <= tiling.tile:
        return list(network(read(np.stack(images))).movedim(1, -1).cpu().numpy())
    return [restore_whole(network, image, lambda part: read(part[None]), tiling) for image in images]


def restore_whole(network: Callable[[Tensor], Tensor], image: np.ndarray, read: Read, tiling: Tiling) -> np.ndarray:
    """Restore one image tile by tile: (h, w, c) → (scale · h, scale · w, c'), float32.

    Parameters
    ----------
    network
        For images of any size, (n, c, h, w), that are padded by reflection to multiples of the stride.
    image
        Pixels in any unit.
    read
        Turns pixels, (h, w, c), into the network's numbers, (1, c, h, w).
    tiling
        The tiles.
    """
    height, width = image.shape[:2]
    rows = [*tiling.spans(height)]
    columns = [*tiling.spans(width)]
    out: np.ndarray | None = None
    for top, bottom, first, last in rows:
        for left, right, start, end in columns:
            part = _part(image, (top, bottom), (left, right), tiling.stride)
            restored = network(read(part))[0].movedim(0, -1)
            s = tiling.scale
            kept = restored[s * (first - top) : s * (last - top), s * (start - left) : s * (end - left)].cpu().numpy()
            if out is None:
                out = np.empty((s * height, s * width, kept.shape[2]), np.float32)
            out[s * first : s * last, s * start : s * end] = kept
    assert out is not None  # an image has at least one pixel
    return out


Read = Callable[[np.ndarray], Tensor]


def _part(image: np.ndarray, rows: Sequence[int], columns: Sequence[int], stride: int) -> np.ndarray:
    """A part of an image, which may exceed its end; it is padded by reflection there."""
    (top, bottom), (left, right) = rows, columns
    if bottom <= image.shape[0] and right <= image.shape[1]:
        return image[top:bottom, left:right]
    down, across = (
        reflection(length, end, stride)[begin:].numpy()
        for length, begin, end in ((image.shape[0], top, bottom), (image.shape[1], left, right))
    )
    part: np.ndarray = image[down[:, None], across]
    return part


def same_shape_runs(arrays: Sequence[np.ndarray]) -> Iterator[slice]:
    """Runs of neighbouring images of one shape and dtype, of at most `PIXELS_AT_ONCE` pixels or of one image."""
    begin = 0
    while begin < len(arrays):
        first = arrays[begin]
        most = max(1, PIXELS_AT_ONCE // max(1, first.shape[0] * first.shape[1]))
        end = begin + 1
        while end < min(len(arrays), begin + most):
            if arrays[end].shape != first.shape or arrays[end].dtype != first.dtype:
                break
            end += 1
        yield slice(begin, end)
        begin = end
