"""Every command with files that are empty, cut, of another kind, or not there: one line says what is wrong."""

from __future__ import annotations

import os
import random
import shutil
import struct
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import isthmus
from benchmarks.reliability.children import command, ended, left_behind, start
from benchmarks.reliability.kills import rows_of
from benchmarks.reliability.results import Row

INTENT = (
    "Every command is given bad files in the place of each of its files. It ends with exit code 1 or 2 and a line "
    "`error: …`, without a traceback, within a minute, and leaves the file that it would replace as it was. Where a "
    "file can be read after all (a table in another encoding), the command may succeed."
)
SEED = 0
OLD = b"what was there before"
LONGEST_TEXT = 3_000
INSIDE = ("object has no attribute", "NoneType", "unhashable", "not subscriptable", "Error(", "<class ")
"""Words of errors that were raised for programmers of the library."""

Make = Callable[[Path, random.Random], None]


def _bytes(content: bytes) -> Make:
    return lambda path, _: _write(path, content)


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def _cut(path: Path, draw: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: draw.randrange(1, max(2, len(content) - 1))])


def _cut_short(path: Path, _: random.Random) -> None:
    path.write_bytes(path.read_bytes()[:9])


def _random(path: Path, draw: random.Random) -> None:
    path.write_bytes(draw.randbytes(4_000))


def _folder(path: Path, _: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path, _: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _missing(path: Path, _: random.Random) -> None:
    path.unlink()


def _loop(path: Path, _: random.Random) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _device(path: Path, _: random.Random) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _zip(path: Path, _: random.Random) -> None:
    path.write_bytes(b"PK\x03\x04" + bytes(400))


BAD: Mapping[str, Make] = {
    "empty": _bytes(b""),
    "one line end": _bytes(b"\n"),
    "cut at a random place": _cut,
    "cut after nine bytes": _cut_short,
    "random bytes": _random,
    "zeros": _bytes(bytes(4_000)),
    "a picture": _bytes(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(200)),
    "a zip archive": _zip,
    "a pickle": _bytes(b"\x80\x04\x95\x1a\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94\x8c\x06system\x94\x93\x94."),
    "a header of 2^63 bytes": _bytes(struct.pack("<Q", 2**63 - 1) + b'{"__metadata__":{}}'),
    "a header of 100 million bytes": _bytes(struct.pack("<Q", 10**8) + b"{" + bytes(1_000)),
    "JSON": _bytes(b'{"a": [1, 2, {"b": null}]}'),
    "text of half characters": _bytes(b"a,b\n\xff\xfe\xfd,\xc3\n1,2\n"),
    "UTF-16 without a mark": _bytes("a,b\nzwölf,2\n".encode("utf-16-le")),
    "EBCDIC": _bytes("user,item\n1,2\n3,4\n".encode("cp500")),
    "a line of a million signs": _bytes(b"x" * 1_000_000),
    "a quote that is never closed": _bytes(b'a,b\n"1,2\n' + b"3,4\n" * 100),
    "rows of different lengths": _bytes(b"a,b\n1,2\n3,4,5\n6\n"),
    "two columns of one name": _bytes(b"a,a\n1,2\n3,4\n"),
    "names only": _bytes(b"a,b,c\n"),
    "infinities": _bytes(b"a,b\n1,inf\n-inf,4\nnan,1\n"),
    "control codes": _bytes(b"a\x1b[31m,b\x07\n\x1b]0;x\x07,2\n1,2\n"),
    "a folder": _folder,
    "a named pipe": _pipe,
    "no file": _missing,
    "a link to itself": _loop,
    "a device without an end": _device,
}
READABLE = {
    "empty", "one line end", "cut at a random place", "cut after nine bytes", "random bytes", "zeros", "a pickle",
    "JSON", "text of half characters", "UTF-16 without a mark", "EBCDIC", "a line of a million signs",
    "a quote that is never closed", "rows of different lengths", "two columns of one name", "names only",
    "infinities", "control codes",
}  # fmt: skip
"""What a file of text may be after all, if a strange one; as a model or an array none of them is."""
TEXT = (".csv", ".toml")
OUTPUTS: Mapping[str, Make] = {"a folder": _folder, "a named pipe": _pipe, "a link to itself": _loop}


@dataclass(frozen=True)
class Line:
    """A command that works: its words, with files by their names in the folder, and which of the words may be bad."""

    words: tuple[str, ...]
    inputs: tuple[int, ...]
    output: str = ""

    def at(self, folder: Path) -> list[str]:
        """The words with paths."""
        return [str(folder / word) if "." in word else word for word in self.words]


def _line(text: str, *inputs: int) -> Line:
    words = tuple(text.split())
    output = next((words[place + 1] for place, word in enumerate(words) if word in ("--out", "--report")), "")
    return Line(words, inputs, output)


QUICK, FEW = "--epochs 1 --quiet --force --out out.safetensors", "--set max_steps=2 --set n_members=1 --quiet --force"
LINES: Mapping[str, Line] = {
    "fit": _line(f"fit table.csv {QUICK}", 1),
    "fit (array)": _line(f"fit rows.npy {QUICK}", 1),
    "fit --validation": _line(f"fit table.csv --validation table.csv {QUICK}", 3),
    "fit --resume": _line(f"fit rows.npy --seed 0 --code-size 3 --resume run.ckpt {QUICK}", 7),
    "fit --config": _line(f"fit rows.npy --config config.toml {QUICK}", 3),
    "info": _line("info model.safetensors", 1),
    "info --json": _line("info model.safetensors --json", 1),
    "encode": _line("encode model.safetensors rows.npy --force --out out.csv", 1, 2),
    "encode (table)": _line("encode tables.safetensors table.csv --force --out out.parquet", 2),
    "reconstruct": _line("reconstruct model.safetensors rows.npy --force --out out.npy", 1, 2),
    "score": _line("score model.safetensors rows.npy --force --out out.csv", 1, 2),
    "score (printed)": _line("score tables.safetensors table.csv", 1, 2),
    "report": _line("report tables.safetensors table.csv --force --out out.html", 1, 2),
    "export": _line("export model.safetensors --force --out out.onnx", 1),
    "diagnose": _line("diagnose tables.safetensors table.csv --json", 1, 2),
    "diagnose --train": _line("diagnose tables.safetensors table.csv --train table.csv", 4),
    "detect fit": _line(f"detect fit table.csv {FEW} --out out.safetensors", 2),
    "detect score": _line("detect score detector.safetensors table.csv --force --out out.csv", 2, 3),
    "detect score --json": _line("detect score detector.safetensors table.csv --json", 2, 3),
    "detect score --report": _line("detect score detector.safetensors table.csv --force --report out.html", 3),
    "recommend fit": _line(f"recommend fit log.csv {QUICK}", 2),
    "recommend fit --items": _line(f"recommend fit log.csv --items titles.csv {QUICK}", 4),
    "recommend for": _line("recommend for likes.safetensors --user 1", 2),
    "recommend similar": _line("recommend similar likes.safetensors 2 --json", 2),
    "recommend evaluate": _line("recommend evaluate log.csv --epochs 1 --quiet --json", 2),
}
"""Every command that reads a file."""


def originals(folder: Path) -> None:
    """A good file for each place."""
    np.save(folder / "rows.npy", rows_of(0, 100))
    np.savetxt(folder / "table.csv", rows_of(1, 60)[:, :3], fmt="%.3f", delimiter=",", header="a,b,c", comments="")
    log = [f"{user},{item},{1 + user * item % 5}" for user in range(12) for item in range(user % 3, 9)]
    (folder / "log.csv").write_text("\n".join(["user,item,rating", *log, ""]), encoding="utf-8")
    (folder / "titles.csv").write_text(
        "\n".join(["item,title", *(f"{i},T{i}" for i in range(9)), ""]), encoding="utf-8"
    )
    (folder / "config.toml").write_text("code_size = 3\n", encoding="utf-8")
    small: dict[str, Any] = {"max_epochs": 1, "random_state": 0, "verbose": 0}
    checkpoint = isthmus.Checkpoint(folder / "run.ckpt")
    model = isthmus.Autoencoder(3, **small, callbacks=[checkpoint]).fit(np.load(folder / "rows.npy"))
    model.set_params(callbacks=()).save(folder / "model.safetensors")
    table = isthmus.read(folder / "table.csv").X
    isthmus.Autoencoder(2, **small).fit(table).save(folder / "tables.safetensors")
    detector = isthmus.AnomalyDetector(max_steps=3, n_members=1, hidden_size=4, random_state=0)
    detector.fit(folder / "table.csv").save(folder / "detector.safetensors")
    isthmus.Recommender(**small).fit(isthmus.read(folder / "log.csv").X).save(folder / "likes.safetensors")


def measure(scale: float, seed: int) -> list[Row]:
    """Try every command with every bad file in every place; `scale` below 1 takes a share of them."""
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        good = Path(name) / "good"
        good.mkdir()
        originals(good)
        return [_try_command(what, line, good, scale, random.Random(f"{seed}-{what}")) for what, line in LINES.items()]


def _try_command(what: str, line: Line, good: Path, scale: float, draw: random.Random) -> Row:
    trials = [(line.words[place], bad, make) for place in line.inputs for bad, make in BAD.items()]
    trials += [(line.output, bad, make) for bad, make in OUTPUTS.items()] if line.output else []
    counted = Counter[str]()
    for file, bad, make in draw.sample(trials, max(1, round(scale * len(trials)))):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "tried"
            shutil.copytree(good, folder)
            (folder / (line.output or "nothing")).write_bytes(OLD)
            make(folder / file, draw)
            found = _try_once(line, folder, file, bad)
        counted[found.partition(":")[0]] += 1
        if found.startswith("wrong"):
            print(f"isthmus {what}, {bad} as {file}: {found}")
    note = ", ".join(f"{counted[name]} {name}" for name in ("refused", "answered") if counted[name])
    return Row(f"isthmus {what}", sum(counted.values()), counted["wrong"], note)


def _try_once(line: Line, folder: Path, file: str, bad: str) -> str:
    """``"refused"``, ``"answered"``, or what went wrong, after the word ``"wrong"``."""
    out, log = folder / (line.output or "nothing"), folder / "output"
    code = ended(start(command, *line.at(folder), log=log))
    text = log.read_text(encoding="utf-8", errors="replace")
    errors = [part for part in text.splitlines() if part.startswith("error: ")]
    if code == 0 and file != line.output and bad in READABLE and Path(file).suffix in TEXT:
        return "answered"
    problems = {
        f"exit code {code}": code not in (1, 2),
        "a traceback": "Traceback" in text,
        f"{len(errors)} lines of errors": len(errors) != 1,
        f"an error of {len(text)} characters": len(text) > LONGEST_TEXT,
        "control codes": any(ord(sign) < 32 and sign not in "\n\t" for sign in text),
        "the output was changed": file != line.output and out.read_bytes() != OLD,
        f"left {left_behind(folder)}": bool(left_behind(folder)),
        "words of the inside": any(word in text for word in INSIDE),
    }
    told = [problem for problem, is_so in problems.items() if is_so]
    return f"wrong: {', '.join(told)}: {text[-400:]!r}" if told else "refused"
