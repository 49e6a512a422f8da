"""Penalties: costs on the codes that are added to the loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from isthmus.choices.codes import Code, Plain
from isthmus.choices.formulas import Formula, Numbers, absolute, inherits, log, maximum, minimum, square
from isthmus.choices.layers import ACTIVATIONS
from isthmus.choices.registry import Choice, Context, Registry
from isthmus.choices.rules import Instance, Number, OneOf, Rule, Whole


class Encoding(NamedTuple):
    """One encoded batch: everything that a penalty may use."""

    x: Tensor
    """The encoder's input, (n, d), corrupted if the model has a corruption."""
    z: Tensor
    """The codes, (n, code)."""
    encode: Callable[[Tensor], Tensor]
    """The deterministic encoder, (n, d) → (n, code), for penalties on its derivative."""
    encoder: nn.Module | None = None
    """The encoder itself, for closed forms."""
    activation: str | None = None
    """The activation of the code, for closed forms."""
    generator: torch.Generator | None = None
    """For random draws."""
    differentiable: bool = False
    """Whether `z` is ``encode(x)`` with its autograd graph, so that `x` need not be encoded again."""


class PenaltyTerm(NamedTuple):
    """A penalty, or one term of it, in a form that needs no derivative with respect to the input."""

    of_numbers: Formula | None = None
    """The cost of one unit of one code, summed over units and averaged over rows."""
    of_rates: Formula | None = None
    """The cost of the batch mean of one unit, summed over units."""
    contraction: float = 0.0
    """The weight of ``Σ_j slope_j² ‖W_j‖²``, averaged over rows, for an encoder of one layer with weight W."""


class Penalty(Choice):
    """A cost on the codes, added to the loss."""

    formula: ClassVar[Callable[..., Numbers] | None] = None
    """For elementwise penalties: ``formula(z)`` is the cost of one unit of a code, weight included.

    It is a method that uses only the functions and operators of `isthmus.choices.formulas`. Costs are summed over units
    and averaged over rows.
    """
    rate_formula: ClassVar[Callable[..., Numbers] | None] = None
    """The same for the batch mean of each unit: for penalties on mean activations."""

    wanted_rate: ClassVar[float | None] = None
    """The mean activation that the penalty asks of every unit, if it asks for one: training starts there."""
    needs_code: ClassVar[str | None] = None
    """The name of the code that the penalty is made for, where it does not suit others."""

    def penalize(self, encoding: Encoding) -> Tensor:
        """The penalty of a batch: a scalar, >= 0, the mean over its rows, weight included."""
        z = encoding.z
        costs: list[Tensor] = [] if self.formula is None else [self.formula(z).sum() / len(z)]
        costs += [] if self.rate_formula is None else [self.rate_formula(z.mean(0)).sum()]
        if not costs:
            raise NotImplementedError
        return costs[0] if len(costs) == 1 else costs[0] + costs[1]

    def terms(self, encoder: nn.Module, code: Code) -> tuple[PenaltyTerm, ...] | None:
        """Terms that add up to this penalty if it has a formula, or a closed form for this encoder; else None."""
        if not inherits(self, Penalty, "penalize") or (self.formula is None and self.rate_formula is None):
            return None
        of_numbers, of_rates = (made and Formula.of(self, made) for made in (self.formula, self.rate_formula))
        return (PenaltyTerm(of_numbers, of_rates),)

    def needs_derivative(self, encoder: nn.Module, code: Code) -> bool:
        """Whether the penalty differentiates this encoder; False if the codes and the encoder's weights suffice."""
        return False

    def conflicts(self, code: Code) -> list[str]:
        """Why this penalty cannot be combined with a code, one sentence each."""
        return []


@dataclass(eq=False, repr=False)
class Sum(Penalty):
    """A sum of penalties; a list of penalties is converted to it."""

    members: tuple[Penalty, ...]

    rules: ClassVar[Mapping[str, Rule]] = {"members": Instance(tuple, "a tuple of penalties")}

    def mistakes(self, context: Context | None = None) -> list[str]:
        return [text for member in self.members for text in member.mistakes(context)]

    def conflicts(self, code: Code) -> list[str]:
        return [text for member in self.members for text in member.conflicts(code)]

    @property
    def needs_code(self) -> str | None:  # type: ignore[override]  # that of its members
        return next((member.needs_code for member in self.members if member.needs_code), None)

    @property
    def wanted_rate(self) -> float | None:  # type: ignore[override]  # that of its members
        return next((member.wanted_rate for member in self.members if member.wanted_rate), None)

    def needs_derivative(self, encoder: nn.Module, code: Code) -> bool:
        return any(member.needs_derivative(encoder, code) for member in self.members)

    def resolve(self, context: Context) -> Sum:
        return Sum(tuple(member.resolve(context) for member in self.members))

    def penalize(self, encoding: Encoding) -> Tensor:
        return torch.stack([member.penalize(encoding) for member in self.members]).sum()

    def terms(self, encoder: nn.Module, code: Code) -> tuple[PenaltyTerm, ...] | None:
        each = [member.terms(encoder, code) for member in self.members]
        if None in each or not inherits(self, Sum, "penalize"):
            return None
        return tuple(term for terms in each if terms is not None for term in terms)


PENALTIES: Registry[Penalty] = Registry("penalty", Penalty, join=lambda parts: Sum(tuple(parts)))


@PENALTIES.register("l1")
@dataclass(eq=False, repr=False)
class L1(Penalty):
    """``weight · Σ_j |z_j|``, summed over units, averaged over rows: drives activations to exactly zero.

    Parameters
    ----------
    weight
        Cost of one unit of activation, in units of the loss per feature; >= 0.

    Examples
    --------
    >>> z = torch.tensor([[1.0, -3.0]])
    >>> L1(0.5).penalize(Encoding(z, z, lambda x: x))
    tensor(2.)
    """

    weight: float = 1e-5

    rules: ClassVar[Mapping[str, Rule]] = {"weight": Number(0.0)}

    def formula(self, z: Numbers) -> Numbers:
        return absolute(z) * float(self.weight)


@PENALTIES.register("l2")
@dataclass(eq=False, repr=False)
class L2(Penalty):
    """``weight · Σ_j z_j²``, summed over units, averaged over rows: keeps activations small, but not exactly zero.

    Parameters
    ----------
    weight
        Cost of one squared unit of activation, in units of the loss per feature; >= 0.

    Examples
    --------
    >>> z = torch.tensor([[1.0, -3.0]])
    >>> L2(0.5).penalize(Encoding(z, z, lambda x: x))
    tensor(5.)
    """

    weight: float = 1e-5

    rules: ClassVar[Mapping[str, Rule]] = {"weight": Number(0.0)}

    def formula(self, z: Numbers) -> Numbers:
        return square(z) * float(self.weight)


@PENALTIES.register("kl-sparsity", "kl")
@dataclass(eq=False, repr=False)
class KLSparsity(Penalty):
    """``weight · Σ_j KL(target ‖ rate_j)``: a target mean activation for each unit (Ng 2011, CS294A notes, section 3).

    The rate of a unit is its mean over the batch, so the code must lie in (0, 1): ``code="sigmoid"``. Use batches of
    at least 100 rows: the rate of a smaller batch is noisy.

    Parameters
    ----------
    target
        Target mean activation of every unit, in (0, 1).
    weight
        Cost of one nat, in units of the loss per feature; >= 0.

    Examples
    --------
    >>> z = torch.full((4, 2), 0.05)
    >>> KLSparsity(0.05, weight=1.0).penalize(Encoding(z, z, lambda x: x))
    tensor(0.)
    """

    target: float = 0.05
    _: KW_ONLY
    weight: float = 0.2  # with 0.01 the mean activation stays at 1.7 times the target, with 0.1 at 1.2 times

    needs_code: ClassVar[str | None] = "sigmoid"

    @property
    def wanted_rate(self) -> float:  # type: ignore[override]  # of this one
        return float(self.target)

    rules: ClassVar[Mapping[str, Rule]] = {
        "target": Number(0.0, 1.0, open_low=True, open_high=True),
        "weight": Number(0.0),
    }

    def conflicts(self, code: Code) -> list[str]:
        if isinstance(code, Plain) and code.activation == "sigmoid":
            return []
        return [f"KLSparsity: activations must lie in (0, 1), but the code is {code}; use code='sigmoid'."]

    def rate_formula(self, mean: Numbers) -> Numbers:
        rate, rho = minimum(maximum(mean, SAFE), 1.0 - SAFE), float(self.target)
        return (log(rate / rho) * -rho - log((1.0 - rate) / (1.0 - rho)) * (1.0 - rho)) * float(self.weight)


SAFE = 1e-6
"""Rates are clipped to [SAFE, 1 - SAFE], because their divergence is unbounded at 0 and 1."""


@PENALTIES.register("contractive")
@dataclass(eq=False, repr=False)
class Contractive(Penalty):
    """``weight · ‖∂z/∂x‖²_F``, averaged over rows: makes codes insensitive to the input (Rifai et al. 2011, eq. 4).

    Parameters
    ----------
    weight
        Cost of one unit of the squared norm, in units of the loss per feature; >= 0.
    method
        ``"exact"``: a closed form for one layer, else the full Jacobian, one backward pass per code unit, batched.
        ``"hutchinson"``: an unbiased estimate E‖vᵀ∂z/∂x‖² with random signs v (Hutchinson 1990), one backward pass
        per probe. ``"auto"``: exact for one layer and for codes of at most 4 units, else the estimate.
    n_probes
        Number of probes of the estimate, >= 1.

    Examples
    --------
    >>> x = torch.randn(5, 3)
    >>> Contractive(1.0, method="exact").penalize(Encoding(x, 2 * x, lambda x: 2 * x))
    tensor(12.)
    """

    weight: float = 1e-4
    _: KW_ONLY
    method: str = "auto"
    n_probes: int = 1

    rules: ClassVar[Mapping[str, Rule]] = {
        "weight": Number(0.0),
        "method": OneOf(("auto", "exact", "hutchinson")),
        "n_probes": Whole(1),
    }

    def needs_derivative(self, encoder: nn.Module, code: Code) -> bool:
        closed = self.method != "hutchinson" and isinstance(code, Plain)
        return not closed or _only_layer(encoder, code.activation) is None

    def terms(self, encoder: nn.Module, code: Code) -> tuple[PenaltyTerm, ...] | None:
        if self.needs_derivative(encoder, code) or not inherits(self, Contractive, "penalize"):
            return None
        return (PenaltyTerm(contraction=float(self.weight)),)

    def conflicts(self, code: Code) -> list[str]:
        if code.differentiable:
            return []
        return [
            (
                f"Contractive: the code {code} is not differentiable with respect to the input; use code='plain' or "
                "code='gaussian'."
            )
        ]

    def penalize(self, encoding: Encoding) -> Tensor:
        layer = None if self.method == "hutchinson" else _only_layer(encoding.encoder, encoding.activation)
        if layer is not None and layer.weight.shape == (encoding.z.shape[1], encoding.x.shape[1]):
            return self.weight * _closed_form(layer, encoding)  # other shapes: a log-variance or conditions
        # A step with the closed form takes 1.3 times a plain step. On the layers of benchmark S6 the estimate takes
        # 2 to 3 times and the full Jacobian 27 times a plain step.
        wide = encoding.z.shape[1] > 4
        if self.method == "hutchinson" or (self.method == "auto" and wide):
            return self.weight * self._estimate(encoding)
        return self.weight * _whole_jacobian(encoding)

    def _estimate(self, encoding: Encoding) -> Tensor:
        with torch.enable_grad():
            x, z = _differentiable(encoding)
            norms = [_product(z, x, _signs(z, encoding.generator)).square().sum() for _ in range(self.n_probes)]
        return torch.stack(norms).sum() / (self.n_probes * len(x))


def _differentiable(encoding: Encoding) -> tuple[Tensor, Tensor]:
    """Rows and their codes, with the autograd graph from one to the other."""
    if encoding.differentiable:
        return encoding.x, encoding.z
    x = encoding.x.detach().requires_grad_()
    return x, encoding.encode(x)


def _signs(z: Tensor, generator: torch.Generator | None) -> Tensor:
    draw = torch.rand(z.shape, generator=generator, device=z.device, dtype=z.dtype)
    return (draw < 0.5).to(z.dtype).mul_(2).sub_(1)


def _product(z: Tensor, x: Tensor, v: Tensor) -> Tensor:
    """vᵀ ∂z/∂x of each row, (n, d), differentiable."""
    return torch.autograd.grad(z, x, v, create_graph=True)[0]


def _whole_jacobian(encoding: Encoding) -> Tensor:
    """Squared norm of the Jacobian, averaged over rows, by one batched backward pass for all code units."""
    with torch.enable_grad():
        x, z = _differentiable(encoding)
        units = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)[:, None].expand(-1, len(z), -1)
        (jacobian,) = torch.autograd.grad(z, x, units, create_graph=True, is_grads_batched=True)  # (code, n, d)
        return jacobian.square().sum() / len(x)


def _slope_by_value(activation: str | None) -> Callable[[Numbers], Numbers] | None:
    """The derivative of a code's activation as a function of its value; None if the value does not determine it."""
    return torch.ones_like if activation is None else ACTIVATIONS[activation].slope_by_value


def _only_layer(encoder: nn.Module | None, activation: str | None) -> nn.Linear | None:
    """The layer of an encoder that is a single linear layer with an activation of known derivative, else None."""
    layers = [] if encoder is None else [module for module in encoder.modules() if not list(module.children())]
    if len(layers) == 1 and isinstance(layers[0], nn.Linear) and _slope_by_value(activation) is not None:
        return layers[0]
    return None


def _closed_form(layer: nn.Linear, encoding: Encoding) -> Tensor:
    """Σ_j slope(z_j)² ‖W_j‖², averaged over rows (Rifai et al. 2011, eq. 5, for any activation of known derivative)."""
    slope = _slope_by_value(encoding.activation)
    assert slope is not None
    return torch.square(slope(encoding.z)).mean(0) @ layer.weight.square().sum(1)
