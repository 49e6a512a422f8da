"""Contexts: what is known around a coefficient before it is decoded.

The coefficients of a band are coded in four passes, each a quarter of the plane on a grid of spacing two. A pass is
computed at once for all its places and later passes have neighbours on all sides (as in checkerboard contexts,
He et al. 2021)::

    pass   0 2 0 2
           3 1 3 1
           0 2 0 2
           3 1 3 1
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from isthmus.tasks.compression.wavelet import Band

PHASES = ((0, 0), (1, 1), (0, 1), (1, 0))
PAD = 2
N_FEATURES = 18
MOST = 1023
"""Magnitudes count up to here in a context."""

_OWN = (
    ((0, -1), (0, 1)),
    ((-1, 0), (1, 0)),
    ((-1, -1), (-1, 1), (1, -1), (1, 1)),
    ((0, -2), (0, 2)),
    ((-2, 0), (2, 0)),
    tuple((i, j) for i in range(-2, 3) for j in range(-2, 3) if max(abs(i), abs(j)) == 2 and 0 not in (i, j)),
)


@dataclass
class Known:
    """What is known of the magnitudes of a band in each of n images, (n, h, w) int16, with a border of zeros."""

    magnitudes: np.ndarray
    ring: np.ndarray
    """Sums over the eight neighbours, once the band is complete."""

    @classmethod
    def nothing(cls, n_images: int, tall: int, wide: int) -> Known:
        """Of a band that has not begun."""
        return cls(np.zeros((n_images, tall + 2 * PAD, wide + 2 * PAD), np.int16), np.empty(0))

    @property
    def inside(self) -> np.ndarray:
        """Magnitudes without the border, as a view."""
        return self.magnitudes[:, PAD:-PAD, PAD:-PAD]

    def complete(self) -> None:
        """Compute the sums of neighbours."""
        rows = self.magnitudes[:, :, :-2] + self.magnitudes[:, :, 1:-1] + self.magnitudes[:, :, 2:]
        self.ring = np.zeros_like(self.magnitudes)
        self.ring[:, 1:-1, 1:-1] = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] - self.magnitudes[:, 1:-1, 1:-1]


Planes = dict[tuple[int, Band], Known]
"""What is known, by channel and band."""


class Place(NamedTuple):
    """Where a pass is: a channel, a band, and one of four grids."""

    channel: int
    band: Band
    phase: int

    @property
    def turned(self) -> bool:
        """Whether the band is looked at with rows and columns exchanged, so that its details run along a row."""
        return self.band.orientation == 1

    def grid(self, plane: np.ndarray) -> np.ndarray:
        """The places of this pass in a plane without border, (n, h, w), as a view."""
        first, second = PHASES[self.phase]
        return self.seen(plane)[:, first::2, second::2]

    def seen(self, plane: np.ndarray) -> np.ndarray:
        """A plane with its details along the rows, as a view."""
        return plane.swapaxes(1, 2) if self.turned else plane


def features(planes: Planes, place: Place, rows: slice) -> np.ndarray:
    """Sums of known magnitudes around the places of a pass, (n, rows, columns, `N_FEATURES`), for some rows."""
    return np.stack(list(_sums(planes, place, rows)), axis=-1)


def _sums(planes: Planes, place: Place, rows: slice) -> Iterator[np.ndarray]:
    channel, band, _ = place
    view = place.seen(planes[channel, band].magnitudes)
    first, second = PHASES[place.phase]
    i = np.arange(first, view.shape[1] - 2 * PAD, 2)[rows]
    j = np.arange(second, view.shape[2] - 2 * PAD, 2)
    zero = np.zeros((len(view), len(i), len(j)), np.int32)
    yield from (_sum_at(view, i, j, offsets, zero.copy()) for offsets in _OWN)
    for key, up in _related(channel, band):
        if key not in planes:
            yield from (zero, zero)
            continue
        known = planes[key]
        for plane in (known.magnitudes, known.ring):
            # at most one past the end, where the border is
            yield place.seen(plane)[:, (i >> up)[:, None] + PAD, (j >> up) + PAD]


def _related(channel: int, band: Band) -> Iterator[tuple[tuple[int, Band], int]]:
    """Bands that are known before, and how many levels coarser each is: parents, siblings, other channels."""
    level, orientation = band
    for up in (1, 2):
        yield (channel, Band(level + up, orientation)), up
    for before in (1, 2):
        yield (channel, Band(level, orientation - before if orientation < 3 else -1)), 0
    for before in (1, 2):
        yield (channel - before, band), 0


def _sum_at(
    plane: np.ndarray, i: np.ndarray, j: np.ndarray, offsets: tuple[tuple[int, int], ...], total: np.ndarray
) -> np.ndarray:
    """Add up neighbours in the band itself, whose places lie two apart."""
    if total.size:
        for down, right in offsets:
            top, left = i[0] + PAD + down, j[0] + PAD + right
            total += plane[:, top : top + 2 * len(i) - 1 : 2, left : left + 2 * len(j) - 1 : 2]
    return total
