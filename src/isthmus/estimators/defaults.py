"""What ``"auto"`` means for the numbers of training, and why."""

from __future__ import annotations

SMALLEST_BATCH, LARGEST_BATCH = 16, 128
FEWEST_EPOCHS, MOST_EPOCHS = 20, 500
STEPS_WANTED = 12_000


def batch_size_for(n_rows: int) -> int:
    """About 500 steps an epoch, a power of two from 16 to 128.

    >>> batch_size_for(1_500), batch_size_for(60_000)
    (16, 128)
    """
    wanted = max(1, n_rows // 500)
    return min(LARGEST_BATCH, max(SMALLEST_BATCH, 2 ** (wanted.bit_length() - 1)))


def max_epochs_for(n_rows: int, batch_size: int) -> int:
    """About 12,000 steps in all, at least 20 epochs and at most 500.

    >>> max_epochs_for(1_500, 16), max_epochs_for(60_000, 128)
    (128, 25)
    """
    steps_per_epoch = -(-n_rows // batch_size)
    return min(MOST_EPOCHS, max(FEWEST_EPOCHS, STEPS_WANTED // steps_per_epoch))


def learning_rate_for(batch_size: int) -> float:
    """The peak of the schedule: grows with the root of the batch size (Malladi et al. 2022, for Adam).

    >>> learning_rate_for(32), learning_rate_for(128)
    (0.002, 0.004)
    """
    return round(0.002 * float(batch_size / 32) ** 0.5, 6)
