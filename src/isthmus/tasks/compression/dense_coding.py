"""Small images of one size through a dense autoencoder: what a decoder needs is integers, so is all that it computes.

::

    pixels ─▶ encoder (floats) ─▶ latent values, rounded to steps ─▶ decoder (integers) ─▶ pixels
                                        │
                                        ▼
                                 entropy tables, one index for each dimension
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from isthmus.exceptions import ModelFileError
from isthmus.files.records import Numbers
from isthmus.tasks.compression.coding import Coder, Tables
from isthmus.tasks.compression.model import TABLES_DECLARED, Shape, fingerprint_of, out_of_range
from isthmus.tasks.compression.scale_network import N_SCALES
from isthmus.tasks.compression.steps import step_of

N_LAYERS = 3
"""Layers of the encoder, and of the decoder."""
UNIT_CODE = 64
"""The code whose step is 1 latent unit, at which the networks are trained."""
LATENT_SHIFT = 9
"""Latent values enter the decoder in 1/512."""
LATENT_MOST = 1 << 20
HIDDEN_SHIFT = 8
"""Hidden units are in 1/256."""
HIDDEN_MOST = (1 << 16) - 1
OUTPUT_SHIFT = 6
"""What enters the logistic function is in 1/64."""
N_LEVELS = 1024
"""Entries of the table of the logistic function, from -8 to 8."""
WEIGHT_MOST = (1 << 15) - 1
EXACT = 1 << 52
"""Sums below are exact in double precision in any order of addition."""
SPREADS = 512
"""Entries of the table from the spread of a latent dimension, in sixteenths of an octave, to an entropy table. The one
in the middle belongs to a spread of one step."""

_ENCODER: Mapping[str, Numbers] = {
    name: declared
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(("pixels", "wide", "narrow", "latent")))
    for name, declared in (
        (f"encoder.{layer}.weight", Numbers("f", (n_in, n_out), 16)),
        (f"encoder.{layer}.bias", Numbers("f", (n_out,), 32)),
    )
}
_DECODER: Mapping[str, Numbers] = {
    name: declared
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(("latent", "narrow", "wide", "pixels")))
    for name, declared in (
        (f"decoder.{layer}.weight", Numbers("i", (n_in, n_out), 16)),
        (f"decoder.{layer}.bias", Numbers("i", (n_out,), 64)),
        (f"decoder.{layer}.shift", Numbers("i", (1,), 32)),
    )
}
DECLARED: Mapping[str, Numbers] = {
    **_ENCODER,
    **_DECODER,
    "spreads": Numbers("i", ("latent",), 32),
    "scales": Numbers("u", (SPREADS,), 8),
    "levels": Numbers("u", (N_LEVELS,), 8),
    "shape": Numbers("i", (3,), 32),
    **TABLES_DECLARED,
}
"""The arrays of a model in a file."""
LIMITS = {
    "spreads": (-SPREADS, SPREADS),
    "scales": (0, N_SCALES - 1),
    "shape": (1, 1 << 16),
    **{f"decoder.{layer}.shift": (0, 40) for layer in range(N_LAYERS)},
    **{f"decoder.{layer}.bias": (-(EXACT >> 1), EXACT >> 1) for layer in range(N_LAYERS)},
}


@dataclass(frozen=True)
class FloatLayer:
    """A layer of the encoder: (inputs, outputs) float16 weights and (outputs,) float32 biases."""

    weight: np.ndarray
    bias: np.ndarray

    def sums(self, x: np.ndarray) -> np.ndarray:
        """Weighted sums of inputs, (n, inputs) float32."""
        found: np.ndarray = x @ self.weight.astype(np.float32) + self.bias
        return found


@dataclass(frozen=True)
class WholeLayer:
    """A layer of the decoder.

    Attributes
    ----------
    weight, bias
        (inputs, outputs) int16 and (outputs,) int64; half of what the shift drops is part of the bias.
    shift
        How far sums are shifted to the right, (1,).
    """

    weight: np.ndarray
    bias: np.ndarray
    shift: np.ndarray

    def sums(self, x: np.ndarray) -> np.ndarray:
        """Shifted sums of whole numbers, (n, inputs) int64; exact, because every partial sum is below 2^52."""
        exact = (x.astype(np.float64) @ self.weight.astype(np.float64)).astype(np.int64)
        shifted: np.ndarray = (exact + self.bias) >> int(self.shift[0])
        return shifted

    def is_exact(self, most_input: int) -> bool:
        """Whether no sum of inputs up to this size can reach the limit."""
        sums = np.abs(self.weight.astype(np.int64)).sum(axis=0) * most_input + np.abs(self.bias)
        return bool(sums.max() < EXACT)


@dataclass(frozen=True)
class DenseModel:
    """An encoder in floating point, and all that a decoder needs, in integers.

    Attributes
    ----------
    shape
        Height, width and channels of the images.
    encoder, decoder
        The layers, in the order in which data passes them.
    levels
        Grey levels of the decoder's last sums, (`N_LEVELS`,) uint8. They are stored, because another machine may round
        an exponential function differently.
    spreads
        Mean magnitude of each latent dimension, in sixteenths of an octave above the step of `UNIT_CODE`, (latent,).
    scales
        Entropy table of a spread in steps, (`SPREADS`,).
    tables
        Entropy tables.
    """

    transform: ClassVar[str] = "dense"

    shape: tuple[int, int, int]
    encoder: Sequence[FloatLayer]
    decoder: Sequence[WholeLayer]
    levels: np.ndarray
    spreads: np.ndarray
    scales: np.ndarray
    tables: Tables

    @property
    def n_channels(self) -> int:
        return self.shape[2]

    @functools.cached_property
    def fingerprint(self) -> bytes:
        return fingerprint_of(self.arrays())

    def arrays(self) -> dict[str, np.ndarray]:
        """All arrays by name, as they are stored."""
        found: dict[str, np.ndarray] = {}
        for place, coder in enumerate(self.encoder):
            found |= {f"encoder.{place}.weight": coder.weight, f"encoder.{place}.bias": coder.bias}
        for place, layer in enumerate(self.decoder):
            parts = {"weight": layer.weight, "bias": layer.bias, "shift": layer.shift.astype(np.int32)}
            found |= {f"decoder.{place}.{name}": part for name, part in parts.items()}
        return found | {
            "spreads": self.spreads.astype(np.int32),
            "scales": self.scales.astype(np.uint8),
            "levels": self.levels,
            "shape": np.asarray(self.shape, np.int32),
            "tables.frequencies": self.tables.frequencies.astype(np.uint32),
            "tables.offsets": self.tables.offsets.astype(np.int32),
        }

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> DenseModel:
        """The inverse of `arrays`; raises a `ModelFileError` if a number is out of range."""
        wrong = out_of_range(arrays, LIMITS)
        if int(np.prod(arrays["shape"], dtype=np.int64)) != len(arrays["decoder.2.bias"]) or wrong:
            raise ModelFileError(f"its arrays do not fit: values of {(wrong or ['shape'])[0]!r} are out of range.")
        encoder = [FloatLayer(*(arrays[f"encoder.{i}.{name}"] for name in ("weight", "bias"))) for i in range(N_LAYERS)]
        decoder = [
            WholeLayer(*(np.array(arrays[f"decoder.{i}.{name}"]) for name in ("weight", "bias", "shift")))
            for i in range(N_LAYERS)
        ]
        if not all(map(WholeLayer.is_exact, decoder, (LATENT_MOST, HIDDEN_MOST, HIDDEN_MOST))):
            raise ModelFileError("its networks have weights that are too large for exact arithmetic.")
        height, width, n_channels = arrays["shape"].tolist()
        tables = Tables.of(arrays["tables.frequencies"].astype(np.int64), arrays["tables.offsets"].astype(np.int64))
        spreads, scales = arrays["spreads"].astype(np.int64), arrays["scales"].astype(np.int64)
        levels = np.array(arrays["levels"])
        return cls((height, width, n_channels), encoder, decoder, levels, spreads, scales, tables)

    def misfit(self, height: int, width: int, n_channels: int) -> str | None:
        """Why images of this size cannot be coded, or None."""
        if (height, width, n_channels) == self.shape:
            return None
        wanted = " × ".join(map(str, self.shape))
        return (
            f"has {height} × {width} × {n_channels} values, but the codec was fitted to {wanted} with "
            "transform='dense'; resize it, or use transform='wavelet', which takes any size."
        )

    def pixels(self, coder: Coder, shape: Shape, code: int, images: np.ndarray | None = None) -> np.ndarray:
        """Put images, (n, h, w, c) uint8, through a coder, or read them from it (None); gives the restored pixels."""
        scales = np.tile(self.scales_at(code), shape[0])
        wanted = None if images is None else (self.encoded(images) * (step_of(UNIT_CODE) / step_of(code))).ravel()
        coded = coder.take(scales, wanted)
        restored = self.tables.restored(coded, scales).reshape(shape[0], -1)
        return self.decoded((restored * step_of(code) + (1 << 7)) >> 8).reshape(shape)

    def scales_at(self, code: int) -> np.ndarray:
        """Entropy table of each latent dimension at a step, (latent,)."""
        place = self.spreads - (code - UNIT_CODE) + SPREADS // 2  # a code is a sixteenth of an octave, too
        found: np.ndarray = self.scales[np.clip(place, 0, SPREADS - 1)]
        return found

    def encoded(self, images: np.ndarray) -> np.ndarray:
        """Latent values of images, (n, h, w, c) uint8 → (n, latent) float32, in latent units."""
        x = images.reshape(len(images), -1).astype(np.float32) / 255
        for layer in self.encoder[:-1]:
            x = np.maximum(layer.sums(x), 0)
        most = LATENT_MOST >> LATENT_SHIFT
        found: np.ndarray = np.clip(self.encoder[-1].sums(x), 1 - most, most - 1)
        return found

    def decoded(self, latent: np.ndarray) -> np.ndarray:
        """Pixels, (n, values) uint8, of latent values, (n, latent) int64 in 1/512."""
        x = np.clip(latent, -LATENT_MOST, LATENT_MOST)
        for layer in self.decoder[:-1]:
            x = np.clip(layer.sums(x), 0, HIDDEN_MOST)
        place = np.clip(self.decoder[-1].sums(x) + N_LEVELS // 2, 0, N_LEVELS - 1)
        found: np.ndarray = self.levels[place]
        return found


def logistic_levels() -> np.ndarray:
    """Grey levels of the logistic function from -8 to 8, (`N_LEVELS`,) uint8."""
    x = (np.arange(N_LEVELS) - N_LEVELS // 2) / (1 << OUTPUT_SHIFT)
    return np.rint(255 / (1 + np.exp(-x))).astype(np.uint8)
