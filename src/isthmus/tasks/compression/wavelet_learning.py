"""Learning a codec: contexts of training images, networks by the bits that they cost, then everything as integers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.tasks.compression.coding import Encoder, Tables
from isthmus.tasks.compression.contexts import N_FEATURES, PHASES, Place, Planes, features
from isthmus.tasks.compression.scale_network import (
    EXACT,
    HIDDEN_MOST,
    INPUT_MOST,
    N_BANDS,
    N_SCALES,
    ScaleNetwork,
    band_index,
)
from isthmus.tasks.compression.symbols import tokens
from isthmus.tasks.compression.table_learning import laplacian_tables, tables_of_counts
from isthmus.tasks.compression.targets import TRADE
from isthmus.tasks.compression.wavelet import MOST_LEVELS, Band, norm
from isthmus.tasks.compression.wavelet_coding import COLOUR_SHIFT, WaveletModel, analysed, grid_shape, run

CODES = (58, 74, 86, 96, 105, 114)
"""Steps that contexts are learned at: 6 to 70 grey levels."""


def compression_table() -> np.ndarray:
    """Logarithms of sums of magnitudes, as bytes."""
    logarithms: np.ndarray = np.rint(21 * np.log2(1 + np.arange(4096)))
    return logarithms.astype(np.uint8)


def gains() -> np.ndarray:
    """One over the norm of each band's synthesis function, in 1/65536."""
    made = [[round(65536 / norm(Band(level, o))) for o in range(4)] for level in range(1, MOST_LEVELS + 1)]
    return np.asarray(made, np.int64)


def colour_transform(batches: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Principal axes of the colours, in 1/2^14, by falling variance, and their mean in 1/64 grey level."""
    rows = np.concatenate([batch.reshape(-1, batch.shape[3])[::7].astype(np.float64) for batch in batches])
    mean = rows.mean(0)
    # of differences within images, since the variance between images is not what is coded; with a little of white, so
    # that images without any differences have axes too
    differences = rows[1:] - rows[:-1]
    covariance = differences.T @ differences / max(len(differences), 1) + 1e-6 * np.eye(rows.shape[1])
    _, axes = np.linalg.eigh(covariance)
    axes = axes[:, ::-1] * np.sign(axes[:, ::-1].sum(0) + 1e-9)
    return np.rint(axes * (1 << COLOUR_SHIFT)).astype(np.int64), np.rint(mean * 64).astype(np.int64)


@dataclass(frozen=True)
class Samples:
    """Places of training images, as one network sees them, and what was there."""

    inputs: np.ndarray
    """(n, features) uint8"""
    code: np.ndarray
    band: np.ndarray
    magnitude: np.ndarray
    size: np.ndarray
    """The coefficient before it was rounded, in steps."""
    weight: np.ndarray

    @classmethod
    def silent(cls) -> Samples:
        """One place of weight 0: a network with these samples does not change."""
        whole = np.zeros(1, np.int64)
        return cls(np.zeros((1, N_FEATURES), np.uint8), whole, whole, whole, np.zeros(1), np.zeros(1))


@dataclass(frozen=True)
class Watch(WaveletModel):
    """A model that keeps what its networks are given at some places."""

    draw: np.random.Generator = field(default_factory=np.random.default_rng)
    kept: list[tuple[Place, int, np.ndarray, np.ndarray]] = field(default_factory=list)
    blind: bool = False
    """Whether there are no networks yet."""
    whole: bool = False
    """Whether all places are kept, not a share of them."""

    def share(self, band: Band) -> float:
        """The share of a band's places that is kept."""
        return 1.0 if self.whole else FINEST_SHARE if band.level == 1 else OTHER_SHARE

    def scales(self, planes: Planes, place: Place, code: int) -> np.ndarray:
        n_places = math.prod(grid_shape(planes, place))
        seen = self.compressed(features(planes, place, slice(None))).reshape(-1, N_FEATURES)
        chosen = np.flatnonzero(self.draw.random(n_places) < self.share(place.band))
        self.kept.append((place, code, chosen, seen[chosen]))
        if self.blind:
            return np.zeros(n_places, np.int64)
        network = self.networks[place.channel * len(PHASES) + place.phase]
        return network.scales(seen, code, band_index(*place.band))


@dataclass
class Listening:
    """A coder that keeps what it was asked to code; without tables it rounds with a dead zone."""

    encoder: Encoder | None
    kept: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)

    def take(self, scales: np.ndarray, wanted: np.ndarray | None, *, exact: bool = False) -> np.ndarray:
        assert wanted is not None  # it listens to an encoder
        if exact:
            values = wanted.astype(np.int64)
        elif self.encoder is not None:
            values = self.encoder.take(scales, wanted)
        else:
            values = (np.sign(wanted) * np.floor(np.abs(wanted) + ROUNDING)).astype(np.int64)
        self.kept.append((np.abs(values), np.abs(wanted)))
        return values


FINEST_SHARE, OTHER_SHARE = 1 / 32, 1 / 8
ROUNDING = 0.33
"""A magnitude is rounded up from this far below; what the encoder's choice by cost comes to."""


def collect(model: WaveletModel, batches: Sequence[np.ndarray], seed: int, *, blind: bool) -> list[Samples]:
    """Samples for each network from every image at several steps.

    A share of the places is enough, unless the images are so small that a network would get none. All places are taken
    then. Images of 2×2 pixels have no places at all for some networks, which stay as they were initialised.
    """
    found = _collected(model, batches, seed, blind=blind, whole=False)
    return found if all(len(part.code) for part in found) else _collected(model, batches, seed, blind=blind, whole=True)


def _collected(
    model: WaveletModel, batches: Sequence[np.ndarray], seed: int, *, blind: bool, whole: bool
) -> list[Samples]:
    draw = np.random.default_rng(seed)
    found: list[list[tuple[np.ndarray, ...]]] = [[] for _ in range(model.n_channels * len(PHASES))]
    for number, batch in enumerate(batches):
        coefficients = analysed(model, batch)
        # half of the steps for each image: all of them, and half of the time, with many images
        for centre in CODES[number % 2 :: 2] if len(batches) > 1 else CODES:
            code = int(centre + draw.integers(-6, 7))
            given = {f.name: getattr(model, f.name) for f in fields(WaveletModel)}
            watch = Watch(**given, draw=draw, blind=blind, whole=whole)
            listening = Listening(None if blind else Encoder(model.tables, TRADE, writes=False))
            run(watch, listening, batch.shape, code, coefficients)
            for (place, _, chosen, seen), (magnitude, size) in zip(watch.kept, listening.kept, strict=True):
                n, band = len(chosen), band_index(*place.band)
                weight = np.full(n, 1 / watch.share(place.band))
                found[place.channel * len(PHASES) + place.phase].append(
                    (seen, np.full(n, code), np.full(n, band), magnitude[chosen], size[chosen], weight)
                )
    return [
        Samples(*(np.concatenate(part) for part in zip(*(parts or [_no_sample()]), strict=True))) for parts in found
    ]


def _no_sample() -> tuple[np.ndarray, ...]:
    """The arrays of `Samples`, with no places."""
    whole = np.zeros(0, np.int64)
    return np.zeros((0, N_FEATURES), np.uint8), whole, whole, whole, np.zeros(0), np.zeros(0)


class SoftNetworks(nn.Module):
    """All networks in floating point, side by side, with the tables that they share."""

    def __init__(self, n_networks: int, generator: torch.Generator, n_hidden: int = 32) -> None:
        super().__init__()

        def normal(*shape: int, scale: float) -> nn.Parameter:
            return nn.Parameter(torch.randn(*shape, generator=generator) * scale)

        self.inner = normal(n_networks, N_FEATURES + 1, n_hidden, scale=0.3)
        self.band = normal(n_networks, N_BANDS, n_hidden, scale=0.1)
        self.outer = normal(n_networks, n_hidden, scale=0.3)
        self.outer_bias = nn.Parameter(torch.full((n_networks,), 8.0))
        self.logits = nn.Parameter(torch.from_numpy(np.log(laplacian_tables())).float())

    def forward(self, inputs: Tensor, band: Tensor) -> Tensor:
        """Scales, (networks, n), of inputs, (networks, n, features + 1), in 1/64."""
        which = torch.arange(len(inputs))[:, None]
        hidden = torch.baddbmm(self.band[which, band], inputs, self.inner).clamp(0, HIDDEN_MOST / 64)
        return (hidden * self.outer[:, None]).sum(2) + self.outer_bias[:, None]

    def bits(self, scale: Tensor, token: Tensor) -> Tensor:
        """Bits of tokens at scales between the tables."""
        scale = scale.clamp(0, N_SCALES - 1.001)
        low = scale.floor().long()
        share = scale - low
        mass = torch.softmax(self.logits, dim=1)
        return -torch.log2((1 - share) * mass[low, token] + share * mass[low + 1, token])


def train_networks(soft: SoftNetworks, samples: Sequence[Samples], seed: int, n_steps: int, batch: int = 768) -> float:
    """Train for the fewest bits; gives the mean bits of the last hundred steps."""
    draw = np.random.default_rng(seed)
    samples = [part if len(part.code) else Samples.silent() for part in samples]
    optimizer = torch.optim.Adam(soft.parameters(), lr=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=n_steps)
    last = []
    for _ in range(n_steps):
        rows = [draw.integers(len(part.code), size=batch) for part in samples]
        pairs = list(zip(samples, rows, strict=True))
        joined = [np.concatenate([p.inputs[r], p.code[r, None]], axis=1) for p, r in pairs]
        inputs = torch.from_numpy(np.stack(joined).astype(np.float32) / 64)
        band = torch.from_numpy(np.stack([p.band[r] for p, r in pairs]))
        token = torch.from_numpy(tokens(np.stack([p.magnitude[r] for p, r in pairs])))
        weight = torch.from_numpy(np.stack([p.weight[r] for p, r in pairs]).astype(np.float32))
        loss = (soft.bits(soft(inputs, band), token) * weight).sum() / weight.sum().clamp(min=1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        last.append(float(loss.detach()))
    return float(np.mean(last[-100:]))


def as_integers(soft: SoftNetworks) -> tuple[ScaleNetwork, ...]:
    """The networks with integer weights, at the finest resolution that stays exact."""
    parts = [p.detach().double().numpy() for p in (soft.inner, soft.band, soft.outer, soft.outer_bias)]
    return tuple(_one_as_integers(*arrays) for arrays in zip(*parts, strict=True))


def _one_as_integers(inner: np.ndarray, band: np.ndarray, outer: np.ndarray, outer_bias: np.ndarray) -> ScaleNetwork:
    for first in range(12, 0, -1):
        whole = np.rint(inner * 2**first).astype(np.int64)
        if np.abs(whole).sum(axis=0).max() * INPUT_MOST < EXACT:
            break
    for second in range(20, 0, -1):
        last = np.rint(outer / 64 * 2**second).astype(np.int64)
        if np.abs(last).sum() * HIDDEN_MOST < EXACT:
            break
    # a half is added, so that the shifts round to the nearest
    biases = np.rint(band * 64 * 2**first + 2 ** (first - 1)).astype(np.int64)
    end = np.rint(np.atleast_1d(outer_bias + 0.5) * 2**second).astype(np.int64)
    return ScaleNetwork(whole, biases, last, end, np.array([first, second]))


def count_tables(networks: Sequence[ScaleNetwork], samples: Sequence[Samples], soft: SoftNetworks) -> Tables:
    """Tables as the integer networks use them, with the learned ones as a prior of a few counts."""
    prior = torch.softmax(soft.logits.detach().double(), dim=1).numpy()
    counts, sums, seen = prior * 40.0, np.zeros((N_SCALES, 3)), np.full((N_SCALES, 3), 20.0)
    for network, part in zip(networks, samples, strict=True):
        scales = np.empty(len(part.code), np.int64)
        keys = part.code * N_BANDS + part.band
        for key in np.unique(keys).tolist():
            rows = keys == key
            scales[rows] = network.scales(part.inputs[rows], key // N_BANDS, key % N_BANDS)
        np.add.at(counts, (scales, tokens(part.magnitude)), part.weight / 8)
        some = part.magnitude > 0
        where = scales[some], np.clip(part.magnitude[some] - 1, 0, 2)
        np.add.at(sums, where, (part.magnitude - part.size)[some] * part.weight[some])
        np.add.at(seen, where, part.weight[some])
    return tables_of_counts(counts, sums / seen)


def learn(
    batches: Sequence[np.ndarray],
    *,
    seed: int,
    n_steps: int,
    tell: Callable[[int, int], None],
) -> WaveletModel:
    """Learn a model from images, (n, h, w, c) uint8 each, in two rounds.

    The first round sees coefficients that are rounded with a dead zone; the second, those that the encoder chooses with
    the model of the first.
    """
    colour, mean = colour_transform(batches)
    nothing = Tables(np.empty(0), np.zeros((N_SCALES, 3), np.int64))
    model = WaveletModel((), nothing, compression_table(), gains(), colour, mean)
    soft = SoftNetworks(len(PHASES) * model.n_channels, torch.Generator().manual_seed(seed))
    for place in range(2):
        tell(2 * place + 1, 4)
        samples = collect(model, batches, seed + place, blind=place == 0)
        tell(2 * place + 2, 4)
        train_networks(soft, samples, seed + place, n_steps)
        networks = as_integers(soft)
        model = replace(model, networks=networks, tables=count_tables(networks, samples, soft))
    return model
