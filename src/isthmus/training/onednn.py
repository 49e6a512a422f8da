"""Linear layers by oneDNN if it is faster than MKL."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

SHARED_PRODUCT = 4e6
"""The number of operations from which oneDNN is faster on one thread; its calls cost 12 µs, MKL's 2 µs."""
LARGE_PRODUCT = 2e7
"""The same for several threads, because oneDNN distributes also products of medium size."""
LEARNED_PRODUCT = 1e8
"""The same for a product with a gradient, whose Python part costs another 60 µs."""


@cache
def onednn_linear() -> Callable[..., Tensor] | None:
    """The linear layer of oneDNN on AMD processors with AVX-512, which MKL does not use there; else None.

    (256, 784) × (784, 128) takes 240 µs by oneDNN and 520 µs by MKL on one core. The function is private to torch, so
    it is None also for versions of torch without it.
    """
    known: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    is_amd = "AMD" in str(known.get("cpu_name")) and bool(known.get("avx512_f")) and torch.backends.mkl.is_available()
    if not (is_amd and torch.backends.mkldnn.is_available()):
        return None
    return getattr(getattr(torch.ops.mkldnn, "_linear_pointwise", None), "default", None)


def prefers_onednn(weight: Tensor, n_rows: int) -> bool:
    """Whether products of a weight, (out, in), with a number of rows are faster by oneDNN, if it is used at all."""
    if torch.is_grad_enabled():
        least = LEARNED_PRODUCT
    else:
        least = SHARED_PRODUCT if torch.get_num_threads() == 1 else LARGE_PRODUCT
    return weight.dtype == torch.float32 and 2.0 * n_rows * weight.numel() >= least


class LearnedLinear(torch.autograd.Function):
    """A linear layer: forward by oneDNN, backward by MKL, because both are equally fast there.

    A recommender's last layer, (256, 600) × (600, 3533), takes 10.8 ms forward by oneDNN and 21.4 by MKL; each of its
    two gradients takes 11 to 14 ms by either.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.has_bias = bias is not None
        linear = onednn_linear()
        assert linear is not None
        return linear(x, weight, bias, "none", [], "")

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,), (x, weight) = gradients, ctx.saved_tensors
        needs_x, needs_weight, _ = ctx.needs_input_grad
        return (
            gradient @ weight if needs_x else None,
            gradient.t() @ x if needs_weight else None,
            gradient.sum(0) if ctx.has_bias else None,
        )


def through(network: nn.Module, x: Tensor) -> Tensor:
    """The output of a network, (n, in) → (n, out), by the faster matrix library.

    A network with hooks is called directly, because hooks are called by layers. So is a network that is not a sequence
    of layers, and every network during tracing, which would fix the choice for one number of rows.
    """
    linear = None if torch.compiler.is_compiling() else onednn_linear()
    is_plain = x.device.type == "cpu" and x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    if linear is None or not is_plain or type(network) is not nn.Sequential or is_watched(network):
        out: Tensor = network(x)
        return out
    for layer in network:
        if type(layer) is not nn.Linear or not prefers_onednn(layer.weight, len(x)):
            x = layer(x)
        elif torch.is_grad_enabled():
            x = LearnedLinear.apply(x, layer.weight, layer.bias)  # type: ignore[no-untyped-call]
        else:
            x = linear(x, layer.weight, layer.bias, "none", [], "")
    return x


def is_watched(network: nn.Module) -> bool:
    """Whether a layer has a hook."""
    hooks = (
        "_forward_hooks",
        "_forward_pre_hooks",
        "_backward_hooks",
        "_backward_pre_hooks",
    )  # torch has no public attribute
    return any(getattr(layer, name) for layer in network.modules() for name in hooks)
