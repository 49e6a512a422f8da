"""The work of ``isthmus restore``: fit a restorer; restore a folder file by file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

import isthmus
from isthmus.cli import show
from isthmus.cli.errors import FAILURE, WrongUsageError, noting, refuse
from isthmus.cli.settings import parse_assignments
from isthmus.cli.terminal import echo


@dataclass(frozen=True)
class Lesson:
    """The arguments of `restore fit`."""

    folder: Path | None
    pairs: tuple[Path, Path] | None
    damage: str | None
    out: Path
    settings: dict[str, Any]
    assignments: list[str]
    force: bool
    quiet: bool


def learn(lesson: Lesson) -> None:
    """Fit and save, after checking that the output can be written."""
    restorer = _make(lesson).set_params(verbose=0 if lesson.quiet else 1)
    if lesson.pairs is not None:
        restorer.fit(lesson.pairs[0], target=lesson.pairs[1])
    else:
        restorer.fit(lesson.folder)
    restorer.set_params(verbose=0).save(lesson.out)  # the loaded restorer must not print
    facts = {
        "images": f"{restorer.n_images_:,}",
        "channels": f"{restorer.n_channels_in_} → {restorer.n_channels_out_}",
        **({"enlargement": f"{restorer.scale_}×"} if restorer.scale_ > 1 else {}),
        "crops": f"{restorer.side_}×{restorer.side_} pixels",
        "training loss": f"{restorer.history_['loss'][-1]:.6g}" if len(restorer.history_) else "none",
        "saved": str(lesson.out),
    }
    show.print_facts(facts)
    show.exit_if_interrupted(restorer)


def _make(lesson: Lesson) -> Any:
    """Build the restorer; one error lists all invalid arguments."""
    mistakes: list[str] = []
    restorer = isthmus.Restorer()
    with noting(mistakes):
        _check_sources(lesson)
    with noting(mistakes):
        _check_model_file(lesson.out, overwrite=lesson.force)
    flags = {name: value for name, value in lesson.settings.items() if value is not None}
    with noting(mistakes):
        flags = parse_assignments(lesson.assignments) | flags
    flags |= {} if lesson.damage is None else {"damage": lesson.damage}
    for name, value in flags.items():
        with noting(mistakes):
            restorer.set_params(**{name: value})
    refuse(mistakes)
    return restorer


def _check_sources(lesson: Lesson) -> None:
    if (lesson.folder is None) == (lesson.pairs is None):
        raise WrongUsageError("Exactly one of FOLDER and --pairs DAMAGED CLEAN is needed; pass one of them.")
    if lesson.folder is not None and lesson.damage is None:
        raise WrongUsageError(
            "FOLDER needs --damage: the damage to learn to undo, such as noise:0.1-0.5, or unknown for noisy images."
        )


def _check_model_file(path: Path, *, overwrite: bool) -> None:
    if path.suffix != ".safetensors":
        raise WrongUsageError(
            f"--out '{path}' has the suffix {path.suffix!r}; a restorer file needs the suffix .safetensors."
        )
    isthmus.files.check_writable(path, overwrite=overwrite)


# -- restoring ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Errand:
    """The arguments of `restore run`."""

    restorer: Path
    folder: Path
    out: Path
    report: Path | None
    clean: Path | None
    self_ensemble: bool
    device: str
    force: bool


def work(errand: Errand) -> None:
    """Restore all files; list those that failed at the end, and exit with 1 if there are any."""
    restorer = isthmus.load(errand.restorer, device=errand.device)
    if not isinstance(restorer, isthmus.Restorer):
        raise isthmus.ModelFileError(
            f"'{errand.restorer}' contains a model of the kind {type(restorer).__name__}, but `isthmus restore run` "
            "needs a restorer, written by `isthmus restore fit`."
        )
    if errand.self_ensemble:
        restorer.set_params(self_ensemble=True)  # without the flag, the setting of fit stands
    _check_report(errand)
    done = list[Any]()
    with show.progress("restoring") as move:
        for file in isthmus.restore_folder(restorer, errand.folder, errand.out, overwrite=errand.force):
            done.append(file)
            move(len(done), file.n_files)
    if errand.report is not None:
        title = f"Images of {errand.folder.resolve().name}"
        isthmus.write_restoration_report(
            restorer, done, errand.report, clean=errand.clean, title=title, overwrite=errand.force
        )
    failed = [file for file in done if file.error]
    show.note(f"{len(done) - len(failed):,} of {len(done):,} images restored to '{errand.out}'")
    for file in failed:
        echo(f"not restored: {file.error}", err=True)
    if failed:
        raise typer.Exit(FAILURE)


def _check_report(errand: Errand) -> None:
    """Raise an error before the work if the report cannot be written after it."""
    if errand.report is not None:
        isthmus.files.check_writable(errand.report, overwrite=errand.force)
    if errand.clean is None:
        return
    if errand.report is None:
        raise WrongUsageError("--clean shows clean images in the report; give --report FILE too.")
    if not errand.clean.is_dir():
        raise isthmus.DataError(f"--clean: there is no folder '{errand.clean}'; check the path.")
