"""Small autoencoders trained together, by one batched matrix product."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.utils.extmath import randomized_svd
from torch import Tensor, nn
from torch.nn import functional

LARGEST_CODE = 64


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
        """Initialise as principal components of rows, (n, d), plus small random weights."""
        for name, gain in {"hidden": 1.0, "to_code": 0.3, "from_code": 1.0, "output": 0.1}.items():
            for weight in self.weights[name].data:
                nn.init.orthogonal_(weight, gain=gain, generator=generator)
        axes = _principal_axes(X, max(self.code_sizes))  # (d, k)
        for member, size in enumerate(self.code_sizes):
            taken = min(size, axes.shape[1])
            self.weights["to_code_linear"].data[member, :, :taken] = axes[:, :taken]
            if self.weights["output_linear"].shape[2] == X.shape[1]:
                self.weights["output_linear"].data[member, :taken] = axes[:, :taken].T

    @property
    def n_members(self) -> int:
        """E."""
        return len(self.code_sizes)

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
        return x.nan_to_num().expand(self.n_members, -1, -1)


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
