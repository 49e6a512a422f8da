"""The recommender: an autoencoder of users' histories plus a linear item-to-item model."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from isthmus.choices import Gaussian, MeanSquaredError, Multinomial, Observed, Plain
from isthmus.choices.parameters import Parameters
from isthmus.choices.registry import Choice, Registry
from isthmus.choices.rules import Number, OneOf, Rule, Whole, broken_rules, either
from isthmus.estimators import Autoencoder
from isthmus.estimators.fitting import AUTO, CHOICES, refuse
from isthmus.estimators.validation import refuse_targets
from isthmus.exceptions import DataError, FitWarning
from isthmus.files.model_file import State, write_state
from isthmus.tasks.recommendation import persistence
from isthmus.tasks.recommendation.answering import Answering
from isthmus.tasks.recommendation.biases import learn_biases
from isthmus.tasks.recommendation.ease import ShallowPath, solve_shallow
from isthmus.tasks.recommendation.evaluation import score_of
from isthmus.tasks.recommendation.factors import Factors, learn_factors
from isthmus.tasks.recommendation.histories import refuse_range
from isthmus.tasks.recommendation.interactions import read_interactions
from isthmus.tasks.recommendation.liking import chosen
from isthmus.tasks.recommendation.log import is_auto
from isthmus.tasks.recommendation.names import read_titles

STEPS_WANTED = 1_000
FEWEST_EPOCHS, MOST_EPOCHS = 20, 100
SMALLEST_BATCH, LARGEST_BATCH = 32, 512
PATH_BESIDE_LOGITS, PATH_BESIDE_RATINGS = 12.0, 2.0
RATINGS_RIDGE = 2_000.0
"""The path's ridge where it learns what biases leave of ratings."""
RATINGS = "Ratings and weights belong in the interactions: a column rating of a frame, or the numbers of the matrix."


@dataclass(eq=False, repr=False, kw_only=True)
class Recommender(Answering, Parameters, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
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
    rating_range: Any = "auto"
    code_size: int = 200
    network: Any = "sparse-rows"
    code: Any = "auto"
    corruption: Any = "drop-entries"
    loss: Any = "auto"
    shallow: bool = True
    shallow_weight: float | str = "auto"
    max_epochs: int | str = "auto"
    batch_size: int | str = "auto"
    learning_rate: float | str = "auto"
    device: str = "auto"
    random_state: Any = None
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
        named = read_titles(titles, log.item_index)
        self.feedback_ = self.feedback
        self._refuse_mismatch(log)
        self._learn_range(log)
        self.liking_ = self._learn_liking(log)
        self.titles_: dict[Hashable, str] = named
        self._keep(log)
        self.path_weight_ = self._path_weight()
        known = self._positives(self.log_.matrix)
        rows = np.flatnonzero(np.diff(known.indptr) > 0)
        if len(rows) < 2:
            raise DataError(
                f"{len(rows)} users have a positive interaction, but at least 2 are needed; positive means: "
                f"{self.liking_}. Set positive_from to include more."
            )
        self.biases_ = learn_biases(known) if self._rates else None
        self.model_ = self._make_model(len(rows))
        self._train(lambda: self.model_.fit(self._source(known[rows])))
        self._solve()
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
        if not hasattr(self, "model_"):
            return self.fit(interactions, users=users, items=items)
        log = read_interactions(interactions, users=users, items=items)
        self._refuse_mismatch(log)
        reader = self._reader(unknown)
        refuse_range(log.matrix.data, self.rating_range_)
        columns = reader.columns(log.items.tolist())
        log = replace(log, matrix=chosen(log.matrix, columns[log.matrix.indices] >= 0))
        changed = self._merge(log, columns)
        known = self._positives(self.log_.matrix)
        rows = changed[np.diff(known.indptr)[changed] > 0]
        if len(rows):
            again = np.resize(rows, max(2, len(rows)))  # a pass needs at least two rows
            self._train(lambda: self.model_.partial_fit(self._source(known[again])))
        self._solve()
        return self

    def _make_model(self, n_rows: int) -> Autoencoder:
        batch = 2 ** round(np.log2(max(1, n_rows / 20)))
        batch = min(LARGEST_BATCH, max(SMALLEST_BATCH, batch)) if self.batch_size == "auto" else self.batch_size
        epochs = min(MOST_EPOCHS, max(FEWEST_EPOCHS, STEPS_WANTED // -(-n_rows // int(batch))))
        epochs = FEWEST_EPOCHS if self._rates else epochs
        usual = self._usual_choices()
        return Autoencoder(
            self.code_size,
            network=self.network,
            code=usual["code"] if is_auto(self.code) else self.code,
            corruption=self.corruption,
            loss=usual["loss"] if is_auto(self.loss) else self.loss,
            scaling="none",
            max_epochs=epochs if self.max_epochs == "auto" else self.max_epochs,
            batch_size=int(batch),
            learning_rate=0.002 if self.learning_rate == "auto" else self.learning_rate,
            device=self.device,
            random_state=self.random_state,
            verbose=self.verbose,
        )

    def _usual_choices(self) -> dict[str, Choice]:
        """The choices that ``"auto"`` means."""
        if self._rates:
            return {"code": Plain(), "loss": Observed(MeanSquaredError(activation=None))}
        return {"code": Gaussian(0.2, warm_up=0.5), "loss": Multinomial()}

    def _member_to_set(self, name: str, value: Any) -> Any:
        """The choice whose parameter is about to be set; ``"auto"`` is resolved first."""
        return super()._member_to_set(name, self._usual_choices().get(name, value) if is_auto(value) else value)

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
        check_is_fitted(self, "model_")
        return score_of(self, interactions)

    def summary(self) -> dict[str, Any]:
        """Facts about the training log: users, items, interactions, and the rule and number of positive interactions.

        >>> log = __import__("pandas").DataFrame({"user": [1, 1, 2, 2], "item": list("abab"), "plays": [1, 9, 0, 2]})
        >>> model = Recommender(code_size=2, network=(4,), max_epochs=1, random_state=0).fit(log)
        >>> model.summary()["counts as having"], model.summary()["interactions that count"]
        ('above 0', 3)
        """
        check_is_fitted(self, "model_")
        facts: dict[str, Any] = {
            "users": len(self.users_),
            "items": len(self.items_),
            "items that nobody has": int((self.popularity_ == 0).sum()),
            "interactions": int(self.log_.matrix.nnz),
        }
        if not self._rates:
            facts |= {
                "values are": self.liking_.values,
                "counts as having": str(self.liking_),
                "interactions that count": int(self._positives(self.log_.matrix).nnz),
            }
        return facts | ({"titles": len(self.titles_)} if self.titles_ else {})

    def _path_weight(self) -> float:
        """The resolved value of ``shallow_weight``."""
        usual = PATH_BESIDE_RATINGS if self._rates else PATH_BESIDE_LOGITS
        return usual if is_auto(self.shallow_weight) else float(self.shallow_weight)

    def _train(self, work: Callable[[], object]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitWarning)  # softmax outputs are far from the ones of the input, by design
            work()
        self.history_ = self.model_.history_

    def _solve(self) -> None:
        self.path_: ShallowPath | None = None
        self.factors_: Factors | None = None
        if self.shallow:
            known = self._positives(self.log_.matrix)
            if self.biases_ is None:
                self.path_ = solve_shallow(known)
            else:
                rest = self.biases_.residuals(known)
                self.path_ = solve_shallow(rest, ridge=RATINGS_RIDGE, dropout=0.0, balance=0.0)
                self.factors_ = learn_factors(rest)
        for made_from_these in ("_embeddings", "_user_codes"):
            self.__dict__.pop(made_from_these, None)

    # -- keeping -------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write the recommender and its log to one file atomically; `isthmus.load` reads it."""
        check_is_fitted(self, "model_")
        return write_state(path, persistence.to_state(self))

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:
        return persistence.from_state(cls, state, network, device)


def _range_mistakes(value: Any) -> list[str]:
    pair = isinstance(value, tuple | list) and len(value) == 2 and all(Number().admits(end) for end in value)
    if is_auto(value) or (pair and value[0] < value[1]):
        return []
    return [f"Recommender: rating_range={value!r} must be 'auto' or (minimum, maximum) rating."]
