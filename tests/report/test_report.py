"""The page of a run: whole, self-contained, and true to the model."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse

import isthmus
from isthmus import Autoencoder, DenoisingAutoencoder
from isthmus.exceptions import OutputError
from isthmus.report import layer_table, write_report


def page_of(model: Autoencoder, X: object, tmp_path: Path, **more: object) -> str:
    return write_report(model, X, tmp_path / "r.html", **more).read_text()  # type: ignore[arg-type]


def test_a_page_is_self_contained_and_tells_the_figures(digits: np.ndarray, tmp_path: Path) -> None:
    model = DenoisingAutoencoder(4, max_epochs=2, random_state=0).fit(digits[:200], X_val=digits[200:])
    page = page_of(model, digits[200:], tmp_path, labels=np.arange(100) % 10, X_train=digits[:200])
    assert not re.search(r"(src|href)=\"(?!data:)", page)
    assert "<script" not in page
    assert page.count("data:image/png;base64,") == 6
    assert f"{-model.score(digits[200:]):.4f}" in page
    assert f"{model.n_parameters_:,}" in page
    assert "GaussianNoise(clip=true, scale=0.5)" in page


def test_a_table_names_the_columns_that_are_furthest_off(table: np.ndarray, tmp_path: Path) -> None:
    frame = pd.DataFrame(table, columns=["a<b>", "width", "depth", "mass", "age"])
    page = page_of(Autoencoder(2, max_epochs=1, random_state=0).fit(frame), frame, tmp_path)
    assert "a&lt;b&gt;" in page
    assert "a<b>" not in page
    assert "seen → restored" in page


def test_images_signals_and_sparse_rows_have_pages(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (20, 6, 5, 3), dtype=np.uint8)
    signals = draw.normal(size=(20, 41)).astype(np.float32)
    sparse = scipy.sparse.random(30, 50, 0.1, format="csr", random_state=0)
    for X in (images, signals, sparse):
        assert "Worst reconstructions" in page_of(Autoencoder(2, max_epochs=1, random_state=0).fit(X), X, tmp_path)


def test_a_loaded_model_has_the_same_page(digits: np.ndarray, tmp_path: Path) -> None:
    model = Autoencoder(4, max_epochs=1, random_state=0).fit(digits)
    model.save(tmp_path / "m.safetensors")
    page = page_of(model, digits, tmp_path)
    assert page_of(isthmus.load(tmp_path / "m.safetensors"), digits, tmp_path) == page


def test_an_existing_page_is_kept_where_it_must_not_be_replaced(digits: np.ndarray, tmp_path: Path) -> None:
    model = Autoencoder(4, max_epochs=1, random_state=0).fit(digits)
    (tmp_path / "r.html").write_text("old")
    with pytest.raises(OutputError, match="exists; choose another name"):
        write_report(model, digits, tmp_path / "r.html", overwrite=False)
    assert (tmp_path / "r.html").read_text() == "old"


def test_the_layer_table_sums_up(digits: np.ndarray) -> None:
    model = Autoencoder(4, max_epochs=1, random_state=0).fit(digits)
    rows = layer_table(model).rows
    assert sum(int(row[-1].replace(",", "")) for row in rows[:-1]) == int(rows[-1][-1].replace(",", ""))
