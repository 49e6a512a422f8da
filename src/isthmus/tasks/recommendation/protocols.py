"""Evaluation protocols: splits of interactions, and metrics on held-out interactions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import scipy.sparse
from scipy.sparse import csr_array

from isthmus.choices.registry import unknown
from isthmus.choices.rules import Number, Whole
from isthmus.exceptions import DataError
from isthmus.seeds import RandomState, seed_from
from isthmus.tasks.recommendation.interactions import Interactions, read_interactions
from isthmus.tasks.recommendation.ranking import METRICS, coverage, novelty
from isthmus.tasks.recommendation.times import read_times

SHARE = Number(0.0, 1.0, open_low=True, open_high=True)


@dataclass(frozen=True)
class HeldOut:
    """A split of users' interactions into given and held-out ones; the rows of both parts are the same users.

    Attributes
    ----------
    given
        Interactions that the recommender receives.
    held
        Interactions that it should recommend.
    """

    given: Interactions
    held: Interactions


@dataclass(frozen=True)
class StrongSplit:
    """A split into training users and users for evaluation that do not occur in training.

    Attributes
    ----------
    train
        Training users, with all their interactions.
    validation, test
        Users for selecting settings, and users for the final evaluation.
    """

    train: Interactions
    validation: HeldOut
    test: HeldOut


def leave_out(interactions: Any, share: float = 0.2, *, random_state: RandomState = None) -> HeldOut:
    """Hold out random interactions of every user.

    Parameters
    ----------
    interactions
        As for `Recommender.fit`.
    share
        Fraction of each user's interactions that is held out, in (0, 1), rounded; at least one for users with two or
        more interactions, and none for users with one.
    random_state
        Seed or RandomState.

    Examples
    --------
    >>> log = scipy.sparse.csr_array(np.ones((3, 10)))
    >>> split = leave_out(log, 0.2, random_state=0)
    >>> split.given.matrix.nnz, split.held.matrix.nnz
    (24, 6)
    """
    log = _read(interactions, share)
    draw = _generator(random_state)
    return _cut(log, draw.random(log.matrix.nnz), share)


def leave_latest(interactions: Any, share: float = 0.2, *, random_state: RandomState = 0) -> HeldOut:
    """Hold out the latest interactions of every user, by the times in the log.

    Parameters
    ----------
    interactions
        A frame with a time column, or `Interactions` with times.
    share
        As for `leave_out`.
    random_state
        Seed or RandomState that breaks ties between interactions with equal times.

    Examples
    --------
    >>> import pandas
    >>> log = pandas.DataFrame({"user": [1, 1, 1], "item": ["a", "b", "c"], "time": [30, 10, 20]})
    >>> leave_latest(log, 0.3).held.matrix.toarray()
    array([[1., 0., 0.]], dtype=float32)
    """
    log = _read(interactions, share)
    return _cut(log, _by_time(log, random_state), share)


def leave_k_out(interactions: Any, k: int = 1, *, latest: bool = False, random_state: RandomState = None) -> HeldOut:
    """Hold out k interactions of every user with more than k; none of other users.

    Parameters
    ----------
    interactions
        As for `Recommender.fit`.
    k
        Number of held-out interactions per user, >= 1.
    latest
        Whether to hold out the latest interactions, by the times in the log, instead of random ones.
    random_state
        Seed or RandomState of the draw, or for the latest interactions, of breaking ties.

    Examples
    --------
    >>> split = leave_k_out(scipy.sparse.csr_array(np.ones((3, 10))), 2, random_state=0)
    >>> split.given.matrix.nnz, split.held.matrix.nnz
    (24, 6)
    """
    if not Whole(1).admits(k):
        raise ValueError(f"k={k!r} must be an integer >= 1.")
    log = read_interactions(interactions)
    counts = np.diff(log.matrix.indptr)
    keys = _by_time(log, random_state) if latest else _generator(random_state).random(log.matrix.nnz)
    return _hold(log, keys, np.where(counts > k, k, 0))


def leave_after(interactions: Any, share: float = 0.2, *, at: Any = None) -> HeldOut:
    """Hold out all interactions from a point in time on, as for a recommender in production.

    Interactions with equal times stay together. Users who appear only after that time have no given interactions.

    Parameters
    ----------
    interactions
        A frame with a time column, or `Interactions` with times.
    share
        Fraction of all interactions that is held out, in (0, 1), up to ties.
    at
        Instead of `share`: the first held-out time, a number if times are numbers, else a date or an ISO string.

    Examples
    --------
    >>> import pandas
    >>> days = ["2020-01-01", "2020-03-01", "2020-02-01"]
    >>> log = pandas.DataFrame({"user": [1, 1, 2], "item": ["a", "b", "a"], "time": days})
    >>> leave_after(log, at="2020-02-01").held.matrix.toarray()
    array([[0., 1.],
           [1., 0.]], dtype=float32)
    """
    log = _read(interactions, share)
    times = _times_of(log)
    moment = np.sort(times)[len(times) - max(1, round(share * len(times)))] if at is None else _moment_like(at, times)
    held = times >= moment
    if held.all() or not held.any():
        raise DataError(
            f"{int(held.sum())} of {len(held)} interactions are from {moment} on ({times.min()} to {times.max()}), but "
            "some are needed on both sides; choose another time or share."
        )
    rows = np.repeat(np.arange(len(log.users)), np.diff(log.matrix.indptr))
    return HeldOut(_entries(log, ~held, rows), _entries(log, held, rows))


def _moment_like(at: Any, times: np.ndarray) -> Any:
    """Convert a time to the type of the times."""
    numeric = times.dtype.kind in "iuf"
    if numeric != (isinstance(at, int | float | np.number) and not isinstance(at, bool | np.timedelta64)):
        raise DataError(f"at={at!r} must be {'a number' if numeric else 'a date'}, as the times are ({times.dtype}).")
    return at if numeric else read_times(np.asarray([at], object), "at")[0]


def _times_of(log: Interactions) -> np.ndarray:
    if log.times is None:
        raise DataError("The interactions have no times; pass a frame with a column time, or split with leave_out.")
    return log.times


def _by_time(log: Interactions, random_state: RandomState) -> np.ndarray:
    """Sort keys that increase with time, with ties in random order."""
    drawn = _generator(random_state).random(log.matrix.nnz)
    keys = np.empty(log.matrix.nnz, np.int64)
    keys[np.lexsort((drawn, _times_of(log)))] = np.arange(log.matrix.nnz)
    return keys


def _generator(random_state: RandomState) -> np.random.Generator:
    return np.random.default_rng(seed_from(random_state))


def strong_generalization(
    interactions: Any,
    *,
    n_validation: int = 600,
    n_test: int = 600,
    given: float = 0.8,
    random_state: RandomState = None,
) -> StrongSplit:
    """Hold out users, whose histories are then given in part (Liang et al. 2018, section 4.2).

    Parameters
    ----------
    interactions
        As for `Recommender.fit`.
    n_validation, n_test
        Number of users for validation and for test, >= 1; some users must be left for training.
    given
        Fraction of their histories that is given, in (0, 1).
    random_state
        Seed or RandomState.

    Examples
    --------
    >>> split = strong_generalization(scipy.sparse.csr_array(np.ones((9, 10))), n_validation=2, n_test=3)
    >>> len(split.train.users), len(split.validation.given.users), split.test.held.matrix.nnz
    (4, 2, 6)
    """
    log = _read(interactions, given)
    n_users = len(log.users)
    sizes = (n_validation, n_test)
    if not all(Whole(1).admits(size) for size in sizes) or sum(sizes) >= n_users:
        raise ValueError(
            f"n_validation={n_validation!r} and n_test={n_test!r} must be integers >= 1 that leave some of the "
            f"{n_users} users for training."
        )
    draw = _generator(random_state)
    order = draw.permutation(n_users)
    rows = np.split(order, [n_test, n_test + n_validation])
    test, validation = (
        _cut(chosen, draw.random(chosen.matrix.nnz), 1.0 - given) for chosen in map(log.select, rows[:2])
    )
    return StrongSplit(log.select(np.sort(rows[2])), validation, test)


def _read(interactions: Any, share: float) -> Interactions:
    if not SHARE.admits(share):
        raise ValueError(f"The share {share!r} must be {SHARE}.")
    return read_interactions(interactions)


def _cut(log: Interactions, keys: np.ndarray, share: float) -> HeldOut:
    """Hold out a fraction of each user's interactions, those with the largest keys."""
    counts = np.diff(log.matrix.indptr)
    return _hold(log, keys, np.where(counts > 1, np.maximum(1, np.rint(share * counts)), 0))


def _hold(log: Interactions, keys: np.ndarray, n_held: np.ndarray) -> HeldOut:
    """Hold out n_held of each user's interactions, those with the largest keys."""
    matrix = log.matrix
    counts = np.diff(matrix.indptr)
    rows = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((keys, rows))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order)) - np.repeat(matrix.indptr[:-1], counts)
    held = place >= (counts - n_held)[rows]
    return HeldOut(_entries(log, ~held, rows), _entries(log, held, rows))


def _entries(log: Interactions, chosen: np.ndarray, rows: np.ndarray) -> Interactions:
    """The chosen entries of a log, with all its users and items."""
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows[chosen], minlength=len(log.users)))])
    parts = (log.matrix.data[chosen], log.matrix.indices[chosen], indptr)
    times = None if log.times is None else log.times[chosen]
    return replace(log, matrix=scipy.sparse.csr_array(parts, log.matrix.shape), times=times)


@dataclass(frozen=True)
class Evaluation:
    """Results of an evaluation.

    Attributes
    ----------
    per_user
        For each metric, such as ``"ndcg@100"``, one value per user, (users,); NaN for users without held-out items.
    overall
        Properties of all lists together: ``"coverage@k"`` in [0, 1], ``"novelty@k"`` in bits.
    users
        Identifiers of the evaluated users, (users,), or None.
    n_unpaired
        Number of users skipped because they occur in only one of the parts.
    n_unknown
        Number of interactions skipped because their item did not occur at `fit`.
    """

    per_user: dict[str, np.ndarray]
    overall: dict[str, float]
    users: np.ndarray | None = None
    n_unpaired: int = 0
    n_unknown: int = 0

    def mean(self, name: str) -> float:
        """The mean of a metric over users, or an overall value; NaN without held-out items."""
        return float(self._known(name).mean()) if name in self.per_user else self.overall[name]

    def standard_error(self, name: str) -> float:
        """The standard error of the mean over users; NaN for one user."""
        values = self._known(name)
        return float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")

    def _known(self, name: str) -> np.ndarray:
        values = self.per_user[name][~np.isnan(self.per_user[name])]
        return values if len(values) else np.asarray([np.nan])

    def to_dict(self) -> dict[str, float]:
        """All means by name."""
        return {name: self.mean(name) for name in (*self.per_user, *self.overall)}


DEFAULT_METRICS = ("ndcg@100", "ndcg@10", "recall@20", "recall@50")
OVERALL = ("coverage", "novelty")


def evaluate_lists(
    recommended: np.ndarray, held: csr_array, names: Sequence[str], popularity: np.ndarray
) -> Evaluation:
    """Evaluate lists of item indices against held-out items.

    Parameters
    ----------
    recommended
        (users, n), the best first, padded with -1.
    held
        CSR (users, items).
    names
        Names of metrics, such as ``"ndcg@100"``.
    popularity
        Fraction of the training users who have each item, (items,).

    Examples
    --------
    >>> held = scipy.sparse.csr_array([[1, 0, 1]])
    >>> evaluate_lists(np.array([[2, 1]]), held, ["recall@2", "coverage@2"], np.array([1, 1, 0.5])).to_dict()
    {'recall@2': 0.5, 'coverage@2': 0.6666666666666666}
    """
    users, together = dict[str, np.ndarray](), dict[str, float]()
    for name in names:
        metric, k = parse_metric(name)
        if metric == "coverage":
            together[name] = coverage(recommended, held.shape[1], k)
        elif metric == "novelty":
            together[name] = novelty(recommended, popularity, k)
        else:
            users[name] = METRICS[metric](recommended, held, k)
    return Evaluation(users, together)


def parse_metric(name: str) -> tuple[str, int]:
    """The metric and k of a name such as ``"ndcg@100"``.

    >>> parse_metric("hit-rate@5")
    ('hit-rate', 5)
    """
    metric, _, k = name.partition("@")
    if metric not in (*METRICS, *OVERALL):
        raise ValueError(unknown("metric", metric, (*METRICS, *OVERALL)))
    if not k.isdigit() or int(k) < 1:
        raise ValueError(f"The metric {name!r} needs a list length, such as {metric}@10.")
    return metric, int(k)
