"""``isthmus serve``: its errors; that it serves is in tests/serving/test_server.py."""

from __future__ import annotations

import importlib.util
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isthmus
from isthmus.cli import main


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    X = np.random.default_rng(0).random((20, 3))
    path = tmp_path_factory.mktemp("cli") / "model.safetensors"
    return Path(isthmus.Autoencoder(2, max_epochs=1, random_state=0).fit(X).save(path))


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(["serve", *map(str, words)])
    code = stopped.value.code
    assert isinstance(code, int)
    return code


def test_the_flags_become_limits(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = dict[str, Any]()

    def serve(path: Path, **more: Any) -> int:
        seen.update(more, path=path)
        more["ready"]("http://127.0.0.1:9")
        return 1234

    monkeypatch.setattr(isthmus.serving, "serve", serve)
    flags = ("--host", "localhost", "--port", 9, "--max-body", 2, "--max-rows", 7, "--seconds", 1.5, "--max-waiting", 3)
    assert run(model, *flags, "--device", "cpu") == 0
    assert seen.pop("limits") == isthmus.serving.Limits(max_body=2_000_000, max_rows=7, seconds=1.5, max_waiting=3)
    del seen["ready"]
    assert seen == {"path": model, "host": "localhost", "port": 9, "device": "cpu"}
    told = capsys.readouterr().out.splitlines()
    assert told == [
        f"serving {model} at http://127.0.0.1:9 (what it can be asked: http://127.0.0.1:9/docs); Ctrl-C ends it",
        "ended; requests answered: 1,234",
    ]


def test_it_listens_on_this_machine_only_unless_told_otherwise(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = dict[str, Any]()
    monkeypatch.setattr(isthmus.serving, "serve", lambda _path, **more: seen.update(more) or 0)
    assert run(model) == 0
    assert (seen["host"], seen["port"]) == ("127.0.0.1", 8000)


def test_a_port_in_use_is_one_line(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert run(model, "--port", port) == 1
    assert capsys.readouterr().err == (
        f"error: Port {port} of 127.0.0.1 is in use; end the program that uses it, or choose another port.\n"
    )


def test_a_file_that_is_no_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "missing.safetensors", "--port", 0) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ")
    assert "missing.safetensors" in told
    assert told.count("\n") == 1


def test_a_wrong_flag_is_wrong_usage(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(model, "--port", 70000) == 2
    assert "Invalid value for '--port'" in capsys.readouterr().err


def test_without_the_extra_the_error_names_it(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util,
        "find_spec",
        lambda name, *rest: None if name == "uvicorn" else find(name, *rest),
    )
    assert run(model) == 1
    assert "Serving needs uvicorn, which is not installed; install it with: pip install 'isthmus[serve]'." in (
        capsys.readouterr().err
    )
