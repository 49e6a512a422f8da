"""Learning-rate schedules and optimisers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch

from isthmus.choices.registry import Choice, Registry
from isthmus.choices.rules import Number, OneOf, Rule, either


class Schedule(Choice):
    """How the learning rate moves over a run."""

    def factor(self, progress: float) -> float:
        """What to multiply the learning rate by, given the share of all steps already taken, in [0, 1)."""
        raise NotImplementedError


SCHEDULES: Registry[Schedule] = Registry("schedule", Schedule)


@SCHEDULES.register("constant")
@dataclass(eq=False, repr=False)
class Constant(Schedule):
    """The learning rate as given, at every step.

    >>> Constant().factor(0.7)
    1.0
    """

    def factor(self, progress: float) -> float:
        return 1.0


@SCHEDULES.register("one-cycle")
@dataclass(eq=False, repr=False)
class OneCycle(Schedule):
    """Up along a cosine to the learning rate given, then down along a cosine to nearly nothing (Smith & Topin 2018).

    Parameters
    ----------
    warm_up
        Share of the steps spent rising, in [0, 1).
    start, end
        Where the factor begins and ends, as a share of the peak.

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

    def factor(self, progress: float) -> float:
        if progress < self.warm_up:
            return _cosine(self.start, 1.0, progress / self.warm_up)
        return _cosine(1.0, self.end, (progress - self.warm_up) / (1.0 - self.warm_up))


@SCHEDULES.register("cosine")
@dataclass(eq=False, repr=False)
class Cosine(Schedule):
    """From the learning rate given down to `end` of it, along a cosine (Loshchilov & Hutter 2017, eq. 5, one period).

    Parameters
    ----------
    end
        Where the factor ends, as a share of the learning rate.

    Examples
    --------
    >>> Cosine().factor(0.0)
    1.0
    """

    _: KW_ONLY
    end: float = 0.0

    rules: ClassVar[Mapping[str, Rule]] = {"end": Number(0.0, 1.0)}

    def factor(self, progress: float) -> float:
        return _cosine(1.0, self.end, progress)


def _cosine(begin: float, end: float, share: float) -> float:
    return end + (begin - end) * (1.0 + math.cos(math.pi * share)) / 2.0


class Optimizer(Choice):
    """How parameters follow their gradients."""

    clip_norm: float | None
    kernel: ClassVar[str | None] = None
    """A fused kernel of torch that is the whole step, with the arguments of Adam's; None, or one that this torch has
    not: `build` is asked instead."""

    def kernel_settings(self) -> dict[str, float]:
        """What the kernel takes besides tensors and the learning rate."""
        return {}

    def build(self, parameters: torch.nn.Parameter) -> torch.optim.Optimizer:
        """The torch optimiser over one flat parameter; its learning rate is set before every step."""
        raise NotImplementedError


OPTIMIZERS: Registry[Optimizer] = Registry("optimizer", Optimizer)

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
        Added to the root of the second moment; > 0.
    clip_norm
        Gradients with a larger Euclidean norm (over all parameters) are scaled down to it; None never clips.
    """

    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float | None = None

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
        Share of each parameter taken away per step, times the learning rate; >= 0.
    beta1, beta2, epsilon, clip_norm
        As for `Adam`.
    """

    weight_decay: float = 0.01
    _: KW_ONLY
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float | None = None

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
