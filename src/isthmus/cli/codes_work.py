"""The work of the commands that use codes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

import isthmus
from isthmus.cli import show
from isthmus.cli.errors import WrongUsageError
from isthmus.cli.table_options import TextFlags
from isthmus.cli.terminal import echo

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
    shape = isthmus.plots.image_shape_of(tuple(model.feature_shape_))
    if shape is None:
        raise WrongUsageError(
            f"--out '{out}' is a picture, but rows of shape {tuple(model.feature_shape_)} are not images; use .csv, "
            ".parquet or .npy."
        )
    if len(rows) > MOST_PICTURED:
        raise WrongUsageError(
            f"--n {len(rows):,} images do not fit in a picture; use at most {MOST_PICTURED:,}, or --out with .csv."
        )
    _save(isthmus.plots.plot_rows(rows, image_shape=shape), out, overwrite=overwrite)


def _save(drawn: Any, out: Path, *, overwrite: bool) -> None:
    with isthmus.files.atomic(out, overwrite=overwrite) as temporary, temporary.open("wb") as stream:
        isthmus.plots.save(drawn, stream) if out.suffix == ".png" else drawn.savefig(stream, format=out.suffix[1:])


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
        _save(isthmus.plots.plot_code_map(found.points, labels, density=True), job.out, overwrite=job.force)
    else:
        isthmus.write_map(job.out, found, labels=labels, overwrite=job.force)
    show.note(f"{len(found.points):,} points ({found.method}): {job.out}")


# -- search ------------------------------------------------------------------------------------------------------------

MOST_EXAMPLES = 100


def write_index(
    data: str,
    out: Path,
    model_path: Path | None,
    metric: str,
    seed: int | None,
    *,
    overwrite: bool,
    skip_bad: bool,
    quiet: bool,
) -> None:
    """Build an index of rows with a given model, or one that is trained on them."""
    if metric not in ("euclidean", "cosine"):
        raise WrongUsageError(f"--metric '{metric}' must be euclidean or cosine.")
    isthmus.files.check_writable(out, overwrite=overwrite)
    rows = isthmus.read(data, skip_bad=skip_bad)
    if model_path is None:
        image = len(getattr(rows.X, "feature_shape", np.shape(rows.X)[1:])) > 1
        kind = isthmus.ConvolutionalAutoencoder if image else isthmus.Autoencoder
        model = kind(32, random_state=seed, verbose=0 if quiet else 1).fit(rows.X).set_params(verbose=0)
    else:
        model = show.load_autoencoder(model_path, "search build", "cpu")
    index = isthmus.SearchIndex(model, metric=metric)
    names = None
    if hasattr(rows.X, "files"):
        folder = Path(data)
        names = _told_apart([str(Path(file).relative_to(folder)) for file in rows.X.files])
    index.add(rows.X, names)
    isthmus.files.check_writable(out, overwrite=overwrite)
    index.save(out)
    show.note(f"{len(index):,} rows: {out}")


def _told_apart(names: list[str]) -> list[str]:
    """Names with a number behind those that occur again, such as pages of one file."""
    seen: dict[str, int] = {}
    found = []
    for name in names:
        seen[name] = seen.get(name, -1) + 1
        found.append(f"{name}#{seen[name]}" if seen[name] else name)
    return found


def _load_index(path: Path) -> Any:
    index = isthmus.load(path, device="cpu")
    if not isinstance(index, isthmus.SearchIndex):
        raise isthmus.ModelFileError(
            f"'{path}' contains a {type(index).__name__}, but `isthmus search query` needs an index, written by "
            "`isthmus search build`."
        )
    return index


def print_matches(
    path: Path, example: str, n: int, html: Path | None, *, overwrite: bool, resize: bool, as_json: bool
) -> None:
    """Print the nearest rows of each example, and write a page of them."""
    if html is not None:
        isthmus.files.check_writable(html, overwrite=overwrite)
    index = _load_index(path)
    X = _examples(example, tuple(index.model.feature_shape_), resize=resize)
    found = index.query(X, n)
    if html is not None:
        isthmus.write_search_report(found, html, title=f"Most like {example}", overwrite=overwrite)
    if as_json:
        pairs = zip(found.names.tolist(), found.distances.tolist(), strict=True)
        lists = [[{"name": a, "distance": b} for a, b in zip(*pair, strict=True)] for pair in pairs]
        echo(show.to_json(lists))
        return
    for number, (names, distances) in enumerate(zip(found.names, found.distances, strict=True)):
        heading = f"example {number}" if len(found.names) > 1 else example
        show.print_facts({heading: "distance", **{str(a): f"{b:.4g}" for a, b in zip(names, distances, strict=True)}})
    if html is not None:
        show.note(f"page: {html}")


def _examples(example: str, shape: tuple[int, ...], *, resize: bool) -> Any:
    path = Path(example)
    if path.suffix.lower() in isthmus.data.IMAGE_SUFFIXES and path.is_file():
        return _image(path, shape, resize=resize)[None]
    X = isthmus.read(example).X
    n_rows = getattr(X, "n_rows", None) or len(X)
    if n_rows > MOST_EXAMPLES:
        raise WrongUsageError(
            f"'{example}' has {n_rows:,} rows, but at most {MOST_EXAMPLES} can be examples; give fewer."
        )
    return X


def _image(path: Path, shape: tuple[int, ...], *, resize: bool) -> np.ndarray:
    """One image in the shape of the index's rows."""
    channels = shape[2] if len(shape) == 3 else 1
    if len(shape) not in (2, 3) or channels not in (1, 3, 4):
        raise WrongUsageError(f"'{path}' is an image, but the index has rows of shape {shape}; give rows.")
    try:
        with Image.open(path) as opened:
            mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
            upright = ImageOps.exif_transpose(opened).convert(mode)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise isthmus.DataError(f"'{path}' cannot be read as an image ({error}).") from None
    wanted = (shape[1], shape[0])
    if upright.size != wanted and not resize:
        raise isthmus.DataError(
            f"'{path}' has {upright.size[0]} × {upright.size[1]} pixels, but the images of the index have "
            f"{wanted[0]} × {wanted[1]}; use --resize, or an image of that size."
        )
    image = upright if upright.size == wanted else upright.resize(wanted, Image.Resampling.LANCZOS)
    return np.asarray(image, np.uint8).reshape(shape)


def print_duplicates(path: Path, share: float, *, as_json: bool) -> None:
    """Print groups of rows that are nearly alike, one a line."""
    groups = _load_index(path).near_duplicates(share)
    if as_json:
        echo(show.to_json(groups))
        return
    for group in groups:
        echo("  ".join(map(str, group)))
    show.note(f"{len(groups):,} groups of nearly equal rows")


# -- tuning ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TuneJob:
    """The arguments of ``isthmus tune``."""

    data: str
    out: Path
    budget: str
    trials: int | None
    page: Path | None
    folder: Path | None
    seed: int
    force: bool
    skip_bad: bool
    quiet: bool


def write_tuned(job: TuneJob) -> None:
    """Search, save the best model, and print and write what was found."""
    if job.out.suffix != ".safetensors":
        raise WrongUsageError(
            f"--out '{job.out}' has the suffix {job.out.suffix!r}; a model file needs the suffix .safetensors."
        )
    for path in (job.out, job.page):
        if path is not None:
            isthmus.files.check_writable(path, overwrite=job.force)
    rows = isthmus.read(job.data, skip_bad=job.skip_bad)
    try:
        budget: float | str = float(job.budget)
    except ValueError:
        budget = job.budget
    found = isthmus.choose(
        rows.X, budget, n_trials=job.trials, folder=job.folder, random_state=job.seed, verbose=not job.quiet
    )
    found.estimator.save(job.out)
    best = found.table.iloc[0]
    default = found.table[found.table["trial"] == "default"].iloc[0]
    show.print_facts(
        {
            "code size": str(found.code_size),
            "reason": found.reason,
            "trials": str(len(found.table)),
            "error of the default": f"{default['error']:.4g}",
            "error of the best": f"{best['error']:.4g}",
            "best settings": repr(found.estimator),
            "seconds": f"{found.seconds:.0f}",
            "saved": str(job.out),
        }
    )
    if job.page is not None:
        isthmus.write_choice_report(found, job.page, title=f"Search on {job.data}", overwrite=job.force)
        show.note(f"report: {job.page}")


# -- features ----------------------------------------------------------------------------------------------------------


def print_features(
    path: Path,
    data: str,
    labels: str | None,
    out: Path | None,
    seed: int,
    text: TextFlags,
    *,
    overwrite: bool,
    skip_bad: bool,
) -> None:
    """Compare features on test rows, or on a third of the rows where there are none."""
    if out is not None:
        isthmus.files.check_table_format(out)
        isthmus.files.check_writable(out, overwrite=overwrite)
    model = show.load_autoencoder(path, "features", "cpu")
    keep = () if labels is None else (labels,)
    rows = isthmus.read(data, skip_bad=skip_bad, keep=keep, **text.known())
    y = rows.y if labels is None else rows.kept[labels].to_numpy()
    if y is None:
        raise WrongUsageError(f"'{data}' has no labels; name their column with --labels.")
    parts = (rows.X, y, rows.X_test, rows.y_test)
    if rows.X_test is None:
        order = np.random.default_rng(seed).permutation(len(y))
        test, train = np.sort(order[: len(y) // 3]), np.sort(order[len(y) // 3 :])
        parts = (
            isthmus.diagnosis.take_rows(rows.X, train),
            y[train],
            isthmus.diagnosis.take_rows(rows.X, test),
            y[test],
        )
    n_labels = [number for number in (100, 1_000) if number >= len(np.unique(y))]
    found = isthmus.compare_features({path.stem: model}, *parts, n_labels=[*n_labels, None], random_state=seed)
    if out is not None:
        _write_frame(found, out, overwrite=overwrite)
        show.note(f"{len(found)} rows: {out}")
        return
    wide = found.pivot_table(index=["classifier", "n_labels"], columns="features", values="accuracy", sort=False)
    echo(wide.round(4).to_string())
