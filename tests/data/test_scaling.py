"""Statistics agree with numpy, and scalings do what their names say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isthmus.data import Scaling, Statistics, as_source, learn_scaling, refuse_huge, scaling, summarise
from isthmus.exceptions import DataError


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
    assert learn_scaling("auto", one_column(0, 255, 255**2 / 12), np.dtype(np.uint8)).name == "pixels"
    assert learn_scaling("auto", one_column(0, 1, 1 / 12), np.dtype(np.float64)).name == "none"
    assert learn_scaling("auto", one_column(0, 1.1, 1 / 12), np.dtype(np.float64)).name == "standard"


def test_a_constant_feature_is_only_shifted() -> None:
    assert learn_scaling("standard", one_column(5, 5, 0.0), np.dtype(np.float64)).factor == 1.0


def test_a_wrong_name_is_refused() -> None:
    with pytest.raises(ValueError, match="Unknown scaling 'standart'; did you mean 'standard'"):
        learn_scaling("standart", one_column(0, 1), np.dtype(np.float64))


def draw() -> np.random.Generator:
    return np.random.default_rng(0)


def chosen(X: np.ndarray) -> str:
    return learn_scaling("auto", summarise(as_source(X)), X.dtype, feature_shape=X.shape[1:]).name


def flags(n: int = 300) -> np.ndarray:
    return np.eye(8)[draw().integers(0, 8, n)]


def border_pixels(n: int = 300) -> np.ndarray:
    """Forty grey pixels, and four of a border: black but for one dark row."""
    X = draw().random((n, 44))
    X[:, 40:] = 0.0
    X[7, 40:] = 0.02
    return X


@pytest.mark.parametrize(
    ("X", "expected"),
    [
        (flags(), "none"),
        (flags().astype(bool), "none"),
        (flags().astype(np.uint8), "none"),
        (draw().integers(0, 11, (300, 6)).astype(np.uint8), "standard"),
        (draw().integers(18, 90, (300, 6)).astype(np.uint8), "standard"),
        (draw().integers(0, 256, (300, 6)).astype(np.uint8), "pixels"),
        (draw().integers(0, 256, (300, 4, 4)).astype(np.uint8), "pixels"),
        (draw().integers(0, 2, (300, 4, 4)).astype(np.uint8), "none"),
        (draw().integers(0, 5, (300, 4, 4)).astype(np.uint8), "standard"),
        (draw().random((300, 6)), "none"),
        (draw().random((300, 4, 4)), "none"),
        (0.1 * draw().random((300, 6)), "standard"),
        (0.5 + 0.01 * draw().random((300, 6)), "standard"),
        (draw().random((300, 6)) * [1, 1, 1, 1, 1, 0.001], "standard"),
        (draw().random((300, 40)) * np.where(np.arange(40) < 39, 1.0, 0.001), "standard"),
        (draw().beta(5, 5, (300, 6)), "standard"),
        (draw().random((300, 6)) - 0.5, "standard"),
        (draw().integers(0, 256, (300, 6)), "standard"),
        (border_pixels(), "none"),
        (np.round(255 * border_pixels()).astype(np.uint8), "pixels"),
        (np.full((30, 3), 0.5), "none"),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.dtype} {value.shape[1:]}",
)
def test_auto_takes_pixels_and_shares_only_where_columns_fill_their_range(X: np.ndarray, expected: str) -> None:
    assert chosen(X) == expected


def test_the_border_of_the_rule_is_a_share_of_the_greatest_variance() -> None:
    above, below = (one_column(0.0, 1.0, share * 0.25) for share in (0.151, 0.149))
    assert scaling.fills_range(above, 1.0)
    assert not scaling.fills_range(below, 1.0)


def test_numbers_far_from_zero_are_centred_before_they_become_single() -> None:
    rows = 1_700_000_000 + np.arange(1000).reshape(-1, 1)
    learned = learn_scaling("standard", summarise(as_source(rows)), rows.dtype)
    exact = (np.arange(1000) - 499.5) / np.arange(1000).std()
    for given in (rows, rows.astype(float)):
        scaled = learned.apply(torch.from_numpy(given), torch.float32)
        assert scaled.dtype == torch.float32
        np.testing.assert_allclose(scaled.numpy()[:, 0], exact, atol=2e-7)
    restored = learned.invert(learned.apply(torch.from_numpy(rows), torch.float64))
    np.testing.assert_allclose(restored.numpy(), rows, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("column", "varies"),
    [
        (230.0 + 1e-13 * np.arange(100), False),
        (1e4 + 1e-8 * np.arange(100), False),
        (1e12 + np.arange(500.0), True),
        (1e-12 * np.arange(100), True),
        (1e-160 * np.arange(100), False),
        ((1.0 + 1e-7 * np.arange(2)).astype(np.float32), False),
        ((100.0 + 0.1 * np.arange(100)).astype(np.float32), True),
        (10**15 + np.arange(100), True),
        (np.full(100, 0.1), False),
    ],
)
def test_a_column_that_differs_in_its_last_digits_only_is_not_blown_up(column: np.ndarray, varies: bool) -> None:
    found = summarise(as_source(column.reshape(-1, 1)))
    factor = learn_scaling("standard", found, column.dtype).factor
    assert factor[0] == (pytest.approx(1 / column.std(dtype=float), rel=1e-6) if varies else 1.0)


@pytest.mark.parametrize("largest", [1e155, 1e300])
def test_numbers_whose_squares_overflow_are_refused_by_column(largest: float) -> None:
    X = np.ones((10, 3))
    X[4, 1] = -largest
    expected = rf"values up to {largest:.3g} in column 1 \('b'\), but at most 1e\+150 is supported.*divide".replace(
        "e+", r"e\+"
    )
    with pytest.raises(DataError, match=expected):
        refuse_huge(summarise(as_source(X)), ["a", "b", "c"])
