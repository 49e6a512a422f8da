"""One image through the transform, the contexts and a coder, in either direction."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from isthmus.exceptions import ModelFileError
from isthmus.files.records import Numbers
from isthmus.tasks.compression.coding import Coder, Tables
from isthmus.tasks.compression.contexts import MOST, N_FEATURES, PHASES, Known, Place, Planes, features
from isthmus.tasks.compression.model import TABLES_DECLARED, Shape, fingerprint_of, out_of_range
from isthmus.tasks.compression.scale_network import INPUT_MOST, N_BANDS, ScaleNetwork, band_index
from isthmus.tasks.compression.steps import step_of
from isthmus.tasks.compression.wavelet import MOST_LEVELS, Band, analyse, band_shape, bands, synthesise

COLOUR_SHIFT = 14
UNIT_SHIFT = 6
"""Coefficients are synthesised in 1/64 of a grey level."""
PLACES_AT_ONCE = 1 << 16
ROWS_AT_ONCE = 256
"""Rows of an image whose colours are mixed at once, to save memory."""


KINDS = {"compression": np.uint8, "tables.frequencies": np.uint32}
"""Types of stored arrays that are not int32."""
DECLARED: Mapping[str, Numbers] = {
    "network.inner": Numbers("i", ("networks", N_FEATURES + 1, "hidden"), 32),
    "network.inner_bias": Numbers("i", ("networks", N_BANDS, "hidden"), 32),
    "network.outer": Numbers("i", ("networks", "hidden"), 32),
    "network.outer_bias": Numbers("i", ("networks", 1), 32),
    "network.shifts": Numbers("i", ("networks", 2), 32),
    **TABLES_DECLARED,
    "compression": Numbers("u", (None,), 8),
    "gains": Numbers("i", (MOST_LEVELS, 4), 32),
    "colour": Numbers("i", ("channels", "channels"), 32),
    "mean": Numbers("i", ("channels",), 32),
}
"""The arrays of a model in a file."""
LIMITS = {
    "network.shifts": (0, 24),
    "network.inner_bias": (-(2**30), 2**30),
    "network.outer_bias": (-(2**30), 2**30),
    "gains": (1, 1 << 18),
    "colour": (-(1 << 15), 1 << 15),
    "mean": (0, 255 * 64),
}


def _check_ranges(arrays: Mapping[str, np.ndarray]) -> None:
    wrong = out_of_range(arrays, LIMITS)
    if len(arrays["mean"]) not in (1, 3) or len(arrays["network.inner"]) != len(PHASES) * len(arrays["mean"]):
        wrong.append("network.inner")
    if wrong or not len(arrays["compression"]):
        raise ModelFileError(f"its arrays do not fit: values of {(wrong or ['compression'])[0]!r} are out of range.")


@dataclass(frozen=True)
class WaveletModel:
    """All that a decoder needs; all of it is integers.

    Attributes
    ----------
    networks
        One for each channel and pass, in this order.
    tables
        Entropy tables.
    compression
        What a sum of magnitudes becomes before it enters a network, uint8.
    gains
        One over the norm of a band's synthesis function, in 1/65536, (levels, 4).
    colour, mean
        From channels to colours, (c, c), in 1/2^14; and the mean of each colour, in 1/64 grey level.
    """

    transform: ClassVar[str] = "wavelet"

    networks: tuple[ScaleNetwork, ...]
    tables: Tables
    compression: np.ndarray
    gains: np.ndarray
    colour: np.ndarray
    mean: np.ndarray

    @property
    def n_channels(self) -> int:
        return len(self.mean)

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, as they are stored."""
        stacked = {
            f"network.{name}": np.stack([getattr(network, name) for network in self.networks])
            for name in ("inner", "inner_bias", "outer", "outer_bias", "shifts")
        }
        tables = {"tables.frequencies": self.tables.frequencies, "tables.offsets": self.tables.offsets}
        plain = {name: getattr(self, name) for name in ("compression", "gains", "colour", "mean")}
        return {name: array.astype(KINDS.get(name, np.int32)) for name, array in (stacked | tables | plain).items()}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> WaveletModel:
        """The inverse of `arrays`; raises a `ModelFileError` if a number is out of range."""
        _check_ranges(arrays)
        wide = {name: array.astype(np.int64) for name, array in arrays.items() if name != "compression"}
        names = ("inner", "inner_bias", "outer", "outer_bias", "shifts")
        parts = zip(*(wide[f"network.{name}"] for name in names), strict=True)
        networks = tuple(ScaleNetwork(*part) for part in parts)
        if not all(network.is_exact(INPUT_MOST) for network in networks):
            raise ModelFileError("its networks have weights that are too large for exact arithmetic.")
        tables = Tables.of(wide["tables.frequencies"], wide["tables.offsets"])
        return cls(networks, tables, np.array(arrays["compression"]), wide["gains"], wide["colour"], wide["mean"])

    @functools.cached_property
    def fingerprint(self) -> bytes:
        return fingerprint_of(self.arrays())

    def colour_of(self, n_channels: int) -> np.ndarray:
        """Channels to colours for an image of this many channels; a grey image has only the first."""
        return self.colour if n_channels == self.n_channels else np.full((1, 1), 1 << COLOUR_SHIFT)

    def mean_of(self, n_channels: int) -> np.ndarray:
        return self.mean if n_channels == self.n_channels else np.full(1, int(self.mean.mean()))

    def misfit(self, height: int, width: int, n_channels: int) -> str | None:  # any size can be coded
        """Why images of this size cannot be coded, or None."""
        if n_channels in (1, self.n_channels):
            return None
        return (
            f"has {n_channels} channels, but the codec was fitted to grey images; fit it to colour images, which "
            "compresses grey ones too, or make the images grey."
        )

    def pixels(self, coder: Coder, shape: Shape, code: int, images: np.ndarray | None = None) -> np.ndarray:
        """Put images, (n, h, w, c) uint8, through a coder, or read them from it (None); gives the restored pixels."""
        coefficients = None if images is None else analysed(self, images)
        return synthesised(self, run(self, coder, shape, code, coefficients), shape, code)

    def unit(self, band: Band, code: int) -> int:
        """What a step of a band is in the units of the synthesis, in 1/256."""
        return (step_of(code) * int(self.gains[band.level - 1, band.orientation]) + (1 << 7)) >> 8

    def scales(self, planes: Planes, place: Place, code: int) -> np.ndarray:
        """Index of the entropy table of every place of a pass."""
        network = self.networks[place.channel * len(PHASES) + place.phase]
        n_images, tall, wide = grid_shape(planes, place)
        rows = max(1, PLACES_AT_ONCE // max(n_images * wide, 1))
        found = np.empty((n_images, tall, wide), np.int64)
        for start in range(0, tall, rows):
            part = slice(start, start + rows)
            seen = self.compressed(features(planes, place, part))
            found[:, part] = network.scales(seen.reshape(-1, N_FEATURES), code, band_index(*place.band)).reshape(
                seen.shape[:-1]
            )
        return found.ravel()

    def compressed(self, sums: np.ndarray) -> np.ndarray:
        found: np.ndarray = self.compression[np.minimum(sums, len(self.compression) - 1)]
        return found


def grid_shape(planes: Planes, place: Place) -> tuple[int, int, int]:
    """Images, and rows and columns of the places of a pass."""
    n_images, tall, wide = place.grid(planes[place.channel, place.band].inside).shape
    return n_images, tall, wide


def levels_of(height: int, width: int) -> int:
    """Levels of the transform for an image: the coarsest band is at least two wide or tall, and one level at least."""
    return max(1, min(MOST_LEVELS, (min(height, width) - 1).bit_length() - 1))


def places(n_channels: int, levels: int) -> Iterator[Place]:
    """All passes in the order in which they are coded."""
    for band in bands(levels):
        for channel in range(n_channels):
            yield from (Place(channel, band, phase) for phase in range(len(PHASES)))


Coefficients = dict[tuple[int, Band], np.ndarray]
"""Planes by channel and band."""


def run(model: WaveletModel, coder: Coder, shape: Shape, code: int, wanted: Coefficients | None = None) -> Coefficients:
    """Put coefficients through a coder, or read them from it (None); gives them as restored, in 1/256 step."""
    n_images, height, width, n_channels = shape
    levels = levels_of(height, width)
    step = step_of(code) / 64
    known: Planes = {}
    restored: Coefficients = {}
    for place in places(n_channels, levels):
        key = place.channel, place.band
        if place.phase == 0:
            tall, wide = band_shape(place.band, height, width)
            values, restored[key] = np.zeros((2, n_images, tall, wide), np.int32)
            known[key] = Known.nothing(n_images, tall, wide)
        scales = model.scales(known, place, code)
        want = None if wanted is None else place.grid(wanted[key]) / step
        coarsest = place.band.orientation == 3
        _pass = _code_predicted if coarsest else _code_direct
        coded = _pass(coder, scales, want, place, values)
        shape_here = place.grid(values).shape
        place.grid(known[key].inside)[...] = np.minimum(np.abs(coded), MOST).reshape(shape_here)
        amounts = place.grid(values).ravel() * 256 if coarsest else model.tables.restored(coded, scales)
        place.grid(restored[key])[...] = amounts.reshape(shape_here)
        if place.phase == len(PHASES) - 1:
            known[key].complete()
    return restored


def _code_direct(
    coder: Coder, scales: np.ndarray, want: np.ndarray | None, place: Place, values: np.ndarray
) -> np.ndarray:
    coded = coder.take(scales, None if want is None else want.ravel())
    grid = place.grid(values)
    grid[...] = coded.reshape(grid.shape)
    return coded


def _code_predicted(
    coder: Coder, scales: np.ndarray, want: np.ndarray | None, place: Place, values: np.ndarray
) -> np.ndarray:
    """A pass of what is left at the coarsest level: differences from neighbours that are known."""
    grid = place.grid(values)
    exact = None if want is None else np.rint(want).astype(np.int64)
    if place.phase == 0:
        coded = coder.take(scales, None if exact is None else _differences(exact).ravel(), exact=True)
        coded_grid = coded.reshape(grid.shape).copy()
        if coded_grid.size:
            coded_grid[:, :, 0] = np.cumsum(coded_grid[:, :, 0], axis=1)
        grid[...] = np.cumsum(coded_grid, axis=2)
        return coded
    guess = place.grid(_neighbours(values, place.phase))
    coded = coder.take(scales, None if exact is None else (exact - guess).ravel(), exact=True)
    grid[...] = coded.reshape(grid.shape) + guess
    return coded


def _differences(exact: np.ndarray) -> np.ndarray:
    """Differences from the left neighbour; in the first column from the one above."""
    found = np.diff(exact, axis=2, prepend=0)
    found[:, :, 0] = np.diff(exact[:, :, 0], axis=1, prepend=0)
    return found


def _neighbours(values: np.ndarray, phase: int) -> np.ndarray:
    """Rounded mean of the neighbours that earlier passes have coded, for every place."""
    offsets = ((-1, -1), (-1, 1), (1, -1), (1, 1)) if phase == 1 else ((-1, 0), (1, 0), (0, -1), (0, 1))
    _, tall, wide = values.shape
    border = ((0, 0), (1, 1), (1, 1))
    padded, inside = np.pad(values, border), np.pad(np.ones_like(values), border)
    windows = [(slice(None), slice(1 + i, 1 + i + tall), slice(1 + j, 1 + j + wide)) for i, j in offsets]
    total, count = sum(padded[window] for window in windows), sum(inside[window] for window in windows)
    count = np.maximum(count, 1)
    mean: np.ndarray = (2 * total + count) // (2 * count)
    return mean


def analysed(model: WaveletModel, images: np.ndarray) -> Coefficients:
    """Coefficients of images, (n, h, w, c) uint8, in grey levels."""
    _, height, width, n_channels = images.shape
    levels = levels_of(height, width)
    forward = np.linalg.inv(model.colour_of(n_channels) / (1 << COLOUR_SHIFT))
    found = {}
    for channel in range(n_channels):
        mixed = sum(
            (images[..., c] - model.mean_of(n_channels)[c] / 64) * forward[channel, c] for c in range(n_channels)
        )
        for band, plane in analyse(mixed, levels).items():
            found[channel, band] = plane.astype(np.float32)  # the encoder decides nothing that needs more
    return found


def synthesised(model: WaveletModel, restored: Coefficients, shape: Shape, code: int) -> np.ndarray:
    """Pixels, (n, h, w, c) uint8, of coefficients in 1/256 step; integers throughout."""
    _, height, width, n_channels = shape
    levels = levels_of(height, width)
    channels = []
    for channel in range(n_channels):
        planes = {
            band: (restored[channel, band].astype(np.int64) * model.unit(band, code) + (1 << 15)) >> 16
            for band in bands(levels)
        }
        channels.append(synthesise(planes, levels).astype(np.int32))
    colour, mean = model.colour_of(n_channels), model.mean_of(n_channels)
    pixels = np.empty(shape, np.uint8)
    for start in range(0, height, ROWS_AT_ONCE):
        rows = slice(start, start + ROWS_AT_ONCE)
        for c in range(n_channels):
            mixed = sum(channels[channel][:, rows] * colour[c, channel] for channel in range(n_channels))
            grey = (mixed + (int(mean[c]) << COLOUR_SHIFT) + (1 << (COLOUR_SHIFT + 5))) >> (COLOUR_SHIFT + 6)
            pixels[:, rows, :, c] = np.clip(grey, 0, 255)
    return pixels
