"""What a program is written for, and what it is told when it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from isthmus.choices import corruptions, losses, penalties
from isthmus.choices.codes import Gaussian, GaussianModule, Plain
from isthmus.choices.registry import Choice
from isthmus.training.chains import followed
from isthmus.training.objective import Objective
from isthmus.training.products import SLOPES
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


class Name(NamedTuple):
    """A choice: its class and its numbers."""

    kind: str
    numbers: tuple[float, ...] = ()
    link: str | None = None
    """What a loss takes the output through: the name of torch's module, or None."""


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
    loss: Name
    means: Means
    n_rows: int
    """Rows of the largest batch."""
    is_drawn: bool = False
    """Whether the code is drawn from a Normal whose mean and log-variance the encoder gives."""
    corruptions: tuple[Name, ...] = ()
    """What is done to the rows, one after the other."""
    penalties: tuple[Name, ...] = ()
    """What the code is charged for."""


TABLE = (
    "rows", "targets", "order", "values", "means", "squares", "rates", "keys", "losses", "work", "waiting",
    "n_threads", "n_steps", "n_rows",
)  # fmt: skip
"""What a program is told, in this order: places in memory, and whole numbers."""
RATES = ("length", "root", "kept", "share", "charge")
"""Numbers that go with a step: its length, the root's factor, what is left of weights, by how much the loss of one
number counts, and what a nat of the prior is charged."""
PARTS = 3
"""Numbers that a step tells: reconstruction, penalty, prior."""

_LINKS = {None: None, "sigmoid": nn.Sigmoid.__name__, "tanh": nn.Tanh.__name__}
_DISTANCES = (losses.MeanSquaredError, losses.MeanAbsoluteError, losses.Huber)


def name_of_loss(loss: losses.Loss) -> Name | None:
    """The name of a loss that has a formula, None for others."""
    if type(loss) is losses.BinaryCrossEntropy:
        return Name(type(loss).__name__)
    if isinstance(loss, _DISTANCES) and type(loss) in _DISTANCES:
        return Name(type(loss).__name__, (getattr(loss, "delta", 0.0),), _LINKS[loss.activation])
    return None


def names_of_corruption(corruption: corruptions.Corruption | None) -> tuple[Name, ...] | None:
    """The names of what a corruption does, one after the other; None where something has no formula."""
    if corruption is None:
        return ()
    return _names(corruption.members if type(corruption) is corruptions.Chain else (corruption,))


_NUMBERS: dict[type, tuple[str, ...]] = {
    corruptions.GaussianNoise: ("scale", "clip"),
    corruptions.Masking: ("fraction",),
    corruptions.DropEntries: ("fraction",),
    corruptions.SaltAndPepper: ("fraction", "low", "high"),
    penalties.L1: ("weight",),
    penalties.L2: ("weight",),
    penalties.Contractive: ("weight",),
    penalties.KLSparsity: ("target", "weight"),
}
"""The members that have a formula, and what it needs of them; a class made from one of these is another member."""


def _names(members: Sequence[Choice]) -> tuple[Name, ...] | None:
    """The names of members, None where one has no formula."""
    if any(type(member) not in _NUMBERS for member in members):
        return None
    return tuple(
        Name(type(each).__name__, tuple(float(getattr(each, n)) for n in _NUMBERS[type(each)])) for each in members
    )


def names_of_penalty(penalty: penalties.Penalty | None) -> tuple[Name, ...] | None:
    """The names of what a code is charged for; None where something has no formula."""
    if penalty is None:
        return ()
    return _names(penalty.members if type(penalty) is penalties.Sum else (penalty,))


def has_plan(objective: Objective) -> bool:
    """Whether code, penalty and loss of an objective, for which `is_explicit` holds, have formulas."""
    choices, code = objective.choices, objective.choices.code
    if name_of_loss(choices.loss) is None or names_of_penalty(choices.penalty) is None:
        return False
    if choices.penalty is not None and objective.context.code_size == 1:
        return False  # whether a weight of one column lies transposed cannot be told
    ends = [followed(network)[-1][1] for network in (objective.encoder, objective.decoder)]
    if ends[1] is not nn.Identity:
        return False
    if type(code) is Gaussian:
        return ends[0] is nn.Identity and choices.penalty is None and code.n_samples == 1 and not code.free_bits
    kind = _code_activation(objective)
    return type(code) is Plain and (kind is nn.Identity or (kind in SLOPES and ends[0] is nn.Identity))


def _code_activation(objective: Objective) -> type[nn.Module]:
    """The kind of the activation of a plain code, ``nn.Identity`` for none."""
    if isinstance(objective.code, GaussianModule):
        return nn.Identity
    module: nn.Module = getattr(objective.code, "activation", objective.code)
    return type(module)


def plan_for(objective: Objective, optimizer: Optimizer, values: Tensor, n_rows: int) -> Plan:
    """The plan of an objective whose parameters lie among `values`, for batches of up to so many rows."""
    choices, betas = objective.choices, optimizer.kernel_settings()
    loss = name_of_loss(choices.loss)
    assert loss is not None
    encoder, decoder = followed(objective.encoder), followed(objective.decoder)
    if (kind := _code_activation(objective)) is not nn.Identity:
        encoder[-1] = (encoder[-1][0], kind)
    return Plan(
        tuple(_layer(layer, kind.__name__, values) for layer, kind in (*encoder, *decoder)),
        len(encoder),
        loss,
        Means(betas["beta1"], betas["beta2"], betas["eps"], decays=betas["weight_decay"] > 0.0),
        n_rows,
        isinstance(choices.code, Gaussian),
        names_of_corruption(choices.corruption) or (),
        names_of_penalty(choices.penalty) or (),
    )


def _layer(layer: nn.Linear, activation: str, values: Tensor) -> Layer:
    places = ((each.data_ptr() - values.data_ptr()) // values.element_size() for each in (layer.weight, layer.bias))
    weight, bias = places
    lies_transposed = layer.weight.stride(1) != 1
    return Layer(layer.in_features, layer.out_features, weight, bias, lies_transposed, activation)
