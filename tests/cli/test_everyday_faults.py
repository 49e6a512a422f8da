"""Interrupts of commands, everyday files for every command, and detectors that learned from arrays."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import isthmus
from isthmus import AnomalyDetector, Autoencoder
from isthmus.atomic import atomic
from isthmus.cli import main, show

X = np.random.default_rng(0).normal(size=(80, 3))
NAMES = ["a", "b", "c"]
SMALL: dict[str, Any] = {"network": (4,), "max_epochs": 1, "random_state": 0}
DETECTING: dict[str, Any] = {"max_steps": 20, "n_members": 2, "hidden_size": 8, "random_state": 0}


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0), *capsys.readouterr()


# -- interrupts --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("ending", ["npy", "csv", "parquet"])
def test_a_signal_ends_a_command_with_one_line_and_leaves_nothing(
    number: int, ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", X)
    Autoencoder(2, **SMALL).fit(X).save(tmp_path / "m.safetensors")
    out = tmp_path / f"codes.{ending}"
    out.write_text("old")
    whole = Autoencoder.stream

    def stream(*given: Any, **named: Any) -> Iterator[np.ndarray]:
        for chunk in whole(*given, **named):
            yield chunk
            os.kill(os.getpid(), number)
            yield chunk

    monkeypatch.setattr(Autoencoder, "stream", stream)
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    found = run(capsys, "encode", tmp_path / "m.safetensors", tmp_path / "x.npy", "--out", out, "--force")
    assert found == (1, "", "error: interrupted.\n")
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == [out.name, "m.safetensors", "x.npy"]
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
@pytest.mark.parametrize("where", ["in a finaliser", "while a class is built"])
def test_an_interrupt_that_python_discards_or_changes_ends_a_command(
    where: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", X)
    Autoencoder(2, **SMALL).fit(X).save(tmp_path / "m.safetensors")

    class Finalised:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            sum(range(100))

    class Field:
        def __set_name__(self, owner: type, name: str) -> None:
            os.kill(os.getpid(), signal.SIGINT)
            sum(range(100))

    def stream(*_: Any, **__: Any) -> Iterator[np.ndarray]:
        if where == "in a finaliser":
            Finalised()
        else:
            type("Owner", (), {"field": Field()})
        yield X[:, :2]
        time.sleep(10)  # which the interrupt ends

    monkeypatch.setattr(Autoencoder, "stream", stream)
    out = tmp_path / "codes.npy"
    found = run(capsys, "encode", tmp_path / "m.safetensors", tmp_path / "x.npy", "--out", out)
    assert found == (1, "", "error: interrupted.\n")
    assert not out.exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes")
@pytest.mark.parametrize("what", ["pipe", "device", "folder"])
def test_a_config_that_is_no_file_is_refused(what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = {"pipe": tmp_path / "c.toml", "device": Path("/dev/zero"), "folder": tmp_path}[what]
    if what == "pipe":
        os.mkfifo(path)
    code, _, err = run(capsys, "fit", "digits", "--config", path, "--out", tmp_path / "m.safetensors")
    assert (code, err) == (
        2,
        f"error: The config file '{path}' is not a regular file; write the settings to a file.\n",
    )


def test_an_interrupt_while_a_temporary_file_is_made_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "close", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic(tmp_path / "x.npy"):
        pass
    monkeypatch.undo()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_training_at_the_command_line_hears_sigterm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ending(isthmus.Callback):
        def on_epoch_end(self, run: Any) -> None:
            if run.epoch == 2:
                os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(isthmus, "Checkpoint", lambda _: Ending())
    np.save(tmp_path / "x.npy", X)
    words = ("fit", tmp_path / "x.npy", "--epochs", 50, "--quiet", "--out", tmp_path / "m.safetensors")
    code, _, err = run(capsys, *words, "--checkpoint", tmp_path / "c.safetensors")
    assert (code, err) == (1, "warning: Training was interrupted in epoch 3; the weights of epoch 2 are kept.\n")
    assert isthmus.load(tmp_path / "m.safetensors").stop_reason_ == "interrupted"


# -- how tables are written --------------------------------------------------------------------------------------------


def test_every_command_takes_a_file_of_another_encoding_and_separator(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = pd.DataFrame(X, columns=["größe", "b", "c"])
    model = Autoencoder(2, **SMALL).fit(frame).save(tmp_path / "m.safetensors")
    frame.to_csv(tmp_path / "x.csv", sep="^", index=False, encoding="cp437")
    flags = ("--encoding", "cp437", "--delimiter", "^")
    code, out, err = run(capsys, "diagnose", model, tmp_path / "x.csv", "--train", tmp_path / "x.csv", "--json", *flags)
    assert (code, err) == (0, "")
    assert json.loads(out) == json.loads(
        show.to_json(isthmus.diagnose(isthmus.load(model), frame, X_train=frame).to_dict())
    )
    assert run(capsys, "report", model, tmp_path / "x.csv", "--out", tmp_path / "r.html", *flags)[0] == 0
    assert (tmp_path / "r.html").read_bytes().startswith(b"<!doctype html>")


def test_recommend_takes_a_file_of_another_encoding_and_without_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [f"{user}^é{item}" for user in range(12) for item in range(user % 3, 8, 2)]
    (tmp_path / "log.csv").write_bytes("\n".join(["user^item", *lines, ""]).encode("cp437"))
    (tmp_path / "items.csv").write_bytes("\n".join(["item^title", "é1^Amélie", "é2^Zoë", ""]).encode("cp437"))
    flags = ("--encoding", "cp437", "--delimiter", "^")
    model = tmp_path / "r.safetensors"
    words = ("recommend", "fit", tmp_path / "log.csv", "--items", tmp_path / "items.csv", "--epochs", 1, "--quiet")
    assert run(capsys, *words, "--out", model, *flags)[0] == 0
    known = isthmus.load(model)
    assert known.titles_ == {"é1": "Amélie", "é2": "Zoë"}
    assert len(known.users_) == 12
    code, out, _ = run(
        capsys, "recommend", "evaluate", tmp_path / "log.csv", "--epochs", 1, "--quiet", "--json", *flags
    )
    assert code == 0
    assert 0 <= json.loads(out)["ndcg@10"] <= 1


# -- detectors that learned from arrays --------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    frame = pd.DataFrame(X, columns=NAMES)
    AnomalyDetector(0.1, **DETECTING).fit(X).save(tmp_path / "array.safetensors")
    AnomalyDetector(0.1, **DETECTING).fit(frame).save(tmp_path / "frame.safetensors")
    frame.to_csv(tmp_path / "x.csv", index=False)
    frame.to_parquet(tmp_path / "x.parquet")
    frame[["c", "a", "b"]].to_csv(tmp_path / "order.csv", index=False)
    holes = frame.copy()
    holes.iloc[3, 1] = np.nan
    holes.to_csv(tmp_path / "holes.csv", index=False)
    frame.astype(object).assign(a=["word", *X[1:, 0]]).to_csv(tmp_path / "words.csv", index=False)
    return tmp_path


@pytest.mark.parametrize(
    ("learned", "data"),
    [("array", "x.csv"), ("array", "x.parquet"), ("frame", "x.csv"), ("frame", "x.parquet"), ("frame", "order.csv")],
)
def test_a_table_is_scored_by_a_detector_that_learned_from_numbers(
    learned: str, data: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = folder / "out.csv"
    code, _, err = run(capsys, "detect", "score", folder / f"{learned}.safetensors", folder / data, "--out", out)
    assert (code, err) == (0, "")
    found = pd.read_csv(out)
    detector = isthmus.load(folder / "array.safetensors")
    np.testing.assert_allclose(found["anomaly_score"], -detector.score_samples(X), rtol=1e-6, atol=1e-9)
    np.testing.assert_array_equal(found["anomaly"], detector.predict(X) == -1)
    assert found.loc[found["anomaly"], "reason_1"].notna().all()
    assert list(found.columns[:3]) == (["c", "a", "b"] if data == "order.csv" else NAMES)


def test_what_a_detector_of_numbers_cannot_score_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "detect", "score", folder / "array.safetensors", folder / "words.csv")
    told = "error: Column 'a' holds numbers, but also text such as 'word' (row 0); correct or empty these cells.\n"
    assert (code, err) == (1, told)
    code, _, err = run(capsys, "detect", "score", folder / "array.safetensors", folder / "holes.csv")
    assert code == 1
    assert err.startswith("error: X has 1 NaN value, at row 3, column 1; fill")
    out = folder / "out.csv"
    assert run(capsys, "detect", "score", folder / "frame.safetensors", folder / "holes.csv", "--out", out)[0] == 0
    scores = pd.read_csv(out)["anomaly_score"]
    assert scores.notna().all()
    assert scores[3] > -isthmus.load(folder / "frame.safetensors").score_samples(pd.DataFrame(X, columns=NAMES))[3]


# -- JSON --------------------------------------------------------------------------------------------------------------


def test_numbers_that_are_not_finite_are_null_in_every_json() -> None:
    facts = {"a": float("nan"), "b": [{"c": np.float32("inf")}], "d": np.int64(3), "e": np.float64(0.5), "f": (1, None)}
    assert json.loads(show.to_json(facts)) == {"a": None, "b": [{"c": None}], "d": 3, "e": 0.5, "f": [1, None]}
    assert show.to_json({"x": np.nan}, indent=None) == '{"x": null}'


def test_the_score_of_a_row_beyond_all_numbers_is_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "far.csv").write_text("a,b,c\n1e149,1,1\n")
    code, out, _ = run(capsys, "detect", "score", folder / "frame.safetensors", folder / "far.csv", "--json")
    assert code == 0

    def refuse(word: str) -> None:
        raise AssertionError(word)

    assert json.loads(out, parse_constant=refuse)["row"] == 0
