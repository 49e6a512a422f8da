"""The layers of a model as rows of a table."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from isthmus.choices.layers import ACTIVATIONS
from isthmus.training.objective import Objective

_NAMES = {kind: name for name, kind in ACTIVATIONS.items()}
_KINDS = {"Linear": "Dense", "TiedLinear": "Dense (tied)"}
_SHAPING = ("Flatten", "ToPicture", "ToPlaces", "ToRow")
"""Layers that learn nothing and only give numbers another shape; the table leaves them out."""


@dataclass(frozen=True)
class Layer:
    """One row of the layer table.

    Attributes
    ----------
    part
        ``"encoder"``, ``"code"`` or ``"decoder"``.
    kind
        What the layer is, such as ``"Dense"``.
    output_shape
        Shape of one row after the layer.
    activation
        Name of the activation that follows, or None.
    n_parameters
        Numbers that the layer learns; shared ones count where they stand first.
    """

    part: str
    kind: str
    output_shape: tuple[int, ...]
    activation: str | None
    n_parameters: int


@torch.no_grad()
def list_layers(objective: Objective) -> list[Layer]:
    """The layers in the order in which a row passes them; an activation is named in the row before it."""
    row = next(objective.parameters()).new_zeros(2, objective.context.encoder_width)
    seen: set[int] = set()
    h, encoder = _pass("encoder", objective.encoder, row, seen)
    z = objective.code.deterministic(h)
    code = objective.choices.code
    activation = getattr(code, "activation", None)
    middle = Layer("code", type(code).__name__, tuple(z.shape[1:]), activation, _learned(objective.code, seen))
    given = torch.cat([z, z.new_zeros(2, objective.context.n_conditions)], dim=1)
    _, decoder = _pass("decoder", objective.decoder, given, seen)
    last = getattr(objective.choices.loss, "activation", "sigmoid")
    return [*encoder, middle, *decoder[:-1], replace(decoder[-1], activation=decoder[-1].activation or last)]


def _pass(part: str, module: nn.Module, x: Tensor, seen: set[int]) -> tuple[Tensor, list[Layer]]:
    """Send a batch through a module and note each leaf that it passes."""
    rows: list[Layer] = []

    def note(leaf: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        kind = type(leaf).__name__
        if type(leaf) in _NAMES and rows:
            rows[-1] = replace(rows[-1], activation=_NAMES[type(leaf)])
        elif kind not in _SHAPING:
            shape = tuple(output.shape[1:])
            rows.append(Layer(part, _KINDS.get(kind, kind), shape, None, _learned(leaf, seen)))

    leaves = [leaf for leaf in module.modules() if not list(leaf.children())]
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    try:
        return module(x), rows
    finally:
        for hook in hooks:
            hook.remove()


def _learned(module: nn.Module, seen: set[int]) -> int:
    new = [parameter for parameter in module.parameters() if id(parameter) not in seen]
    seen.update(id(parameter) for parameter in new)
    return sum(parameter.numel() for parameter in new)
