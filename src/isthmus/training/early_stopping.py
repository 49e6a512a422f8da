"""When to stop early, and how to come to rest before."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class CoolDown(NamedTuple):
    """The last epochs of a run that stops early, in which the learning rate falls to its end.

    Where a schedule still has a high rate, the loss stands still because of the rate: weights jump about a minimum.
    Stopping there costs what the falling part of the schedule would have brought.
    """

    begin: int
    """Epochs before it."""
    n_epochs: int
    """Epochs in it."""

    @property
    def end(self) -> int:
        """The number of epochs after which the run is over."""
        return self.begin + self.n_epochs


def cool_down(
    monitored: Sequence[float], patience: int, min_delta: float, max_epochs: int, restless: float = 0.0
) -> CoolDown | None:
    """The cool-down of a run, once its patience has run out: a quarter of the epochs so far, at least `patience`.

    Epochs in the `restless` share of the run, at high rates, do not count for patience: there the loss goes up and down
    by chance. It depends on nothing but the losses after each epoch, so a run that is resumed comes to the same.

    >>> cool_down([0.9, 0.5, 0.5, 0.5], patience=2, min_delta=0.0, max_epochs=100)
    CoolDown(begin=4, n_epochs=2)
    >>> cool_down([0.9, 0.5, 0.4, 0.3], patience=2, min_delta=0.0, max_epochs=100)
    """
    begin = _ran_out(monitored, patience, min_delta, math.floor(restless * max_epochs))
    if begin is None:
        return None
    return CoolDown(begin, min(max(patience, math.ceil(begin * COOL_SHARE)), max_epochs - begin))


COOL_SHARE = 0.25
"""Epochs of a cool-down for each epoch before it."""


def _ran_out(monitored: Sequence[float], patience: int, min_delta: float, first: int) -> int | None:
    """After how many epochs the loss had not fallen by more than `min_delta` for `patience` of those after `first`."""
    best, best_epoch = math.inf, 0
    for epoch, loss in enumerate(monitored, start=1):
        if loss < best - min_delta:
            best, best_epoch = loss, epoch
        elif epoch - max(best_epoch, first) >= patience:
            return epoch
    return None
