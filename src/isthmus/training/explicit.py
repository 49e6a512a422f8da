"""The step with its backward pass written out, for dense networks: no graph is recorded and nothing is allocated.

The chains of linear layers and activations are gone through by hand, into buffers that are kept; what lies between them
(code, penalty) and the loss bring their own gradients, by hand where that is quick, by autograd on a few numbers
elsewhere. So every code, corruption, loss and penalty on the code works here as on the general path.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from isthmus.choices.codes import Gaussian, Plain, draw_noise
from isthmus.choices.formulas import Formula, as_numbers, differentiated
from isthmus.choices.layers import IDENTITY, Activation
from isthmus.choices.penalties import Encoding
from isthmus.training.chains import Chain, is_chain
from isthmus.training.devices import use_threads
from isthmus.training.objective import LossParts, Objective
from isthmus.training.products import ALONE, slope_of


def is_explicit(objective: Objective) -> bool:
    """Whether the backward pass of an objective can be written out."""
    if not objective.follows_choices or not (is_chain(objective.encoder) and is_chain(objective.decoder)):
        return False
    choices, parameters = objective.choices, list(objective.parameters())
    linears = [layer for layer in objective.modules() if isinstance(layer, nn.Linear)]
    return (
        not objective.context.n_conditions
        and 2 * len(linears) == len(parameters)
        and all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in parameters)
        and (choices.penalty is None or not choices.penalty.needs_derivative(objective.encoder, choices.code))
        and not (isinstance(choices.code, Gaussian) and choices.code.n_samples > 1)
    )


def parts_of(reconstruction: Tensor, penalty: Tensor, prior: Tensor) -> LossParts:
    """The parts of a loss with their total; where both others are the same constant zero, it need not be added."""
    total = reconstruction if penalty is prior else reconstruction + penalty + prior
    return LossParts(total, reconstruction, penalty, prior)


def as_activation(formula: Formula) -> Activation:
    """The formula of a code as the activation of the encoder's last layer."""
    return formula if isinstance(formula, Activation) else Activation(formula.key, formula.function)


class ExplicitGradient:
    """Computes the parts of the loss of a batch and writes the gradient of the total.

    Parameters
    ----------
    objective
        One for which `is_explicit` holds, with gradients to write to.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective, self.choices = objective, objective.choices
        self._zero = next(objective.parameters()).detach().new_zeros(())
        self._chains: dict[int, tuple[Chain, Chain]] = {}
        self._encoder_weights = list(objective.encoder.parameters())
        self._of_weights: list[tuple[nn.Parameter, Tensor]] = []
        self._n_threads = 1
        formula, self._drawn_by = self.choices.code.elementwise(), self.choices.code.drawn()
        self.is_identity = formula is IDENTITY
        self._slope = slope_of(as_activation(formula)) if formula is not None else None

    def chains_for(self, n_rows: int) -> tuple[Chain, Chain]:
        """Encoder and decoder for batches of that size."""
        if n_rows not in self._chains:
            n_parts = self._n_threads = torch.get_num_threads()
            output_parts = n_parts if self.choices.loss.separable else 1
            self._chains[n_rows] = (
                Chain(self.objective.encoder, n_rows, split_input=n_parts),
                Chain(self.objective.decoder, n_rows, split_output=output_parts),
            )
        return self._chains[n_rows]

    @torch.no_grad()
    def __call__(self, x: Tensor, generator: torch.Generator | None) -> LossParts:
        """As `Objective.forward`, and the gradients of all parameters."""
        encoder, decoder = self.chains_for(len(x))
        x, target = self.objective.given_and_target(x)
        given = self.corrupted(x, generator)
        z, prior, code_backward = self.code(encoder.forward(given), generator)
        output = decoder.forward(z)
        self._share(output)
        reconstruction, gradient = self.choices.loss.gradient(output, decoder.like_output(target))
        of_code = decoder.backward(gradient, of_input=True)
        penalty, of_penalty = self.penalty(given, z, generator)
        of_code = of_code if of_penalty is None else of_code.add_(of_penalty)
        encoder.backward(code_backward(of_code), of_input=False)
        self.add_penalized()
        use_threads(self._n_threads)
        return parts_of(reconstruction, penalty, prior)

    def _share(self, tensor: Tensor) -> None:
        """Let threads share what is done with a tensor if it is large enough for each to have work."""
        use_threads(1 if tensor.numel() < 2 * ALONE else self._n_threads)

    def corrupted(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """What the encoder is given for a batch."""
        return self.objective.corrupt(self.objective.filled(x), generator)

    def code(self, h: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """The codes, their prior, and what turns the gradient of the codes into that of the encoder's output."""
        if self.is_identity:
            return h, self._zero, lambda gradient: gradient
        self._share(h)
        if self._slope is not None:
            return self._activated(h)
        if self._drawn_by is not None:
            return self._drawn(h, self._drawn_by, generator)
        with torch.enable_grad():
            leaf = h.detach().requires_grad_()
            coded = self.objective.code(leaf, generator)
            prior = None if coded.prior is None else coded.prior.mean() / self.objective.n_terms

        def backward(gradient: Tensor) -> Tensor:
            outputs = [coded.z] if prior is None else [coded.z, prior]
            ones = [gradient] if prior is None else [gradient, torch.ones_like(prior)]
            return torch.autograd.grad(outputs, leaf, ones)[0].contiguous()

        return coded.z.detach(), self._zero if prior is None else prior.detach(), backward

    def _drawn(
        self, h: Tensor, formula: Formula, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """A code that is drawn number by number."""
        parts = h.split(self.objective.context.code_size, dim=1)
        z, nats = differentiated(formula.function, *parts, given=[draw_noise(parts[0], generator)])
        weight = self.objective.code.weight / (self.objective.n_terms * len(h))

        def backward(gradient: Tensor) -> Tensor:
            slopes = [
                (as_numbers(one, gradient), as_numbers(two, gradient))
                for one, two in zip(z.slopes, nats.slopes, strict=True)
            ]
            return torch.cat([torch.add(gradient * one, two, alpha=weight) for one, two in slopes], dim=1)

        return z.value, nats.value.sum() * weight, backward

    def _activated(self, h: Tensor) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """A plain code behind an activation of known slope."""
        slope, z = self._slope, torch.empty_like(h)
        assert slope is not None
        slope.forward(h, z)

        def backward(gradient: Tensor) -> Tensor:
            slope.backward(gradient, h, z)
            return gradient

        return z, self._zero, backward

    def penalty(self, given: Tensor, z: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor | None]:
        """The penalty of a batch and its gradient by the codes, None where there is none; that by weights is kept."""
        choices, encoder = self.choices, self.objective.encoder
        if choices.penalty is None:
            return self._zero, None
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            activation = choices.code.activation if isinstance(choices.code, Plain) else None
            encoding = Encoding(given, leaf, self.objective.encode, encoder, activation, generator)
            penalty = choices.penalty.penalize(encoding)
        weights = self._encoder_weights
        of_code, *of_weights = torch.autograd.grad(penalty, [leaf, *weights], allow_unused=True)
        self._of_weights = [
            (weight, more) for weight, more in zip(weights, of_weights, strict=True) if more is not None
        ]
        return penalty.detach(), of_code

    def add_penalized(self) -> None:
        """Add the gradient of the penalty by weights of the encoder to what its backward pass has written."""
        for weight, more in self._of_weights:
            assert weight.grad is not None
            weight.grad.add_(more)
