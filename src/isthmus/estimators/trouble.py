"""What `fit` tells when training did not go well."""

from __future__ import annotations

import warnings

from isthmus.exceptions import DivergenceError, DivergenceWarning, InterruptedWarning
from isthmus.training import Run
from isthmus.training.loop import first_bad_step


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
        if not run.best.epoch:
            raise DivergenceError(f"{text}.")
        warnings.warn(f"{text}; {kept}.", DivergenceWarning, stacklevel=4)
