"""One step of training: the objective, its gradient, the optimiser, over flat buffers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from isthmus.training.explicit import ExplicitGradient, is_explicit
from isthmus.training.objective import LossParts, Objective
from isthmus.training.schedule import Optimizer


class FlatParameters:
    """All learned numbers of a module in one buffer and their gradients in another.

    The module's parameters become views, so that the optimiser, the norm of the gradient and a snapshot of the weights
    are one call each, whatever the number of layers.

    Examples
    --------
    >>> layer = nn.Linear(2, 3)
    >>> flat = FlatParameters(layer)
    >>> flat.values.shape
    torch.Size([9])
    >>> flat.values.data.fill_(1.0)[0], layer.bias[0].item()
    (tensor(1.), 1.0)
    """

    def __init__(self, module: nn.Module) -> None:
        self._parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        pieces = [parameter.detach().reshape(-1) for parameter in self._parameters]
        self.values = nn.Parameter(torch.cat(pieces) if pieces else torch.zeros(0))
        self.gradients = torch.zeros_like(self.values)
        self.values.grad = self.gradients
        for parameter, value, gradient in self._views():
            parameter.data, parameter.grad = value, gradient

    def _views(self) -> list[tuple[nn.Parameter, Tensor, Tensor]]:
        sizes = [parameter.numel() for parameter in self._parameters]
        values, gradients = self.values.detach().split(sizes), self.gradients.split(sizes)
        return [
            (parameter, value.view(parameter.shape), gradient.view(parameter.shape))
            for parameter, value, gradient in zip(self._parameters, values, gradients, strict=True)
        ]

    def release(self) -> None:
        """Give every parameter storage of its own again and drop the gradients."""
        for parameter in self._parameters:
            parameter.data, parameter.grad = parameter.detach().clone(), None


class Step:
    """Runs one batch forward and back and moves the parameters.

    Parameters
    ----------
    objective
        What is trained; its parameters are made flat.
    optimizer
        How parameters follow their gradients.
    precision
        ``"float32"``, ``"tf32"`` (matrix products on CUDA) or ``"bf16"`` (autocast).
    """

    def __init__(self, objective: Objective, optimizer: Optimizer, precision: str = "float32") -> None:
        self.objective, self.precision = objective, precision
        self.flat = FlatParameters(objective)
        self.clip_norm = optimizer.clip_norm
        self.optimizer = optimizer.build(self.flat.values)
        by_hand = precision == "float32" and is_explicit(objective)
        self.explicit = ExplicitGradient(objective) if by_hand else None

    def __call__(self, x: Tensor, learning_rate: float, generator: torch.Generator | None) -> LossParts:
        """Train on one batch of scaled rows, (n, d)."""
        parts = self._by_autograd(x, generator) if self.explicit is None else self.explicit(x, generator)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_([self.flat.values], self.clip_norm)
        self._move(learning_rate)
        return parts

    def _by_autograd(self, x: Tensor, generator: torch.Generator | None) -> LossParts:
        """The general path: any objective, any device."""
        self.flat.gradients.zero_()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            parts: LossParts = self.objective(x, generator)
        parts.total.backward()
        return parts

    def _move(self, learning_rate: float) -> None:
        """One step of the optimiser: its fused kernel itself where it has one, for `step()` costs more than that."""
        state = self.optimizer.state.get(self.flat.values)
        kernel = _KERNELS.get(type(self.optimizer))
        group = self.optimizer.param_groups[0]
        if not state or kernel is None:
            group["lr"] = learning_rate
            self.optimizer.step()
            return
        state["step"] += 1
        means, squares = [state["exp_avg"]], [state["exp_avg_sq"]]
        (beta1, beta2), decay, epsilon = group["betas"], group["weight_decay"], group["eps"]
        values, gradients = [self.flat.values.detach()], [self.flat.gradients]
        kernel(values, gradients, means, squares, [], [state["step"]], amsgrad=False, maximize=False,
               lr=learning_rate, beta1=beta1, beta2=beta2, weight_decay=decay, eps=epsilon)  # fmt: skip


_KERNELS: dict[type[torch.optim.Optimizer], Any] = {
    kind: getattr(torch, name)
    for kind, name in ((torch.optim.Adam, "_fused_adam_"), (torch.optim.AdamW, "_fused_adamw_"))
    if hasattr(torch, name)  # a private name of torch, which some later version may not have
}
