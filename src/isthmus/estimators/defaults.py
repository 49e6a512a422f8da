"""What ``"auto"`` means for the numbers of training, and why."""

from __future__ import annotations

import math

SMALLEST_BATCH, LARGEST_BATCH = 16, 128
MANY_ROWS = 10_000
"""Rows from which batches of 16 are not worth their time: a step on 32 rows takes hardly longer."""
FEWEST_EPOCHS, MOST_EPOCHS = 20, 500
STEPS_WANTED = 12_000


def batch_size_for(n_rows: int, max_epochs: int | None = None) -> int:
    """A power of two from 16 (of many rows from 32) to 128 for about 12,000 steps; 500 an epoch where epochs are free.

    With few epochs asked for, small batches learn more: what limits the model is the number of steps.

    >>> batch_size_for(1_500), batch_size_for(60_000), batch_size_for(60_000, 5), batch_size_for(60_000, 30)
    (16, 64, 32, 128)
    """
    wanted = n_rows // 500 if max_epochs is None else n_rows * max_epochs // STEPS_WANTED
    smallest = SMALLEST_BATCH if n_rows < MANY_ROWS else 2 * SMALLEST_BATCH
    return min(LARGEST_BATCH, max(smallest, 1 << max(0, wanted.bit_length() - 1)))


def max_epochs_for(n_rows: int, batch_size: int) -> int:
    """About 12,000 steps in all, at least 20 epochs and at most 500.

    >>> max_epochs_for(1_500, 16), max_epochs_for(60_000, 128)
    (127, 25)
    """
    steps_per_epoch = -(-n_rows // batch_size)
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, STEPS_WANTED // steps_per_epoch))


LARGEST_RATE = 0.008
WIDE = 300.0


def learning_rate_for(batch_size: int, hidden_width: float = 0.0) -> float:
    """The peak of the schedule: grows with the root of the batch size up to 0.008 (Malladi et al. 2022, for Adam).

    Where hidden layers of more than 300 units follow each other, it falls with their width, as Adam moves every weight
    by about as much, however many add up (Yang et al. 2021, table 8).

    >>> learning_rate_for(32), learning_rate_for(128), learning_rate_for(512), learning_rate_for(128, 1024)
    (0.004, 0.008, 0.008, 0.002344)
    """
    rate = min(LARGEST_RATE, 0.004 * math.sqrt(batch_size / 32))
    return round(rate * min(1.0, WIDE / max(WIDE, hidden_width)), 6)
