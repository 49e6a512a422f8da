"""Everyday tables: rows that repeat, columns that never vary or only ever grow, numbers far from zero."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

import isthmus
from isthmus import AnomalyDetector, Auto, Contamination, DivergenceError, FalseAlarmRate, Quantile
from isthmus.exceptions import InterruptedWarning
from isthmus.tasks.anomaly import ensemble_training
from isthmus.tasks.anomaly.grouping import Grouping
from isthmus.tasks.anomaly.neighbours import standard_units
from isthmus.tasks.anomaly.relations import learn_relations
from isthmus.tasks.anomaly.tail_probability import TailProbability
from isthmus.training import Callback, Run


def make(threshold: Any = "auto", **more: Any) -> AnomalyDetector:
    settings: dict[str, Any] = {"max_steps": 30, "n_members": 2, "random_state": 0}
    return AnomalyDetector(threshold, **(settings | more))


def alarms(detector: AnomalyDetector, X: Any) -> float:
    return float((detector.predict(X) == -1).mean())


def words(seed: int, n: int = 1500) -> pd.DataFrame:
    draw = np.random.default_rng(seed)
    return pd.DataFrame({f"c{i}": draw.choice(["u", "v", "w"], n, p=[0.7, 0.15, 0.15]) for i in range(3)})


@pytest.mark.parametrize("threshold", ["auto", Contamination(0.05), Quantile(0.95), FalseAlarmRate(0.05)])
def test_rows_that_repeat_are_no_alarms_beyond_the_rate(threshold: Any) -> None:
    detector = make(threshold).fit(words(0))
    assert alarms(detector, words(0)) <= 0.055
    assert alarms(detector, words(1)) <= 0.07
    alone = np.array([detector.score_samples(words(1)[row : row + 1])[0] for row in range(30)])
    np.testing.assert_allclose(alone, detector.score_samples(words(1))[:30], rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
def test_flags_of_any_type_get_the_same_alarms(dtype: str) -> None:
    X = np.random.default_rng(0).random((1000, 6)) < 0.2
    detector = make(0.02).fit(X.astype(dtype))
    assert detector.labels_.mean() <= 0.02
    assert alarms(detector, X.astype(dtype)) <= 0.02


def test_a_frequent_score_is_not_cut_through() -> None:
    scores = np.repeat([0.0, 1.0, 2.0, 9.0], [600, 300, 95, 5])
    assert (scores > Auto(0.01).cut(scores)).sum() == 5
    assert (scores > Auto(0.1).cut(scores)).sum() <= 100
    assert Auto(0.01).cut(np.full(50, 3.0)) == 3.0


@pytest.mark.parametrize("seed", [0, 1])
def test_the_default_rate_of_alarms_holds_on_fresh_rows(seed: int) -> None:
    draw = np.random.default_rng(seed)
    X = draw.normal(size=(4000, 4))
    X[:, 3] = X[:, 0] + 0.2 * X[:, 3]
    detector = make().fit(X[:1000])
    assert alarms(detector, X[1000:]) == pytest.approx(0.01, abs=0.0095)  # three deviations, of 10 rows in 1,000


def test_a_constant_column_that_changes_is_an_alarm_with_its_reason(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    table = pd.DataFrame({"v": draw.normal(size=500), "w": draw.choice(["x", "y"], 500), "status": "OK", "volt": 230.0})
    detector = make().fit(table)
    asked = pd.DataFrame({"v": 0.0, "w": "x", "status": ["OK", "FAILED", "OK"], "volt": [230.0, 230.0, 0.0]})
    loaded = isthmus.load(detector.save(tmp_path / "d.safetensors"))
    for each in (detector, loaded):
        assert each.predict(asked).tolist() == [1, -1, -1]
        assert [found.reasons[0].column for found in each.explain(asked)[1:]] == ["status", "volt"]
    assert any("any other value is an anomaly" in note for note in detector.schema_.notes)


def month(start: str, seed: int, n: int = 600) -> pd.DataFrame:
    draw, begin = np.random.default_rng(seed), pd.Timestamp(start)
    amount = np.exp(draw.normal(4, 1, n)).round(2)
    return pd.DataFrame(
        {
            "id": np.arange(n) + 10_000 * begin.month,
            "when": np.sort(begin + pd.to_timedelta(draw.integers(0, 28 * 86400, n), unit="s")),
            "amount": amount,
            "fee": (amount * 0.02 + draw.normal(0, 0.05, n)).round(2),
        }
    )


def test_dates_and_counters_do_not_make_the_next_month_odd(tmp_path: Path) -> None:
    january, june = month("2024-01-01", 0).sample(frac=0.9, random_state=0).sort_index(), month("2024-06-01", 7)
    detector = make(0.02).fit(january)
    assert alarms(detector, june) < 0.06
    assert sum("give kinds={" in note for note in detector.schema_.notes) == 2
    loaded = isthmus.load(detector.save(tmp_path / "d.safetensors"))
    assert np.array_equal(loaded.score_samples(june), detector.score_samples(june))
    assert alarms(make(0.02, kinds={"when": "datetime"}).fit(january), june) > 0.9


def test_a_sorted_measurement_is_no_counter() -> None:
    draw = np.random.default_rng(0)
    frame = pd.DataFrame({"size": np.sort(draw.normal(size=300)), "other": draw.choice(list("ab"), 300)})
    assert make(0.01).fit(frame).predict(frame.assign(size=50.0)).tolist() == [-1] * 300


def test_a_hole_where_none_was_a_new_word_and_a_far_value_alone_raise_the_alarm() -> None:
    draw = np.random.default_rng(0)
    table = pd.DataFrame({f"n{i}": draw.normal(size=600) for i in range(8)} | {"k": draw.choice(list("xyz"), 600)})
    detector = make().fit(table)
    changes: dict[str, float | str] = {"n3": 1e6, "n4": np.nan, "k": "unseen"}
    for column, value in changes.items():
        asked = table.head(50).astype({"k": object})
        asked[column] = value
        assert alarms(detector, asked) == 1.0, column
        assert np.mean([found.reasons[0].column == column for found in detector.explain(asked)]) > 0.95, column


def test_three_far_rows_in_training_do_not_hide_themselves() -> None:
    X = np.random.default_rng(0).normal(size=(1000, 5))
    X[[10, 20, 30]] = [[40, 0, 0, 0, 0], [0, 0, -30, 0, 0], [0, 25, 0, 0, 60]]
    detector = make().fit(X)
    assert detector.labels_[[10, 20, 30]].all()
    assert set(np.argsort(-detector.decision_scores_)[:3]) == {10, 20, 30}


@pytest.mark.parametrize(("shift", "scale"), [(0.0, 1e-30), (0.0, 1e100), (1.7e9, 1.0)])
def test_units_far_from_one_and_numbers_far_from_zero_change_nothing(shift: float, scale: float) -> None:
    X = np.random.default_rng(0).normal(size=(400, 3))
    X[:, 2] = X[:, 0] + 0.1 * X[:, 2]
    odd = np.array([[0.0, 0.0, 6.0], [0.0, 30.0, 0.0]])
    detector = make(0.02).fit(shift + scale * X)
    assert detector.predict(shift + scale * odd).tolist() == [-1, -1]
    np.testing.assert_allclose(detector.score_samples(shift + scale * X), make(0.02).fit(X).score_samples(X), rtol=0.02)


@pytest.mark.parametrize("n_columns", [2, 5])
def test_a_broken_relation_of_a_tenth_of_a_deviation_raises_the_alarm_at_one_percent(n_columns: int) -> None:
    def following(n: int, seed: int) -> np.ndarray:
        X = np.random.default_rng(seed).normal(size=(n, n_columns))
        X[:, -1] = X[:, 0] + 0.1 * X[:, -1]
        return X

    detector = make(max_steps=60).fit(following(1000, 0))
    odd = following(60, 1)
    odd[:, -1] = odd[:, 0] + np.where(np.arange(60) % 2, 0.9, -0.9)  # nine times the usual error, ordinary as numbers
    assert alarms(detector, odd) > 0.95
    assert alarms(detector, following(1000, 2)) < 0.025
    named = [{reason.column for reason in found.reasons[:2]} for found in detector.explain(odd)]
    assert np.mean([names == {"x0", f"x{n_columns - 1}"} for names in named]) > 0.8


@pytest.mark.parametrize("learning_rate", [10.0, 1e4, 1e12])
def test_a_training_that_diverges_is_an_error(learning_rate: float) -> None:
    X = np.random.default_rng(0).normal(size=(200, 6))
    with pytest.raises(DivergenceError, match=r"Use a lower learning_rate; the default is 0\.003"):
        make(learning_rate=learning_rate).fit(X)


class Interrupting(Callback):
    """Sends Ctrl-C to this process at a step."""

    def on_step_end(self, run: Run) -> None:
        if run.step == 5:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.skipif(os.name != "posix", reason="POSIX signals")
def test_an_interrupt_keeps_the_detector_with_the_weights_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    def make_run(objective: Any, settings: Any, train: Any, validation: Any, _: Any) -> Run:
        monkeypatch.setattr(Run, "calls_every_step", True)
        return Run(objective, settings, train, validation, [Interrupting()])

    monkeypatch.setattr(ensemble_training, "Run", make_run)
    X = np.random.default_rng(0).normal(size=(200, 4))
    with pytest.warns(InterruptedWarning, match="Training was interrupted at step 5 of 30; the weights are kept as"):
        detector = make().fit(X)
    assert np.isfinite(detector.score_samples(X)).all()


# -- relations between columns -----------------------------------------------------------------------------------------


def test_residuals_are_those_of_a_regression_on_all_other_columns() -> None:
    draw = np.random.default_rng(0)
    X = draw.normal(size=(5000, 4)) @ draw.normal(size=(4, 4)) + 3.0
    relations, _ = learn_relations(torch.from_numpy(X), torch.arange(5000), Grouping(None, 4))
    found = relations.squares(torch.from_numpy(X), Grouping(None, 4)).sqrt().numpy()
    for column in range(4):
        others = np.column_stack([np.ones(5000), np.delete(X, column, axis=1)])
        left = X[:, column] - others @ np.linalg.lstsq(others, X[:, column], rcond=None)[0]
        assert np.corrcoef(found[:, column], np.abs(left))[0, 1] > 0.999
        np.testing.assert_allclose(np.square(found[:, column]).mean(), 1.0, atol=0.02)


@pytest.mark.parametrize("places", [None, torch.tensor([0, 1, 1, 1, 2])])
def test_rows_that_were_learned_from_count_as_if_they_had_not_been_there(places: torch.Tensor | None) -> None:
    X = torch.from_numpy(np.random.default_rng(0).normal(size=(30, 5)))
    grouping = Grouping(places, 5 if places is None else 3)
    _, squares = learn_relations(X, torch.arange(30), grouping)
    shift, scale = standard_units(X, rescale=True)
    y = (X - shift) * scale
    for row in (0, 7):
        rest = torch.cat([y[:row], y[row + 1 :]])
        covariance = (rest.T @ rest + 30 * 1e-3 * torch.eye(5).double()) / 29  # mean and ridge stay as they are
        precision = torch.linalg.inv(covariance)
        u = y[row] @ precision
        for column in range(grouping.n_columns):
            here = [column] if places is None else (places == column).nonzero()[:, 0].tolist()
            block = precision[here][:, here]
            expected = u[here] @ torch.linalg.inv(block) @ u[here]
            assert float(squares[row, column]) == pytest.approx(float(expected), rel=1e-6)


def test_tails_in_nats_rise_in_proportion_and_then_slowly() -> None:
    curve = TailProbability.learn(np.random.default_rng(0).exponential(size=(10_000, 1)))
    last = float(curve.knots[0, -1])
    values = torch.tensor([[0.5], [last], [last + 2.0], [last + 4.0], [1e6]], dtype=torch.float64)
    found, slow = curve.proportional(values)[:, 0], curve(values)[:, 0]
    np.testing.assert_allclose(found[:2], slow[:2])
    assert float(found[3] - found[2]) == pytest.approx(
        2.0 / float(curve.scale[0]), rel=0.3
    )  # e-folds of an exponential
    assert found[2] > slow[2] + 0.5
    assert found[4] < found[1] + 30.0
    assert torch.isfinite(curve.proportional(torch.tensor([[np.inf], [np.nan]]).double())[1]).all()


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("value", [1e25, 1e200, -1.7e308])
def test_a_value_whose_square_overflows_is_an_anomaly(value: float, *, own: bool) -> None:
    X = np.random.default_rng(0).normal(size=(300, 4))
    settings = {"autoencoder": isthmus.Autoencoder(2, max_epochs=2, random_state=0)} if own else {}
    detector = make(0.1, **settings).fit(X)
    row, milder = np.zeros((1, 4)), np.zeros((1, 4))
    row[0, 1], milder[0, 1] = value, np.sign(value) * 1e6
    score, contributions = detector.score_samples(row), detector.contributions(row)[0]
    assert score[0] < detector.score_samples(milder)[0] < 0.0
    assert detector.predict(row).tolist() == [-1]
    assert np.argmax(contributions) == 1
    np.testing.assert_allclose(contributions.sum(), -score[0], rtol=1e-5)


@pytest.mark.parametrize("value", [1e39, -3.5e38, 1e200, 1.7e308])
def test_a_finite_value_of_a_table_beyond_single_precision_is_an_anomaly(value: float) -> None:
    table = pd.DataFrame({"x": np.random.default_rng(0).normal(size=300), "word": ["u", "v", "v"] * 100})
    detector = make(0.1).fit(table)
    rows = pd.DataFrame({"x": [0.0, np.sign(value) * 1e6, value], "word": ["v"] * 3})
    normal, milder, far = detector.score_samples(rows)
    assert far <= milder < normal
    assert detector.predict(rows).tolist() == [1, -1, -1]
