"""The logs: positive ratings of MovieLens, as commonly used in evaluations."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd

from isthmus import Interactions, read_interactions

LEAST_RATING, FEWEST = 4.0, 5
"""The lowest positive rating, and the minimum number of positive ratings per user."""


def movielens() -> Path:
    """The folder of the MovieLens sets."""
    return Path(os.environ["ISTHMUS_DATA"]) / "movielens"


def ratings(name: str) -> pd.DataFrame:
    """All ratings of a set: user, item, rating."""
    if name == "ml-1m":
        with np.load(movielens() / "ml-1m" / "ratings.npz") as file:
            return pd.DataFrame({column: file[column].astype(np.int64) for column in ("user", "item", "rating")})
    frame = pd.read_csv(movielens() / "ml-2016" / "ratings.csv")
    return frame.rename(columns={"userId": "user", "movieId": "item", "timestamp": "time"})


def film_titles() -> dict[int, str]:
    """The title of each film of ml-2016."""
    frame = pd.read_csv(movielens() / "ml-2016" / "movies.csv")
    return dict(zip(frame["movieId"].tolist(), frame["title"].tolist(), strict=True))


def positives(name: str) -> Interactions:
    """Positive interactions: ratings of at least 4, users with at least 5 of them."""
    frame = ratings(name)
    frame = frame[frame["rating"] >= LEAST_RATING]
    counts = frame.groupby("user")["item"].transform("size")
    return read_interactions(frame[counts >= FEWEST][["user", "item"]])


HELD_OUT_USERS = {"ml-1m": 600, "ml-2016": 100}
"""Number of users for test; as many are used for validation."""
