"""The recommender: an autoencoder of users' histories beside a shallow path from item to item."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from isthmus.choices import Gaussian, MeanSquaredError, Multinomial, Observed, Plain
from isthmus.choices.parameters import Parameters
from isthmus.choices.registry import Choice, Registry
from isthmus.choices.rules import Number, OneOf, Rule, Whole, broken_rules, either
from isthmus.estimators import Autoencoder
from isthmus.estimators.fitting import AUTO, CHOICES, refuse
from isthmus.exceptions import DataError, FitWarning
from isthmus.files.model_file import State, write_state
from isthmus.tasks.recommendation import keeping
from isthmus.tasks.recommendation.answers import Recommendations
from isthmus.tasks.recommendation.biases import Histories, learn_biases
from isthmus.tasks.recommendation.factors import Factors, learn_factors
from isthmus.tasks.recommendation.interactions import read_interactions
from isthmus.tasks.recommendation.log import LogKeeping, is_auto
from isthmus.tasks.recommendation.names import find_title
from isthmus.tasks.recommendation.ranking import top_n
from isthmus.tasks.recommendation.shallow import ShallowPath, solve_shallow
from isthmus.tasks.similarity import nearest

STEPS_WANTED = 1_000
FEWEST_EPOCHS, MOST_EPOCHS = 20, 100
SMALLEST_BATCH, LARGEST_BATCH = 32, 512
PATH_BESIDE_LOGITS, PATH_BESIDE_RATINGS = 12.0, 2.0
RATINGS_RIDGE = 2_000.0
"""The path's ridge where it learns what biases leave of ratings."""
DEEP_SHARE, FACTORS_SHARE = 0.1, 0.4
"""What the autoencoder and the factors say of ratings is multiplied by these where there are both."""
NOBODY = 1e-12
"""The popularity of an item that nobody has, whose logarithm must be finite."""
BLOCK_BYTES = 16 * 2**20
"""How large a block of users is scored at a time, as float32."""


@dataclass(eq=False, repr=False, kw_only=True)
class Recommender(LogKeeping, Parameters, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
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
        For implicit feedback, the least rating that counts as having the item; lower ones only count as seen.
        ``"auto"``: the median rating. None: whatever was rated counts.
    rating_range
        Least and largest rating there can be; ``"auto"``: as found at `fit`. Ratings outside are refused.
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
        The least rating that counts as having, or None where everything does.
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
    (array(['d'], dtype='<U1'), array(['c'], dtype='<U1'))
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
            matrix (users, items); or `Interactions`. Where a user meets an item twice, the latest counts.
        y
            Ignored.
        users, items
            Names of the rows and columns of a matrix; None: 0, 1, ….
        titles
            The title of each item, a mapping from its name, by which `find` finds it.

        Raises
        ------
        ValueError, TypeError
            Parameters or the log cannot be used; all wrong parameters are named at once.
        """
        refuse([*broken_rules(self, self.rules), *_range_mistakes(self.rating_range)])
        log = read_interactions(interactions, users=users, items=items)
        self._refuse_mismatch(log)
        self._learn_range(log)
        self.positive_from_ = self._learn_threshold(log)
        self.titles_: dict[Hashable, str] = dict(titles or {})
        self._keep(log)
        known = self._positives(self.log_.matrix)
        rows = np.flatnonzero(np.diff(known.indptr) > 0)
        if len(rows) < 2:
            raise DataError(f"{len(rows)} users have an item with a rating that counts, but at least 2 are needed.")
        self.biases_ = learn_biases(known) if self._rates else None
        self.model_ = self._make_model(len(rows))
        self._train(lambda: self.model_.fit(self._source(known[rows])))
        self._solve()
        return self

    def partial_fit(self, interactions: Any, y: Any = None, *, users: Any = None, items: Any = None) -> Self:
        """Take in new interactions: one more pass of the deep path over the users they are of; the shallow path anew.

        New users become known; where a user meets an item again, the new rating counts.

        Parameters
        ----------
        interactions, users, items
            As for `fit`, which the first call is.
        y
            Ignored.

        Raises
        ------
        DataError
            There is an item that was not there at `fit`: the networks have no place for it.
        """
        if not hasattr(self, "model_"):
            return self.fit(interactions, users=users, items=items)
        log = read_interactions(interactions, users=users, items=items)
        self._refuse_mismatch(log)
        self._refuse_range(log.matrix.data)
        columns = np.asarray([self._column(name) for name in log.items.tolist()])
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

    def _train(self, work: Callable[[], object]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FitWarning)  # shares of a softmax are far from ones, and shall be
            work()
        self.history_ = self.model_.history_

    def _source(self, known: Any) -> Histories:
        if self.biases_ is None:
            return Histories(known)
        return Histories(self.biases_.residuals(known), np.nan)

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
        self.__dict__.pop("_embeddings", None)

    # -- using ---------------------------------------------------------------------------------------------------

    def recommend(
        self,
        user: Hashable = None,
        n: int = 10,
        *,
        history: Any = None,
        exclude_seen: bool = True,
        filter: Any = None,  # noqa: A002  # what it does
    ) -> Recommendations:
        """The best items for one user.

        Parameters
        ----------
        user
            A user of the log.
        n
            How many items, >= 1; where fewer are left, all of them.
        history
            Instead of a user, what somebody has: items, or a mapping from item to rating. It is answered as if it were
            a user's in the log, without training; an empty one with what is most popular.
        exclude_seen
            Leave out what the user has seen.
        filter
            Recommend only these: a collection of items, or a function that takes an item and says yes or no.

        Raises
        ------
        DataError
            The user or an item was never seen, or a rating is out of range.
        """
        given = {"users": [user]} if history is None else {"histories": [history]}
        if (user is None) == (history is None):
            raise ValueError("Give either a user or a history, not both and not neither.")
        return self.recommend_batch(n, **given, exclude_seen=exclude_seen, filter=filter)[0]

    def recommend_batch(
        self,
        n: int = 10,
        *,
        users: Any = None,
        histories: Any = None,
        exclude_seen: bool = True,
        filter: Any = None,  # noqa: A002  # what it does
    ) -> list[Recommendations]:
        """The best items for many users.

        Parameters
        ----------
        n, exclude_seen, filter
            As for `recommend`.
        users
            Users of the log; None: all.
        histories
            Instead of users, a history each, or a CSR matrix (people, items).
        """
        check_is_fitted(self, "model_")
        seen = self._histories(users, histories)
        allowed = self._allowed(filter)
        return [answer for block in _blocks(seen) for answer in self._best(block, n, exclude_seen, allowed)]

    def rank(self, histories: Any, n: int = 10, *, exclude_seen: bool = True) -> np.ndarray:
        """The numbers of the best items in `items_` for each history, (people, n), -1 where no more are left.

        The quick form of `recommend_batch`: arrays only.
        """
        check_is_fitted(self, "model_")
        seen = self._histories(None, histories)
        parts = [top_n(self._scores(part), _at_least_one(n), exclude=part if exclude_seen else None)
                 for part in _blocks(seen)]  # fmt: skip
        return np.concatenate(parts)

    def _best(self, seen: Any, n: int, exclude_seen: bool, allowed: np.ndarray) -> Iterator[Recommendations]:
        scores = self._scores(seen)
        scores[:, ~allowed] = -np.inf
        best = top_n(scores, _at_least_one(n), exclude=seen if exclude_seen else None)
        unknown_to_us = np.diff(self._positives(seen).indptr) == 0
        for row, places in enumerate(best):
            items = places[places >= 0]
            values = scores[row, items]
            yield Recommendations(self.items_[items], self._shown(values, scores[row]), bool(unknown_to_us[row]))

    def _shown(self, values: np.ndarray, row: np.ndarray) -> np.ndarray:
        """Scores as they are told: ratings, or shares of the next interactions."""
        if self._rates:
            return values.astype(np.float64)
        highest = row.max(initial=-np.inf)
        shares: np.ndarray = np.exp(values - highest, dtype=np.float64) / np.exp(row - highest, dtype=np.float64).sum()
        return shares

    def _scores(self, seen: Any) -> np.ndarray:
        """Scores by a block of histories, (people, items): ratings, or logarithms of shares up to a constant."""
        given = self._positives(seen)
        output = self._deep(given)
        rest = given if self.biases_ is None else self.biases_.residuals(given)
        if self.factors_ is not None:
            output *= DEEP_SHARE
            output += FACTORS_SHARE * self.factors_.predict(rest)
        if self.path_ is not None:
            usual = PATH_BESIDE_RATINGS if self._rates else PATH_BESIDE_LOGITS
            self.path_.add_to(output, rest, usual if is_auto(self.shallow_weight) else float(self.shallow_weight))
        if self.biases_ is not None:
            output += (self.biases_.mean + self.biases_.items)[None] + self.biases_.of_users(given)[:, None]
            output.clip(*self.rating_range_, out=output)
        output[np.diff(given.indptr) == 0] = self._popular()
        return output

    @torch.inference_mode()
    def _deep(self, given: Any) -> np.ndarray:
        """What the decoder says of histories, before it is made shares: (people, items)."""
        objective = self.model_.objective_
        rows = torch.from_numpy(self._source(given).read(slice(None))).to(self.model_.device_)
        output: np.ndarray = objective.decoder(objective.encode(rows)).cpu().numpy()
        return output

    def _popular(self) -> np.ndarray:
        """The scores for somebody of whom nothing is known, (items,)."""
        if self.biases_ is None:
            return np.log(np.maximum(self.popularity_, NOBODY))
        return np.clip(self.biases_.mean + self.biases_.items, *self.rating_range_)

    def predict(self, users: Any, items: Any) -> np.ndarray:
        """What users would make of items, pair by pair: (n,) users and (n,) items → (n,).

        The expected rating, in rating units; for implicit feedback the share that the item has of the user's next
        interactions, in (0, 1).
        """
        check_is_fitted(self, "model_")
        names, columns = list(users), np.asarray([self._column(item) for item in items])
        if len(names) != len(columns):
            raise ValueError(f"There are {len(names)} users and {len(columns)} items; give one item for each user.")
        rows, place = np.unique([self._row(user) for user in names], return_inverse=True)
        answer = np.empty(len(names))
        size = _block_size(len(self.items_))
        for start in range(0, len(rows), size):
            scores = self._scores(self.log_.matrix[rows[start : start + size]])
            for pair in np.flatnonzero((place >= start) & (place < start + size)):
                row = scores[place[pair] - start]
                answer[pair] = self._shown(row[columns[pair : pair + 1]], row)[0]
        return answer

    def predict_held(self, given: Any, held: Any) -> np.ndarray:
        """Predictions for the entries of one set of histories, from another set of the same people: (entries,)."""
        check_is_fitted(self, "model_")
        known, asked = self._histories(None, given), self._histories(None, held)
        size = _block_size(known.shape[1])
        parts = [np.empty(0)]
        for start in range(0, known.shape[0], size):
            scores, wanted = self._scores(known[start : start + size]), asked[start : start + size]
            parts.append(scores[np.repeat(np.arange(len(scores)), np.diff(wanted.indptr)), wanted.indices])
        return np.concatenate(parts)

    def relevant(self, histories: Any) -> Any:
        """CSR (people, items) of what counts as having of histories: the answer that is looked for in an evaluation."""
        check_is_fitted(self, "model_")
        return self._positives(self._histories(None, histories))

    def similar_items(self, item: Hashable, n: int = 10) -> Recommendations:
        """The items whose vectors in `item_embeddings_` point most nearly the same way, with their cosines."""
        check_is_fitted(self, "model_")
        place = self._column(item)
        others, cosines = nearest(self.item_embeddings_, self.item_embeddings_[[place]], _at_least_one(n) + 1)
        kept = (others[0] != place) & (others[0] >= 0)
        return Recommendations(self.items_[others[0][kept]][:n], cosines[0][kept][:n])

    @property
    def item_embeddings_(self) -> np.ndarray:
        """A vector for each item, (items, width): what the decoder's last layer has for it, centred."""
        check_is_fitted(self, "model_")
        if "_embeddings" not in self.__dict__:
            layers = [part for part in self.model_.objective_.decoder.modules() if isinstance(part, torch.nn.Linear)]
            weights = layers[-1].weight.detach().cpu().numpy()
            self.__dict__["_embeddings"] = weights - weights.mean(axis=0)
        vectors: np.ndarray = self.__dict__["_embeddings"]
        return vectors

    def user_embeddings(self, users: Any = None, *, histories: Any = None) -> np.ndarray:
        """The codes of users of the log (None: of all), or of histories: (people, code_size)."""
        check_is_fitted(self, "model_")
        given = self._positives(self._histories(users, histories))
        codes: np.ndarray = self.model_.transform(self._source(given))
        return codes

    def find(self, title: str) -> Hashable:
        """The item that people mean by a title; case, accents, articles and the year may be missing."""
        check_is_fitted(self, "model_")
        ranked = self.items_[np.argsort(-self.popularity_, kind="stable")].tolist()
        return find_title(title, self.titles_ or {item: str(item) for item in ranked}, ranked)

    # -- keeping -------------------------------------------------------------------------------------------------

    def save(self, path: str | Path) -> Path:
        """Write the recommender with its log to one file, whole or not at all; `isthmus.load` gives it back."""
        check_is_fitted(self, "model_")
        return write_state(path, keeping.to_state(self))

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:
        return keeping.from_state(cls, state, network, device)


def _range_mistakes(value: Any) -> list[str]:
    pair = isinstance(value, tuple | list) and len(value) == 2 and all(Number().admits(end) for end in value)
    if is_auto(value) or (pair and value[0] < value[1]):
        return []
    return [f"Recommender: rating_range={value!r} must be 'auto' or the least and the largest rating."]


def _at_least_one(n: Any) -> int:
    if not Whole(1).admits(n):
        raise ValueError(f"n={n!r} must be an integer >= 1.")
    return int(n)


def _block_size(n_items: int) -> int:
    return max(1, BLOCK_BYTES // (4 * n_items))


def _blocks(matrix: Any) -> Iterator[Any]:
    """Some rows of a CSR matrix at a time."""
    size = _block_size(matrix.shape[1])
    for start in range(0, matrix.shape[0], size):
        yield matrix[start : start + size]
