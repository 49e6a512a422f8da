"""Model files of released versions load, and their models answer as they did on the day they were saved."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

GOLDEN = Path(__file__).parent / "golden"
FILES = sorted(GOLDEN.glob("*/*.safetensors"))


def _maker() -> ModuleType:
    """The script that made the files, which knows what to ask of each kind."""
    spec = importlib.util.spec_from_file_location("golden_make", GOLDEN / "make.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


MAKER = _maker()


def changed_on_purpose(wanted: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Where answers may differ from those of the version that saved the file, and why."""
    changed: dict[str, np.ndarray] = {}
    if {"predict", "threshold_"} <= wanted.keys():  # a row exactly on the threshold is not an anomaly since 0.2
        changed["predict"] = np.isclose(-wanted["score_samples"], wanted["threshold_"], rtol=1e-5)
    if "user_embeddings" in wanted:  # users with nothing that counts were never trained: their code is zero since 0.2
        changed["user_embeddings"] = np.abs(wanted["user_embeddings"]).max(axis=1, keepdims=True) < 0.01
    return changed


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_golden_file_answers_as_when_it_was_saved(path: Path) -> None:
    X = MAKER.read_rows(path.parent, path.stem)
    found = MAKER.answers(path.stem, path, X)
    with np.load(path.with_suffix(".npz")) as stored:
        wanted = {name.removeprefix("answer."): stored[name] for name in stored.files if name != "X"}
    assert sorted(found) == sorted(wanted)
    changed = changed_on_purpose(wanted)
    for name, answer in wanted.items():
        if name in changed:
            found[name] = np.where(changed[name], answer, found[name])
        if name == "p_values":
            # A share of calibration rows: on another processor a score may pass the calibration row next to it, when
            # both agree to single precision. One row is one step of the grid; the scores themselves are compared, too.
            step = answer.min()  # of one row of n + 1; the odd rows of the file reach it
            np.testing.assert_allclose(found[name], answer, atol=step + 1e-9, err_msg=name)
        elif answer.dtype.kind == "f":  # another machine's matrix library rounds otherwise
            np.testing.assert_allclose(found[name], answer, rtol=2e-4, atol=2e-5, err_msg=name)
        elif answer.dtype == np.uint8:
            np.testing.assert_allclose(found[name].astype(int), answer.astype(int), atol=1, err_msg=name)
        else:
            np.testing.assert_array_equal(found[name], answer, err_msg=name)


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in version.split("."))


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0"])
def test_every_kind_of_model_has_a_golden_file(version: str) -> None:
    there = {path.stem for path in (GOLDEN / version).glob("*.safetensors")}
    assert there == {name for name, case in MAKER.CASES.items() if _order(case.since) <= _order(version)}
