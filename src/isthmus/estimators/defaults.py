"""Rules for ``"auto"`` values of batch size, number of epochs and learning rate."""

from __future__ import annotations

import math

SMALLEST_BATCH, LARGEST_BATCH = 16, 128
MANY_ROWS = 10_000
"""From this many rows on the smallest batch is 32: benchmark S1 takes half the time of batches of 16, at a loss of
0.0812 instead of 0.0807."""
FEWEST_EPOCHS, MOST_EPOCHS = 20, 100
"""More passes over a few hundred rows over-fit them. Share of the variance of held-out rows that is restored after 500
epochs (315 from 600 rows on), 150, 100 and 64, two splits each: wine, 118 rows, .62, –, –, .74; diabetes, 294 rows,
.65, .77, –, .78; Pima .63, .69, .72, .73; counts .76, .81, .82, .83; yeast .80, .82, .83, .82. Made tables without
noise lose at most .005 at 100 epochs. A weight decay of 1 (AdamW) helped as much, and hurt where 64 epochs did not."""
MOST_LINEAR_EPOCHS = 500
"""Of networks without hidden layers, which over-fit less and learn slowly: 64 rows of six columns with two components
and noise are restored to 0.40 of their deviation after 250 epochs, to 0.27 by principal components."""
STEPS_WANTED, FEWEST_STEPS = 12_000, 1_000


def batch_size_for(n_rows: int, max_epochs: int | None = None) -> int:
    """Batch size: a power of two in [16, 128] (in [32, 128] for many rows) that gives about 12,000 steps in
    `max_epochs`, or 500 steps per epoch if `max_epochs` is None.

    With few epochs, small batches learn more, because the number of steps limits the model.

    >>> batch_size_for(1_500), batch_size_for(60_000), batch_size_for(60_000, 5), batch_size_for(60_000, 30)
    (16, 64, 32, 128)
    """
    wanted = n_rows // 500 if max_epochs is None else n_rows * max_epochs // STEPS_WANTED
    smallest = SMALLEST_BATCH if n_rows < MANY_ROWS else 2 * SMALLEST_BATCH
    return min(LARGEST_BATCH, max(smallest, 1 << max(0, wanted.bit_length() - 1)))


def max_epochs_for(n_rows: int, batch_size: int, *, linear: bool = False) -> int:
    """Number of epochs for about 12,000 steps in total, in [20, 100], or more for at least 1,000 steps.

    Networks without hidden layers (`linear`) get up to 500.

    >>> max_epochs_for(500, 16), max_epochs_for(3_000, 16), max_epochs_for(60_000, 128), max_epochs_for(30, 16)
    (100, 63, 25, 500)
    """
    steps_per_epoch = -(-n_rows // batch_size)
    most = MOST_LINEAR_EPOCHS if linear else max(MOST_EPOCHS, FEWEST_STEPS // steps_per_epoch)
    return min(most, max(FEWEST_EPOCHS, STEPS_WANTED // steps_per_epoch))


# Two layers of 1,024 at batch 128 collapsed at 0.008 (loss 0.40; 0.110 at 0.004, 0.107 at 0.002), and so did 500-300
# at batch 256 and 0.0113 (loss 0.27, against 0.0993 at 0.008).
LARGEST_RATE = 0.008
WIDE = 300.0


def learning_rate_for(batch_size: int, hidden_width: float = 0.0) -> float:
    """Peak learning rate: proportional to the square root of the batch size, at most 0.008 (Malladi et al. 2022).

    With consecutive hidden layers of more than 300 units it decreases in inverse proportion to their width, because
    Adam's step per weight does not shrink as more weights add up (Yang et al. 2021, table 8).

    >>> learning_rate_for(32), learning_rate_for(128), learning_rate_for(512), learning_rate_for(128, 1024)
    (0.004, 0.008, 0.008, 0.002344)
    """
    rate = min(LARGEST_RATE, 0.004 * math.sqrt(batch_size / 32))
    return round(rate * min(1.0, WIDE / max(WIDE, hidden_width)), 6)
