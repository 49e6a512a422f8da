"""A network for sparse rows, such as user histories and bags of words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.choices.networks import NETWORKS, Dense, Pair
from isthmus.choices.registry import Context
from isthmus.choices.rules import OneOf, Rule


class UnitRows(nn.Module):
    """Divides rows by their Euclidean norm, so that long and short histories weigh the same; zero rows stay zero.

    >>> UnitRows()(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
    tensor([[0.6000, 0.8000],
            [0.0000, 0.0000]])
    """

    def forward(self, x: Tensor) -> Tensor:
        return functional.normalize(x, eps=1e-12)


class SparseLinear(nn.Module):
    """A linear layer that reads only the nonzero entries: ``y = x W + b``, with W of shape (in, out).

    With 50 entries per row a step takes a sixth of the time of a dense matrix product at 3,500 features, and a third
    at 50,000. If x requires a gradient, or on a device other than the CPU, the layer computes the dense product.

    >>> layer = SparseLinear(nn.Linear(4, 2))
    >>> layer(torch.zeros(3, 4)).shape
    torch.Size([3, 2])
    """

    def __init__(self, dense: nn.Linear) -> None:
        super().__init__()
        self.weight = nn.Parameter(dense.weight.detach().t().contiguous())  # (in, out)
        self.bias = nn.Parameter(dense.bias.detach().clone())
        self.in_features, self.out_features = dense.in_features, dense.out_features

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad or x.device.type != "cpu":
            return torch.addmm(self.bias, x, self.weight)
        row, column = x.nonzero(as_tuple=True)
        starts = torch.searchsorted(row, torch.arange(len(x)))
        sums: Tensor = functional.embedding_bag(
            column, self.weight, starts, mode="sum", per_sample_weights=x[row, column]
        )
        return sums + self.bias  # (n, out)


@NETWORKS.register("sparse-rows")
@dataclass(eq=False, repr=False)
class SparseRows(Dense):
    """Fully connected layers for sparse rows, such as the items of a user (Liang et al. 2018).

    ::

        x (d) ─▶ x / ‖x‖ ─▶ hidden_sizes ─▶ h (code) ─▶ z ─▶ decoder_sizes ─▶ x^ (d)

    Parameters
    ----------
    hidden_sizes, activation, decoder_sizes, initialization
        As for `Dense`.
    tied
        Must be False: the first layer stores its weight transposed.
    normalize
        Whether rows are divided by their Euclidean norm first.

    Examples
    --------
    >>> encoder, decoder = SparseRows((8,)).build(Context((16,), code_size=2), code_width=2, output_width=16)
    >>> decoder(encoder(torch.zeros(5, 16))).shape
    torch.Size([5, 16])
    """

    hidden_sizes: tuple[int, ...] | str = (600,)
    _: KW_ONLY
    activation: str | None = "tanh"
    decoder_sizes: tuple[int, ...] | None = None
    tied: bool = False
    initialization: str = "glorot-uniform"
    normalize: bool = True

    rules: ClassVar[Mapping[str, Rule]] = {**Dense.rules, "tied": OneOf((False,)), "normalize": OneOf((True, False))}

    def build(
        self, context: Context, *, code_width: int, output_width: int, generator: torch.Generator | None = None
    ) -> Pair:
        encoder, decoder = super().build(context, code_width=code_width, output_width=output_width, generator=generator)
        first, *others = encoder.children()
        assert isinstance(first, nn.Linear)
        scaled = [UnitRows()] if self.normalize else []
        return nn.Sequential(*scaled, SparseLinear(first), *others), decoder
