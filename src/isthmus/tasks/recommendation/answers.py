"""Results of a recommender."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Recommendations:
    """Items for one user, the best first; fewer than requested if no more are left.

    Attributes
    ----------
    items
        Identifiers of the items, (n,).
    scores
        Higher is better, (n,). For explicit feedback, the predicted rating. For implicit feedback, a softmax in [0, 1]
        that sums to 1 over the whole catalogue, including seen items and independent of filters; it ranks the items of
        one user and is not a calibrated probability. For similar items, the cosine in [-1, 1].
    by_popularity
        Whether the user (or item) has no interactions, so that the result is the most popular items.
    titles
        Titles of the items, (n,), or None if the recommender has none.
    n_unknown
        Number of unknown items of the history that were ignored.

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
        """Convert to a pandas frame with the columns item, score and, if there are titles, title."""
        import pandas as pd  # noqa: PLC0415  # slow to import, and needed here alone

        frame = pd.DataFrame({"item": self.items, "score": self.scores})
        return frame if self.titles is None else frame.assign(title=self.titles)
