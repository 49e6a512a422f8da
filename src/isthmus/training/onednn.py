"""Linear layers by oneDNN where it is faster than MKL, for what is only applied."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

SHARED_PRODUCT = 4e6
"""Floating-point operations of a product from which oneDNN is faster on one thread: its calls cost 12 µs, MKL's 2."""
LARGE_PRODUCT = 2e7
"""The same for several threads, among which it deals out middling products anew each time."""


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
    """Whether products of a weight, (out, in), with so many rows are faster by oneDNN, where that is taken at all."""
    least = SHARED_PRODUCT if torch.get_num_threads() == 1 else LARGE_PRODUCT
    return weight.dtype == torch.float32 and 2.0 * n_rows * weight.numel() >= least


def through(network: nn.Module, x: Tensor) -> Tensor:
    """What a network makes of rows, (n, in) → (n, out): where nothing is learned, by the faster matrix library.

    A network with hooks is called as it is, since these want to see its layers at work.
    """
    linear = onednn_linear()
    is_plain = torch.is_inference_mode_enabled() and x.device.type == "cpu" and x.dtype == torch.float32
    if linear is None or not is_plain or type(network) is not nn.Sequential or is_watched(network):
        out: Tensor = network(x)
        return out
    for layer in network:
        if type(layer) is nn.Linear and prefers_onednn(layer.weight, len(x)):
            x = linear(x, layer.weight, layer.bias, "none", [], "")
        else:
            x = layer(x)
    return x


def is_watched(network: nn.Module) -> bool:
    """Whether a hook wants to see a layer at work."""
    hooks = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_backward_pre_hooks",
    )  # torch has no public name
    return any(getattr(layer, name) for layer in network.modules() for name in hooks)
