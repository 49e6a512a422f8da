"""Fitting of the recommender: the log is read, and the deep and the shallow path are fitted to it separately."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array

from isthmus.choices import Code, Corruption, Gaussian, Loss, MeanSquaredError, Multinomial, Network, Observed, Plain
from isthmus.choices.registry import Choice
from isthmus.estimators import Autoencoder
from isthmus.exceptions import DataError, FitWarning
from isthmus.seeds import RandomState
from isthmus.tasks.recommendation.biases import Biases, learn_biases
from isthmus.tasks.recommendation.biases import Histories as DenseHistories
from isthmus.tasks.recommendation.ease import ShallowPath, solve_shallow
from isthmus.tasks.recommendation.factors import Factors, learn_factors
from isthmus.tasks.recommendation.fitted import FittedRecommender, KnownLog
from isthmus.tasks.recommendation.histories import refuse_range
from isthmus.tasks.recommendation.identifiers import refuse_alike
from isthmus.tasks.recommendation.interactions import Interactions
from isthmus.tasks.recommendation.liking import chosen, learn_liking, without_zeros
from isthmus.tasks.recommendation.merging import joined, overlaid
from isthmus.wording import counted

STEPS_WANTED = 1_000
FEWEST_EPOCHS, MOST_EPOCHS = 20, 100
SMALLEST_BATCH, LARGEST_BATCH = 32, 512
PATH_BESIDE_LOGITS, PATH_BESIDE_RATINGS = 12.0, 2.0
RATINGS_RIDGE = 2_000.0
"""The path's ridge where it learns what biases leave of ratings."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """The parameters of a `Recommender`, where None stands for ``"auto"``.

    Attributes
    ----------
    positive_from
        As for `Recommender`: a number, ``"auto"``, or None for every interaction.
    rating_range
        Minimum and maximum rating; None: inferred.
    feedback, shallow, shallow_weight, max_epochs, batch_size, learning_rate, code_size, device, random_state, verbose
        As for `Recommender`.
    network, code, corruption, loss
        As for `Recommender`.
    """

    feedback: str
    positive_from: float | str | None
    rating_range: tuple[float, float] | None
    shallow: bool
    shallow_weight: float | None
    code_size: int
    network: Network | str | tuple[int, ...]
    code: Code | str | None
    corruption: Corruption | str | None
    loss: Loss | str | None
    max_epochs: int | None
    batch_size: int | None
    learning_rate: float | None
    device: str
    random_state: RandomState
    verbose: int | bool

    @property
    def rates(self) -> bool:
        """Whether ratings are predicted."""
        return self.feedback == "explicit"


def fit_recommender(log: Interactions, titles: Mapping[Hashable, str], plan: Plan) -> FittedRecommender:
    """Fit to a log.

    Raises
    ------
    DataError
        The log has no ratings but they are needed, a rating is out of range, or fewer than two users are left.
    """
    known = _known(log, titles, plan)
    matrix = known.positives(known.log.matrix)
    rows = np.flatnonzero(np.diff(matrix.indptr) > 0)
    if len(rows) < 2:
        raise DataError(
            f"{counted(len(rows), 'user')} with a positive interaction, but at least 2 are needed; positive means: "
            f"{known.liking}. Set positive_from to include more."
        )
    biases = learn_biases(matrix) if plan.rates else None
    with _softmax_is_far_from_ones():
        model = _autoencoder(plan, len(rows)).fit(_dense(matrix[rows], biases))
    weight = path_weight(plan.shallow_weight, rates=plan.rates)
    return _solved(known, matrix, model=model, biases=biases, weight=weight, shallow=plan.shallow)


def grown(fitted: FittedRecommender, log: Interactions, columns: np.ndarray, *, shallow: bool) -> FittedRecommender:
    """Add interactions: one pass of the deep path over their users; the shallow path is recomputed.

    Parameters
    ----------
    fitted
        What was learned before; it does not change.
    log
        New interactions.
    columns
        The item of each column of the log, as a column of the fitted log, (items,).
    shallow
        Whether to use the shallow path.
    """
    merged, changed = _merged(fitted.log, log, columns)
    known = _kept(fitted, merged)
    matrix = known.positives(known.log.matrix)
    rows = changed[np.diff(matrix.indptr)[changed] > 0]
    model = fitted.model
    if len(rows):
        again = np.resize(rows, max(2, len(rows)))  # a pass needs at least two rows
        with _softmax_is_far_from_ones():
            model = copy.deepcopy(model).partial_fit(_dense(matrix[again], fitted.biases))
    weight = fitted.path_weight
    return _solved(known, matrix, model=model, biases=fitted.biases, weight=weight, shallow=shallow)


def path_weight(shallow_weight: float | None, *, rates: bool) -> float:
    """The weight of the shallow path's scores; None: the usual one."""
    if shallow_weight is not None:
        return float(shallow_weight)
    return PATH_BESIDE_RATINGS if rates else PATH_BESIDE_LOGITS


def usual_choices(feedback: str) -> dict[str, Choice]:
    """The choices that ``"auto"`` means."""
    if feedback == "explicit":
        return {"code": Plain(), "loss": Observed(MeanSquaredError(activation=None))}
    return {"code": Gaussian(0.2, warm_up=0.5), "loss": Multinomial()}


# -- the log -----------------------------------------------------------------------------------------------------------


def refuse_without_ratings(log: Interactions, *, rates: bool) -> None:
    """Raise if ratings are to be predicted from a log without them."""
    if rates and not log.rated:
        raise DataError(
            "feedback='explicit' needs ratings, but the interactions have none (or all are 1); add a column "
            "rating, or use feedback='implicit'."
        )


def _known(log: Interactions, titles: Mapping[Hashable, str], plan: Plan) -> KnownLog:
    """The log with what is inferred of its values."""
    refuse_without_ratings(log, rates=plan.rates)
    values = log.matrix.data
    rating_range = plan.rating_range
    if rating_range is None and plan.rates:  # implicit feedback has no range unless one is requested
        rating_range = (float(values.min()), float(values.max()))
    refuse_range(values, rating_range)
    asked = None if plan.rates else plan.positive_from
    liking = learn_liking(values, log.rated, log.counted, asked)
    return _kept(KnownLog(plan.feedback, rating_range, liking, log, titles), log)


def _kept(known: KnownLog, log: Interactions) -> KnownLog:
    """The known facts with another log, without its times, and without zeros where they mean no interaction."""
    if known.liking.drops_zeros and not known.rates:
        log = replace(log, matrix=without_zeros(log.matrix)[0])
    log = replace(log, times=None)
    return KnownLog(known.feedback, known.rating_range, known.liking, log, known.titles)


def _merged(old: Interactions, log: Interactions, columns: np.ndarray) -> tuple[Interactions, np.ndarray]:
    """A log merged into another, and the rows of its users in the result; columns of -1 are skipped."""
    log = replace(log, matrix=chosen(log.matrix, columns[log.matrix.indices] >= 0))
    index = old.user_index
    new = [index.as_ours(name) for name in log.users.tolist() if index.find(name) is None]
    refuse_alike([*old.users.tolist(), *new] if new else [], index.kinds | set(map(type, new)))
    grown_log = replace(old, users=joined(old.users, new) if new else old.users)
    rows = np.asarray([grown_log.user_index.find(name) for name in log.users.tolist()], np.int64)
    matrix = overlaid(old.matrix, log.matrix, rows, columns, len(grown_log.users))
    return replace(grown_log, matrix=matrix, times=None), rows


# -- the models --------------------------------------------------------------------------------------------------------


def _autoencoder(plan: Plan, n_rows: int) -> Autoencoder:
    """The deep path, not fitted yet."""
    usual = usual_choices(plan.feedback)
    batch = 2 ** round(np.log2(max(1, n_rows / 20)))
    batch = plan.batch_size or min(LARGEST_BATCH, max(SMALLEST_BATCH, batch))
    epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, STEPS_WANTED // -(-n_rows // int(batch))))
    epochs = FEWEST_EPOCHS if plan.rates else epochs
    return Autoencoder(
        plan.code_size,
        network=plan.network,
        code=usual["code"] if plan.code is None else plan.code,
        corruption=plan.corruption,
        loss=usual["loss"] if plan.loss is None else plan.loss,
        scaling="none",
        max_epochs=plan.max_epochs or epochs,
        batch_size=int(batch),
        learning_rate=plan.learning_rate or 0.002,
        device=plan.device,
        random_state=plan.random_state,
        verbose=plan.verbose,
    )


def _dense(matrix: csr_array, biases: Biases | None) -> DenseHistories:
    return DenseHistories(matrix) if biases is None else DenseHistories(biases.residuals(matrix), np.nan)


@contextmanager
def _softmax_is_far_from_ones() -> Iterator[None]:
    """Context manager without `FitWarning`: softmax outputs are far from the ones of the input, by design."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)
        yield


def _solved(
    known: KnownLog, matrix: csr_array, *, model: Autoencoder, biases: Biases | None, weight: float, shallow: bool
) -> FittedRecommender:
    """All parts together, with the shallow path and the factors of the positive interactions."""
    path: ShallowPath | None = None
    factors: Factors | None = None
    if shallow and biases is None:
        path = solve_shallow(matrix)
    elif shallow and biases is not None:
        rest = biases.residuals(matrix)
        path = solve_shallow(rest, ridge=RATINGS_RIDGE, dropout=0.0, balance=0.0)
        factors = learn_factors(rest)
    return FittedRecommender(
        known.feedback,
        known.rating_range,
        known.liking,
        known.log,
        known.titles,
        model=model,
        biases=biases,
        path=path,
        factors=factors,
        path_weight=weight,
    )
