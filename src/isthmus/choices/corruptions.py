"""Corruptions: damage to the encoder's input; the target stays clean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from isthmus.choices.formulas import Formula, Numbers, inherits, maximum, minimum, where
from isthmus.choices.registry import Choice, Context, Registry
from isthmus.choices.rules import Instance, Number, OneOf, Rule, either

FRACTION = Number(0.0, 1.0)


DRAWS: Mapping[str, Callable[..., Tensor]] = {"normal": torch.randn, "uniform": torch.rand}
"""The random draws that a formula may use: from N(0, 1), or uniform on [0, 1)."""


class Damage(NamedTuple):
    """An elementwise corruption, as a formula."""

    formula: Formula
    """Maps a value and its draw to the damaged value."""
    draws: str | None
    """The kind of draw, a key of `DRAWS`; None: no draw."""


class Corruption(Choice):
    """Base class of corruptions: damage to a batch of scaled data, which the network learns to undo."""

    formula: ClassVar[Callable[..., Numbers] | None] = None
    """For elementwise corruptions: ``formula(x, draw)`` is the damaged value.

    It is a method that uses only the functions and operators of `isthmus.choices.formulas`.
    """
    draws: ClassVar[str | None] = None
    """The argument `draw` of the formula, independent for every value: ``"normal"`` from N(0, 1), ``"uniform"`` from
    [0, 1), or None."""

    def corrupt(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """A damaged copy of a batch, (n, d); `x` is not changed. Random draws come from the generator."""
        if self.formula is None:
            raise NotImplementedError
        made = DRAWS[self.draws] if self.draws is not None else None
        draw = None if made is None else made(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        damaged: Tensor = self.formula(x, draw)
        return damaged

    def damages(self) -> tuple[Damage, ...] | None:
        """Formulas whose composition, in order, is this corruption; None if it is not elementwise."""
        if self.formula is None or not inherits(self, Corruption, "corrupt"):
            return None
        return (Damage(Formula.of(self, self.formula), self.draws),)


@dataclass(eq=False, repr=False)
class Chain(Corruption):
    """Corruptions applied one after the other; a list of corruptions is converted to it."""

    members: tuple[Corruption, ...]

    rules: ClassVar[Mapping[str, Rule]] = {"members": Instance(tuple, "a tuple of corruptions")}

    def mistakes(self, context: Context | None = None) -> list[str]:
        return [text for member in self.members for text in member.mistakes(context)]

    def resolve(self, context: Context) -> Chain:
        return Chain(tuple(member.resolve(context) for member in self.members))

    def corrupt(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        for member in self.members:
            x = member.corrupt(x, generator)
        return x

    def damages(self) -> tuple[Damage, ...] | None:
        each = [member.damages() for member in self.members]
        if None in each or not inherits(self, Chain, "corrupt"):
            return None
        return tuple(damage for damages in each if damages is not None for damage in damages)


CORRUPTIONS: Registry[Corruption] = Registry("corruption", Corruption, join=lambda parts: Chain(tuple(parts)))


@CORRUPTIONS.register("gaussian-noise")
@dataclass(eq=False, repr=False)
class GaussianNoise(Corruption):
    """Adds Gaussian noise, N(0, scale²), to each value.

    Parameters
    ----------
    scale
        Standard deviation, in units of the scaled data (pixels in [0, 1], standardised columns).
    clip
        Whether noisy values are clipped to [0, 1]. ``"auto"``: if the data lie in [0, 1].

    Examples
    --------
    >>> noisy = GaussianNoise(0.5, clip=True).corrupt(torch.zeros(2, 3), torch.Generator().manual_seed(0))
    >>> bool((noisy >= 0).all())
    True
    """

    scale: float = 0.5
    _: KW_ONLY
    clip: bool | str = "auto"

    draws: ClassVar[str] = "normal"
    rules: ClassVar[Mapping[str, Rule]] = {"scale": Number(0.0), "clip": OneOf((True, False, "auto"))}

    def resolve(self, context: Context) -> GaussianNoise:
        return self._with(clip=context.in_unit_interval) if self.clip == "auto" else self

    def formula(self, x: Numbers, draw: Numbers) -> Numbers:
        noisy = x + draw * float(self.scale)
        return minimum(maximum(noisy, 0.0), 1.0) if self.clip is True else noisy


@CORRUPTIONS.register("masking")
@dataclass(eq=False, repr=False)
class Masking(Corruption):
    """Sets each value to zero with probability `fraction` (Vincent et al. 2008, section 2.3).

    Zero means black for pixels and the mean for standardised columns.

    Parameters
    ----------
    fraction
        Expected fraction of values set to zero, in [0, 1].

    Examples
    --------
    >>> Masking(1.0).corrupt(torch.ones(1, 3), None)
    tensor([[0., 0., 0.]])
    """

    fraction: float = 0.3

    draws: ClassVar[str] = "uniform"
    rules: ClassVar[Mapping[str, Rule]] = {"fraction": FRACTION}

    def formula(self, x: Numbers, draw: Numbers) -> Numbers:
        return where(draw < self.fraction, 0.0, x)


@CORRUPTIONS.register("drop-entries")
@dataclass(eq=False, repr=False)
class DropEntries(Corruption):
    """Drops each value with probability `fraction` and divides the rest by ``1 - fraction`` (Srivastava et al. 2014).

    Intended for sparse rows, such as the items of a user: the model learns to predict the rest of a history from a part
    of it. At inference it receives complete histories, whose sum equals the expected sum in training. (`Masking` does
    not rescale the remaining values.)

    Parameters
    ----------
    fraction
        Expected fraction of values dropped, in [0, 1).

    Examples
    --------
    >>> given = DropEntries(0.5).corrupt(torch.ones(1, 1000), torch.Generator().manual_seed(0))
    >>> given.unique(), bool(abs(given.mean() - 1) < 0.1)
    (tensor([0., 2.]), True)
    """

    fraction: float = 0.5

    draws: ClassVar[str] = "uniform"
    rules: ClassVar[Mapping[str, Rule]] = {"fraction": Number(0.0, 1.0, open_high=True)}

    def formula(self, x: Numbers, draw: Numbers) -> Numbers:
        return where(draw < self.fraction, 0.0, x * (1.0 / (1.0 - self.fraction)))


@CORRUPTIONS.register("salt-and-pepper")
@dataclass(eq=False, repr=False)
class SaltAndPepper(Corruption):
    """Sets each value, with probability `fraction`, to `low` or `high`, with equal probability.

    Parameters
    ----------
    fraction
        Expected fraction of values replaced, in [0, 1].
    low, high
        The two values. ``"auto"``: the minimum and the maximum of the scaled data.

    Examples
    --------
    >>> SaltAndPepper(1.0, low=7.0, high=7.0).corrupt(torch.zeros(1, 2), None)
    tensor([[7., 7.]])
    """

    fraction: float = 0.1
    _: KW_ONLY
    low: float | str = "auto"
    high: float | str = "auto"

    draws: ClassVar[str] = "uniform"
    rules: ClassVar[Mapping[str, Rule]] = {
        "fraction": FRACTION,
        "low": either(Number(), OneOf(("auto",))),
        "high": either(Number(), OneOf(("auto",))),
    }

    def resolve(self, context: Context) -> SaltAndPepper:
        low = context.lower if self.low == "auto" else self.low
        high = context.upper if self.high == "auto" else self.high
        return self._with(low=low, high=high)

    def formula(self, x: Numbers, draw: Numbers) -> Numbers:
        not_low = where(draw < 1.0 - self.fraction / 2, x, float(self.high))
        return where(draw < self.fraction / 2, float(self.low), not_low)
