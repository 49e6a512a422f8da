"""Linear layers with their activations, forward and back by hand, by whichever matrix library is the faster.

A step's products are short, so what surrounds them counts: hardly anything is allocated, every view is made once, and
of a wide first or last layer each thread multiplies, and later moves, the same part of the weights every time, so that
these stay in that core's cache. Dealt out anew in every product, they travel between the cores, which can cost more
than a second core brings (S1's step on two cores that share no cache: 1.46 ms so, 0.76 ms in parts that stay).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from isthmus.choices.formulas import as_numbers, differentiated
from isthmus.choices.layers import Activation
from isthmus.training.devices import use_threads

aten = torch.ops.aten

SHARED_PRODUCT = 4e6
"""Floating-point operations of a product from which threads share it. Three products of 0.3 · 10⁶ after one of
6 · 10⁶ take 40 µs longer where the matrix library shares them too."""
LARGE_PRODUCT = 2e7
"""Floating-point operations of a product from which oneDNN shares it with profit."""
ALONE = 2**15
"""Numbers from which a weight is worth being split among threads; torch's own limit for doing so."""


class Slope(NamedTuple):
    """An activation and its derivative, both into a given buffer."""

    forward: Callable[[Tensor, Tensor], object]
    """Takes what goes in and the buffer for what comes out."""
    backward: Callable[[Tensor, Tensor, Tensor], object]
    """Takes the gradient, which is changed in place, what went in and what came out."""
    fused: str = ""
    """oneDNN's name, where the derivative is known from what came out, so that what went in may be overwritten."""


KERNELS: dict[str, Slope] = {
    "relu": Slope(
        lambda x, out: torch.clamp_min(x, 0.0, out=out),
        lambda g, _, y: aten.threshold_backward.grad_input(g, y, 0.0, grad_input=g),
        fused="relu",
    ),
    "gelu": Slope(
        lambda x, out: aten.gelu.out(x, out=out), lambda g, x, _: aten.gelu_backward.grad_input(g, x, grad_input=g)
    ),
    "silu": Slope(
        lambda x, out: aten.silu.out(x, out=out), lambda g, x, _: aten.silu_backward.grad_input(g, x, grad_input=g)
    ),
    "sigmoid": Slope(
        lambda x, out: torch.sigmoid(x, out=out),
        lambda g, _, y: aten.sigmoid_backward.grad_input(g, y, grad_input=g),
        fused="sigmoid",
    ),
    "tanh": Slope(
        lambda x, out: torch.tanh(x, out=out),
        lambda g, _, y: aten.tanh_backward.grad_input(g, y, grad_input=g),
        fused="tanh",
    ),
}
"""Activations for which torch has kernels that work in place. They allocate nothing: by its formula a GELU of
(128, 512) takes five passes over memory, forward and back, for one each."""


@cache
def slope_of(activation: Activation) -> Slope:
    """An activation and its derivative: by torch's kernels, or as its formula says."""
    if activation.kind is not None and activation.name in KERNELS:
        return KERNELS[activation.name]

    def backward(gradient: Tensor, x: Tensor, _: Tensor) -> Tensor:
        return gradient.mul_(as_numbers(differentiated(activation.function, x).slopes[0], x))

    return Slope(lambda x, out: out.copy_(activation.function(x)), backward)


@cache
def onednn_linear() -> Callable[..., Tensor] | None:
    """The linear layer of oneDNN where it is faster than MKL: on AMD processors with AVX-512, which MKL does not use.

    (256, 784) × (784, 128) takes 240 µs by the one and 520 µs by the other on one core. None elsewhere, and where this
    torch does not have it: its name is private to torch.
    """
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    is_amd = "AMD" in str(known.get("cpu_name")) and bool(known.get("avx512_f")) and torch.backends.mkl.is_available()
    if not (is_amd and torch.backends.mkldnn.is_available()):
        return None
    return getattr(getattr(torch.ops.mkldnn, "_linear_pointwise", None), "default", None)


def prefers_onednn(weight: Tensor, n_rows: int) -> bool:
    """Whether products of a weight, (out, in), with so many rows are a matter for oneDNN.

    It takes 12 µs a call, and deals middling products out among threads anew each time: parts that stay do better.
    """
    least = SHARED_PRODUCT if torch.get_num_threads() == 1 else LARGE_PRODUCT
    is_large = weight.dim() == 2 and 2.0 * n_rows * weight.numel() >= least
    return is_large and weight.dtype == torch.float32 and onednn_linear() is not None


def lies_transposed(weight: Tensor, n_rows: int) -> bool:
    """Whether a weight, (out, in), is to lie in memory as its transpose, for speed with so many rows.

    MKL cannot share the gradient among threads unless the longer side goes first; oneDNN is quicker, and has less to
    reorder, where the shorter does.
    """
    if prefers_onednn(weight, n_rows):
        return weight.shape[0] > weight.shape[1]
    return is_wide(weight)


def is_wide(weight: Tensor) -> bool:
    """Whether a tensor is a matrix, (out, in), with its shorter side first."""
    return weight.dim() == 2 and weight.shape[0] < weight.shape[1]


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
        self.lies_transposed, self.transposed = self.weight.stride(1) != 1, self.weight.t()
        self.transposed_gradient = self.weight_gradient.t()
        self.before = self.weight.new_empty(n_rows, layer.out_features)
        self.after = self.before if slope is None or slope.fused else torch.empty_like(self.before)
        self.back = self.weight.new_empty(n_rows, layer.in_features)
        self.given = self.back
        is_shared = 2.0 * n_rows * self.weight.numel() >= SHARED_PRODUCT
        self.n_threads = torch.get_num_threads() if is_shared else 1

    @property
    def can_split_input(self) -> bool:
        """Whether input features may be dealt out to threads: rows of the transposed weight are neighbours."""
        return self.lies_transposed

    @property
    def can_split_output(self) -> bool:
        """Whether output features may be dealt out to threads: rows of the weight are neighbours."""
        return not self.lies_transposed

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
        if self.lies_transposed:
            torch.mm(self.given.t(), gradient, out=self.transposed_gradient)
        else:
            torch.mm(gradient.t(), self.given, out=self.weight_gradient)
        torch.sum(gradient, 0, out=self.bias_gradient)

    def multiply_back(self, gradient: Tensor) -> Tensor:
        """The gradient of the input, (n, in)."""
        return torch.mm(gradient, self.weight, out=self.back)


class OneDnnProduct(Product):
    """A product by oneDNN, the activation in it where it has that; what comes out is a new tensor every time."""

    can_split_input = can_split_output = False

    def __init__(self, layer: nn.Linear, slope: Slope | None, n_rows: int, linear: Callable[..., Tensor]) -> None:
        super().__init__(layer, slope, n_rows)
        self.linear = linear
        self.fused = slope.fused if slope is not None else ""

    def forward(self, x: Tensor) -> Tensor:
        use_threads(self.n_threads)
        self.given = x
        self.before = self.after = self.linear(x, self.weight, self.bias, self.fused or "none", [], "")
        if self.slope is not None and not self.fused:
            self.after = torch.empty_like(self.before)
            self.slope.forward(self.before, self.after)
        return self.after

    def differentiate(self, gradient: Tensor) -> None:
        if self.lies_transposed:
            self.transposed_gradient.copy_(self._product(self.given.t(), gradient.t()))
        else:
            self.weight_gradient.copy_(self._product(gradient.t(), self.given.t()))
        torch.sum(gradient, 0, out=self.bias_gradient)

    def multiply_back(self, gradient: Tensor) -> Tensor:
        return self._product(gradient, self.transposed)

    def _product(self, left: Tensor, right: Tensor) -> Tensor:
        """``left @ right.T``."""
        return self.linear(left, right, None, "none", [], "")


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


def product_of(layer: nn.Linear, slope: Slope | None, n_rows: int) -> Product:
    """A layer for batches of that size, by the faster matrix library."""
    linear = onednn_linear() if prefers_onednn(layer.weight, n_rows) else None
    return Product(layer, slope, n_rows) if linear is None else OneDnnProduct(layer, slope, n_rows, linear)
