"""Conversion of `random_state` to a seed."""

from __future__ import annotations

import numpy as np
from sklearn.utils import check_random_state

RandomState = int | np.random.RandomState | np.random.Generator | np.random.SeedSequence | None
"""What a parameter `random_state` may be."""


def seed_from(random_state: RandomState) -> int:
    """A seed in [0, 2³¹ - 2]: fixed for an integer, drawn from a generator, and random for None.

    Parameters
    ----------
    random_state
        None, an integer, a `numpy.random.RandomState`, a `numpy.random.Generator` or a `numpy.random.SeedSequence`.

    Raises
    ------
    ValueError
        `random_state` has another type.

    Examples
    --------
    >>> seed_from(0) == seed_from(0), seed_from(np.random.default_rng(0)) == seed_from(np.random.default_rng(0))
    (True, True)
    """
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    if isinstance(random_state, np.random.SeedSequence):
        return seed_from(np.random.default_rng(random_state))
    try:
        return int(check_random_state(random_state).randint(2**31 - 1))
    except (TypeError, ValueError):
        shown = repr(random_state) if isinstance(random_state, int | float | str) else type(random_state).__name__
        raise ValueError(
            f"random_state={shown} is not a seed; give an integer from 0 to 2**32 - 1, a numpy.random.Generator, a "
            "RandomState, a SeedSequence or None."
        ) from None
