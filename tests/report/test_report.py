"""The page of a run: whole, self-contained, and true to the model."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch

import isthmus
from isthmus import Autoencoder, Convolutional, DenoisingAutoencoder
from isthmus.diagnosis import restoration, worst_rows
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
    assert f"{-model.score_samples(digits[200:]).mean():.4f}" in page
    assert f"{model.n_parameters_:,}" in page
    assert "GaussianNoise(clip=True, scale=0.5)" in page  # as in Python


def test_a_table_names_the_columns_that_are_furthest_off(table: np.ndarray, tmp_path: Path) -> None:
    frame = pd.DataFrame(table, columns=["a<b>", "width", "depth", "mass", "age"])
    page = page_of(Autoencoder(2, max_epochs=1, random_state=0).fit(frame), frame, tmp_path)
    assert "a&lt;b&gt;" in page
    assert "a<b>" not in page
    assert "input → restored" in page


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


# -- whatever data people have -----------------------------------------------------------------------------------------

SCRIPT = "<script>alert(1)</script>"


def test_labels_titles_and_names_are_shown_literally(tmp_path: Path) -> None:
    names = [SCRIPT, "$x^{2$", "{{7*7}}"]
    X = pd.DataFrame(np.random.default_rng(0).random((60, 3)), columns=names)
    model = Autoencoder(2, max_epochs=1, random_state=0).fit(X)
    for labels in ([SCRIPT, "$a_{$", "\\frac"], ["b", "\x1b[31m", "{{7*7}}"]):
        page = page_of(model, X, tmp_path, labels=np.array(labels * 20), title=f"{SCRIPT} {{{{7*7}}}}")
        assert "<script" not in page
        assert page.count("&lt;script&gt;") >= 3
        assert "{{7*7}}" in page


@pytest.mark.parametrize("shape", [(3, 6, 7), (2, 6, 7), (6, 7, 2), (5, 6, 7), (6, 7, 8, 3)])
def test_images_of_every_layout_have_a_page(shape: tuple[int, ...], tmp_path: Path) -> None:
    X = np.random.default_rng(0).random((25, *shape))
    for code_size in (1, 3):
        model = Autoencoder(code_size, max_epochs=1, random_state=0).fit(X)
        assert "Worst reconstructions" in page_of(model, torch.from_numpy(X), tmp_path)


def test_flat_images_are_shown_as_the_network_was_told(tmp_path: Path) -> None:
    X = np.random.default_rng(0).random((25, 42))
    network = Convolutional((3,), image_shape=(6, 7))
    model = Autoencoder(2, network=network, max_epochs=1, random_state=0).fit(X)
    page = page_of(model, X, tmp_path)
    assert page.count("data:image/png;base64,") == 6  # the worst rows are a picture, and no table of columns


@pytest.mark.parametrize("n_rows", [1, 2, 3, 60])
@pytest.mark.parametrize("code_size", [1, 2, 4])
def test_single_and_constant_rows_have_a_page(n_rows: int, code_size: int, digits: np.ndarray, tmp_path: Path) -> None:
    model = Autoencoder(code_size, max_epochs=1, random_state=0).fit(digits)
    page = page_of(model, np.repeat(digits[:1], n_rows, axis=0), tmp_path, labels=["a"] * n_rows)
    assert "Map of the codes" in page


def test_rows_with_holes_have_a_page(digits: np.ndarray, tmp_path: Path) -> None:
    X = digits.copy()
    X[::3, 5] = np.nan
    model = Autoencoder(3, loss="observed", max_epochs=1, random_state=0).fit(X)
    assert "Worst reconstructions" in page_of(model, X, tmp_path)


def test_too_few_labels_are_refused(digits: np.ndarray, tmp_path: Path) -> None:
    model = Autoencoder(4, max_epochs=1, random_state=0).fit(digits)
    with pytest.raises(ValueError, match=r"labels has shape \(2,\), but X has 300 rows; pass one label for each row"):
        write_report(model, digits, tmp_path / "r.html", labels=[1, 2])
    assert not list(tmp_path.iterdir())


# -- verdicts ----------------------------------------------------------------------------------------------------------


def test_a_denoiser_is_judged_by_damaged_rows(digits: np.ndarray, tmp_path: Path) -> None:
    model = DenoisingAutoencoder(16, max_epochs=20, random_state=0).fit(digits[:200])
    found = restoration(model, digits[200:])
    page = page_of(model, digits[200:], tmp_path, X_train=digits[:200])
    assert found.psnr > found.psnr_before + 2
    for figure in (f"<b>{found.psnr_before:.1f} dB</b>", f"<b>{found.psnr:.1f} dB</b>", f"{found.error.mean():.4g}"):
        assert figure in page
    assert f"PSNR {found.psnr_before:.1f} dB → {found.psnr:.1f} dB" in page
    assert "Each row was corrupted, restored, and compared with the clean row." in page


def test_a_denoiser_of_a_table_shows_damaged_restored_and_clean_cells(table: np.ndarray, tmp_path: Path) -> None:
    model = Autoencoder(3, corruption="masking", max_epochs=1, random_state=0).fit(table)
    worst = worst_rows(model, table, 1)
    assert worst.damaged is not None
    column = int(np.square(worst.X[0] - worst.X_hat[0]).argmax())
    cell = f"{worst.damaged[0, column]:.4g} → {worst.X_hat[0, column]:.4g}, clean {worst.X[0, column]:.4g}"
    assert cell in page_of(model, table, tmp_path)


def test_a_figure_beyond_the_usual_is_never_called_ok(tmp_path: Path) -> None:
    X = isthmus.datasets.load_digits().X
    model = Autoencoder(16, max_epochs=60, random_state=0).fit(X[:1500])
    found = isthmus.diagnose(model, X[1500:], X_train=X[:1500])
    assert found.faults == ()
    for name, limit in (("over-fitting", 1.5), ("unlike-training-data", 0.1)):
        assert found[name].verdict == ("note" if found[name].value > limit else "ok")
    assert found["over-fitting"].verdict == "note"
    assert "note   over-fitting" in str(found)
    assert ">note<" in page_of(model, X[1500:], tmp_path, X_train=X[:1500])
