"""What `fit` tells when training did not go well, and what it keeps for a later diagnosis."""

from __future__ import annotations

import math
import warnings
from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from isthmus.choices import Gaussian, Plain
from isthmus.choices.codes import standard_divergence
from isthmus.exceptions import DivergenceError, DivergenceWarning, FitWarning, InterruptedWarning
from isthmus.training import Objective, Run
from isthmus.training.batches import Feed
from isthmus.training.loop import evaluate, first_bad_step

LOOKED_AT = 1_000
LOOKED_AT_BYTES = 2**25
"""Training rows that are looked at after training, at most, and what they may take."""
FEWEST_STEPS = 200
"""Steps before which a model is not judged."""
BLOWN_UP, LEAST_LOSS = 10.0, 0.1
"""How many times its first value a loss must have reached to be called diverged though it is finite, and what counts as
that value at least."""


def report_trouble(run: Run) -> None:
    """Say in a warning why training ended before its time, and what is kept; an error where nothing is."""
    kept = f"the weights of epoch {run.best.epoch} are kept" if run.best.epoch else "the weights are kept as they are"
    if run.stop_reason == "interrupted":
        warnings.warn(f"Training was interrupted in epoch {run.epoch + 1}; {kept}.", InterruptedWarning, stacklevel=4)
    if run.stop_reason == "diverged":
        text = (
            f"The loss is not finite at step {first_bad_step(run)} (epoch {run.epoch + 1}), at a learning rate of "
            f"{run.learning_rate:.3g}, which is probably too high. Use a lower learning_rate than "
            f"{run.settings.learning_rate:g}, or optimizer=Adam(clip_norm=1.0)"
        )
        if not run.best.epoch or _has_blown_up(run, evaluate(run.objective, run.train, run.settings.seed)[1]):
            raise DivergenceError(f"{text}.")  # the loss of an epoch is measured before its last step moves the weights
        warnings.warn(f"{text}; {kept}.", DivergenceWarning, stacklevel=4)
    elif run.history and _has_blown_up(run, run.history[-1]["reconstruction"]):
        raise DivergenceError(
            f"The loss rose from {run.first_loss:.3g} at the first step to {run.history[-1]['reconstruction']:.3g} in "
            f"the last epoch: the learning rate is probably too high. Use a lower learning_rate than "
            f"{run.settings.learning_rate:g}, or optimizer=Adam(clip_norm=1.0)."
        )


def _has_blown_up(run: Run, loss: float) -> bool:
    """Whether a reconstruction loss, mean over features, is not finite or far above that before the first step.

    Ten times as much is no noise of batches. A floor keeps losses that begin at nearly zero from being compared.
    """
    first = run.first_loss
    limit = math.inf if math.isnan(first) else first + BLOWN_UP * max(abs(first), LEAST_LOSS)  # nan: no step was taken
    return not (math.isfinite(loss) and loss <= limit)


@torch.inference_mode()
def look_back(run: Run, *, known: Collection[str] = ()) -> tuple[dict[str, np.ndarray], list[str]]:
    """What is kept of some training rows after training, by the name of the estimator's attribute; and what is wrong.

    A model that is useless is warned of here, however its run ended: its code does not vary, or it restores nothing.
    What is `known`, by the names of the faults, is not said again.
    """
    found: list[str] = []
    rows = _some_rows(run.train)
    target = run.objective.split(rows)[0]
    squares = (run.objective.reconstruct(rows) - target).square()
    codes = run.objective.encode(rows)
    if run.step >= FEWEST_STEPS and run.stop_reason not in ("interrupted", "diverged"):
        faults = _faults(run.objective, rows, target, squares)
        found = list(faults)
        for text in (text for name, text in faults.items() if name not in known):
            warnings.warn(f"{text} isthmus.diagnose(model, X) tells more.", FitWarning, stacklevel=5)
    errors = squares.nanmean(dim=1).cpu().numpy()
    kept = {
        "training_errors_": np.quantile(errors, np.linspace(0, 1, 101)),
        "unit_means_": codes.mean(0).cpu().numpy(),
        "unit_activity_": (codes != 0).double().mean(0).cpu().numpy(),
    }
    return kept, found


def _some_rows(feed: Feed) -> Tensor:
    batches, n_rows = [], 0
    for batch in feed.shuffled(torch.Generator().manual_seed(0)):
        batches.append(batch.clone())
        n_rows += len(batch)
        if n_rows >= LOOKED_AT or 4 * n_rows * batch.shape[1] >= LOOKED_AT_BYTES:
            break
    return torch.cat(batches)


def _faults(objective: Objective, rows: Tensor, target: Tensor, squares: Tensor) -> dict[str, str]:
    """Sentences about what is wrong, by the name of the fault."""
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
                f"{dead} of {len(spread)} code units are dead: they are the same for every row. Use code='plain', "
                "which has no activation, or a lower learning_rate."
            )
    variance = (target - target.nanmean(0)).square().nanmean()
    if not faults and float(squares.nanmean()) > 0.995 * float(variance) > 0:
        faults["useless"] = (
            "The model restores rows no better than their mean does. Use a lower learning_rate, more epochs, or look "
            "whether the loss suits the data."
        )
    return faults
