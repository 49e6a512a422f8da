"""Damaged files are refused in one class of error, or give the exact model; the heavy form is in the benchmarks."""

from __future__ import annotations

import random
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.reliability.damaged_files import GOLDEN, Parts, load_measured, originals, try_files

from isthmus import Autoencoder, load
from isthmus.exceptions import ModelFileError
from isthmus.files import State, read_state, write_state

N_FILES = 100
KINDS = sorted(path.stem for path in GOLDEN.glob("*.safetensors"))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A file of every kind in the present format and in format 1, by name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a model of two epochs is useless, and says so
        return {path.stem: path for path in originals(tmp_path_factory.mktemp("originals"))}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_refused_or_exact(kind: str, files: dict[str, Path], tmp_path: Path) -> None:
    for name in (kind, f"{kind}-1"):
        if name in files:
            counted = try_files(files[name], N_FILES, 7, tmp_path)
            assert counted["wrong"] == 0
            assert counted["refused"] > N_FILES // 4
            assert counted.total() == N_FILES


# -- what must be refused, and in which words --------------------------------------------------------------------------


def change(path: Path, place: tuple[Any, ...], value: Any, target: Path) -> Path:
    """A copy whose header says something else, signed again as if it had been written so."""
    parts = Parts.of(path)
    inner = parts.header
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    target.write_bytes(parts.content(sign=True))
    return target


FITTED = ("values", "fitted")
SHAPE = ("values", "context", "feature_shape")
REFUSED: list[tuple[str, tuple[Any, ...], Any, str]] = [
    ("dense", ("values", "params"), "abc", r"Expected `record`, got `str` - at `values\.params`"),
    (
        "dense",
        SHAPE,
        [-6],
        r"Expected `int` >= 1 - at `values\.context\.feature_shape",
    ),
    ("dense", SHAPE, [10**12], "do not fit its network: .* is needed"),
    ("dense", ("values", "context", "code_size"), 10**9, "do not fit its network: .* is needed"),
    ("dense", ("values", "context", "n_conditions"), 5 * 10**9, "do not fit its network: .* is needed"),
    ("dense", ("values", "params", "extra"), 1, "Unknown parameter of Autoencoder 'extra'"),
    ("dense", ("values", "extra"), 1, "contains unknown field `extra`"),
    ("dense", ("values", "history", 0, "loss"), "low", r"Expected `int \| float`, got `str` - at `values\.history\[0"),
    (
        "dense",
        (*FITTED, "code"),
        {"class": ["a"], "params": {}},
        r"Expected `str`, got `array` - at `choice\.class",
    ),
    ("dense", (*FITTED, "network", "choice"), "penalty", "Unknown penalty in the model file 'Dense'"),
    ("dense", (*FITTED, "network", "choice"), "nets", "Unknown kind of choice 'nets'"),
    ("dense", (*FITTED, "loss"), None, "it has no loss"),
    (
        "dense",
        (*FITTED, "network", "params", "hidden_sizes"),
        {"tuple": [3] * 5000},
        "more layers than the file",
    ),
    ("dense-frame", ("values", "feature_names"), ["a"], "feature_names has 1 entries, but 6 are needed"),
    ("conditional", ("values", "classes", "values"), ["a"], "classes has 1 entries, but 2 are needed"),
    ("conditional", ("values", "classes", "dtype"), "V999999999", "labels have no dtype 'V999999999'"),
    ("convolutional", SHAPE, [8, 10**6], "do not fit its network"),
    (
        "convolutional",
        (*FITTED, "network", "params", "n_residual_blocks"),
        10**9,
        "more layers than the file",
    ),
    ("detector", ("values", "model", "hidden_size"), 10**9, "do not fit its network: .* is needed"),
    ("detector", ("values", "columns_shape"), [10**9], "features, columns and names contradict each other"),
    (
        "detector",
        ("values", "parts"),
        ["density", "other"],
        "must be some of marginal, relation, reconstruction, neighbours, nearest, local, density",
    ),
    ("detector-table", ("values", "schema", "columns"), 5, r"Expected `array`, got `int` - at `schema\.columns`"),
    ("detector-table", ("values", "schema", "columns", 0, "kind"), "wide", r"schema\.columns\[0\] has an unknown kind"),
    ("detector-table", ("values", "schema", "columns", 0, "mean"), "x", r"got `str` - at `schema\.columns\[0\]\.mean`"),
    ("imputer-table", ("values", "schema", "columns", 0, "extra"), 1, "`extra` is unknown or not finite"),
    ("imputer", ("values", "params", "kinds"), {"mapping": [[1]]}, "a mapping that is not a list of names"),
    ("imputer", ("values", "n_members"), 10**9, "fewer arrays than n_members=1000000000"),
    ("imputer", ("values", "hidden_sizes"), [10**9], "do not fit its network"),
    ("signals", ("values", "window"), 13, "a window is not 24 numbers"),
    ("recommender", ("values", "deep", "kind"), "Recommender", "does not fit"),
    ("recommender", ("kind",), "Imputer", "does not fit"),
]


@pytest.mark.parametrize(("kind", "place", "value", "text"), REFUSED)
def test_a_wrong_field_is_named(  # noqa: PLR0917  # one a column of the table above
    kind: str, place: tuple[Any, ...], value: Any, text: str, files: dict[str, Path], tmp_path: Path
) -> None:
    path = change(files[kind], place, value, tmp_path / "m.safetensors")
    with pytest.raises(ModelFileError, match=text) as error:
        load_measured(path)
    assert str(path) in str(error.value)


ARRAYS: list[tuple[str, str, Any, str]] = [
    ("dense", "weights.encoder.0.bias", np.nan, "has 1 values that are NaN or infinite"),
    ("dense", "weights.decoder.0.weight", np.inf, "has 1 values that are NaN or infinite"),
    ("dense", "scaling.factor", np.nan, "'factor' has 1 values that are NaN or infinite"),
    ("detector", "ranges", np.nan, "'ranges' has 1 values that are NaN"),
    ("detector", "scorer.memory.codes", np.nan, "'memory.codes' has 1 values that are NaN"),
    ("imputer", "linear.covariance", np.inf, "'linear.covariance' has 1 values that are NaN"),
    ("recommender", "log.indices", 2**31 - 1, "'log.indices' names items beyond the 14 there are"),
    ("recommender", "log.indices", -1, "'log.indices' names items beyond the 14 there are"),
    ("recommender", "log.indptr", 1000, "'log.indptr' does not divide 120 entries among 24 users"),
    ("recommender", "log.data", np.nan, "'log.data' has 1 values that are NaN"),
    ("recommender", "path.items", 99, "'path.items' is not ascending or names items beyond"),
    ("recommender", "items", 101, "'items' holds a name twice"),
]


@pytest.mark.parametrize(("kind", "name", "value", "text"), ARRAYS)
def test_a_wrong_number_is_named(  # noqa: PLR0917  # one a column of the table above
    kind: str, name: str, value: Any, text: str, files: dict[str, Path], tmp_path: Path
) -> None:
    parts = Parts.of(files[kind])
    array = np.array(parts.arrays[name])
    array.reshape(-1)[array.size // 2] = value
    parts.arrays[name] = array
    path = tmp_path / "m.safetensors"
    path.write_bytes(parts.content(sign=True))
    with pytest.raises(ModelFileError, match=text):
        load_measured(path)


@pytest.mark.parametrize("seed", range(30))
def test_a_single_bit_of_the_numbers_is_noticed(seed: int, files: dict[str, Path], tmp_path: Path) -> None:
    draw = random.Random(seed)
    content = bytearray(files["dense"].read_bytes())
    start = 8 + int.from_bytes(content[:8], "little")
    content[draw.randrange(start, len(content))] ^= 1 << draw.randrange(8)
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError, match="has changed since it was written: its SHA-256 digest is not"):
        load(tmp_path / "m.safetensors")


def test_a_digest_that_is_missing_is_noticed(files: dict[str, Path], tmp_path: Path) -> None:
    content = files["dense"].read_bytes().replace(b"isthmus.sha256", b"isthmus.sha255")
    (tmp_path / "m.safetensors").write_bytes(content)
    with pytest.raises(ModelFileError, match=r"it has no 'isthmus\.sha256' entry"):
        load(tmp_path / "m.safetensors")


def test_a_model_that_never_learned_is_not_written(tmp_path: Path) -> None:
    import torch  # noqa: PLC0415

    rows = np.random.default_rng(0).random((20, 4))
    model = Autoencoder(2, network=(3,), max_epochs=1, random_state=0).fit(rows)
    path = model.save(tmp_path / "m.safetensors")
    before = path.read_bytes()
    with torch.no_grad():
        next(model.objective_.parameters())[0] = torch.nan
    with pytest.raises(ModelFileError, match="NaN or infinite; the model was damaged or its training diverged"):
        model.save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_json_has_not_come_back(value: float, tmp_path: Path) -> None:
    path = write_state(tmp_path / "m.safetensors", State("Imputer", {"a": [value, {"b": value}], "c": 1.5}))
    found = read_state(path).values
    np.testing.assert_equal(found, {"a": [value, {"b": value}], "c": 1.5})
    assert b"Infinity," not in path.read_bytes()


def test_values_that_json_cannot_hold_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="is a set, which a model file cannot store"):
        write_state(tmp_path / "m.safetensors", State("Imputer", {"a": {1, 2}}))
    assert list(tmp_path.iterdir()) == []
