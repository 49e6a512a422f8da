"""One step of training: the objective, its gradient, the optimiser, over flat buffers."""

from __future__ import annotations

import torch
from torch import Tensor, nn

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

    def __call__(self, x: Tensor, learning_rate: float, generator: torch.Generator | None) -> LossParts:
        """Train on one batch of scaled rows, (n, d)."""
        self.flat.gradients.zero_()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            parts: LossParts = self.objective(x, generator)
        parts.total.backward()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_([self.flat.values], self.clip_norm)
        self.optimizer.param_groups[0]["lr"] = learning_rate
        self.optimizer.step()
        return parts
