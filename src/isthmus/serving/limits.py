"""What a server accepts, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from isthmus.choices.rules import Number, Rule, Whole, broken_rules
from isthmus.estimators.fitting import refuse


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a server. Whatever exceeds one is refused with a status that says which.

    Parameters
    ----------
    max_body
        Bytes of one request's body, >= 1; larger ones get 413.
    max_rows
        Rows of one request, >= 1; more get 413.
    seconds
        Time for a request to arrive, and again for its answer, > 0. A slow sender gets 408, a late answer is 504.
    max_waiting
        Requests that may be read, wait or be worked on at once, >= 1; further ones get 503 with ``Retry-After``.
    max_bytes
        Bytes of all bodies that are held at once, >= 1; a body that exceeds them gets 503 with ``Retry-After``.
    batch_rows
        Rows that are stacked into one call of the model, >= 1. A request with more rows is answered alone.
    linger
        Seconds that requests wait for others to be stacked with, >= 0. A request that comes alone does not wait.

    Raises
    ------
    ValueError
        A limit is out of range; all wrong ones are named at once.

    Examples
    --------
    >>> Limits(max_rows=10).max_rows
    10
    """

    max_body: int = 16 * 2**20
    max_rows: int = 100_000
    seconds: float = 30.0
    max_waiting: int = 256
    max_bytes: int = 256 * 2**20
    batch_rows: int = 1024
    linger: float = 0.002

    rules: ClassVar[Mapping[str, Rule]] = {
        "max_body": Whole(1),
        "max_rows": Whole(1),
        "seconds": Number(0.0, open_low=True),
        "max_waiting": Whole(1),
        "max_bytes": Whole(1),
        "batch_rows": Whole(1),
        "linger": Number(0.0),
    }

    def __post_init__(self) -> None:
        refuse(broken_rules(self, self.rules))
