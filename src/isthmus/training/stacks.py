"""Several networks of one shape as one: the products of all in one batched product, the rest model by model.

So each keeps its own code, corruption, penalty, loss and noise, and ends where it would have ended alone, up to the
rounding of the products.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from isthmus.training.chains import linears
from isthmus.training.devices import use_threads
from isthmus.training.explicit import ExplicitGradient, parts_of
from isthmus.training.objective import LossParts
from isthmus.training.products import Product, Slope

Stack = Tensor | Sequence[Tensor]
"""One tensor a model: (models, n, width), or a sequence where widths differ."""


class StackedProduct:
    """The same layer of several networks, whose weights are rows of one buffer.

    Parameters
    ----------
    layers
        One a model, of one shape, with gradients to write to.
    slope
        Their activation, or None.
    n_rows
        Rows of every batch.
    """

    def __init__(self, layers: Sequence[nn.Linear], slope: Slope | None, n_rows: int) -> None:
        self.slope, first = slope, layers[0]
        weights, gradients = (
            _rows([layer.weight for layer in layers]),
            _rows([_gradient(layer.weight) for layer in layers]),
        )
        self.weight, self.transposed = weights, weights.transpose(1, 2)
        self.bias = _rows([layer.bias for layer in layers]).unsqueeze(1)
        self.bias_gradient = _rows([_gradient(layer.bias) for layer in layers])
        self.wide = weights.stride(2) != 1
        self.weight_gradient = gradients.transpose(1, 2) if self.wide else gradients
        self.fresh = torch.empty(self.weight_gradient.shape)
        self.before = self.weight.new_empty(len(layers), n_rows, first.out_features)
        self.after = self.before if slope is None or slope.fused else torch.empty_like(self.before)
        self.back = self.weight.new_empty(len(layers), n_rows, first.in_features)
        self.given = self.back
        self.n_threads = torch.get_num_threads()

    def forward(self, x: Stack) -> Tensor:
        """(models, n, in) → (models, n, out), valid until the next call."""
        use_threads(self.n_threads)
        self.given = x if isinstance(x, Tensor) else torch.stack(list(x))
        torch.baddbmm(self.bias, self.given, self.transposed, out=self.before)
        if self.slope is not None:
            self.slope.forward(self.before, self.after)
        return self.after

    def backward(self, gradient: Stack, *, of_input: bool) -> Tensor:
        """Write the gradients of the parameters; gives that of the input, if it is wanted. Changes `gradient`."""
        use_threads(self.n_threads)
        gradient = gradient if isinstance(gradient, Tensor) else torch.stack(list(gradient))
        if self.slope is not None:
            self.slope.backward(gradient, self.before, self.after)
        left, right = (self.given, gradient) if self.wide else (gradient, self.given)
        self.weight_gradient.copy_(torch.bmm(left.transpose(1, 2), right, out=self.fresh))
        torch.sum(gradient, 1, out=self.bias_gradient)
        return torch.bmm(gradient, self.weight, out=self.back) if of_input else gradient


class LooseProducts:
    """The same layer of several networks where it has not the same shape: one product a model.

    Parameters
    ----------
    layers, slope, n_rows
        As for `StackedProduct`.
    """

    def __init__(self, layers: Sequence[nn.Linear], slope: Slope | None, n_rows: int) -> None:
        self.products = [Product(layer, slope, n_rows) for layer in layers]

    def forward(self, x: Stack) -> list[Tensor]:
        """One (n, in) a model → one (n, out) a model."""
        return [product.forward(rows) for product, rows in zip(self.products, x, strict=True)]

    def backward(self, gradient: Stack, *, of_input: bool) -> list[Tensor]:
        """As `StackedProduct.backward`, model by model."""
        pairs = zip(self.products, gradient, strict=True)
        return [product.backward(rows, of_input=of_input) for product, rows in pairs]


def _gradient(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _in_rows(tensors: Sequence[Tensor]) -> bool:
    """Whether tensors have one shape and lie at even distances."""
    places = [tensor.storage_offset() for tensor in tensors]
    return len({tensor.shape for tensor in tensors}) == 1 and len({b - a for a, b in pairwise(places)}) == 1


def _rows(tensors: Sequence[Tensor]) -> Tensor:
    """One view of tensors that lie at the same place in consecutive rows of one buffer: (models, *shape)."""
    first, second = tensors[0].detach(), tensors[1].detach()
    distance = second.storage_offset() - first.storage_offset()
    return first.as_strided((len(tensors), *first.shape), (distance, *first.stride()))


class StackedChain:
    """The chains of several networks, layer by layer.

    Parameters
    ----------
    networks
        One a model, for each of which `chains.is_chain` holds.
    n_rows
        Rows of every batch.
    """

    def __init__(self, networks: Sequence[nn.Module], n_rows: int) -> None:
        self.products: list[StackedProduct | LooseProducts] = []
        for pairs in zip(*map(linears, networks), strict=True):
            layers, slope = [layer for layer, _ in pairs], pairs[0][1]
            stacked = all(
                _in_rows(tensors) for tensors in zip(*((layer.weight, layer.bias) for layer in layers), strict=True)
            )
            self.products.append((StackedProduct if stacked else LooseProducts)(layers, slope, n_rows))

    def forward(self, x: Stack) -> Stack:
        """One (n, in) a model → one (n, out) a model."""
        for product in self.products:
            x = product.forward(x)
        return x

    def backward(self, gradient: Stack, *, of_input: bool) -> Stack:
        """Write the gradients of all parameters; gives those of the inputs, if they are wanted. Changes `gradient`."""
        for product in reversed(self.products):
            gradient = product.backward(gradient, of_input=of_input or product is not self.products[0])
        return gradient


class StackedGradient:
    """Computes the parts of the loss of a batch for each of several models, and writes their gradients.

    Parameters
    ----------
    gradients
        What would do so one by one, of networks that `shape_of` says to be alike.
    """

    def __init__(self, gradients: Sequence[ExplicitGradient]) -> None:
        self.gradients = gradients
        self._chains: dict[int, tuple[StackedChain, StackedChain]] = {}
        self.is_bare = all(each.is_identity and each.choices.penalty is None for each in gradients)
        self._one_loss = len({repr(each.choices.loss) for each in gradients}) == 1
        self._zero = torch.zeros(())
        self._n_threads = 1

    def _of(self, n_rows: int) -> tuple[StackedChain, StackedChain]:
        if n_rows not in self._chains:
            self._n_threads = torch.get_num_threads()
            objectives = [each.objective for each in self.gradients]
            self._chains[n_rows] = (
                StackedChain([objective.encoder for objective in objectives], n_rows),
                StackedChain([objective.decoder for objective in objectives], n_rows),
            )
        return self._chains[n_rows]

    @torch.no_grad()
    def __call__(self, x: Tensor, generators: Sequence[torch.Generator | None]) -> list[LossParts]:
        """(models, n, d) → one `LossParts` a model."""
        parts = self._each(x, generators)
        use_threads(self._n_threads)
        return parts

    def _each(self, x: Tensor, generators: Sequence[torch.Generator | None]) -> list[LossParts]:
        encoder, decoder = self._of(x.shape[1])
        given = self._corrupted(x, generators)
        h = encoder.forward(given)
        if self.is_bare:
            means, gradient = self._losses(decoder.forward(h), x)
            encoder.backward(decoder.backward(gradient, of_input=True), of_input=False)
            return [LossParts(mean, mean, self._zero, self._zero) for mean in means]
        coded = [each.code(rows, noise) for each, rows, noise in zip(self.gradients, h, generators, strict=True)]
        reconstructions, gradient = self._losses(decoder.forward([z for z, _, _ in coded]), x)
        of_codes = list(decoder.backward(gradient, of_input=True))
        parts = []
        for index, each in enumerate(self.gradients):
            z, prior, code_backward = coded[index]
            penalty, of_penalty = each.penalty(given[index], z, generators[index])
            of_code = of_codes[index] if of_penalty is None else of_codes[index] + of_penalty
            of_codes[index] = code_backward(of_code)
            parts.append(parts_of(reconstructions[index], penalty, prior))
        encoder.backward(of_codes, of_input=False)
        for each in self.gradients:
            each.add_penalized()
        return parts

    def _corrupted(self, x: Tensor, generators: Sequence[torch.Generator | None]) -> Stack:
        if all(each.choices.corruption is None and not each.choices.loss.admits_missing for each in self.gradients):
            return x
        triples = zip(self.gradients, x, generators, strict=True)
        return [each.corrupted(rows, generator) for each, rows, generator in triples]

    def _losses(self, output: Stack, x: Tensor) -> tuple[Sequence[Tensor], Stack]:
        """The loss of each model and the gradients of all outputs, which lie where the outputs did."""
        if self._one_loss and isinstance(output, Tensor):
            return self.gradients[0].choices.loss.gradients(output, x)
        means = []
        for each, rows, target in zip(self.gradients, output, x, strict=True):
            mean, gradient = each.choices.loss.gradient(rows, target)
            if gradient.data_ptr() != rows.data_ptr():
                rows.copy_(gradient)
            means.append(mean)
        return means, output


def shape_of(gradient: ExplicitGradient) -> tuple[Any, ...]:
    """What two models must have in common to be stacked: every width but that of the code, and the activations."""
    layers = [linears(network) for network in (gradient.objective.encoder, gradient.objective.decoder)]
    widths = [[layer.in_features for layer, _ in layers[0]], [layer.out_features for layer, _ in layers[1]]]
    return (*map(tuple, widths), *(slope for part in layers for _, slope in part))
