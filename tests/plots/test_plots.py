"""Pictures draw the numbers they are given."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from isthmus import Autoencoder, DenoisingAutoencoder, Dense
from isthmus.diagnosis import (
    code_densities,
    code_map,
    code_statistics,
    densities_of,
    pca_error,
    restoration,
    worst_rows,
)
from isthmus.plots import (
    compare_code_densities,
    plot_code_density,
    plot_code_map,
    plot_error_histogram,
    plot_network,
    plot_reconstructions,
    plot_restorations,
    plot_training_curves,
    plot_worst,
    save,
)
from isthmus.training import History


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


# -- whatever data people have -----------------------------------------------------------------------------------------


def rendered(drawn: Axes | Figure) -> None:
    """Draw everything, which is where labels are read and layouts made."""
    save(drawn, io.BytesIO())


def drawn_images(X: Any, **options: Any) -> list[np.ndarray]:
    figure = plot_reconstructions(X, X, **options)
    rendered(figure)
    return [np.asarray(ax.images[0].get_array()) for ax in figure.axes[: len(figure.axes) // 2]]


def test_layouts_of_images_are_drawn_alike() -> None:
    last = np.random.default_rng(0).random((3, 6, 7, 3))
    for got in (drawn_images(last), drawn_images(last.transpose(0, 3, 1, 2)), drawn_images(torch.from_numpy(last))):
        np.testing.assert_allclose(got, last)
    np.testing.assert_allclose(drawn_images(last.reshape(3, -1), image_shape=(6, 7, 3)), last)
    np.testing.assert_allclose(drawn_images(last[..., 0][:, None]), last[..., 0])
    two = np.concatenate([last[..., :2], 0 * last[..., :1]], axis=-1)
    np.testing.assert_allclose(drawn_images(last[..., :2]), two)


def test_of_volumes_the_middle_slice_is_drawn() -> None:
    volumes = np.random.default_rng(0).random((2, 6, 7, 8))
    np.testing.assert_allclose(drawn_images(volumes), volumes[:, 3])
    coloured = np.random.default_rng(0).random((2, 6, 7, 8, 3))
    np.testing.assert_allclose(drawn_images(coloured), coloured[:, 3])


def test_frames_flat_rows_and_single_rows_are_drawn(digits: np.ndarray) -> None:
    np.testing.assert_array_equal(drawn_images(pd.DataFrame(digits[:1])), digits[:1].reshape(1, 8, 8))


@pytest.mark.parametrize("X", [np.full((2, 5, 5), 3.0), np.full((2, 5, 5, 3), 7.0), np.full((2, 25), np.nan)])
def test_constant_and_missing_values_are_drawn(X: np.ndarray) -> None:
    assert len(drawn_images(X)) == 2


def test_colours_outside_the_unit_interval_fill_the_range_of_the_originals() -> None:
    images = np.random.default_rng(0).normal(size=(2, 5, 5, 3))
    expected = (images - images.min()) / np.ptp(images)
    np.testing.assert_allclose(drawn_images(images), expected, atol=1e-12)


@pytest.mark.parametrize(
    ("X", "X_hat", "options", "text"),
    [
        (np.ones((3, 4)), np.ones((2, 4)), {}, r"X_hat has shape \(2, 4\), but X has \(3, 4\)"),
        (np.ones((3, 4)), np.ones((3, 4)), {"noisy": np.ones((3, 5))}, r"noisy has shape \(3, 5\)"),
        (np.ones((0, 4)), np.ones((0, 4)), {}, r"X has shape \(0, 4\)"),
        (np.ones(4), np.ones(4), {}, r"X has shape \(4,\), but \(n, features\)"),
        (np.ones((3, 4)), np.ones((3, 4)), {"n": 0}, "n=0 must be >= 1"),
        (np.ones((3, 4)), np.ones((3, 4)), {"names": ["a"]}, "names has 1 names, but 2 are needed"),
        (np.ones((3, 4)), np.ones((3, 4)), {"image_shape": (3, 3)}, "does not fit rows of shape"),
    ],
)
def test_rows_that_do_not_go_together_are_refused(X: Any, X_hat: Any, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        plot_reconstructions(X, X_hat, **options)


def test_text_is_no_picture() -> None:
    with pytest.raises(TypeError, match="X has dtype <U1, but numbers are needed"):
        plot_reconstructions(np.array([["a"]]), np.array([["a"]]))
    with pytest.raises(TypeError, match="X contains values that are not numbers"):
        plot_reconstructions(np.array([["a"]], dtype=object), np.array([["a"]]))


ODD = ["cost $a_{$", "\\frac{", "<script>", "{{7*7}}", "\x1b[31m", "数", "", "_hidden"]


def test_odd_labels_are_shown_literally(model: Autoencoder, digits: np.ndarray) -> None:
    figure = plot_code_map(np.random.default_rng(0).normal(size=(80, 2)), ODD * 10).get_figure()
    assert isinstance(figure, Figure)
    rendered(figure)
    shown = {text.get_text() for text in figure.axes[1].get_yticklabels()}
    assert shown == {*ODD} - {"\x1b[31m"} | {"\\x1b[31m"}
    several = dict.fromkeys(ODD, model)
    ax = compare_code_densities(several, digits)
    rendered(ax)
    rendered(plot_training_curves(several))
    assert len(ax.lines) == len(ODD)
    rendered(plot_reconstructions(digits[:2], digits[:2], names=["$x^{", "\\"]))


def test_every_model_has_a_curve(model: Autoencoder) -> None:
    assert len(plot_training_curves({str(number): model for number in range(20)}).lines) == 40


def test_longer_codes_are_never_cut_to_two_numbers() -> None:
    with pytest.raises(ValueError, match=r"plane has shape \(9, 16\), but two.*isthmus\.diagnosis\.code_map"):
        plot_code_map(np.ones((9, 16)))


@pytest.mark.parametrize("n_rows", [1, 5])
def test_codes_of_one_number_and_single_rows_are_drawn(n_rows: int) -> None:
    codes = np.arange(float(n_rows))[:, None]
    ax = plot_code_map(torch.from_numpy(codes), ["a"] * n_rows)
    rendered(ax)
    assert ax.get_ylabel() == "(one-dimensional code)"
    np.testing.assert_array_equal(np.asarray(ax.collections[0].get_offsets())[:, 0], codes[:, 0])
    np.testing.assert_array_equal(code_map(np.ones((n_rows, 4))), np.ones((n_rows, 2)))


@pytest.mark.parametrize(
    ("plane", "labels", "text"),
    [
        (np.ones((4, 2)), [1, 2], r"labels has shape \(2,\), but \(4,\) is needed"),
        (
            np.array([[0, 1], [np.nan, 0], [np.inf, 0]]),
            None,
            "plane has 2 rows that are not finite, the first at",
        ),
        (np.ones((2, 2, 2)), None, "two coordinates"),
    ],
)
def test_maps_that_cannot_be_drawn_are_refused(plane: np.ndarray, labels: Any, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        plot_code_map(plane, labels)


def test_missing_and_many_labels_have_a_grey_of_their_own() -> None:
    plane = np.random.default_rng(0).normal(size=(60, 2))
    numbers = np.arange(60) / 7
    numbers[:5] = np.nan
    ax = plot_code_map(plane, numbers)
    rendered(ax)
    assert legend_of(ax) == ["no label"]
    assert [len(np.asarray(dots.get_offsets())) for dots in ax.collections] == [5, 55]
    ax = plot_code_map(plane, [f"class {number % 30}" for number in range(60)])
    rendered(ax)
    assert legend_of(ax) == ["11 other labels"]
    assert [len(np.asarray(dots.get_offsets())) for dots in ax.collections] == [22, 38]
    rendered(plot_code_map(plane, np.array(["a", None, 3] * 20, dtype=object)))


def test_labels_of_twenty_layers_do_not_overlap() -> None:
    X = np.random.default_rng(0).random((20, 40))
    model = Autoencoder(3, network=(38, 36, 34, 30, 26, 22, 18, 14, 10), max_epochs=1, random_state=0).fit(X)
    ax = plot_network(model)
    rendered(ax)
    figure = ax.get_figure()
    assert isinstance(figure, Figure)
    boxes = [text.get_window_extent() for text in ax.texts]
    assert len(boxes) == 42
    assert not any(a.overlaps(b) for place, a in enumerate(boxes) for b in boxes[:place])


def test_densities_are_smooth_and_true() -> None:
    draw = np.random.default_rng(0).normal(3.0, 2.0, (20_000, 1))
    density = densities_of({"a": draw})["a"]
    expected = np.exp(-np.square((density.centres - 3) / 2) / 2) / (2 * np.sqrt(2 * np.pi))
    assert np.abs(density.density - expected).max() < 0.01
    turns = np.diff(np.sign(np.diff(density.density[density.density > 0.005])))
    assert np.count_nonzero(turns) <= 3


@pytest.mark.parametrize("Z", [np.full((5, 2), 4.0), np.array([[1.5]]), np.zeros((1, 1))])
def test_densities_of_constant_codes_have_one_peak(Z: np.ndarray) -> None:
    density = densities_of({"a": Z})["a"]
    assert abs(density.centres[density.density.argmax()] - Z.ravel()[0]) < 0.05
    assert density.density.sum() * np.diff(density.centres)[0] == pytest.approx(1.0)
    rendered(plot_code_density(density))


def test_numbers_that_are_not_finite_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="errors has 1 value that is not finite, the first in row 1; drop this row"):
        plot_error_histogram([0.0, np.nan])
    with pytest.raises(ValueError, match=r"errors has shape \(2, 2\), but \(n,\)"):
        plot_error_histogram(np.ones((2, 2)))
    with pytest.raises(ValueError, match="The codes have 1 value that is not finite"):
        densities_of({"a": np.array([[np.nan, 1.0]])})
    with pytest.raises(ValueError, match="Z has 1 row with NaN or infinite values; drop this row"):
        code_map(np.array([[np.nan, 1.0]]))
    rendered(plot_error_histogram(np.full(4, 2.0)))


def test_other_objects_are_refused_in_words() -> None:
    with pytest.raises(TypeError, match="A ndarray has no losses; pass a fitted autoencoder or its history_"):
        plot_training_curves(np.ones(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="The history has no epochs"):
        plot_training_curves(History(()))
    with pytest.raises(TypeError, match="Densities are needed"):
        plot_code_density(np.ones(3))  # type: ignore[arg-type]


# -- models that restore damage ----------------------------------------------------------------------------------------


def test_a_restoration_measures_damaged_and_restored_rows_against_the_clean_ones(digits: np.ndarray) -> None:
    model = DenoisingAutoencoder(8, max_epochs=5, random_state=0).fit(digits)
    found = restoration(model, digits, 4, random_state=3)
    damaged = model.corrupt(digits, random_state=3)
    restored = model.reconstruct(damaged)
    np.testing.assert_allclose(found.error_before, np.square(damaged - digits).mean(axis=1))
    np.testing.assert_allclose(found.error, np.square(restored - digits).mean(axis=1))
    assert found.psnr_before == pytest.approx(-10 * np.log10(np.square(damaged - digits).mean()))
    assert found.psnr == pytest.approx(-10 * np.log10(np.square(restored - digits).mean()))
    order = np.argsort(found.error)[::-1][:4]
    assert found.worst.index.tolist() == order.tolist()
    assert found.worst.damaged is not None
    np.testing.assert_allclose(found.worst.damaged, damaged[order])
    np.testing.assert_allclose(found.worst.X_hat, restored[order])
    assert len(plot_worst(worst_rows(model, digits, 3)).axes) == 9


def test_a_model_without_a_corruption_restores_no_damage(model: Autoencoder, digits: np.ndarray) -> None:
    with pytest.raises(ValueError, match="has no corruption, but one is needed"):
        restoration(model, digits)


def test_restorations_show_the_same_detail_of_a_row_in_one_scale() -> None:
    bytes_, floats = np.full((300, 20), 255, np.uint8), np.full((300, 20, 3), 0.5)
    small = np.arange(150 * 10).reshape(150, 10) / 1500
    figure = plot_restorations([[bytes_, floats, small], [small, small, small]], columns=("before", "after", "clean"))
    assert [ax.get_title() for ax in figure.axes] == ["before", "after", "clean", "", "", ""]
    shown = [np.asarray(ax.images[0].get_array()) for ax in figure.axes]
    assert [image.shape for image in shown] == [(256, 20), (256, 20, 3), (256, 20), *[(150, 10)] * 3]
    assert shown[0].max() == 1.0
    assert shown[1].min() == 0.5
    np.testing.assert_array_equal(shown[2][0:4, 0:2], small[[11, 11, 12, 12]][:, [0, 0]])
