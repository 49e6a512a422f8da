"""The nearest rows by cosine."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

import isthmus
from isthmus import SimilarityIndex, nearest
from isthmus.tasks import similarity


def test_it_is_the_exact_answer_whatever_the_size_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    vectors, queries = draw.normal(size=(300, 8)).astype(np.float32), draw.normal(size=(20, 8)).astype(np.float32)
    whole = cosine_similarity(queries, vectors)
    wanted = np.argsort(-whole, axis=1)[:, :7]
    for size in (1, 1000, 10**8):
        monkeypatch.setattr(similarity, "BLOCK_BYTES", size)
        rows, cosines = nearest(vectors, queries, 7)
        np.testing.assert_array_equal(rows, wanted)
        np.testing.assert_allclose(cosines, np.take_along_axis(whole, wanted, 1), atol=1e-6)


def test_fewer_rows_than_asked_for_give_all() -> None:
    rows, cosines = nearest(np.eye(2), np.zeros((3, 2)), 9)
    assert rows.tolist() == [[0, 1]] * 3
    assert not cosines.any()


def test_what_cannot_be_compared_is_told() -> None:
    with pytest.raises(isthmus.DataError, match=r"vectors have shape \(3, 3\) and queries \(1, 2\)"):
        nearest(np.eye(3), np.ones((1, 2)))
    with pytest.raises(isthmus.DataError, match="NaN or infinite values"):
        nearest(np.eye(2), np.array([[np.nan, 1.0]]))
    with pytest.raises(isthmus.DataError, match="The vectors from row 0 on contain NaN or infinite values"):
        nearest(np.array([[np.nan, 1.0]]), np.ones((1, 2)))
    with pytest.raises(isthmus.DataError, match="The queries are of type <U1, but numbers are needed"):
        nearest(np.eye(2), np.array([["a", "b"]]))
    with pytest.raises(ValueError, match="n=0 must be an integer >= 1"):
        nearest(np.eye(2), np.eye(2), 0)


@pytest.mark.parametrize("scale", [1e-40, 1e-30, 1.0, 1e30, 1e200])
def test_cosines_do_not_depend_on_the_size_of_the_numbers(scale: float) -> None:
    vectors = np.array([[1.0, 2.0], [2.0, 1.0], [0.0, 0.0]]) * scale
    rows, cosines = nearest(vectors, np.array([[1.0, 0.0]]) * scale, 3)
    assert rows.tolist() == [[1, 0, 2]]
    np.testing.assert_allclose(cosines, [[2 / 5**0.5, 1 / 5**0.5, 0]], rtol=1e-6)


def clustered(n_rows: int = 3000) -> np.ndarray:
    draw = np.random.default_rng(0)
    return (draw.normal(size=(n_rows, 6)) @ draw.normal(size=(6, 16)) + draw.normal(size=(n_rows, 16)) / 4).astype("f4")


def test_the_index_finds_the_share_that_was_asked_for() -> None:
    pytest.importorskip("faiss", reason="the extra search is not installed")
    vectors = clustered()
    index = SimilarityIndex(vectors, recall=0.9, random_state=0)
    rows, cosines = index.nearest(vectors[:300], 10)
    exact, values = nearest(vectors, vectors[:300], 10)
    found = np.mean([np.isin(one, other).mean() for one, other in zip(exact, rows, strict=True)])
    assert found >= 0.85
    assert index.recall_ >= 0.9
    assert 1 <= index.n_probed_ < index.n_cells_
    np.testing.assert_array_equal(rows[:, 0], np.arange(300))
    np.testing.assert_allclose(cosines[:, 0], values[:, 0], rtol=1e-5)
    assert np.array_equal(SimilarityIndex(vectors, recall=0.9, random_state=0).nearest(vectors[:300], 10)[0], rows)


def test_few_rows_make_one_cell_and_an_exact_index() -> None:
    pytest.importorskip("faiss", reason="the extra search is not installed")
    rows, _ = SimilarityIndex(np.eye(3)).nearest(np.eye(3)[:1], 9)
    assert rows[0, 0] == 0
    assert sorted(rows[0].tolist()) == [0, 1, 2]


def test_without_faiss_the_remedy_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(ImportError, match=r"needs faiss, which is not installed; run pip install 'isthmus\[search\]'"):
        SimilarityIndex(np.eye(3))
    with pytest.raises(ValueError, match=r"recall=2 must be a number in \(0, 1\]"):
        SimilarityIndex(np.eye(3), recall=2)
