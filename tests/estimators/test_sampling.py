"""New rows from fitted models: values, labels, files and refusals."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import isthmus
from isthmus import Autoencoder, TopK, VariationalAutoencoder
from isthmus.estimators.code_mixture import fit_mixture

DRAW = np.random.default_rng(0)
N = 600
AGE = DRAW.integers(18, 80, N)
FRAME = pd.DataFrame(
    {"age": AGE, "income": DRAW.normal(0, 17.8, N) + 0.3 * AGE, "tall": (DRAW.random(N) < 0.3).astype(int)}
)
IMAGES = DRAW.random((60, 6, 6))


@cache
def kept() -> Autoencoder:
    return Autoencoder(1, network=(16,), max_epochs=20, random_state=0).fit(FRAME)


def on_frame() -> Autoencoder:
    return copy.deepcopy(kept())


def test_rows_of_a_table_keep_spread_correlations_names_and_whole_numbers() -> None:
    made = on_frame().sample(4000, random_state=0)
    assert list(made) == list(FRAME)
    assert made.dtypes["age"] == np.int64
    assert made.dtypes["tall"] == np.int64
    np.testing.assert_allclose(made.std(), FRAME.std(), rtol=0.15)
    np.testing.assert_allclose(made.mean(), FRAME.mean(), rtol=0.15)
    np.testing.assert_allclose(made.corr(), FRAME.corr(), atol=0.08)
    assert made["age"].between(18, 79).all()
    means = on_frame().sample(4000, draw=False, random_state=0)
    assert means["income"].std() < 0.8 * FRAME["income"].std()


def test_missing_cells_of_a_training_table_do_not_narrow_what_is_drawn() -> None:
    holed = FRAME[["age", "income"]].to_numpy(float).copy()
    holed[DRAW.random(holed.shape) < 0.3] = np.nan
    made = Autoencoder(1, network=(8,), loss="observed", max_epochs=20, random_state=0).fit(holed).sample(4000)
    assert made.shape == (4000, 2)
    np.testing.assert_allclose(made.std(axis=0), np.nanstd(holed, axis=0), rtol=0.2)


def test_counts_flags_and_categories_are_drawn_as_such() -> None:
    counts = DRAW.poisson(DRAW.gamma(1.0, 5.0, (400, 1)), (400, 3)).astype(float)
    model: Any = Autoencoder(1, loss="poisson", network=(8,), max_epochs=30, random_state=0).fit(counts)
    made = model.sample(2000, random_state=0)
    assert np.array_equal(made, np.round(made))
    assert made.std() == pytest.approx(counts.std(), rel=0.2)
    alike = np.where(DRAW.random((400, 4)) < 0.1, 1, 0) ^ (DRAW.random((400, 1)) < 0.3)
    flags = pd.DataFrame(alike.astype(float)).rename(columns=str)
    made = Autoencoder(1, network=(), max_epochs=150, random_state=0).fit(flags).sample(2000, random_state=0)
    assert set(np.unique(made)) == {0, 1}
    np.testing.assert_allclose(made.mean(), flags.mean(), atol=0.08)
    np.testing.assert_allclose(made.corr(), flags.corr(), atol=0.2)
    words = np.eye(3)[DRAW.choice(3, 400, p=[0.6, 0.3, 0.1])]
    model = Autoencoder(2, loss="categorical-cross-entropy", network=(), max_epochs=40, random_state=0).fit(words)
    made = model.sample(2000, draw=True, random_state=0)
    assert (made.sum(axis=1) == 1).all()
    np.testing.assert_allclose(made.mean(axis=0), words.mean(axis=0), atol=0.1)


def test_images_are_means_in_their_shape_unless_draws_are_asked_for() -> None:
    model = Autoencoder(3, network=(), max_epochs=2, random_state=0).fit(IMAGES)
    means, draws = model.sample(5, random_state=0), model.sample(5, draw=True, random_state=0)
    assert means.shape == draws.shape == (5, 6, 6)
    assert draws.std() > 2 * means.std()
    as_bytes = Autoencoder(3, network=(), max_epochs=2, random_state=0).fit((IMAGES * 255).astype(np.uint8))
    assert as_bytes.sample(5, draw=True, random_state=0).dtype == np.uint8


def test_a_mixture_of_each_label_is_stored_and_draws_rows_of_the_label(tmp_path: Path) -> None:
    X = np.concatenate([DRAW.normal(0, 1, (200, 3)), DRAW.normal(9, 1, (100, 3))])
    y = np.repeat(["low", "high"], [200, 100])
    model = Autoencoder(2, network=(8,), max_epochs=60, random_state=0).fit(X).fit_sampler(X, y)
    assert model.sample(200, "high", random_state=0).mean() == pytest.approx(9, abs=1)
    mixed = model.sample(4, ["low", "high", "high", "low"], random_state=0).mean(axis=1)
    assert (mixed > 4.5).tolist() == [False, True, True, False]
    assert (model.sample(900, random_state=0).mean(axis=1) > 4.5).mean() == pytest.approx(1 / 3, abs=0.06)
    loaded = isthmus.load(model.save(tmp_path / "m.safetensors"))
    assert np.array_equal(loaded.sample(50, "high", random_state=1), model.sample(50, "high", random_state=1))
    again = isthmus.load(loaded.save(tmp_path / "n.safetensors"))
    assert np.array_equal(again.sample(5, random_state=1), model.sample(5, random_state=1))
    assert not hasattr(model.fit(X), "code_mixture_")


def test_samples_depend_on_the_seed_alone_and_survive_a_file(tmp_path: Path) -> None:
    model = on_frame()
    loaded = isthmus.load(model.save(tmp_path / "m.safetensors"))
    wanted = model.sample(20, random_state=3)
    pd.testing.assert_frame_equal(loaded.sample(20, random_state=3), wanted)
    pd.testing.assert_frame_equal(model.sample(20, random_state=3), wanted)
    assert not model.sample(20, random_state=4).equals(wanted)


def test_a_gaussian_code_draws_from_its_prior_until_a_mixture_is_asked_for() -> None:
    X = IMAGES.reshape(60, -1)
    model = VariationalAutoencoder(2, network=(), max_epochs=2, random_state=0).fit(X)
    prior = model.sample(5, random_state=0)
    assert not np.array_equal(model.sample(5, source="mixture", random_state=0), prior)
    assert np.array_equal(model.sample(5, random_state=0), prior)
    model.fit_sampler(X)
    assert not np.array_equal(model.sample(5, random_state=0), prior)
    assert np.array_equal(model.sample(5, source="prior", random_state=0), prior)


def test_a_sparse_code_is_drawn_sparse() -> None:
    model = Autoencoder(6, code=TopK(2), network=(), max_epochs=2, random_state=0).fit(IMAGES)
    seen: list[Any] = []
    model.objective_.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].numpy()))
    model.sample(9, draw=True, random_state=0)
    assert ((seen[-1] != 0).sum(axis=1) <= 2).all()


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda m: m.sample(0), "n=0 must be an integer >= 1"),
        (lambda m: m.sample(2.5), "n=2.5 must be an integer >= 1"),
        (lambda m: m.sample(2, source="mixtures"), "did you mean 'mixture'"),
        (lambda m: m.sample(2, source="prior"), "needs a Gaussian code"),
        (lambda m: m.sample(2, draw="no"), "draw='no' must be True, False or 'auto'"),
        (lambda m: m.sample(2, "high"), r"knows no labels; call fit_sampler\(X, y\) first"),
        (lambda m: m.fit_sampler(FRAME, [1, 2]), r"labels of shape \(600,\) are needed"),
        (lambda m: m.fit_sampler(FRAME, [np.nan] * N), "600 missing labels, the first at row 0"),
        (lambda m: m.interpolate(FRAME[:1], FRAME[1:2], 1), "steps=1 must be an integer >= 2"),
        (lambda m: m.interpolate(FRAME[:1], FRAME[1:2], method="arc"), "arc"),
        (lambda m: m.interpolate(FRAME[:2], FRAME[1:2]), r"a has shape \(2, 3\), but one row"),
        (lambda m: m.moved(FRAME, [1.0, 2.0]), r"direction has shape \(2,\), but finite numbers of shape \(1,\)"),
    ],
)
def test_bad_requests_name_the_remedy(ask: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask(on_frame())


def test_unknown_labels_and_older_files_are_refused() -> None:
    model = on_frame().fit_sampler(FRAME, FRAME["tall"])
    with pytest.raises(ValueError, match="y contains 7, which is not among the labels of fit_sampler: 0, 1"):
        model.sample(2, 7)
    with pytest.raises(ValueError, match=r"one label, or labels of shape \(3,\)"):
        model.sample(3, [0, 1])
    old = on_frame()
    del old.code_sample_
    with pytest.raises(ValueError, match=r"neither a prior nor codes .* call fit_sampler\(X\)"):
        old.sample(2)
    assert len(old.fit_sampler(FRAME).sample(2)) == 2
    older = VariationalAutoencoder(1, network=(), max_epochs=2, random_state=0).fit(FRAME)
    wanted = older.fit_sampler(FRAME).sample(50, random_state=0)
    for name in ("noise_mean_", "noise_factor_", "whole_features_", "code_mixture_"):
        delattr(older, name)
    with pytest.raises(ValueError, match=r"does not know the spread of rows .* or use draw=False"):
        older.sample(2, source="prior")
    assert len(older.sample(2, source="prior", draw=False)) == 2
    pd.testing.assert_frame_equal(older.fit_sampler(FRAME).sample(50, random_state=0), wanted, atol=2)


def test_the_mixture_finds_clusters_and_keeps_the_range() -> None:
    clusters = np.concatenate([DRAW.normal(c, 0.1, (300, 2)) for c in (0, 5, 10)])
    mixture = fit_mixture(clusters)
    assert len(mixture.weights) >= 3
    made = mixture.draw(3000, np.random.default_rng(0))
    assert (np.abs(made[:, :1] - [[0.0, 5.0, 10.0]]).min(axis=1) < 0.7).mean() > 0.99
    assert (made >= clusters.min(axis=0) - 1e-6).all()
    assert (made <= clusters.max(axis=0) + 1e-6).all()
    assert fit_mixture(np.full((3, 2), 7.0)).draw(2, np.random.default_rng(0)).tolist() == [[7, 7], [7, 7]]


def test_rows_between_two_rows_start_and_end_at_their_reconstructions() -> None:
    model = VariationalAutoencoder(3, network=(), max_epochs=2, random_state=0).fit(IMAGES)
    for method in ("linear", "spherical"):
        between = model.interpolate(IMAGES[0], IMAGES[1:2], 5, method=method)
        assert between.shape == (5, 6, 6)
        np.testing.assert_allclose(between[[0, -1]], model.reconstruct(IMAGES[:2]), atol=1e-5)
    frame = on_frame().interpolate(FRAME.iloc[0], FRAME.iloc[[1]], 4)
    assert list(frame) == list(FRAME)


def test_arcs_keep_the_norm_of_codes() -> None:
    from isthmus.estimators.code_arithmetic import _on_arc  # noqa: PLC0415  # the formula itself

    share = np.linspace(0, 1, 5)[:, None]
    arc = _on_arc(np.array([2.0, 0.0]), np.array([0.0, 2.0]), share)
    np.testing.assert_allclose(np.linalg.norm(arc, axis=1), 2.0)
    np.testing.assert_allclose(arc[2], [2**0.5, 2**0.5])
    for other in (np.zeros(2), np.array([4.0, 0.0]), np.array([-2.0, 0.0])):
        assert np.isfinite(_on_arc(np.array([2.0, 0.0]), other, share)).all()


def test_grids_of_codes_decode_as_the_model_does() -> None:
    model = VariationalAutoencoder(2, network=(), max_epochs=2, random_state=0).fit(IMAGES)
    plane = isthmus.latent_plane(model, n=3)
    assert plane.shape == (3, 3, 6, 6)
    np.testing.assert_allclose(plane[1, 1], model.inverse_transform(np.zeros((1, 2)))[0], atol=1e-5)
    high = np.array([[1.6448536, -1.6448536]], np.float32)  # right, and below
    np.testing.assert_allclose(plane[2, 2], model.inverse_transform(high)[0], atol=1e-5)
    along = isthmus.traversals(model, [1], n=3, row=IMAGES[:1])
    assert along.shape == (1, 3, 6, 6)
    for call, words in (
        (lambda: isthmus.latent_plane(model, (0, 0)), "two different units"),
        (lambda: isthmus.latent_plane(model, (0, 2)), "units of the code, 0 to 1"),
        (lambda: isthmus.traversals(model, n=1), "n=1 must be an integer >= 2"),
        (lambda: isthmus.traversals(model, margin=0.5), "margin=0.5"),
    ):
        with pytest.raises(ValueError, match=words):
            call()  # type: ignore[no-untyped-call]


def test_a_model_of_pairs_draws_rows_like_its_targets() -> None:
    X = DRAW.normal(size=(300, 3))
    target = np.column_stack([5.0 + 2.0 * X[:, 0], DRAW.normal(0, 3, 300)])
    made = (
        Autoencoder(2, network=(8,), max_epochs=20, random_state=0).fit(X, target=target).sample(2000, random_state=0)
    )
    assert made.shape == (2000, 2)
    np.testing.assert_allclose(made.std(axis=0), target.std(axis=0), rtol=0.2)
    np.testing.assert_allclose(made.mean(axis=0), target.mean(axis=0), atol=0.6)
