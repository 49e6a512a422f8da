"""Callbacks: code that runs at events of training. A callback overrides the events that it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from isthmus.training.loop import Run


class Callback:
    """Base class: all events do nothing.

    Each event receives the run: ``run.epoch`` and ``run.step`` are counts, ``run.history`` holds the losses,
    ``run.stop(reason)`` ends the run after the current step, ``run.log(name, value)`` writes a column of the history,
    and ``run.learning_rate = 0.001`` sets the rate of the next step; later rates keep that proportion to the schedule.
    """

    every_step: ClassVar[bool] = True
    """Whether `on_step_end` must be called after every step. False: it may be called once for several steps, which are
    faster together."""

    def on_fit_start(self, run: Run) -> None:
        """Before the first epoch."""

    def on_epoch_start(self, run: Run) -> None:
        """Before the first step of an epoch."""

    def on_step_end(self, run: Run) -> None:
        """After every step, or after several; called only if overridden. Reading device values slows training."""

    def on_epoch_end(self, run: Run) -> None:
        """After an epoch was evaluated and added to the history."""

    def on_fit_end(self, run: Run) -> None:
        """After the last epoch, also of an interrupted run."""


class MaxSteps(Callback):
    """Stops after a number of steps, also within an epoch.

    Parameters
    ----------
    n_steps
        Steps to take, >= 1.
    """

    def __init__(self, n_steps: int) -> None:
        self.n_steps = n_steps

    def on_step_end(self, run: Run) -> None:
        if run.step >= self.n_steps:
            run.stop("stopped by a callback")


def overrides(callback: Callback, event: str) -> bool:
    """Whether a callback overrides an event.

    >>> overrides(MaxSteps(3), "on_step_end"), overrides(MaxSteps(3), "on_epoch_end")
    (True, False)
    """
    return getattr(type(callback), event) is not getattr(Callback, event)
