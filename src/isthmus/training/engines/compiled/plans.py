"""The plan of a program, and the table of its arguments."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from isthmus.choices.corruptions import ElementwiseCorruption
from isthmus.choices.formulas import Formula
from isthmus.choices.layers import IDENTITY
from isthmus.choices.losses import Part
from isthmus.choices.penalties import PenaltyTerm
from isthmus.training.engines.compiled.dense_layers import followed
from isthmus.training.objective import Objective
from isthmus.training.schedule import Optimizer


class Layer(NamedTuple):
    """A linear layer, (n, inner) → (n, outer), and its activation."""

    inner: int
    outer: int
    weight: int
    """Offset of its weight among all parameters."""
    bias: int
    lies_transposed: bool
    """Whether the weight is stored as (inner, outer), unlike in torch."""
    activation: Formula | None

    @property
    def weight_rows(self) -> int:
        """Rows of the weight in memory."""
        return self.inner if self.lies_transposed else self.outer


class Means(NamedTuple):
    """Adam's constants."""

    beta1: float
    beta2: float
    epsilon: float
    decays: bool
    """Whether weights decay."""


class Plan(NamedTuple):
    """Everything that determines a program; equal plans share a program."""

    layers: tuple[Layer, ...]
    n_encoder: int
    """Number of layers of the encoder."""
    loss: tuple[Part, ...]
    """The loss of the features, from left to right."""
    means: Means
    n_rows: int
    """Rows of the largest batch."""
    drawn: Formula | None = None
    """How a code is drawn from what the encoder gives, see `choices.Code.drawn`."""
    corruptions: tuple[ElementwiseCorruption, ...] = ()
    """Corruptions of the rows, in order."""
    penalties: tuple[PenaltyTerm, ...] = ()
    """Penalties on the code."""
    has_missing: bool = False
    """Whether rows may have NaN for missing entries; the network gets zeros there."""

    @property
    def n_features(self) -> int:
        """Numbers of a row."""
        return sum(part.n_features for part in self.loss)


TABLE = (
    "rows", "targets", "order", "values", "means", "squares", "rates", "keys", "losses", "work", "waiting",
    "n_threads", "n_steps", "n_rows",
)  # fmt: skip
"""The arguments of a program, in this order: addresses, then integers."""
RATES = ("length", "root", "kept", "share", "row", "kl_weight")
"""Numbers of a step: step size, factor of the root, factor of weight decay, weight of one term of the loss, weight of
a row, and weight of the prior per row."""
PARTS = 3
"""Numbers that a step returns: reconstruction, penalty, prior."""


def _penalties(objective: Objective) -> tuple[PenaltyTerm, ...] | None:
    """The penalties on the code; None if one has neither a formula nor a closed form."""
    penalty = objective.choices.penalty
    return () if penalty is None else penalty.terms(objective.encoder, objective.choices.code)


def corruptions_of(objective: Objective) -> tuple[ElementwiseCorruption, ...] | None:
    """The corruptions of the rows; None if one has no formula."""
    corruption = objective.choices.corruption
    return () if corruption is None else corruption.elementwise()


def plan_for(objective: Objective, optimizer: Optimizer, values: Tensor, n_rows: int) -> Plan:
    """The plan of an objective whose parameters lie among `values`, for batches of up to so many rows."""
    choices, betas = objective.choices, optimizer.kernel_settings()
    loss, penalties = choices.loss.formulas(objective.context.output.n_features), _penalties(objective)
    assert loss is not None
    assert penalties is not None
    encoder: list[tuple[nn.Linear, Formula | None]] = [*followed(objective.encoder)]
    decoder = followed(objective.decoder)
    if (formula := choices.code.elementwise()) not in (None, IDENTITY):
        encoder[-1] = (encoder[-1][0], formula)
    return Plan(
        tuple(_layer(layer, activation, values) for layer, activation in (*encoder, *decoder)),
        len(encoder),
        loss,
        Means(betas["beta1"], betas["beta2"], betas["eps"], decays=betas["weight_decay"] > 0.0),
        n_rows,
        choices.code.drawn(),
        corruptions_of(objective) or (),
        penalties,
        choices.loss.admits_missing,
    )


def _layer(layer: nn.Linear, activation: Formula | None, values: Tensor) -> Layer:
    places = ((each.data_ptr() - values.data_ptr()) // values.element_size() for each in (layer.weight, layer.bias))
    weight, bias = places
    lies_transposed = layer.weight.stride(1) != 1
    return Layer(layer.in_features, layer.out_features, weight, bias, lies_transposed, activation)
