"""What an imputer trains: an autoencoder of rows some of whose cells are hidden, beside the linear path."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isthmus.choices import Dense, MeanSquaredError, Observed, Plain
from isthmus.choices.registry import Context
from isthmus.data.tables import Schema
from isthmus.tasks.imputation.linear_base import LinearFill
from isthmus.training import Choices, Objective

FARTHEST = 8.0
"""Deviations beyond which the autoencoder does not look."""
LOGIT_GAIN = 4.0
"""Logits of a level for one unit of its linear estimate, in files of isthmus 0.1: 0.9 against 0.1 is then 25 to 1."""


class Restoring(Objective):
    """Predicts hidden cells from the others: the linear path's prediction plus what an autoencoder adds to it.

    ::

        linear path's row, seen cells ─▶ encoder ─▶ gelu code ─▶ decoder ─▶ × share ─▶ + ─▶ prediction
                       └───────────────────────────────────────────────────────────────┘

    Training looks at the autoencoder alone. Its target is what the linear path leaves of the hidden cells, and its loss
    the squared error: numbers in deviations, levels as zeros and ones (Brier 1950). With a softmax of levels, whose
    logits would need the linear path inside the loss, no engine but autograd could train it. On six tables the share of
    wrong words was 0.117 with a softmax and is 0.120 with squares, a cell or two in each.

    A row of a batch is two blocks: what the network is given, (d + columns,), see `as_given`; and the target, (d,), NaN
    where a cell is not to be predicted.

    Parameters
    ----------
    schema
        Of the table.
    hidden_sizes, code_size
        Widths of the encoder's hidden layers, which the decoder has in reverse, and of the code.
    generator
        Where the first weights come from.
    has_logits
        Whether it comes from a file of isthmus 0.1, whose autoencoders add to logits of levels.
    """

    share: Tensor
    gain: Tensor

    def __init__(
        self,
        schema: Schema,
        hidden_sizes: Sequence[int],
        code_size: int,
        generator: torch.Generator,
        *,
        has_logits: bool = False,
    ) -> None:
        width, n_given = schema.width, schema.width + len(schema.groups)
        sizes = tuple(map(int, hidden_sizes))
        network = Dense(sizes)
        networks = network.build(
            Context((n_given,), code_size), code_width=code_size, output_width=width, generator=generator
        )
        choices = Choices(network, Plain("gelu"), Observed(MeanSquaredError(activation=None)))
        super().__init__(choices, Context((width,), code_size), networks=networks)
        nn.init.zeros_(list(self.decoder.children())[-1].weight)  # type: ignore[arg-type]  # begins at the linear path
        self.n_given, self.has_logits, self.hidden_sizes = n_given, has_logits, sizes
        self._link = schema.loss().resolve(self.context).link if has_logits else nn.Identity()
        gain = torch.ones(width)
        for name, places in schema.groups.items():
            if has_logits and schema[name].one_hot:
                gain[list(places)] = LOGIT_GAIN
        self.register_buffer("gain", gain, persistent=False)
        self.register_buffer("share", torch.ones(width))

    @property
    def row_width(self) -> int:
        return self.n_given + self.context.n_features

    def given_and_target(self, x: Tensor) -> tuple[Tensor, Tensor]:
        given, target = x.split([self.n_given, self.context.n_features], dim=1)
        return given, target

    def added(self, given: Tensor) -> Tensor:
        """What the autoencoder adds to the linear path, before its share: (n, d + columns) → (n, d)."""
        deep: Tensor = self.decoder(self.code.deterministic(self.encoder(_limited(given))))
        return deep

    def restored(self, given: Tensor) -> Tensor:
        """Predictions in the units of encoded rows, levels as shares: (n, d + columns) → (n, d)."""
        linear = given[:, : self.context.n_features] * self.gain
        restored: Tensor = self._link(linear + self.share * self.added(given))
        return restored


def _limited(given: Tensor) -> Tensor:
    return given.clamp(-FARTHEST, FARTHEST)


def training_rows(given: Tensor, hidden: Tensor) -> Tensor:
    """Rows to train on: what is given, (n, d + columns), and what the linear path leaves of hidden cells, (n, d)."""
    return torch.cat([_limited(given), hidden - given[:, : hidden.shape[1]]], dim=1)


def hidden_copies(
    x: Tensor, owners: Tensor, *, n_copies: int, most: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Copies of rows, each with other cells hidden: the rows left, NaN elsewhere, and the hidden cells, NaN elsewhere.

    Parameters
    ----------
    x
        Encoded rows, (n, d), NaN where a cell is missing.
    owners
        The column of each number, (d,).
    n_copies
        Copies of each row.
    most
        The greatest share of a row's cells to hide; each copy draws its own, from 0, and hides one cell at least.
    generator
        Of the draws.
    """
    n_columns = int(owners.max()) + 1
    repeated = x.repeat(n_copies, 1)
    share = most * torch.rand(len(repeated), 1, generator=generator)
    hide = torch.rand(len(repeated), n_columns, generator=generator) < share
    hide |= ~hide.any(1, keepdim=True) & (torch.rand(hide.shape, generator=generator).argsort(1) == 0)
    hidden = hide[:, owners]
    return repeated.masked_fill(hidden, torch.nan), repeated.masked_fill(~hidden, torch.nan)


def as_given(x: Tensor, starts: Sequence[int], fill: LinearFill | None) -> Tensor:
    """Rows with holes as the network takes them: as the linear path fills them, and the columns seen."""
    seen = ~torch.isnan(x[:, list(starts)])
    filled = x.nan_to_num() if fill is None else fill(x.double()).to(x.dtype)
    return torch.cat([filled, seen.to(x.dtype)], dim=1)
