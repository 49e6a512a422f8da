"""The command line calls the public interface only: it does nothing that a program cannot do."""

from __future__ import annotations

import ast
import importlib
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

import isthmus
import isthmus.cli

MODULES = sorted(Path(isthmus.cli.__file__).parent.glob("*.py"))


def hidden(path: Path) -> Iterator[str]:
    """What a module takes from the library that is not public; its own folder may be imported."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "isthmus":
            own = node.module == "isthmus.cli" or (node.module or "").startswith("isthmus.cli.")
            public = [*dir(isthmus), "__version__"] if node.module == "isthmus" else []
            yield from (f"{node.module}.{each.name}" for each in node.names if not own and each.name not in public)
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names if each.name.startswith("isthmus."))
        if isinstance(node, ast.Attribute) and (name := dotted(node)) and not is_public(name):
            yield name


def dotted(node: ast.expr) -> str:
    """``isthmus.files.check_writable`` for an expression that starts with the library's name; else empty."""
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return "isthmus" if isinstance(node, ast.Name) and node.id == "isthmus" else ""


def is_public(name: str) -> bool:
    """Whether every name on the way is listed by the module before it."""
    module, *rest = importlib.import_module("isthmus"), *name.split(".")[1:]
    for part in rest:
        if not isinstance(module, types.ModuleType):
            return not part.startswith("_")
        if part not in module.__all__:
            return False
        module = getattr(module, part)
    return True


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.stem)
def test_the_command_line_uses_public_names_only(path: Path) -> None:
    assert list(hidden(path)) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from isthmus.files.table_writer import escaped", ["isthmus.files.table_writer.escaped"]),
        ("import isthmus.training.loop", ["isthmus.training.loop"]),
        ("from isthmus import absent", ["isthmus.absent"]),
        ("isthmus.training.loop.Run", ["isthmus.training.loop.Run", "isthmus.training.loop"]),
        ("isthmus.Autoencoder._to_state", ["isthmus.Autoencoder._to_state"]),
        ("from isthmus import Autoencoder, load\nisthmus.tables.open_table(isthmus.load.__name__)", []),
    ],
)
def test_a_hidden_name_is_found(text: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "made.py").write_text(text)
    names = list(hidden(tmp_path / "made.py"))
    assert [name for name in names if "__name__" not in name] == found
