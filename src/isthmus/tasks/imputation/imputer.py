"""The imputer: fills missing cells of tables."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from isthmus.choices.parameters import Parameters
from isthmus.choices.rules import Number, OneOf, Rule, Sizes, Whole, broken_rules, either
from isthmus.data.containers import unwrapped
from isthmus.data.numeric import as_numeric
from isthmus.data.tables import Schema, TableSource, is_table, learn_schema
from isthmus.estimators import params_json, persistence
from isthmus.estimators.fitting import refuse
from isthmus.estimators.saved import Saved
from isthmus.estimators.validation import refuse_targets
from isthmus.exceptions import DataError, ModelFileError
from isthmus.files.model_file import State
from isthmus.files.records import (
    Arrays,
    Count,
    Json,
    Numbers,
    Real,
    Record,
    Size,
    check_arrays,
    convert,
    group,
    pack,
)
from isthmus.seeds import RandomState, seed_from
from isthmus.tasks.imputation.filling import fill_table
from isthmus.tasks.imputation.imputer_fit import (
    FittedImputer,
    Plan,
    column_starts,
    fit_imputer,
    fresh_member,
    linear_base,
)
from isthmus.tasks.imputation.linear_base import LinearFill

ROWS_PER_CHUNK = 2**13


@dataclass(eq=False, repr=False, kw_only=True)
class Imputer(Saved, Parameters, OneToOneFeatureMixin, TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Fills the missing cells of a table with predictions from the other cells of their rows.

    The prediction is a sum of two parts. A Gaussian distribution of the rows, fitted with missing cells by
    expectation-maximisation, gives the best linear prediction of every cell. Denoising autoencoders, trained on rows
    with hidden cells (Vincent et al. 2008; for imputation Gondara & Wang 2018), add the nonlinear part. Each
    autoencoder holds out some rows, and on those the weight of the nonlinear part is selected; it is 0 if that part
    does not help. Numbers are filled with their expected value, categories with the most probable level.

    Parameters
    ----------
    kinds
        Kinds of columns by name, which override the inferred ones: see `isthmus.data.tables.learn_schema`.
    n_members
        Number of autoencoders, >= 1; with 1, half of the rows are held out.
    hidden_sizes, code_size
        Widths of the encoder's hidden layers (mirrored in the decoder), and of the code.
    most_hidden
        Largest fraction of a row's cells that is hidden in training, in (0, 1].
    max_epochs, batch_size, learning_rate
        Training settings of each autoencoder; training stops early if the loss on its held-out rows stops improving.
    max_rows
        Maximum number of training rows; larger tables are sampled.
    random_state
        Seed or RandomState.
    verbose
        1 shows progress on stderr.

    Attributes
    ----------
    schema_ : Schema
        The columns.
    share_ : dict
        Weight of the autoencoders' part, in [0, 1], for ``"numbers"`` and for ``"levels"``.
    n_features_in_, feature_names_in_
        Number and names of the columns.

    Notes
    -----
    A constant column is filled with its value. Columns that are all missing or not used by the schema (identifiers) are
    not filled.

    Examples
    --------
    >>> x = np.linspace(0.0, 1.0, 100)
    >>> table = {"x": x, "double": np.where(np.arange(100) % 9, 2 * x, np.nan), "half": x / 2}
    >>> filled = Imputer(max_epochs=1, random_state=0).fit_transform(table)
    >>> bool(np.abs(filled["double"] - 2 * x).max() < 0.1)
    True
    """

    kinds: Mapping[str, Any] | None = field(default=None, kw_only=False)
    n_members: int = 4
    hidden_sizes: Sequence[int] = (128,)
    code_size: int = 32
    most_hidden: float = 0.5
    max_epochs: int = 10
    batch_size: int = 128
    learning_rate: float = 0.002
    max_rows: int = 50_000
    random_state: RandomState = None
    verbose: int | bool = 0

    learned_in: ClassVar[str] = "model_"
    in_file: ClassVar[frozenset[str]] = frozenset(["schema_", "n_features_in_", "feature_names_in_", "model_"])
    rules: ClassVar[Mapping[str, Rule]] = {
        "n_members": Whole(1),
        "hidden_sizes": Sizes(),
        "code_size": Whole(1),
        "most_hidden": Number(0.0, 1.0, open_low=True),
        "max_epochs": Whole(1),
        "batch_size": Whole(1),
        "learning_rate": Number(0.0, open_low=True),
        "max_rows": Whole(1),
        "verbose": either(Whole(0), OneOf((True, False))),
    }

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit to a table with missing cells.

        Parameters
        ----------
        X
            A frame, an Arrow table, a mapping of columns, the path of a .csv or .parquet file, or an array (n, d).
        y
            Labels, which are ignored; targets of two dimensions are refused.

        Raises
        ------
        DataError
            Cells cannot be used; one error lists all of them, with column and row.
        ValueError
            A parameter is wrong, or y has two dimensions: a table of targets.
        """
        refuse_targets(self, y, "It learns from the cells that are there; give the table with its holes as X alone.")
        refuse(broken_rules(self, self.rules))
        X = self._taken(X, fitting=True)
        learned = learn_schema(X, self.kinds, heavy_tails=False)
        self.schema_ = Schema(tuple(replace(column, holes=False) for column in learned.columns), learned.n_rows)
        if is_table(X):
            self.n_features_in_ = len(self.schema_.names)
            self.feature_names_in_ = np.asarray(self.schema_.names, dtype=object)
        seed = seed_from(self.random_state)
        rows = torch.from_numpy(self._sample(TableSource(X, self.schema_), seed))
        self.model_: FittedImputer | None = (
            fit_imputer(self.schema_, rows, self._plan(seed)) if self.schema_.width else None
        )
        return self

    def _sample(self, source: TableSource, seed: int) -> np.ndarray:
        if source.n_rows <= self.max_rows:
            return np.concatenate(list(source.chunks()))
        return source.read(np.sort(np.random.default_rng(seed).permutation(source.n_rows)[: self.max_rows]))

    def _plan(self, seed: int) -> Plan:
        names = ("hidden_sizes", "code_size", "most_hidden", "n_members", "max_epochs", "batch_size", "learning_rate")
        return Plan(**{name: getattr(self, name) for name in names}, seed=seed, verbose=bool(self.verbose))

    @property
    def share_(self) -> dict[str, float]:
        """Weight of the autoencoders' part, in [0, 1], for numbers and for levels."""
        check_is_fitted(self, "model_")
        kinds = {"levels" if self.schema_[name].one_hot else "numbers": p[0] for name, p in self.schema_.groups.items()}
        members = () if self.model_ is None else self.model_.members
        return {kind: float(members[0].share[place]) if members else 0.0 for kind, place in kinds.items()}

    def transform(self, X: Any) -> Any:
        """Fill the missing cells of a table; the result has the type of X, and other cells do not change.

        Parameters
        ----------
        X
            A table with the same columns, in any order: in memory, or the path of a file, which is read completely.

        Returns
        -------
        A frame, mapping or array like X; an Arrow table for all other types.
        """
        check_is_fitted(self, "model_")
        X = self._taken(X)
        source = TableSource(X, self.schema_)
        restored = [self._restored(chunk) for chunk in source.chunks(ROWS_PER_CHUNK)]
        matrix = np.concatenate(restored) if restored else np.empty((0, self.schema_.width), np.float32)
        return fill_table(X, self.schema_, matrix)

    def _restored(self, chunk: np.ndarray) -> np.ndarray:
        if self.model_ is None:
            return chunk
        restored: np.ndarray = self.model_.restore(torch.from_numpy(chunk)).numpy()
        return restored

    def _taken(self, X: Any, *, fitting: bool = False) -> Any:
        """X itself if it is a table, else a validated numeric array."""
        X = unwrapped(X)
        if is_table(X):
            return X
        if not fitting and hasattr(self, "feature_names_in_"):
            raise DataError("X is an array, but this Imputer was fitted on a table with names; pass a table.")
        X = as_numeric(X)
        try:
            return validate_data(self, X, reset=fitting, ensure_all_finite="allow-nan", dtype="numeric")
        except ValueError as error:
            raise DataError(str(error)) from None

    def _to_state(self) -> State:
        linear, members = (None, ()) if self.model_ is None else (self.model_.linear, self.model_.members)
        values = ImputerValues(
            params=params_json.params_to_json(self.get_params(deep=False)),
            schema=self.schema_.to_json(),
            named=hasattr(self, "feature_names_in_"),
            ridge=None if linear is None else linear.ridge,
            n_members=len(members),
            hidden_sizes=None if not members else list(members[0].hidden_sizes),
            code_size=None if not members else members[0].context.code_size,
            has_logits=any(member.has_logits for member in members),
        )
        arrays = {f"{k}.{name}": array for k, m in enumerate(members) for name, array in persistence.weights(m).items()}
        if linear is not None:
            arrays |= {"linear.mean": linear.mean.numpy(), "linear.covariance": linear.covariance.numpy()}
        return pack(type(self).__name__, values, arrays, _declared(len(members), linear is not None))

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:  # noqa: ARG003  # as all
        values = convert(state.values, ImputerValues)
        if values.n_members > len(state.arrays):
            raise ModelFileError(f"its header does not fit: there are fewer arrays than n_members={values.n_members}.")
        imputer = params_json.make_estimator(cls, values.params)
        imputer.schema_ = persistence.schema_of(values.schema)
        width = imputer.schema_.width
        declared = _declared(values.n_members, values.ridge is not None)
        check_arrays(state.arrays, declared, {"features": width})
        imputer.n_features_in_ = len(imputer.schema_.names)
        if values.named:
            imputer.feature_names_in_ = np.asarray(imputer.schema_.names, dtype=object)
        imputer.model_ = _restored_model(imputer.schema_, values, state.arrays) if width else None
        return imputer

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


class ImputerValues(Record, frozen=True):
    """The contents of an imputer's file besides arrays; format 1 has the sizes only in the parameters."""

    params: Json
    schema: Json
    named: bool
    ridge: Real | None
    n_members: Count
    hidden_sizes: list[Size] | None = None
    code_size: Size | None = None
    has_logits: bool = True
    """Files of isthmus 0.1 do not say so."""


def _declared(n_members: int, linear: bool) -> dict[str, Numbers]:
    """The arrays of a file: the weights of each member, and the Gaussian distribution if there is one."""
    declared = {f"{number}.*": Numbers("f") for number in range(n_members)}
    if linear:
        declared["linear.mean"] = Numbers("f", ("features",))
        declared["linear.covariance"] = Numbers("f", ("features", "features"))
    return declared


def _restored_model(schema: Schema, values: ImputerValues, arrays: Arrays) -> FittedImputer:
    linear = None
    if values.ridge is not None:
        mean, covariance = (torch.from_numpy(np.array(arrays[f"linear.{name}"])) for name in ("mean", "covariance"))
        linear = LinearFill(mean, covariance, values.ridge)
    params = values.params
    sizes = params["hidden_sizes"] if values.hidden_sizes is None else values.hidden_sizes
    code_size = params["code_size"] if values.code_size is None else values.code_size
    members = [
        persistence.load_module(
            lambda: fresh_member(schema, params_json.decode(sizes), code_size, seed=0, has_logits=values.has_logits),
            _placed(group(arrays, f"{number}.")),
        )
        for number in range(values.n_members)
    ]
    return FittedImputer(linear_base(schema), column_starts(schema), linear, members)


def _placed(weights: Arrays) -> dict[str, np.ndarray]:
    """The weights of a member by the names that they have now: in isthmus 0.1 the decoder began with an activation."""
    if "decoder.0.weight" in weights:
        return dict(weights)
    moved = {}
    for name, array in weights.items():
        place = re.fullmatch(r"decoder\.(\d+)\.(\w+)", name)
        moved[f"decoder.{int(place[1]) - 1}.{place[2]}" if place else name] = array
    return moved
