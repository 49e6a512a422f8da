"""The command line, as a user types it: answers, errors of one line, exit codes, nothing half-written."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import isthmus
from isthmus.cli import main

FAST = ["--epochs", "2", "--code-size", "3", "--seed", "0", "--quiet"]


class Answer(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path):  # type: ignore[no-untyped-def]
    """Run a command in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*words: object) -> Answer:
        with pytest.raises(SystemExit) as stopped:
            main([str(word) for word in words])
        return Answer(int(stopped.value.code or 0), *capsys.readouterr())

    return call


@pytest.fixture
def fitted(run, tmp_path: Path) -> Path:  # type: ignore[no-untyped-def]
    answer = run("fit", "digits", *FAST, "--out", "m.safetensors")
    assert answer.code == 0, answer.err
    return tmp_path / "m.safetensors"


def test_fit_saves_a_model_and_sums_up(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    answer = run("fit", "digits", "--kind", "denoising", *FAST, "--out", "m.safetensors", "--report")
    assert answer.code == 0
    assert "DenoisingAutoencoder, 8×8 → 128 → 64 → 3 → 64 → 128 → 8×8" in answer.out
    assert type(isthmus.load(tmp_path / "m.safetensors")).__name__ == "DenoisingAutoencoder"
    assert (tmp_path / "m.html").stat().st_size > 10_000


def test_set_reaches_every_parameter_and_flags_win(run) -> None:  # type: ignore[no-untyped-def]
    words = ["--set", "corruption=masking", "--set", "corruption.fraction=0.4", "--set", "network.hidden_sizes=32,16"]
    answer = run("fit", "digits", *words, "--set", "code_size=9", "--code-size", "5", "--dry-run")
    settings = tomllib.loads(answer.out)
    assert settings["corruption"] == {"name": "Masking", "fraction": 0.4}
    assert settings["network"]["hidden_sizes"] == [32, 16]
    assert settings["code_size"] == 5


def test_what_dry_run_prints_can_be_given_back(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    first = run("fit", "digits", "--kind", "sparse", "--set", "penalty.weight=0.5", "--dry-run")
    (tmp_path / "run.toml").write_text(first.out)
    again = run("fit", "digits", "--config", "run.toml", "--dry-run")
    assert again.out == first.out
    assert tomllib.loads(again.out)["penalty"] == {"name": "L1", "weight": 0.5}


@pytest.mark.parametrize("ending", ["csv", "npy", "parquet"])
def test_codes_and_reconstructions_follow_the_ending(run, fitted: Path, ending: str) -> None:  # type: ignore[no-untyped-def]
    assert run("encode", fitted, "digits", "--out", f"z.{ending}").code == 0
    codes = np.asarray(isthmus.read(f"z.{ending}").X)
    np.testing.assert_allclose(codes, isthmus.load(fitted).transform(isthmus.read("digits").X), rtol=1e-6)
    assert run("reconstruct", fitted, "digits", "--out", f"x.{ending}").code == 0
    assert len(isthmus.read(f"x.{ending}").X) == 1797


def test_score_writes_two_columns_or_prints_a_summary(run, fitted: Path) -> None:  # type: ignore[no-untyped-def]
    assert run("score", fitted, "digits", "--out", "s.csv").code == 0
    frame = pd.read_csv("s.csv")
    assert list(frame.columns) == ["score", "reconstruction_error"]
    assert len(frame) == 1797
    assert "squared error (mean)" in run("score", fitted, "digits").out


def test_info_tells_layers_and_settings_also_as_json(run, fitted: Path) -> None:  # type: ignore[no-untyped-def]
    assert "encoder  Dense" in run("info", fitted).out
    facts = json.loads(run("info", fitted, "--json").out)
    assert (facts["kind"], facts["code_size"], facts["epochs"]) == ("Autoencoder", 3, 2)


def test_report_of_a_saved_model(run, fitted: Path) -> None:  # type: ignore[no-untyped-def]
    assert run("report", fitted, "digits", "--out", "r.html").code == 0
    assert Path("r.html").read_text().startswith("<!doctype html>")


def test_datasets_and_kinds_are_listed(run) -> None:  # type: ignore[no-untyped-def]
    assert "fashion-mnist" in run("datasets").out
    assert {info["name"] for info in json.loads(run("datasets", "--json").out)} >= {"digits", "mnist"}
    listed = run("kinds").out
    assert "DenoisingAutoencoder" in listed
    assert "corruption.fraction=0.3" in listed


def test_a_table_and_a_folder_of_images_are_fitted(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=list("abc")).to_csv("t.csv", index=False)
    assert run("fit", "t.csv", *FAST, "--validation", "0.2", "--out", "t.safetensors").code == 0
    assert run("reconstruct", "t.safetensors", "t.csv", "--out", "back.csv").code == 0
    assert list(pd.read_csv("back.csv").columns) == list("abc")
    (tmp_path / "images").mkdir()
    for name in "abcd":
        Image.new("L", (6, 5), 7).save(tmp_path / "images" / f"{name}.png")
    (tmp_path / "images" / "torn.png").write_bytes(b"torn")
    refused = run("fit", "images", *FAST, "--out", "i.safetensors")
    assert refused.code == 1
    assert "torn.png (unreadable)" in refused.err
    assert "--skip-bad" in refused.err
    assert run("fit", "images", *FAST, "--skip-bad", "--out", "i.safetensors").code == 0


def test_demo_leaves_model_pictures_and_report(run) -> None:  # type: ignore[no-untyped-def]
    answer = run("demo", "--out", "d", "--epochs", "2", "--quiet")
    assert answer.code == 0
    assert "PCA with 16 components" in answer.out
    assert {path.name for path in Path("d").iterdir()} == {
        "digits.safetensors",
        "report.html",
        "reconstructions.png",
        "codes.png",
    }


def test_checkpoint_and_resume(run) -> None:  # type: ignore[no-untyped-def]
    assert run("fit", "digits", *FAST, "--checkpoint", "c.ckpt", "--out", "a.safetensors").code == 0
    assert run("fit", "digits", *FAST, "--resume", "c.ckpt", "--out", "b.safetensors").code == 0
    X = isthmus.read("digits").X
    assert np.array_equal(isthmus.load("a.safetensors").transform(X), isthmus.load("b.safetensors").transform(X))


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["fit", "digits", "--kind", "denoisin"], 2, "Unknown kind 'denoisin'; did you mean 'denoising'?"),
        (["fit", "digits", "--set", "corruption=mask"], 2, "Unknown corruption 'mask'; did you mean 'masking'?"),
        (["fit", "digits", "--set", "corupton=masking"], 2, "did you mean 'corruption'?"),
        (["fit", "digits", "--set", "network.hiden_sizes=3"], 2, "did you mean 'hidden_sizes'?"),
        (
            ["fit", "digits", "--set", "corruption.fraction=0.3"],
            2,
            "corruption=None has no parameters to set; choose a member first",
        ),
        (["fit", "digits", "--set", "nonsense"], 2, "is not a setting; write NAME=VALUE"),
        (["fit", "digits", "--code-size", "0"], 2, "code_size=0 must be an integer >= 1"),
        (["fit", "digits", "--code-size", "-4"], 2, "code_size=-4 must be an integer >= 1"),
        (["fit", "digits", "--code-size", "2.5"], 2, "valid integer"),
        (["fit", "digits", "--epochs", "0"], 2, "max_epochs=0 must be"),
        (["fit", "digits", "--config", "none.toml"], 2, "cannot be read"),
        (["fit", "digits", "--device", "gpu"], 2, "device='gpu' is not a device"),
        (["fit", "nothing.csv"], 1, "There is no file, folder or dataset 'nothing.csv'"),
        (["fit", "text.csv"], 1, "1 column that is not numeric: 'city'"),
        (["fit", "hole.csv"], 1, "1 NaN value, at row 1, column 1 ('b')"),
        (["fit", "one.csv"], 1, "1 sample"),
        (["fit", "digits", "--out", "none/m.safetensors"], 1, "there is no folder 'none'"),
        (["fit", "digits", "--out", "there.safetensors"], 1, "exists; choose another name"),
        (["fit", "wide.csv", "--set", "loss=binary-cross-entropy"], 2, "must lie in [0, 1]"),
        (["encode", "none.safetensors", "digits", "--out", "z.npy"], 1, "There is no model file at"),
        (["encode", "there.safetensors", "digits", "--out", "z.npy"], 1, "cannot be read as a model file"),
        (["encode", "there.safetensors", "digits", "--out", "z.txt"], 1, "has the suffix '.txt'"),
        (["encode", "there.safetensors", "digits"], 2, "Missing option '--out'"),
        (["info", "none.safetensors"], 1, "There is no model file at"),
        (["fti"], 2, "No such command 'fti'"),
        (["fit"], 2, "Missing argument 'DATA'"),
    ],
)
def test_wrong_use_and_bad_data_are_one_line_and_leave_nothing(  # type: ignore[no-untyped-def]
    run, tmp_path: Path, words: list[str], code: int, text: str
) -> None:
    (tmp_path / "text.csv").write_text("age,city\n1,a\n2,b\n")
    (tmp_path / "hole.csv").write_text("a,b\n1,2\n3,\n5,6\n")
    (tmp_path / "one.csv").write_text("a,b\n1,2\n")
    (tmp_path / "wide.csv").write_text("a,b\n1,2\n3,4\n5,6\n")
    (tmp_path / "there.safetensors").write_bytes(b"old")
    before = sorted(tmp_path.iterdir())
    answer = run(*words)
    assert answer.code == code, answer
    assert answer.err.startswith("error: ")
    assert text in answer.err
    assert "Traceback" not in answer.err
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there.safetensors").read_bytes() == b"old"


def test_debug_shows_the_traceback(run) -> None:  # type: ignore[no-untyped-def]
    for words in (["--debug", "fit", "nothing.csv"], ["fit", "nothing.csv", "--debug"]):
        answer = run(*words)
        assert answer.code == 1
        assert "Traceback (most recent call last)" in answer.err
        assert "isthmus.exceptions.DataError: There is no file" in answer.err
    assert "Traceback" not in run("fit", "nothing.csv").err


def test_the_wrong_number_of_features_is_told(run, fitted: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    np.save(tmp_path / "x.npy", np.zeros((4, 3)))
    answer = run("encode", fitted, "x.npy", "--out", "z.npy")
    assert "X has 3 features, but Autoencoder is expecting 64 features as input." in answer.err
    assert not (tmp_path / "z.npy").exists()


def test_version_and_help_come_without_torch() -> None:
    code = (
        "import sys; from isthmus.cli import main\n"
        "try: main([*sys.argv[1:]])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'sklearn', 'pandas', 'matplotlib', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    for words in (["--help"], ["--version"], ["fit", "--help"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    assert "--code-size" in done.stdout


INTERRUPTED = """
import os, signal, sys, isthmus
from isthmus.cli import main
from isthmus.training import loop
whole = loop._measure
def measure(run, *rest):
    if run.epoch == 3:
        os.kill(os.getpid(), signal.SIGINT)
    return whole(run, *rest)
loop._measure = measure
main(["fit", "digits", "--epochs", "50", "--code-size", "3", "--quiet", "--out", sys.argv[1]])
"""


def test_ctrl_c_saves_the_best_so_far_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(path)], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 1, done.stderr
    # the signal comes when the steps of epoch 4 are taken: that epoch is finished, and the next one is not begun
    assert "warning: Training was interrupted in epoch 5; the weights of epoch 4 are kept." in done.stderr
    assert isthmus.load(path).n_epochs_ == 4
