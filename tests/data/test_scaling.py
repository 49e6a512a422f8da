"""Statistics agree with numpy, and scalings do what their names say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isthmus.data import Scaling, Statistics, as_source, learn_scaling, scaling, summarise


@pytest.fixture
def rows() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1000, 7)) * np.arange(1, 8) + 1000


def test_statistics_agree_with_numpy_whatever_the_chunks(rows: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.data.sources.CHUNK_BYTES", 28 * 17)
    found = summarise(as_source(rows))
    np.testing.assert_allclose(found.mean, rows.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.variance, rows.var(axis=0), rtol=1e-9)
    np.testing.assert_array_equal(found.minimum, rows.min(axis=0))
    np.testing.assert_array_equal(found.maximum, rows.max(axis=0))


def test_values_that_are_not_finite_are_counted_and_located(rows: np.ndarray) -> None:
    rows[3, 2], rows[8, 0], rows[9, 1] = np.nan, np.inf, -np.inf
    found = summarise(as_source(rows))
    assert (found.n_nan, found.n_infinite, found.first_bad) == (1, 2, (3, 2))
    finite = np.where(np.isfinite(rows), rows, np.nan)
    np.testing.assert_array_equal(found.n_seen, np.isfinite(rows).sum(axis=0))
    np.testing.assert_allclose(found.mean, np.nanmean(finite, axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.variance, np.nanvar(finite, axis=0), rtol=1e-9)
    np.testing.assert_array_equal(found.minimum, np.nanmin(finite, axis=0))
    np.testing.assert_array_equal(found.maximum, np.nanmax(finite, axis=0))


def test_large_sources_are_sampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "SAMPLE_BYTES", 256 * 4 * 10)
    rows = np.arange(100_000.0).reshape(-1, 1)
    found = summarise(as_source(rows))
    assert found.n_rows == 2560
    assert found.mean[0] == pytest.approx(50_000, rel=0.01)


@pytest.mark.parametrize("name", ["none", "pixels", "minmax", "standard"])
def test_scaling_and_back_gives_the_rows(name: str, rows: np.ndarray) -> None:
    learned = learn_scaling(name, summarise(as_source(rows)), rows.dtype)
    x = torch.from_numpy(rows)
    torch.testing.assert_close(learned.invert(learned.apply(x)), x)
    again = Scaling.from_arrays(learned.name, learned.to_arrays())
    torch.testing.assert_close(again.apply(x), learned.apply(x))


def test_each_scaling_gives_what_its_name_says(rows: np.ndarray) -> None:
    statistics, x = summarise(as_source(rows)), torch.from_numpy(rows)
    standard = learn_scaling("standard", statistics, rows.dtype).apply(x)
    torch.testing.assert_close(standard.mean(0), torch.zeros(7, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(standard.std(0, correction=0), torch.ones(7, dtype=torch.float64))
    minmax = learn_scaling("minmax", statistics, rows.dtype).apply(x)
    torch.testing.assert_close(minmax.amin(0), torch.zeros(7, dtype=torch.float64), atol=1e-9, rtol=0)
    torch.testing.assert_close(minmax.amax(0), torch.ones(7, dtype=torch.float64))


def one_column(low: float, high: float, variance: float = 1.0) -> Statistics:
    least, most, mean, spread = (np.array([value]) for value in (low, high, (low + high) / 2, variance))
    return Statistics(2, np.array([2]), least, most, mean, spread)


def test_auto_goes_by_type_and_range() -> None:
    assert learn_scaling("auto", one_column(0, 255), np.dtype(np.uint8)).name == "pixels"
    assert learn_scaling("auto", one_column(0, 1), np.dtype(np.float64)).name == "none"
    assert learn_scaling("auto", one_column(0, 1.1), np.dtype(np.float64)).name == "standard"


def test_a_constant_feature_is_only_shifted() -> None:
    assert learn_scaling("standard", one_column(5, 5, 0.0), np.dtype(np.float64)).factor == 1.0


def test_a_wrong_name_is_refused() -> None:
    with pytest.raises(ValueError, match="Unknown scaling 'standart'; did you mean 'standard'"):
        learn_scaling("standart", one_column(0, 1), np.dtype(np.float64))
