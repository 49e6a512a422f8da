"""Learning the dense transform: an autoencoder by rate and distortion, then a decoder and tables of integers.

In training, the decoder gets rounded latent values, whose gradient passes straight through, and the rate is counted on
values with uniform noise instead (Minnen & Singh 2020, section 3.3).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.tasks.compression.coding import Encoder, Tables
from isthmus.tasks.compression.dense_coding import (
    HIDDEN_MOST,
    HIDDEN_SHIFT,
    LATENT_SHIFT,
    OUTPUT_SHIFT,
    SPREADS,
    UNIT_CODE,
    WEIGHT_MOST,
    DenseModel,
    FloatLayer,
    WholeLayer,
    logistic_levels,
)
from isthmus.tasks.compression.scale_network import N_SCALES
from isthmus.tasks.compression.steps import step_of
from isthmus.tasks.compression.symbols import N_TOKENS, tokens
from isthmus.tasks.compression.table_learning import MEANS, laplacian_tables, tables_of_counts
from isthmus.tasks.compression.targets import TRADE, Goal, Outcome, Target

WIDE, NARROW, LATENT = 512, 256, 64
"""Units of the hidden layers and the code. Dimensions that are not worth their bits stay zero and cost nothing."""
BATCH = 256
LEARNING_RATE, SCALE_RATE = 2e-3, 2e-2
"""Of the networks, and of the logarithms of the scales of latent values, which move farther."""
COUNTED_CODES = (48, 56, 64, 64, 64, 72, 80)
"""Steps at which tokens are counted; most at the step of the target."""
COUNTED_IMAGES = 8192
DEAD_ZONE = 0.6
"""Magnitudes below this share of a step become zero, as a rule: what the encoder's choice by cost comes to."""
FIRST_STEPS = 4.0
"""Latent units for one of the layer's: rounding values that are all below half a step would leave no signal."""
FIRST_SHARE = 0.01
"""What share of the error a bit is worth in the first fifth of the steps, before the search for its weight begins."""
GAIN = 0.005
"""How much the logarithm of this weight moves in a step, for each decibel or 0.17 octaves of rate from the target."""


class SoftLayer(nn.Module):
    """A linear layer, started as torch's own, from a generator."""

    def __init__(self, n_in: int, n_out: int, generator: torch.Generator) -> None:
        super().__init__()
        bound = n_in**-0.5
        self.weight = nn.Parameter(torch.empty(n_in, n_out).uniform_(-bound, bound, generator=generator))
        self.bias = nn.Parameter(torch.empty(n_out).uniform_(-bound, bound, generator=generator))

    def forward(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights, (inputs, outputs), and biases in double precision."""
        return self.weight.detach().double().numpy(), self.bias.detach().double().numpy()


class SoftAutoencoder(nn.Module):
    """The autoencoder in floating point, with a logistic distribution for each latent dimension."""

    def __init__(self, n_values: int, generator: torch.Generator) -> None:
        super().__init__()
        sizes = (n_values, WIDE, NARROW, LATENT)
        self.encoder = nn.ModuleList(SoftLayer(*pair, generator) for pair in itertools.pairwise(sizes))
        self.decoder = nn.ModuleList(SoftLayer(*pair, generator) for pair in itertools.pairwise(sizes[::-1]))
        self.log_scale = nn.Parameter(torch.zeros(LATENT))

    def encode(self, x: Tensor) -> Tensor:
        *hidden, last = self.encoder
        for layer in hidden:
            x = layer(x).relu()
        latent: Tensor = FIRST_STEPS * last(x)
        return latent

    def decode(self, latent: Tensor) -> Tensor:
        x = latent / FIRST_STEPS
        *hidden, last = self.decoder
        for layer in hidden:
            x = layer(x).clamp(0, HIDDEN_MOST / (1 << HIDDEN_SHIFT))
        return torch.sigmoid(last(x))

    def bits(self, latent: Tensor) -> Tensor:
        """Bits of latent values with uniform noise, (n,)."""
        rate = torch.exp(-self.log_scale)
        mass = torch.sigmoid((latent + 0.5) * rate) - torch.sigmoid((latent - 0.5) * rate)
        return -torch.log2(mass.clamp_min(1e-9)).sum(1)


def learn(
    batches: Sequence[np.ndarray], goal: Goal, *, seed: int, n_steps: int, tell: Callable[[int, int], None]
) -> DenseModel:
    """Learn a model from images of one size, (n, h, w, c) uint8 each."""
    images = np.concatenate(batches)
    flat = images.reshape(len(images), -1)
    soft = SoftAutoencoder(flat.shape[1], torch.Generator().manual_seed(seed))
    train(soft, flat, goal, seed, n_steps=n_steps, tell=tell)
    first = tables_of_counts(laplacian_tables(), np.zeros((N_SCALES, 3)))
    encoder, decoder = encoder_of(soft), decoder_of(soft)
    height, width, n_channels = images.shape[1:]
    spreads, scales = np.zeros(LATENT, np.int64), scales_of_spreads()
    model = DenseModel((height, width, n_channels), encoder, decoder, logistic_levels(), spreads, scales, first)
    chosen = np.random.default_rng(seed).permutation(len(images))[:COUNTED_IMAGES]
    return with_tables(model, model.encoded(images[chosen]))


def train(
    soft: SoftAutoencoder,
    images: np.ndarray,
    goal: Goal,
    seed: int,
    *,
    n_steps: int,
    tell: Callable[[int, int], None],
) -> None:
    """Train for the least error plus weighted bits; the weight moves until the target is met."""
    draw, noise = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    networks = [*soft.encoder.parameters(), *soft.decoder.parameters()]
    rates = [LEARNING_RATE, SCALE_RATE]
    groups = [{"params": part, "lr": rate} for part, rate in zip((networks, [soft.log_scale]), rates, strict=True)]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=n_steps)
    weight = 1.0 if goal.lambda_ is None else goal.lambda_ / 255**2
    for step in range(n_steps):
        rows = np.sort(draw.integers(len(images), size=BATCH))
        x = torch.from_numpy(images[rows]).float() / 255
        latent = soft.encode(x)
        bits = soft.bits(latent + torch.rand(latent.shape, generator=noise) - 0.5).mean()
        restored = soft.decode(latent + (latent.round() - latent).detach())
        errors = (restored - x).square()
        loss = errors.sum(1).mean() + weight * bits
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if goal.target is not None and step < n_steps // 5:
            weight = FIRST_SHARE * float(errors.detach().sum(1).mean())
        elif goal.target is not None:
            psnr = -10 * torch.log10(errors.detach().mean(1).clamp_min(1e-8)).mean()
            weight = moved(weight, goal.target, Outcome(float(bits.detach()) / images.shape[1], float(psnr)))
        if step % 50 == 49 or step == n_steps - 1:
            tell(step + 1, n_steps)


def moved(weight: float, target: Target, outcome: Outcome) -> float:
    """The weight of the rate after a step with an outcome: larger when there are too many bits."""
    surplus = 6 * math.log2(max(outcome.bpp, 1e-9) / target.value)
    if target.unit == "dB":
        surplus = outcome.psnr - target.value
    return float(np.clip(weight * math.exp(GAIN * np.clip(surplus, -6, 6)), 1e-9, 1e4))


def encoder_of(soft: SoftAutoencoder) -> list[FloatLayer]:
    """The encoder as it is stored."""
    *hidden, (weight, bias) = _parameters(soft.encoder)
    layers = [*hidden, (weight * FIRST_STEPS, bias * FIRST_STEPS)]
    return [FloatLayer(weight.astype(np.float16), bias.astype(np.float32)) for weight, bias in layers]


def decoder_of(soft: SoftAutoencoder) -> list[WholeLayer]:
    """The decoder as integers."""
    (weight, bias), *others = _parameters(soft.decoder)
    layers = [(weight / FIRST_STEPS, bias), *others]
    shifts = itertools.pairwise((LATENT_SHIFT, HIDDEN_SHIFT, HIDDEN_SHIFT, OUTPUT_SHIFT))
    return [_whole(*layer, *shift) for layer, shift in zip(layers, shifts, strict=True)]


def _parameters(layers: nn.ModuleList) -> list[tuple[np.ndarray, np.ndarray]]:
    return [layer.arrays() for layer in layers if isinstance(layer, SoftLayer)]


def _whole(weight: np.ndarray, bias: np.ndarray, before: int, after: int) -> WholeLayer:
    """A layer with 16-bit weights, from inputs in 1/2^before to outputs in 1/2^after."""
    most = max(float(np.abs(weight).max()), 1e-9)
    finer = min(math.floor(math.log2(WEIGHT_MOST / most)), 20)
    shift = finer + before - after
    half = 1 << (shift - 1)
    biases = np.rint(bias * 2.0 ** (finer + before)).astype(np.int64) + half
    return WholeLayer(np.rint(weight * 2.0**finer).astype(np.int16), biases, np.array([shift]))


def scales_of_spreads() -> np.ndarray:
    """The entropy table of a Laplace distribution by its mean magnitude in sixteenths of an octave of the step."""
    spread = 2.0 ** ((np.arange(SPREADS) - SPREADS // 2) / 16)
    with np.errstate(under="ignore"):
        # mean magnitude of what the encoder makes of it: it rounds down to zero what is below this share of a step
        rounded = np.exp(-DEAD_ZONE / spread) / -np.expm1(-1 / spread)
    places = np.log(np.maximum(rounded, 1e-9) / MEANS[0]) / np.log(MEANS[1] / MEANS[0]) * (N_SCALES - 1)
    found: np.ndarray = np.clip(np.rint(places), 0, N_SCALES - 1).astype(np.int64)
    return found


def with_tables(model: DenseModel, latent: np.ndarray) -> DenseModel:
    """A model with the spreads of latent values, (n, latent), and tables that are counted on them."""
    means = np.maximum(np.abs(latent).mean(0), 1e-9)
    spreads = np.clip(np.rint(16 * np.log2(means)), -SPREADS // 2, SPREADS // 2).astype(np.int64)
    model = replace(model, spreads=spreads)
    model = replace(model, tables=_counted(model, latent))
    model = replace(model, spreads=_cheapest(model, latent))
    return replace(model, tables=_counted(model, latent))


def _cheapest(model: DenseModel, latent: np.ndarray) -> np.ndarray:
    """The spread of fewest bits of each dimension, near that of its mean magnitude: not all are Laplacian."""
    token = tokens(np.abs(np.rint(latent)).astype(np.int64))
    counts = np.stack([np.bincount(column, minlength=N_TOKENS) for column in token.T])
    bits = counts @ model.tables.bits.T
    best, least = model.spreads, np.full(len(model.spreads), np.inf)
    for away in sorted(range(-24, 25), key=abs):
        spreads = model.spreads + away
        found = bits[np.arange(len(spreads)), replace(model, spreads=spreads).scales_at(UNIT_CODE)]
        best, least = np.where(found < least, spreads, best), np.minimum(found, least)
    return best


def _counted(model: DenseModel, latent: np.ndarray) -> Tables:
    counts = laplacian_tables() * 40.0
    sums, seen = np.zeros((N_SCALES, 3)), np.full((N_SCALES, 3), 20.0)
    for code in COUNTED_CODES:
        scales = np.tile(model.scales_at(code), len(latent))
        size = np.abs(latent.ravel()) * (step_of(UNIT_CODE) / step_of(code))
        magnitude = Encoder(model.tables, TRADE, writes=False).take(scales, size)
        np.add.at(counts, (scales, tokens(magnitude)), 1.0)
        some = magnitude > 0
        where = scales[some], np.clip(magnitude[some] - 1, 0, 2)
        np.add.at(sums, where, (magnitude - size)[some])
        np.add.at(seen, where, 1.0)
    return tables_of_counts(counts, sums / seen)
