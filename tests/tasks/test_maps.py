"""Maps of codes: values, new points, figures and files."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from sklearn.datasets import load_digits

import isthmus
from isthmus import Autoencoder, map_codes, map_figures, write_map, write_map_report
from isthmus.tasks.maps import make_umap

X, Y = load_digits(return_X_y=True)
X, Y = X[:300], Y[:300]
MODEL = Autoencoder(6, network=(), max_epochs=15, random_state=0).fit(X)
FLAT = Autoencoder(2, network=(), max_epochs=15, random_state=0).fit(X)


def test_a_code_of_two_numbers_is_its_own_map_and_longer_ones_never_are() -> None:
    found = map_codes(FLAT, X)
    assert found.method == "code"
    np.testing.assert_allclose(found.points, FLAT.transform(X), rtol=1e-6)
    with pytest.raises(ValueError, match="needs a code of 1 or 2 numbers, but this model has 6"):
        map_codes(MODEL, X, "code")
    line = map_codes(Autoencoder(1, network=(), max_epochs=1, random_state=0).fit(X), X)
    assert (line.points[:, 1] == 0).all()


def test_principal_components_place_new_rows_where_they_would_be() -> None:
    found = map_codes(MODEL, X, "pca")
    np.testing.assert_allclose(found.place(X[:20]), found.points[:20], atol=1e-5)
    assert found.explained is not None
    assert 0.3 < found.explained < 1


def test_opentsne_repeats_and_places_known_rows_near_their_points() -> None:
    pytest.importorskip("openTSNE")
    found = map_codes(MODEL, X[:120])
    assert found.method == "opentsne"
    before = found.points.copy()
    again = found.place(X[:10])
    assert np.median(np.linalg.norm(again - before[:10], axis=1)) < before.std()
    np.testing.assert_array_equal(found.place(X[:10]), again)
    np.testing.assert_array_equal(found.points, before)
    np.testing.assert_array_equal(map_codes(MODEL, X[:120]).points, before)


class FakeUMAP:
    """UMAP's interface without its minute of compiling; benchmarks.codes runs the real one."""

    def __init__(self, **settings: Any) -> None:
        self.settings = settings

    def fit(self, codes: np.ndarray) -> Any:
        self.embedding_ = codes[:, : self.settings["n_components"]] * 2.0
        return self

    def transform(self, codes: np.ndarray) -> np.ndarray:
        return codes[:, : self.settings["n_components"]] * 2.0


def test_umap_is_given_the_codes_and_places_new_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("umap")
    module.UMAP = FakeUMAP  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "umap", module)
    found = map_codes(MODEL, X, "umap", random_state=3)
    np.testing.assert_allclose(found.points, 2.0 * MODEL.transform(X)[:, :2])
    np.testing.assert_allclose(found.place(X[:4]), found.points[:4])
    made = make_umap(10, 5, 7)
    assert made.settings["n_components"] == 3  # of five rows
    assert made.settings["random_state"] == 7
    assert made.settings["init"] == "random"


def test_figures_of_a_perfect_and_of_a_shuffled_map() -> None:
    draw = np.random.default_rng(0)
    plane = np.concatenate([draw.normal(c, 1, (60, 2)) for c in (0, 20)])
    labels = np.repeat(["a", "b"], 60)
    perfect = map_figures(plane, plane @ np.array([[3.0, 0.0], [0.0, 3.0]]), labels)
    assert perfect.trustworthiness == perfect.continuity == perfect.neighbour_accuracy == 1.0
    assert perfect.silhouette is not None
    assert perfect.silhouette > 0.8
    shuffled = map_figures(draw.permutation(plane), plane, labels)
    assert abs(shuffled.trustworthiness - 0.5) < 0.1
    assert shuffled.neighbour_accuracy == pytest.approx(0.5, abs=0.15)


def test_missing_and_rare_labels_are_left_out_of_the_figures() -> None:
    labels = Y.astype(object).copy()
    labels[::10] = None
    labels[5] = "alone"
    known = map_figures(map_codes(FLAT, X).points, X, labels)
    assert known.neighbour_accuracy is not None
    assert map_figures(X[:, :2], X, np.zeros(300)).neighbour_accuracy is None
    with pytest.raises(ValueError, match=r"labels has shape \(3,\), but \(300,\) is needed"):
        map_figures(X[:, :2], X, [1, 2, 3])


def test_identical_rows_and_few_rows_are_mapped_or_refused() -> None:
    same = np.repeat(X[:1], 10, axis=0)
    for method in ("pca", "auto"):
        assert np.isfinite(map_codes(MODEL, same, method).points).all()
    with pytest.raises(isthmus.DataError, match="2 rows, but a map needs at least 3"):
        map_codes(MODEL, X[:2])
    with pytest.raises(ValueError, match="did you mean 'umap'"):
        map_codes(MODEL, X, "umapp")
    with pytest.raises(TypeError, match="map_codes needs a fitted autoencoder"):
        map_codes(3, X)  # type: ignore[arg-type]


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openTSNE", "umap"):
        monkeypatch.setitem(sys.modules, name, None)
    assert map_codes(MODEL, X).method == "pca"
    for method in ("opentsne", "umap"):
        with pytest.raises(ImportError, match=r"pip install 'isthmus\[maps\]'"):
            map_codes(MODEL, X, method)


def test_files_hold_points_labels_and_neighbours(tmp_path: Path) -> None:
    found = map_codes(FLAT, X)
    assert write_map(tmp_path / "m.parquet", found, labels=Y) == 300
    table: Any = pq.read_table(tmp_path / "m.parquet").to_pydict()  # type: ignore[no-untyped-call]
    np.testing.assert_allclose(np.column_stack([table["x"], table["y"]]), found.points)
    assert table["label"][:3] == ["0", "1", "2"]
    first = table["neighbors"][0]
    away = np.linalg.norm(found.points - found.points[0], axis=1)
    assert first["ids"] == np.argsort(away, kind="stable")[1:11].tolist()
    np.testing.assert_allclose(first["distances"], np.sort(away)[1:11], rtol=1e-6)
    page = write_map_report(found, X, tmp_path / "m.html", labels=Y).read_text(encoding="utf-8")
    assert page.count("<img") == 2
    assert "trustworthiness" in page
