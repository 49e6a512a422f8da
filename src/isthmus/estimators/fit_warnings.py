"""Warnings of `fit` about training problems, and statistics stored for a later diagnosis."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from isthmus.choices import Gaussian, Multinomial, Plain
from isthmus.choices.codes import standard_divergence
from isthmus.choices.precision import single_precision
from isthmus.data import Scaling
from isthmus.estimators.sampling import drawn_codes, learn_noise, n_codes_kept
from isthmus.exceptions import DivergenceError, DivergenceWarning, FitWarning, InterruptedWarning
from isthmus.training import Objective, Run
from isthmus.training.batches import first_rows
from isthmus.training.loop import evaluate, first_bad_step

LOOKED_AT = 1_000
"""Maximum number of training rows that are inspected after training."""
FEWEST_STEPS = 200
"""Minimum number of steps before a model is checked for faults."""
BLOWN_UP, LEAST_LOSS = 10.0, 0.1
"""A finite loss counts as diverged if it has grown by this multiple of its first value; and the least first value."""


def report_trouble(run: Run) -> None:
    """Warn if training ended early and its weights are kept; raise an error if there are no weights."""
    kept = f"the weights of epoch {run.best.epoch} are kept" if run.best.epoch else "the weights are kept as they are"
    if run.stop_reason == "interrupted":
        warnings.warn(f"Training was interrupted in epoch {run.epoch + 1}; {kept}.", InterruptedWarning, stacklevel=4)
    if run.stop_reason == "diverged":
        text = (
            f"The loss is not finite at step {first_bad_step(run)} (epoch {run.epoch + 1}), at a learning rate of "
            f"{run.learning_rate:.3g}, which is probably too high. Use a lower learning_rate than "
            f"{run.settings.learning_rate:g}, or optimizer=Adam(clip_norm=1.0)"
        )
        if not run.best.epoch or _has_blown_up(run, _measured(run)):
            raise DivergenceError(f"{text}.")  # the loss of an epoch is measured before its last step moves the weights
        warnings.warn(f"{text}; {kept}.", DivergenceWarning, stacklevel=4)
    elif run.history and _has_blown_up(run, run.history[-1]["reconstruction"]):
        raise DivergenceError(
            f"The loss rose from {run.first_loss:.3g} at the first step to {run.history[-1]['reconstruction']:.3g} in "
            f"the last epoch: the learning rate is probably too high. Use a lower learning_rate than "
            f"{run.settings.learning_rate:g}, or optimizer=Adam(clip_norm=1.0)."
        )


def _measured(run: Run) -> float:
    """The reconstruction loss of the weights that are kept, mean over the training rows."""
    with single_precision():
        return evaluate(run.objective, run.train, run.settings.seed)[1]


def _has_blown_up(run: Run, loss: float) -> bool:
    """Whether a reconstruction loss, mean over features, is not finite or far above its value before the first step.

    A factor of ten is beyond the noise of batches. The floor keeps losses that start near zero from being compared.
    """
    first = run.first_loss
    limit = math.inf if math.isnan(first) else first + BLOWN_UP * max(abs(first), LEAST_LOSS)  # nan: no step was taken
    return not (math.isfinite(loss) and loss <= limit)


@torch.inference_mode()
def look_back(run: Run, scaling: Scaling, *, known: Collection[str] = ()) -> tuple[dict[str, np.ndarray], list[str]]:
    """Statistics of a sample of training rows, by attribute name of the estimator; and the names of the faults found.

    The scaling is that of the rows that reconstructions are compared with.
    Warns of a useless model: its code does not vary, or it reconstructs no better than the mean. Faults in `known` are
    not reported again.
    """
    found: list[str] = []
    rows = first_rows(run.train, LOOKED_AT)
    given, target = run.objective.given_and_target(rows)
    squares = (run.objective.reconstruct(given) - target).square()
    codes = run.objective.encode(given)
    if run.step >= FEWEST_STEPS and run.stop_reason not in ("interrupted", "diverged"):
        faults = _faults(run.objective, given, target, squares)
        found = list(faults)
        for text in (text for name, text in faults.items() if name not in known):
            see = " See isthmus.diagnose(model, X)." if run.objective.context.target is None else ""
            warnings.warn(text + see, FitWarning, stacklevel=5)
    errors = squares.nanmean(dim=1).cpu().numpy()
    kept = {
        "training_errors_": np.quantile(errors, np.linspace(0, 1, 101)),
        "unit_means_": codes.mean(0).cpu().numpy(),
        "unit_activity_": (codes != 0).double().mean(0).cpu().numpy(),
        **_for_samples(run, scaling),
    }
    return kept, found


def _for_samples(run: Run, scaling: Scaling) -> dict[str, np.ndarray]:
    """What later samples need: codes, and what reconstructions lack."""
    objective = run.objective
    rows = first_rows(run.train, n_codes_kept(objective.context.code_size))
    given, _ = objective.given_and_target(rows)
    codes = drawn_codes(objective, given, torch.Generator(rows.device).manual_seed(0))
    if not bool(torch.isfinite(codes).all()):
        return {}
    noise = learn_noise(objective, rows, codes, scaling)
    return {"code_sample_": codes.float().cpu().numpy(), **noise}


def _faults(objective: Objective, rows: Tensor, target: Tensor, squares: Tensor) -> dict[str, str]:
    """Descriptions of the faults, by name."""
    code, faults = objective.choices.code, dict[str, str]()
    if isinstance(code, Gaussian):
        nats = standard_divergence(*objective.posterior(rows)).mean(0)
        if bool((nats < 0.001).all()):
            faults["collapsed posterior"] = (
                "The posterior has collapsed: every code unit carries less than 0.001 nats. Use Gaussian(warm_up=0.3) "
                "or a smaller beta."
            )
    elif len(rows) > 1 and isinstance(code, Plain):
        spread = objective.encode(rows).std(0)
        dead = int((spread <= 1e-6 * spread.max()).sum()) if float(spread.max()) > 0 else len(spread)
        if dead >= len(spread) / 2:
            faults["dead units"] = (
                f"{dead} of {len(spread)} code units are dead: they have the same value for every row. Use "
                "code='plain', which has no activation, or a lower learning_rate."
            )
    variance = (target - target.nanmean(0)).square().nanmean()
    in_units = not isinstance(objective.choices.loss, Multinomial)  # which restores shares of counts
    if in_units and not faults and float(squares.nanmean()) > 0.995 * float(variance) > 0:
        faults["useless"] = (
            "The model reconstructs rows no better than their mean. Use a lower learning_rate or more epochs, and "
            "check "
            "that the loss suits the data."
        )
    return faults
