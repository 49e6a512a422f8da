"""Small autoencoders trained together: one batched matrix product does for all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn
from torch.nn import functional

from isthmus.choices import Corruption, Loss
from isthmus.exceptions import DivergenceError
from isthmus.training.devices import threads_for
from isthmus.training.schedule import Schedule

LARGEST_CODE = 64
LAST_STEPS, WORSE, LEAP = 10, 10.0, 1e4
"""A loss whose median over the last steps is so many times that of the first one, or 1 if that is more, diverged; so
did one that is larger than at first and has once been as many times as large as the last number says.

Rows in units of their deviation have a loss of about 1 for a model that says nothing.
"""


class Ensemble(nn.Module):
    """E dense autoencoders of the same layers and different codes::

        x ──▶ hidden ──▶ h ──▶ z (code) ──▶ hidden ──▶ x^
        └──── linear ────▶┘     └───── linear ────────▶┘

    The linear ways begin as principal components, so that each member begins as PCA of its code size and learns what
    PCA misses; code units that a member does not have are zero.

    Parameters
    ----------
    n_features, output_width
        Numbers in a row, and what the loss wants of the decoder.
    code_sizes
        One for each member.
    hidden_size
        Width of the hidden layers.
    """

    units: Tensor

    def __init__(self, n_features: int, output_width: int, code_sizes: Sequence[int], hidden_size: int) -> None:
        super().__init__()
        members, widest = len(code_sizes), max(code_sizes)
        self.code_sizes, self.hidden_size = tuple(code_sizes), hidden_size
        shapes = {
            "hidden": (n_features, hidden_size),
            "to_code": (hidden_size, widest),
            "to_code_linear": (n_features, widest),
            "from_code": (widest, hidden_size),
            "output": (hidden_size, output_width),
            "output_linear": (widest, output_width),
        }
        self.weights = nn.ParameterDict({name: torch.zeros(members, *shape) for name, shape in shapes.items()})
        self.biases = nn.ParameterDict(
            {name: torch.zeros(members, 1, shapes[name][1]) for name in ("hidden", "to_code", "from_code", "output")}
        )
        self.register_buffer("units", torch.zeros(members, 1, widest))
        for member, size in enumerate(code_sizes):
            self.units[member, :, :size] = 1.0

    def initialise(self, X: Tensor, generator: torch.Generator) -> None:
        """Begin as principal components of rows, (n, d), with small random weights beside them."""
        for name, gain in {"hidden": 1.0, "to_code": 0.3, "from_code": 1.0, "output": 0.1}.items():
            for weight in self.weights[name].data:
                nn.init.orthogonal_(weight, gain=gain, generator=generator)
        axes = _principal_axes(X, max(self.code_sizes))  # (d, k)
        for member, size in enumerate(self.code_sizes):
            taken = min(size, axes.shape[1])
            self.weights["to_code_linear"].data[member, :, :taken] = axes[:, :taken]
            if self.weights["output_linear"].shape[2] == X.shape[1]:
                self.weights["output_linear"].data[member, :taken] = axes[:, :taken].T

    def encode(self, x: Tensor) -> Tensor:
        """Codes: (E, n, d) → (E, n, widest code)."""
        hidden = functional.gelu(torch.baddbmm(self.biases["hidden"], x, self.weights["hidden"]))
        codes = torch.baddbmm(self.biases["to_code"], hidden, self.weights["to_code"])
        return torch.baddbmm(codes, x, self.weights["to_code_linear"]) * self.units

    def decode(self, codes: Tensor) -> Tensor:
        """Raw outputs for the loss: (E, n, widest code) → (E, n, output width)."""
        hidden = functional.gelu(torch.baddbmm(self.biases["from_code"], codes, self.weights["from_code"]))
        output = torch.baddbmm(self.biases["output"], hidden, self.weights["output"])
        return torch.baddbmm(output, codes, self.weights["output_linear"])

    def each(self, x: Tensor) -> Tensor:
        """The same rows for every member, missing entries as zeros: (n, d) → (E, n, d)."""
        return x.nan_to_num().expand(len(self.code_sizes), -1, -1)


def _principal_axes(X: Tensor, n_axes: int) -> Tensor:
    """Directions of largest variance, (d, k)."""
    rows = X.nan_to_num().double().cpu().numpy()
    rows = rows - rows.mean(axis=0)
    n_axes = min(n_axes, *rows.shape)
    if min(rows.shape) > 4 * n_axes and max(rows.shape) > 500:
        axes = randomized_svd(rows, n_axes, n_iter=4, random_state=0)[2]
    else:
        axes = np.linalg.svd(rows, full_matrices=False)[2][:n_axes]
    return torch.from_numpy(np.ascontiguousarray(axes.T)).to(X)


def code_sizes_for(n_features: int, n_members: int) -> tuple[int, ...]:
    """Code sizes from a tenth of the columns to all, at most 64, in turn.

    >>> code_sizes_for(20, 8)
    (2, 5, 10, 20, 2, 5, 10, 20)
    """
    shares = (0.1, 0.25, 0.5, 1.0)
    sizes = [min(LARGEST_CODE, n_features, max(1, round(n_features * share))) for share in shares]
    return tuple(sizes[member % len(sizes)] for member in range(n_members))


@dataclass(frozen=True)
class Training:
    """How an ensemble is trained.

    Attributes
    ----------
    loss, corruption, schedule
        Members of the choices, resolved for the data.
    n_steps, batch_size, learning_rate
        Of the run.
    trim
        Share of each batch that is left out of each member's step: the rows it restores worst.
    row_shape
        Shape of a row, for the corruption.
    """

    loss: Loss
    corruption: Corruption | None
    schedule: Schedule
    n_steps: int
    batch_size: int
    learning_rate: float
    trim: float
    row_shape: tuple[int, ...]


def train_ensemble(
    ensemble: Ensemble, X: Tensor, how: Training, generator: torch.Generator, each_step: Callable[[int, float], None]
) -> Tensor:
    """Train all members at once, each on batches of its own.

    Parameters
    ----------
    ensemble
        Is changed in place.
    X
        Scaled rows on the ensemble's device, (n, d).
    how
        The settings.
    generator
        Of batches and corruption, on the CPU.
    each_step
        Is called after each step with its number and the mean loss per feature of the rows that count.

    Returns
    -------
    The loss of each step, (steps,).
    """
    parameters = list(ensemble.parameters())
    optimizer = torch.optim.Adam(parameters, lr=how.learning_rate, fused=X.device.type in ("cpu", "cuda"))
    n_members, batch_size = len(ensemble.code_sizes), min(how.batch_size, len(X))
    losses = torch.empty(how.n_steps, device=X.device)
    work = 12.0 * batch_size * sum(p.numel() for p in parameters)
    with threads_for(work):
        for step in range(how.n_steps):
            for group in optimizer.param_groups:
                group["lr"] = how.learning_rate * how.schedule.factor(step / how.n_steps)
            drawn = torch.randint(len(X), (n_members * batch_size,), generator=generator).to(X.device)
            loss = _trimmed_loss(ensemble, X.index_select(0, drawn), how, generator)
            optimizer.zero_grad(set_to_none=True)
            (loss * n_members).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            losses[step] = loss.detach()
            each_step(step + 1, loss)
    return losses


def refuse_divergence(losses: Tensor, how: Training) -> None:
    """Raise an error where training made the loss infinite, or far worse than it was before it.

    The models begin as principal components, so that a loss far above the first one says that training has undone
    them. All scores are finite then and mean nothing.
    """
    values = losses.double().cpu().numpy()
    bad = ~np.isfinite(values)
    begin, end = float(values[0]), float(np.median(values[-LAST_STEPS:]))
    worst = float(values.max()) if end > begin else end  # a run that recovered from a leap is sound
    if not bad.any() and end <= WORSE * max(begin, 1.0) and worst <= LEAP * max(begin, 1.0):
        return
    where = f"not finite at step {int(bad.argmax()) + 1}" if bad.any() else f"{end:.3g} after training"
    raise DivergenceError(
        f"The detector's loss is {where} ({values[0]:.3g} at first), at a learning rate of {how.learning_rate:g}, "
        "which is probably too high. Use a lower learning_rate; the default is 0.003."
    )


def _trimmed_loss(ensemble: Ensemble, target: Tensor, how: Training, generator: torch.Generator) -> Any:
    """The mean loss of the rows that each member restores best, a scalar; `target` is (E · b, d)."""
    n_members = len(ensemble.code_sizes)
    damaged = target.nan_to_num()
    if how.corruption is not None:
        shaped = damaged.reshape(len(damaged), *how.row_shape)
        damaged = how.corruption.corrupt(shaped, generator).reshape(len(damaged), -1)
    output = ensemble.decode(ensemble.encode(damaged.view(n_members, -1, damaged.shape[1])))
    rows = how.loss.per_row(output.flatten(0, 1), target).view(n_members, -1)  # (E, b)
    kept = rows.shape[1] - int(how.trim * rows.shape[1])
    if kept < rows.shape[1]:
        rows = rows.topk(kept, dim=1, largest=False, sorted=False).values
    return rows.mean()
