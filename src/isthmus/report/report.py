"""The HTML report of a model: settings, measures and plots."""

from __future__ import annotations

import base64
import io
import platform
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jinja2 import Environment
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from isthmus import __version__
from isthmus.atomic import atomic
from isthmus.data import Source
from isthmus.diagnosis import (
    FEWEST_ROWS,
    CodeStatistics,
    Diagnosis,
    Restoration,
    WorstRows,
    code_map,
    code_statistics,
    densities_of,
    diagnose,
    in_one_unit,
    pca_error,
    restoration,
    take_rows,
    worst_rows,
)
from isthmus.estimators import Autoencoder
from isthmus.estimators.kinds import require_autoencoder
from isthmus.estimators.targets import output_names, output_shape
from isthmus.plots import (
    plot_code_density,
    plot_code_map,
    plot_network,
    plot_reconstructions,
    plot_rows,
    plot_training_curves,
    plot_worst,
)
from isthmus.plots.style import figure_of, image_shape_of, save
from isthmus.tasks import Restorer
from isthmus.wording import counted

MAP_ROWS = 1_000
DOTS_PER_INCH = 144
SHOWN = 10
N_SAMPLES = 36


@dataclass(frozen=True)
class Tile:
    """A key figure of the report."""

    label: str
    value: str


@dataclass(frozen=True)
class Table:
    """A table of strings with a header."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A section of the page: a title with a plot, a table, or both."""

    title: str
    text: str = ""
    picture: str = ""
    width: int = 0
    table: Table | None = None
    half: bool = False


@dataclass(frozen=True)
class Evidence:
    """Results that are computed once and shown in several places."""

    model: Autoencoder
    X: Any
    labels: np.ndarray | None
    errors: np.ndarray
    pca: float
    codes: CodeStatistics
    worst: WorstRows
    diagnosis: Diagnosis | None = None
    restoration: Restoration | None = None
    target: Any = None

    def labels_of(self, index: np.ndarray) -> np.ndarray | None:
        """The labels of some rows."""
        return None if self.labels is None else self.labels[index]

    @property
    def conditions(self) -> np.ndarray | None:
        """The labels, if the model reads them."""
        return self.labels if self.model.conditional else None


def write_report(
    model: Any,
    X: Any,
    path: str | Path,
    *,
    labels: Any = None,
    target: Any = None,
    title: str | None = None,
    X_train: Any = None,
    overwrite: bool = True,
) -> Path:
    """Write a self-contained HTML report of a fitted autoencoder or restorer on rows X.

    A model with a corruption is evaluated on corrupted rows: they are restored and compared with the clean rows.

    Parameters
    ----------
    model
        A fitted `Autoencoder` of any kind, or a fitted `Restorer`, whose page has the images before, after and clean.
    X
        Rows to show and to evaluate on, preferably held-out rows.
    path
        Output path.
    labels
        A class or number for each row of X, which colours the map of the codes.
    target
        For a model that was fitted with a target: the targets of X. For a restorer: the clean images of X; without
        them X is clean, and is damaged as in training.
    title
        Title of the page.
    X_train
        Rows on which PCA is fitted for comparison; None: X itself, which favours PCA. Not for pairs and restorers.
    overwrite
        Whether to replace an existing file.

    Raises
    ------
    TypeError
        The model is neither an autoencoder nor a restorer.
    ValueError
        The number of labels differs from the number of rows; or a model that needs a target has none.
    OutputError
        The page cannot be written; no partial file is left.
    """
    if isinstance(model, Restorer):
        _refuse_without_effect(labels=labels, X_train=X_train)
        from isthmus.report.restorations import restorer_page  # noqa: PLC0415  # it is made of the parts of this module

        return restorer_page(model, X, Path(path), target=target, title=title, overwrite=overwrite)
    require_autoencoder(model, "write_report", compares=False)._take_pair(  # noqa: SLF001  # the common input check
        X, labels if model.conditional else None, target
    )
    if target is not None and X_train is not None:
        raise ValueError("X_train has no effect for pairs, which are not compared with PCA; leave it out.")
    labels = None if labels is None else _checked_labels(labels, X)
    evidence = _gather(model, X, labels, target, X_train)
    html = template().render(
        title=title or f"{type(model).__name__} · {model.feature_shape_} → {model.objective_.context.code_size}",
        summary=_summary(model, len(evidence.errors), evidence.restoration),
        tiles=_tiles(evidence),
        sections=list(_sections(evidence)),
        footer=_footer(model),
    )
    with atomic(path, overwrite=overwrite) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def _refuse_without_effect(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} has no effect on the report of a Restorer; leave it out.")


def _checked_labels(labels: Any, X: Any) -> np.ndarray:
    given = np.asarray(labels)
    n_rows = X.n_rows if isinstance(X, Source) else X.shape[0] if hasattr(X, "shape") else len(X)
    if given.shape != (n_rows,):
        raise ValueError(
            f"labels has shape {given.shape}, but X has {counted(n_rows, 'row')}; pass one label for each row."
        )
    return given


def _gather(model: Autoencoder, X: Any, labels: np.ndarray | None, target: Any, X_train: Any) -> Evidence:
    read, undone = (labels if model.conditional else None), None
    if in_one_unit(X, target) if target is not None else model.objective_.choices.corruption is not None:
        undone = restoration(model, X, SHOWN, y=read, target=target)
    errors = model.reconstruction_error(X, read, target=target) if undone is None else undone.error
    some = _spread(len(errors), 10_000)
    known = None if read is None else read[some]
    codes = model.transform(take_rows(X, some), known)
    worst = worst_rows(model, X, SHOWN, y=read, target=target) if undone is None else undone.worst
    train = None if model.conditional else X_train
    enough = len(errors) >= FEWEST_ROWS
    found = diagnose(model, X, y=read, target=target, X_train=train) if enough else None
    pca = float("nan") if target is not None else _pca_error(model, take_rows(X, some), known, X_train)
    statistics = code_statistics(np.asarray(codes))
    return Evidence(model, X, labels, errors, pca, statistics, worst, found, undone, target)


def _pca_error(model: Autoencoder, rows: Any, labels: Any, X_train: Any) -> float:
    """The error of PCA with as many components as code units, on the model's input; NaN for rows with missing cells."""
    known = rows if X_train is None else X_train
    if model.objective_.choices.loss.admits_missing and not np.isfinite(np.asarray(rows, dtype=float)).all():
        return float("nan")
    return pca_error(known, model.objective_.context.code_size, rows, given=_damaged(model, rows, labels))


def _spread(n_rows: int, n: int) -> np.ndarray:
    """At most n evenly spaced row indices."""
    return np.unique(np.linspace(0, n_rows - 1, min(n, n_rows)).astype(int))


def template() -> Any:
    """The page template; all text from users is escaped."""
    page = resources.files("isthmus.report").joinpath("page.html").read_text(encoding="utf-8")
    return Environment(autoescape=True).from_string(page)


def _undone(undone: Restoration) -> str:
    return f", damaged and restored: PSNR {undone.psnr_before:.1f} dB → {undone.psnr:.1f} dB"


def _summary(model: Autoencoder, n_rows: int, undone: Restoration | None) -> str:
    seconds = float(model.history_["seconds"].sum())
    parts = [
        f"{type(model).__name__} with {model.n_parameters_:,} parameters",
        f"{model.n_features_in_:,} features, {model.objective_.context.code_size} latent dimensions",
        f"{model.n_epochs_} epochs in {seconds:.1f}\N{NO-BREAK SPACE}s on {model.device_} ({model.stop_reason_})",
        *([f"trained by the {model.engine_.name} engine"] if hasattr(model, "engine_") else []),
        f"measured here on {n_rows:,} rows" + ("" if undone is None else _undone(undone)),
    ]
    return "; ".join(parts) + "."


def _tiles(evidence: Evidence) -> list[Tile]:
    model, error, undone = evidence.model, float(evidence.errors.mean()), evidence.restoration
    loss = -float(model.score_samples(evidence.X, evidence.conditions, target=evidence.target).mean())
    clean, damaged = ("", "") if undone is None else ("clean ", ", damaged rows restored")
    clean = clean if evidence.target is None else ""
    tiles = [
        Tile(f"loss per feature on these {clean}rows", f"{loss:.4f}"),
        Tile(f"mean squared error{damaged}", f"{error:.4g}"),
        Tile(f"root mean squared error{damaged}", f"{error**0.5:.4g}"),
        Tile("features : latent dimensions", f"{model.n_features_in_ / model.objective_.context.code_size:.1f} : 1"),
        Tile("constant code units", f"{len(evidence.codes.dead_units)}"),
        Tile("effective dimensions of the code", f"{evidence.codes.effective_dimension:.1f}"),
    ]
    if evidence.target is None:
        tiles.insert(3, Tile(f"mean squared error of PCA with as many components{damaged}", f"{evidence.pca:.4g}"))
    if "val_loss" in model.history_.columns:
        tiles.insert(1, Tile("validation loss at the end of training", f"{model.history_['val_loss'][-1]:.4f}"))
    if undone is not None:
        before_after = ("PSNR of damaged rows", undone.psnr_before), ("PSNR of restored rows", undone.psnr)
        tiles = [*(Tile(name, f"{value:.1f} dB") for name, value in before_after), *tiles]
    return tiles


def _sections(evidence: Evidence) -> Iterator[Section]:
    model = evidence.model
    index = _spread(len(evidence.errors), SHOWN)
    yield _examples(evidence, index)
    if len(model.history_):
        yield picture_section("Training curve", plot_training_curves(model), "Total loss after each epoch.", half=True)
    many = _spread(len(evidence.errors), 5_000)
    codes = model.transform(take_rows(evidence.X, many), evidence.labels_of(many))
    densities = densities_of({type(model).__name__: np.asarray(codes)})
    yield picture_section(
        "Density of the code", plot_code_density(densities), "Values of all code units over all rows.", half=True
    )
    if evidence.diagnosis is not None:
        yield verdicts_section(evidence.diagnosis)
    yield _map(evidence)
    yield _worst(evidence)
    if _generates_pictures(model):
        rows = np.asarray(model.sample(N_SAMPLES, random_state=0))
        shape = _image_shape(model) or image_shape_of(model.feature_shape_)
        drawn = plot_rows(rows, columns=12, image_shape=shape)
        yield picture_section("Samples", drawn, "Generated rows: codes that were drawn, decoded.")
    yield picture_section(
        "Network", plot_network(model), "One bar per layer; its height is proportional to the logarithm of the width."
    )
    yield Section("Layers", table=layer_table(model))
    yield Section(
        "Settings", "The settings in use; choices are shown as resolved for these data.", table=_settings(model)
    )


def _examples(evidence: Evidence, index: np.ndarray) -> Section:
    """Originals, or targets, above reconstructions; the input between them where it is comparable."""
    model = evidence.model
    taken, labels = take_rows(evidence.X, index), evidence.labels_of(index)
    title, text = "Originals above reconstructions", "Evenly spaced rows of the evaluated data."
    given = taken
    if evidence.target is not None:
        title, rows = "Targets above answers", np.asarray(take_rows(evidence.target, index))
        noisy = np.asarray(taken) if evidence.restoration is not None else None
    else:
        damaged = _damaged(model, taken, labels)
        given, noisy = (taken, None) if damaged is None else (damaged, np.asarray(damaged))
        rows = np.asarray(taken)
    restored = np.asarray(model.reconstruct(given, labels))
    text += "" if noisy is None else " The middle band is the model's input."
    drawn = plot_reconstructions(
        rows.reshape(restored.shape), restored, noisy=noisy, n=len(rows), image_shape=_image_shape(model)
    )
    return picture_section(title, drawn, text)


def _generates_pictures(model: Autoencoder) -> bool:
    """Whether a model was made to generate (it has a prior, or a mixture on its codes) and its rows are images."""
    shape = _image_shape(model) or image_shape_of(model.feature_shape_)
    made_to = hasattr(model, "log_likelihood") or hasattr(model, "code_mixture_")
    return made_to and shape is not None and not model.objective_.context.n_conditions


def _damaged(model: Autoencoder, rows: Any, labels: Any) -> Any:
    """The rows after the model's corruption, or None if it has none."""
    return None if model.objective_.choices.corruption is None else model.corrupt(rows, labels, random_state=0)


def verdicts_section(diagnosis: Diagnosis) -> Section:
    """The results of all checks."""
    rows = [
        [finding.verdict, finding.name, " ".join(filter(None, (finding.text, finding.remedy)))]
        for finding in diagnosis.by_weight()
    ]
    return Section("Diagnosis", str(diagnosis).splitlines()[0], table=Table(("", "check", "result"), rows))


def _map(evidence: Evidence) -> Section:
    index = _spread(len(evidence.errors), MAP_ROWS)
    labels = evidence.labels_of(index)
    Z = np.asarray(evidence.model.transform(take_rows(evidence.X, index), labels))
    plane = code_map(Z)
    one = np.asarray(plane[:, :1] if Z.shape[1] == 1 else plane)
    hows = {1: "The one latent dimension.", 2: "The two latent dimensions."}
    how = hows.get(Z.shape[1], f"All {Z.shape[1]} latent dimensions, projected to a plane that keeps neighbours close.")
    return picture_section("Map of the codes", plot_code_map(one, labels), f"{how} {len(index):,} rows.")


def _worst(evidence: Evidence) -> Section:
    worst = evidence.worst
    title, text = "Worst reconstructions", "The rows with the largest squared error."
    if evidence.restoration is not None and evidence.target is None:
        text += " Each row was corrupted, restored, and compared with the clean row."
    width = int(np.prod(worst.X.shape[1:]))
    shape = _image_shape(evidence.model) or image_shape_of(worst.X.shape[1:])
    if shape is not None or width > 40:
        return picture_section(title, plot_worst(worst, image_shape=shape), text)
    names = np.asarray(output_names(evidence.model) or np.arange(width))
    rows = [_worst_columns(worst, place, names) for place in range(len(worst.index))]
    return Section(
        title, text, table=Table(("row", "error", "columns with the largest errors: input → restored"), rows)
    )


def _image_shape(model: Autoencoder) -> tuple[int, ...] | None:
    """The image shape of a flat row, if the network has one."""
    shape = getattr(model.objective_.choices.network, "image_shape", None)
    if shape is not None and int(np.prod(shape)) != int(np.prod(output_shape(model))):
        return None  # of the input alone
    return None if shape is None else tuple(shape)


def _worst_columns(worst: WorstRows, place: int, names: np.ndarray) -> list[str]:
    clean, restored = worst.X[place].ravel(), worst.X_hat[place].ravel()
    columns = np.argsort(np.square(clean.astype(float) - restored))[::-1][:3]
    seen = clean if worst.damaged is None else worst.damaged[place].ravel()
    told = [
        f"{names[column]}: {seen[column]:.4g} → {restored[column]:.4g}"
        + ("" if worst.damaged is None else f", clean {clean[column]:.4g}")
        for column in columns
    ]
    return [str(worst.index[place]), f"{worst.error[place]:.4g}", "; ".join(told)]


def layer_table(model: Autoencoder) -> Table:
    """The layers of a model with shapes and numbers of parameters, as strings."""
    rows = [
        [
            layer.part,
            layer.kind,
            " × ".join(map(str, layer.output_shape)),
            layer.activation or "–",
            f"{layer.n_parameters:,}",
        ]
        for layer in model.layers()
    ]
    total = ["", "", "", "total", f"{model.n_parameters_:,}"]
    return Table(("part", "layer", "output", "activation", "parameters"), [*rows, total])


def _settings(model: Autoencoder) -> Table:
    return Table(("setting", "value"), [[name, _plain(value)] for name, value in model.describe().items()])


def _plain(value: Any) -> str:
    if isinstance(value, dict) and "class" in value:
        inside = ", ".join(f"{name}={_plain(part)}" for name, part in value["params"].items())
        return f"{value['class']}({inside})"
    if isinstance(value, dict) and "tuple" in value:
        return f"({', '.join(_plain(part) for part in value['tuple'])})"
    return value if isinstance(value, str) else repr(value)


def _footer(model: Autoencoder) -> str:
    seed = model.random_state if isinstance(model.random_state, int) else "not set"
    return f"isthmus {__version__}, torch {torch.__version__}, Python {platform.python_version()}; seed {seed}."


def picture_section(title: str, drawn: Figure | Axes, text: str, *, half: bool = False) -> Section:
    """A section with a plot, which is embedded in the page."""
    figure = figure_of(drawn)
    buffer = io.BytesIO()
    save(figure, buffer, dots_per_inch=DOTS_PER_INCH)
    picture = base64.b64encode(buffer.getvalue()).decode()
    return Section(title, text, picture, round(float(figure.get_size_inches()[0]) * 96), half=half)
