"""Output on stdout: tables for users, JSON for programs."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from isthmus.cli.settings import NOT_SETTABLE
from isthmus.cli.terminal import cell, echo, escaped

UNBOUNDED = 100_000
"""Line width of output to a file or another program."""


COMMANDS = {
    "AnomalyDetector": "score rows with `isthmus detect score`",
    "Recommender": "see `isthmus recommend --help`",
    "EncoderClassifier": "in Python its autoencoder is isthmus.load(path).encoder_",
    "SignalDetector": "use it in Python: isthmus.load(path).stretches(series)",
    "Restorer": "use `isthmus restore run`",
    "ImageCodec": "see `isthmus compress --help`",
    "Imputer": "use it in Python: isthmus.load(path).transform(table)",
}
"""How to use models that are not autoencoders."""


def show(printable: Any) -> None:
    """Print on stdout; if stdout is not a terminal, lines are not wrapped or padded."""
    terminal = Console(highlight=False)
    if terminal.is_terminal:
        terminal.print(printable)
        return
    text = io.StringIO()
    Console(highlight=False, width=UNBOUNDED, file=text).print(printable)
    echo("\n".join(line.rstrip() for line in text.getvalue().splitlines()))


def note(text: str) -> None:
    """Print one line."""
    echo(escaped(text, one_line=True))


@contextmanager
def progress(what: str) -> Iterator[Callable[[int, int | None], None]]:
    """Context manager: a progress bar on stderr, if that is a terminal; yields a function (rows done, total rows)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn  # noqa: PLC0415  # slow

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(escape(escaped(what)), total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def print_facts(facts: Mapping[str, str]) -> None:
    """Print names and values in two columns."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(cell(name), cell(value))
    show(table)


def print_rows(head: Iterable[str], rows: Iterable[Iterable[str | Text]]) -> None:
    """Print a table with a header; its first column is never wrapped."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for place, name in enumerate(head):
        table.add_column(cell(name), overflow="fold", no_wrap=place == 0)
    for row in rows:
        table.add_row(*map(cell, row))
    show(table)


def exit_if_interrupted(model: Any) -> None:
    """Exit with 1 if training was interrupted by Ctrl-C; the model is saved nevertheless."""
    if model.stop_reason_ == "interrupted":
        raise typer.Exit(1)


# -- models ------------------------------------------------------------------------------------------------------------


def to_json(facts: Any, *, indent: int | None = 2) -> str:
    """Facts as JSON that every reader takes: numbers that are not finite become null; on one line without `indent`."""
    return json.dumps(_finite(facts), indent=indent, allow_nan=False, default=_readable)


def _readable(value: Any) -> Any:
    """What JSON does not know: numpy's numbers as numbers, all else as text."""
    plain = value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else str(value)
    return _finite(plain) if isinstance(plain, bool | int | float | str) else str(plain)


def _finite(facts: Any) -> Any:
    if isinstance(facts, Mapping):
        return {name: _finite(part) for name, part in facts.items()}
    if isinstance(facts, list | tuple):
        return [_finite(part) for part in facts]
    return None if isinstance(facts, float) and not math.isfinite(facts) else facts


def load_autoencoder(path: Path, command: str, device: str = "auto", *, restorers: bool = False) -> Any:
    """Load the autoencoder (or restorer) of a file; for other kinds of models the error names the right command."""
    import isthmus  # noqa: PLC0415  # the command line starts without it

    model = isthmus.load(path, device=device)
    if restorers and isinstance(model, isthmus.Restorer):
        return model
    if not isinstance(model, isthmus.Autoencoder):
        kind = type(model).__name__
        remedy = COMMANDS.get(kind, "use it in Python: isthmus.load(path)")
        raise isthmus.ModelFileError(
            f"'{path}' contains a model of the kind {kind}, but `isthmus {command}` needs an autoencoder, written by "
            f"`isthmus fit`; {remedy}."
        )
    return model


def model_facts(model: Any) -> dict[str, Any]:
    """All facts about a fitted model as JSON; for models that are not autoencoders, their settings."""
    import isthmus  # noqa: PLC0415  # the command line starts without it

    if not isinstance(model, isthmus.Autoencoder):
        return {"kind": type(model).__name__, **_counts(model), "settings": {k: _plain(v) for k, v in _params(model)}}
    return {
        "kind": type(model).__name__,
        "feature_shape": list(model.feature_shape_),
        **({} if model.target_ is None else {"target": str(model.target_)}),
        "code_size": model.objective_.context.code_size,
        "parameters": model.n_parameters_,
        "epochs": model.n_epochs_,
        "stopped": model.stop_reason_,
        "engine": str(getattr(model, "engine_", "")),
        "kept": dict(kept_epoch(model) or {}),
        "history": list(model.history_.rows),
        "layers": [vars(layer) for layer in model.layers()],
        "settings": model.describe(),
    }


def fit_facts(model: Any) -> dict[str, str]:
    """The summary of a run, with the losses of the kept weights."""
    facts = {
        "model": f"{type(model).__name__}, {model.summary().path}",
        "parameters": f"{model.n_parameters_:,}",
    }
    facts |= {"note": model.summary().note} if model.summary().note else {}
    facts |= {"engine": str(model.engine_)} if hasattr(model, "engine_") else {}
    kept = kept_epoch(model)
    if kept is None:
        return facts | {"epochs": f"0 ({model.stop_reason_})"}
    seconds = model.history_["seconds"].sum()
    facts["epochs"] = f"{model.n_epochs_} ({model.stop_reason_}), {seconds:.1f} s on {model.device_}"
    if kept["epoch"] != model.n_epochs_:
        facts["kept"] = f"the weights of epoch {kept['epoch']:.0f}"
    facts["training loss"] = f"{kept['loss']:.4f}"
    return facts | ({"validation loss": f"{kept['val_loss']:.4f}"} if "val_loss" in kept else {})


def kept_epoch(model: Any) -> Mapping[str, float] | None:
    """The row of the history whose weights the model has: the best one if training ended early."""
    rows: list[Mapping[str, float]] = list(model.history_.rows)
    if rows and (model.early_stopping or model.stop_reason_ in ("interrupted", "diverged")):
        return min(rows, key=lambda row: row.get("val_loss", row["loss"]))
    return rows[-1] if rows else None


def print_model(model: Any, path: Path) -> None:
    """Print the facts, layers and settings of a model file; for models that are not autoencoders, the settings."""
    import isthmus  # noqa: PLC0415  # the command line starts without it

    file = f"{path} ({path.stat().st_size / 1e6:.2f} MB)"
    if not isinstance(model, isthmus.Autoencoder):
        counts = {name: f"{number:,}" for name, number in _counts(model).items()}
        print_facts({"file": file, "model": type(model).__name__, **counts})
        note("")
        print_facts({name: str(_plain(value)) for name, value in _params(model)})
        return
    print_facts({"file": file, **fit_facts(model)})
    note("")
    print_rows(
        ("part", "layer", "output", "activation", "parameters"),
        (
            (row.part, row.kind, "×".join(map(str, row.output_shape)), row.activation or "–", f"{row.n_parameters:,}")
            for row in model.layers()
        ),
    )
    note("")
    hidden = (*NOT_SETTABLE, "engine")  # which stands above
    print_facts({name: _short(value) for name, value in model.describe().items() if name not in hidden})


def _params(model: Any) -> list[tuple[str, Any]]:
    return [(name, value) for name, value in model.get_params(deep=False).items() if name not in NOT_SETTABLE]


def _counts(model: Any) -> dict[str, int]:
    """Number of columns, users or channels of a model."""
    known = {
        "features": "n_features_in_",
        "channels": "n_channels_",
        "users": "users_",
        "items": "items_",
        "images": "n_images_",
        "channels before": "n_channels_in_",
        "channels after": "n_channels_out_",
    }
    found = {name: getattr(model, attribute, None) for name, attribute in known.items()}
    return {name: value if isinstance(value, int) else len(value) for name, value in found.items() if value is not None}


def _plain(value: Any) -> Any:
    """A parameter as a JSON value; a choice as its repr."""
    return value if isinstance(value, str | int | float | bool | list | tuple | None) else " ".join(repr(value).split())


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and "class" in value:
        return f"{value['class']}({', '.join(f'{name}={_short(part)}' for name, part in value['params'].items())})"
    if isinstance(value, Mapping) and "tuple" in value:
        return f"({', '.join(map(_short, value['tuple']))})"
    return str(value)


# -- data sets ---------------------------------------------------------------------------------------------------------


def dataset_facts(info: Any) -> dict[str, Any]:
    """A data set as JSON."""
    return {**vars(info), "path": None if info.path is None else str(info.path), "present": info.present}


def print_datasets(found: Iterable[Any]) -> None:
    """Print the data sets; for those that are not on this machine, their web page."""
    print_rows(
        ("name", "shape", "size", "where", "licence"),
        (
            (info.name, info.shape, _size(info.size_bytes), str(info.path or f"not local: {info.home}"), info.licence)
            for info in found
        ),
    )


def _size(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.1f} MB" if n_bytes else "–"


# -- kinds -------------------------------------------------------------------------------------------------------------


def kind_facts() -> dict[str, Any]:
    """Kinds, parameters, and choices with their members and parameters, as JSON."""
    import isthmus  # noqa: PLC0415  # the command line starts without it

    registries = isthmus.choices_by_parameter()
    own = isthmus.Autoencoder().get_params(deep=False)
    return {
        "kinds": {name: {"class": kind.__name__, "what": _summary(kind)} for name, kind in isthmus.KINDS.items()},
        "parameters": {name: own[name] for name in own if name not in (*registries, *NOT_SETTABLE)},
        "choices": {
            choice: {
                name: {"what": _summary(member), "parameters": member().get_params(deep=False)}
                for name, member in sorted(registry.members.items())
            }
            for choice, registry in registries.items()
        },
    }


def print_kinds(facts: Mapping[str, Any]) -> None:
    """Print kinds, parameters, and choices, as written on the command line."""
    note("Kinds (--kind NAME)")
    kinds = ((name, kind["class"], kind["what"]) for name, kind in facts["kinds"].items())
    print_rows(("name", "class", "what it does"), kinds)
    note("")
    note("Parameters and their defaults (--set NAME=VALUE, or a flag of `isthmus fit`)")
    print_facts({name: _short(value) for name, value in facts["parameters"].items()})
    for choice, members in facts["choices"].items():
        note("")
        note(f"{choice.capitalize()} (--set {choice}=NAME)")
        print_rows(
            ("name", "parameters (--set)", "what it does"),
            ((name, _assignments(choice, member["parameters"]), member["what"]) for name, member in members.items()),
        )


def _assignments(choice: str, parameters: Mapping[str, Any]) -> Text:
    lines = [escaped(f"{choice}.{name}={_short(value)}") for name, value in parameters.items()]
    return Text("\n".join(lines) or "–")


def _summary(documented: Any) -> str:
    """The first paragraph of a docstring on one line."""
    return " ".join(str(documented.__doc__).strip().split("\n\n")[0].split()).replace("`", "")
