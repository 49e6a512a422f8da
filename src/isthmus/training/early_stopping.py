"""Early stopping, and the cool-down of the learning rate before it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple


class CoolDown(NamedTuple):
    """The last epochs of a run that stops early, in which the learning rate falls to its final value.

    While the rate is high, the loss stagnates because the weights oscillate around a minimum. The falling rate lowers
    it further, so a run without these epochs would end with a higher loss.
    """

    begin: int
    """Epochs before the cool-down."""
    n_epochs: int
    """Epochs in the cool-down."""

    @property
    def end(self) -> int:
        """The number of epochs after which the run ends."""
        return self.begin + self.n_epochs


def cool_down(
    monitored: Sequence[float], patience: int, min_delta: float, max_epochs: int, restless: float = 0.0
) -> CoolDown | None:
    """The cool-down of a run whose patience is exhausted, else None. It takes a quarter of the epochs so far, at least
    `patience`.

    Epochs in the `restless` share of the run do not count, because the loss fluctuates at high rates. The result
    depends on the losses after each epoch only, so it is the same for a resumed run.

    >>> cool_down([0.9, 0.5, 0.5, 0.5], patience=2, min_delta=0.0, max_epochs=100)
    CoolDown(begin=4, n_epochs=2)
    >>> cool_down([0.9, 0.5, 0.4, 0.3], patience=2, min_delta=0.0, max_epochs=100)
    """
    begin = _ran_out(monitored, patience, min_delta, math.floor(restless * max_epochs))
    if begin is None:
        return None
    return CoolDown(begin, min(max(patience, math.ceil(begin * COOL_SHARE)), max_epochs - begin))


COOL_SHARE = 0.25
"""Epochs of a cool-down per epoch before it."""


def _ran_out(monitored: Sequence[float], patience: int, min_delta: float, first: int) -> int | None:
    """The epoch at which the loss has not fallen by more than `min_delta` for `patience` epochs after `first`."""
    best, best_epoch = math.inf, 0
    for epoch, loss in enumerate(monitored, start=1):
        if loss < best - min_delta:
            best, best_epoch = loss, epoch
        elif epoch - max(best_epoch, first) >= patience:
            return epoch
    return None
