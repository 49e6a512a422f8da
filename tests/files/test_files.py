"""Model files and result files: whole or not at all, and refused in one sentence when they are not ours."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save, save_file

import isthmus
from isthmus import Autoencoder
from isthmus.exceptions import ModelFileError, OutputError
from isthmus.files import FORMAT_VERSION, State, read_state, state_of_bytes, state_to_bytes, write_rows, write_state
from isthmus.files.model_file import digest

STATE = State("Autoencoder", {"text": "é", "number": 1.5, "list": [1, None]}, {"a": np.arange(6.0).reshape(2, 3)})


def test_a_state_comes_back_as_it_was(tmp_path: Path) -> None:
    found = read_state(write_state(tmp_path / "s.safetensors", STATE))
    assert (found.kind, found.values, found.library_version) == (STATE.kind, STATE.values, isthmus.__version__)
    np.testing.assert_array_equal(found.arrays["a"], STATE.arrays["a"])


def test_a_state_in_memory_is_its_file_and_the_same_each_time(tmp_path: Path) -> None:
    written = {write_state(tmp_path / f"{k}.safetensors", STATE).read_bytes() for k in range(10)}
    assert written | {state_to_bytes(STATE) for _ in range(10)} == {state_to_bytes(STATE)}
    found = state_of_bytes(state_to_bytes(STATE), "the pickle")
    assert (found.kind, found.values, found.library_version) == (STATE.kind, STATE.values, isthmus.__version__)
    assert found.arrays["a"].tobytes() == STATE.arrays["a"].tobytes()
    assert found.arrays["a"].flags.writeable


def test_quotes_and_backslashes_in_the_header_do_not_disturb_its_order() -> None:
    nasty = {"text": 'a"\\\\"b\\', '"isthmus.sha256":"' + "0" * 64 + '"': 'é\n","'}
    state = State("Autoencoder", nasty, {})
    assert state_of_bytes(state_to_bytes(state), "the pickle").values == nasty
    assert len({state_to_bytes(state) for _ in range(10)}) == 1


def test_bytes_in_memory_are_checked_as_files_are() -> None:
    whole = state_to_bytes(STATE)
    for keep in (0, 5, 100, len(whole) - 10):
        with pytest.raises(ModelFileError, match="'the pickle' cannot be read as a model file"):
            state_of_bytes(whole[:keep], "the pickle")
    flipped = bytearray(whole)
    flipped[-1] ^= 1
    with pytest.raises(ModelFileError, match="'the pickle' has changed since it was written: its SHA-256 digest"):
        state_of_bytes(bytes(flipped), "the pickle")
    other = save({"a": np.zeros(1)}, {"isthmus": "{"})
    with pytest.raises(ModelFileError, match="The header of 'the pickle' is damaged"):
        state_of_bytes(other, "the pickle")
    with pytest.raises(ModelFileError, match="'the pickle' is a safetensors file, but not a model file of isthmus"):
        state_of_bytes(save({"a": np.zeros(1)}), "the pickle")


def header(**changes: Any) -> dict[str, str]:
    known = {"format": FORMAT_VERSION, "library": "9.9", "kind": "Autoencoder", "values": {}}
    text = json.dumps({**known, **changes})
    return {"isthmus": text, "isthmus.sha256": digest(text, {"a": np.zeros(1)})}


@pytest.mark.parametrize(
    ("metadata", "text"),
    [
        (header(format=99), f"has format 99, but this isthmus .* reads up to {FORMAT_VERSION}; install isthmus 9.9"),
        ({"other": "x"}, "not a model file of isthmus"),
        ({"isthmus": "{"}, "header of .* is damaged"),
        ({"isthmus": "{}"}, "header of .* is damaged"),
        (header(kind="Forest"), "it contains a 'Forest', which this isthmus"),
        (header(kind="GaussianNoise"), "contains a 'GaussianNoise', which this isthmus"),
    ],
)
def test_foreign_and_newer_files_are_refused(metadata: dict[str, str], text: str, tmp_path: Path) -> None:
    save_file({"a": np.zeros(1)}, tmp_path / "m.safetensors", metadata)
    with pytest.raises(ModelFileError, match=text):
        isthmus.load(tmp_path / "m.safetensors")


@pytest.fixture
def model(digits: np.ndarray) -> Autoencoder:
    return Autoencoder(3, max_epochs=1, random_state=0).fit(digits)


@pytest.mark.parametrize("keep", [0, 5, 100, -10])
def test_truncated_files_are_refused(keep: int, model: Autoencoder, tmp_path: Path) -> None:
    path = model.save(tmp_path / "m.safetensors")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ModelFileError, match="cannot be read as a model file"):
        isthmus.load(path)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="There is no model file at"):
        isthmus.load(tmp_path / "none.safetensors")


def test_weights_of_another_network_are_refused(model: Autoencoder, tmp_path: Path) -> None:
    state = read_state(model.save(tmp_path / "m.safetensors"))
    arrays = {name: array for name, array in state.arrays.items() if "decoder" not in name}
    write_state(tmp_path / "m.safetensors", State(state.kind, state.values, arrays))
    with pytest.raises(ModelFileError, match=r"do not fit its network: missing \['decoder"):
        isthmus.load(tmp_path / "m.safetensors")


def test_an_unknown_choice_in_a_file_is_refused(model: Autoencoder, tmp_path: Path) -> None:
    state = read_state(model.save(tmp_path / "m.safetensors"))
    params = {**state.values["params"], "penalty": {"class": "L3", "params": {}}}
    write_state(tmp_path / "m.safetensors", State(state.kind, {**state.values, "params": params}, state.arrays))
    with pytest.raises(ModelFileError, match=r"Unknown penalty in the model file 'L3'.*import the module"):
        isthmus.load(tmp_path / "m.safetensors")


def test_modules_of_the_user_must_be_given_again(digits: np.ndarray, tmp_path: Path) -> None:
    from torch import nn  # noqa: PLC0415

    network = (nn.Linear(64, 3), nn.Linear(3, 64))
    fitted = Autoencoder(3, network=network, max_epochs=1, random_state=0).fit(digits)
    path = fitted.save(tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=r"pass them again: isthmus\.load\(path, network="):
        isthmus.load(path)
    assert np.array_equal(isthmus.load(path, network=network).transform(digits), fitted.transform(digits))


KILLED = """
import os, signal, sys, numpy as np
from isthmus.files import State, write_state
import isthmus.atomic
isthmus.atomic._commit = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
write_state(sys.argv[1], State("Autoencoder", {}, {"a": np.zeros(10)}))
"""


def test_a_process_killed_while_saving_leaves_the_old_file_whole(model: Autoencoder, tmp_path: Path) -> None:
    path = model.save(tmp_path / "m.safetensors")
    before = path.read_bytes()
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    assert isthmus.load(path).code_size == 3


def test_a_full_disk_is_one_error_and_leaves_nothing(
    model: Autoencoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = model.save(tmp_path / "m.safetensors")
    before = path.read_bytes()
    monkeypatch.setattr("isthmus.files.model_file.save_file", full)
    with pytest.raises(OutputError, match="the disk is full; free some space or choose another path"):
        model.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["m.safetensors"]
    assert path.read_bytes() == before


def test_a_path_that_cannot_be_written_is_refused(model: Autoencoder, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="there is no folder"):
        model.save(tmp_path / "none" / "m.safetensors")
    with pytest.raises(OutputError, match="is a folder; use the name of a file in it"):
        model.save(tmp_path)
    (tmp_path / "there.npy").write_bytes(b"old")
    with pytest.raises(OutputError, match=r"exists; choose another name.*--force"):
        write_rows(tmp_path / "there.npy", [np.zeros((2, 2))])
    if os.geteuid() != 0:
        tmp_path.chmod(0o500)
        with pytest.raises(OutputError, match="is not writable"):
            model.save(tmp_path / "m.safetensors")


@given(
    n_chunks=st.integers(1, 4),
    width=st.integers(1, 4),
    ending=st.sampled_from(["npy", "csv", "parquet"]),
    dtype=st.sampled_from([np.float32, np.float64, np.uint8]),
)
@settings(max_examples=25, deadline=None)
def test_rows_come_back_as_they_were(
    n_chunks: int, width: int, ending: str, dtype: type, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("rows") / f"rows.{ending}"
    chunks: list[np.ndarray] = [
        (np.random.default_rng(i).random((i + 1, width)) * 255).astype(dtype) for i in range(n_chunks)
    ]
    assert write_rows(path, iter(chunks)) == sum(map(len, chunks))
    np.testing.assert_allclose(np.asarray(isthmus.read(path).X, dtype=dtype), np.concatenate(chunks), rtol=1e-6)


def test_images_keep_their_shape_in_npy_and_are_flat_in_tables(tmp_path: Path) -> None:
    images = np.zeros((3, 2, 2), np.uint8)
    write_rows(tmp_path / "a.npy", [images, images])
    assert np.load(tmp_path / "a.npy").shape == (6, 2, 2)
    write_rows(tmp_path / "a.csv", [images], columns=["p", "q", "r", "s"])
    assert list(pd.read_csv(tmp_path / "a.csv").columns) == ["p", "q", "r", "s"]


def test_numbers_of_one_dimension_are_one_column(tmp_path: Path) -> None:
    write_rows(tmp_path / "a.csv", [np.arange(3.0)], columns=["score"])
    assert pd.read_csv(tmp_path / "a.csv")["score"].tolist() == [0.0, 1.0, 2.0]


def test_rows_that_cannot_be_written_leave_nothing(tmp_path: Path) -> None:
    def breaks() -> Any:
        yield np.zeros((2, 2))
        raise RuntimeError("no more")

    for ending in ("npy", "csv", "parquet"):
        with pytest.raises(RuntimeError, match="no more"):
            write_rows(tmp_path / f"a.{ending}", breaks())
    with pytest.raises(OutputError, match="There are 0 rows to write"):
        write_rows(tmp_path / "a.npy", [])
    with pytest.raises(OutputError, match=r"has the suffix '\.txt'; use one of \.npy, \.csv, \.parquet"):
        write_rows(tmp_path / "a.txt", [np.zeros((2, 2))])
    with pytest.raises(OutputError, match="The rows have 2 columns, but 3 names were given"):
        write_rows(tmp_path / "a.csv", [np.zeros((2, 2))], columns=list("abc"))
    assert not list(tmp_path.iterdir())
