"""The HTML report of restored images: before, after and clean, side by side."""

from __future__ import annotations

import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isthmus import __version__
from isthmus.atomic import atomic
from isthmus.data.image_decoding import read_image
from isthmus.data.images import folder_files
from isthmus.diagnosis import psnr
from isthmus.exceptions import DataError
from isthmus.plots import plot_training_curves
from isthmus.plots.restorations import plot_restorations
from isthmus.report.report import Section, Table, Tile, picture_section, template, verdicts_section
from isthmus.tasks import RestoredFile, Restorer
from isthmus.tasks.restoration.diagnosing import Compared, diagnosis_of
from isthmus.tasks.restoration.pictures import full_scale
from isthmus.tasks.restoration.restorer_fit import STEPS_AN_EPOCH
from isthmus.wording import counted

SHOWN = 6
"""Images in a report."""
COLUMNS = ("before", "after", "clean")


def write_restoration_report(
    restorer: Restorer,
    files: Sequence[RestoredFile],
    path: str | Path,
    *,
    clean: str | Path | None = None,
    title: str = "Restored images",
    overwrite: bool = True,
) -> Path:
    """Write a self-contained HTML report of restored images.

    Parameters
    ----------
    restorer
        The restorer that made them.
    files
        What `restore_folder` gave; the first that were restored are shown.
    path, title, overwrite
        Output path, title of the page, and whether to replace an existing file.
    clean
        A folder with the clean images, by the same names, to show beside them; images that it lacks are shown without.
        Suffixes may differ.

    Raises
    ------
    OutputError
        The page cannot be written; no partial file is left.
    """
    restored, failed = [file for file in files if file.path], [file for file in files if file.error]
    partners = {} if clean is None else _partners(Path(clean))
    sections = [_section(file, partners) for file in restored[:SHOWN]]
    if failed:
        sections.append(Section("Not restored", table=Table(("file", "reason"), [[f.name, f.error] for f in failed])))
    shown = f", of which the first {SHOWN} are shown" if len(restored) > SHOWN else ""
    html = template().render(
        title=title,
        summary=f"{len(restored):,} restored images{shown}.",
        tiles=[*_tiles(restorer), Tile("files not restored", f"{len(failed):,}")],
        sections=sections,
        footer=_footer(),
    )
    with atomic(path, overwrite=overwrite) as temporary:
        temporary.write_text(html, encoding="utf-8", errors="backslashreplace")  # names of files need not be UTF-8
    return Path(path)


def restorer_page(restorer: Restorer, X: Any, path: Path, *, target: Any, title: str | None, overwrite: bool) -> Path:
    """Write what `write_report` writes of a restorer: figures, pictures before, after and clean, and the checks."""
    compared = restorer.compare(X, target=target)
    before, after = (compared.errors(images) for images in (compared.before, compared.after))
    shown, worst = range(min(SHOWN, len(after))), np.argsort(after)[::-1][:SHOWN].tolist()
    found = diagnosis_of(restorer, compared)
    html = template().render(
        title=title or f"Restorer · {restorer.n_channels_in_} → {restorer.n_channels_out_} channels",
        summary=f"Measured on {counted(len(after), 'image')}. Training: {restorer.stop_reason_}.",
        tiles=[
            Tile("PSNR of damaged images", f"{psnr(float(before.mean()), 1.0):.1f} dB"),
            Tile("PSNR of restored images", f"{psnr(float(after.mean()), 1.0):.1f} dB"),
            *_tiles(restorer)[:2],
        ],
        sections=[
            _compared("Before, after and clean", compared, shown),
            verdicts_section(found),
            *([_compared("Largest errors after restoration", compared, worst)] if set(worst) - set(shown) else []),
            *_training(restorer),
        ],
        footer=_footer(),
    )
    with atomic(path, overwrite=overwrite) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path


def _compared(title: str, compared: Compared, places: Sequence[int]) -> Section:
    """Images before, after and clean; two channels are shown as their first."""
    rows = [[compared.before[place], compared.after[place], compared.clean[place]] for place in places]
    before, after = (compared.errors(images) for images in (compared.before, compared.after))
    names = [
        f"{compared.names[place]} ({psnr(float(before[place]), 1.0):.1f} → {psnr(float(after[place]), 1.0):.1f} dB)"
        for place in places
    ]
    text = f"From the top: {', '.join(names)}. Large images are shown by the detail in their middle."
    return picture_section(title, plot_restorations(rows, columns=COLUMNS), text)


def _training(restorer: Restorer) -> Iterator[Section]:
    """The training curve, where there is more than one point of it."""
    if len(restorer.history_) > 1:
        curve = plot_training_curves(restorer.history_, log=True)
        text = f"Loss after each epoch of {STEPS_AN_EPOCH} steps, on random crops."
        yield picture_section("Training curve", curve, text, half=True)


def _footer() -> str:
    return f"isthmus {__version__}, torch {torch.__version__}, Python {platform.python_version()}."


def _partners(folder: Path) -> dict[Path, Path]:
    """The images of a folder by their path in it, with and without the suffix."""
    names = [(file, file.relative_to(folder)) for file in folder_files(folder)]
    return {name.with_suffix(""): file for file, name in names} | {name: file for file, name in names}


def _section(file: RestoredFile, partners: Mapping[Path, Path]) -> Section:
    assert file.path is not None
    images = [read_image(path)[0] for path in (file.damaged, file.path)]
    name = Path(file.name)
    partner = partners.get(name, partners.get(name.with_suffix("")))
    if partner is not None:
        with suppress(DataError):  # the restored image is shown without a clean one that cannot be read
            images.append(read_image(partner)[0])
    size = "×".join(map(str, images[0].shape[:2]))
    figure = plot_restorations([images], columns=COLUMNS[: len(images)])
    text = f"{size} pixels{_gain(images)}; large images are shown by the detail in their middle."
    return picture_section(file.name, figure, text)


def _gain(images: Sequence[np.ndarray]) -> str:
    """The PSNR before and after as a part of a sentence, where there is a clean image of the same kind."""
    kinds = {(image.shape, full_scale(image.dtype)) for image in images}
    ((_, white), *others) = kinds
    if others or len(images) < len(COLUMNS) or not white:
        return ""
    *shown, clean = (image / white for image in images)
    before, after = (psnr(float(np.square(image - clean).mean()), 1.0) for image in shown)
    return f", PSNR {before:.1f} → {after:.1f} dB"


def _tiles(restorer: Restorer) -> list[Tile]:
    damage: Any = "of pairs" if restorer.damage is None else restorer.damage
    return [
        Tile("damage", " ".join(str(damage).split())),
        Tile("steps of training", f"{restorer.max_steps:,}"),
    ]
