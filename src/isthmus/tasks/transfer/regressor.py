"""The regressor on a pretrained encoder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted
from torch import Tensor

from isthmus.choices import CORRUPTIONS, Corruption
from isthmus.choices.parameters import Parameters, is_auto
from isthmus.choices.registry import Registry
from isthmus.choices.rules import Rule, broken_rules
from isthmus.data import Scaling, Source
from isthmus.data.sources import Rows, floating_of
from isthmus.estimators import Autoencoder, params_json, persistence
from isthmus.estimators.defaults import batch_size_for, max_epochs_for
from isthmus.estimators.feeds import make_feed, split_rows
from isthmus.estimators.fit_warnings import report_trouble
from isthmus.estimators.fitting import patience_of, refuse
from isthmus.estimators.inference import Verb, whole
from isthmus.estimators.saved import Saved, put_run_of, run_of
from isthmus.estimators.validation import take
from isthmus.exceptions import ModelFileError
from isthmus.files.model_file import State
from isthmus.files.records import Arrays, Json, Losses, Numbers, Record, Size, group, grouped, pack, unpack
from isthmus.seeds import seed_from
from isthmus.tasks.transfer.classifier import SHARED_RULES, USUAL_RATE, EncoderClassifier, EncoderValues, fitted_encoder
from isthmus.tasks.transfer.labelled_objective import Regressed
from isthmus.training import OPTIMIZERS, SCHEDULES, History, ProgressBar, Run, Settings, train
from isthmus.training.batches import Loader
from isthmus.training.schedule import Optimizer, Schedule
from isthmus.wording import counted, these


@dataclass(frozen=True)
class FittedRegressor:
    """What was learned.

    Attributes
    ----------
    encoder
        The autoencoder before fine-tuning.
    objective
        The trained encoder with its linear layer, which gives standardised targets.
    mean, scale
        Mean and standard deviation of the targets, (targets,); 1 for constant ones.
    flat
        Whether y had one dimension.
    history
        Losses and times of the training with targets.
    """

    encoder: Autoencoder
    objective: Regressed
    mean: np.ndarray
    scale: np.ndarray
    flat: bool
    history: History


@dataclass(eq=False, repr=False, kw_only=True)
class EncoderRegressor(Saved, Parameters, RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A regressor on a pretrained encoder, fine-tuned with targets.

    A linear layer is added on top of the code, and both are trained on the squared error of the standardised targets.
    `EncoderClassifier` is the same for classes.

    Parameters
    ----------
    encoder
        A fitted `Autoencoder`, which is copied and not changed; or an unfitted one, which is first fitted on X. None:
        ``Autoencoder()``.
    fine_tune, freeze, layer_decay, corruption, dropout
        As for `EncoderClassifier`.
    max_epochs, batch_size, learning_rate, schedule, optimizer, random_state, verbose
        As for `Autoencoder`, for the training with targets.
    early_stopping, validation_fraction
        As for `EncoderClassifier`.

    Attributes
    ----------
    encoder_ : Autoencoder
        The fitted autoencoder before fine-tuning.
    history_ : History
        Losses and times of the training with targets.

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> X, y = load_diabetes(return_X_y=True)
    >>> EncoderRegressor(Autoencoder(4, max_epochs=20, random_state=0), random_state=0).fit(X, y).score(X, y) > 0.4
    True
    """

    encoder: Autoencoder | None = field(default=None, kw_only=False)
    fine_tune: bool = True
    freeze: int = 0
    layer_decay: float = 1.0
    corruption: Corruption | str | None = None
    dropout: float = 0.0
    max_epochs: int | str = "auto"
    batch_size: int | str = "auto"
    learning_rate: float | str = "auto"
    schedule: Schedule | str = "one-cycle"
    optimizer: Optimizer | str = "adamw"
    early_stopping: int | bool = False
    validation_fraction: float = 0.1
    random_state: Any = None
    verbose: int | bool = 0

    choice_registries: ClassVar[Mapping[str, Registry[Any]]] = EncoderClassifier.choice_registries
    rules: ClassVar[Mapping[str, Rule]] = SHARED_RULES

    def fit(self, X: Any, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Fit to rows, in any form that `Autoencoder` accepts, and their targets. Earlier results are discarded.

        Parameters
        ----------
        X
            Rows, (n, *feature_shape), n >= 2.
        y
            Targets, (n,) or (n, targets), finite numbers.
        sample_weight
            Weight of each row, (n,), >= 0; an epoch draws rows in proportion to it. None: equal weights.

        Raises
        ------
        ValueError
            A parameter is invalid, or targets are missing, not finite or not one for each row.
        """
        refuse(broken_rules(self, self.rules))
        targets = _checked_targets(self, y)
        encoder = fitted_encoder(self, X)
        source = take(encoder, X, min_rows=2).source
        if len(targets) != source.n_rows:
            raise ValueError(f"y has {len(targets)} rows, but X has {source.n_rows} rows; pass one target per row.")
        weights = None
        if sample_weight is not None:
            checked = _check_sample_weight(sample_weight, targets, dtype=np.float64, ensure_non_negative=True)
            weights = np.asarray(checked) / np.mean(checked)
        self.fitted_ = self._fit(encoder, source, targets, weights, flat=np.asarray(y).ndim == 1)
        return self

    def _fit(
        self, encoder: Autoencoder, source: Source, targets: np.ndarray, weights: np.ndarray | None, *, flat: bool
    ) -> FittedRegressor:
        mean = np.average(targets, axis=0, weights=weights)
        scale = np.sqrt(np.average(np.square(targets - mean), axis=0, weights=weights))
        scale = np.where(scale > 1e-12 * np.maximum(np.abs(mean), 1e-300), scale, 1.0)
        seed, n_targets = seed_from(self.random_state), targets.shape[1]
        corruption = None if self.corruption is None else CORRUPTIONS.resolve(self.corruption)
        objective = Regressed(encoder.objective_, n_targets, corruption, self.dropout, float(self.layer_decay))
        objective.freeze(self.freeze if self.fine_tune else None)
        objective.to(encoder.device_)
        kept = np.arange(source.n_rows) if weights is None else np.flatnonzero(weights > 0)
        rows, held_out = split_rows(len(kept), self.validation_fraction if self.early_stopping else 0.0, seed)
        rows, held_out = kept[rows], kept[held_out]
        settings = self._settings(len(rows), seed)
        joined = _WithTargets(source, (targets - mean) / scale)
        loader = Loader(encoder.scaling_.extended(encoder.n_features_in_, n_targets), torch.device(encoder.device_))
        feed = make_feed(joined, rows, loader, settings.batch_size, weights)
        validation = make_feed(joined, held_out, loader, 1024) if len(held_out) else None
        run = Run(objective, settings, feed, validation, [ProgressBar()] if self.verbose else [])
        train(run)
        report_trouble(run)
        return FittedRegressor(encoder, objective.eval(), mean, scale, flat, run.history)

    def _settings(self, n_rows: int, seed: int) -> Settings:
        epochs = None if is_auto(self.max_epochs) else int(self.max_epochs)
        batch = batch_size_for(n_rows, epochs) if is_auto(self.batch_size) else int(self.batch_size)
        batch = min(n_rows, batch)
        return Settings(
            max_epochs=epochs or max_epochs_for(n_rows, batch),
            batch_size=batch,
            learning_rate=USUAL_RATE if is_auto(self.learning_rate) else float(self.learning_rate),
            schedule=SCHEDULES.resolve(self.schedule),
            optimizer=OPTIMIZERS.resolve(self.optimizer),
            patience=patience_of(self.early_stopping),
            seed=seed,
        )

    def predict(self, X: Any) -> np.ndarray:
        """The targets of rows, in the units of `fit`: (n,) or (n, targets), as y was."""
        check_is_fitted(self, "fitted_")
        standard = whole(self, take(self.encoder_, X), Verb(_predicted))
        targets = standard.astype(np.float64) * self.fitted_.scale + self.fitted_.mean
        return np.asarray(targets[:, 0] if self.fitted_.flat else targets)

    # -- what was learned ------------------------------------------------------------------------------------------

    @property
    def encoder_(self) -> Autoencoder:
        """The fitted autoencoder before fine-tuning."""
        return self.fitted_.encoder

    @property
    def history_(self) -> History:
        """Losses and times of the training with targets."""
        return self.fitted_.history

    @property
    def objective_(self) -> Regressed:
        """The trained encoder with its linear layer."""
        return self.fitted_.objective

    @property
    def scaling_(self) -> Scaling:
        """The scaling of the encoder's rows."""
        return self.encoder_.scaling_

    @property
    def device_(self) -> str:
        """Where the model is."""
        return self.encoder_.device_

    @property
    def n_features_in_(self) -> int:
        """Number of features of a row."""
        n_features: int = self.encoder_.n_features_in_
        return n_features

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the features, if the encoder was fitted on a frame."""
        names: np.ndarray = self.encoder_.feature_names_in_
        return names

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        tags.target_tags.multi_output = True
        return tags

    def _to_state(self) -> State:
        inner = self.encoder_._to_state()  # noqa: SLF001  # the state of the encoder is part of the file
        params = self.get_params(deep=False)
        given, given_arrays = persistence.keep_estimator(params.pop("encoder"), self.encoder_)
        values = RegressorValues(
            params=params_json.params_to_json(params),
            encoder=EncoderValues(kind=inner.kind, values=dict(inner.values)),
            given=given,
            n_targets=len(self.fitted_.mean),
            flat=self.fitted_.flat,
            history=list(self.history_.rows),
        )
        arrays = {
            **grouped(persistence.weights(self.objective_), "tuned."),
            **grouped(inner.arrays, "encoder."),
            **grouped(given_arrays, "given."),
            "target_mean": self.fitted_.mean,
            "target_scale": self.fitted_.scale,
        }
        return pack(type(self).__name__, values, arrays, DECLARED)

    def _run_state(self) -> tuple[Json, dict[str, np.ndarray]]:
        return run_of(self.encoder_, "encoder")

    def _put_run_state(self, values: Json, arrays: Arrays) -> None:
        put_run_of(self.encoder_, "encoder", values, arrays)
        self.objective_.context = self.encoder_.objective_.context

    def _learned_members(self) -> Iterable[Any]:
        return (self.encoder_,) if hasattr(self, "fitted_") else ()

    @classmethod
    def _from_state(cls, state: State, *, network: Any = None, device: str = "auto") -> Self:
        values = unpack(state, RegressorValues, DECLARED)
        model = params_json.make_estimator(cls, {k: v for k, v in values.params.items() if k != "encoder"})
        inner = State(values.encoder.kind, values.encoder.values, group(state.arrays, "encoder."))
        encoder = persistence.from_state(inner, network=network, device=device)
        model.encoder = persistence.kept_estimator(
            values.given, group(state.arrays, "given."), encoder, network, device
        )
        n_targets, dropout, decay = values.n_targets, model.dropout, model.layer_decay
        objective = persistence.load_module(
            lambda: Regressed(encoder.objective_, n_targets, None, dropout, decay), group(state.arrays, "tuned.")
        )
        mean, scale = (np.array(state.arrays[f"target_{name}"]) for name in ("mean", "scale"))
        if len(mean) != n_targets:
            raise ModelFileError(f"its array target_mean has {len(mean)} values, but {n_targets} are needed.")
        objective = objective.to(encoder.device_).eval()
        model.fitted_ = FittedRegressor(encoder, objective, mean, scale, values.flat, History(values.history))
        return model


class RegressorValues(Record, frozen=True):
    """The contents of a regressor's file besides arrays."""

    params: Json
    encoder: EncoderValues
    n_targets: Size
    flat: bool
    history: list[Losses]
    given: Json | None = None


DECLARED = {
    "tuned.*": Numbers("fiub"),
    "encoder.*": Numbers("fiub"),
    "given.*": Numbers("fiub"),
    "target_mean": Numbers("f", ("targets",)),
    "target_scale": Numbers("f", ("targets",)),
}


class _WithTargets(Source):
    """The flat rows of another source followed by their targets, (n, d + targets)."""

    def __init__(self, source: Source, targets: np.ndarray) -> None:
        self._source, self._targets = source, targets
        self.n_rows, self.feature_shape = source.n_rows, (source.n_features + targets.shape[1],)
        self.dtype = floating_of(source.dtype)
        self.random_access = source.random_access

    @property
    def fits_in_memory(self) -> bool:
        return self._source.fits_in_memory

    def read(self, rows: Rows) -> np.ndarray:
        read = self._source.read(rows)
        return np.hstack([read.reshape(len(read), -1), self._targets[rows]]).astype(self.dtype)


def _checked_targets(estimator: EncoderRegressor, y: ArrayLike | None) -> np.ndarray:
    """Targets as float64, (n, targets)."""
    if y is None:
        name = type(estimator).__name__
        raise ValueError(f"{name} requires y to be passed, but the target y is None; pass targets.")
    given = np.asarray(y)
    if given.dtype.kind == "c":
        raise ValueError(
            f"Complex data not supported: y has dtype {given.dtype}; pass the real and imaginary parts as two targets."
        )
    if not given.size:
        raise ValueError(f"y has shape {given.shape}, which is empty; at least 2 targets are needed.")
    try:
        targets = given.astype(np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"y has dtype {given.dtype}, but numbers are needed; for classes use EncoderClassifier."
        ) from None
    if targets.ndim not in (1, 2):
        raise ValueError(f"y has shape {targets.shape}, but (n,) or (n, targets) is needed; reshape it.")
    bad = ~np.isfinite(targets.reshape(len(targets), -1)).all(axis=1)
    if n := int(bad.sum()):
        raise ValueError(
            f"Input y contains NaN or infinity in {counted(n, 'row')}, the first at row {bad.argmax()}; drop "
            f"{these(n, 'row')}."
        )
    return targets.reshape(len(targets), -1)


def _predicted(model: EncoderRegressor, x: Tensor) -> Tensor:
    """Standardised targets, (n, targets)."""
    objective = model.objective_.as_dtype(x.dtype)
    assert isinstance(objective, Regressed)
    return objective.logits(x)
