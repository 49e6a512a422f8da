"""What is printed: facts as tables on stdout, JSON for programs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table


def console() -> Console:
    """Stdout, found anew each time so that redirection is respected."""
    return Console(highlight=False)


def note(text: str) -> None:
    """One line."""
    console().print(text, soft_wrap=True, markup=False)


def print_facts(facts: Mapping[str, str]) -> None:
    """Names and values in two columns."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for name, value in facts.items():
        table.add_row(name, value)
    console().print(table)


def print_rows(head: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """A table with a head."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in head:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    console().print(table)


def model_facts(model: Any) -> dict[str, Any]:
    """All there is to know of a fitted model, as JSON."""
    history = model.history_
    return {
        "kind": type(model).__name__,
        "feature_shape": list(model.feature_shape_),
        "code_size": model.code_size,
        "parameters": model.n_parameters_,
        "epochs": model.n_epochs_,
        "stopped": model.stop_reason_,
        "last": history.rows[-1] if len(history) else {},
        "layers": [vars(layer) for layer in model.layers()],
        "settings": model.describe(),
    }


def fit_facts(model: Any) -> dict[str, str]:
    """The summary of a run."""
    last, seconds = model.history_.rows[-1], model.history_["seconds"].sum()
    facts = {
        "model": f"{type(model).__name__}, {model.n_features_in_:,} → {model.code_size} → {model.n_features_in_:,}",
        "parameters": f"{model.n_parameters_:,}",
        "epochs": f"{model.n_epochs_} ({model.stop_reason_}), {seconds:.1f} s on {model.device_}",
        "training loss": f"{last['loss']:.4f}",
    }
    return facts | ({"validation loss": f"{last['val_loss']:.4f}"} if "val_loss" in last else {})


def print_fit(model: Any, path: Path) -> None:
    """What was trained and where it is."""
    print_facts({**fit_facts(model), "saved": str(path)})


def print_model(model: Any, path: Path) -> None:
    """The facts of a model file, its layers and its settings."""
    print_facts({"file": f"{path} ({path.stat().st_size / 1e6:.2f} MB)", **fit_facts(model)})
    note("")
    print_rows(
        ("part", "layer", "output", "activation", "parameters"),
        (
            (row.part, row.kind, "×".join(map(str, row.output_shape)), row.activation or "–", f"{row.n_parameters:,}")
            for row in model.layers()
        ),
    )
    note("")
    print_facts({name: _short(value) for name, value in model.describe().items()})


def _short(value: Any) -> str:
    if isinstance(value, Mapping) and "class" in value:
        return f"{value['class']}({', '.join(f'{name}={_short(part)}' for name, part in value['params'].items())})"
    if isinstance(value, Mapping) and "tuple" in value:
        return f"({', '.join(map(_short, value['tuple']))})"
    return str(value)


def dataset_facts(info: Any) -> dict[str, Any]:
    """A data set as JSON."""
    return {**vars(info), "path": None if info.path is None else str(info.path), "present": info.present}


def print_datasets(found: Iterable[Any]) -> None:
    """The named sets."""
    print_rows(
        ("name", "shape", "here", "size", "licence", "home"),
        (
            (
                info.name,
                info.shape,
                str(info.path or "no"),
                f"{info.size_bytes / 1e6:.1f} MB" if info.size_bytes else "–",
                info.licence,
                info.home,
            )
            for info in found
        ),
    )


def print_kinds() -> None:
    """Kinds, choices, members and their parameters."""
    import isthmus  # noqa: PLC0415  # the command line starts without it

    print_rows(("kind", "class", "what it is"), ((n, c.__name__, _first_line(c)) for n, c in isthmus.KINDS.items()))
    for choice, registry in isthmus.choices_by_parameter().items():
        note(f"\n{choice}")
        print_rows(
            ("name", "parameters (--set)", "what it does"),
            (
                (name, _parameters(choice, member), _first_line(member))
                for name, member in sorted(registry.members.items())
            ),
        )


def _parameters(choice: str, member: Any) -> str:
    return "\n".join(f"{choice}.{name}={_short(value)}" for name, value in member().get_params().items()) or "–"


def _first_line(documented: Any) -> str:
    return str(documented.__doc__).strip().splitlines()[0].replace("``", "")
