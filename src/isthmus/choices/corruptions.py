"""Corruptions: damage to the encoder's input; the target stays clean."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from isthmus.choices.formulas import Formula, Numbers, inherits, maximum, minimum, where
from isthmus.choices.registry import Choice, Context, Registry
from isthmus.choices.rules import Instance, Number, OneOf, Rule, Span, either

FRACTION = Number(0.0, 1.0)


DRAWS: Mapping[str, Callable[..., Tensor]] = {"normal": torch.randn, "uniform": torch.rand}
"""The random draws that a formula may use: from N(0, 1), or uniform on [0, 1)."""


class ElementwiseCorruption(NamedTuple):
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
    strength_parameter: ClassVar[str | None] = None
    """The parameter that a text such as ``"masking:0.3"`` sets; None: the first positional one."""

    @classmethod
    def strength_name(cls) -> str | None:
        """The parameter that a text such as ``"masking:0.3"`` sets; None if the corruption has no strength.

        >>> Masking.strength_name(), Sometimes.strength_name()
        ('fraction', 'probability')
        """
        if cls.strength_parameter is not None:
            return cls.strength_parameter
        named = inspect.signature(cls).parameters.values()
        return next((each.name for each in named if each.kind is each.POSITIONAL_OR_KEYWORD), None)

    def corrupt(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """A damaged copy of a batch, (n, d); `x` is not changed. Random draws come from the generator."""
        if self.formula is None:
            raise NotImplementedError
        made = DRAWS[self.draws] if self.draws is not None else None
        draw = None if made is None else made(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        damaged: Tensor = self.formula(x, draw)
        return damaged

    @property
    def reads_images(self) -> bool:
        """Whether it needs images, so that it cannot corrupt other rows, such as the outputs of a layer."""
        return False

    @property
    def works_on_host(self) -> bool:
        """Whether it computes on the CPU for rows on any device, so that steps on a device wait for it."""
        return False

    def needs(self, context: Context | None, holds: Callable[[Context], bool], words: str) -> list[str]:
        """The error text if the data violate a requirement of the corruption; else an empty list."""
        if context is None or holds(context):
            return []
        reach = f"range from {context.lower:.6g} to {context.upper:.6g}"
        remedy = "give pixels as bytes, or divided by their largest value with scaling='none'"
        return [f"{type(self).__name__}: the scaled data must {words}, but {reach}; {remedy}."]

    def elementwise(self) -> tuple[ElementwiseCorruption, ...] | None:
        """Formulas whose composition, in order, is this corruption; None if it is not elementwise."""
        if self.formula is None or not inherits(self, Corruption, "corrupt"):
            return None
        return (ElementwiseCorruption(Formula.of(self, self.formula), self.draws),)


@dataclass(eq=False, repr=False)
class Chain(Corruption):
    """Corruptions applied one after the other; a list of corruptions is converted to it."""

    members: tuple[Corruption, ...]

    rules: ClassVar[Mapping[str, Rule]] = {"members": Instance(tuple, "a tuple of corruptions")}

    def mistakes(self, context: Context | None = None) -> list[str]:
        return [text for member in self.members for text in member.mistakes(context)]

    def resolve(self, context: Context) -> Chain:
        return Chain(tuple(member.resolve(context) for member in self.members))

    @property
    def reads_images(self) -> bool:
        return any(member.reads_images for member in self.members)

    @property
    def works_on_host(self) -> bool:
        return any(member.works_on_host for member in self.members)

    def corrupt(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        for member in self.members:
            x = member.corrupt(x, generator)
        return x

    def elementwise(self) -> tuple[ElementwiseCorruption, ...] | None:
        each = [member.elementwise() for member in self.members]
        if None in each or not inherits(self, Chain, "corrupt"):
            return None
        return tuple(part for parts in each if parts is not None for part in parts)


CORRUPTIONS: Registry[Corruption] = Registry("corruption", Corruption, join=lambda parts: Chain(tuple(parts)))


def suited(corruption: Corruption, context: Context) -> Corruption:
    """The corruption as it is for some data.

    Raises
    ------
    ValueError
        It cannot be applied to the data.
    """
    made = corruption.resolve(context)
    mistakes = made.mistakes(context)
    if mistakes:
        raise ValueError(mistakes[0])
    return made


def per_row(span: Any, x: Tensor, generator: torch.Generator | None) -> Tensor:
    """A strength for each row, (n, 1, …), which broadcasts to a batch: the number, or a draw from the range.

    >>> per_row(0.5, torch.zeros(2, 3), None)
    tensor([[0.5000],
            [0.5000]])
    """
    shape = (len(x), *[1] * (x.ndim - 1))
    if not isinstance(span, list | tuple):
        return x.new_full(shape, float(span))
    low, high = map(float, span)
    return low + (high - low) * torch.rand(shape, generator=generator, device=x.device, dtype=x.dtype)


@CORRUPTIONS.register("sometimes")
@dataclass(eq=False, repr=False)
class Sometimes(Corruption):
    """Corrupts each row with a probability, and does not change the others.

    In a list, such as ``[Sometimes("masking", 0.5), Sometimes("gaussian-noise", 0.3)]``, draws are independent.

    Parameters
    ----------
    corruption
        Any corruption: an object, a name, or a list of these.
    probability
        The probability that a row is corrupted, in [0, 1].

    Examples
    --------
    >>> Sometimes(Masking(1.0), 0.5).corrupt(torch.ones(5, 1), torch.Generator().manual_seed(0)).flatten()
    tensor([1., 0., 1., 0., 1.])
    """

    corruption: Any = "gaussian-noise"
    probability: float = 0.5

    strength_parameter: ClassVar[str] = "probability"
    rules: ClassVar[Mapping[str, Rule]] = {"probability": FRACTION}
    choice_registries: ClassVar[Mapping[str, Registry[Any]]] = {"corruption": CORRUPTIONS}

    @property
    def member(self) -> Corruption:
        """The corruption as an object."""
        return CORRUPTIONS.resolve(self.corruption)

    def mistakes(self, context: Context | None = None) -> list[str]:
        try:
            inner = self.member.mistakes(context)
        except (TypeError, ValueError) as error:
            inner = [f"Sometimes: corruption: {error}"]
        return [*super().mistakes(context), *inner]

    def resolve(self, context: Context) -> Sometimes:
        return Sometimes(self.member.resolve(context), self.probability)

    @property
    def reads_images(self) -> bool:
        return self.member.reads_images

    @property
    def works_on_host(self) -> bool:
        return self.member.works_on_host

    def corrupt(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        damaged = self.member.corrupt(x, generator)
        draw = torch.rand((len(x), *[1] * (x.ndim - 1)), generator=generator, device=x.device)
        return torch.where(draw < self.probability, damaged, x)


@CORRUPTIONS.register("gaussian-noise", "noise")
@dataclass(eq=False, repr=False)
class GaussianNoise(Corruption):
    """Adds Gaussian noise, N(0, scale²), to each value.

    Parameters
    ----------
    scale
        Standard deviation, in units of the scaled data (pixels in [0, 1], standardised columns). A range (low, high):
        the strength of each row is drawn uniformly, so that one model learns all of them (blind denoising).
    clip
        Whether noisy values are clipped to [0, 1]. ``"auto"``: if the data lie in [0, 1].

    Examples
    --------
    >>> noisy = GaussianNoise(0.5, clip=True).corrupt(torch.zeros(2, 3), torch.Generator().manual_seed(0))
    >>> bool((noisy >= 0).all())
    True
    """

    scale: float | tuple[float, float] = 0.5
    _: KW_ONLY
    clip: bool | str = "auto"

    draws: ClassVar[str] = "normal"
    rules: ClassVar[Mapping[str, Rule]] = {"scale": Span(Number(0.0)), "clip": OneOf((True, False, "auto"))}

    def resolve(self, context: Context) -> GaussianNoise:
        return self._with(clip=context.in_unit_interval) if self.clip == "auto" else self

    def formula(self, x: Numbers, draw: Numbers) -> Numbers:
        return self._clipped(x + draw * float(self.scale))  # type: ignore[arg-type]  # one number for all rows

    def _clipped(self, noisy: Numbers) -> Numbers:
        return minimum(maximum(noisy, 0.0), 1.0) if self.clip is True else noisy

    def corrupt(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        if not isinstance(self.scale, list | tuple):
            return super().corrupt(x, generator)
        scale = per_row(self.scale, x, generator)
        draw = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        noisy: Tensor = self._clipped(x + draw * scale)
        return noisy

    def elementwise(self) -> tuple[ElementwiseCorruption, ...] | None:
        """A range of strengths has no elementwise formula, because the values of a row share one draw."""
        if isinstance(self.scale, list | tuple) or not inherits(self, GaussianNoise, "corrupt"):
            return None
        return (ElementwiseCorruption(Formula.of(self, self.formula), self.draws),)


@CORRUPTIONS.register("poisson-noise", "shot-noise")
@dataclass(eq=False, repr=False)
class PoissonNoise(Corruption):
    """Shot noise: values become counts of photons, ``Poisson(peak · x) / peak``, of mean x and variance x / peak.

    Parameters
    ----------
    peak
        Mean count at the value 1 of the scaled data, which is white for pixels in [0, 1], > 0; small counts are noisy.
        A range (low, high): the peak of each row is drawn uniformly.
    clip
        Whether noisy values are clipped to at most 1, as a camera does; this lowers the mean of bright values.
        ``"auto"``: if the data lie in [0, 1].

    Examples
    --------
    >>> counts = PoissonNoise(4.0, clip=False).corrupt(torch.full((1, 5), 0.5), torch.Generator().manual_seed(0)) * 4.0
    >>> bool((counts == counts.round()).all())
    True
    """

    peak: float | tuple[float, float] = 30.0
    _: KW_ONLY
    clip: bool | str = "auto"

    rules: ClassVar[Mapping[str, Rule]] = {
        "peak": Span(Number(0.0, open_low=True)),
        "clip": OneOf((True, False, "auto")),
    }

    def mistakes(self, context: Context | None = None) -> list[str]:
        return super().mistakes(context) or self.needs(context, lambda facts: facts.lower >= 0.0, "be >= 0")

    def resolve(self, context: Context) -> PoissonNoise:
        return self._with(clip=context.in_unit_interval) if self.clip == "auto" else self

    def corrupt(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        peak = per_row(self.peak, x, generator)
        noisy = torch.poisson(x.clamp(min=0.0) * peak, generator=generator) / peak
        return noisy.clamp(max=1.0) if self.clip is True else noisy


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
