"""Sources give the rows asked for, refuse what cannot be used, and stay small."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from isthmus import Autoencoder
from isthmus.data import ArraySource, MemoryMappedSource, Source, SparseSource, as_source
from isthmus.exceptions import DataError


@given(arrays.arrays(np.float32, arrays.array_shapes(min_dims=2, max_dims=4, max_side=6)), st.integers(1, 4))
@settings(max_examples=25, deadline=None)
def test_chunks_of_an_array_are_the_array(array: np.ndarray, size: int) -> None:
    np.testing.assert_array_equal(np.concatenate(list(as_source(array).chunks(size))), array)


def test_a_memory_mapped_file_gives_rows_in_the_order_asked_for(tmp_path: Path) -> None:
    array = np.random.default_rng(0).normal(size=(50, 3))
    np.save(tmp_path / "a.npy", array)
    source = as_source(np.load(tmp_path / "a.npy", mmap_mode="r"))
    assert isinstance(source, MemoryMappedSource)
    rows = np.array([3, 4, 5, 9, 2, 49])
    np.testing.assert_array_equal(source.read(rows), array[rows])
    np.testing.assert_array_equal(source.read(slice(10, 20)), array[10:20])
    assert type(source.read(slice(0, 5))) is np.ndarray
    assert source.read(np.array([], dtype=int)).shape == (0, 3)


def test_a_large_memory_mapped_file_does_not_claim_to_fit(tmp_path: Path) -> None:
    big = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (400_000, 1000))
    assert not as_source(big).fits_in_memory
    assert as_source(big[:1000]).fits_in_memory


def test_reading_a_memory_mapped_file_leaves_its_changes_in_place(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((50, 3)))
    for mode in ("r+", "c"):
        mapped = np.load(tmp_path / "a.npy", mmap_mode=mode)  # type: ignore[call-overload]
        mapped[7] = 5.0
        source = as_source(mapped)
        assert source.read(slice(7, 8)).sum() == source.read(np.array([7])).sum() == 15.0


def test_sparse_rows_are_made_dense_only_where_asked_for() -> None:
    draw = np.random.default_rng(0)
    places = draw.integers(1000, size=30_000), draw.integers(300_000, size=30_000)
    matrix = scipy.sparse.csr_array((draw.random(30_000), places), shape=(1000, 300_000))
    source = as_source(matrix)
    assert isinstance(source, SparseSource)
    assert not source.fits_in_memory
    np.testing.assert_array_equal(source.read(np.array([5, 2])), matrix[[5, 2]].toarray())


@pytest.mark.parametrize("shape", [(3,), (2, 2, 2, 2, 2, 2)])
def test_arrays_of_other_dimensions_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="is needed; reshape it"):
        ArraySource(np.zeros(shape))


def test_arrays_that_are_not_numbers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"The array has dtype .*, but numbers are needed"):
        ArraySource(np.array([["a", "b"]]))


def test_empty_sources_are_refused() -> None:
    with pytest.raises(DataError, match=r"Found array with 0 sample\(s\)"):
        as_source(np.zeros((0, 3)))


class Own(Source):
    """Ten rows of two numbers, or what `make` gives for the requested rows instead."""

    def __init__(self, make: Any = None, **attributes: Any) -> None:
        self.n_rows, self.feature_shape, self.dtype = 10, (2,), np.dtype(np.float32)
        self.make = make
        for name, value in attributes.items():
            setattr(self, name, value)

    def read(self, rows: Any) -> np.ndarray:
        wanted = np.arange(20, dtype=np.float32).reshape(10, 2)[rows]
        made: np.ndarray = wanted if self.make is None else self.make(wanted)
        return made


BROKEN: list[tuple[Any, str]] = [
    (
        lambda X: X[:, :1],
        r"shape \(10, 1\) and dtype float32, but .* shape \(10, 2\) and dtype float32 .*reshape the rows",
    ),
    (
        lambda X: X.astype(float),
        r"dtype float64, but .* dtype float32 was promised .*; return rows.astype\(self.dtype\)",
    ),
    (lambda X: X[:-1], r"shape \(9, 2\) .*; return exactly the requested rows, in their order"),
    (lambda X: X.ravel(), r"shape \(20,\) .*; reshape the rows"),
    (lambda X: X.tolist(), r"Own.read returned a list, but .*; return np.asarray\(rows, dtype=self.dtype\)"),
]


@pytest.mark.parametrize(("make", "text"), BROKEN)
def test_rows_that_are_not_as_promised_are_refused(make: Any, text: str) -> None:
    for use in (lambda source: source.read(slice(None)), Autoencoder(1, max_epochs=1).fit):
        with pytest.raises(DataError, match=text):
            use(Own(make))
    np.testing.assert_array_equal(Own().read(np.array([7, 2])), [[14, 15], [4, 5]])
    assert Own().read(slice(8, 99)).shape == (2, 2)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"n_rows": 2.5}, "Own.n_rows is 2.5, but must be an integer >= 0"),
        ({"feature_shape": [2]}, r"Own.feature_shape is \[2\], but must be a tuple of 1 to 4 integers >= 1"),
        ({"feature_shape": (0,)}, r"Own.feature_shape is \(0,\), but"),
        ({"dtype": np.float32}, r"Own.dtype is <class 'numpy.float32'>, but must be a numpy.dtype of numbers"),
        ({"dtype": np.dtype("O")}, r"Own.dtype is dtype\('O'\), but"),
        ({"feature_names": ["a"]}, "Own.feature_names has 1 name, but must have 2, or be None. Set these attributes"),
        ({"n_rows": -1, "feature_shape": 2}, r"n_rows is -1, but .*; Own.feature_shape is 2, but"),
    ],
)
def test_attributes_of_a_source_are_checked_before_its_rows(attributes: dict[str, Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        Autoencoder(1, max_epochs=1).fit(Own(**attributes))


def test_an_attribute_of_a_source_that_is_not_set_is_named() -> None:
    source = Own()
    del source.n_rows
    with pytest.raises(DataError, match=r"Own.n_rows is not set, but must be an integer >= 0"):
        Autoencoder(1, max_epochs=1).fit(source)
