"""What a program is written for, and what it is told when it runs."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from isthmus.choices import losses
from isthmus.training.chains import followed
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
    activation: str
    """The name of torch's module; ``"Identity"`` is none."""

    @property
    def weight_rows(self) -> int:
        """Rows of the weight as it lies."""
        return self.inner if self.lies_transposed else self.outer


class LossName(NamedTuple):
    """Which loss, and its numbers."""

    kind: str
    link: str | None = None
    """What the output goes through: the name of torch's module, or None."""
    delta: float = 0.0


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
    loss: LossName
    means: Means
    n_rows: int
    """Rows of the largest batch."""


TABLE = (
    "rows", "targets", "order", "values", "means", "squares", "rates", "losses", "work", "waiting",
    "n_threads", "n_steps", "n_rows",
)  # fmt: skip
"""What a program is told, in this order: places in memory, and whole numbers."""
RATES = 4
"""Numbers that go with a step: its length, the root's factor, what is left of weights, the share of one number."""

_LINKS = {None: None, "sigmoid": nn.Sigmoid.__name__, "tanh": nn.Tanh.__name__}
_DISTANCES = (losses.MeanSquaredError, losses.MeanAbsoluteError, losses.Huber)


def name_of(loss: losses.Loss) -> LossName | None:
    """The name of a loss that has a formula, None for others."""
    if type(loss) is losses.BinaryCrossEntropy:
        return LossName(type(loss).__name__)
    if isinstance(loss, _DISTANCES) and type(loss) in _DISTANCES:
        return LossName(type(loss).__name__, _LINKS[loss.activation], getattr(loss, "delta", 0.0))
    return None


def code_activation(objective: Objective) -> type[nn.Module]:
    """The kind of the activation of a plain code, ``nn.Identity`` for none."""
    module: nn.Module = getattr(objective.code, "activation", objective.code)
    return type(module)


def plan_for(objective: Objective, optimizer: Optimizer, values: Tensor, n_rows: int) -> Plan:
    """The plan of an objective whose parameters lie among `values`, for batches of up to so many rows."""
    loss, betas = name_of(objective.choices.loss), optimizer.kernel_settings()
    assert loss is not None
    means = Means(betas["beta1"], betas["beta2"], betas["eps"], decays=betas["weight_decay"] > 0.0)
    return Plan(tuple(_layers(objective, values)), loss, means, n_rows)


def _layers(objective: Objective, values: Tensor) -> list[Layer]:
    """Encoder, code and decoder as one chain."""
    encoder, decoder = followed(objective.encoder), followed(objective.decoder)
    if (kind := code_activation(objective)) is not nn.Identity:
        encoder[-1] = (encoder[-1][0], kind)
    return [_layer(layer, kind.__name__, values) for layer, kind in (*encoder, *decoder)]


def _layer(layer: nn.Linear, activation: str, values: Tensor) -> Layer:
    weight, bias = (
        (each.data_ptr() - values.data_ptr()) // values.element_size() for each in (layer.weight, layer.bias)
    )
    lies_transposed = layer.weight.stride(1) != 1
    return Layer(layer.in_features, layer.out_features, weight, bias, lies_transposed, activation)
