"""The network that predicts how large a coefficient is, in integers.

A small network maps the sums of `contexts.features` to one of `N_SCALES` entropy tables. Its weights are integers in
the model file. All products and sums stay below 2^24, where single precision holds every integer, so that each matrix
product is exact in any order of summation: threads, libraries and machines cannot change a context.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

N_SCALES = 40
"""Entropy tables, from the smallest expected magnitude to the largest."""
N_BANDS = 6 * 4
"""Bands that have hidden biases of their own: levels times orientations."""
EXACT = 1 << 24
INPUT_MOST = 255
HIDDEN_MOST = 1023
"""Hidden units are limited to 0 … this."""
ROWS = 1 << 15
"""Rows of a matrix product: what stays in the cache."""


@dataclass(frozen=True)
class ScaleNetwork:
    """One integer network.

    ::

        compressed sums (18), step (1)  ─▶  hidden (h), limited to 0 … 1023  ─▶  scale, 0 … 39

    Attributes
    ----------
    inner
        Weights of the inputs, (inputs, h).
    inner_bias
        Hidden biases of each band, (`N_BANDS`, h).
    outer, outer_bias
        Weights and bias of the scale, (h,) and (1,).
    shifts
        How far the sums of the two layers are shifted to the right.
    """

    inner: np.ndarray
    inner_bias: np.ndarray
    outer: np.ndarray
    outer_bias: np.ndarray
    shifts: np.ndarray

    def scales(self, compressed: np.ndarray, step: int, band: int) -> np.ndarray:
        """Index of the entropy table of each row of inputs, (n, features) uint8 → (n,) int64."""
        found = np.empty(len(compressed), np.int64)
        inner, outer = self.inner.astype(np.float32), self.outer.astype(np.float32)
        bias = self.inner_bias[band] + self.inner[-1] * step
        for start in range(0, len(compressed), ROWS):
            sums = (compressed[start : start + ROWS].astype(np.float32) @ inner[:-1]).astype(np.int32) + bias
            hidden = np.clip(sums >> self.shifts[0], 0, HIDDEN_MOST)
            total = (hidden.astype(np.float32) @ outer).astype(np.int32) + self.outer_bias[0]
            found[start : start + ROWS] = np.clip(total >> self.shifts[1], 0, N_SCALES - 1)
        return found

    def is_exact(self, most_input: int) -> bool:
        """Whether no sum can reach the limit of exact single precision."""
        inner = np.abs(self.inner).sum(axis=0).max(initial=0) * most_input
        outer = np.abs(self.outer).sum() * HIDDEN_MOST
        return bool(max(inner, outer) < EXACT)


def band_index(level: int, orientation: int) -> int:
    """Row of `inner_bias` of a band; what is left at the coarsest level has the last rows."""
    return min(level - 1, 5) * 4 + orientation
