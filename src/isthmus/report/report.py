"""One page of one run: what was trained, how well it does, and pictures of both."""

from __future__ import annotations

import base64
import io
import json
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
from isthmus.diagnosis import (
    FEWEST_ROWS,
    CodeStatistics,
    Diagnosis,
    WorstRows,
    code_map,
    code_statistics,
    densities_of,
    diagnose,
    pca_error,
    take_rows,
    worst_rows,
)
from isthmus.estimators import Autoencoder
from isthmus.estimators.kinds import require_autoencoder
from isthmus.plots import (
    plot_code_density,
    plot_code_map,
    plot_network,
    plot_reconstructions,
    plot_training_curves,
    plot_worst,
)
from isthmus.plots.style import figure_of, image_shape_of, save

MAP_ROWS = 2_000
DOTS_PER_INCH = 144
SHOWN = 10


@dataclass(frozen=True)
class Tile:
    """A key figure."""

    label: str
    value: str


@dataclass(frozen=True)
class Table:
    """Rows of text under a head."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section:
    """A part of the page: a title with a picture, a table, or both."""

    title: str
    text: str = ""
    picture: str = ""
    width: int = 0
    table: Table | None = None
    half: bool = False


@dataclass(frozen=True)
class Evidence:
    """What is computed once and then shown."""

    model: Autoencoder
    X: Any
    labels: np.ndarray | None
    errors: np.ndarray
    pca: float
    codes: CodeStatistics
    worst: WorstRows
    diagnosis: Diagnosis | None = None

    def labels_of(self, index: np.ndarray) -> np.ndarray | None:
        """The labels of some rows."""
        return None if self.labels is None else self.labels[index]


def write_report(
    model: Autoencoder,
    X: Any,
    path: str | Path,
    *,
    labels: Any = None,
    title: str | None = None,
    X_train: Any = None,
    overwrite: bool = True,
) -> Path:
    """Write one self-contained HTML page of a fitted model and what it does with rows X.

    Parameters
    ----------
    model
        A fitted estimator.
    X
        Rows to show and to measure on; best rows that it was not trained on.
    path
        Where the page goes.
    labels
        A class or number for each row of X, to colour the map of the codes.
    title
        Headline of the page.
    X_train
        Rows that principal component analysis is fitted on for comparison; None: X itself, which favours it.
    overwrite
        Replace a page that is there.

    Raises
    ------
    TypeError
        The model is no autoencoder.
    OutputError
        The page cannot be written; nothing is left behind.
    """
    require_autoencoder(model, "write_report")
    labels = None if labels is None else np.asarray(labels)
    evidence = _gather(model, X, labels, X_train)
    html = template().render(
        title=title or f"{type(model).__name__} · {model.feature_shape_} → {model.objective_.context.code_size}",
        summary=_summary(model, len(evidence.errors)),
        tiles=_tiles(evidence),
        sections=list(_sections(evidence)),
        footer=_footer(model),
    )
    with atomic(path, overwrite=overwrite) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return Path(path)


def _gather(model: Autoencoder, X: Any, labels: np.ndarray | None, X_train: Any) -> Evidence:
    errors = model.reconstruction_error(X, labels)
    size = model.objective_.context.code_size
    pca = pca_error(X, size) if X_train is None else pca_error(X_train, size, X)
    some = _spread(len(errors), 10_000)
    codes = model.transform(take_rows(X, some), None if labels is None else labels[some])
    worst = worst_rows(model, X, SHOWN, y=labels)
    known = None if model.conditional else X_train
    found = diagnose(model, X, y=labels, X_train=known) if len(errors) >= FEWEST_ROWS else None
    return Evidence(model, X, labels, errors, pca, code_statistics(np.asarray(codes)), worst, found)


def _spread(n_rows: int, n: int) -> np.ndarray:
    """At most n row numbers, evenly spread."""
    return np.unique(np.linspace(0, n_rows - 1, min(n, n_rows)).astype(int))


def template() -> Any:
    """The page, to be filled in; everything that a user gave is escaped."""
    page = resources.files("isthmus.report").joinpath("page.html").read_text(encoding="utf-8")
    return Environment(autoescape=True).from_string(page)


def _summary(model: Autoencoder, n_rows: int) -> str:
    seconds = float(model.history_["seconds"].sum())
    parts = [
        f"{type(model).__name__} with {model.n_parameters_:,} parameters",
        f"{model.n_features_in_:,} numbers a row in, {model.objective_.context.code_size} in the code",
        f"{model.n_epochs_} epochs in {seconds:.1f} s on {model.device_} ({model.stop_reason_})",
        f"measured here on {n_rows:,} rows",
    ]
    return "; ".join(parts) + "."


def _tiles(evidence: Evidence) -> list[Tile]:
    model, error = evidence.model, float(evidence.errors.mean())
    tiles = [
        Tile("loss per feature on these rows", f"{-model.score(evidence.X, evidence.labels):.4f}"),
        Tile("mean squared error", f"{error:.4g}"),
        Tile("its root", f"{error**0.5:.4g}"),
        Tile(f"of PCA with the same {model.objective_.context.code_size} numbers", f"{evidence.pca:.4g}"),
        Tile(
            "numbers in : numbers in the code", f"{model.n_features_in_ / model.objective_.context.code_size:.1f} : 1"
        ),
        Tile("code units that never change", f"{len(evidence.codes.dead_units)}"),
        Tile("effective dimensions of the code", f"{evidence.codes.effective_dimension:.1f}"),
    ]
    if "val_loss" in model.history_.columns:
        tiles.insert(1, Tile("validation loss at the end of training", f"{model.history_['val_loss'][-1]:.4f}"))
    return tiles


def _sections(evidence: Evidence) -> Iterator[Section]:
    model = evidence.model
    index = _spread(len(evidence.errors), SHOWN)
    taken, labels = take_rows(evidence.X, index), evidence.labels_of(index)
    damaged = _damaged(model, taken, labels)
    restored = np.asarray(model.reconstruct(taken if damaged is None else damaged, labels))
    rows, given = np.asarray(taken), None if damaged is None else np.asarray(damaged)
    yield picture_section(
        "Originals over reconstructions",
        plot_reconstructions(rows, restored, noisy=given, n=len(rows)),
        "Evenly spread over the rows measured."
        + (" The middle row is what the model was given." if given is not None else ""),
    )
    if len(model.history_):
        yield picture_section(
            "Training curve", plot_training_curves(model), "The total loss after each epoch.", half=True
        )
    many = _spread(len(evidence.errors), 5_000)
    codes = model.transform(take_rows(evidence.X, many), evidence.labels_of(many))
    densities = densities_of({type(model).__name__: np.asarray(codes)})
    yield picture_section("Density of the code", plot_code_density(densities), "All numbers of all codes.", half=True)
    if evidence.diagnosis is not None:
        yield _verdicts(evidence.diagnosis)
    yield _map(evidence)
    yield _worst(evidence)
    yield picture_section("Network", plot_network(model), "One bar a layer, as high as the logarithm of its width.")
    yield Section("Layers", table=layer_table(model))
    yield Section(
        "Settings", "What was in force; choices as they were resolved for these data.", table=_settings(model)
    )


def _damaged(model: Autoencoder, rows: Any, labels: Any) -> Any:
    """The rows after the model's own corruption, or None where it has none."""
    return None if model.objective_.choices.corruption is None else model.corrupt(rows, labels, random_state=0)


def _verdicts(diagnosis: Diagnosis) -> Section:
    rows = [
        ["fault" if finding.found else "ok", finding.name, " ".join(filter(None, (finding.text, finding.remedy)))]
        for finding in sorted(diagnosis.findings, key=lambda finding: not finding.found)
    ]
    return Section("Diagnosis", str(diagnosis).splitlines()[0], table=Table(("", "fault", "what was seen"), rows))


def _map(evidence: Evidence) -> Section:
    index = _spread(len(evidence.errors), MAP_ROWS)
    labels = evidence.labels_of(index)
    Z = np.asarray(evidence.model.transform(take_rows(evidence.X, index), labels))
    plane = code_map(Z)
    how = "The two numbers of the code." if Z.shape[1] == 2 else "Neighbours in the code are neighbours here."
    return picture_section("Map of the codes", plot_code_map(plane, labels), f"{how} {len(index):,} rows.")


def _worst(evidence: Evidence) -> Section:
    worst = evidence.worst
    title, text = "Worst reconstructions", "The rows with the largest squared error."
    if image_shape_of(evidence.model.feature_shape_) is not None or evidence.model.n_features_in_ > 40:
        return picture_section(title, plot_worst(worst), text)
    names = getattr(evidence.model, "feature_names_in_", np.arange(evidence.model.n_features_in_))
    rows = [_worst_columns(worst, place, names) for place in range(len(worst.index))]
    return Section(
        title, text, table=Table(("row", "error", "the columns that are furthest off: seen → restored"), rows)
    )


def _worst_columns(worst: WorstRows, place: int, names: np.ndarray) -> list[str]:
    seen, restored = worst.X[place].ravel(), worst.X_hat[place].ravel()
    columns = np.argsort(np.square(seen.astype(float) - restored))[::-1][:3]
    told = [f"{names[column]}: {seen[column]:.4g} → {restored[column]:.4g}" for column in columns]
    return [str(worst.index[place]), f"{worst.error[place]:.4g}", "; ".join(told)]


def layer_table(model: Autoencoder) -> Table:
    """The layers of a model with shapes and numbers of parameters, as text."""
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
    total = ["", "", "", "in all", f"{model.n_parameters_:,}"]
    return Table(("part", "layer", "output", "activation", "parameters"), [*rows, total])


def _settings(model: Autoencoder) -> Table:
    return Table(("setting", "value"), [[name, _plain(value)] for name, value in model.describe().items()])


def _plain(value: Any) -> str:
    if isinstance(value, dict) and "class" in value:
        inside = ", ".join(f"{name}={_plain(part)}" for name, part in value["params"].items())
        return f"{value['class']}({inside})"
    if isinstance(value, dict) and "tuple" in value:
        return f"({', '.join(_plain(part) for part in value['tuple'])})"
    return value if isinstance(value, str) else json.dumps(value)


def _footer(model: Autoencoder) -> str:
    seed = model.random_state if isinstance(model.random_state, int) else "not set"
    return f"isthmus {__version__}, torch {torch.__version__}, Python {platform.python_version()}; seed {seed}."


def picture_section(title: str, drawn: Figure | Axes, text: str, *, half: bool = False) -> Section:
    """A section with a picture, which becomes part of the page."""
    figure = figure_of(drawn)
    buffer = io.BytesIO()
    save(figure, buffer, dots_per_inch=DOTS_PER_INCH)
    picture = base64.b64encode(buffer.getvalue()).decode()
    return Section(title, text, picture, round(float(figure.get_size_inches()[0]) * 96), half=half)
