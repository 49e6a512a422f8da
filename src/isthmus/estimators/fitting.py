"""Preparation of a run: checks of parameters and data, scaling, objective and training settings."""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping, Sequence
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
from isthmus.data import SCALINGS, Scaling, Source, Statistics, learn_scaling, refuse_huge, summarise
from isthmus.estimators.defaults import batch_size_for, learning_rate_for, max_epochs_for
from isthmus.estimators.feeds import make_context, make_feed, make_loader, split_rows, validation_share
from isthmus.estimators.run_identity import identity_of
from isthmus.estimators.targets import Target, target_of
from isthmus.estimators.units import Known, known_of, learn_known
from isthmus.estimators.validation import Given, non_finite_text, speaking_of
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
from isthmus.training.batches import first_rows
from isthmus.training.checkpoint import continue_from
from isthmus.training.devices import PRECISIONS
from isthmus.training.initial_output import begin_at_mean, begin_at_rate, begin_spread, is_bounded, is_deep, may_fold
from isthmus.training.loop import Origin
from isthmus.training.processes import common_seed

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
VALIDATION_BATCH = 1024
SPREAD_ROWS = 1_000
"""Rows from which the first scale of layers is learned; see `begin_spread`."""


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
    target: Target | None = None


def prepare(estimator: Any, given: Given, validation: Given | None, *, resuming: bool = False) -> Prepared:
    """Check parameters and data, learn the scaling, and build the objective and the run."""
    found = consider(estimator, given)
    made, scaling, known, target = found.made, found.scaling, found.known, found.target
    device = choose_device(estimator.device)
    seed = common_seed(estimator.random_state)
    objective = build_objective(made, found.context, seed, found.mean).to(device)
    loader = make_loader(objective, scaling, target)
    rows, held_out = split_rows(given.source.n_rows, validation_share(estimator, validation), seed)
    settings = settle(estimator, made, objective.choices.network, len(rows), seed)
    train_feed = make_feed(given.rows, rows, loader, settings.batch_size, given.weights)
    measured = given.rows if validation is None else validation.rows
    held_out = held_out if validation is None else np.arange(measured.n_rows)
    measured_weights = given.weights if validation is None else None
    feed = make_feed(measured, held_out, loader, VALIDATION_BATCH, measured_weights) if len(held_out) else None
    choices = objective.choices
    if may_fold(choices.network, choices.code) and not getattr(choices.network, "tied", False):
        rows_given, _ = objective.given_and_target(first_rows(train_feed, SPREAD_ROWS))
        begin_spread(objective.encoder, objective.filled(rows_given))
    histories: Sequence[History] = ()
    if made["pretraining"] is not None and not resuming:
        shown = [ProgressBar()] if estimator.verbose else []
        histories = made["pretraining"].pretrain(objective, settings, train_feed, shown)
    parts = {"training rows": (given.rows, rows)} | ({"validation rows": (measured, held_out)} if len(held_out) else {})
    origin = Origin(
        model=lambda run: estimator._state_of(Prepared(objective, scaling, known, run, histories, target)),  # noqa: SLF001  # its own
        identity=functools.cache(
            functools.partial(identity_of, type(estimator).__name__, objective, (scaling, target), parts, given.weights)
        ),
    )
    run = Run(objective, settings, train_feed, feed, callbacks_of(estimator), origin=origin)
    return Prepared(objective, scaling, known, run, histories, target)


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


@dataclass(frozen=True)
class Considered:
    """What parameters and data come to.

    Attributes
    ----------
    made
        The choices, as given.
    context
        Facts about the data.
    scaling, known
        The scaling of the rows, and the statistics of the unscaled rows.
    mean
        Mean of the scaled rows that reconstructions are compared with, (t,).
    target
        What is known of the targets; None without pairs.
    """

    made: dict[str, Any]
    context: Context
    scaling: Scaling
    known: Known
    mean: np.ndarray
    target: Target | None = None


def consider(estimator: Any, given: Given) -> Considered:
    """Check all parameters and the data, in one pass over each; one error lists everything that is wrong."""
    resolved, mistakes = resolve_choices(estimator)
    mistakes += own_mistakes(estimator)
    mistakes += [text for member in resolved.values() if member is not None for text in member.mistakes()]
    mistakes += _conflicts(estimator, given, resolved)
    blocked = any(not rules_of(estimator)[name].admits(getattr(estimator, name)) for name in ("code_size", "scaling"))
    if blocked or len(resolved) < len(CHOICES):
        refuse(mistakes)
    if given.target is None:
        left = right = _compared_end(estimator, resolved, given)
        context = right.context
    else:
        left = _input_end(estimator, resolved, given)
        with speaking_of("target"):
            right = _compared_end(estimator, resolved, given, left.context.code_size)
        context = replace(left.context, target=right.context)
    choices = choose(sound(resolved), context)
    mistakes += choices.mistakes(context)
    mistakes += resolved["pretraining"].conflicts(choices) if resolved["pretraining"] is not None else []
    refuse(mistakes)
    target = None if given.target is None else right.as_target(given)
    return Considered(resolved, context, left.scaling, learn_known(left.statistics, given.source), right.mean, target)


def _conflicts(estimator: Any, given: Given, resolved: Mapping[str, Any]) -> list[str]:
    """What does not go with labels, with their absence, or with a target, one sentence each."""
    name, mistakes = type(estimator).__name__, list[str]()
    optimizer = resolved.get("optimizer")
    if estimator.conditional is True and given.labels is None:
        mistakes.append(f"{name}: conditional=True needs labels; pass them as fit(X, y).")
    if optimizer is not None and estimator.learning_rate == "auto" and not optimizer.suits_auto:
        mistakes.append(
            f"{name}: learning_rate='auto' is tuned for Adam and does not suit {optimizer!r}; pass a number."
        )
    if estimator.conditional is True and estimator.pretraining is not None:
        mistakes.append(f"{name}: pretraining cannot be combined with conditional=True; set it to None.")
    if given.target is not None and estimator.pretraining is not None:
        mistakes.append(
            f"{name}: pretraining teaches layers to restore their own input and cannot be combined with a target; set "
            "it to None."
        )
    return mistakes + (estimator._target_conflicts() if given.target is not None else [])  # noqa: SLF001  # its own


@dataclass(frozen=True)
class _End:
    """The rows at one end of the network: their statistics, scaling and context."""

    statistics: Statistics
    scaling: Scaling
    context: Context

    @property
    def mean(self) -> np.ndarray:
        """Mean of the scaled rows, (d,)."""
        mean: np.ndarray = ((self.statistics.mean - self.scaling.shift) * self.scaling.factor).ravel()
        return mean

    def as_target(self, given: Given) -> Target:
        """What a model keeps of its targets."""
        known = learn_known(self.statistics, given.compared)
        return Target(self.context.feature_shape, given.compared.dtype, self.scaling, known, given.target_names)


def _input_end(estimator: Any, resolved: Mapping[str, Any], given: Given) -> _End:
    """The rows of pairs that the network is given; the loss does not see them, so they need not suit it."""
    names = given.source.feature_names or getattr(estimator, "feature_names_in_", None)
    statistics = _checked_statistics(given.source, given.weights, resolved["loss"], names)
    shape = sound(resolved)["network"].row_shape(given.source.feature_shape)
    scaling = learn_scaling(estimator.scaling or "none", statistics, given.source.dtype, None, shape)
    size = estimator._code_size_for(given, scaling)  # noqa: SLF001  # its own
    return _End(statistics, scaling, make_context(given.source, statistics, scaling, size, given.n_classes))


def _compared_end(estimator: Any, resolved: Mapping[str, Any], given: Given, code_size: int | None = None) -> _End:
    """The rows that reconstructions are compared with: the target of pairs, for a given code size, or the input."""
    loss, source, is_target = resolved["loss"], given.compared, given.target is not None
    names = given.target_names if is_target else getattr(estimator, "feature_names_in_", None)
    statistics = _checked_statistics(source, given.weights, loss, source.feature_names or names)
    kept = None if loss is None or loss.mistakes() else loss.kept_unscaled(source.n_features)
    kept = kept if kept is not None and len(kept) == source.n_features and isinstance(loss, ByColumn) else None
    network = sound(resolved)["network"]

    def end(scaling: Scaling) -> _End:
        size = estimator._code_size_for(given, scaling) if code_size is None else code_size  # noqa: SLF001  # its own
        return _End(statistics, scaling, make_context(source, statistics, scaling, size, given.n_classes))

    name = _scaling_name(estimator, network, given, statistics)
    learned = end(learn_scaling(name, statistics, source.dtype, kept, network.row_shape(source.feature_shape)))
    if estimator.scaling == "auto" and learned.scaling.name == "standard" and _spoils(loss, learned.context):
        unscaled = end(learn_scaling("none", statistics, source.dtype))
        if not _spoils(loss, unscaled.context):  # counts for a Poisson, say: standardised they would be refused
            return unscaled
    return learned


def _checked_statistics(
    source: Source, weights: np.ndarray | None, loss: Loss | None, names: Sequence[str] | None
) -> Statistics:
    """Statistics of rows; values that are missing, infinite or huge raise an error."""
    statistics = summarise(source, weights)
    refuse_bad_statistics(statistics, source, missing_allowed=loss is not None and loss.admits_missing)
    refuse_huge(statistics, names)
    return statistics


def _scaling_name(estimator: Any, network: Network, given: Given, statistics: Statistics) -> str:
    """The name of the scaling to learn. For a user's decoder that ends in a sigmoid, "auto" keeps data in [0, 1]
    unscaled and divides bytes by 255.

    Otherwise columns that fill only a part of [0, 1] would be standardised, out of the range of such a decoder.
    """
    name = estimator.scaling or "none"
    width = max(1, int(estimator.code_size)) + given.n_classes  # a code size that is a share of the variance is < 1
    if name != "auto" or network.output_range(width) != (0.0, 1.0):
        return name
    dtype = given.compared.dtype
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


def refuse_bad_statistics(statistics: Statistics, source: Source, *, missing_allowed: bool) -> None:
    """Raise for NaN and infinite values found by `summarise`; `take` checks only data that fit in memory."""
    if statistics.first_bad is not None and (statistics.n_infinite or not missing_allowed):
        names = source.feature_names
        raise DataError(non_finite_text(statistics.n_nan, statistics.n_infinite, statistics.first_bad, names))


def choose(made: Mapping[str, Any], context: Context) -> Choices:
    """The five choices, resolved for these data."""
    loss = made["loss"]
    if loss is None:
        other = "normal" if isinstance(made["code"], Gaussian) else "mean-squared-error"
        loss = LOSSES.resolve("binary-cross-entropy" if context.output.in_unit_interval else other)
    chosen = {name: own_copy(made[name]) for name in ("network", "code", "corruption", "penalty")}
    return Choices(**chosen, loss=own_copy(loss)).resolve(context)


def own_copy(member: Choice | None) -> Any:
    """A copy of a choice, so that `set_params` on the estimator does not change a fitted model.

    A user's modules are not copied here; building the network copies them.
    """
    return copy.copy(member) if isinstance(member, Modules) else clone(member, safe=False)


def build_objective(made: Mapping[str, Any], context: Context, seed: int, mean: np.ndarray | None = None) -> Objective:
    """Build the objective with initial weights drawn from the seed, without changing global generators.

    Given the mean of the scaled rows that reconstructions are compared with, (t,), models with bounded codes or deep
    networks start with it as their output; see `begin_at_mean`.
    """
    with single_precision():
        objective = Objective(choose(made, context), context, generator=torch.Generator().manual_seed(seed))
    choices = objective.choices
    n_outputs = context.output.n_features
    plain_output = choices.loss.output_width(n_outputs) == n_outputs
    if mean is None or not plain_output or isinstance(choices.network, Modules):
        return objective
    bounded = is_bounded(choices.code)
    if bounded or is_deep(choices.network):
        begin_at_mean(objective.decoder, choices.loss, torch.from_numpy(np.nan_to_num(mean)))
    if bounded and isinstance(choices.code, Plain):
        rate = None if choices.penalty is None else choices.penalty.wanted_rate
        begin_at_rate(objective.encoder, objective.decoder, choices.code, rate)
    return objective


def settle(estimator: Any, made: Mapping[str, Any], network: Network, n_rows: int, seed: int) -> Settings:
    """The training settings with every ``"auto"`` replaced."""
    asked = None if estimator.max_epochs == "auto" else int(estimator.max_epochs)
    batch_size = batch_size_for(n_rows, asked) if estimator.batch_size == "auto" else int(estimator.batch_size)
    batch_size = min(batch_size, n_rows)
    usual = max_epochs_for(n_rows, batch_size, linear=not network.has_hidden_layers)
    epochs = usual if estimator.max_epochs == "auto" else int(estimator.max_epochs)
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


def callbacks_of(estimator: Any) -> list[Callback]:
    """The user's callbacks, plus a progress bar if `verbose`."""
    return [*estimator.callbacks, *([ProgressBar()] if estimator.verbose else [])]


def prepare_more(estimator: Any, given: Given, *, first: bool) -> Prepared:
    """A run of one pass over new rows at a constant learning rate; the optimiser keeps its state."""
    if first:
        prepared = prepare(estimator, given, None)
        objective, scaling, seed = prepared.objective, prepared.scaling, prepared.run.settings.seed
        known, target = prepared.known, prepared.target
        made, _ = resolve_choices(estimator)
    else:
        objective, scaling = estimator.objective_, estimator.scaling_
        known, target = known_of(estimator).widened(summarise(given.source, given.weights)), target_of(estimator)
        if target is not None:
            target = replace(target, known=target.known.widened(summarise(given.compared, given.weights)))
        seed = seed_from(estimator.random_state) + estimator.n_epochs_
        made, mistakes = resolve_choices(estimator)
        refuse(mistakes + own_mistakes(estimator))
    constant = {**made, "schedule": SCHEDULES.resolve("constant")}
    settings = settle(estimator, constant, objective.choices.network, given.source.n_rows, seed)
    settings = replace(settings, max_epochs=1 if first else len(estimator.history_) + 1, patience=None)
    loader = make_loader(objective, scaling, target)
    feed = make_feed(given.rows, np.arange(given.source.n_rows), loader, settings.batch_size, given.weights)
    run = Run(objective, settings, feed, None, callbacks_of(estimator))
    if not first:
        continue_from(run, estimator.history_, getattr(estimator, "optimizer_state_", {}))
    return Prepared(objective, scaling, known, run, target=target)
