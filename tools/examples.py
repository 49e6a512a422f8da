"""Run the scripts of examples/, and put their code, output and pictures into the pages of docs/jobs/.

    python tools/examples.py SCRIPT NOTEBOOK    # runs one script here and writes the notebook with its output

A script is divided into cells by ``# %%``. Cells named *data* and *picture* are folded on the page. A page shows a
script where a line is a link to it:

    [The whole script](../../examples/denoise.py "What the picture shows")
"""

from __future__ import annotations

import base64
import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jupytext
import nbformat

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
FOLDED = {"data": "The data", "picture": "The picture's code"}
LINK = re.compile(r'^\[[^\]]*\]\(\.\./\.\./examples/(\w+)\.py "([^"]+)"\)$', flags=re.MULTILINE)
"""The line of a page that shows a script: its name, and the text for readers who cannot see the picture."""


class ExampleError(RuntimeError):
    """A script of examples/ failed."""


@dataclass(frozen=True)
class Cell:
    """A cell of a script: its code, what it printed, and the pictures that it wrote."""

    title: str
    code: str
    printed: str
    pictures: tuple[str, ...]


def scripts() -> list[Path]:
    """All examples, by name."""
    return sorted(EXAMPLES.glob("*.py"))


def run_cells(script: Path) -> Any:
    """Run a script cell by cell in the current folder; the notebook with what each cell printed and drew."""
    notebook = jupytext.reads(script.read_text(encoding="utf-8"), fmt="py:percent")
    names: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "code":
            before = set(Path().glob("*.png"))
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(cell.source, f"{script.name}, cell {number}", "exec", dont_inherit=True), names)  # noqa: S102 - our own scripts
            drawn = sorted(set(Path().glob("*.png")) - before)
            cell.outputs = [*_text(printed.getvalue()), *map(_picture, drawn)]
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return notebook


def _text(printed: str) -> Iterator[Any]:
    if printed:
        yield nbformat.v4.new_output("stream", name="stdout", text=printed)


def _picture(path: Path) -> Any:
    shown = {"image/png": base64.b64encode(path.read_bytes()).decode()}
    return nbformat.v4.new_output("display_data", data=shown, metadata={"file": path.name})


def cells_of(notebook: Any) -> list[Cell]:
    """The code cells of a notebook that was run."""
    return [_cell(each) for each in notebook.cells if each.cell_type == "code"]


def _cell(cell: Any) -> Cell:
    printed = "".join(each.text for each in cell.outputs if each.output_type == "stream")
    pictures = tuple(each.metadata["file"] for each in cell.outputs if each.output_type == "display_data")
    return Cell(cell.metadata.get("title", ""), cell.source, printed, pictures)


def run_all(folder: Path) -> None:
    """Run every example in a process of its own, and write notebooks/, pictures/ and examples/ into a folder.

    Raises
    ------
    ExampleError
        A script failed or warned; the message names it, with the end of its error output.
    """
    for name in ("notebooks", "pictures", "examples"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda script: _run_apart(script, folder), scripts()))


def _run_apart(script: Path, folder: Path) -> None:
    written = folder / "notebooks" / f"{script.stem}.ipynb"
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-W", "error", str(Path(__file__)), str(script), str(written)]
        run = subprocess.run(  # noqa: S603
            command,
            cwd=scratch,
            env={**os.environ, "OMP_NUM_THREADS": "1", "MPLBACKEND": "Agg"},
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise ExampleError(f"examples/{script.name} failed:\n{run.stderr[-2000:]}")
        for picture in Path(scratch).glob("*.png"):
            (folder / "pictures" / picture.name).write_bytes(picture.read_bytes())
    (folder / "examples" / script.name).write_bytes(script.read_bytes())


def read_notebooks(folder: Path) -> dict[str, list[Cell]]:
    """The cells of every notebook of a folder, by the name of its script."""
    return {path.stem: cells_of(nbformat.read(path, as_version=4)) for path in sorted(folder.glob("*.ipynb"))}


def with_examples(page: str, ran: Mapping[str, list[Cell]]) -> str:
    """A page with each link to a script replaced by the script, its output and its pictures.

    Raises
    ------
    ExampleError
        The page shows a script that is not there.
    """

    def shown(found: re.Match[str]) -> str:
        if found[1] not in ran:
            raise ExampleError(f"examples/{found[1]}.py is shown on a page, but was not run; is the name right?")
        return example_text(found[1], found[2], ran[found[1]])

    return LINK.sub(shown, page)


def example_text(name: str, seen: str, cells: list[Cell]) -> str:
    """The Markdown of one example."""
    parts = [text for cell in cells for text in _cell_texts(cell, seen)]
    files = f"[{name}.py](../examples/{name}.py) · [{name}.ipynb](../notebooks/{name}.ipynb)"
    return "\n\n".join([*parts, f"Run it yourself: {files}"])


def _cell_texts(cell: Cell, seen: str) -> Iterator[str]:
    code = f"```python\n{cell.code.strip()}\n```"
    yield folded(FOLDED[cell.title], code) if cell.title in FOLDED else code
    if cell.printed:
        yield f"```text\n{cell.printed.rstrip()}\n```"
    yield from (f"![{seen}](../pictures/{picture})" for picture in cell.pictures)


def folded(title: str, text: str) -> str:
    """A block that opens at a click."""
    inner = "\n".join(f"    {line}".rstrip() for line in text.splitlines())
    return f'??? note "{title}"\n\n{inner}'


def main(script: str, written: str) -> None:
    """Run one script in the current folder and write its notebook."""
    nbformat.write(run_cells(Path(script)), written)


if __name__ == "__main__":
    main(*sys.argv[1:])
