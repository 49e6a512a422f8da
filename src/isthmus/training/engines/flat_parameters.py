"""All learned numbers of a module in one buffer."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

LARGE = 2**15
"""Numbers from which a parameter goes before the others."""


def is_wide(tensor: Tensor) -> bool:
    """Whether a tensor is a matrix, (out, in), with its shorter side first.

    MKL shares a gradient among threads only where the longer side goes first: that of 128 × 784 as a product of that
    shape takes 275 µs with two threads, its transpose 48 µs.
    """
    return tensor.dim() == 2 and tensor.shape[0] < tensor.shape[1]


class FlatParameters:
    """All learned numbers of a module in one buffer and their gradients in another.

    The module's parameters become views, so that the optimiser, the norm of the gradient and a snapshot of the weights
    are one call each for any number of layers. Matrices are stored transposed where this makes products faster.

    Parameters
    ----------
    module
        Its parameters are moved.
    lies
        Which weights are stored transposed; only speed depends on it.

    Examples
    --------
    >>> layer = nn.Linear(2, 3)
    >>> flat = FlatParameters(layer)
    >>> flat.values.shape
    torch.Size([9])
    >>> flat.values.data.fill_(1.0)[0], layer.bias[0].item()
    (tensor(1.), 1.0)
    """

    def __init__(self, module: nn.Module, lies: Callable[[Tensor], bool] = is_wide) -> None:
        self._parameters = _code_last(module)
        self._transposed = [lies(parameter) for parameter in self._parameters]
        pairs = zip(self._parameters, self._transposed, strict=True)
        pieces = [(p.detach().t() if transposed else p.detach()).reshape(-1) for p, transposed in pairs]
        self.values = nn.Parameter(torch.cat(pieces) if pieces else torch.zeros(0))
        self.gradients = self.values.grad = torch.zeros_like(self.values)
        for parameter, value, gradient in self._views():
            parameter.data, parameter.grad = value, gradient

    def _views(self) -> list[tuple[nn.Parameter, Tensor, Tensor]]:
        sizes = [parameter.numel() for parameter in self._parameters]
        values, gradients = self.values.detach().split(sizes), self.gradients.split(sizes)
        triples = zip(self._parameters, values, gradients, self._transposed, strict=True)
        return [
            (parameter, _shaped(value, parameter, transposed), _shaped(gradient, parameter, transposed))
            for parameter, value, gradient, transposed in triples
        ]

    def spread(self, numbers: Mapping[nn.Parameter, float], otherwise: float) -> Tensor:
        """One number for each parameter, in a buffer like `values`."""
        pieces = [self.values.new_full((p.numel(),), numbers.get(p, otherwise)) for p in self._parameters]
        return torch.cat(pieces).detach()

    def portable(self, flat: Tensor) -> Tensor:
        """A copy of a buffer like `values` with the longer side of every matrix first, on any machine."""
        return self._turned(flat, self._transposed)

    def laid(self, portable: Tensor) -> Tensor:
        """The inverse of `portable`."""
        return self._turned(portable, [is_wide(parameter) for parameter in self._parameters])

    def _turned(self, flat: Tensor, transposed: list[bool]) -> Tensor:
        """A copy in which the matrices that `portable` and `values` store differently are transposed."""
        sizes = [parameter.numel() for parameter in self._parameters]
        pieces = []
        for parameter, piece, now, here in zip(
            self._parameters, flat.detach().split(sizes), transposed, self._transposed, strict=True
        ):
            matrix = _shaped(piece, parameter, now)
            pieces.append(piece if is_wide(parameter) == here else (matrix if now else matrix.t()).reshape(-1))
        return torch.cat(pieces) if pieces else flat.detach().clone()

    def release(self) -> None:
        """Give every parameter its own storage again, and drop the gradients."""
        for parameter in self._parameters:
            parameter.data = parameter.detach().clone(memory_format=torch.contiguous_format)
            parameter.grad = None


def _shaped(flat: Tensor, like: Tensor, transposed: bool) -> Tensor:
    """A piece of the flat buffer in a parameter's shape."""
    return flat.view(like.shape[::-1]).t() if transposed else flat.view(like.shape)


def _code_last(module: nn.Module) -> list[nn.Parameter]:
    """The learned parameters: those of the layers next to the code last, large ones before small ones.

    The order is that of the checkpoints, so it must stay: another one would load old files with weights exchanged.
    """
    parts = dict(module.named_children())
    encoder, decoder = (list(parts[name].children()) if name in parts else [] for name in ("encoder", "decoder"))
    near = {id(parameter) for layer in (*encoder[-2:], *decoder[:1]) for parameter in layer.parameters()}
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return sorted(learned, key=lambda parameter: (id(parameter) in near, parameter.numel() < LARGE))
