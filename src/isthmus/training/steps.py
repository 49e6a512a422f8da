"""One step of training: the objective, its gradient, the optimiser, over flat buffers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import groupby

import torch
from torch import Tensor, nn

from isthmus.choices.draws import drawn_from
from isthmus.training.compiled.engine import (
    CompiledSteps,
    StepChunk,
    compiles,
    draws_compiled,
    fresh_keys,
    kl_weight_of,
    lying,
)
from isthmus.training.explicit import ExplicitGradient, is_explicit
from isthmus.training.objective import LossParts, Objective
from isthmus.training.products import ALONE, is_wide, lies_transposed
from isthmus.training.schedule import Optimizer


class FlatParameters:
    """All learned numbers of a module in one buffer and their gradients in another.

    The module's parameters become views, so that the optimiser, the norm of the gradient and a snapshot of the weights
    are one call each, whatever the number of layers. Matrices lie there transposed where products are faster so.

    Parameters
    ----------
    module
        Its parameters are moved.
    lies
        Which weights are to lie transposed; nothing but speed depends on it.

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
        self._adopt(torch.zeros_like(self.values))

    def _adopt(self, gradients: Tensor) -> None:
        self.gradients = self.values.grad = gradients
        for parameter, value, gradient in self._views():
            parameter.data, parameter.grad = value, gradient

    def move_to(self, values: Tensor, gradients: Tensor) -> None:
        """Go on in buffers given from outside, of the same length."""
        values.copy_(self.values.detach())
        self.values.grad = None
        self.values.data = values
        self._adopt(gradients)

    def _views(self) -> list[tuple[nn.Parameter, Tensor, Tensor]]:
        sizes = [parameter.numel() for parameter in self._parameters]
        values, gradients = self.values.detach().split(sizes), self.gradients.split(sizes)
        triples = zip(self._parameters, values, gradients, self._transposed, strict=True)
        return [
            (parameter, _shaped(value, parameter, transposed), _shaped(gradient, parameter, transposed))
            for parameter, value, gradient, transposed in triples
        ]

    def portable(self, flat: Tensor) -> Tensor:
        """A copy of a buffer like `values` with the longer side of every matrix first, whatever machine and batches."""
        return self._turned(flat, self._transposed)

    def laid(self, portable: Tensor) -> Tensor:
        """The inverse of `portable`."""
        return self._turned(portable, [is_wide(parameter) for parameter in self._parameters])

    def _turned(self, flat: Tensor, transposed: list[bool]) -> Tensor:
        """A copy in which matrices that lie `transposed` or not are turned, where `portable` differs from `values`."""
        sizes = [parameter.numel() for parameter in self._parameters]
        pieces = []
        for parameter, piece, now, here in zip(
            self._parameters, flat.detach().split(sizes), transposed, self._transposed, strict=True
        ):
            matrix = _shaped(piece, parameter, now)
            pieces.append(piece if is_wide(parameter) == here else (matrix if now else matrix.t()).reshape(-1))
        return torch.cat(pieces) if pieces else flat.detach().clone()

    def segments(self) -> list[int]:
        """Lengths of the pieces that one thread should always move the same half of: each large parameter, the rest."""
        alone = [(parameter.numel() >= ALONE, index) for index, parameter in enumerate(self._parameters)]
        groups = groupby(alone, key=lambda pair: pair[1] if pair[0] else -1)
        return [sum(self._parameters[index].numel() for _, index in group) for _, group in groups]

    def release(self) -> None:
        """Give every parameter storage of its own again and drop the gradients."""
        for parameter in self._parameters:
            parameter.data = parameter.detach().clone(memory_format=torch.contiguous_format)
            parameter.grad = None


def _shaped(flat: Tensor, like: Tensor, transposed: bool) -> Tensor:
    """A piece of the flat buffer in a parameter's shape."""
    return flat.view(like.shape[::-1]).t() if transposed else flat.view(like.shape)


def _code_last(module: nn.Module) -> list[nn.Parameter]:
    """The parameters that are learned, those of the layers next to the code behind all others, large before small.

    Networks that differ in the size of the code then have the others at the same places, and the small ones are moved
    together.
    """
    parts = dict(module.named_children())
    encoder, decoder = (list(parts[name].children()) if name in parts else [] for name in ("encoder", "decoder"))
    near = {id(parameter) for layer in (*encoder[-2:], *decoder[:1]) for parameter in layer.parameters()}
    learned = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return sorted(learned, key=lambda parameter: (id(parameter) in near, parameter.numel() < ALONE))


class FusedKernel:
    """A fused kernel of torch that is a whole step of an optimiser.

    Called itself, it takes a tenth of what torch's ``step()`` takes for small networks, and spares the second that
    torch needs to load what its optimisers want.
    """

    def __init__(self, kernel: Callable[..., None], settings: dict[str, float]) -> None:
        self.kernel, self.settings = kernel, settings

    @classmethod
    def of(cls, optimizer: Optimizer) -> FusedKernel | None:
        """That of an optimiser, if it has one and this torch has that: its name is private to torch."""
        kernel = getattr(torch, optimizer.kernel or "", None)
        return None if kernel is None else cls(kernel, optimizer.kernel_settings())

    def __call__(self, pieces: tuple[list[Tensor], ...], step: Tensor, learning_rate: float | Tensor) -> None:
        """Move values along gradients, given with both running means in pieces; `step` counts from one."""
        values, gradients, means, squares = pieces
        step += 1
        if step.device.type == "cpu" and int(step) % SWEEP_EVERY == 0:
            _sweep(*means, *squares)
        self.kernel(values, gradients, means, squares, [], [step] * len(values), lr=learning_rate,
                    amsgrad=False, maximize=False, **self.settings)  # fmt: skip


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
    n_rows
        Rows of the usual batch; nothing but speed depends on it.
    n_steps
        Steps that are to be taken; whether it is worth compiling them depends on it.
    """

    def __init__(
        self,
        objective: Objective,
        optimizer: Optimizer,
        precision: str = "float32",
        n_rows: int = 1,
        n_steps: int = 0,
    ) -> None:
        self.objective, self.precision = objective, precision
        self._draws_unseen = objective.draws_unseen()
        by_hand = precision == "float32" and is_explicit(objective)
        is_compiled = by_hand and compiles(objective, optimizer, n_rows, n_steps)
        self.flat = FlatParameters(
            objective, lying(objective) if is_compiled else partial(lies_transposed, n_rows=n_rows)
        )
        self.clip_norm = optimizer.clip_norm
        self.fused = FusedKernel.of(optimizer)
        self._optimizer = optimizer.build(self.flat.values) if self.fused is None and not is_compiled else None
        self._state = self._fresh_state()
        self.explicit = ExplicitGradient(objective) if by_hand else None
        self.compiled = CompiledSteps(objective, optimizer, self.flat.values.detach(), n_rows) if is_compiled else None
        self._moved: tuple[list[Tensor], ...] | None = None

    def __call__(self, x: Tensor, learning_rate: float | Tensor, generator: torch.Generator | None) -> LossParts:
        """Train on one batch of scaled rows, (n, d); a rate on the device is read there, at every replay of a graph."""
        if self.compiled is not None:
            return self._compiled(x, float(learning_rate), generator)
        parts = self._by_autograd(x, generator) if self.explicit is None else self.explicit(x, generator)
        self.follow(learning_rate)
        return parts

    @torch.no_grad()
    def _compiled(self, x: Tensor, learning_rate: float, generator: torch.Generator | None) -> LossParts:
        x, target = (rows.contiguous() for rows in self.objective.given_and_target(x))
        is_drawn = draws_compiled(self.objective)
        given = x if is_drawn else self.objective.corrupt(self.objective.filled(x), generator).contiguous()
        charge = kl_weight_of(self.objective, self.objective.code.progress)
        keys = fresh_keys(1, generator)
        parts = self.take(StepChunk(given, target, torch.arange(len(x)), len(x), [learning_rate], [charge], keys))[0]
        return LossParts(parts.sum(), *parts.unbind())

    def take(self, steps: StepChunk, most_threads: int | None = None) -> Tensor:
        """Take several compiled steps, as `CompiledSteps` does; gives reconstruction, penalty, prior, (n_steps, 3)."""
        assert self.compiled is not None
        return self.compiled(steps, self._state, most_threads)

    def follow(self, learning_rate: float | Tensor) -> None:
        """Move the parameters along the gradient that was written."""
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_([self.flat.values], self.clip_norm)
        self._move(learning_rate)

    def _by_autograd(self, x: Tensor, generator: torch.Generator | None) -> LossParts:
        """The general path: any objective, any device."""
        self.flat.gradients.zero_()
        is_half = self.precision == "bf16"
        autocast = torch.autocast(x.device.type, torch.bfloat16, enabled=is_half, cache_enabled=False)
        with autocast, drawn_from(generator if self._draws_unseen else None):
            parts: LossParts = self.objective(x, generator)
        parts.total.backward()
        return parts

    @property
    def moves_on_device(self) -> bool:
        """Whether the optimiser is one kernel that needs nothing of the host."""
        return self.fused is not None

    @property
    def state(self) -> dict[str, Tensor]:
        """The optimiser's running means, by name; to be changed in place."""
        return self._state if self._optimizer is None else self._optimizer.state[self.flat.values]

    def _fresh_state(self) -> dict[str, Tensor]:
        values = self.flat.values.detach()
        means = {name: torch.zeros_like(values) for name in ("exp_avg", "exp_avg_sq")}
        return {"step": values.new_zeros(()), **means} if self._optimizer is None else {}

    def _move(self, learning_rate: float | Tensor) -> None:
        """One step of the optimiser."""
        if self.fused is None:
            assert self._optimizer is not None
            self._optimizer.param_groups[0]["lr"] = float(learning_rate)
            self._optimizer.step()
        else:
            self.fused(self._pieces(self._state), self._state["step"], learning_rate)

    def move_to(self, values: Tensor, gradients: Tensor, *means: Tensor) -> None:
        """Go on in buffers given from outside, of the same lengths; `means` are for the fused kernel's."""
        self.flat.move_to(values, gradients)
        if self.fused is not None:
            for name, mean in zip(("exp_avg", "exp_avg_sq"), means, strict=True):
                self._state[name] = mean.copy_(self._state[name])

    def _pieces(self, state: dict[str, Tensor]) -> tuple[list[Tensor], ...]:
        """Values, gradients and running means in pieces, made once; a checkpoint puts other running means there."""
        if self._moved is None or any(
            piece[0].data_ptr() != now.data_ptr()
            for piece, now in zip(self._moved[1:3], (self.flat.gradients, state["exp_avg"]), strict=True)
        ):
            whole = (self.flat.values.detach(), self.flat.gradients, state["exp_avg"], state["exp_avg_sq"])
            lengths = self.flat.segments() if whole[0].device.type == "cpu" else [whole[0].numel()]
            self._moved = tuple(list(tensor.split(lengths)) for tensor in whole)
        return self._moved


SWEEP_EVERY = 128
"""Steps after which running means that have all but vanished are set to zero."""


def _sweep(*means: Tensor) -> None:
    """Zero what is about to become denormal, with which processors are slow.

    A unit that is silent leaves a running mean that shrinks by a tenth a step, and would stay at the smallest denormal
    for good: after two epochs of S1 Adam took 0.17 ms a step instead of 0.09. No weight moves by such numbers.
    """
    for mean in means:
        mean[mean.abs() < 1e-30] = 0.0
