"""What a recommender answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Recommendations:
    """Items for one user, the best first; fewer than asked for where no more are left.

    Attributes
    ----------
    items
        The names of the items, (n,).
    scores
        Higher is better, (n,): the expected rating where the recommender learned ratings; where it learned what users
        had, a number in [0, 1] that sums to 1 over the whole catalogue (a softmax), the items seen included, whatever
        the filter; the cosine in [-1, 1] for similar items. The softmax ranks one user's items and says how far apart
        they are; it is no calibrated probability.
    by_popularity
        Whether nothing was known of the user (or item), and the answer is what most others had.
    titles
        The titles of the items, (n,), or None where the recommender has none.
    n_unknown
        How many items of the history were not there at `fit` and were ignored.

    Examples
    --------
    >>> list(Recommendations(np.array(["Heat", "Casino"]), np.array([0.5, 0.25])))
    [('Heat', 0.5), ('Casino', 0.25)]
    """

    items: np.ndarray
    scores: np.ndarray
    by_popularity: bool = False
    titles: np.ndarray | None = None
    n_unknown: int = 0

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[tuple[Any, float]]:
        return iter(zip(self.items.tolist(), self.scores.tolist(), strict=True))

    def to_frame(self) -> Any:
        """As a pandas frame with the columns item, score and, where there are titles, title."""
        import pandas as pd  # noqa: PLC0415  # slow to import, and needed here alone

        frame = pd.DataFrame({"item": self.items, "score": self.scores})
        return frame if self.titles is None else frame.assign(title=self.titles)
