"""Penalties: what else the code must obey."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from isthmus.choices.registry import Choice, Context, Registry
from isthmus.choices.rules import Instance, Number, Rule


class Encoding(NamedTuple):
    """One batch on its way through the encoder: all that a penalty may look at."""

    x: Tensor
    """What the encoder was given (corrupted where there is a corruption), (n, d)."""
    z: Tensor
    """The codes, (n, code)."""
    encode: Callable[[Tensor], Tensor]
    """The deterministic encoder, (n, d) → (n, code), for penalties on its derivative."""


class Penalty(Choice):
    """A cost on the codes, added to the loss."""

    def penalize(self, encoding: Encoding) -> Tensor:
        """The penalty of a batch: a scalar, >= 0, the mean over its rows, weight included."""
        raise NotImplementedError


@dataclass(eq=False, repr=False)
class Sum(Penalty):
    """Several penalties added; a list of penalties means this."""

    members: tuple[Penalty, ...]

    rules: ClassVar[Mapping[str, Rule]] = {"members": Instance(tuple, "a tuple of penalties")}

    def mistakes(self, context: Context | None = None) -> list[str]:
        return [text for member in self.members for text in member.mistakes(context)]

    def resolve(self, context: Context) -> Sum:
        return Sum(tuple(member.resolve(context) for member in self.members))

    def penalize(self, encoding: Encoding) -> Tensor:
        return torch.stack([member.penalize(encoding) for member in self.members]).sum()


PENALTIES: Registry[Penalty] = Registry("penalty", Penalty, join=lambda parts: Sum(tuple(parts)))


@PENALTIES.register("l1")
@dataclass(eq=False, repr=False)
class L1(Penalty):
    """``weight · Σ_j |z_j|``, summed over a code's units, mean over rows: drives activations to exact zeros.

    Parameters
    ----------
    weight
        Cost of one unit of activation, in units of the loss per feature; >= 0.

    Examples
    --------
    >>> z = torch.tensor([[1.0, -3.0]])
    >>> L1(0.5).penalize(Encoding(z, z, lambda x: x))
    tensor(2.)
    """

    weight: float = 1e-5

    rules: ClassVar[Mapping[str, Rule]] = {"weight": Number(0.0)}

    def penalize(self, encoding: Encoding) -> Tensor:
        return encoding.z.abs().sum() * (self.weight / len(encoding.z))


@PENALTIES.register("l2")
@dataclass(eq=False, repr=False)
class L2(Penalty):
    """``weight · Σ_j z_j²``, summed over a code's units, mean over rows: keeps activations small, none exactly zero.

    Parameters
    ----------
    weight
        Cost of one squared unit of activation, in units of the loss per feature; >= 0.

    Examples
    --------
    >>> z = torch.tensor([[1.0, -3.0]])
    >>> L2(0.5).penalize(Encoding(z, z, lambda x: x))
    tensor(5.)
    """

    weight: float = 1e-5

    rules: ClassVar[Mapping[str, Rule]] = {"weight": Number(0.0)}

    def penalize(self, encoding: Encoding) -> Tensor:
        return encoding.z.square().sum() * (self.weight / len(encoding.z))
