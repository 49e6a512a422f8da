"""Preparation of a run: checks of parameters and data, scaling, objective and training settings."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from sklearn.base import clone
from torch import Tensor

from isthmus.choices import (
    CODES,
    CORRUPTIONS,
    LOSSES,
    NETWORKS,
    PENALTIES,
    ByColumn,
    Gaussian,
    Loss,
    Modules,
    Network,
    Plain,
)
from isthmus.choices.precision import single_precision
from isthmus.choices.registry import Choice, Context, Registry
from isthmus.choices.rules import Instance, Number, OneOf, Rule, Whole, broken_rules, either
from isthmus.data import SCALINGS, Scaling, Source, Statistics, all_finite, learn_scaling, refuse_huge, summarise
from isthmus.estimators.defaults import batch_size_for, learning_rate_for, max_epochs_for
from isthmus.estimators.run_identity import identity_of
from isthmus.estimators.units import Known, known_of, learn_known
from isthmus.estimators.validation import Given, non_finite_text
from isthmus.exceptions import DataError
from isthmus.seeds import seed_from
from isthmus.training import (
    OPTIMIZERS,
    PRETRAININGS,
    SCHEDULES,
    Callback,
    Choices,
    History,
    Objective,
    ProgressBar,
    Run,
    Settings,
    choose_device,
)
from isthmus.training.batches import Feed, Loader, ResidentFeed, StreamedFeed, first_rows
from isthmus.training.checkpoint import continue_from
from isthmus.training.devices import PRECISIONS
from isthmus.training.initial_output import begin_at_mean, begin_at_rate, begin_spread, is_bounded, is_deep, may_fold
from isthmus.training.loop import Origin

AUTO: Rule = OneOf(("auto",))
FLAG: Rule = OneOf((True, False))
RULES: Mapping[str, Rule] = {
    "code_size": Whole(1),
    "conditional": FLAG,
    "scaling": OneOf((None, *SCALINGS)),
    "max_epochs": either(Whole(1), AUTO),
    "batch_size": either(Whole(1), AUTO),
    "learning_rate": either(Number(0.0, open_low=True), AUTO),
    "validation_fraction": either(Number(0.0, 1.0, open_high=True), OneOf((None,))),
    "early_stopping": either(Whole(1), FLAG),
    "min_delta": Number(0.0),
    "warm_start": FLAG,
    "callbacks": Instance((tuple, list), "a tuple of isthmus.Callback objects"),
    "precision": OneOf(PRECISIONS),
    "verbose": either(Whole(0), FLAG),
}
CHOICES: dict[str, Registry[Any]] = {
    "network": NETWORKS,
    "code": CODES,
    "corruption": CORRUPTIONS,
    "penalty": PENALTIES,
    "loss": LOSSES,
    "schedule": SCHEDULES,
    "optimizer": OPTIMIZERS,
    "pretraining": PRETRAININGS,
}
"""The registry of each parameter that holds a choice."""


def choices_by_parameter() -> dict[str, Registry[Any]]:
    """The registry of members for each parameter that holds a choice.

    >>> "l1" in choices_by_parameter()["penalty"].names()
    True
    """
    return dict(CHOICES)


OPTIONAL = ("corruption", "penalty", "pretraining")
AUTOMATIC = ("loss", "code")
"""Choices that ``"auto"`` leaves to the data and to the other choices."""
DEFAULT_PATIENCE = 10
EARLY_STOPPING_FRACTION = 0.1
VALIDATION_BATCH = 1024
SPREAD_ROWS = 1_000
"""Rows from which the first scale of layers is learned; see `begin_spread`."""
LOADED_NUMBERS = 2**19
"""Values that are scaled at a time: small enough that intermediate results stay in the cache."""


def resolve_choices(estimator: Any) -> tuple[dict[str, Any], list[str]]:
    """Convert the parameters that hold choices to members; and one sentence for each that cannot be converted."""
    made: dict[str, Any] = {}
    mistakes: list[str] = []
    for name, registry in CHOICES.items():
        value = getattr(estimator, name)
        try:
            empty = (name in OPTIONAL and value is None) or (name in AUTOMATIC and value == "auto")
            made[name] = None if empty else registry.resolve(value)
        except (TypeError, ValueError) as error:
            mistakes.append(f"{type(estimator).__name__}: {name}: {error}")
    if made.get("code", ...) is None:
        needed = getattr(made.get("penalty"), "needs_code", None)
        made["code"] = CODES.resolve(needed or estimator.usual_code)
    return made, mistakes


def rules_of(estimator: Any) -> Mapping[str, Rule]:
    """What each parameter that holds no choice may be."""
    return {**RULES, **estimator.own_rules}


def own_mistakes(estimator: Any) -> list[str]:
    """Every invalid value among the other parameters, one sentence each."""
    return [
        *broken_rules(estimator, rules_of(estimator)),
        *(
            f"{type(estimator).__name__}: callbacks contains {callback!r}, which is not an isthmus.Callback."
            for callback in (estimator.callbacks if isinstance(estimator.callbacks, list | tuple) else ())
            if not isinstance(callback, Callback)
        ),
    ]


def refuse(mistakes: Sequence[str]) -> None:
    """Raise one `ValueError` that lists all mistakes, if there are any."""
    if len(mistakes) == 1:
        raise ValueError(mistakes[0])
    if mistakes:
        raise ValueError("\n  ".join([f"{len(mistakes)} parameters are invalid:", *mistakes]))


@dataclass(frozen=True)
class Prepared:
    """The results of preparation, before the first training step."""

    objective: Objective
    scaling: Scaling
    known: Known
    run: Run
    pretraining: Sequence[History] = ()


def prepare(estimator: Any, given: Given, validation: Given | None, *, resuming: bool = False) -> Prepared:
    """Check parameters and data, learn the scaling, and build the objective and the run."""
    made, context, scaling, mean, known = consider(estimator, given)
    device = choose_device(estimator.device)
    seed = seed_from(estimator.random_state)
    objective = build_objective(made, context, seed, mean).to(device)
    loader = make_loader(objective, scaling)
    rows, held_out = split_rows(given.source.n_rows, validation_share(estimator, validation), seed)
    settings = settle(estimator, made, objective.choices.network, len(rows), seed)
    train_feed = make_feed(given.rows, rows, loader, settings.batch_size, given.weights)
    measured = given.rows if validation is None else validation.rows
    held_out = held_out if validation is None else np.arange(measured.n_rows)
    measured_weights = given.weights if validation is None else None
    feed = make_feed(measured, held_out, loader, VALIDATION_BATCH, measured_weights) if len(held_out) else None
    choices = objective.choices
    if may_fold(choices.network, choices.code) and not getattr(choices.network, "tied", False):
        begin_spread(objective.encoder, objective.filled(first_rows(train_feed, SPREAD_ROWS)))
    histories: Sequence[History] = ()
    if made["pretraining"] is not None and not resuming:
        shown = [ProgressBar()] if estimator.verbose else []
        histories = made["pretraining"].pretrain(objective, settings, train_feed, shown)
    parts = {"training rows": (given.rows, rows)} | ({"validation rows": (measured, held_out)} if len(held_out) else {})
    origin = Origin(
        model=lambda run: estimator._state_of(Prepared(objective, scaling, known, run, histories)),  # noqa: SLF001  # its own
        identity=functools.cache(
            functools.partial(identity_of, type(estimator).__name__, objective, scaling, parts, given.weights)
        ),
    )
    run = Run(objective, settings, train_feed, feed, callbacks_of(estimator), origin=origin)
    return Prepared(objective, scaling, known, run, histories)


def begin_with(prepared: Prepared, weights: Mapping[str, Tensor]) -> None:
    """Initialise a run with given weights.

    Raises
    ------
    ValueError
        The weights belong to another network.
    """
    fresh = prepared.objective.state_dict()
    others = [
        f"{name} has shape {tuple(weights[name].shape)} instead of {tuple(fresh[name].shape)}"
        if name in fresh and name in weights
        else f"{name} is {'missing' if name in fresh else 'unknown'}"
        for name in fresh.keys() | weights.keys()
        if name not in fresh or name not in weights or fresh[name].shape != weights[name].shape
    ]
    if others:
        raise ValueError(
            f"warm_start=True starts from the current weights, but they belong to another network: {min(others)}. "
            "Use the same features and parameters, or warm_start=False."
        )
    prepared.objective.load_state_dict(dict(weights))


def consider(estimator: Any, given: Given) -> tuple[dict[str, Any], Context, Scaling, np.ndarray, Known]:
    """Check all parameters and the data in one pass; one error lists everything that is wrong.

    Returns the resolved choices, the context, the scaling, the mean of the scaled rows, (d,), and the statistics of the
    unscaled rows.
    """
    resolved, mistakes = resolve_choices(estimator)
    mistakes += own_mistakes(estimator)
    mistakes += [text for member in resolved.values() if member is not None for text in member.mistakes()]
    if estimator.conditional is True and given.labels is None:
        mistakes.append(f"{type(estimator).__name__}: conditional=True needs labels; pass them as fit(X, y).")
    optimizer = resolved.get("optimizer")
    if optimizer is not None and estimator.learning_rate == "auto" and not optimizer.suits_auto:
        mistakes.append(
            f"{type(estimator).__name__}: learning_rate='auto' is tuned for Adam and does not suit {optimizer!r}; "
            "pass a number."
        )
    if estimator.conditional is True and estimator.pretraining is not None:
        mistakes.append(
            f"{type(estimator).__name__}: pretraining cannot be combined with conditional=True; set it to None."
        )
    blocked = any(not rules_of(estimator)[name].admits(getattr(estimator, name)) for name in ("code_size", "scaling"))
    if blocked or len(resolved) < len(CHOICES):
        refuse(mistakes)
    statistics = summarise(given.source, given.weights)
    loss = resolved["loss"]
    refuse_bad_statistics(statistics, given, missing_allowed=loss is not None and loss.admits_missing)
    refuse_huge(statistics, given.source.feature_names or getattr(estimator, "feature_names_in_", None))
    kept = None if loss is None or loss.mistakes() else loss.kept_unscaled(given.source.n_features)
    kept = kept if kept is not None and len(kept) == given.source.n_features and isinstance(loss, ByColumn) else None
    network, dtype = sound(resolved)["network"], given.source.dtype
    name = _scaling_name(estimator, network, given, statistics)
    scaling = learn_scaling(name, statistics, dtype, kept, network.row_shape(given.source.feature_shape))
    context = make_context(given, statistics, scaling, estimator._code_size_for(given, scaling))  # noqa: SLF001  # its own
    if estimator.scaling == "auto" and scaling.name == "standard" and _spoils(loss, context):
        unscaled = learn_scaling("none", statistics, given.source.dtype)
        as_given = make_context(given, statistics, unscaled, estimator._code_size_for(given, unscaled))  # noqa: SLF001
        if not _spoils(loss, as_given):  # counts for a Poisson, say: standardised they would be refused
            scaling, context = unscaled, as_given
    choices = choose(sound(resolved), context)
    mistakes += choices.mistakes(context)
    mistakes += resolved["pretraining"].conflicts(choices) if resolved["pretraining"] is not None else []
    refuse(mistakes)
    mean = ((statistics.mean - scaling.shift) * scaling.factor).ravel()
    return resolved, context, scaling, mean, learn_known(statistics, given.source)


def _scaling_name(estimator: Any, network: Network, given: Given, statistics: Statistics) -> str:
    """The name of the scaling to learn. For a user's decoder that ends in a sigmoid, "auto" keeps data in [0, 1]
    unscaled and divides bytes by 255.

    Otherwise columns that fill only a part of [0, 1] would be standardised, out of the range of such a decoder.
    """
    name = estimator.scaling or "none"
    width = max(1, int(estimator.code_size)) + given.n_classes  # a code size that is a share of the variance is < 1
    if name != "auto" or network.output_range(width) != (0.0, 1.0):
        return name
    dtype = given.source.dtype
    low, high = float(statistics.minimum.min()), float(statistics.maximum.max())
    if low < 0.0 or not high <= (255.0 if dtype == np.uint8 else 1.0):
        return name
    return "pixels" if dtype == np.uint8 else "none"


def _spoils(loss: Loss | None, context: Context) -> bool:
    """Whether a loss that needs its data in a range does not find them there under this scaling."""
    if loss is None or loss.mistakes() or isinstance(loss, ByColumn):
        return False
    return all(loss.kept_unscaled(context.n_features)) and bool(loss.mistakes(context))


def sound(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The choices with defaults in place of invalid ones, so that the others can still be checked."""
    plain = {"network": NETWORKS.resolve("dense"), "code": CODES.resolve("plain")}
    kept = {name: plain.get(name) if member and member.mistakes() else member for name, member in resolved.items()}
    if kept["code"] is not resolved["code"]:
        kept["penalty"] = None  # the combination cannot be checked
    return kept


def refuse_bad_statistics(statistics: Statistics, given: Given, *, missing_allowed: bool) -> None:
    """Raise for NaN and infinite values found by `summarise`; `take` checks only data that fit in memory."""
    if statistics.first_bad is not None and (statistics.n_infinite or not missing_allowed):
        names = given.source.feature_names
        raise DataError(non_finite_text(statistics.n_nan, statistics.n_infinite, statistics.first_bad, names))


def make_context(given: Given, statistics: Statistics, scaling: Scaling, code_size: int) -> Context:
    """The context of the data: shape, and the range of the scaled values."""
    shape = tuple(map(int, given.source.feature_shape))
    ends = np.stack([statistics.minimum, statistics.maximum])
    context = Context(shape, int(code_size), n_conditions=given.n_classes)
    context = ranged(context, (ends - scaling.shift) * scaling.factor)
    if scaling.name in ("standard", "global"):  # constant features become 0, which a sigmoid cannot reach
        return replace(context, lower=min(context.lower, -1.0))
    return context


def ranged(context: Context, ranges: np.ndarray) -> Context:
    """The same context with feature ranges, (2, d); a feature without finite values counts as zero."""
    ranges = np.where(np.isfinite(ranges), ranges, 0.0)
    slack = 1e-6 * max(1.0, float(np.abs(ranges).max()))
    ranges = np.where(np.abs(ranges) < slack, 0.0, ranges)  # scaled values must not leave the unit interval by rounding
    ranges = np.where(np.abs(ranges - 1.0) < slack, 1.0, ranges)
    return replace(context, lower=float(ranges.min()), upper=float(ranges.max()), ranges=ranges)


def choose(made: Mapping[str, Any], context: Context) -> Choices:
    """The five choices, resolved for these data."""
    loss = made["loss"]
    if loss is None:
        other = "normal" if isinstance(made["code"], Gaussian) else "mean-squared-error"
        loss = LOSSES.resolve("binary-cross-entropy" if context.in_unit_interval else other)
    chosen = {name: own_copy(made[name]) for name in ("network", "code", "corruption", "penalty")}
    return Choices(**chosen, loss=own_copy(loss)).resolve(context)


def own_copy(member: Choice | None) -> Any:
    """A copy of a choice, so that `set_params` on the estimator does not change a fitted model.

    A user's modules are not copied here; building the network copies them.
    """
    return copy.copy(member) if isinstance(member, Modules) else clone(member, safe=False)


def build_objective(made: Mapping[str, Any], context: Context, seed: int, mean: np.ndarray | None = None) -> Objective:
    """Build the objective with initial weights drawn from the seed, without changing global generators.

    Given the mean of the scaled rows, (d,), models with bounded codes or deep networks start with it as their output;
    see `begin_at_mean`.
    """
    with single_precision():
        objective = Objective(choose(made, context), context, generator=torch.Generator().manual_seed(seed))
    choices = objective.choices
    plain_output = choices.loss.output_width(context.n_features) == context.n_features
    if mean is None or not plain_output or isinstance(choices.network, Modules):
        return objective
    bounded = is_bounded(choices.code)
    if bounded or is_deep(choices.network):
        begin_at_mean(objective.decoder, choices.loss, torch.from_numpy(np.nan_to_num(mean)))
    if bounded and isinstance(choices.code, Plain):
        rate = None if choices.penalty is None else choices.penalty.wanted_rate
        begin_at_rate(objective.encoder, objective.decoder, choices.code, rate)
    return objective


def make_loader(objective: Objective, scaling: Scaling) -> Loader:
    """The loader that scales rows for training and rejects invalid ones."""
    context = objective.context
    extended = scaling.extended(context.n_features, context.n_conditions)
    return Loader(extended, next(objective.parameters()).device, check=range_check(context, objective, extended))


def range_check(context: Context, objective: Objective, scaling: Scaling) -> Callable[[np.ndarray], None]:
    """A check of each block of rows: finite (or missing, if allowed), and in the range of the loss."""
    loss = objective.choices.loss
    unbounded = Context(context.feature_shape, context.code_size)
    bounded, missing = bool(loss.mistakes(unbounded)), loss.admits_missing

    def check(block: np.ndarray) -> None:
        if not all_finite(block) and (bad := np.isinf(block) if missing else ~np.isfinite(block)).any():
            row, column = np.unravel_index(int(bad.argmax()), bad.shape)
            counts = 0 if missing else int(np.isnan(block).sum()), int(np.isinf(block).sum())
            raise DataError(non_finite_text(*counts, (int(row), int(column))) + " (Rows count from this block.)")
        if bounded and block.size:
            ends = np.stack([np.fmin.reduce(block, axis=0), np.fmax.reduce(block, axis=0)])
            scaled = ((ends - scaling.shift) * scaling.factor)[:, : context.n_features]
            mistakes = loss.mistakes(ranged(unbounded, scaled))
            if mistakes:
                raise DataError(mistakes[0])

    return check


def validation_share(estimator: Any, validation: Given | None) -> float:
    """The fraction of rows to hold out: the parameter, or 0.1 by default with early stopping."""
    if validation is not None:
        return 0.0
    if estimator.validation_fraction is None:
        return EARLY_STOPPING_FRACTION if estimator.early_stopping else 0.0
    if estimator.early_stopping and estimator.validation_fraction == 0:
        raise ValueError("early_stopping needs held-out rows: set validation_fraction > 0 or pass X_val to fit.")
    return float(estimator.validation_fraction)


def split_rows(n_rows: int, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of training and held-out rows, ascending; at least one of each if `share` > 0."""
    n_held_out = min(n_rows - 1, max(1, round(share * n_rows))) if share else 0
    order = np.random.default_rng(seed).permutation(n_rows) if n_held_out else np.arange(n_rows)
    return np.sort(order[n_held_out:]), np.sort(order[:n_held_out])


def settle(estimator: Any, made: Mapping[str, Any], network: Network, n_rows: int, seed: int) -> Settings:
    """The training settings with every ``"auto"`` replaced."""
    asked = None if estimator.max_epochs == "auto" else int(estimator.max_epochs)
    batch_size = batch_size_for(n_rows, asked) if estimator.batch_size == "auto" else int(estimator.batch_size)
    batch_size = min(batch_size, n_rows)
    epochs = max_epochs_for(n_rows, batch_size) if estimator.max_epochs == "auto" else int(estimator.max_epochs)
    rate = (
        learning_rate_for(batch_size, network.hidden_width)
        if estimator.learning_rate == "auto"
        else float(estimator.learning_rate)
    )
    return Settings(
        max_epochs=epochs,
        batch_size=batch_size,
        learning_rate=rate,
        schedule=made["schedule"],
        optimizer=made["optimizer"],
        patience=patience_of(estimator.early_stopping),
        min_delta=float(estimator.min_delta),
        precision=estimator.precision,
        seed=seed,
    )


def patience_of(early_stopping: bool | int) -> int | None:
    """Number of epochs without improvement after which training stops; None: never.

    >>> patience_of(True), patience_of(3), patience_of(False)
    (10, 3, None)
    """
    if isinstance(early_stopping, bool):
        return DEFAULT_PATIENCE if early_stopping else None
    return int(early_stopping)


def make_feed(
    source: Source, rows: np.ndarray, loader: Loader, batch_size: int, weights: np.ndarray | None = None
) -> Feed:
    """Batches of some rows of a source: resident on the device if the source fits in memory, else streamed.

    Weights are those of all rows of the source, (n,).
    """
    chosen = None if weights is None else torch.from_numpy(weights[rows])
    if not source.fits_in_memory:
        return StreamedFeed(source, rows, loader, batch_size, chosen)
    return ResidentFeed(load_rows(source, rows, loader), batch_size, chosen)


def load_rows(source: Source, rows: np.ndarray, loader: Loader) -> Tensor:
    """Scaled rows on the device, (k, d); without a copy if they are in memory and need no scaling."""
    n_features, whole = int(np.prod(source.feature_shape)), len(rows) == source.n_rows
    size = max(1, LOADED_NUMBERS // n_features)
    parts = [slice(start, min(start + size, len(rows))) for start in range(0, len(rows), size)]
    held = source.held() if whole else None
    if held is not None and loader.leaves(held):
        flat = held.reshape(len(held), -1)
        for part in parts:
            loader.check(flat[part])
        return torch.from_numpy(flat)
    loaded = torch.empty(len(rows), n_features, dtype=loader.dtype, device=loader.device)
    for part in parts:
        loaded[part] = loader(source.read(part if whole else rows[part]))
    return loaded


def callbacks_of(estimator: Any) -> list[Callback]:
    """The user's callbacks, plus a progress bar if `verbose`."""
    return [*estimator.callbacks, *([ProgressBar()] if estimator.verbose else [])]


def prepare_more(estimator: Any, given: Given, *, first: bool) -> Prepared:
    """A run of one pass over new rows at a constant learning rate; the optimiser keeps its state."""
    if first:
        prepared = prepare(estimator, given, None)
        objective, scaling, seed = prepared.objective, prepared.scaling, prepared.run.settings.seed
        known = prepared.known
        made, _ = resolve_choices(estimator)
    else:
        objective, scaling = estimator.objective_, estimator.scaling_
        known = known_of(estimator).widened(summarise(given.source, given.weights))
        seed = seed_from(estimator.random_state) + estimator.n_epochs_
        made, mistakes = resolve_choices(estimator)
        refuse(mistakes + own_mistakes(estimator))
    constant = {**made, "schedule": SCHEDULES.resolve("constant")}
    settings = settle(estimator, constant, objective.choices.network, given.source.n_rows, seed)
    settings = replace(settings, max_epochs=1 if first else len(estimator.history_) + 1, patience=None)
    loader = make_loader(objective, scaling)
    feed = make_feed(given.rows, np.arange(given.source.n_rows), loader, settings.batch_size, given.weights)
    run = Run(objective, settings, feed, None, callbacks_of(estimator))
    if not first:
        continue_from(run, estimator.history_, getattr(estimator, "optimizer_state_", {}))
    return Prepared(objective, scaling, known, run)
