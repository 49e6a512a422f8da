"""Pictures draw the numbers they are given."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from isthmus import Autoencoder, DenoisingAutoencoder, Dense
from isthmus.diagnosis import code_densities, code_map, code_statistics, pca_error, worst_rows
from isthmus.plots import (
    compare_code_densities,
    plot_code_map,
    plot_error_histogram,
    plot_network,
    plot_reconstructions,
    plot_training_curves,
    plot_worst,
    save,
)


@pytest.fixture(scope="module")
def model(digits: np.ndarray) -> Autoencoder:
    return Autoencoder(4, network=Dense((12,)), max_epochs=3, random_state=0).fit(digits[:200], X_val=digits[200:])


def legend_of(ax: Axes) -> list[str]:
    legend = ax.get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_reconstructions_have_a_row_for_each_kind(model: Autoencoder, digits: np.ndarray) -> None:
    shown = digits[:6].reshape(6, 8, 8)
    figure = plot_reconstructions(shown, shown / 2, noisy=shown / 3, n=4)
    assert len(figure.axes) == 12
    np.testing.assert_allclose(np.asarray(figure.axes[8].images[0].get_array()), shown[0] / 2)
    assert [ax.get_ylabel() for ax in figure.axes[::4]] == ["original", "noisy", "cleaned"]


def test_flat_rows_are_images_when_square_and_lines_when_not(digits: np.ndarray) -> None:
    assert plot_reconstructions(digits[:2], digits[:2]).axes[0].images
    lines = plot_reconstructions(digits[:2, :40], digits[:2, :40]).axes[0].lines
    np.testing.assert_array_equal(lines[0].get_ydata(), digits[0, :40])


def test_coloured_images_are_drawn_as_they_are() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 5, 5, 3), dtype=np.uint8)
    drawn = np.asarray(plot_reconstructions(images, images).axes[0].images[0].get_array())
    np.testing.assert_allclose(drawn, images[0] / 255)


def test_training_curves_of_several_models_are_named(model: Autoencoder) -> None:
    ax = plot_training_curves({"a": model, "b": model.history_}, baseline=0.2, log=True)
    assert legend_of(ax) == [
        "a training",
        "a validation",
        "b training",
        "b validation",
        "baseline",
    ]
    np.testing.assert_array_equal(ax.lines[1].get_ydata(), model.history_["val_loss"])


def test_densities_share_their_bins_and_integrate_to_one(model: Autoencoder, digits: np.ndarray) -> None:
    densities = code_densities({"a": model, "b": model}, digits)
    assert np.array_equal(densities["a"].centres, densities["b"].centres)
    width = np.diff(densities["a"].centres)[0]
    assert densities["a"].density.sum() * width == pytest.approx(1.0, rel=1e-6)
    assert legend_of(compare_code_densities({"a": model}, digits)) == [f"a (mean {densities['a'].mean:.2f})"]


@pytest.mark.parametrize("n_classes", [0, 3, 15, 50])
def test_a_map_has_a_colour_bar_when_there_are_labels(n_classes: int) -> None:
    plane = np.random.default_rng(0).normal(size=(60, 2))
    labels = np.arange(60) % n_classes if n_classes else None
    figure = plot_code_map(plane, labels).get_figure()
    assert isinstance(figure, Figure)
    assert len(figure.axes) == (2 if n_classes else 1)


def test_the_network_shows_every_width(model: Autoencoder) -> None:
    texts = [text.get_text() for text in plot_network(model).texts]
    assert texts[::2] == ["64", "12", "4", "12", "64"]


def test_worst_rows_are_the_worst(model: Autoencoder, digits: np.ndarray) -> None:
    errors = model.reconstruction_error(digits)
    worst = worst_rows(model, digits, 5)
    assert worst.error[0] == errors.max()
    assert np.all(np.diff(worst.error) <= 0)
    assert plot_worst(worst).axes[0].get_title().startswith(f"row {errors.argmax()}")


def test_an_error_histogram_counts_every_row() -> None:
    bars = plot_error_histogram(np.random.default_rng(0).random(77)).patches
    assert sum(bar.get_height() for bar in bars if isinstance(bar, Rectangle)) == 77


def test_a_picture_is_saved_by_its_ending(tmp_path: Path) -> None:
    save(plot_error_histogram(np.arange(5.0)), tmp_path / "a.svg")
    save(plot_error_histogram(np.arange(5.0)), tmp_path / "a.png")
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_code_statistics_find_dead_units_and_dimensions() -> None:
    draw = np.random.default_rng(0).normal(size=(5000, 3))
    Z = np.column_stack([draw[:, 0], draw[:, 1], np.full(5000, 2.0), draw[:, 0] + draw[:, 1]])
    found = code_statistics(Z)
    assert found.dead_units == (2,)
    assert 1 < found.effective_dimension <= 2
    assert found.mean_activation == pytest.approx(0.5, abs=0.05)
    assert code_statistics(np.eye(2)).share_of_zeros == 0.5


def test_pca_error_is_that_of_pca(digits: np.ndarray) -> None:
    centred = digits - digits.mean(axis=0)
    values = np.linalg.svd(centred, compute_uv=False)
    assert pca_error(digits, 5) == pytest.approx((values[5:] ** 2).sum() / digits.size, rel=1e-3)


def test_codes_of_two_numbers_are_their_own_map() -> None:
    Z = np.random.default_rng(0).normal(size=(60, 2))
    assert np.array_equal(code_map(Z), Z)
    assert code_map(np.random.default_rng(0).normal(size=(60, 5))).shape == (60, 2)
    assert code_map(Z[:, :1]).shape == (60, 2)
    with pytest.raises(ValueError, match="method='umap' must be 'auto', 'pca' or 'tsne'"):
        code_map(Z, "umap")


def test_a_denoiser_shows_what_it_was_given(digits: np.ndarray) -> None:
    model = DenoisingAutoencoder(4, max_epochs=1, random_state=0).fit(digits)
    assert np.array_equal(model.corrupt(digits, random_state=1), model.corrupt(digits, random_state=1))
    assert not np.array_equal(model.corrupt(digits, random_state=1), digits)
