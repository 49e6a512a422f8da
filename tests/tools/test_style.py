"""The style figures are counted as stated."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import style

BLOCK = "\n".join(f"    x{i} = {i}" for i in range(7))


def write(root: Path, name: str, text: str) -> None:
    (root / "src").mkdir(exist_ok=True)
    (root / "src" / name).write_text(text)


def test_function_length_leaves_the_docstring_out(tmp_path: Path) -> None:
    write(tmp_path, "a.py", 'def f():\n    """Say.\n\n    More.\n    """\n    x = 1\n    return x\n')
    (function,) = style.read(tmp_path / "src" / "a.py").functions
    assert (function.name, function.lines) == ("f", 2)


def test_equal_blocks_in_two_files_are_counted(tmp_path: Path) -> None:
    write(tmp_path, "a.py", f"def f():\n{BLOCK}\n")
    write(tmp_path, "b.py", f"def g():\n{BLOCK}\n")
    figures = style.measure(tmp_path / "src")
    assert figures is not None
    assert figures.copied == pytest.approx(14 / 16)
    assert "copied lines 87.5% > 2%" in figures.faults()[0]


def test_five_equal_lines_are_not_a_copy(tmp_path: Path) -> None:
    short = "\n".join(BLOCK.splitlines()[:5])
    write(tmp_path, "a.py", f"def f():\n{short}\n")
    write(tmp_path, "b.py", f"def g():\n{short}\n")
    figures = style.measure(tmp_path / "src")
    assert figures is not None
    assert figures.copied == 0


def test_main_fails_on_a_long_file_and_passes_without(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "a.py", "def f():\n    return 1\n")
    assert style.main(tmp_path) == 0
    write(tmp_path, "b.py", "def g():\n    return 1\n" + "x = 1\n" * 500)
    assert style.main(tmp_path) == 1
    assert "b.py has 502 lines > 500" in capsys.readouterr().err
