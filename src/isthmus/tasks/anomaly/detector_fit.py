"""From a detector's parameters and rows to a trained model and what scores by it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from sklearn.base import clone
from torch import Tensor

from isthmus.choices import CORRUPTIONS, LOSSES, Loss, MeanSquaredError
from isthmus.choices.precision import single_precision
from isthmus.choices.registry import Context
from isthmus.data import SCALINGS, Scaling, Source, as_source, learn_scaling, refuse_huge, summarise
from isthmus.estimators.feeds import split_rows
from isthmus.estimators.fitting import refuse
from isthmus.estimators.targets import refuse_pairs
from isthmus.seeds import seed_from
from isthmus.tasks.anomaly.ensemble import Ensemble, Training, code_sizes_for, refuse_divergence, train_ensemble
from isthmus.tasks.anomaly.inputs import Rows, check_finite, scoring_type, to_tensor
from isthmus.tasks.anomaly.models import EnsembleModel, SingleModel
from isthmus.tasks.anomaly.scorer_fit import ScorerPlan, learn_scorer
from isthmus.tasks.anomaly.scoring import IMAGE_PARTS, PARTS, TABLE_PARTS, Grouping
from isthmus.training import SCHEDULES, choose_device

STEPS = 300
FEWEST_STEPS, MOST_STEPS = 25, 1000
ROWS_FOR_STEPS, WIDTH_FOR_STEPS = 10_000, 64


def choice_mistakes(detector: Any) -> list[str]:
    """A sentence for each choice that stands for none, and for parameters that do not go together."""
    name, found = type(detector).__name__, list[str]()
    choices = {"corruption": CORRUPTIONS, "loss": LOSSES, "schedule": SCHEDULES}
    for parameter, registry in choices.items():
        value = getattr(detector, parameter)
        if (parameter, value) in {("corruption", None), ("loss", "auto")}:
            continue
        try:
            found += registry.resolve(value).mistakes()  # type: ignore[attr-defined]
        except (TypeError, ValueError) as error:
            found.append(f"{name}: {parameter}: {error}")
    if detector.scaling not in SCALINGS:
        found.append(f"{name}: scaling={detector.scaling!r} must be one of {', '.join(SCALINGS)}.")
    sizes = detector.code_sizes
    if isinstance(sizes, tuple | list) and (len(sizes) != detector.n_members or not all(_is_size(s) for s in sizes)):
        found.append(f"{name}: code_sizes={sizes!r} must hold n_members={detector.n_members!r} integers >= 1.")
    return found


def _is_size(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


def fit(detector: Any, X: Any, calibration_share: float) -> None:
    """Learn everything from rows, after forgetting what was known."""
    for name in [name for name in vars(detector) if name.endswith("_") and not name.startswith("__")]:
        delattr(detector, name)
    seed = seed_from(detector.random_state)
    with showing(detector.verbose) as show:
        _fit(detector, Rows.open(detector, X, fitting=True), calibration_share, seed, show)


def _fit(detector: Any, rows: Rows, calibration_share: float, seed: int, show: Show | None) -> None:
    detector.device_ = str(choose_device(detector.device))
    sample = _sample(rows.n_rows, detector.max_rows, seed)
    learned, held_out = split_rows(len(sample), calibration_share, seed)
    raw = rows.read(sample[learned])
    _learn_units(detector, rows.source, raw)
    # One rule for tables, whether or not a column of words stands among them: a cell that is missing later is scored.
    detector.missing_allowed_ |= rows.named and detector.autoencoder is None
    X_scaled = to_tensor(raw, detector, torch.device(detector.device_), scoring_type(detector))
    generator = torch.Generator().manual_seed(seed)
    detector.model_ = _train(detector, X_scaled.float(), generator, show)
    own_scores = _learn_scorer(detector, X_scaled, generator)
    detector.reservoir_, detector.n_rows_seen_ = X_scaled.cpu(), len(learned)
    detector.decision_scores_ = np.empty(len(sample))
    detector.decision_scores_[learned] = own_scores
    if len(held_out):
        calibrate(detector, rows, sample[held_out])
        detector.decision_scores_[held_out] = detector.calibration_scores_
    if len(sample) < rows.n_rows:
        detector.sample_ = sample


def _sample(n_rows: int, most: int, seed: int) -> np.ndarray:
    """All rows, or an even sample of them, ascending."""
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, most, replace=False))


def _learn_units(detector: Any, source: Source, raw: np.ndarray) -> None:
    """Scaling, loss and columns."""
    schema = getattr(detector, "schema_", None)
    loss = loss_of(detector)
    detector.missing_allowed_ = schema is not None or loss.admits_missing
    check_finite(raw, missing_allowed=detector.missing_allowed_)
    detector.scaling_ = _scaling(detector, source, raw)
    schema = _leave_out(detector, raw, schema)
    width = raw.shape[1]
    detector.context_ = _context(detector, raw)
    detector.loss_ = loss.resolve(detector.context_)
    refuse(detector.loss_.mistakes(detector.context_))
    detector.columns_shape_ = tuple(detector.feature_shape_)
    detector.grouping_ = Grouping(None, width)
    if schema is not None and schema.width:
        places = torch.empty(width, dtype=torch.long)
        for column, group in enumerate(schema.groups.values()):
            places[list(group)] = column
        detector.grouping_ = Grouping(places, len(schema.groups))
        detector.columns_shape_ = (len(schema.groups),)


def _leave_out(detector: Any, raw: np.ndarray, schema: Any) -> Any:
    """Leave out of the score what grows without end; gives the schema with notes on it."""
    from isthmus.tasks.anomaly.unscored import growing_numbers, with_notes  # noqa: PLC0415  # tables load slowly

    if len(detector.feature_shape_) > 1 or detector.autoencoder is not None:
        return schema
    left_out, notes = growing_numbers(raw, schema, detector.kinds)
    if left_out.any():
        detector.left_out_ = left_out
        if schema is not None:
            detector.schema_ = with_notes(schema, notes)
    return getattr(detector, "schema_", None)


def loss_of(detector: Any) -> Loss:
    """The loss that the parameter stands for; by default that of the data."""
    if detector.loss != "auto":
        return LOSSES.resolve(detector.loss)
    schema = getattr(detector, "schema_", None)
    return schema.loss() if schema is not None and schema.width else MeanSquaredError(activation=None)


def _scaling(detector: Any, source: Source, raw: np.ndarray) -> Scaling:
    if hasattr(detector, "schema_"):
        return Scaling("none", np.zeros(()), np.ones(()))
    if detector.autoencoder is not None and hasattr(detector.autoencoder, "scaling_"):
        return detector.autoencoder.scaling_  # type: ignore[no-any-return]
    usual = "standard" if len(source.feature_shape) == 1 else "global"
    name = usual if detector.scaling == "auto" else detector.scaling
    statistics = summarise(as_source(raw))
    refuse_huge(statistics, source.feature_names or getattr(detector, "feature_names_in_", None))
    return learn_scaling(name, statistics, source.dtype)


def _context(detector: Any, raw: np.ndarray) -> Context:
    ends = np.stack([np.fmin.reduce(raw, axis=0), np.fmax.reduce(raw, axis=0)]).astype(np.float64)
    scaled = np.nan_to_num((ends - detector.scaling_.shift) * detector.scaling_.factor)
    return Context(detector.feature_shape_, 1, float(scaled.min()), float(scaled.max()), ranges=scaled)


Show = Callable[[int, int, Any], None]


@contextmanager
def showing(verbose: int | bool) -> Iterator[Show | None]:
    """What shows how far training is, on stderr, where that is wanted; the loss is asked for now and then only."""
    if not verbose:
        yield None
        return
    console = Console(stderr=True)
    bar = Progress(console=console)
    task = bar.add_task("reading", total=None)
    if console.is_terminal:
        bar.start()  # elsewhere with the first step, so that an error while reading stands alone

    def show(step: int, n_steps: int, loss: Any) -> None:
        if step % 20 == 0 or step == n_steps:
            bar.start()
            words = f"training, loss {float(loss.detach()):.4f}"
            bar.update(task, completed=step, total=n_steps, description=words)

    try:
        yield show
    finally:
        if bar.live.is_started:
            bar.stop()


def _train(detector: Any, X: Tensor, generator: torch.Generator, show: Show | None) -> Any:
    if detector.autoencoder is not None:
        return SingleModel(_fitted_autoencoder(detector, X))
    width = X.shape[1]
    sizes = code_sizes_for(width, detector.n_members) if detector.code_sizes == "auto" else tuple(detector.code_sizes)
    with single_precision():
        ensemble = Ensemble(width, detector.loss_.output_width(width), sizes, detector.hidden_size)
    ensemble.initialise(X.cpu(), generator)
    model = EnsembleModel(ensemble.to(X.device), detector.loss_)
    train_more(detector, model, X, generator, n_steps=steps_for(detector, len(X)), show=show)
    return model


def steps_for(detector: Any, n_rows: int) -> int:
    """Steps of the training."""
    if detector.max_steps != "auto":
        return int(detector.max_steps)
    for_rows = max(1.0, (n_rows / ROWS_FOR_STEPS) ** 0.5)
    for_width = min(1.0, WIDTH_FOR_STEPS / detector.context_.n_features)
    return int(np.clip(STEPS * for_rows * for_width, FEWEST_STEPS, MOST_STEPS))


def train_more(
    detector: Any, model: EnsembleModel, X: Tensor, generator: torch.Generator, *, n_steps: int, show: Show | None
) -> None:
    """Train an ensemble on rows."""
    corruption = None if detector.corruption is None else CORRUPTIONS.resolve(detector.corruption)
    how = Training(
        loss=detector.loss_,
        corruption=corruption and corruption.resolve(detector.context_),
        schedule=SCHEDULES.resolve(detector.schedule),
        n_steps=n_steps,
        batch_size=detector.batch_size,
        learning_rate=detector.learning_rate,
        trim=detector.trim,
        row_shape=tuple(detector.feature_shape_),
    )
    refuse_divergence(
        train_ensemble(model.ensemble, X, how, generator, lambda step, loss: show and show(step, n_steps, loss)), how
    )
    model.forget_double()


def _fitted_autoencoder(detector: Any, X: Tensor) -> Any:
    if hasattr(detector.autoencoder, "objective_"):
        refuse_pairs(detector.autoencoder, type(detector).__name__, "pass a model that was fitted without one")
        return copy.deepcopy(detector.autoencoder)
    model = clone(detector.autoencoder).set_params(scaling="none", device=detector.device)
    if model.random_state is None:
        model.set_params(random_state=detector.random_state)
    return model.fit(X.cpu().numpy().reshape(len(X), *detector.feature_shape_))


def _learn_scorer(detector: Any, X: Tensor, generator: torch.Generator) -> np.ndarray:
    """Learn the scorer; gives the scores of the rows, (n,)."""
    usual: Sequence[str] = TABLE_PARTS if len(detector.feature_shape_) == 1 else IMAGE_PARTS
    parts = usual if detector.parts == "auto" else tuple(part for part in PARTS if part in detector.parts)
    plan = ScorerPlan(parts, detector.grouping_, detector.trim, detector.n_neighbors, detector.memory_size)
    learned = learn_scorer(detector.model_, X, plan, generator)
    detector.scorer_ = learned.scorer
    return learned.scores


def calibrate(detector: Any, rows: Rows, places: np.ndarray) -> None:
    """Score rows that took no part in training, and keep them, for a model that goes on learning scores them anew."""
    detector.calibration_rows_ = rows.read(places)
    check_finite(detector.calibration_rows_, missing_allowed=detector.missing_allowed_)
    detector.calibration_scores_ = _score(detector, detector.calibration_rows_)


def _score(detector: Any, flat: np.ndarray) -> np.ndarray:
    """Anomaly scores of rows that are not scaled yet, (n, d) → (n,)."""
    scores = []
    for some in np.array_split(flat, max(1, len(flat) // detector.scorer_.chunk_rows(detector.model_))):
        x = to_tensor(some, detector, torch.device(detector.device_), scoring_type(detector))
        with torch.inference_mode():
            scores.append(
                detector.scorer_.scores(detector.scorer_.read(detector.model_, x, in_full=False)).double().cpu().numpy()
            )
    return np.concatenate(scores)


def fit_more(detector: Any, X: Any) -> None:
    """Go on with new rows and an even sample of those seen before."""
    if isinstance(detector.model_, SingleModel):
        raise ValueError(  # noqa: TRY004  # what was given is no mistake of type
            "A detector with an autoencoder of your own cannot go on learning; fit it again, or use the ensemble "
            "(autoencoder=None)."
        )
    rows = Rows.open(detector, X)
    seed = seed_from(detector.random_state) + detector.n_rows_seen_
    sample = _sample(rows.n_rows, detector.max_rows, seed)
    raw = rows.read(sample)
    check_finite(raw, missing_allowed=hasattr(detector, "schema_") or detector.loss_.admits_missing)
    new = to_tensor(raw, detector, torch.device("cpu"), scoring_type(detector))
    detector.n_rows_seen_ += rows.n_rows
    detector.reservoir_ = _mixed(detector, new, rows.n_rows, seed)
    generator = torch.Generator().manual_seed(seed)
    X_all = detector.reservoir_.to(detector.device_)
    share = rows.n_rows / detector.n_rows_seen_
    n_steps = max(1, round(share * steps_for(detector, len(X_all))))
    with showing(detector.verbose) as show:
        train_more(detector, detector.model_, X_all.float(), generator, n_steps=n_steps, show=show)
        detector.decision_scores_ = _learn_scorer(detector, X_all, generator)
    vars(detector).pop("sample_", None)
    vars(detector).pop("calibration_scores_", None)
    if hasattr(detector, "calibration_rows_"):
        detector.calibration_scores_ = _score(detector, detector.calibration_rows_)


def _mixed(detector: Any, new: Tensor, n_new: int, seed: int) -> Tensor:
    """An even sample of all rows seen: each new row has the chance to be in it that each old one has."""
    old = detector.reservoir_
    old = old.to(new.dtype)  # that of a file is in single precision
    if len(old) + len(new) <= detector.max_rows:
        return torch.cat([old, new])
    draw = np.random.default_rng(seed)
    n_from_new = min(len(new), int(draw.binomial(detector.max_rows, n_new / detector.n_rows_seen_)))
    n_from_old = min(len(old), detector.max_rows - n_from_new)
    chosen_old = torch.from_numpy(draw.permutation(len(old))[:n_from_old])
    chosen_new = torch.from_numpy(draw.permutation(len(new))[:n_from_new])
    return torch.cat([old[chosen_old], new[chosen_new]])
