"""Correlation of the noise of neighbouring pixels, measured on noisy images without clean ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

BLOCK = 16
"""Side of the blocks."""
FLATTEST = 0.05
"""Share of the blocks with the smallest variance, whose variance is assumed to be noise."""
FEWEST_BLOCKS = 16
CORRELATED = 0.15
"""Correlation of neighbours from which noise counts as correlated. Twelve photographs with independent noise of a
strength from 5 to 50 of 255 measured 0.02 at most (single ones 0.15 at a strength of 10), and 0.21 or more with noise
that was blurred by half a pixel."""


def noise_correlation(images: Sequence[np.ndarray]) -> float:
    """The correlation of the noise of neighbouring pixels, about 0 for independent noise; NaN if it cannot be measured.

    In flat parts of an image all variance is noise. A plane is subtracted from blocks of 16×16 pixels. Over the 5 % of
    the blocks with the smallest variance, the products of horizontal and vertical neighbours are averaged and divided
    by the mean square. The result is the median over images.

    Parameters
    ----------
    images
        Noisy images, (h, w, c), floats.
    """
    found = [value for image in images for value in _of_image(image) if np.isfinite(value)]
    return float(np.median(found)) if found else float("nan")


def _of_image(image: np.ndarray) -> list[float]:
    return [_of_channel(image[..., channel].astype(np.float64)) for channel in range(image.shape[2])]


def _of_channel(channel: np.ndarray) -> float:
    rows, columns = (length // BLOCK for length in channel.shape)
    if not rows * columns:
        return float("nan")
    cut = channel[: rows * BLOCK, : columns * BLOCK]
    blocks = cut.reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2).reshape(-1, BLOCK, BLOCK)
    saturated = ((blocks <= channel.min()) | (blocks >= channel.max())).mean((1, 2)) > 0.05
    rest = _without_plane(blocks[~saturated])
    squares = np.square(rest).mean((1, 2))
    kept = max(FEWEST_BLOCKS, round(FLATTEST * len(blocks)))
    if len(rest) < FEWEST_BLOCKS or not squares.any():
        return float("nan")
    flat = rest[np.argsort(squares)[:kept]]
    across = (flat[:, :, 1:] * flat[:, :, :-1]).mean() / np.square(flat).mean()
    down = (flat[:, 1:] * flat[:, :-1]).mean() / np.square(flat).mean()
    return float(max(across, down))


def _without_plane(blocks: np.ndarray) -> np.ndarray:
    """Blocks minus their least-squares planes, (n, 16, 16)."""
    line = np.arange(BLOCK) - (BLOCK - 1) / 2
    line = line / np.sqrt(np.square(line).sum() * BLOCK)
    rest = blocks - blocks.mean((1, 2), keepdims=True)
    rest = rest - np.einsum("nij,j->n", rest, line)[:, None, None] * line
    flat: np.ndarray = rest - np.einsum("nij,i->n", rest, line)[:, None, None] * line[:, None]
    return flat
