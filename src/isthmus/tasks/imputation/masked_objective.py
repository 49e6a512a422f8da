"""The training objective of the imputer: an autoencoder on rows with hidden cells, added to the linear prediction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isthmus.choices import ByColumn, Plain
from isthmus.choices.draws import drawn_from
from isthmus.choices.registry import Context
from isthmus.data.tables import Schema
from isthmus.tasks.imputation.linear_base import LinearFill
from isthmus.training import LossParts, Objective

FARTHEST = 8.0
"""Inputs of the autoencoder are clipped to this many standard deviations."""
LOGIT_GAIN = 4.0
"""Factor from linear estimates of levels to logits: estimates of 0.9 and 0.1 give odds of 25 to 1."""


class Restoring(Objective):
    """Predicts hidden cells from the others: the linear prediction plus the output of an autoencoder.

    ::

        linear path's row, seen cells ─▶ encoder ─▶ code ─▶ decoder ─▶ + ─▶ prediction
                       └────────────────────────────────────────────────┘

    A row of a batch has three blocks: the row filled by the linear part, (d,); flags of observed columns, (columns,);
    and the target, NaN for cells that are not predicted, (d,).

    Parameters
    ----------
    schema
        Schema of the table.
    hidden_sizes, code_size
        Widths of the encoder's hidden layers (mirrored in the decoder), and of the code.
    generator
        Generator of the initial weights.
    """

    gain: Tensor
    share: Tensor

    def __init__(self, schema: Schema, hidden_sizes: Sequence[int], code_size: int, generator: torch.Generator) -> None:
        nn.Module.__init__(self)
        self.context, self._double = Context((schema.width,), code_size), []
        self.code = Plain().resolve(self.context).build(self.context)
        self.loss: ByColumn = schema.loss().resolve(self.context)
        self.n_columns, self.hidden_sizes = len(schema.groups), tuple(map(int, hidden_sizes))
        sizes = [schema.width + self.n_columns, *hidden_sizes, code_size]
        with drawn_from(generator):
            self.encoder = _chain(sizes)
            self.decoder = _chain([code_size, *reversed(hidden_sizes), schema.width], first=nn.GELU())
        nn.init.zeros_(self.decoder[-1].weight)  # type: ignore[arg-type]  # training starts at the linear prediction
        one_hot = torch.zeros(schema.width)
        for name, places in schema.groups.items():
            one_hot[list(places)] = float(schema[name].one_hot)
        self.register_buffer("gain", 1.0 + (LOGIT_GAIN - 1.0) * one_hot, persistent=False)
        self.register_buffer("share", torch.ones(schema.width))

    @property
    def row_width(self) -> int:
        return 2 * self.context.n_features + self.n_columns

    def predict(self, given: Tensor) -> Tensor:
        """Raw predictions from linearly filled rows and flags of observed columns: (n, d + columns) → (n, d)."""
        linear: Tensor = given[:, : self.context.n_features] * self.gain
        deep: Tensor = self.decoder(self.encoder(given.clamp(-FARTHEST, FARTHEST)))
        return linear + self.share * deep

    def restored(self, given: Tensor) -> Tensor:
        """Predictions in the units of encoded rows, levels as probabilities: (n, d + columns) → (n, d)."""
        return self.loss.link(self.predict(given))

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> LossParts:
        """The loss of the hidden cells of a batch."""
        given, target = x.split([self.row_width - self.context.n_features, self.context.n_features], dim=1)
        loss = self.loss.mean(self.predict(given), target)
        return LossParts(loss, loss, x.new_zeros(()), x.new_zeros(()))


def _chain(sizes: Sequence[int], first: nn.Module | None = None) -> nn.Sequential:
    layers: list[nn.Module] = [] if first is None else [first]
    for place in range(len(sizes) - 1):
        layers += [nn.GELU()] if place else []
        layers.append(nn.Linear(sizes[place], sizes[place + 1]))
    return nn.Sequential(*layers)


def hidden_copies(
    x: Tensor, owners: Tensor, *, n_copies: int, most: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Copies of rows with random cells hidden: the visible cells, and the hidden cells, each with NaN elsewhere.

    Parameters
    ----------
    x
        Encoded rows, (n, d), NaN for missing cells.
    owners
        The column of each feature, (d,).
    n_copies
        Number of copies of each row.
    most
        Largest fraction of hidden cells per row; each copy draws a fraction in [0, most] and hides at least one cell.
    generator
        Generator of the draws.
    """
    n_columns = int(owners.max()) + 1
    repeated = x.repeat(n_copies, 1)
    share = most * torch.rand(len(repeated), 1, generator=generator)
    hide = torch.rand(len(repeated), n_columns, generator=generator) < share
    hide |= ~hide.any(1, keepdim=True) & (torch.rand(hide.shape, generator=generator).argsort(1) == 0)
    hidden = hide[:, owners]
    return repeated.masked_fill(hidden, torch.nan), repeated.masked_fill(~hidden, torch.nan)


def as_given(x: Tensor, starts: Sequence[int], fill: LinearFill | None) -> Tensor:
    """The network's input for rows with missing cells: linearly filled rows, and flags of observed columns."""
    seen = ~torch.isnan(x[:, list(starts)])
    filled = x.nan_to_num() if fill is None else fill(x.double()).to(x.dtype)
    return torch.cat([filled, seen.to(x.dtype)], dim=1)
