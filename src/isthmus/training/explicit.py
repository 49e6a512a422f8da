"""The step with its backward pass written out, for dense networks: no graph is recorded and nothing is allocated.

The chains of linear layers and activations are gone through by hand, into buffers that are kept; what lies between them
(code, penalty) and the loss bring their own gradients, by hand where that is quick, by autograd on a few numbers
elsewhere. So every code, corruption, loss and penalty on the code works here as on the general path.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from isthmus.choices.codes import Gaussian, Plain
from isthmus.choices.penalties import Encoding
from isthmus.training.objective import LossParts, Objective

aten = torch.ops.aten


class Slope(NamedTuple):
    """An activation and its derivative, both into a given buffer."""

    forward: Callable[[Tensor, Tensor], object]
    """Takes what goes in and the buffer for what comes out."""
    backward: Callable[[Tensor, Tensor, Tensor], object]
    """Takes the gradient, which is changed in place, what went in and what came out."""


SLOPES: dict[type[nn.Module], Slope] = {
    nn.ReLU: Slope(
        lambda x, out: torch.clamp_min(x, 0.0, out=out),
        lambda g, _, y: aten.threshold_backward.grad_input(g, y, 0.0, grad_input=g),
    ),
    nn.GELU: Slope(
        lambda x, out: aten.gelu.out(x, out=out), lambda g, x, _: aten.gelu_backward.grad_input(g, x, grad_input=g)
    ),
    nn.SiLU: Slope(
        lambda x, out: aten.silu.out(x, out=out), lambda g, x, _: aten.silu_backward.grad_input(g, x, grad_input=g)
    ),
    nn.Sigmoid: Slope(
        lambda x, out: torch.sigmoid(x, out=out),
        lambda g, _, y: aten.sigmoid_backward.grad_input(g, y, grad_input=g),
    ),
    nn.Tanh: Slope(
        lambda x, out: torch.tanh(x, out=out), lambda g, _, y: aten.tanh_backward.grad_input(g, y, grad_input=g)
    ),
}
"""The activations that have a derivative here; networks with others take the general path."""


class Chain:
    """Linear layers and activations one after the other, forward and back by hand.

    Parameters
    ----------
    network
        An ``nn.Sequential`` for which `is_chain` holds; its parameters have gradients to write to.
    """

    def __init__(self, network: nn.Module) -> None:
        layers = list(network.children())
        self._linears = [layer for layer in layers if isinstance(layer, nn.Linear)]
        places = [index for index, layer in enumerate(layers) if isinstance(layer, nn.Linear)]
        following = [layers[place + 1] if place + 1 < len(layers) else None for place in places]
        self._slopes = [None if layer is None else SLOPES.get(type(layer)) for layer in following]
        self._buffers: dict[int, list[tuple[Tensor, Tensor, Tensor]]] = {}
        self._inputs: list[Tensor] = []

    def _of(self, n_rows: int) -> list[tuple[Tensor, Tensor, Tensor]]:
        """For each layer: what comes out of it, that after its activation, and the gradient of what goes in."""
        if n_rows not in self._buffers:
            self._buffers[n_rows] = [
                (
                    layer.weight.new_empty(n_rows, layer.out_features),
                    layer.weight.new_empty(n_rows, layer.out_features),
                    layer.weight.new_empty(n_rows, layer.in_features),
                )
                for layer in self._linears
            ]
        return self._buffers[n_rows]

    def forward(self, x: Tensor) -> Tensor:
        """(n, in) → (n, out), valid until the next call."""
        self._inputs = []
        for layer, slope, (before, after, _) in zip(self._linears, self._slopes, self._of(len(x)), strict=True):
            self._inputs.append(x)
            torch.addmm(layer.bias, x, layer.weight.t(), out=before)
            if slope is not None:
                slope.forward(before, after)
            x = before if slope is None else after
        return x

    def backward(self, gradient: Tensor, *, of_input: bool) -> Tensor:
        """Write the gradients of all parameters; gives that of the input, if it is wanted. Changes `gradient`."""
        steps = zip(self._linears, self._slopes, self._of(len(gradient)), self._inputs, strict=True)
        for index, (layer, slope, (before, after, back), x) in reversed(list(enumerate(steps))):
            if slope is not None:
                slope.backward(gradient, before, after)
            assert layer.weight.grad is not None
            assert layer.bias.grad is not None
            torch.mm(gradient.t(), x, out=layer.weight.grad)
            torch.sum(gradient, 0, out=layer.bias.grad)
            if index or of_input:
                gradient = torch.mm(gradient, layer.weight, out=back)
        return gradient


def is_chain(network: nn.Module) -> bool:
    """Whether a network is linear layers with an activation of known slope, or none, behind each."""
    if not isinstance(network, nn.Sequential) or not len(network) or not isinstance(network[0], nn.Linear):
        return False
    kinds = [type(layer) for layer in network]
    known = all(
        kind is nn.Linear or (kind in SLOPES and kinds[place - 1] is nn.Linear) for place, kind in enumerate(kinds)
    )
    return known and all(layer.bias is not None for layer in network if isinstance(layer, nn.Linear))


def is_explicit(objective: Objective) -> bool:
    """Whether the backward pass of an objective can be written out."""
    if type(objective) is not Objective or not (is_chain(objective.encoder) and is_chain(objective.decoder)):
        return False
    choices, parameters = objective.choices, list(objective.parameters())
    linears = [layer for layer in objective.modules() if isinstance(layer, nn.Linear)]
    return (
        not objective.context.n_conditions
        and 2 * len(linears) == len(parameters)
        and all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in parameters)
        and (choices.penalty is None or choices.penalty.on_code)
        and not (isinstance(choices.code, Gaussian) and choices.code.n_samples > 1)
    )


class ExplicitGradient:
    """Computes the parts of the loss of a batch and writes the gradient of the total.

    Parameters
    ----------
    objective
        One for which `is_explicit` holds, with gradients to write to.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective, self.choices = objective, objective.choices
        self.encoder, self.decoder = Chain(objective.encoder), Chain(objective.decoder)
        self._zero = next(objective.parameters()).detach().new_zeros(())
        self.is_identity = isinstance(self.choices.code, Plain) and self.choices.code.activation is None

    @torch.no_grad()
    def __call__(self, x: Tensor, generator: torch.Generator | None) -> LossParts:
        """As `Objective.forward`, and the gradients of all parameters."""
        objective = self.objective
        given = objective.corrupt(objective.filled(x), generator)
        h = self.encoder.forward(given)
        z, prior, code_backward = self._code(h, generator)
        reconstruction, gradient = self.choices.loss.gradient(self.decoder.forward(z), x)
        of_code = self.decoder.backward(gradient, of_input=True)
        penalty, of_penalty = self._penalty(given, z, generator)
        of_code = of_code if of_penalty is None else of_code.add_(of_penalty)
        self.encoder.backward(code_backward(of_code), of_input=False)
        return LossParts(reconstruction + penalty + prior, reconstruction, penalty, prior)

    def _code(self, h: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor, Callable[[Tensor], Tensor]]:
        """The codes, their prior, and what turns the gradient of the codes into that of the encoder's output."""
        if self.is_identity:
            return h, self._zero, lambda gradient: gradient
        with torch.enable_grad():
            leaf = h.detach().requires_grad_()
            coded = self.objective.code(leaf, generator)
            prior = None if coded.prior is None else coded.prior.mean() / self.objective.n_terms

        def backward(gradient: Tensor) -> Tensor:
            outputs = [coded.z] if prior is None else [coded.z, prior]
            ones = [gradient] if prior is None else [gradient, torch.ones_like(prior)]
            return torch.autograd.grad(outputs, leaf, ones)[0].contiguous()

        return coded.z.detach(), self._zero if prior is None else prior.detach(), backward

    def _penalty(self, given: Tensor, z: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor | None]:
        if self.choices.penalty is None:
            return self._zero, None
        with torch.enable_grad():
            leaf = z.detach().requires_grad_()
            penalty = self.choices.penalty.penalize(Encoding(given, leaf, self.objective.encode, None, None, generator))
        return penalty.detach(), torch.autograd.grad(penalty, leaf)[0]
