"""New rows of mixed tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import pyarrow as pa
from pyarrow import compute
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from isthmus.choices import Gaussian
from isthmus.choices.parameters import Parameters
from isthmus.choices.registry import unknown
from isthmus.choices.rules import Number, OneOf, Rule, Sizes, Whole, broken_rules, either
from isthmus.data import ArraySource
from isthmus.data.containers import unwrapped
from isthmus.data.tables import Schema, TableSource, is_table, learn_schema
from isthmus.data.tables.columns import Categorical
from isthmus.estimators import VariationalAutoencoder, params_json, persistence, sampling
from isthmus.estimators.fitting import refuse
from isthmus.estimators.saved import Saved, put_run_of, run_of
from isthmus.estimators.validation import refuse_targets
from isthmus.exceptions import DataError, ModelFileError
from isthmus.files.model_file import State
from isthmus.files.records import Arrays, Json, Numbers, Record, check_arrays, convert, group, grouped, pack
from isthmus.seeds import seed_from
from isthmus.tasks.generation.marginals import N_QUANTILES, Marginals, learn_marginals

REFERENCE_ROWS = 10_000
"""Rows that are drawn at fit to learn how drawn values are distributed."""
LARGEST_CODE = 16
MOST_TRIED = 200
"""Draws per wanted row of a conditional sample, before it gives up; at least 20,000 in all."""


@dataclass(eq=False, repr=False, kw_only=True)
class TableSampler(Saved, Parameters, BaseEstimator):  # type: ignore[misc]
    """Makes new rows of a table, with the kinds, the spread and the dependence of its columns.

    A variational autoencoder learns codes of the rows, in which each kind of column has its own likelihood. A Gaussian
    mixture is fitted to codes drawn from the posteriors (two stages, as in Dai & Wipf 2019), and new codes are drawn
    from it. Categories and missing cells are drawn from the decoder's probabilities. Numbers get noise with the
    covariance that reconstructions lack, and are then mapped so that each column has the distribution of the training
    values: whole numbers stay whole, and limits, spikes and tails are kept.

    Parameters
    ----------
    kinds
        Kinds of columns by name, which override the inferred ones: see `isthmus.learn_schema`.
    code_size
        Latent dimensions, >= 1; ``"auto"``: one per column, at most 16.
    hidden_sizes
        Widths of the encoder's hidden layers, mirrored in the decoder.
    beta
        Weight of the KL divergence, >= 0. Small values keep more of each row in its code, so that more of the
        dependence between columns is in the mixture; 1 leaves more to chance.
    max_epochs, batch_size, learning_rate
        As for `Autoencoder`.
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
    model_ : VariationalAutoencoder
        The model of the encoded rows; None if all columns are constant.
    n_features_in_, feature_names_in_
        Number and names of the columns.

    Notes
    -----
    Columns that differ in every row, such as identifiers, are not made, and neither are rare levels that the schema
    pooled. The rows are not copies, but privacy is not guaranteed: the model may draw rows similar to rare training
    rows.

    Examples
    --------
    >>> import pandas as pd
    >>> draw = np.random.default_rng(0)
    >>> size = draw.normal(170, 10, 300).round()
    >>> table = pd.DataFrame({"size": size, "tall": np.where(size > 175, "yes", "no")})
    >>> made = TableSampler(max_epochs=20, random_state=0).fit(table).sample(500, random_state=0)
    >>> made.dtypes["size"] == table.dtypes["size"], sorted(made["tall"].unique())
    (True, ['no', 'yes'])
    >>> bool(abs(made["size"].std() / size.std() - 1) < 0.1)
    True
    """

    kinds: Mapping[str, Any] | None = field(default=None, kw_only=False)
    code_size: int | str = "auto"
    hidden_sizes: Sequence[int] = (128, 64)
    beta: float = 0.01
    max_epochs: int | str = "auto"
    batch_size: int | str = "auto"
    learning_rate: float | str = "auto"
    max_rows: int = 50_000
    random_state: Any = None
    verbose: int | bool = 0

    learned_in: ClassVar[str] = "schema_"
    in_file: ClassVar[frozenset[str]] = frozenset(
        ["schema_", "made_as_", "n_features_in_", "feature_names_in_", "model_", "marginals_"]
    )
    rules: ClassVar[Mapping[str, Rule]] = {
        "code_size": either(Whole(1), OneOf(("auto",))),
        "hidden_sizes": Sizes(),
        "beta": Number(0.0),
        "max_epochs": either(Whole(1), OneOf(("auto",))),
        "batch_size": either(Whole(1), OneOf(("auto",))),
        "learning_rate": either(Number(0.0, open_low=True), OneOf(("auto",))),
        "max_rows": Whole(2),
        "verbose": either(Whole(0), OneOf((True, False))),
    }

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit to a table.

        Parameters
        ----------
        X
            A frame, an Arrow table, a mapping of columns, the path of a .csv or .parquet file, or an array (n, d); at
            least 2 rows. Missing cells are made too, as often as they occur.
        y
            Ignored. A column that shall be made, such as a label, belongs to X.

        Raises
        ------
        DataError
            Some cells cannot be used; one error lists all of them with column and row.
        ValueError
            A parameter is invalid.
        """
        refuse_targets(self, y, "Give the table with all columns to be made as X.")
        refuse(broken_rules(self, self.rules))
        X = unwrapped(X)
        schema = learn_schema(X, self.kinds)
        if schema.n_rows < 2:
            raise DataError(
                f"The table has {schema.n_rows} rows, but {type(self).__name__} needs at least 2; pass more."
            )
        self.schema_, self.made_as_ = schema, _form_of(X)
        self.n_features_in_ = len(schema.names)
        self.__dict__.pop("feature_names_in_", None)
        if is_table(X):
            self.feature_names_in_ = np.asarray(schema.names, dtype=object)
        seed = seed_from(self.random_state)
        self.model_, self.marginals_ = None, None
        if schema.width:
            rows = self._rows(TableSource(X, schema), seed)
            self.model_ = self._model(seed).fit(ArraySource(rows)).fit_sampler(ArraySource(rows))
            drawn = self._encoded(REFERENCE_ROWS, 0, mapped=False)
            self.marginals_ = learn_marginals(drawn, rows, _number_places(schema))
        return self

    def _rows(self, source: TableSource, seed: int) -> np.ndarray:
        if source.n_rows <= self.max_rows:
            return np.concatenate(list(source.chunks()))
        return source.pick(np.sort(np.random.default_rng(seed).permutation(source.n_rows)[: self.max_rows]))

    def _model(self, seed: int) -> VariationalAutoencoder:
        size = min(LARGEST_CODE, len(self.schema_.used)) if self.code_size == "auto" else self.code_size
        return VariationalAutoencoder(
            size,
            network=tuple(self.hidden_sizes),
            code=Gaussian(self.beta),
            loss=self.schema_.loss(),
            scaling="none",
            max_epochs=self.max_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            device="cpu",
            random_state=seed,
            verbose=self.verbose,
        )

    def sample(self, n: int = 1, *, given: Mapping[str, Any] | None = None, random_state: Any = None) -> Any:
        """Make rows.

        Parameters
        ----------
        n
            Number of rows, >= 1.
        given
            Only rows with these values, by column: a value, or for numbers and dates a pair of limits, both included.
            Rows are drawn until enough of them fit.
        random_state
            Seed or RandomState.

        Returns
        -------
        A pandas or polars frame, a mapping or an array as `fit` was given; an Arrow table for all other inputs.

        Raises
        ------
        ValueError
            `n` is below 1, `given` names an unknown column, or too few rows fit.

        Examples
        --------
        >>> table = {"x": np.arange(60.0) % 7, "even": ["yes" if x % 2 else "no" for x in range(60)]}
        >>> made = TableSampler(max_epochs=5, random_state=0).fit(table).sample(4, given={"even": "yes"})
        >>> made["even"]
        ['yes', 'yes', 'yes', 'yes']
        """
        check_is_fitted(self, "schema_")
        if not Whole(1).admits(n):
            raise ValueError(f"n={n!r} must be an integer >= 1.")
        seed = seed_from(random_state)
        table = self._cells(n, seed) if not given else self._fitting(n, seed, dict(given))
        return _in_form(table, self.made_as_, self.schema_)

    def _cells(self, n: int, seed: int) -> pa.Table:
        decoded = self.schema_.decode(self._encoded(n, seed) if self.model_ is not None else np.empty((n, 0)))
        assert isinstance(decoded, pa.Table)
        return decoded

    def _encoded(self, n: int, seed: int, *, mapped: bool = True) -> np.ndarray:
        """Encoded rows, (n, width), NaN for missing cells."""
        assert self.model_ is not None
        draw = np.random.default_rng(seed)
        codes = sampling.mixture_of(self.model_).draw(n, draw)
        rows = sampling.draw_rows(self.model_, codes, None, int(draw.integers(2**31)))
        if mapped and self.marginals_ is not None:
            rows = self.marginals_(rows)
        for name, places in self.schema_.groups.items():
            column, width = self.schema_[name], len(self.schema_[name].parts)
            if isinstance(column, Categorical):
                _without_pooled(rows, places[:width], draw)
            if column.marked:
                rows[np.ix_(np.flatnonzero(rows[:, places[-1]] > 0.5), np.array(places[:width]))] = np.nan
        return rows

    def _fitting(self, n: int, seed: int, given: dict[str, Any]) -> pa.Table:
        found, n_drawn, n_found = list[pa.Table](), 0, 0
        draws = np.random.default_rng(seed)
        while n_found < n and n_drawn < max(20_000, MOST_TRIED * n):
            table = self._cells(max(1_000, n), int(draws.integers(2**31)))
            found.append(table.filter(_fits(table, given)))
            n_drawn, n_found = n_drawn + table.num_rows, n_found + found[-1].num_rows
        if n_found < n:
            wanted = ", ".join(f"{name}={value!r}" for name, value in given.items())
            raise ValueError(
                f"Only {n_found} of {n_drawn:,} drawn rows have {wanted}, but n={n} was requested; request fewer rows, "
                "give fewer conditions, and check the spelling of their values."
            )
        return pa.concat_tables(found).slice(0, n)

    # -- keeping -------------------------------------------------------------------------------------------------

    def _to_state(self) -> State:
        inner = None if self.model_ is None else self.model_._to_state()  # noqa: SLF001  # a part of the file
        values = TableSamplerValues(
            params=params_json.params_to_json(self.get_params(deep=False)),
            schema=self.schema_.to_json(),
            named=hasattr(self, "feature_names_in_"),
            made_as=self.made_as_,
            model=None if inner is None else dict(inner.values),
        )
        arrays = {} if inner is None else grouped(inner.arrays, "model.")
        if self.marginals_ is not None:
            arrays |= {"places": self.marginals_.places, "drawn": self.marginals_.drawn, "known": self.marginals_.known}
        return pack(type(self).__name__, values, arrays, DECLARED)

    def _run_state(self) -> tuple[Json, dict[str, np.ndarray]]:
        return run_of(self.model_, "model")

    def _put_run_state(self, values: Json, arrays: Arrays) -> None:
        put_run_of(self.model_, "model", values, arrays)

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:  # noqa: ARG003  # as all
        values = convert(state.values, TableSamplerValues)
        check_arrays(state.arrays, DECLARED)
        made = params_json.make_estimator(cls, values.params)
        made.schema_, made.made_as_ = persistence.schema_of(values.schema), values.made_as
        if made.made_as_ not in FORMS:
            raise ModelFileError(f"its header does not fit: {unknown('made_as', made.made_as_, FORMS)}")
        made.n_features_in_ = len(made.schema_.names)
        if values.named:
            made.feature_names_in_ = np.asarray(made.schema_.names, dtype=object)
        made.model_ = made.marginals_ = None
        if values.model is not None:
            inner = State("VariationalAutoencoder", values.model, group(state.arrays, "model."))
            made.model_ = persistence.from_state(inner, device="cpu")
            made.marginals_ = _marginals_of(made.schema_, state)
        if (made.model_ is None) != (made.schema_.width == 0) or (
            made.model_ is not None and made.model_.n_features_in_ != made.schema_.width
        ):
            raise ModelFileError("its header does not fit: the schema has another width than the model.")
        return made


class TableSamplerValues(Record, frozen=True):
    """The contents of a sampler's file besides arrays."""

    params: Json
    schema: Json
    named: bool
    made_as: str
    model: Json | None


DECLARED = {
    "model.*": Numbers("fiub"),
    "places": Numbers("i", ("columns",), optional=True),
    "drawn": Numbers("f", ("columns", N_QUANTILES), optional=True),
    "known": Numbers("f", ("columns", N_QUANTILES), optional=True),
}
FORMS = ("pandas", "polars", "mapping", "array", "arrow")


def _marginals_of(schema: Schema, state: State) -> Marginals:
    names = ("places", "drawn", "known")
    if any(name not in state.arrays for name in names):
        raise ModelFileError("its arrays do not fit: those of the marginals are not complete.")
    found = Marginals(*(state.arrays[name] for name in names))
    if not np.array_equal(found.places, _number_places(schema)):
        raise ModelFileError("its array 'places' does not fit its schema.")
    return found


def _number_places(schema: Schema) -> np.ndarray:
    """Position of the first number of each column that is not categorical; the cycles of dates are not mapped."""
    places = [group[0] for name, group in schema.groups.items() if not schema[name].one_hot]
    return np.array(places, np.int64)


def _without_pooled(rows: np.ndarray, places: Sequence[int], draw: np.random.Generator) -> None:
    """Replace the pooled level, the last of a column, by the other levels as often as these occur."""
    block = rows[:, list(places)]
    pooled = block[:, -1] > 0.5
    shares = block[~pooled, :-1].sum(axis=0) + 1e-9
    chosen = draw.choice(len(shares), size=len(rows), p=shares / shares.sum())
    block[pooled] = np.eye(block.shape[1])[chosen[pooled]]
    rows[:, list(places)] = block


def _fits(table: pa.Table, given: Mapping[str, Any]) -> pa.Array:
    """Which rows have the wanted values."""
    kept: Any = pa.array(np.full(table.num_rows, fill_value=True))
    for name, value in given.items():
        if name not in table.column_names:
            raise ValueError(unknown("column in given", str(name), table.column_names))
        column = table.column(name)
        try:
            fits = _fit_of(column, value)
        except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, TypeError):
            raise ValueError(
                f"given[{name!r}]={value!r} cannot be compared with the column, whose cells are {column.type}; give a "
                "value, or a pair of limits, of this type."
            ) from None
        kept = compute.and_(kept, compute.fill_null(fits, False))
    return kept


def _fit_of(column: Any, value: Any) -> Any:
    if isinstance(value, tuple):
        low, high = (pa.scalar(limit).cast(column.type) for limit in value)
        return compute.and_(compute.greater_equal(column, low), compute.less_equal(column, high))
    return compute.equal(column, pa.scalar(value.item() if isinstance(value, np.generic) else value).cast(column.type))


def _form_of(X: Any) -> str:
    package = type(X).__module__.split(".")[0]
    if package in ("pandas", "polars"):
        return package
    if isinstance(X, Mapping):
        return "mapping"
    return "arrow" if is_table(X) else "array"


def _in_form(table: pa.Table, form: str, schema: Schema) -> Any:
    if form == "pandas":
        return table.to_pandas()
    if form == "polars":
        import polars as pl  # noqa: PLC0415  # optional

        return pl.from_arrow(table)
    if form == "mapping":
        return table.to_pydict()
    if form == "array":
        known = {name: table.column(name).to_numpy() for name in table.column_names}
        missing = np.full(table.num_rows, np.nan)
        return np.column_stack([known.get(name, missing) for name in schema.names]).astype(np.float64)
    return table
