"""The work of the commands that use codes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import isthmus
from isthmus.atomic import atomic
from isthmus.cli import show
from isthmus.cli.errors import WrongUsageError
from isthmus.cli.table_options import TextFlags
from isthmus.plots import plot_code_map, plot_rows, save
from isthmus.plots.style import image_shape_of

PICTURES = (".png", ".svg", ".pdf")
MOST_PICTURED = 2_500


def write_samples(path: Path, out: Path, n: int, label: str | None, seed: int | None, *, overwrite: bool) -> None:
    """Draw rows, and write them as a grid of images or as a table."""
    if out.suffix not in PICTURES:
        isthmus.files.check_format(out)
    isthmus.files.check_writable(out, overwrite=overwrite)
    model = isthmus.load(path, device="cpu")
    if isinstance(model, isthmus.TableSampler):
        _write_table_rows(model, out, n, label, seed, overwrite=overwrite)
        return
    model = show.load_autoencoder(path, "sample", "cpu")
    rows = model.sample(n, _label_of(model, label), random_state=seed)
    if out.suffix in PICTURES:
        _write_grid(model, np.asarray(rows), out, overwrite=overwrite)
    elif hasattr(rows, "columns") and out.suffix != ".npy":
        _write_frame(rows, out, overwrite=overwrite)
    else:
        isthmus.write_rows(out, iter([np.asarray(rows)]), overwrite=overwrite)
    show.note(f"{n:,} rows: {out}")


def _label_of(model: Any, label: str | None) -> Any:
    """The label that was written, in the type of the model's labels."""
    if label is None:
        return None
    mixture = getattr(model, "code_mixture_", None)
    known = getattr(model, "classes_", None if mixture is None else mixture.classes)
    named = {} if known is None else {str(each): each for each in known.tolist()}
    return named.get(label, label)


def _write_grid(model: Any, rows: np.ndarray, out: Path, *, overwrite: bool) -> None:
    shape = image_shape_of(tuple(model.feature_shape_))
    if shape is None:
        raise WrongUsageError(
            f"--out '{out}' is a picture, but rows of shape {tuple(model.feature_shape_)} are no images; use .csv, "
            ".parquet or .npy."
        )
    if len(rows) > MOST_PICTURED:
        raise WrongUsageError(f"--n {len(rows):,} images do not fit in a picture; at most {MOST_PICTURED:,} do.")
    _save(plot_rows(rows, image_shape=shape), out, overwrite=overwrite)


def _save(drawn: Any, out: Path, *, overwrite: bool) -> None:
    with atomic(out, overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        save(drawn, stream) if out.suffix == ".png" else drawn.savefig(stream, format=out.suffix[1:])


def _write_frame(frame: Any, out: Path, *, overwrite: bool) -> None:
    import pyarrow as pa  # noqa: PLC0415  # slow to import; needed only here

    isthmus.files.write_tables(out, iter([pa.Table.from_pandas(frame, preserve_index=False)]), overwrite=overwrite)


def _write_table_rows(model: Any, out: Path, n: int, label: str | None, seed: int | None, *, overwrite: bool) -> None:
    if label is not None:
        raise WrongUsageError("--label needs an autoencoder with labels; a TableSampler takes sample(n, given={…}).")
    isthmus.files.check_table_format(out)
    rows = model.sample(n, random_state=seed)
    frame = rows if hasattr(rows, "columns") and hasattr(rows, "iloc") else _as_pandas(rows, model)
    _write_frame(frame, out, overwrite=overwrite)
    show.note(f"{n:,} rows: {out}")


def _as_pandas(rows: Any, model: Any) -> Any:
    if hasattr(rows, "to_pandas"):
        return rows.to_pandas()
    import pandas as pd  # noqa: PLC0415  # slow to import; needed only here

    return pd.DataFrame(rows, columns=None if isinstance(rows, dict) else model.schema_.names)


# -- maps --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MapJob:
    """The arguments of ``isthmus map``."""

    model: Path
    data: str
    out: Path
    labels: str | None
    method: str
    seed: int
    force: bool
    skip_bad: bool
    text: TextFlags


def write_code_map(job: MapJob) -> None:
    """Map rows, and write a page, a picture or the points."""
    if job.out.suffix not in (".html", *PICTURES, ".parquet", ".csv"):
        raise WrongUsageError(
            f"--out '{job.out}' has the suffix {job.out.suffix!r}; use .html, {', '.join(PICTURES)}, .parquet or .csv."
        )
    isthmus.files.check_writable(job.out, overwrite=job.force)
    model = show.load_autoencoder(job.model, "map", "cpu")
    keep = () if job.labels is None else (job.labels,)
    rows = isthmus.read(job.data, skip_bad=job.skip_bad, keep=keep, **job.text.known())
    labels = rows.y if job.labels is None else np.asarray(rows.kept[job.labels], dtype=object)
    found = isthmus.map_codes(model, rows.X, job.method, y=rows.y if model.conditional else None, random_state=job.seed)
    if job.out.suffix == ".html":
        isthmus.write_map_report(found, rows.X, job.out, labels=labels, title=str(rows.name), overwrite=job.force)
    elif job.out.suffix in PICTURES:
        _save(plot_code_map(found.points, labels, density=True), job.out, overwrite=job.force)
    else:
        isthmus.write_map(job.out, found, labels=labels, overwrite=job.force)
    show.note(f"{len(found.points):,} points ({found.method}): {job.out}")
