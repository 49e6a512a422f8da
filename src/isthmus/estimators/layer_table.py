"""The layer table of a model, and transformers that return the output of one layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from isthmus.choices import Plain
from isthmus.choices.layers import activation_name
from isthmus.choices.modules import Adapted
from isthmus.estimators.inference import Verb, whole
from isthmus.training.objective import Objective, count_parameters

_KINDS = {"Linear": "Dense", "TiedLinear": "Dense (tied)"}
_SHAPING = ("Flatten", "ToPicture", "ToPlaces", "ToRow")
"""Layers without parameters that only reshape; the table omits them."""


@dataclass(frozen=True)
class Layer:
    """One row of the layer table.

    Attributes
    ----------
    part
        ``"encoder"``, ``"code"`` or ``"decoder"``.
    kind
        Kind of layer, such as ``"Dense"``.
    output_shape
        Shape of one row after the layer.
    activation
        Name of the activation that follows, or None.
    n_parameters
        Number of parameters; shared parameters count in the first layer that has them.
    """

    part: str
    kind: str
    output_shape: tuple[int, ...]
    activation: str | None
    n_parameters: int


@dataclass(frozen=True)
class Summary:
    """The layers of a model with totals; ``str`` and ``repr`` give a table.

    Attributes
    ----------
    kind
        Class of the model.
    layers
        The rows of `Autoencoder.layers`.
    n_parameters, n_frozen
        Number of parameters, and of frozen parameters.
    path
        The shapes of a row through the layers, such as ``"64 → 128 → 16 → 128 → 64"``.
    note
        What to think of, such as more code units than columns; empty for nothing.
    engine
        Which engine trained the model, and why the quicker ones did not; empty where that is not known.
    """

    kind: str
    layers: tuple[Layer, ...]
    n_parameters: int
    n_frozen: int
    path: str
    note: str
    engine: str = ""

    def __str__(self) -> str:
        head = ("part", "layer", "output", "activation", "parameters")
        rows = [
            (row.part, row.kind, _shape(row.output_shape), row.activation or "–", f"{row.n_parameters:,}")
            for row in self.layers
        ]
        widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
        lines = ["  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)) for row in (head, *rows)]
        frozen = f", {self.n_frozen:,} of them frozen" if self.n_frozen else ""
        total = f"{self.n_parameters:,} parameters{frozen}"
        name, _, reasons = self.engine.partition(" ")
        trained = f"Trained by the {name} engine{reasons and ' ' + reasons}." if self.engine else ""
        parts = [f"{self.kind}: {self.path}", *map(str.rstrip, lines), total, trained, self.note]
        return "\n".join(part for part in parts if part)

    __repr__ = __str__


def summarise_layers(kind: str, objective: Objective, *, engine: str = "") -> Summary:
    """The layers with their totals."""
    layers, context = tuple(list_layers(objective)), objective.context
    names = [layer.part for layer in layers]
    before = [layer.output_shape for layer in layers[: names.index("code")]][:-1]  # the last one outputs the code
    after = [layer.output_shape for layer in layers[names.index("code") + 1 :]][:-1]
    way = [context.feature_shape, *before, (context.code_size,), *after, context.output.feature_shape]
    choices = objective.choices
    free = isinstance(choices.code, Plain) and choices.penalty is None and choices.corruption is None
    too_many = context.code_size > context.n_features and free and context.target is None
    note = (
        f"The code has {context.code_size} units and a row has {context.n_features} features, so the model can copy "
        "rows "
        "instead of learning their structure; use a smaller code_size, a corruption or a penalty."
    )
    frozen = sum(parameter.numel() for parameter in objective.parameters() if not parameter.requires_grad)
    path = " → ".join(_shape(shape) for shape in way)
    return Summary(kind, layers, count_parameters(objective), frozen, path, note if too_many else "", engine)


def _shape(shape: tuple[int, ...]) -> str:
    return "×".join(map(str, shape))


@torch.no_grad()
def list_layers(objective: Objective) -> list[Layer]:
    """The layers in forward order; an activation is listed in the row of the layer before it."""
    return [layer for layer, _ in _walk(objective)]


def _walk(objective: Objective) -> list[tuple[Layer, nn.Module]]:
    """The layers, each with the module that returns its output, activation included."""
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
    linked = objective.choices.loss.output_activation or last.activation
    return [*encoder, (middle, objective.code), *decoder[:-1], (replace(last, activation=linked), end)]


def _pass(part: str, module: nn.Module, x: Tensor, seen: set[int]) -> tuple[Tensor, list[tuple[Layer, nn.Module]]]:
    """Pass a batch through a module and record each leaf layer."""
    rows: list[tuple[Layer, nn.Module]] = []

    def note(leaf: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        kind = f"Scripted {leaf.inner.original_name}" if isinstance(leaf, Adapted) else type(leaf).__name__
        if (name := activation_name(leaf)) and rows:
            rows[-1] = (replace(rows[-1][0], activation=name), leaf)
        elif kind not in _SHAPING:
            shape = tuple(output.shape[1:])
            rows.append((Layer(part, _KINDS.get(kind, kind), shape, None, _learned(leaf, seen)), leaf))

    leaves = list(_leaves(module))
    hooks = [leaf.register_forward_hook(note) for leaf in leaves]
    try:
        return module(x), rows
    finally:
        for hook in hooks:
            hook.remove()


def _leaves(module: nn.Module) -> Iterator[nn.Module]:
    """The leaf layers of a module; for scripted layers, which do not support hooks, the module that contains them."""
    children = list(module.children())
    if not children or any(isinstance(child, torch.jit.ScriptModule) for child in children):
        yield module
        return
    for child in children:
        yield from _leaves(child)


class LayerOutput(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Transformer that returns the output of one layer of a fitted model; created by `Autoencoder.output_of`.

    Parameters
    ----------
    model
        A fitted `Autoencoder`.
    layer
        Index of a row of ``model.layers()``, from 0; negative indices count from the end.
    """

    def __init__(self, model: Any, layer: int) -> None:
        self.model, self.layer = model, layer

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Does nothing: the model is already fitted."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self.model, "objective_")

    def transform(self, X: Any, y: Any = None) -> np.ndarray:
        """The output of the layer, activation included: (n, *feature_shape) → (n, *output_shape)."""
        check_is_fitted(self)
        given = self.model._take(X, y)  # noqa: SLF001  # the common input check
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
