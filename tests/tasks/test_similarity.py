"""The nearest rows by cosine."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_similarity

import isthmus
from isthmus import nearest
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
    with pytest.raises(isthmus.DataError, match="numbers that are NaN or infinite"):
        nearest(np.eye(2), np.array([[np.nan, 1.0]]))
    with pytest.raises(ValueError, match="n=0 must be an integer >= 1"):
        nearest(np.eye(2), np.eye(2), 0)
