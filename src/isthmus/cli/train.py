"""``isthmus fit``: check what can be checked, train, save, tell."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

import isthmus
from isthmus.cli import show


@dataclass(frozen=True)
class Job:
    """All that was asked for."""

    data: str
    model: Any
    out: Path
    validation: str | None
    report: bool
    checkpoint: Path | None
    resume: Path | None
    force: bool
    skip_bad: bool
    quiet: bool

    @property
    def page(self) -> Path:
        """Where the report goes."""
        return self.out.with_suffix(".html")


def train(job: Job) -> None:
    """Train and save; nothing is trained for an output that cannot be written."""
    for path in (job.out, *([job.page] if job.report else [])):
        isthmus.files.check_writable(path, overwrite=job.force)
    data = isthmus.read(job.data, skip_bad=job.skip_bad)
    model = job.model.set_params(verbose=0 if job.quiet else 1)
    if job.checkpoint is not None:
        model.set_params(callbacks=(isthmus.Checkpoint(job.checkpoint),))
    held_out = data.X_test if job.validation is None else _validation(model, job)
    model.fit(data.X, X_val=held_out, resume=job.resume)
    model.save(job.out)
    show.print_fit(model, job.out)
    if job.report:
        measured, labels = (data.X, data.y) if data.X_test is None else (data.X_test, data.y_test)
        isthmus.write_report(model, measured, job.page, labels=labels, X_train=data.X, overwrite=job.force)
        show.note(f"report: {job.page}")
    if model.stop_reason_ == "interrupted":
        raise typer.Exit(1)


def _validation(model: Any, job: Job) -> Any:
    """Rows to measure on; a share is left to the estimator."""
    try:
        share = float(str(job.validation))
    except ValueError:
        return isthmus.read(str(job.validation), skip_bad=job.skip_bad).X
    model.set_params(validation_fraction=share)
    return None
