"""Quantised codes and their rate: autoencoders whose codes are whole numbers that cost few bits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor

from isthmus.choices.codes import CODES, Code, Coded, CodeModule
from isthmus.choices.penalties import PENALTIES, Encoding, Penalty
from isthmus.choices.registry import Context
from isthmus.choices.rules import Number, OneOf, Rule


@CODES.register("quantized")
@dataclass(eq=False, repr=False)
class Quantized(Code):
    """Codes rounded to multiples of a step: few distinct values, which an entropy coder stores in few bits.

    Rounding has no gradient. In training it is replaced by uniform noise of the same width (Ballé, Laparra & Simoncelli
    2017, section 3), or rounded codes pass the gradient on unchanged (straight-through, Bengio et al. 2013).

    Parameters
    ----------
    step
        Distance of neighbouring values, > 0. `Rate` must have the same.
    training
        ``"noise"`` adds U(-step/2, step/2); ``"straight-through"`` rounds.

    Examples
    --------
    >>> Quantized().build(Context((4,), code_size=2)).deterministic(torch.tensor([[-1.2, 0.6]]))
    tensor([[-1.,  1.]])
    """

    step: float = 1.0
    _: KW_ONLY
    training: str = "noise"

    differentiable: ClassVar[bool] = False
    rules: ClassVar[Mapping[str, Rule]] = {
        "step": Number(0.0, open_low=True),
        "training": OneOf(("noise", "straight-through")),
    }

    def build(self, context: Context) -> CodeModule:
        return _QuantizedModule(float(self.step), noisy=self.training == "noise")


class _QuantizedModule(CodeModule):
    def __init__(self, step: float, *, noisy: bool) -> None:
        super().__init__()
        self.step, self.noisy = step, noisy

    def deterministic(self, h: Tensor) -> Tensor:
        return (h / self.step).round() * self.step

    def forward(self, h: Tensor, generator: torch.Generator | None) -> Coded:
        if not self.training:
            return Coded(self.deterministic(h), None)
        if not self.noisy:
            return Coded(h + (self.deterministic(h) - h).detach(), None)
        draw = torch.rand(h.shape, generator=generator, device=h.device, dtype=h.dtype)
        return Coded(h + (draw - 0.5) * self.step, None)


@PENALTIES.register("rate")
@dataclass(eq=False, repr=False)
class Rate(Penalty):
    """``weight`` times the bits of a code under a factorised entropy model: fewer bits for the same error.

    Each unit has a logistic distribution, integrated over the width of a step as in Ballé et al. (2018, eq. 11). Its
    mean and scale are those of the unit in the batch, so that the model is learned with the code and has no parameters
    of its own. A batch of one row has no scale and costs little; use batches of at least 32 rows.

    Parameters
    ----------
    weight
        Cost of one bit a row, in units of the loss per feature; >= 0. With ``MeanSquaredError`` on d features, one bit
        is worth ``weight · d`` of summed squared error.
    step
        That of the `Quantized` code.

    Examples
    --------
    >>> z = torch.tensor([[-1.0], [1.0]]).repeat(50, 1)
    >>> Rate(1.0).penalize(Encoding(z, z, lambda x: x))  # a logistic of scale √3/π at its standard deviation
    tensor(2.1464)
    """

    weight: float = 1e-4
    _: KW_ONLY
    step: float = 1.0

    needs_code: ClassVar[str | None] = "quantized"
    rules: ClassVar[Mapping[str, Rule]] = {"weight": Number(0.0), "step": Number(0.0, open_low=True)}

    def conflicts(self, code: Code) -> list[str]:
        if isinstance(code, Quantized) and code.step == self.step:
            return []
        wanted = "'quantized'" if self.step == 1.0 else f"Quantized({self.step:g})"
        return [
            f"Rate: it counts the bits of codes with step {self.step:g}, but the code is {code}; use code={wanted}."
        ]

    def penalize(self, encoding: Encoding) -> Tensor:
        return self.weight * unit_bits(encoding.z, self.step).sum(1).mean()


def unit_bits(z: Tensor, step: float) -> Tensor:
    """Bits of each unit of each code under a logistic distribution with the moments of the batch, (n, code)."""
    mean = z.mean(0)
    least = step / 20.0  # a unit that never changes costs 0.0001 bits there
    variance = z.var(0, unbiased=False).clamp(min=(least * math.pi) ** 2 / 3.0)  # a root has no derivative at zero
    scale = (variance * 3.0).sqrt() / math.pi
    away = (z - mean).abs()  # by symmetry; the difference of two sigmoids near 0 is more accurate than near 1
    mass = torch.sigmoid((step / 2 - away) / scale) - torch.sigmoid((-step / 2 - away) / scale)
    return -torch.log2(mass.clamp(min=1e-9))
