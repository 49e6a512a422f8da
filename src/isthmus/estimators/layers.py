"""The layers of a model as rows of a table, and the output of each as a model of its own."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from isthmus.choices.layers import activation_name
from isthmus.estimators.applying import Verb, whole
from isthmus.training.objective import Objective

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
    return [layer for layer, _ in _walk(objective)]


def _walk(objective: Objective) -> list[tuple[Layer, nn.Module]]:
    """The layers, each with the module whose output is the layer's, activation included."""
    row = next(objective.parameters()).new_zeros(2, objective.context.encoder_width)
    seen: set[int] = set()
    h, encoder = _pass("encoder", objective.encoder, row, seen)
    z = objective.code.deterministic(h)
    code = objective.choices.code
    activation = getattr(code, "activation", None)
    middle = Layer("code", type(code).__name__, tuple(z.shape[1:]), activation, _learned(objective.code, seen))
    given = torch.cat([z, z.new_zeros(2, objective.context.n_conditions)], dim=1)
    _, decoder = _pass("decoder", objective.decoder, given, seen)
    last, end = decoder[-1]
    linked = last.activation or getattr(objective.choices.loss, "activation", "sigmoid")
    return [*encoder, (middle, objective.code), *decoder[:-1], (replace(last, activation=linked), end)]


def _pass(part: str, module: nn.Module, x: Tensor, seen: set[int]) -> tuple[Tensor, list[tuple[Layer, nn.Module]]]:
    """Send a batch through a module and note each leaf that it passes."""
    rows: list[tuple[Layer, nn.Module]] = []

    def note(leaf: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        kind = type(leaf).__name__
        if (name := activation_name(leaf)) and rows:
            rows[-1] = (replace(rows[-1][0], activation=name), leaf)
        elif kind not in _SHAPING:
            shape = tuple(output.shape[1:])
            rows.append((Layer(part, _KINDS.get(kind, kind), shape, None, _learned(leaf, seen)), leaf))

    leaves = [leaf for leaf in module.modules() if not list(leaf.children())]
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    try:
        return module(x), rows
    finally:
        for hook in hooks:
            hook.remove()


class LayerOutput(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """The output of one layer of a fitted model, as a model of its own; `Autoencoder.output_of` makes it.

    Parameters
    ----------
    model
        A fitted `Autoencoder`.
    layer
        Which row of ``model.layers()``, from 0; negative ones count from the end.
    """

    def __init__(self, model: Any, layer: int) -> None:
        self.model, self.layer = model, layer

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Nothing is learned; the model is fitted already."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self.model, "objective_")

    def transform(self, X: Any, y: Any = None) -> np.ndarray:
        """What the layer gives for rows, its activation included: (n, *feature_shape) → (n, *output_shape)."""
        check_is_fitted(self)
        given = self.model._take(X, y)  # noqa: SLF001  # the gate through which all rows go
        return whole(self.model, given, Verb(self._work))

    def _work(self, _: Any, x: Tensor) -> Tensor:
        objective = self.model.objective_.as_dtype(x.dtype)
        rows = _walk(objective)
        layer, module = rows[self.layer]
        if layer.part == "code":
            return objective.encode(x)  # type: ignore[no-any-return]
        if module is rows[-1][1]:
            return objective.reconstruct(x)  # type: ignore[no-any-return]
        kept: list[Tensor] = []
        hook = module.register_forward_hook(lambda _module, _given, output: kept.append(output))
        objective.reconstruct(x)
        hook.remove()
        return kept[-1]


def _learned(module: nn.Module, seen: set[int]) -> int:
    new = [parameter for parameter in module.parameters() if id(parameter) not in seen]
    seen.update(id(parameter) for parameter in new)
    return sum(parameter.numel() for parameter in new)
