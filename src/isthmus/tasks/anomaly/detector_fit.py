"""From rows and parameters to a fitted detector, by pure functions."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from isthmus.choices import CORRUPTIONS, LOSSES, Corruption, Loss, MeanSquaredError
from isthmus.choices.corruptions import suited
from isthmus.choices.parameters import is_auto
from isthmus.choices.precision import single_precision
from isthmus.choices.registry import Context
from isthmus.data import SCALINGS, Scaling, as_source, learn_scaling, refuse_huge, summarise
from isthmus.estimators import Autoencoder
from isthmus.estimators.feeds import split_rows
from isthmus.estimators.fitting import refuse
from isthmus.estimators.targets import refuse_pairs
from isthmus.tasks.anomaly.ensemble import Ensemble, code_sizes_for
from isthmus.tasks.anomaly.ensemble_training import EnsembleTraining, train_ensemble
from isthmus.tasks.anomaly.fitted import FittedDetector
from isthmus.tasks.anomaly.grouping import Grouping
from isthmus.tasks.anomaly.inputs import RowFormat, Rows, check_finite, scoring_type
from isthmus.tasks.anomaly.models import EnsembleModel, SingleModel
from isthmus.tasks.anomaly.scorer_fit import ScorerPlan, learn_scorer
from isthmus.tasks.anomaly.scoring import IMAGE_PARTS, PARTS, TABLE_PARTS
from isthmus.training import SCHEDULES, choose_device
from isthmus.training.schedule import Schedule

if TYPE_CHECKING:
    from isthmus.data.tables import Schema

STEPS = 300
FEWEST_STEPS, MOST_STEPS = 25, 1000
ROWS_FOR_STEPS, WIDTH_FOR_STEPS = 10_000, 64


@dataclass(frozen=True, kw_only=True)
class DetectorSettings:
    """The parameters of `AnomalyDetector` that fitting needs; `seed` is drawn from `random_state`."""

    parts: str | Sequence[str]
    autoencoder: Autoencoder | None
    n_members: int
    code_sizes: str | Sequence[int]
    hidden_size: int
    corruption: str | Corruption | None
    loss: str | Loss
    scaling: str
    trim: float
    n_neighbors: int
    memory_size: int
    max_rows: int
    max_steps: int | str
    batch_size: int
    learning_rate: float
    schedule: str | Schedule
    kinds: Mapping[str, Any] | None
    device: str
    random_state: Any
    verbose: int | bool
    seed: int


def choice_mistakes(name: str, choices: Mapping[str, Any]) -> list[str]:
    """A sentence for each choice that does not exist, and for parameters that cannot be combined.

    Parameters
    ----------
    name
        The class, for the sentences.
    choices
        Its parameters.
    """
    found = list[str]()
    registries = {"corruption": CORRUPTIONS, "loss": LOSSES, "schedule": SCHEDULES}
    for parameter, registry in registries.items():
        value = choices[parameter]
        if (parameter, value) in {("corruption", None), ("loss", "auto")}:
            continue
        try:
            found += registry.resolve(value).mistakes()  # type: ignore[attr-defined]
        except (TypeError, ValueError) as error:
            found.append(f"{name}: {parameter}: {error}")
    if not found:
        found += _losses_of_rows(name, choices["loss"], getattr(choices["autoencoder"], "loss", "auto"))
    if choices["scaling"] not in SCALINGS:
        found.append(f"{name}: scaling={choices['scaling']!r} must be one of {', '.join(SCALINGS)}.")
    sizes, n_members = choices["code_sizes"], choices["n_members"]
    if isinstance(sizes, tuple | list) and (len(sizes) != n_members or not all(_is_size(s) for s in sizes)):
        found.append(f"{name}: code_sizes={sizes!r} must hold n_members={n_members!r} integers >= 1.")
    return found


def _losses_of_rows(name: str, *losses: Any) -> list[str]:
    """A sentence for each loss that says nothing about single columns, which parts and explanations need."""
    members = [LOSSES.resolve(loss) for loss in losses if not is_auto(loss)]
    return [
        f"{name}: loss={loss!r} gives every column the error of its whole row; use 'mean-squared-error' or 'huber'."
        for loss in members
        if loss.needs_whole_rows
    ]


def _is_size(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and bool(value >= 1)


# -- from nothing ------------------------------------------------------------------------------------------------------


def fit(settings: DetectorSettings, rows: Rows, schema: Schema | None, calibration_share: float) -> FittedDetector:
    """Learn everything from rows.

    Parameters
    ----------
    settings
        The parameters.
    rows, schema
        The rows, and their columns where they are a table.
    calibration_share
        Share of the rows that is kept out of training, in [0, 1).
    """
    sample = _sample(rows.n_rows, settings.max_rows, settings.seed)
    learned, held_out = split_rows(len(sample), calibration_share, settings.seed)
    raw = rows.read(sample[learned])
    loss = loss_of(settings.loss, schema)
    form = _row_format(settings, rows, raw, schema, loss)
    context = _context(raw, form)
    loss = loss.resolve(context)
    refuse(loss.mistakes(context))
    X = form.to_tensor(raw)
    model = _trained_model(settings, X.float(), context, loss)
    grouping, columns_shape = _grouping(form)
    generator = torch.Generator().manual_seed(settings.seed)
    found = learn_scorer(model, X, _scorer_plan(settings, grouping, context), generator)
    fitted = FittedDetector(
        format=form,
        context=context,
        loss=loss,
        columns_shape=columns_shape,
        model=model,
        scorer=found.scorer,
        reservoir=X.cpu(),
        n_rows_seen=len(learned),
        decision_scores=np.empty(len(sample)),
        sample=sample if len(sample) < rows.n_rows else None,
    )
    fitted.decision_scores[learned] = found.scores
    if len(held_out):
        fitted = fitted.calibrated(rows.read(sample[held_out]))
        fitted.decision_scores[held_out] = fitted.calibration_scores
    return fitted


def _sample(n_rows: int, most: int, seed: int) -> np.ndarray:
    """All rows, or an even sample of them, ascending."""
    if n_rows <= most:
        return np.arange(n_rows)
    return np.sort(np.random.default_rng(seed).choice(n_rows, most, replace=False))


def loss_of(loss: str | Loss, schema: Schema | None) -> Loss:
    """The loss that a parameter names; by default that of the data."""
    if loss != "auto":
        return LOSSES.resolve(loss)
    return schema.loss() if schema is not None and schema.width else MeanSquaredError(activation=None)


def _row_format(
    settings: DetectorSettings, rows: Rows, raw: np.ndarray, schema: Schema | None, loss: Loss
) -> RowFormat:
    """The conversion of rows to tensors, learned from some of them, (n, d)."""
    missing_allowed = schema is not None or loss.admits_missing
    check_finite(raw, missing_allowed=missing_allowed)
    scaling = _scaling(settings, rows, raw, schema)
    shape = (max(1, schema.width),) if schema is not None else tuple(rows.source.feature_shape)
    left_out = None
    if len(shape) == 1 and settings.autoencoder is None:
        schema, left_out = _leave_out(raw, schema, settings.kinds)
    device = choose_device(settings.device)
    own = settings.autoencoder is not None
    # One rule for tables, whether or not a column of words stands among them: a cell that is missing later is scored.
    missing_allowed |= rows.named and not own
    return RowFormat(
        scaling, shape, schema, left_out, missing_allowed, device, scoring_type(device, own_autoencoder=own)
    )


def _leave_out(
    raw: np.ndarray, schema: Schema | None, kinds: Mapping[str, Any] | None
) -> tuple[Schema | None, np.ndarray | None]:
    """Columns that only grow are not scored: the schema with notes on them, and a mask of their numbers."""
    from isthmus.tasks.anomaly.unscored import growing_numbers, with_notes  # noqa: PLC0415  # tables load slowly

    left_out, notes = growing_numbers(raw, schema, kinds)
    if not left_out.any():
        return schema, None
    return (None if schema is None else with_notes(schema, notes)), left_out


def _scaling(settings: DetectorSettings, rows: Rows, raw: np.ndarray, schema: Schema | None) -> Scaling:
    if schema is not None:
        return Scaling("none", np.zeros(()), np.ones(()))
    if settings.autoencoder is not None and hasattr(settings.autoencoder, "scaling_"):
        return settings.autoencoder.scaling_
    usual = "standard" if len(rows.source.feature_shape) == 1 else "global"
    statistics = summarise(as_source(raw))
    refuse_huge(statistics, rows.source.feature_names or getattr(rows.given, "columns", None))
    return learn_scaling(usual if settings.scaling == "auto" else settings.scaling, statistics, rows.source.dtype)


def _context(raw: np.ndarray, form: RowFormat) -> Context:
    ends = np.stack([np.fmin.reduce(raw, axis=0), np.fmax.reduce(raw, axis=0)]).astype(np.float64)
    scaled = np.nan_to_num((ends - form.scaling.shift) * form.scaling.factor)
    return Context(form.feature_shape, 1, float(scaled.min()), float(scaled.max()), ranges=scaled)


def _grouping(form: RowFormat) -> tuple[Grouping, tuple[int, ...]]:
    """The column of each number of a row, and the shape of a row's columns."""
    width = int(np.prod(form.feature_shape))
    if form.schema is None or not form.schema.width:
        return Grouping(None, width), form.feature_shape
    places = torch.empty(width, dtype=torch.long)
    for column, group in enumerate(form.schema.groups.values()):
        places[list(group)] = column
    n_columns = len(form.schema.groups)
    return Grouping(places, n_columns), (n_columns,)


# -- training ----------------------------------------------------------------------------------------------------------


def _trained_model(settings: DetectorSettings, X: Tensor, context: Context, loss: Loss) -> EnsembleModel | SingleModel:
    """The model that reconstructs rows, trained on scaled rows, (n, d)."""
    if settings.autoencoder is not None:
        return SingleModel(_fitted_autoencoder(settings, settings.autoencoder, X, context))
    width, auto = X.shape[1], settings.code_sizes == "auto"
    sizes = code_sizes_for(width, settings.n_members) if auto else tuple(map(int, settings.code_sizes))
    with single_precision():
        ensemble = Ensemble(width, loss.output_width(width), sizes, settings.hidden_size)
    ensemble.initialise(X.cpu(), torch.Generator().manual_seed(settings.seed))
    ensemble = ensemble.to(X.device)
    train_ensemble(ensemble, X, _training(settings, context, loss, n_steps=steps_for(settings, len(X), context)))
    return EnsembleModel(ensemble, loss)


def _training(settings: DetectorSettings, context: Context, loss: Loss, *, n_steps: int) -> EnsembleTraining:
    corruption = None if settings.corruption is None else CORRUPTIONS.resolve(settings.corruption)
    return EnsembleTraining(
        context=context,
        loss=loss,
        corruption=corruption and suited(corruption, context),
        schedule=SCHEDULES.resolve(settings.schedule),
        n_steps=n_steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        trim=settings.trim,
        seed=settings.seed,
        verbose=bool(settings.verbose),
    )


def steps_for(settings: DetectorSettings, n_rows: int, context: Context) -> int:
    """The number of training steps."""
    if settings.max_steps != "auto":
        return int(settings.max_steps)
    for_rows = max(1.0, (n_rows / ROWS_FOR_STEPS) ** 0.5)
    for_width = min(1.0, WIDTH_FOR_STEPS / context.n_features)
    return int(np.clip(STEPS * for_rows * for_width, FEWEST_STEPS, MOST_STEPS))


def _fitted_autoencoder(
    settings: DetectorSettings, autoencoder: Autoencoder, X: Tensor, context: Context
) -> Autoencoder:
    if hasattr(autoencoder, "objective_"):
        refuse_pairs(autoencoder, "AnomalyDetector", "pass a model that was fitted without one")
        return copy.deepcopy(autoencoder)
    model = clone(autoencoder).set_params(scaling="none", device=settings.device)
    if model.random_state is None:
        model.set_params(random_state=settings.random_state)
    fitted: Autoencoder = model.fit(X.cpu().numpy().reshape(len(X), *context.feature_shape))
    return fitted


def _scorer_plan(settings: DetectorSettings, grouping: Grouping, context: Context) -> ScorerPlan:
    usual: Sequence[str] = TABLE_PARTS if len(context.feature_shape) == 1 else IMAGE_PARTS
    parts = usual if settings.parts == "auto" else tuple(part for part in PARTS if part in settings.parts)
    return ScorerPlan(parts, grouping, settings.trim, settings.n_neighbors, settings.memory_size)


# -- going on ----------------------------------------------------------------------------------------------------------


def fit_more(settings: DetectorSettings, fitted: FittedDetector, rows: Rows) -> FittedDetector:
    """Continue with new rows and an even sample of earlier ones; the given detector does not change."""
    if isinstance(fitted.model, SingleModel):
        raise ValueError(  # noqa: TRY004  # what was given is no mistake of type
            "A detector with an autoencoder of your own cannot go on learning; fit it again, or use the ensemble "
            "(autoencoder=None)."
        )
    form, n_seen = fitted.format, fitted.n_rows_seen + rows.n_rows
    settings = replace(settings, seed=settings.seed + fitted.n_rows_seen)
    raw = rows.read(_sample(rows.n_rows, settings.max_rows, settings.seed))
    check_finite(raw, missing_allowed=form.schema is not None or fitted.loss.admits_missing)
    new = form.to_tensor(raw).cpu()
    share = rows.n_rows / n_seen
    reservoir = _mixed(fitted.reservoir.to(new.dtype), new, share, settings)  # that of a file is in single precision
    X = reservoir.to(form.device)
    n_steps = max(1, round(share * steps_for(settings, len(X), fitted.context)))
    ensemble = copy.deepcopy(fitted.model.ensemble)
    train_ensemble(ensemble, X.float(), _training(settings, fitted.context, fitted.loss, n_steps=n_steps))
    model = EnsembleModel(ensemble, fitted.loss)
    plan = _scorer_plan(settings, fitted.scorer.grouping, fitted.context)
    found = learn_scorer(model, X, plan, torch.Generator().manual_seed(settings.seed))
    more = replace(
        fitted,
        model=model,
        scorer=found.scorer,
        reservoir=reservoir,
        n_rows_seen=n_seen,
        decision_scores=found.scores,
        sample=None,
        calibration_scores=None,
    )
    return more if fitted.calibration_rows is None else more.calibrated(fitted.calibration_rows)


def _mixed(old: Tensor, new: Tensor, share: float, settings: DetectorSettings) -> Tensor:
    """An even sample of all rows seen: new and old rows have the same chance to be in it.

    Parameters
    ----------
    old, new
        An even sample of the rows seen before, and one of the new ones.
    share
        Of the new rows among all.
    settings
        How many rows are wanted, and the seed.
    """
    if len(old) + len(new) <= settings.max_rows:
        return torch.cat([old, new])
    draw = np.random.default_rng(settings.seed)
    n_from_new = min(len(new), int(draw.binomial(settings.max_rows, share)))
    n_from_old = min(len(old), settings.max_rows - n_from_new)
    chosen_old = torch.from_numpy(draw.permutation(len(old))[:n_from_old])
    chosen_new = torch.from_numpy(draw.permutation(len(new))[:n_from_new])
    return torch.cat([old[chosen_old], new[chosen_new]])
