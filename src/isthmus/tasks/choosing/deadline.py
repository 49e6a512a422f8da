"""Time limits: how a budget is written, and callbacks that keep it inside a trial."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import ClassVar

import torch

from isthmus.training import Callback
from isthmus.training.loop import Run

UNITS = {"s": 1.0, "sec": 1.0, "second": 1.0, "min": 60.0, "minute": 60.0, "h": 3600.0, "hour": 3600.0}


def seconds_of(budget: float | str) -> float:
    """A budget in seconds, from a number of seconds or a text such as ``"10 min"``.

    >>> seconds_of("10 min"), seconds_of("1.5 h"), seconds_of(30)
    (600.0, 5400.0, 30.0)

    Raises
    ------
    ValueError
        It is neither, or not above 0.
    """
    found = 0.0
    if isinstance(budget, int | float) and not isinstance(budget, bool):
        found = float(budget)
    elif isinstance(budget, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]+?)s?\s*", budget.casefold())
        unit = UNITS.get(match[2], UNITS.get(f"{match[2]}s", 0.0)) if match else 0.0
        found = float(match[1]) * unit if match else 0.0
    if not 0.0 < found < float("inf"):
        raise ValueError(f"budget={budget!r} must be seconds above 0, or a text such as '10 min', '90 s' or '2 h'.")
    return found


class Deadline(Callback):
    """Stops a run at a moment of `time.monotonic`, in the middle of an epoch if need be."""

    every_step: ClassVar[bool] = False

    def __init__(self, end: float) -> None:
        self.end, self.reached = end, False

    def on_step_end(self, run: Run) -> None:
        self._look(run)

    def on_epoch_end(self, run: Run) -> None:
        self._look(run)

    def _look(self, run: Run) -> None:
        if time.monotonic() >= self.end:
            self.reached = True
            run.stop("stopped by a callback")


class Progress(Callback):
    """Reports the held-out error at each quarter of a run, and stops the run on request.

    Parameters
    ----------
    hopeless
        Is given the quarter, 1 to 3, and the error; whether to stop.
    """

    def __init__(self, hopeless: Callable[[int, float], bool]) -> None:
        self.hopeless, self.stopped, self.errors = hopeless, False, list[float]()

    def on_epoch_end(self, run: Run) -> None:
        quarter = 4 * run.epoch // run.settings.max_epochs
        if run.validation is None or not len(self.errors) < quarter < 4:
            return
        self.errors += [unexplained(run)] * (quarter - len(self.errors))
        if self.hopeless(quarter, self.errors[-1]):
            self.stopped = True
            run.stop("stopped by a callback")


@torch.inference_mode()
def unexplained(run: Run) -> float:
    """Root of the unexplained share of the variance of the validation rows, in scaled units, which trials share."""
    assert run.validation is not None
    left = whole = 0.0
    run.objective.eval()
    for batch, _ in run.validation.weighed():
        target = run.objective.split(batch)[0]
        left += float((run.objective.reconstruct(batch) - target).square().nansum())
        whole += float((target - target.nanmean(0)).square().nansum())
    run.objective.train()
    return (left / whole) ** 0.5 if whole > 0 else 0.0
