"""``isthmus fit``: check the outputs, train, save, and print a summary."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import isthmus
from isthmus.cli import show
from isthmus.cli.errors import WrongUsageError, noting, refuse
from isthmus.cli.table_options import TextFlags


@dataclass(frozen=True)
class Job:
    """The arguments of the command; `page` is the path of the report, or None."""

    data: str
    model: Any
    out: Path
    validation: str | None
    page: Path | None
    checkpoint: Path | None
    resume: Path | None
    force: bool
    skip_bad: bool
    quiet: bool
    keep: tuple[str, ...] = ()
    text: TextFlags = TextFlags()
    target: str | None = None

    def read(self, data: str) -> Any:
        """Read data with the options of the command."""
        return isthmus.read(data, skip_bad=self.skip_bad, keep=self.keep, **self.text.known())


def train(job: Job) -> None:
    """Train and save, after checking that all outputs can be written; of several processes the first one does."""
    writes = isthmus.is_main_process()
    if writes:
        check_files(job)
    else:
        warnings.simplefilter("ignore")  # the first process gives the same ones
    data = job.read(job.data)
    model = job.model.set_params(
        verbose=0 if job.quiet else 1,
        callbacks=() if job.checkpoint is None else (isthmus.Checkpoint(job.checkpoint),),
    )
    if job.target is None:
        held_out, labels = _held_out(job, data)
        model.fit(data.X, data.y, X_val=held_out, y_val=labels, resume=job.resume)
    else:
        _fit_pairs(job, model, data)
    if writes:
        _save(job, model, data)
    show.exit_if_interrupted(model)


def _fit_pairs(job: Job, model: Any, data: Any) -> None:
    """Fit with --target; a share of the pairs may be held out, but no other data, which would need targets too."""
    if job.validation is not None:
        try:
            model.set_params(validation_fraction=float(job.validation))
        except ValueError:
            raise WrongUsageError(
                f"--validation '{job.validation}' has no targets, but pairs are validated on pairs; pass a share, such "
                "as --validation 0.1."
            ) from None
    wanted = read_target(data, job.data, str(job.target), job.read)
    model.fit(data.X, data.y if model.conditional else None, target=wanted, resume=job.resume)


def read_target(data: Any, named: str, target: str, read: Callable[[str], Any]) -> Any:
    """The targets of rows; images of two folders must have the same names, because rows are paired by position."""
    wanted = read(target).X
    files = [getattr(rows, "files", ()) for rows in (data.X, wanted)]
    if not all(files):  # only images of folders have names
        return wanted
    names = [
        [Path(file).relative_to(folder).with_suffix("").as_posix() for file in part]
        for part, folder in zip(files, (named, target), strict=True)
    ]
    for one, other in zip_longest(*names):
        if one != other:
            raise isthmus.DataError(
                f"'{named}' has {len(names[0])} images and --target '{target}' {len(names[1])}; their names differ: "
                f"{_told(one)} in the first has {_told(other)} in its place in the second. Pairs need the same file "
                "names in both folders."
            )
    return wanted


def _told(name: str | None) -> str:
    return "nothing" if name is None else f"'{name}'"


def _save(job: Job, model: Any, data: Any) -> None:
    """Write the model and its report, and print a summary."""
    model.set_params(verbose=0, callbacks=()).save(job.out)  # the loaded model must not print
    show.print_facts({**show.fit_facts(model), "saved": str(job.out)})
    if job.page is not None:
        _report(job, job.page, model, data)


def check_files(job: Job) -> None:
    """Raise one error that lists all outputs and checkpoints that cannot be used."""
    if job.out.suffix != ".safetensors":
        raise WrongUsageError(
            f"--out '{job.out}' has the suffix {job.out.suffix!r}; a model file needs the suffix .safetensors."
        )
    new = [path for path in (job.out, job.page, job.checkpoint) if path is not None]
    if len({path.absolute() for path in new}) < len(new):
        raise WrongUsageError(f"Two outputs have the same path: {', '.join(map(str, new))}; use different paths.")
    mistakes: list[str] = []
    for path in new:
        with noting(mistakes):
            isthmus.files.check_writable(path, overwrite=job.force or path == job.resume)
    if job.resume is not None and not job.resume.is_file():
        mistakes.append(f"There is no checkpoint at '{job.resume}'; check the path, or write one with --checkpoint.")
    refuse(mistakes, isthmus.OutputError)


def _held_out(job: Job, data: Any) -> tuple[Any, Any]:
    """Validation rows and labels: those given, else the data set's test rows, unless they would influence training."""
    model = job.model
    if job.validation is None:
        steered = model.early_stopping or model.validation_fraction is not None
        return (None, None) if steered else (data.X_test, data.y_test)
    try:
        model.set_params(validation_fraction=float(job.validation))
    except ValueError:
        named = job.read(job.validation)
        return named.X, named.y
    return None, None


def _report(job: Job, page: Path, model: Any, data: Any) -> None:
    if job.target is not None:
        wanted = read_target(data, job.data, job.target, job.read)
        isthmus.write_report(model, data.X, page, labels=data.y, target=wanted, overwrite=job.force)
        show.note(f"report: {page}")
        return
    measured, labels = (data.X, data.y) if data.X_test is None else (data.X_test, data.y_test)
    isthmus.write_report(model, measured, page, labels=labels, X_train=data.X, overwrite=job.force)
    show.note(f"report: {page}")
