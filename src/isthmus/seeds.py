"""The seed of a run from whatever a user gives as `random_state`."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state


def seed_from(random_state: Any) -> int:
    """A seed, 0 to 2³¹ - 2: the same for the same number; the next one drawn from a generator; a fresh one for None.

    Parameters
    ----------
    random_state
        None, an integer, a `numpy.random.RandomState` or a `numpy.random.Generator`.

    Raises
    ------
    ValueError
        It is something else.

    Examples
    --------
    >>> seed_from(0) == seed_from(0), seed_from(np.random.default_rng(0)) == seed_from(np.random.default_rng(0))
    (True, True)
    """
    if isinstance(random_state, np.random.Generator):
        return int(random_state.integers(2**31 - 1))
    return int(check_random_state(random_state).randint(2**31 - 1))
