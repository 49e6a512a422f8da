"""Learning-rate schedules and optimisers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import torch

from isthmus.choices.registry import Choice, Context, Registry
from isthmus.choices.rules import Instance, Number, OneOf, Rule, Whole, either


class Schedule(Choice):
    """Base class of learning-rate schedules."""

    @property
    def restless(self) -> float:
        """The share of a run, in [0, 1), whose rates are so high that early stopping ignores its losses."""
        return 0.0

    def factor(self, progress: float) -> float:
        """The factor of the learning rate after a share of all steps, in [0, 1)."""
        raise NotImplementedError

    def cooled(self, begin: float, share: float) -> float | None:
        """The factor in a cool-down that began at `begin`, after a share of it; None: the schedule has no cool-down."""
        return None

    def reduction(self, monitored: Sequence[float]) -> float:
        """A further factor of the learning rate, from the monitored loss of each epoch so far."""
        return 1.0


SCHEDULES: Registry[Schedule] = Registry("schedule", Schedule)


@SCHEDULES.register("constant")
@dataclass(eq=False, repr=False)
class Constant(Schedule):
    """A constant learning rate.

    >>> Constant().factor(0.7)
    1.0
    """

    def factor(self, progress: float) -> float:
        return 1.0


@SCHEDULES.register("one-cycle")
@dataclass(eq=False, repr=False)
class OneCycle(Schedule):
    """Rises along a cosine to the given learning rate, then falls along a cosine to nearly zero (Smith & Topin 2018).

    Parameters
    ----------
    warm_up
        Share of the steps with a rising rate, in [0, 1).
    start, end
        The first and the last factor, as shares of the peak.

    Examples
    --------
    >>> OneCycle(warm_up=0.25).factor(0.25)
    1.0
    """

    _: KW_ONLY
    warm_up: float = 0.2
    start: float = 0.04
    end: float = 0.001

    rules: ClassVar[Mapping[str, Rule]] = {
        "warm_up": Number(0.0, 1.0, open_high=True),
        "start": Number(0.0, 1.0),
        "end": Number(0.0, 1.0),
    }

    @property
    def restless(self) -> float:
        return (1.0 + self.warm_up) / 2  # until the rate has fallen to half of its peak

    def factor(self, progress: float) -> float:
        if progress < self.warm_up:
            return _cosine(self.start, 1.0, progress / self.warm_up)
        return _cosine(1.0, self.end, (progress - self.warm_up) / (1.0 - self.warm_up))

    def cooled(self, begin: float, share: float) -> float:
        return _cosine(begin, min(begin, self.end), share)


@SCHEDULES.register("cosine")
@dataclass(eq=False, repr=False)
class Cosine(Schedule):
    """Falls along a cosine from the given learning rate to a share of it (Loshchilov & Hutter 2017, eq. 5, one period).

    Parameters
    ----------
    end
        The last factor, as a share of the learning rate.

    Examples
    --------
    >>> Cosine().factor(0.0)
    1.0
    """

    _: KW_ONLY
    end: float = 0.0

    rules: ClassVar[Mapping[str, Rule]] = {"end": Number(0.0, 1.0)}

    @property
    def restless(self) -> float:
        return 0.5

    def factor(self, progress: float) -> float:
        return _cosine(1.0, self.end, progress)

    def cooled(self, begin: float, share: float) -> float:
        return _cosine(begin, min(begin, self.end), share)


@SCHEDULES.register("reduce-on-plateau")
@dataclass(eq=False, repr=False)
class ReduceOnPlateau(Schedule):
    """Multiplies the learning rate by `by` each time that the monitored loss has not fallen for some epochs.

    The monitored loss is the validation loss if there are validation rows, else the training loss.

    Parameters
    ----------
    by
        The factor of each reduction, in (0, 1).
    patience
        Epochs without a lower loss before a reduction, >= 1.
    min_delta
        A loss counts as lower if it has fallen by more than this, >= 0.
    smallest
        The smallest product of all reductions, in [0, 1].

    Examples
    --------
    >>> ReduceOnPlateau(by=0.5, patience=2).reduction([1.0, 0.9, 0.9, 0.9, 0.8])
    0.5
    """

    _: KW_ONLY
    by: float = 0.5
    patience: int = 5
    min_delta: float = 0.0
    smallest: float = 0.001

    rules: ClassVar[Mapping[str, Rule]] = {
        "by": Number(0.0, 1.0, open_low=True, open_high=True),
        "patience": Whole(1),
        "min_delta": Number(0.0),
        "smallest": Number(0.0, 1.0),
    }

    def factor(self, progress: float) -> float:
        return 1.0

    def reduction(self, monitored: Sequence[float]) -> float:
        factor, best, waited = 1.0, math.inf, 0
        for loss in monitored:
            waited += 1
            if loss < best - self.min_delta:
                best, waited = loss, 0
            elif waited == self.patience:
                factor, waited = factor * self.by, 0
        return max(factor, self.smallest)


def _cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * (1.0 + math.cos(math.pi * share)) / 2.0


class Optimizer(Choice):
    """Base class of optimisers."""

    clip_norm: float | None
    suits_auto: ClassVar[bool] = False
    """Whether ``learning_rate="auto"``, which is tuned for Adam, can be used: its steps are about as long as the
    rate."""
    kernel: ClassVar[str | None] = None
    """The name of a fused kernel of torch for the whole step, with the arguments of Adam's. If it is None or this torch
    lacks it, `build` is used."""

    def kernel_settings(self) -> dict[str, float]:
        """The arguments of the kernel besides tensors and the learning rate."""
        return {}

    def build(self, parameters: torch.nn.Parameter) -> torch.optim.Optimizer:
        """The torch optimiser of one flat parameter; its learning rate is set before every step."""
        raise NotImplementedError


def _as_optimizer(value: Any) -> Optimizer | None:
    """A class of ``torch.optim``, or its name, as a member: the registered one of that name, else `TorchOptimizer`."""
    if isinstance(value, torch.optim.Optimizer):
        kind = type(value).__name__
        raise TypeError(
            f"optimizer is a torch.optim.{kind} that already holds parameters, but a model makes its parameters at "
            "fit; "
            f"pass the class, optimizer=torch.optim.{kind}, and learning_rate."
        )
    is_class = isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    name = value.__name__ if is_class else value
    if not isinstance(name, str) or (name not in _torch_optimizers() and not is_class):
        return None
    own = {member.__name__: member for member in OPTIMIZERS.members.values()}
    return own[name]() if name in own else TorchOptimizer(name)


def _torch_optimizers() -> list[str]:
    """The optimisers of this torch that need only a dense gradient."""
    found = {name for name, kind in vars(torch.optim).items() if isinstance(kind, type)}
    # LBFGS calls the loss itself, SparseAdam needs sparse gradients, Muon needs matrices; here all weights are
    # one vector
    return sorted(found - {"Optimizer", "LBFGS", "SparseAdam", "Muon"})


OPTIMIZERS: Registry[Optimizer] = Registry("optimizer", Optimizer, convert=_as_optimizer)

_BETA = Number(0.0, 1.0, open_high=True)
_ADAM_RULES: Mapping[str, Rule] = {
    "beta1": _BETA,
    "beta2": _BETA,
    "epsilon": Number(0.0, open_low=True),
    "clip_norm": either(Number(0.0, open_low=True), OneOf((None,))),
}


@OPTIMIZERS.register("adam")
@dataclass(eq=False, repr=False)
class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, algorithm 1), one fused call over all parameters.

    Parameters
    ----------
    beta1, beta2
        Decay of the running means of the gradient and of its square, in [0, 1).
    epsilon
        Added to the square root of the second moment, > 0.
    clip_norm
        Gradients with a larger Euclidean norm (over all parameters) are scaled down to it; None: no clipping.
    """

    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float | None = None

    suits_auto: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "_fused_adam_"
    rules: ClassVar[Mapping[str, Rule]] = _ADAM_RULES

    def kernel_settings(self) -> dict[str, float]:
        return {"beta1": self.beta1, "beta2": self.beta2, "eps": self.epsilon, "weight_decay": 0.0}

    def build(self, parameters: torch.nn.Parameter) -> torch.optim.Optimizer:
        return torch.optim.Adam([parameters], betas=(self.beta1, self.beta2), eps=self.epsilon, fused=True)


@OPTIMIZERS.register("adamw")
@dataclass(eq=False, repr=False)
class AdamW(Optimizer):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

    Parameters
    ----------
    weight_decay
        Share of each parameter that is subtracted per step, times the learning rate, >= 0.
    beta1, beta2, epsilon, clip_norm
        As for `Adam`.
    """

    weight_decay: float = 0.01
    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float | None = None

    suits_auto: ClassVar[bool] = True
    kernel: ClassVar[str | None] = "_fused_adamw_"
    rules: ClassVar[Mapping[str, Rule]] = {"weight_decay": Number(0.0), **_ADAM_RULES}

    def kernel_settings(self) -> dict[str, float]:
        decay = self.weight_decay
        return {"beta1": self.beta1, "beta2": self.beta2, "eps": self.epsilon, "weight_decay": decay}

    def build(self, parameters: torch.nn.Parameter) -> torch.optim.Optimizer:
        betas = (self.beta1, self.beta2)
        return torch.optim.AdamW(
            [parameters], betas=betas, eps=self.epsilon, weight_decay=self.weight_decay, fused=True
        )


_MOMENTUM_RULES: Mapping[str, Rule] = {
    "momentum": _BETA,
    "weight_decay": Number(0.0),
    "clip_norm": _ADAM_RULES["clip_norm"],
}


@OPTIMIZERS.register("sgd")
@dataclass(eq=False, repr=False)
class SGD(Optimizer):
    """Stochastic gradient descent, with momentum (Sutskever et al. 2013, eq. 1-2; torch's form).

    Its learning rates differ from Adam's, and depend on the number of features, because losses are means over features.
    Try 0.1 to 10; ``learning_rate="auto"`` is an error.

    Parameters
    ----------
    momentum
        Fraction of the last step that is added to the next, in [0, 1).
    nesterov
        Whether the gradient is computed after the momentum step; needs momentum > 0.
    weight_decay
        Factor of each parameter that is added to its gradient; >= 0.
    clip_norm
        As for `Adam`.
    """

    momentum: float = 0.0
    _: KW_ONLY
    nesterov: bool = False
    weight_decay: float = 0.0
    clip_norm: float | None = None

    rules: ClassVar[Mapping[str, Rule]] = {**_MOMENTUM_RULES, "nesterov": OneOf((True, False))}

    def mistakes(self, context: Context | None = None) -> list[str]:
        found = super().mistakes(context)
        if not found and self.nesterov and self.momentum == 0:
            found.append("SGD: nesterov=True needs momentum > 0, but momentum=0; set momentum=0.9 or nesterov=False.")
        return found

    def build(self, parameters: torch.nn.Parameter) -> torch.optim.Optimizer:
        return torch.optim.SGD(
            [parameters], lr=1.0, momentum=self.momentum, nesterov=self.nesterov, weight_decay=self.weight_decay
        )


@OPTIMIZERS.register("rmsprop")
@dataclass(eq=False, repr=False)
class RMSprop(Optimizer):
    """Divides gradients by the square root of a running mean of their squares (Tieleman & Hinton 2012; torch's form).

    Parameters
    ----------
    decay
        Decay of the running mean, in [0, 1).
    momentum
        Fraction of the last step that is added to the next, in [0, 1).
    epsilon
        Added to the square root, > 0.
    weight_decay
        Factor of each parameter that is added to its gradient; >= 0.
    clip_norm
        As for `Adam`.
    """

    decay: float = 0.99
    _: KW_ONLY
    momentum: float = 0.0
    epsilon: float = 1e-8
    weight_decay: float = 0.0
    clip_norm: float | None = None

    suits_auto: ClassVar[bool] = True
    rules: ClassVar[Mapping[str, Rule]] = {
        **_MOMENTUM_RULES,
        "decay": _BETA,
        "epsilon": Number(0.0, open_low=True),
    }

    def build(self, parameters: torch.nn.Parameter) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(
            [parameters],
            lr=1.0,
            alpha=self.decay,
            eps=self.epsilon,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )


@OPTIMIZERS.register("torch")
@dataclass(eq=False, repr=False)
class TorchOptimizer(Optimizer):
    """Any optimiser of ``torch.optim`` by the name of its class; ``optimizer="Adagrad"`` and the class are converted to
    it.

    It receives all weights as one vector, so optimisers that use the norm of each layer use the norm of all weights.

    Parameters
    ----------
    kind
        Such as ``"NAdam"``.
    parameters
        Arguments of its class by name, except the learning rate.
    clip_norm
        As for `Adam`.

    Examples
    --------
    >>> TorchOptimizer("NAdam", {"momentum_decay": 0.01}).mistakes()
    []
    """

    kind: str = "Adamax"
    parameters: dict[str, Any] | None = None
    _: KW_ONLY
    clip_norm: float | None = None

    rules: ClassVar[Mapping[str, Rule]] = {
        "kind": OneOf(tuple(_torch_optimizers())),
        "parameters": either(Instance(dict, "a dictionary from name to value"), OneOf((None,))),
        "clip_norm": _ADAM_RULES["clip_norm"],
    }

    @property
    def suits_auto(self) -> bool:  # type: ignore[override]  # depends on the kind
        return self.kind in ("Adamax", "NAdam", "RAdam")

    def mistakes(self, context: Context | None = None) -> list[str]:
        found = super().mistakes(context)
        if found:
            return found
        if "lr" in (self.parameters or {}):
            return [
                (
                    "TorchOptimizer: parameters has 'lr', but the estimator sets the learning rate; pass learning_rate "
                    "instead."
                )
            ]
        try:
            self.build(torch.nn.Parameter(torch.zeros(1)))
        except (TypeError, ValueError) as error:
            return [f"TorchOptimizer: torch.optim.{self.kind} refuses parameters={self.parameters!r}: {error}."]
        return []

    def build(self, parameters: torch.nn.Parameter) -> torch.optim.Optimizer:
        kind: type[torch.optim.Optimizer] = getattr(torch.optim, self.kind)
        return kind([parameters], **{"lr": 1.0, **(self.parameters or {})})
