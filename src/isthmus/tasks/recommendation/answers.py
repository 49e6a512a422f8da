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
        Higher is better, (n,): the expected rating where the recommender learned ratings; the share that each item has
        of the next interactions, in (0, 1), where it learned what users had; the cosine in [-1, 1] for similar items.
    by_popularity
        Whether nothing was known of the user, and the answer is what most others had.

    Examples
    --------
    >>> list(Recommendations(np.array(["Heat", "Casino"]), np.array([0.5, 0.25])))
    [('Heat', 0.5), ('Casino', 0.25)]
    """

    items: np.ndarray
    scores: np.ndarray
    by_popularity: bool = False

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[tuple[Any, float]]:
        return iter(zip(self.items.tolist(), self.scores.tolist(), strict=True))

    def to_frame(self) -> Any:
        """As a pandas frame with the columns item and score."""
        import pandas as pd  # noqa: PLC0415  # slow to import, and needed here alone

        return pd.DataFrame({"item": self.items, "score": self.scores})
