"""What a program is written for, and what it is told when it runs."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from isthmus.choices.corruptions import Damage
from isthmus.choices.formulas import Formula
from isthmus.choices.layers import IDENTITY
from isthmus.choices.losses import Part
from isthmus.choices.penalties import Charge
from isthmus.training.engines.compiled.dense_layers import followed
from isthmus.training.objective import Objective
from isthmus.training.schedule import Optimizer


class Layer(NamedTuple):
    """A linear layer, (n, inner) → (n, outer), and what follows it."""

    inner: int
    outer: int
    weight: int
    """Where among all parameters its weight begins."""
    bias: int
    lies_transposed: bool
    """Whether the weight lies as (inner, outer), not as torch has it."""
    activation: Formula | None

    @property
    def weight_rows(self) -> int:
        """Rows of the weight as it lies."""
        return self.inner if self.lies_transposed else self.outer


class Means(NamedTuple):
    """The numbers of Adam that stay."""

    beta1: float
    beta2: float
    epsilon: float
    decays: bool
    """Whether weights decay."""


class Plan(NamedTuple):
    """What a program is written for; the same plan, the same program."""

    layers: tuple[Layer, ...]
    n_encoder: int
    """How many of them are the encoder's."""
    loss: tuple[Part, ...]
    """The loss of the features, from left to right."""
    means: Means
    n_rows: int
    """Rows of the largest batch."""
    drawn: Formula | None = None
    """How a code is drawn from what the encoder gives, see `choices.Code.drawn`."""
    corruptions: tuple[Damage, ...] = ()
    """What is done to the rows, one after the other."""
    charges: tuple[Charge, ...] = ()
    """What the code is charged for."""
    has_missing: bool = False
    """Whether rows may be NaN where an entry is missing; the network is given zeros there."""

    @property
    def n_features(self) -> int:
        """Numbers of a row."""
        return sum(part.n_features for part in self.loss)


TABLE = (
    "rows", "targets", "order", "values", "means", "squares", "rates", "keys", "losses", "work", "waiting",
    "n_threads", "n_steps", "n_rows",
)  # fmt: skip
"""What a program is told, in this order: places in memory, and whole numbers."""
RATES = ("length", "root", "kept", "share", "row", "charge")
"""Numbers that go with a step: its length, the root's factor, what is left of weights, by how much the loss of one
number counts, by how much a row counts, and what a row is charged for a nat of the prior."""
PARTS = 3
"""Numbers that a step tells: reconstruction, penalty, prior."""


def _charges(objective: Objective) -> tuple[Charge, ...] | None:
    """What a code is charged for; None where a penalty has neither formula nor closed form."""
    penalty = objective.choices.penalty
    return () if penalty is None else penalty.charges(objective.encoder, objective.choices.code)


def damages_of(objective: Objective) -> tuple[Damage, ...] | None:
    """What is done to rows; None where a corruption has no formula."""
    corruption = objective.choices.corruption
    return () if corruption is None else corruption.damages()


def plan_for(objective: Objective, optimizer: Optimizer, values: Tensor, n_rows: int) -> Plan:
    """The plan of an objective whose parameters lie among `values`, for batches of up to so many rows."""
    choices, betas = objective.choices, optimizer.kernel_settings()
    loss, charges = choices.loss.formulas(objective.context.output.n_features), _charges(objective)
    assert loss is not None
    assert charges is not None
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
        damages_of(objective) or (),
        charges,
        choices.loss.admits_missing,
    )


def _layer(layer: nn.Linear, activation: Formula | None, values: Tensor) -> Layer:
    places = ((each.data_ptr() - values.data_ptr()) // values.element_size() for each in (layer.weight, layer.bias))
    weight, bias = places
    lies_transposed = layer.weight.stride(1) != 1
    return Layer(layer.in_features, layer.out_features, weight, bias, lies_transposed, activation)
