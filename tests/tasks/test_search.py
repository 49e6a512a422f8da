"""Search by codes: answers, names, duplicates and files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances

import isthmus
from isthmus import Autoencoder, SearchIndex, VariationalAutoencoder, write_search_report

DRAW = np.random.default_rng(0)
IMAGES = DRAW.integers(0, 256, (60, 40, 36)).astype(np.uint8)
ROWS = DRAW.normal(size=(80, 5))
MODEL = Autoencoder(3, network=(), max_epochs=3, random_state=0).fit(ROWS)


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("at_once", [2**26, 8 * 5 * 3])
def test_answers_are_those_of_all_distances(metric: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.tasks.search.BLOCK_BYTES", at_once)
    index = SearchIndex(MODEL, metric=metric).add(ROWS)
    found = index.query(ROWS[:4], 7)
    codes = MODEL.transform(ROWS).astype(np.float32).astype(float)
    wanted = pairwise_distances(codes[:4], codes, metric=metric)
    order = np.argsort(wanted, axis=1, kind="stable")[:, :7]
    np.testing.assert_array_equal(found.names.astype(int), order)
    np.testing.assert_allclose(found.distances, np.take_along_axis(wanted, order, 1), atol=1e-5)
    assert found.thumbnails is None


def test_rows_come_and_go_by_name(tmp_path: Path) -> None:
    index = SearchIndex(MODEL).add(ROWS[:50], [f"row {k}" for k in range(50)])
    index.add(ROWS[50:], [f"row {k}" for k in range(50, 80)]).remove(["row 3", "row 60"])
    assert len(index) == 78
    assert "row 3" not in set(index.query(ROWS[3:4], 78).names.ravel())
    assert index.query(ROWS[61:62], 1).names.tolist() == [["row 61"]]
    loaded: Any = isthmus.load(index.save(tmp_path / "i.isthmus"))
    assert np.array_equal(loaded.query(ROWS, 5).names, index.query(ROWS, 5).names)
    assert np.array_equal(loaded.query(ROWS, 5).distances, index.query(ROWS, 5).distances)
    loaded.add(ROWS[3:4], ["row 3"])
    assert loaded.query(ROWS[3:4], 1).names.tolist() == [["row 3"]]
    numbered = SearchIndex(MODEL).add(ROWS).remove([79]).add(ROWS[:2])
    assert numbered.names[-3:].tolist() == [78, 79, 80]
    again: Any = isthmus.load(numbered.save(tmp_path / "n.isthmus"))
    assert again.names.tolist() == numbered.names.tolist()
    empty: Any = isthmus.load(SearchIndex(MODEL).save(tmp_path / "e.isthmus"))
    assert len(empty) == 0


def test_thumbnails_are_means_of_blocks_and_shown_on_a_page(tmp_path: Path) -> None:
    model = Autoencoder(2, network=(), max_epochs=1, random_state=0).fit(IMAGES)
    index = SearchIndex(model).add(IMAGES)
    found = index.query(IMAGES[5:7], 3)
    assert found.thumbnails is not None
    assert found.thumbnails.shape == (2, 3, 20, 18)
    assert found.thumbnails[0, 0, 0, 0] == np.round(IMAGES[5, :2, :2].mean())
    page = write_search_report(found, tmp_path / "p.html").read_text(encoding="utf-8")
    assert page.count("<img") == 2
    assert SearchIndex(model, thumbnails=False).add(IMAGES).query(IMAGES[:1], 1).thumbnails is None
    loaded: Any = isthmus.load(index.save(tmp_path / "i.isthmus"))
    assert np.array_equal(loaded.query(IMAGES[5:7], 3).thumbnails, found.thumbnails)


def test_near_duplicates_are_grouped_and_others_are_not() -> None:
    copies = np.concatenate([ROWS, ROWS[:2], ROWS[:1] + 1e-4])
    groups = SearchIndex(MODEL).add(copies).near_duplicates(0.01)
    assert groups[0] == [0, 80, 82]
    assert [1, 81] in groups
    assert SearchIndex(MODEL).add(ROWS[:40]).near_duplicates(0.0) == []
    assert SearchIndex(MODEL).add(np.repeat(ROWS[:1], 3, axis=0)).near_duplicates(0.0) == [[0, 1, 2]]
    assert SearchIndex(MODEL).near_duplicates() == []


def test_an_approximate_search_finds_most_of_the_exact_answers() -> None:
    pytest.importorskip("faiss")
    many = DRAW.normal(size=(2000, 5))
    index = SearchIndex(MODEL, metric="cosine").add(many)
    exact, near = index.query(many[:50], 10).names, index.query(many[:50], 10, approximate=True).names
    assert np.mean([len(set(a) & set(b)) / 10 for a, b in zip(exact, near, strict=True)]) > 0.9


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda i: i.query(ROWS[:1], 0), "n=0 must be an integer >= 1"),
        (lambda i: i.query(ROWS[:1, :4]), "4 features, but Autoencoder is expecting 5"),
        (lambda i: i.query(ROWS[:1], approximate=True), "needs SearchIndex"),
        (lambda i: i.add(ROWS[:2], [5, 200]), "The name 5 is already in the index"),
        (lambda i: i.add(ROWS[:2], [200, 200]), "The name 200 is already in the index or occurs twice"),
        (lambda i: i.add(ROWS[:2], ["a", "b"]), "all text or all integers; give names of the same type"),
        (lambda i: i.add(ROWS[:2], ["a", 3]), "all text or all integers, not int, str"),
        (lambda i: i.add(ROWS[:2], [200]), "names has 1 names, but X has 2 rows"),
        (lambda i: i.remove([999]), "has no row 999"),
        (lambda i: i.near_duplicates(1.0), r"share=1.0 must be a number in \[0, 1\)"),
        (lambda i: SearchIndex(MODEL).query(ROWS[:1]), "The index is empty"),
        (lambda i: SearchIndex(MODEL, metric="cos"), "cosine"),
    ],
)
def test_bad_requests_change_nothing(ask: Any, words: str) -> None:
    index = SearchIndex(MODEL).add(ROWS)
    with pytest.raises(ValueError, match=words):
        ask(index)
    assert len(index) == 80


def test_a_damaged_index_and_conditional_models_are_refused(tmp_path: Path) -> None:
    from isthmus.files.model_file import read_state, write_state  # noqa: PLC0415

    state = read_state(SearchIndex(MODEL).add(ROWS).save(tmp_path / "i.isthmus"))
    wrong = {**state.arrays, "codes": np.zeros((80, 4), np.float32)}
    write_state(tmp_path / "w.isthmus", type(state)(state.kind, state.values, wrong))
    with pytest.raises(isthmus.ModelFileError, match="its codes have 4 numbers, but those of its model 3"):
        isthmus.load(tmp_path / "w.isthmus")
    labelled = VariationalAutoencoder(2, conditional=True, network=(), max_epochs=1).fit(ROWS, np.arange(80) % 2)
    with pytest.raises(ValueError, match="needs a model without labels"):
        SearchIndex(labelled)
