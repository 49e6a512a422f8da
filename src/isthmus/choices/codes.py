"""Codes: what lies in the narrow place between encoder and decoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.choices.formulas import Formula, Numbers, exp, inherits, square, tanh
from isthmus.choices.layers import ACTIVATIONS, IDENTITY
from isthmus.choices.networks import activation_rule
from isthmus.choices.registry import Choice, Context, Registry
from isthmus.choices.rules import Number, OneOf, Rule, Whole
from isthmus.choices.spelling import folded


class Coded(NamedTuple):
    """A batch of codes and what the code's prior charges for them."""

    z: Tensor
    """Codes, (n, code); (samples · n, code) where the code draws several samples of each row, sample by sample."""
    prior: Tensor | None
    """What the code itself costs, (n,) or (samples · n,); None: nothing. It is added to a row's loss summed over its
    features: in nats where the loss is a likelihood, as for a prior, else in the unit of the loss."""


class CodeModule(nn.Module):
    """Turns what the encoder says into codes."""

    anneals: bool = False
    """Whether training changes with `progress`."""
    progress: float = 1.0
    """Share of the training steps taken, in [0, 1]."""

    def forward(self, h: Tensor, generator: torch.Generator | None) -> Coded:
        """Codes for training; random ones draw from the generator."""
        return Coded(self.deterministic(h), None)

    def deterministic(self, h: Tensor) -> Tensor:
        """Codes for use, without randomness: (n, code_width) → (n, code_size)."""
        raise NotImplementedError

    def weight_at(self, progress: float) -> float:
        """How much the prior counts in training when so much of it is done, in [0, 1]."""
        return 1.0

    @property
    def weight(self) -> float:
        """How much the prior counts now."""
        return self.weight_at(self.progress if self.training else 1.0)


class Code(Choice):
    """What lies in the narrow place."""

    differentiable: ClassVar[bool] = True
    """Whether the codes vary smoothly with the input."""
    formula: ClassVar[Callable[..., Numbers] | None] = None
    """Where the code works number by number: ``formula(h)``, a number of the code of a number that the encoder gives.

    It is a method of the functions and operators of `isthmus.choices.formulas`.
    """

    def width(self, code_size: int) -> int:
        """How many numbers the encoder gives for a code of this size."""
        return code_size

    def build(self, context: Context) -> CodeModule:
        """Make the module that turns the encoder's output into codes."""
        if self.formula is None:
            raise NotImplementedError
        return _FormulaModule(self.formula)

    def elementwise(self) -> Formula | None:
        """The formula of training by this code, None where it is none of single numbers."""
        if self.formula is None or not inherits(self, Code, "build", "width"):
            return None
        return Formula.of(self, self.formula)

    def drawn(self) -> Formula | None:
        """The formula of training by this code where it is drawn, None where it is not, or not number by number.

        It takes what the encoder gives for a number of the code (`width` by the code's size), and a draw from N(0, 1);
        it gives that number, and what its prior charges in nats before `CodeModule.weight`.
        """
        return None


class _FormulaModule(CodeModule):
    def __init__(self, formula: Callable[..., Numbers]) -> None:
        super().__init__()
        self.formula = formula

    def deterministic(self, h: Tensor) -> Tensor:
        z: Tensor = self.formula(h)
        return z


def _as_code(value: Any) -> Code | None:
    named = {folded(name): name for name in ACTIVATIONS}
    return Plain(named[folded(value)]) if isinstance(value, str) and folded(value) in named else None


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

    def elementwise(self) -> Formula | None:
        if not inherits(self, Plain, "build", "width"):
            return None
        return ACTIVATIONS[self.activation] if self.activation else IDENTITY


class _PlainModule(CodeModule):
    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.activation = activation

    def deterministic(self, h: Tensor) -> Tensor:
        z: Tensor = self.activation(h)
        return z


@CODES.register("top-k")
@dataclass(eq=False, repr=False)
class TopK(Code):
    """Keeps the k largest numbers of a code and sets the others to zero (k-sparse, Makhzani & Frey 2014, section 2).

    Units that are seldom among the k largest never learn, and die. So the encoder's output is normalised unit by unit
    (batch normalisation without a learned scale, Ioffe & Szegedy 2015) before the k largest are chosen: every unit then
    competes on equal terms.

    Parameters
    ----------
    k
        How many numbers stay, 1 to the code size.
    normalize
        Whether to normalise first; False keeps the encoder's output as it is, and lets units die.

    Examples
    --------
    >>> TopK(1, normalize=False).build(Context((4,), code_size=3)).deterministic(torch.tensor([[1.0, 3.0, 2.0]]))
    tensor([[0., 3., 0.]])
    """

    k: int = 8
    _: KW_ONLY
    normalize: bool = True

    differentiable: ClassVar[bool] = False
    rules: ClassVar[Mapping[str, Rule]] = {"k": Whole(1), "normalize": OneOf((True, False))}

    def mistakes(self, context: Context | None = None) -> list[str]:
        found = super().mistakes(context)
        if not found and context is not None and self.k > context.code_size:
            found.append(
                f"TopK: k={self.k} must be at most the code size, {context.code_size}; lower k or raise code_size."
            )
        return found

    def build(self, context: Context) -> CodeModule:
        return _TopKModule(self.k, nn.BatchNorm1d(context.code_size, affine=False) if self.normalize else None)


class _TopKModule(CodeModule):
    def __init__(self, k: int, norm: nn.BatchNorm1d | None) -> None:
        super().__init__()
        self.k, self.norm = k, norm

    def deterministic(self, h: Tensor) -> Tensor:
        if self.norm is not None:
            of_batch = self.training and len(h) > 1  # one row has no spread
            h = functional.batch_norm(h, self.norm.running_mean, self.norm.running_var, training=of_batch)
        return h * _largest(h, self.k)


def _largest(h: Tensor, k: int) -> Tensor:
    """A mask of the k largest numbers of each row, (n, code)."""
    return torch.zeros_like(h, dtype=torch.bool).scatter_(1, h.topk(k, dim=1).indices, value=True)


@CODES.register("gaussian")
@dataclass(eq=False, repr=False)
class Gaussian(Code):
    """A Normal distribution over codes for each row, held near a standard Normal: the variational autoencoder.

    The encoder gives mean and log-variance; training draws z = mean + exp(log_var / 2) · ε (Kingma & Welling 2014,
    eq. 10) and charges beta · KL(q(z|x) ‖ N(0, 1)) nats a row. In use the code is the mean.

    Parameters
    ----------
    beta
        Weight of the divergence (Higgins et al. 2017); 1 makes the total the negative evidence bound. >= 0.
    free_bits
        Nats of each unit, mean over the batch, that are not charged (Kingma et al. 2016, eq. 15); keeps units alive.
    warm_up
        Share of the training steps over which beta rises from 0, in [0, 1].
    n_samples
        Samples of each row in training. With more than one the total is the importance-weighted bound (Burda et al.
        2016, eq. 8), which is tighter; beta must then be 1 and free_bits 0.

    Examples
    --------
    >>> code = Gaussian().build(Context((4,), code_size=1))
    >>> coded = code(torch.tensor([[1.0, 0.0]]), torch.Generator().manual_seed(0))
    >>> coded.prior  # KL(N(1, 1) ‖ N(0, 1)) = 1/2
    tensor([0.5000])
    """

    beta: float = 1.0
    _: KW_ONLY
    free_bits: float = 0.0
    warm_up: float = 0.0
    n_samples: int = 1

    rules: ClassVar[Mapping[str, Rule]] = {
        "beta": Number(0.0),
        "free_bits": Number(0.0),
        "warm_up": Number(0.0, 1.0),
        "n_samples": Whole(1),
    }

    def mistakes(self, context: Context | None = None) -> list[str]:
        found = super().mistakes(context)
        if not found and self.n_samples > 1 and (self.beta != 1 or self.free_bits > 0 or self.warm_up > 0):
            found.append(
                f"Gaussian: n_samples={self.n_samples} gives the importance-weighted bound, which needs beta=1, "
                f"free_bits=0 and warm_up=0, not {self.beta:g}, {self.free_bits:g} and {self.warm_up:g}."
            )
        return found

    def width(self, code_size: int) -> int:
        return 2 * code_size

    def build(self, context: Context) -> CodeModule:
        return GaussianModule(self)

    def drawn(self) -> Formula | None:
        if self.n_samples > 1 or self.free_bits > 0.0 or not inherits(self, Gaussian, "build", "width"):
            return None  # both look at several samples, or at all rows, at once
        return Formula("gaussian", draw_normal)


class GaussianModule(CodeModule):
    """Draws codes and charges their divergence."""

    def __init__(self, code: Gaussian) -> None:
        super().__init__()
        self.beta, self.free_bits, self.warm_up = code.beta, code.free_bits, code.warm_up
        self.n_samples, self.anneals = code.n_samples, code.warm_up > 0

    def forward(self, h: Tensor, generator: torch.Generator | None) -> Coded:
        if self.n_samples > 1:
            return self.draw(h, self.n_samples, generator)
        mean, raw = h.chunk(2, dim=1)
        z, divergence = draw_normal(mean, raw, draw_noise(mean, generator))
        if self.free_bits:
            divergence = divergence.mean(0, keepdim=True).clamp(min=self.free_bits).expand_as(divergence)
        return Coded(z, self.weight * divergence.sum(1))

    def draw(self, h: Tensor, n_samples: int, generator: torch.Generator | None) -> Coded:
        """Several samples of each row, (n_samples · n, code), each with its own log q(z|x) - log p(z)."""
        mean, log_var = (part.repeat(n_samples, 1) for part in self.posterior(h))
        noise = draw_noise(mean, generator)
        z = mean + noise * torch.exp(0.5 * log_var)
        return Coded(z, 0.5 * (z.square() - noise.square() - log_var).sum(1))

    def weight_at(self, progress: float) -> float:
        """What a nat of divergence is charged in training when so much of it is done, in [0, 1]."""
        return self.beta * (min(1.0, progress / self.warm_up) if self.warm_up else 1.0)

    def deterministic(self, h: Tensor) -> Tensor:
        return self.posterior(h)[0]

    @staticmethod
    def posterior(h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, (n, code) each; the log-variance is kept within ±10, where exp is safe."""
        mean, raw = h.chunk(2, dim=1)
        return mean, _log_variance(raw)


def _log_variance(raw: Numbers) -> Numbers:
    """What the encoder gives, kept within ±10."""
    return tanh(raw * 0.1) * 10.0


def draw_normal(mean: Numbers, raw: Numbers, noise: Numbers) -> tuple[Numbers, Numbers]:
    """A code from its posterior, and its divergence from the prior in nats (Kingma & Welling 2014, section 3)."""
    log_var = _log_variance(raw)
    return mean + noise * exp(log_var * 0.5), standard_divergence(mean, log_var)


def draw_noise(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Draws from N(0, 1) in the shape of a tensor."""
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def standard_divergence(mean: Numbers, log_var: Numbers) -> Numbers:
    """KL(N(mean, exp(log_var)) ‖ N(0, 1)) of each unit in nats (Kingma & Welling 2014, appendix B).

    >>> standard_divergence(torch.tensor([0.0, 2.0]), torch.tensor([0.0, 0.0]))
    tensor([0., 2.])
    """
    return (square(mean) + exp(log_var) - 1.0 - log_var) * 0.5


def log_normal(x: Tensor, mean: Tensor | float, log_var: Tensor | float) -> Tensor:
    """Log-density of a diagonal Normal in nats a row, (n, k) → (n,)."""
    log_var = torch.as_tensor(log_var, dtype=x.dtype, device=x.device)
    return -0.5 * (math.log(2 * math.pi) + log_var + (x - mean).square() * torch.exp(-log_var)).sum(-1)
