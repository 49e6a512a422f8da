"""Choosing hyper-parameters: the curve, the criterion, time, resuming, refusals."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA

from isthmus import Autoencoder, DataError, LinearAutoencoder, choose
from isthmus.report.choosing import plot_code_sizes
from isthmus.seeds import seed_from
from isthmus.tasks.choosing.choose import elbow
from isthmus.tasks.choosing.deadline import Deadline, seconds_of

DRAW = np.random.default_rng(0)
X = (
    DRAW.normal(size=(120, 3)) @ DRAW.normal(size=(3, 8)) * [1, 10, 1, 1, 5, 1, 1, 100]
    + DRAW.normal(size=(120, 8)) * 0.01
)
QUICK = Autoencoder(network=(), max_epochs=100)
FIXED: Any = {"estimator": QUICK, "budget": 600, "random_state": 0}


def test_the_curve_falls_to_the_rank_beside_pca() -> None:
    linear = LinearAutoencoder(scaling="standard", max_epochs=20)
    found = choose(X, 600, estimator=linear, n_trials=0, code_sizes=[1, 2, 3, 5], random_state=0)
    assert found.curve["code_size"].tolist() == [1, 2, 3, 5]
    assert found.code_size == 3
    assert "larger codes lower it by at most" in found.reason
    assert found.estimator.transform(X).shape == (120, 3)
    order = np.random.default_rng(seed_from(0)).permutation(120)
    train, test = X[np.sort(order[24:])], X[np.sort(order[:24])]
    model = found.estimator
    unit = (train - model.feature_mean_) / model.feature_scale_, (test - model.feature_mean_) / model.feature_scale_
    pca = PCA(2).fit(unit[0])
    left = np.square(pca.inverse_transform(pca.transform(unit[1])) - unit[1]).sum() / np.square(unit[1]).sum()
    assert found.curve["pca_error"][1] == pytest.approx(left**0.5, rel=1e-3)
    np.testing.assert_allclose(found.curve["error"], found.curve["pca_error"], atol=1e-3)
    assert found.curve["error"][2] == pytest.approx((1 - model.restored_variance(test)) ** 0.5, rel=1e-6)
    assert found.table["trial"].tolist() == ["default"]
    assert plot_code_sizes(found).get_xlabel() == "code size"


def test_the_elbow_says_why() -> None:
    size, reason = elbow([1, 2, 4, 8], [0.9, 0.5, 0.2, 0.19])
    assert size == 4
    assert reason == (
        "With 4 the error is 0.2, with 2 it is 0.5; larger codes lower it by at most 0.01, less than 5% of the fall "
        "from 0.9 to 0.19."
    )
    assert elbow([1, 2], [0.5, 0.6]) == (1, "No code larger than 1 lowers the error of 0.5.")
    size, reason = elbow([1, 2, 4], [0.9, 0.6, 0.3])
    assert size == 4
    assert "still falls at the largest size" in reason


def test_a_search_goes_on_where_it_was_killed_and_ends_as_an_uninterrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("optuna")
    monkeypatch.setitem(FIXED, "estimator", Autoencoder(max_epochs=8))
    whole = choose(X, n_trials=3, code_sizes=[2], folder=tmp_path / "whole", **FIXED)
    choose(X, n_trials=1, code_sizes=[2], folder=tmp_path / "cut", **FIXED)
    ledger = tmp_path / "cut" / "trials.jsonl"
    with ledger.open("a", encoding="utf-8") as file:
        file.write('{"kind": "trial", "num')  # killed while it wrote
    resumed = choose(X, n_trials=3, code_sizes=[2], folder=tmp_path / "cut", **FIXED)
    kept = ["trial", "error", "state", "depth", "learning_rate", "penalty_weight"]
    pd.testing.assert_frame_equal(resumed.table[kept], whole.table[kept])
    np.testing.assert_array_equal(resumed.estimator.transform(X), whole.estimator.transform(X))
    assert whole.table["error"].iloc[0] <= whole.table.set_index("trial")["error"]["default"]
    lines = [json.loads(line) for line in ledger.read_text(encoding="utf-8").splitlines()]
    assert [line["number"] for line in lines if line.get("kind") == "trial"] == [0, 1, 2]
    with pytest.raises(DataError, match="begun with another data"):
        choose(X + 1, n_trials=3, code_sizes=[2], folder=tmp_path / "cut", **FIXED)
    ledger.write_text("no json\n", encoding="utf-8")
    with pytest.raises(DataError, match="is damaged"):
        choose(X, n_trials=3, code_sizes=[2], folder=tmp_path / "cut", **FIXED)


def test_labels_and_scorers_replace_the_restoration() -> None:
    y = np.where(X[:, 0] > 0, "high", "low")
    found = choose(X, n_trials=0, code_sizes=[1, 3], y=y, **FIXED)
    assert "accuracy of logistic regression" in found.criterion
    assert found.curve["error"].between(0, 1).all()
    assert found.curve["pca_error"].isna().all()
    scored = choose(X, n_trials=0, code_sizes=[1, 3], scorer=lambda model, rows, labels: -model.code_size, **FIXED)
    assert scored.curve["error"].tolist() == [1.0, 3.0]
    assert scored.code_size == 1


def test_time_is_kept_inside_a_trial() -> None:
    pytest.importorskip("optuna")
    slow = Autoencoder(network=(8,), max_epochs=10**6)
    import optuna  # noqa: F401, PLC0415  # what is slow once

    began = time.monotonic()
    found = choose(X, 4.0, estimator=slow, code_sizes=[2], random_state=0)
    assert time.monotonic() - began < 12.0  # on a busy machine; benchmarks.codes has the share
    assert len(found.table) >= 2
    limit = Deadline(time.monotonic() + 0.3)
    began = time.monotonic()
    slow.set_params(callbacks=(limit,)).fit(X)
    assert limit.reached
    assert time.monotonic() - began < 5.0


def test_a_budget_for_less_than_one_epoch_is_refused() -> None:
    with pytest.raises(ValueError, match=r"too small for one trial: one epoch .* give at least"):
        choose(DRAW.normal(size=(3000, 50)), 1e-3, n_trials=0)
    for budget, seconds in (("90 s", 90.0), ("2 hours", 7200.0), (5, 5.0), ("10min", 600.0)):
        assert seconds_of(budget) == seconds
    for wrong in ("soon", "10 parsecs", 0, -3, True):
        with pytest.raises(ValueError, match="must be seconds above 0, or a text such as '10 min'"):
            seconds_of(wrong)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n_trials": -1}, "n_trials=-1"),
        ({"code_sizes": []}, r"code_sizes=\[\] must be integers >= 1"),
        ({"validation_fraction": 1.0}, "validation_fraction=1.0"),
        ({"estimator": Autoencoder(conditional=True)}, "not conditional"),
        ({"scorer": 3}, "scorer=3 must be a function"),
        ({"y": [1, 2]}, r"y has shape \(2,\)"),
        ({"y": [np.nan] * 120}, "120 missing labels"),
    ],
)
def test_bad_arguments_are_refused(change: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        choose(X, **{"n_trials": 0, "budget": 600, **change})


def test_few_rows_and_a_missing_library_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DataError, match="9 rows, but a search needs at least 10"):
        choose(X[:9], n_trials=0)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"pip install 'isthmus\[tune\]'"):
        choose(X)
