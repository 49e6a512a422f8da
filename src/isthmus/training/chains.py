"""Chains of linear layers and activations, forward and back by hand, into buffers that are kept.

A step's products are short, so what surrounds them counts: nothing is allocated, every view is made once, and of a wide
first or last layer each thread multiplies, and later moves, the same part of the weights every time, so that these stay
in that core's cache. Dealt out anew in every product, they travel between the cores, which can cost more than a
second core brings (S1's step on two cores that share no cache: 1.46 ms so, 0.76 ms in parts that stay).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

aten = torch.ops.aten

SHARED_PRODUCT = 4e6
"""Floating-point operations of a product from which threads share it. Three products of 0.3 · 10⁶ after one of
6 · 10⁶ take 40 µs longer where the matrix library shares them too."""
ALONE = 2**15
"""Numbers from which a weight is worth being split among threads; torch's own limit for doing so."""


class Slope(NamedTuple):
    """An activation and its derivative, both into a given buffer."""

    forward: Callable[[Tensor, Tensor], object]
    """Takes what goes in and the buffer for what comes out."""
    backward: Callable[[Tensor, Tensor, Tensor], object]
    """Takes the gradient, which is changed in place, what went in and what came out."""
    in_place: bool = False
    """Whether the derivative is known from what came out, so that what went in may be overwritten."""


SLOPES: dict[type[nn.Module], Slope] = {
    nn.ReLU: Slope(
        lambda x, out: torch.clamp_min(x, 0.0, out=out),
        lambda g, _, y: aten.threshold_backward.grad_input(g, y, 0.0, grad_input=g),
        in_place=True,
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
        in_place=True,
    ),
    nn.Tanh: Slope(
        lambda x, out: torch.tanh(x, out=out),
        lambda g, _, y: aten.tanh_backward.grad_input(g, y, grad_input=g),
        in_place=True,
    ),
}
"""The activations that have a derivative here; networks with others take the general path."""


def is_wide(weight: Tensor) -> bool:
    """Whether a weight, (out, in), lies in memory as its transpose: the longer side goes first.

    The gradient of a weight of the other shape is a product that the matrix library cannot share among threads.
    """
    return weight.dim() == 2 and weight.shape[0] < weight.shape[1]


def use_threads(n_threads: int) -> None:
    """Let what follows be shared by so many threads."""
    if torch.get_num_threads() != n_threads:
        torch.set_num_threads(n_threads)


class Product:
    """A linear layer with its activation, for batches of one size.

    Parameters
    ----------
    layer
        Its parameters have gradients to write to.
    slope
        The activation, or None.
    n_rows
        Rows of every batch.
    """

    def __init__(self, layer: nn.Linear, slope: Slope | None, n_rows: int) -> None:
        self.weight, self.bias = layer.weight.detach(), layer.bias.detach()
        assert layer.weight.grad is not None
        assert layer.bias.grad is not None
        self.weight_gradient, self.bias_gradient, self.slope = layer.weight.grad, layer.bias.grad, slope
        self.wide, self.transposed = is_wide(self.weight), self.weight.t()
        self.transposed_gradient = self.weight_gradient.t()
        self.before = self.weight.new_empty(n_rows, layer.out_features)
        self.after = self.before if slope is None or slope.in_place else torch.empty_like(self.before)
        self.back = self.weight.new_empty(n_rows, layer.in_features)
        self.given = self.back
        is_shared = 2.0 * n_rows * self.weight.numel() >= SHARED_PRODUCT
        self.n_threads = torch.get_num_threads() if is_shared else 1

    def forward(self, x: Tensor) -> Tensor:
        """(n, in) → (n, out), valid until the next call."""
        use_threads(self.n_threads)
        self.given = x
        self.multiply(x)
        if self.slope is not None:
            self.slope.forward(self.before, self.after)
        return self.after

    def multiply(self, x: Tensor) -> None:
        """Fill `before`."""
        torch.addmm(self.bias, x, self.transposed, out=self.before)

    def backward(self, gradient: Tensor, *, of_input: bool) -> Tensor:
        """Write the gradients of the parameters; gives that of the input, if it is wanted. Changes `gradient`."""
        use_threads(self.n_threads)
        if self.slope is not None:
            self.slope.backward(gradient, self.before, self.after)
        self.differentiate(gradient)
        return self.multiply_back(gradient) if of_input else gradient

    def differentiate(self, gradient: Tensor) -> None:
        """Fill the gradients of weight and bias."""
        if self.wide:
            torch.mm(self.given.t(), gradient, out=self.transposed_gradient)
        else:
            torch.mm(gradient.t(), self.given, out=self.weight_gradient)
        torch.sum(gradient, 0, out=self.bias_gradient)

    def multiply_back(self, gradient: Tensor) -> Tensor:
        """The gradient of the input, (n, in)."""
        return torch.mm(gradient, self.weight, out=self.back)


class SplitInput(Product):
    """A product whose input features are dealt out: each thread takes its columns of the rows, and its weights.

    ::

        x (n, in) = x_1 | x_2      x W' = x_1 W_1' + x_2 W_2'
    """

    def __init__(self, layer: nn.Linear, slope: Slope | None, n_rows: int, n_parts: int) -> None:
        super().__init__(layer, slope, n_rows)
        size = layer.in_features // n_parts
        self.parts = self.transposed.view(n_parts, size, -1)
        self.part_gradients = self.transposed_gradient.view_as(self.parts)
        self.sums = self.weight.new_empty(n_parts, n_rows, layer.out_features)
        self.cut = (n_rows, n_parts, size)

    def multiply(self, x: Tensor) -> None:
        self.given = x.view(self.cut).transpose(0, 1)  # (parts, n, in / parts)
        torch.bmm(self.given, self.parts, out=self.sums)
        torch.sum(self.sums, 0, out=self.before).add_(self.bias)

    def differentiate(self, gradient: Tensor) -> None:
        torch.bmm(self.given.transpose(1, 2), gradient.expand_as(self.sums), out=self.part_gradients)
        torch.sum(gradient, 0, out=self.bias_gradient)


class SplitOutput(Product):
    """A product whose output features are dealt out, and stay so: (n, in) → (parts, n, out / parts)."""

    def __init__(self, layer: nn.Linear, n_rows: int, n_parts: int) -> None:
        super().__init__(layer, None, n_rows)
        size = layer.out_features // n_parts
        self.before = self.after = self.weight.new_empty(n_parts, n_rows, size)
        self.parts = self.weight.view(n_parts, size, -1)
        self.columns = self.parts.transpose(1, 2)
        self.part_gradients = self.weight_gradient.view_as(self.parts)
        self.biases, self.bias_gradients = self.bias.view(n_parts, 1, size), self.bias_gradient.view(n_parts, size)
        self.sums = self.weight.new_empty(n_parts, n_rows, layer.in_features)

    def multiply(self, x: Tensor) -> None:
        self.given = x.expand_as(self.sums)
        torch.baddbmm(self.biases, self.given, self.columns, out=self.before)

    def differentiate(self, gradient: Tensor) -> None:
        torch.bmm(gradient.transpose(1, 2), self.given, out=self.part_gradients)
        torch.sum(gradient, 1, out=self.bias_gradients)

    def multiply_back(self, gradient: Tensor) -> Tensor:
        torch.bmm(gradient, self.parts, out=self.sums)
        return torch.sum(self.sums, 0, out=self.back)


class Chain:
    """Linear layers and activations one after the other.

    Parameters
    ----------
    network
        An ``nn.Sequential`` for which `is_chain` holds; its parameters have gradients to write to.
    n_rows
        Rows of every batch.
    split_input, split_output
        Into how many parts the first layer's input and the last layer's output may be dealt out.
    """

    def __init__(self, network: nn.Module, n_rows: int, *, split_input: int = 1, split_output: int = 1) -> None:
        pairs = linears(network)
        self.products = [Product(layer, slope, n_rows) for layer, slope in pairs]
        (first, slope), (last, last_slope) = pairs[0], pairs[-1]
        if _divides(split_input, first.in_features, first) and is_wide(first.weight):
            self.products[0] = SplitInput(first, slope, n_rows, split_input)
        self.splits_output = (
            last_slope is None and _divides(split_output, last.out_features, last) and not is_wide(last.weight)
        )
        if self.splits_output:
            self.products[-1] = SplitOutput(last, n_rows, split_output)
        self._back = self.products[::-1]

    def forward(self, x: Tensor) -> Tensor:
        """(n, in) → (n, out), or (parts, n, out / parts) where the output is split; valid until the next call."""
        for product in self.products:
            x = product.forward(x)
        return x

    def like_output(self, x: Tensor) -> Tensor:
        """Rows, (n, out), in the shape of what comes out."""
        if not self.splits_output:
            return x
        n_parts, n_rows, size = self.products[-1].after.shape
        return x.view(n_rows, n_parts, size).transpose(0, 1)

    def backward(self, gradient: Tensor, *, of_input: bool) -> Tensor:
        """Write the gradients of all parameters; gives that of the input, if it is wanted. Changes `gradient`."""
        for product in self._back:
            gradient = product.backward(gradient, of_input=of_input or product is not self.products[0])
        return gradient


def _divides(n_parts: int, n_features: int, layer: nn.Linear) -> bool:
    return n_parts > 1 and n_features % n_parts == 0 and layer.weight.numel() >= ALONE


def linears(network: nn.Module) -> list[tuple[nn.Linear, Slope | None]]:
    """The linear layers of a chain, each with the slope of the activation behind it."""
    layers = list(network.children())
    following = [*layers[1:], nn.Identity()]
    return [
        (layer, SLOPES.get(type(behind)))
        for layer, behind in zip(layers, following, strict=True)
        if isinstance(layer, nn.Linear)
    ]


def is_chain(network: nn.Module) -> bool:
    """Whether a network is linear layers with an activation of known slope, or none, behind each."""
    if not isinstance(network, nn.Sequential) or not len(network) or not isinstance(network[0], nn.Linear):
        return False
    kinds = [type(layer) for layer in network]
    known = all(
        kind is nn.Linear or (kind in SLOPES and kinds[place - 1] is nn.Linear) for place, kind in enumerate(kinds)
    )
    return known and all(layer.bias is not None for layer in network if isinstance(layer, nn.Linear))
