"""Codes: the latent representation between encoder and decoder."""

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
    """A batch of codes and the cost of each under the code's prior."""

    z: Tensor
    """Codes, (n, code); (samples · n, code) for several samples of each row: all rows' first samples come first."""
    prior: Tensor | None
    """Cost of each code, (n,) or (samples · n,), or None. It is added to the row's loss summed over features: in nats
    if the loss is a likelihood, else in the unit of the loss."""


class CodeModule(nn.Module):
    """Maps the encoder's output to codes."""

    anneals: bool = False
    """Whether the training objective changes with `progress`."""
    progress: float = 1.0
    """Fraction of the training steps taken, in [0, 1]."""

    def forward(self, h: Tensor, generator: torch.Generator | None) -> Coded:
        """Codes for training; random codes draw from the generator."""
        return Coded(self.deterministic(h), None)

    def deterministic(self, h: Tensor) -> Tensor:
        """Codes for inference, without randomness: (n, code_width) → (n, code_size)."""
        raise NotImplementedError

    def as_code(self, z: Tensor) -> Tensor:
        """The nearest possible code of any vectors, (n, code): of a sparse code, one with as many zeros."""
        return z

    def weight_at(self, progress: float) -> float:
        """Weight of the prior at a progress of training in [0, 1]."""
        return 1.0

    @property
    def weight(self) -> float:
        """Current weight of the prior."""
        return self.weight_at(self.progress if self.training else 1.0)


class Code(Choice):
    """Base class of codes: how the encoder's output becomes a code."""

    differentiable: ClassVar[bool] = True
    """Whether the codes are a smooth function of the input."""
    formula: ClassVar[Callable[..., Numbers] | None] = None
    """For elementwise codes: ``formula(h)`` maps one unit of the encoder's output to one unit of the code.

    It is a method that uses only the functions and operators of `isthmus.choices.formulas`.
    """

    def width(self, code_size: int) -> int:
        """Width of the encoder's output for a code of this size."""
        return code_size

    def build(self, context: Context) -> CodeModule:
        """Build the module that maps the encoder's output to codes."""
        if self.formula is None:
            raise NotImplementedError
        return _FormulaModule(self.formula)

    def elementwise(self) -> Formula | None:
        """The formula of this code in training; None if it is not elementwise."""
        if self.formula is None or not inherits(self, Code, "build", "width"):
            return None
        return Formula.of(self, self.formula)

    def drawn(self) -> Formula | None:
        """The formula of a random code in training; None if the code is not random or not elementwise.

        The formula takes the encoder's outputs for one latent unit (`width` divided by the code size) and a draw from
        N(0, 1). It returns the unit and its cost under the prior in nats, before `CodeModule.weight`.
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
    """The encoder's output, optionally through an activation.

    Parameters
    ----------
    activation
        Such as ``"relu"`` (as in most tutorials) or ``"sigmoid"``. None leaves the code unbounded and reconstructs
        better: a ReLU discards half of each unit's range, and units can die.

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
    """Keeps the k largest units of a code and sets the others to zero (k-sparse, Makhzani & Frey 2014, section 2).

    Units that are rarely among the k largest get no gradient and die. Therefore each unit of the encoder's output is
    normalised (batch normalisation without a learned scale, Ioffe & Szegedy 2015) before the k largest are selected.

    Parameters
    ----------
    k
        Number of units kept, from 1 to the code size.
    normalize
        Whether to normalise first. With False, units can die.

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
            of_batch = self.training and len(h) > 1  # the variance of one row is undefined
            h = functional.batch_norm(h, self.norm.running_mean, self.norm.running_var, training=of_batch)
        return h * _largest(h, self.k)

    def as_code(self, z: Tensor) -> Tensor:
        return z * _largest(z.abs(), self.k)


def _largest(h: Tensor, k: int) -> Tensor:
    """A mask of the k largest values of each row, (n, code)."""
    return torch.zeros_like(h, dtype=torch.bool).scatter_(1, h.topk(k, dim=1).indices, value=True)


@CODES.register("gaussian")
@dataclass(eq=False, repr=False)
class Gaussian(Code):
    """A Gaussian posterior over codes for each row, regularised towards N(0, 1): the variational autoencoder.

    The encoder gives mean and log-variance. Training draws z = mean + exp(log_var / 2) · ε (Kingma & Welling 2014,
    eq. 10) and adds beta · KL(q(z|x) ‖ N(0, 1)) nats per row. At inference the code is the mean.

    Parameters
    ----------
    beta
        Weight of the KL divergence, >= 0 (Higgins et al. 2017). With 1 the objective is the negative evidence lower
        bound.
    free_bits
        Nats of each unit, averaged over the batch, that cost nothing, >= 0 (Kingma et al. 2016, eq. 15); prevents
        posterior collapse.
    warm_up
        Fraction of the training steps over which beta rises from 0, in [0, 1].
    n_samples
        Samples of each row in training, >= 1. With more than one the objective is the tighter importance-weighted
        bound (Burda et al. 2016, eq. 8); it requires beta=1, free_bits=0 and warm_up=0.

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
                f"free_bits=0 and warm_up=0, not {self.beta:g}, {self.free_bits:g} and {self.warm_up:g}; set these, or "
                "n_samples=1."
            )
        return found

    def width(self, code_size: int) -> int:
        return 2 * code_size

    def build(self, context: Context) -> CodeModule:
        return GaussianModule(self)

    def drawn(self) -> Formula | None:
        if self.n_samples > 1 or self.free_bits > 0.0 or not inherits(self, Gaussian, "build", "width"):
            return None  # both need several samples, or all rows of a batch, at once
        return Formula("gaussian", draw_normal)


class GaussianModule(CodeModule):
    """Draws codes and computes their KL divergence."""

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
        """Weight of the KL divergence at a progress of training in [0, 1]."""
        return self.beta * (min(1.0, progress / self.warm_up) if self.warm_up else 1.0)

    def deterministic(self, h: Tensor) -> Tensor:
        return self.posterior(h)[0]

    @staticmethod
    def posterior(h: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, (n, code) each; the log-variance lies in ±10, where exp cannot overflow."""
        mean, raw = h.chunk(2, dim=1)
        return mean, _log_variance(raw)


def _log_variance(raw: Numbers) -> Numbers:
    """The encoder's output, smoothly limited to ±10."""
    return tanh(raw * 0.1) * 10.0


def draw_normal(mean: Numbers, raw: Numbers, noise: Numbers) -> tuple[Numbers, Numbers]:
    """A draw from the posterior and its KL divergence from the prior in nats (Kingma & Welling 2014, section 3)."""
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
    """Log-density of a diagonal Gaussian in nats per row, (n, k) → (n,)."""
    log_var = torch.as_tensor(log_var, dtype=x.dtype, device=x.device)
    return -0.5 * (math.log(2 * math.pi) + log_var + (x - mean).square() * torch.exp(-log_var)).sum(-1)
