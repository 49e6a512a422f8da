"""The recommender: an autoencoder of users' histories beside a shallow path from item to item."""

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
    """Recommends items from who had what, also to people it has never seen, by their history.

    ::

        history x ─▶ drop entries ─▶ SparseRows ─▶ Gaussian code ─▶ decoder ─┐
                └──────── shallow path, closed form, no diagonal ── × weight ─┴─▶ scores of all items

    The deep path is a variational autoencoder of histories (Liang et al. 2018); the shallow one a linear model that
    predicts each item from the others (Steck 2019, 2020). They are learned apart and added: each alone errs elsewhere.
    With ``feedback="explicit"`` ratings are expected, in their own units: biases, and what the shallow path, a few
    factors (Raiko et al. 2007) and an autoencoder (Sedhain et al. 2015) say of the rest.

    Parameters
    ----------
    feedback
        ``"implicit"``: learn what people have; ``"explicit"``: learn which rating they give.
    positive_from
        For implicit feedback, the least value that counts as having the item; lower ones only count as seen.
        ``"auto"``: of ratings the median, or where nothing lies below it the next one above; of counts, amounts, and
        zeros and ones everything above 0, where a 0 is no interaction at all. It is never 0 or less. `summary` says
        what the values were taken for and how many count. None: every interaction counts, whatever its value.
    rating_range
        Least and largest rating there can be; ratings outside are refused. ``"auto"``: as found at `fit` for explicit
        feedback, no bounds for implicit.
    code_size, network, code, corruption, loss
        As for `Autoencoder`. ``"auto"`` is a `Gaussian` code and `Multinomial` loss for implicit feedback, a `Plain`
        code and squared errors of the `Observed` entries for explicit.
    shallow
        Whether to have the shallow path, and for ratings the factors; without, the autoencoder alone answers. Of more
        than 10,000 items the most popular take part in the path.
    shallow_weight
        What its scores are multiplied by before they are added, >= 0; ``"auto"``: 12 beside logits, 2 beside ratings.
    max_epochs, batch_size, learning_rate
        As for `Autoencoder`; ``"auto"`` goes by the number of users.
    device, random_state, verbose
        As for `Autoencoder`.

    Attributes
    ----------
    users_, items_
        The names of all users and items, (users,), (items,).
    item_embeddings_ : array
        A vector for each item, (items, width): items with like neighbours lie in like directions.
    popularity_ : array
        The share of users who have each item, (items,).
    positive_from_
        The least value that counts as having, or None where every interaction does.
    liking_
        What the values of the log were taken for (``"ones"``, ``"counts"`` or ``"ratings"``) and `positive_from_`.
    titles_ : dict
        The titles of the items that have one.
    model_ : Autoencoder
        The deep path.
    history_ : History
        Its losses and times, a row an epoch.

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
        """Learn from a log; whatever was learned before is forgotten.

        Parameters
        ----------
        interactions
            A pandas or polars frame with the columns user and item, and where there are, rating and time; or a CSR
            matrix (users, items); or `Interactions`. Where a user meets an item twice, the latest counts. They are
            copied, and never changed.
        y
            Labels, which are ignored; what has two dimensions is refused.
        users, items
            Names of the rows and columns of a matrix; None: 0, 1, ….
        titles
            The titles of items: a mapping from item to title, a Series, or a frame with the columns item and title.
            With them, a title can be given wherever an item is asked for, `find` finds items as people type them,
            and answers have titles. Items without a title go by their name.

        Raises
        ------
        ValueError, TypeError
            Parameters or the log cannot be used; all wrong parameters are named at once.
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
                f"{len(rows)} users have an item with a rating that counts, but at least 2 are needed; what counts is: "
                f"{self.liking_}."
            )
        self.biases_ = learn_biases(known) if self._rates else None
        self.model_ = self._make_model(len(rows))
        self._train(lambda: self.model_.fit(self._source(known[rows])))
        self._solve()
        return self

    def partial_fit(
        self, interactions: Any, y: Any = None, *, users: Any = None, items: Any = None, unknown: str = "error"
    ) -> Self:
        """Take in new interactions: one more pass of the deep path over their users; the shallow path is solved again.

        New users become known; where a user meets an item again, the new rating counts.

        Parameters
        ----------
        interactions, users, items
            As for `fit`, which the first call is.
        y
            Labels, which are ignored; what has two dimensions is refused.
        unknown
            ``"ignore"``: leave out interactions with items that were not there at `fit`.

        Raises
        ------
        DataError
            There is an item that was not there at `fit`: the networks have no place for it.
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
            again = np.resize(rows, max(2, len(rows)))  # a pass needs two rows
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
        """What ``"auto"`` stands for."""
        if self._rates:
            return {"code": Plain(), "loss": Observed(MeanSquaredError(activation=None))}
        return {"code": Gaussian(0.2, warm_up=0.5), "loss": Multinomial()}

    def _member_to_set(self, name: str, value: Any) -> Any:
        """The choice whose parameter is about to be set; ``"auto"`` becomes what it stands for."""
        return super()._member_to_set(name, self._usual_choices().get(name, value) if is_auto(value) else value)

    def score(self, interactions: Any, y: Any = None) -> float:
        """How good the recommender is on interactions; higher is better, so that ``GridSearchCV`` takes it.

        Of users of the log who have something new in a frame, this is what should have been recommended; of all others,
        and of the rows of a matrix, a fifth of the interactions is held out and the rest given. Items that were not
        there at `fit` are left out.

        Parameters
        ----------
        interactions
            As for `fit`.
        y
            Labels, which are ignored; what has two dimensions is refused.

        Returns
        -------
        float
            The mean NDCG@10, in [0, 1]; with ``feedback="explicit"`` minus the RMSE, in rating units.
        """
        refuse_targets(self, y, RATINGS)
        check_is_fitted(self, "model_")
        return score_of(self, interactions)

    def summary(self) -> dict[str, Any]:
        """What was learned from: users, items, interactions, how many of them count as having, and why.

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
        """What the parameter ``shallow_weight`` stands for."""
        usual = PATH_BESIDE_RATINGS if self._rates else PATH_BESIDE_LOGITS
        return usual if is_auto(self.shallow_weight) else float(self.shallow_weight)

    def _train(self, work: Callable[[], object]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitWarning)  # shares of a softmax are far from ones, and shall be
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
        """Write the recommender with its log to one file, whole or not at all; `isthmus.load` gives it back."""
        check_is_fitted(self, "model_")
        return write_state(path, persistence.to_state(self))

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:
        return persistence.from_state(cls, state, network, device)


def _range_mistakes(value: Any) -> list[str]:
    pair = isinstance(value, tuple | list) and len(value) == 2 and all(Number().admits(end) for end in value)
    if is_auto(value) or (pair and value[0] < value[1]):
        return []
    return [f"Recommender: rating_range={value!r} must be 'auto' or the least and the largest rating."]
