"""Callbacks: what happens beside training. A callback overrides the events it cares about."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from isthmus.training.loop import Run


class Callback:
    """The base: every event does nothing.

    A run is handed to each event: ``run.epoch`` and ``run.step`` count what is done, ``run.history`` is the data,
    ``run.stop(reason)`` ends the run after the current step, ``run.log(name, value)`` writes a column of the history,
    and ``run.learning_rate = 0.001`` sets the rate of the next step; later rates keep that proportion to the schedule.
    """

    every_step: ClassVar[bool] = True
    """Whether `on_step_end` must be called after each single step; False: after some of them is enough, which lets a
    run take many at once."""

    def on_fit_start(self, run: Run) -> None:
        """Before the first epoch."""

    def on_epoch_start(self, run: Run) -> None:
        """Before the first step of an epoch."""

    def on_step_end(self, run: Run) -> None:
        """After every step, or some; called only where overridden. Asking for a value of the device slows training."""

    def on_epoch_end(self, run: Run) -> None:
        """After an epoch was measured and added to the history."""

    def on_fit_end(self, run: Run) -> None:
        """After the last epoch, whatever ended it."""


class MaxSteps(Callback):
    """Stops after so many steps, in the middle of an epoch if need be.

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
    """Whether a callback does anything at an event.

    >>> overrides(MaxSteps(3), "on_step_end"), overrides(MaxSteps(3), "on_epoch_end")
    (True, False)
    """
    return getattr(type(callback), event) is not getattr(Callback, event)
