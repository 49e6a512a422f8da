"""Progress of a run: a bar in a terminal or a notebook, a line every ten seconds in a log file."""

from __future__ import annotations

import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from isthmus.training.callbacks import Callback
from isthmus.training.loop import Run

SECONDS_BETWEEN_LOOKS = 0.5
SECONDS_BETWEEN_LINES = 10.0


class ProgressBar(Callback):
    """Shows epochs, loss, rows per second and remaining time on stderr.

    Without a terminal, it writes a plain line every ten seconds and one at the end.

    Parameters
    ----------
    console
        The output; None: stderr.
    """

    every_step = False

    def __init__(self, console: Console | None = None) -> None:
        self._console = console

    def on_fit_start(self, run: Run) -> None:
        shown = run.processes.rank == 0  # of several processes only one shows its progress
        self._out = (self._console or Console(stderr=True)) if shown else Console(quiet=True)
        self._began = self._looked = self._wrote = time.perf_counter()
        self._first_step = run.step
        self._bar: Progress | None = None
        if shown and (self._out.is_terminal or self._out.is_jupyter):
            self._bar = _make_bar(self._out)
            self._task: TaskID = self._bar.add_task("training", total=run.settings.max_epochs, text="")
            self._bar.start()

    def on_step_end(self, run: Run) -> None:
        now = time.perf_counter()
        if self._bar is not None and now - self._looked >= SECONDS_BETWEEN_LOOKS:
            self._looked = now
            self._show(run, f"loss {run.mean_loss():.4f}")

    def on_epoch_end(self, run: Run) -> None:
        if self._bar is not None:
            self._show(run, _losses(run))
        elif time.perf_counter() - self._wrote >= SECONDS_BETWEEN_LINES:
            self._wrote = time.perf_counter()
            self._line(run)

    def on_fit_end(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif len(run.history):
            self._line(run)

    def _show(self, run: Run, text: str) -> None:
        if self._bar is not None:
            done = run.step / run.train.n_batches
            self._bar.update(self._task, completed=round(done, 2), text=f"{text} · {self._rate(run):,.0f} rows/s")

    def _line(self, run: Run) -> None:
        text = f"epoch {run.epoch}/{run.settings.max_epochs} · {_losses(run)} · {self._rate(run):,.0f} rows/s"
        self._out.print(text, highlight=False, soft_wrap=True)

    def _rate(self, run: Run) -> float:
        rows_per_step = run.train.n_rows / run.train.n_batches
        return (run.step - self._first_step) * rows_per_step / max(time.perf_counter() - self._began, 1e-9)


def _make_bar(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}"),
        TimeRemainingColumn(),
        console=console,
    )


def _losses(run: Run) -> str:
    row = run.history.rows[-1]
    return " · ".join(f"{name.replace('_', ' ')} {row[name]:.4f}" for name in ("loss", "val_loss") if name in row)
