"""The recommender: an autoencoder of users' histories plus a linear item-to-item model."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from isthmus.choices import Code, Corruption, Loss, Network
from isthmus.choices.parameters import Parameters, is_auto
from isthmus.choices.registry import Registry
from isthmus.choices.rules import Number, OneOf, Rule, Whole, broken_rules, either
from isthmus.estimators import Autoencoder
from isthmus.estimators.fitting import AUTO, CHOICES, refuse
from isthmus.estimators.saved import Saved
from isthmus.estimators.validation import refuse_targets
from isthmus.files.model_file import State
from isthmus.files.records import Arrays, Json
from isthmus.seeds import RandomState
from isthmus.tasks.recommendation import persistence
from isthmus.tasks.recommendation.answering import Answering
from isthmus.tasks.recommendation.biases import Biases
from isthmus.tasks.recommendation.ease import ShallowPath
from isthmus.tasks.recommendation.evaluation import score_of
from isthmus.tasks.recommendation.factors import Factors
from isthmus.tasks.recommendation.fitted import FittedRecommender
from isthmus.tasks.recommendation.histories import refuse_range
from isthmus.tasks.recommendation.interactions import Interactions, read_interactions
from isthmus.tasks.recommendation.liking import Liking
from isthmus.tasks.recommendation.names import read_titles
from isthmus.tasks.recommendation.recommender_fit import (
    Plan,
    fit_recommender,
    grown,
    refuse_without_ratings,
    usual_choices,
)
from isthmus.training import History

RATINGS = "Ratings and weights belong in the interactions: a column rating of a frame, or the numbers of the matrix."


@dataclass(eq=False, repr=False, kw_only=True)
class Recommender(Saved, Answering, Parameters, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Recommends items from users' interactions; new users only need a history.

    ::

        history x ─▶ drop entries ─▶ SparseRows ─▶ Gaussian code ─▶ decoder ─┐
                └──────── shallow path, closed form, no diagonal ── × weight ─┴─▶ scores of all items

    The deep path is a variational autoencoder of histories (Liang et al. 2018). The shallow path is a linear model that
    predicts each item from the others (Steck 2019, 2020). They are fitted separately and added, because their errors
    differ. With ``feedback="explicit"`` the model predicts ratings in their units: biases, plus predictions of the
    residuals by the shallow path, a few factors (Raiko et al. 2007) and an autoencoder (Sedhain et al. 2015).

    Parameters
    ----------
    feedback
        ``"implicit"``: predict which items users have; ``"explicit"``: predict their ratings.
    positive_from
        For implicit feedback, the lowest value of a positive interaction; items with lower values only count as seen.
        ``"auto"``: for ratings the median, or the next higher rating if none is below it; for counts, amounts, and
        zeros and ones all values above 0, where 0 means no interaction. It is never 0 or less. `summary` reports the
        inferred kind of values and the number of positive interactions. None: every interaction is positive.
    rating_range
        Minimum and maximum rating; other ratings raise an error. ``"auto"``: the range at `fit` for explicit feedback,
        no bounds for implicit feedback.
    code_size, network, code, corruption, loss
        As for `Autoencoder`. ``"auto"`` is a `Gaussian` code and `Multinomial` loss for implicit feedback, a `Plain`
        code and squared errors of `Observed` entries for explicit feedback.
    shallow
        Whether to use the shallow path, and for ratings the factors; False uses only the autoencoder. With more than
        10,000 items only the most popular are part of the shallow path.
    shallow_weight
        Weight of the shallow path's scores in the sum, >= 0; ``"auto"``: 12 for logits, 2 for ratings.
    max_epochs, batch_size, learning_rate
        As for `Autoencoder`; ``"auto"`` depends on the number of users.
    device, random_state, verbose
        As for `Autoencoder`.

    Attributes
    ----------
    users_, items_
        Identifiers of all users and items, (users,), (items,).
    item_embeddings_ : array
        A vector for each item, (items, width); similar items have similar directions.
    popularity_ : array
        Fraction of users who have each item, (items,).
    positive_from_
        Lowest value of a positive interaction, or None if every interaction is positive.
    liking_
        Inferred kind of values (``"ones"``, ``"counts"`` or ``"ratings"``) and `positive_from_`.
    titles_ : dict
        The titles of the items that have one.
    model_ : Autoencoder
        The deep path.
    history_ : History
        Its losses and times, one row per epoch.

    Examples
    --------
    >>> import pandas
    >>> log = pandas.DataFrame({"user": [u for u in range(20) for _ in range(3)], "item": list("abcbcd") * 10})
    >>> model = Recommender(code_size=2, network=(4,), max_epochs=2, random_state=0).fit(log)
    >>> model.recommend(0, 1).items, model.recommend(history=["b", "d"], n=1).items
    (array(['d'], dtype=object), array(['c'], dtype=object))
    """

    feedback: str = "implicit"
    positive_from: float | str | None = "auto"
    rating_range: tuple[float, float] | str = "auto"
    code_size: int = 200
    network: Network | str | tuple[int, ...] = "sparse-rows"
    code: Code | str = "auto"
    corruption: Corruption | str | None = "drop-entries"
    loss: Loss | str = "auto"
    shallow: bool = True
    shallow_weight: float | str = "auto"
    max_epochs: int | str = "auto"
    batch_size: int | str = "auto"
    learning_rate: float | str = "auto"
    device: str = "auto"
    random_state: RandomState = None
    verbose: int | bool = 0

    choice_registries: ClassVar[Mapping[str, Registry[Any]]] = CHOICES
    rules: ClassVar[Mapping[str, Rule]] = {
        "feedback": OneOf(("implicit", "explicit")),
        "positive_from": either(Number(), OneOf(("auto", None))),
        "shallow": OneOf((True, False)),
        "shallow_weight": either(Number(0.0), AUTO),
        "max_epochs": either(Whole(1), AUTO),
        "batch_size": either(Whole(1), AUTO),
        "learning_rate": either(Number(0.0, open_low=True), AUTO),
    }

    # -- learning ------------------------------------------------------------------------------------------------

    def fit(
        self, interactions: Any, y: Any = None, *, users: Any = None, items: Any = None, titles: Any = None
    ) -> Self:
        """Fit to a log of interactions. Earlier results are discarded.

        Parameters
        ----------
        interactions
            A pandas or polars frame with the columns user and item, and optionally rating and time; or a CSR matrix
            (users, items); or `Interactions`. Of repeated interactions the latest is kept. The input is copied and
            never changed.
        y
            Labels, which are ignored; what has two dimensions is refused.
        users, items
            Identifiers of the rows and columns of a matrix; None: 0, 1, ….
        titles
            The titles of items: a mapping from item to title, a Series, or a frame with the columns item and title.
            A title can then replace an item anywhere, `find` looks up approximate titles, and results have titles.
            Items without a title are shown by their identifier.

        Raises
        ------
        ValueError, TypeError
            Parameters or the log are invalid; one error lists all invalid parameters.
        """
        refuse_targets(self, y, RATINGS)
        refuse([*broken_rules(self, self.rules), *_range_mistakes(self.rating_range)])
        log = read_interactions(interactions, users=users, items=items)
        self.fitted_ = fit_recommender(log, read_titles(titles, log.item_index), self._plan())
        return self

    def partial_fit(
        self, interactions: Any, y: Any = None, *, users: Any = None, items: Any = None, unknown: str = "error"
    ) -> Self:
        """Add interactions: one pass of the deep path over their users; the shallow path is recomputed.

        New users are added; of repeated interactions the new rating is kept.

        Parameters
        ----------
        interactions, users, items
            As for `fit`; the first call is a `fit`.
        y
            Labels, which are ignored; what has two dimensions is refused.
        unknown
            ``"ignore"``: skip interactions with items that are unknown since `fit`.

        Raises
        ------
        DataError
            An item did not occur at `fit`: the networks have no input for it.
        """
        refuse_targets(self, y, RATINGS)
        if not hasattr(self, "fitted_"):
            return self.fit(interactions, users=users, items=items)
        fitted = self.fitted_
        log = read_interactions(interactions, users=users, items=items)
        refuse_without_ratings(log, rates=fitted.rates)
        reader = fitted.reader(unknown)
        refuse_range(log.matrix.data, fitted.rating_range)
        self.fitted_ = grown(fitted, log, reader.columns(log.items.tolist()), shallow=self.shallow)
        return self

    def _plan(self) -> Plan:
        """The parameters, with None for ``"auto"``."""
        same = ("feedback", "positive_from", "shallow", "code_size", "network", "corruption", "device", "random_state",
                "verbose")  # fmt: skip
        given: dict[str, Any] = {name: getattr(self, name) for name in (*same, *SET_BY_AUTO)}
        given |= {name: None for name in SET_BY_AUTO if is_auto(given[name])}
        pair: Any = self.rating_range
        return Plan(**given, rating_range=None if is_auto(pair) else (float(pair[0]), float(pair[1])))

    def _member_to_set(self, name: str, value: Any) -> Any:
        """The choice whose parameter is about to be set; ``"auto"`` is resolved first."""
        feedback = self.fitted_.feedback if hasattr(self, "fitted_") else self.feedback
        return super()._member_to_set(name, usual_choices(feedback).get(name, value) if is_auto(value) else value)

    def score(self, interactions: Any, y: Any = None) -> float:
        """Quality of the recommendations on interactions; higher is better, as ``GridSearchCV`` requires.

        For users of the log with new interactions in a frame, the new ones are the target. For all other users, and for
        the rows of a matrix, a fifth of the interactions is held out and the rest is given. Unknown items are skipped.

        Parameters
        ----------
        interactions
            As for `fit`.
        y
            Labels, which are ignored; what has two dimensions is refused.

        Returns
        -------
        float
            The mean NDCG@10, in [0, 1]; with ``feedback="explicit"`` the negative RMSE, in rating units.
        """
        refuse_targets(self, y, RATINGS)
        check_is_fitted(self, "fitted_")
        return score_of(self.fitted_, interactions)

    def summary(self) -> dict[str, Any]:
        """Facts about the training log: users, items, interactions, and the rule and number of positive interactions.

        >>> log = __import__("pandas").DataFrame({"user": [1, 1, 2, 2], "item": list("abab"), "plays": [1, 9, 0, 2]})
        >>> model = Recommender(code_size=2, network=(4,), max_epochs=1, random_state=0).fit(log)
        >>> model.summary()["counts as having"], model.summary()["interactions that count"]
        ('above 0', 3)
        """
        check_is_fitted(self, "fitted_")
        return summary_of(self.fitted_)

    # -- what was learned ------------------------------------------------------------------------------------------

    @property
    def users_(self) -> np.ndarray:
        """Identifiers of all users, (users,)."""
        return self.fitted_.log.users

    @property
    def items_(self) -> np.ndarray:
        """Identifiers of all items, (items,)."""
        return self.fitted_.log.items

    @property
    def log_(self) -> Interactions:
        """All interactions, without times."""
        return self.fitted_.log

    @property
    def popularity_(self) -> np.ndarray:
        """Fraction of users who have each item, (items,)."""
        return self.fitted_.popularity

    @property
    def feedback_(self) -> str:
        """``"implicit"`` or ``"explicit"``, as set at `fit`."""
        return self.fitted_.feedback

    @property
    def rating_range_(self) -> tuple[float, float] | None:
        """Minimum and maximum rating, or None."""
        return self.fitted_.rating_range

    @property
    def liking_(self) -> Liking:
        """The inferred kind of values, and the lowest positive one."""
        return self.fitted_.liking

    @property
    def positive_from_(self) -> float | None:
        """Lowest value of a positive interaction; None if every interaction is positive, or for explicit feedback."""
        return self.fitted_.liking.positive_from

    @property
    def titles_(self) -> Mapping[Hashable, str]:
        """The titles of the items that have one."""
        return self.fitted_.titles

    @property
    def model_(self) -> Autoencoder:
        """The deep path."""
        return self.fitted_.model

    @property
    def history_(self) -> History:
        """Losses and times of the deep path, one row per epoch."""
        return self.fitted_.model.history_

    @property
    def path_(self) -> ShallowPath | None:
        """The shallow path."""
        return self.fitted_.path

    @property
    def path_weight_(self) -> float:
        """Weight of the shallow path's scores."""
        return self.fitted_.path_weight

    @property
    def biases_(self) -> Biases | None:
        """The biases of ratings."""
        return self.fitted_.biases

    @property
    def factors_(self) -> Factors | None:
        """The factors of ratings."""
        return self.fitted_.factors

    # -- keeping -------------------------------------------------------------------------------------------------

    def _to_state(self) -> State:
        return persistence.to_state(self, self.fitted_)

    def _run_state(self) -> tuple[Json, dict[str, np.ndarray]]:
        return persistence.run_state(self.fitted_)

    def _put_run_state(self, values: Json, arrays: Arrays) -> None:
        self.fitted_ = persistence.with_run_state(self.fitted_, values, arrays)

    def _learned_members(self) -> Iterable[Any]:
        return (self.fitted_.model,) if hasattr(self, "fitted_") else ()

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:
        model, fitted = persistence.from_state(cls, state, network, device)
        model.fitted_ = fitted
        return model


SET_BY_AUTO = ("shallow_weight", "code", "loss", "max_epochs", "batch_size", "learning_rate")
"""Parameters that may be ``"auto"``."""


def summary_of(fitted: FittedRecommender) -> dict[str, Any]:
    """See `Recommender.summary`."""
    facts: dict[str, Any] = {
        "users": len(fitted.log.users),
        "items": len(fitted.log.items),
        "items that nobody has": int((fitted.popularity == 0).sum()),
        "interactions": int(fitted.log.matrix.nnz),
    }
    if not fitted.rates:
        facts |= {
            "values are": fitted.liking.values,
            "counts as having": str(fitted.liking),
            "interactions that count": int(fitted.positives(fitted.log.matrix).nnz),
        }
    return facts | ({"titles": len(fitted.titles)} if fitted.titles else {})


def _range_mistakes(value: Any) -> list[str]:
    pair = isinstance(value, tuple | list) and len(value) == 2 and all(Number().admits(end) for end in value)
    if is_auto(value) or (pair and value[0] < value[1]):
        return []
    return [f"Recommender: rating_range={value!r} must be 'auto' or (minimum, maximum) rating."]
