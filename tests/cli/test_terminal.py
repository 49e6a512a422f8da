"""What is printed: text from files reaches the terminal as text."""

from __future__ import annotations

import json
import re
import struct
import unicodedata
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from isthmus import Autoencoder, cli
from isthmus.cli import main, show
from isthmus.cli.terminal import escaped

ATTACK = "\x1b]0;owned\x07\x1b[31m\x9b1m\r\b\u202e\u2066[red]"
DIRECTIONS = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
WRITTEN = r"\x1b]0;owned\x07\x1b[31m\x9b1m\x0d\x08\u202e\u2066[red]"


def test_every_control_code_and_direction_mark_is_written_out() -> None:
    for code in (*range(0x10000), 0x1F600):
        character = chr(code)
        commands = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") and character not in "\t\n"
        reversing = unicodedata.bidirectional(character) in {
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        }
        if commands or reversing:
            width = (2, "x") if code < 0x100 else (4, "u")
            assert escaped(character) == f"\\{width[1]}{code:0{width[0]}x}"
    assert escaped("naïve 数 😀 [bold]\n\tx") == "naïve 数 😀 [bold]\n\tx"


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    frame = pd.DataFrame(np.random.default_rng(0).random((20, 2)), columns=["a" + ATTACK, "b"])
    return Autoencoder(1, max_epochs=1, random_state=0).fit(frame).save(tmp_path / "m.safetensors")


def printed(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    with pytest.raises(SystemExit):
        main([str(word) for word in words])
    return "".join(capsys.readouterr())


def test_names_cells_and_errors_are_printed_as_text(
    capsys: pytest.CaptureFixture[str], model_file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "x.csv"
    pd.DataFrame({"a": [1.0], "b": [2.0]}).to_csv(other, index=False)
    answers = [
        printed(capsys, "encode", model_file, other, "--out", tmp_path / "z.csv"),
        printed(capsys, "fit", f"no{ATTACK}.csv"),
        printed(capsys, "--debug", "fit", f"no{ATTACK}.csv"),
        printed(capsys, ATTACK),
        printed(capsys, "fit", "digits", "--set", f"{ATTACK}=1"),
    ]
    for answer in answers:
        assert escaped(answer) == answer
        assert r"\x1b]0;owned\x07" in answer


def test_a_crafted_model_file_is_printed_as_text(capsys: pytest.CaptureFixture[str], model_file: Path) -> None:
    raw = model_file.read_bytes()
    size = struct.unpack("<Q", raw[:8])[0]
    header = json.loads(raw[8 : 8 + size])
    state = json.loads(header["__metadata__"]["isthmus"])
    state["values"]["stop_reason"] = state["kind"] = ATTACK
    header["__metadata__"]["isthmus"] = json.dumps(state)
    crafted = json.dumps(header).encode()
    model_file.write_bytes(struct.pack("<Q", len(crafted)) + crafted + raw[8 + size :])
    answer = printed(capsys, "info", model_file)
    assert escaped(answer) == answer


def test_tables_print_brackets_and_line_feeds_as_they_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    show.print_rows(("[red]head", "b"), [(f"x{ATTACK}", "two\nlines")])
    show.print_facts({"[bold]name": "[/]value"})
    head, row, fact = (line.split() for line in capsys.readouterr().out.splitlines())
    assert (head, row, fact) == (["[red]head", "b"], [f"x{WRITTEN}", "two\\x0alines"], ["[bold]name", "[/]value"])


def test_settings_printed_as_toml_can_be_read_again() -> None:
    import tomllib  # noqa: PLC0415  # used here alone

    from isthmus.cli.settings import to_toml  # noqa: PLC0415

    text = to_toml("kind", {"device": f'{ATTACK}"\\\n\x7f😀'})
    assert tomllib.loads(text)["device"] == f'{ATTACK}"\\\n\x7f😀'


def test_nothing_in_the_command_line_prints_by_another_way() -> None:
    folder = Path(cli.__file__).parent
    for path in folder.glob("*.py"):
        if path.name not in ("terminal.py", "show.py"):
            assert not re.search(r"typer\.echo|\bprint\(|Console\(|sys\.std(out|err)\.write", path.read_text()), (
                path.name
            )
