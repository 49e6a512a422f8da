"""The benchmark of reliability: what counts as wrong, and the page that keeps the figures."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.reliability import __main__ as command_line
from benchmarks.reliability import bad_files, interrupts, kills, threads
from benchmarks.reliability.results import Part, Row, lines, write

import isthmus
import isthmus.cli

PART = Part("kills", "What is clean.", [Row("save", 4, 1, "2 new, 1 old"), Row("fit", 3, 0)], 7, 12.3, "a machine")


def test_a_part_adds_up_its_rows() -> None:
    assert PART.total == Row("all", 7, 1)
    assert lines(PART)[1].split() == ["save", "4", "3", "1", "2", "new,", "1", "old"]
    assert lines(PART)[-1] == "seed 7, 12 s"


def test_the_page_keeps_the_figures_of_parts_that_were_not_run_again(tmp_path: Path) -> None:
    write([PART, Part("threads", "Equal.", [Row("Imputer", 20, 0)], 0, 3.0, "the first")], tmp_path)
    write([Part("threads", "Equal.", [Row("Imputer", 30, 2)], 1, 4.0, "the second")], tmp_path)
    page = (tmp_path / "reliability.md").read_text(encoding="utf-8")
    assert "| [kills](#kills) | 7 | 6 | 1 |" in page
    assert "| [threads](#threads) | 30 | 28 | 2 |" in page
    assert "the second" in page
    assert "the first" not in page
    assert [part["seed"] for part in json.loads((tmp_path / "reliability.json").read_text())] == [7, 1]


def test_every_part_says_what_is_clean() -> None:
    for name, module in command_line.PARTS.items():
        part: Any = __import__(module, fromlist=["INTENT"])
        assert len(part.INTENT) > 100, name
        assert callable(part.measure)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("good")
    bad_files.originals(folder)
    return folder


def ran(text: str, code: int, out: bytes | None = None, also: str = "") -> Callable[..., Any]:
    """In place of a child process: what a command printed, how it ended and what it left."""

    def start(_: Any, *words: str, log: Path) -> int:
        log.write_text(text)
        if out is not None:
            Path(words[-1]).write_bytes(out)
        if also:
            (log.parent / also).touch()
        return code

    return start


@pytest.mark.parametrize(
    ("found", "judged"),
    [
        (ran("error: no.\n", 1), "refused"),
        (ran("error: no.\n", 2), "refused"),
        (ran("error: no.\n", 0), "wrong: exit code 0"),
        (ran("", -11), "wrong: exit code -11, 0 lines of errors"),
        (ran("error: no.\nerror: no.\n", 1), "wrong: 2 lines of errors"),
        (ran("Traceback (most recent call last)\nerror: no.\n", 1), "wrong: a traceback"),
        (ran("error: 'X' object has no attribute 'y'.\n", 1), "wrong: words of the inside"),
        (ran("error: \x1b[31m.\n", 1), "wrong: control codes"),
        (ran("error: no.\n", 1, b"half"), "wrong: the output was changed"),
        (ran("error: no.\n", 1, also=".x.isthmus-host-1-00000000.csv"), "wrong: left ['.x.isthmus"),
    ],
)
def test_a_bad_file_is_refused_or_wrong(
    found: Any, judged: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bad_files, "start", found)
    monkeypatch.setattr(bad_files, "ended", lambda code: code)
    (tmp_path / "out.csv").write_bytes(bad_files.OLD)
    line = bad_files.LINES["encode"]
    assert bad_files._try_once(line, tmp_path, "rows.npy", "zeros").startswith(judged)


def test_every_command_that_is_given_bad_files_works_with_good_ones(
    good: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("info", "encode", "score (printed)", "detect score", "recommend similar", "fit --resume"):
        line = bad_files.LINES[name]
        assert all((good / line.words[place]).exists() for place in line.inputs)
        with pytest.raises(SystemExit) as stopped:
            isthmus.cli.main(line.at(good))
        assert not stopped.value.code, (name, capsys.readouterr())


def test_numbers_that_differ_are_another_model(tmp_path: Path) -> None:
    rows = kills.rows_of()
    one, other = (kills.model(max_epochs=2, learning_rate=rate).fit(rows) for rate in (0.01, 0.011))
    paths = [model.save(tmp_path / f"{place}.safetensors") for place, model in enumerate((one, one, other))]
    assert kills.same_numbers(paths[0], paths[1])
    assert not kills.same_numbers(paths[0], paths[2])


def test_a_thread_that_gives_another_model_is_counted(tmp_path: Path) -> None:
    job = ("Autoencoder", 1)
    alone = {job: threads.numbers(*job, tmp_path / "a.safetensors")}
    assert threads._compared(0, job, alone, tmp_path)
    key = next(iter(alone[job]))
    assert not threads._compared(1, job, {job: {**alone[job], key: b"other"}}, tmp_path)


def test_the_weights_of_another_epoch_are_not_the_best() -> None:
    seen = interrupts.Remember()
    model = isthmus.Autoencoder(2, network=(4,), max_epochs=5, random_state=0, callbacks=[seen])
    model.fit(np.random.default_rng(0).normal(size=(60, 5)))
    assert seen.is_best(model) == (seen.epochs[-1][0] == min(loss for loss, _ in seen.epochs))
    seen.epochs[0] = (-1.0, "other weights")
    assert not seen.is_best(model)


@pytest.mark.parametrize(
    ("code", "text", "whole", "judged"),
    [
        (0, "", True, "finished"),
        (1, "error: interrupted.\n", True, "ended"),
        (1, "warning: Training was interrupted in epoch 3; …\n", True, "ended"),
        (1, "error: interrupted.\n", False, "wrong"),
        (1, "error: something else.\n", True, "wrong"),
        (1, "Traceback …\nerror: interrupted.\n", True, "wrong"),
        (-11, "", True, "wrong"),
        (None, "", True, "wrong"),
        (-15, "", True, "ended"),
        (-15, "", False, "wrong"),
    ],
)
def test_an_interrupted_command_is_judged(code: int | None, text: str, whole: bool, judged: str) -> None:
    assert interrupts._judge_command(code, text, whole, twice=False) == judged
