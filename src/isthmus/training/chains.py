"""Chains of linear layers and activations, forward and back by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from isthmus.choices.layers import Activation, activation_of
from isthmus.training.products import (
    ALONE,
    Slope,
    SplitInput,
    SplitOutput,
    onednn_linear,
    prefers_onednn,
    product_of,
    slope_of,
)


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
        self.products = [product_of(layer, slope, n_rows) for layer, slope in pairs]
        (first, slope), (last, last_slope) = pairs[0], pairs[-1]
        if _divides(split_input, first.in_features, first) and self.products[0].can_split_input:
            self.products[0] = SplitInput(first, slope, n_rows, split_input)
        self.splits_output = (
            last_slope is None
            and _divides(split_output, last.out_features, last)
            and self.products[-1].can_split_output
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


def through(network: nn.Module, x: Tensor) -> Tensor:
    """What a network makes of rows, (n, in) → (n, out): where nothing is learned, by the faster matrix library.

    A network with hooks is called as it is, for these want to see its layers at work.
    """
    linear = onednn_linear()
    is_plain = torch.is_inference_mode_enabled() and x.device.type == "cpu" and x.dtype == torch.float32
    if linear is None or not is_plain or not is_chain(network) or _is_watched(network):
        out: Tensor = network(x)
        return out
    for layer, slope in linears(network):
        fused = "" if slope is None else slope.fused
        if prefers_onednn(layer.weight, len(x)):
            x = linear(x, layer.weight, layer.bias, fused or "none", [], "")
        else:
            x, fused = layer(x), ""
        if slope is not None and not fused:
            given, x = x, torch.empty_like(x)
            slope.forward(given, x)
    return x


def _is_watched(network: nn.Module) -> bool:
    hooks = ("_forward_hooks", "_forward_pre_hooks")  # torch has no public name for whether there are any
    return any(getattr(layer, name) for layer in network.modules() for name in hooks)


def linears(network: nn.Module) -> list[tuple[nn.Linear, Slope | None]]:
    """The linear layers of a chain, each with the slope of the activation behind it."""
    pairs = followed(network)
    return [(layer, None if activation is None else slope_of(activation)) for layer, activation in pairs]


def followed(network: nn.Module) -> list[tuple[nn.Linear, Activation | None]]:
    """The linear layers of a chain, each with the activation behind it, None for none."""
    layers = list(network.children())
    following = [*layers[1:], nn.Identity()]
    return [
        (layer, activation_of(behind))
        for layer, behind in zip(layers, following, strict=True)
        if isinstance(layer, nn.Linear)
    ]


def is_chain(network: nn.Module) -> bool:
    """Whether a network is linear layers with an activation that has a formula, or none, behind each."""
    if not isinstance(network, nn.Sequential) or not len(network) or not isinstance(network[0], nn.Linear):
        return False
    kinds = [type(layer) for layer in network]
    known = all(
        kind is nn.Linear or (kinds[place - 1] is nn.Linear and activation_of(network[place]) is not None)
        for place, kind in enumerate(kinds)
    )
    return known and all(layer.bias is not None for layer in network if isinstance(layer, nn.Linear))
