"""Codes: what lies in the narrow place between encoder and decoder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from isthmus.choices.networks import ACTIVATIONS, activation_rule
from isthmus.choices.registry import Choice, Context, Registry
from isthmus.choices.rules import Rule


class Coded(NamedTuple):
    """A batch of codes and what the code's prior charges for them."""

    z: Tensor
    """Codes, (n, code)."""
    prior: Tensor | None
    """Cost of the codes under their prior in nats a row, (n,); None where there is no prior."""


class CodeModule(nn.Module):
    """Turns what the encoder says into codes."""

    def forward(self, h: Tensor, generator: torch.Generator | None) -> Coded:
        """Codes for training; random ones draw from the generator."""
        return Coded(self.deterministic(h), None)

    def deterministic(self, h: Tensor) -> Tensor:
        """Codes for use, without randomness: (n, code_width) → (n, code_size)."""
        raise NotImplementedError


class Code(Choice):
    """What lies in the narrow place."""

    def width(self, code_size: int) -> int:
        """How many numbers the encoder gives for a code of this size."""
        return code_size

    def build(self, context: Context) -> CodeModule:
        """Make the module that turns the encoder's output into codes."""
        raise NotImplementedError


def _as_code(value: Any) -> Code | None:
    return Plain(value) if isinstance(value, str) and value in ACTIVATIONS else None


CODES: Registry[Code] = Registry("code", Code, convert=_as_code)


@CODES.register("plain")
@dataclass(eq=False, repr=False)
class Plain(Code):
    """The encoder's output itself, through an activation or none.

    Parameters
    ----------
    activation
        Such as ``"relu"`` (as in most tutorials) or ``"sigmoid"``; None leaves the code free, which
        reconstructs better: a rectified code wastes half of each unit's range and units can die.

    Examples
    --------
    >>> Plain("relu").build(Context((4,), code_size=2)).deterministic(torch.tensor([[-1.0, 2.0]]))
    tensor([[0., 2.]])
    """

    activation: str | None = None

    rules: ClassVar[Mapping[str, Rule]] = {"activation": activation_rule()}

    def build(self, context: Context) -> CodeModule:
        return _PlainModule(ACTIVATIONS[self.activation]() if self.activation else nn.Identity())


class _PlainModule(CodeModule):
    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def deterministic(self, h: Tensor) -> Tensor:
        z: Tensor = self.activation(h)
        return z
