"""Recommending: histories or users in, the best items for each out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from isthmus.serving.bodies import decoded, too_many
from isthmus.serving.limits import Limits
from isthmus.serving.replies import JSON, Columns, RefusedError
from isthmus.tasks import Recommender

Item = str | int | float
FORMS = (
    '{"histories": [["item", …], …]}, {"histories": [{"item": rating, …}, …]} or {"users": ["user", …]}, with "n": 10'
)
MOST_ITEMS = 1_000_000
"""Items of one answer, for all its users: 10 for 100,000 users."""


class Asked(msgspec.Struct, forbid_unknown_fields=True):
    """For whom items are asked, how many, and which; as for `Recommender.recommend_batch`."""

    histories: list[list[Item] | dict[str, float | bool]] | msgspec.UnsetType = msgspec.UNSET
    users: list[Item] | msgspec.UnsetType = msgspec.UNSET
    n: int = 10
    exclude_seen: bool = True
    filter: list[Item] | None = None
    exclude: list[Item] | None = None
    unknown: str = "error"

    def __len__(self) -> int:
        return len(self.users if isinstance(self.histories, msgspec.UnsetType) else self.histories)  # type: ignore[arg-type]


_ASKED = msgspec.json.Decoder(Asked)


def reader(model: Recommender) -> Callable[[bytes, str, Limits], Asked]:
    """A function that reads what is asked from a body."""
    n_items = len(model.items_)

    def read(body: bytes, media_type: str, limits: Limits) -> Asked:
        if media_type != JSON:
            raise RefusedError(415, f"/recommend takes {JSON}, not {media_type}: {FORMS}.")
        if not body:
            raise RefusedError(400, f"The body is empty; send {FORMS}.")
        asked = decoded(_ASKED, body, FORMS)
        if (asked.histories is msgspec.UNSET) == (asked.users is msgspec.UNSET):
            raise RefusedError(422, f"The JSON needs either histories or users; send {FORMS}.")
        if not 0 < len(asked) <= limits.max_rows:
            refuse_count(len(asked), limits)
        if len(asked) * min(asked.n, n_items) > MOST_ITEMS:
            raise RefusedError(
                413, f"{len(asked):,} users with n={asked.n} are more than {MOST_ITEMS:,} items; send them in parts."
            )
        return asked

    return read


def refuse_count(n_rows: int, limits: Limits) -> None:
    """Refuse no users, or too many."""
    if n_rows:
        too_many(n_rows, limits)
    raise RefusedError(422, f"There are no histories or users; send at least one: {FORMS}.")


def recommender(model: Recommender) -> Callable[[Asked], Columns]:
    """A function that answers what is asked: a list of items for each user, the best first."""

    def recommend(asked: Asked) -> Columns:
        found = model.recommend_batch(
            None if asked.users is msgspec.UNSET else asked.users,
            asked.n,
            histories=None if asked.histories is msgspec.UNSET else asked.histories,
            exclude_seen=asked.exclude_seen,
            filter=asked.filter,
            exclude=asked.exclude,
            unknown=asked.unknown,
        )
        titles = {} if not model.titles_ else {"titles": [_list(each.titles) for each in found]}
        return {
            "items": [_list(each.items) for each in found],
            "scores": [_list(each.scores) for each in found],
            **titles,
            "by_popularity": [bool(each.by_popularity) for each in found],
            "n_unknown": [int(each.n_unknown) for each in found],
        }

    return recommend


def _list(values: Any) -> list[Any]:
    listed: list[Any] = values.tolist()
    return listed
