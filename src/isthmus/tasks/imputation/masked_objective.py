"""The training objective of the imputer: an autoencoder on rows with hidden cells, added to the linear prediction."""

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
"""Inputs of the autoencoder are clipped to this many standard deviations."""
LOGIT_GAIN = 4.0
"""Factor from linear estimates of levels to logits, in files of isthmus 0.1: 0.9 and 0.1 give odds of 25 to 1."""


class Restoring(Objective):
    """Predicts hidden cells from the others: the linear prediction plus the output of an autoencoder.

    ::

        linear path's row, seen cells ─▶ encoder ─▶ gelu code ─▶ decoder ─▶ × share ─▶ + ─▶ prediction
                       └───────────────────────────────────────────────────────────────┘

    Only the autoencoder is trained. Its target is the residual of the linear prediction in the hidden cells, and its
    loss is the squared error: numbers in standard deviations, levels as zeros and ones (Brier 1950). A softmax over
    levels would need the linear prediction inside the loss, and only autograd could train it. On six tables the
    fraction of wrong words was 0.117 with a softmax and is 0.120 with squared errors, with one seed.

    A row of a batch has two blocks: the network's input, (d + columns,), see `as_given`; and the target, (d,), NaN for
    cells that are not predicted.

    Parameters
    ----------
    schema
        Schema of the table.
    hidden_sizes, code_size
        Widths of the encoder's hidden layers (mirrored in the decoder), and of the code.
    generator
        Generator of the initial weights.
    has_logits
        Whether the model is from a file of isthmus 0.1, whose autoencoders add to the logits of levels.
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
        nn.init.zeros_(list(self.decoder.children())[-1].weight)  # type: ignore[arg-type]  # training starts at 0
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
        """The output of the autoencoder, before its weight: (n, d + columns) → (n, d)."""
        deep: Tensor = self.decoder(self.code.deterministic(self.encoder(_limited(given))))
        return deep

    def restored(self, given: Tensor) -> Tensor:
        """Predictions in the units of encoded rows, levels as probabilities: (n, d + columns) → (n, d)."""
        linear = given[:, : self.context.n_features] * self.gain
        restored: Tensor = self._link(linear + self.share * self.added(given))
        return restored


def _limited(given: Tensor) -> Tensor:
    return given.clamp(-FARTHEST, FARTHEST)


def training_rows(given: Tensor, hidden: Tensor) -> Tensor:
    """Training rows: the network's input, (n, d + columns), and the linear residuals of hidden cells, (n, d)."""
    return torch.cat([_limited(given), hidden - given[:, : hidden.shape[1]]], dim=1)


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
