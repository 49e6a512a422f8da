"""Training on pairs: what `fit(X, target=…)` learns, and what it answers."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import sklearn
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from tests.estimators.pairs import BRIEF, COLOUR, GREY, TARGET, Slow, X, linear, target_of
from torch import nn

import isthmus
from isthmus import (
    KINDS,
    Autoencoder,
    Checkpoint,
    Convolutional,
    ConvolutionalAutoencoder,
    Dense,
    EncoderClassifier,
    Observed,
    UNet,
    VariationalAutoencoder,
    fit_many,
)
from isthmus.data.sources import Rows
from isthmus.exceptions import DataError, ModelFileError
from isthmus.export.graph_modules import Verb
from isthmus.tasks.generation.latent_rows import latent_plane

# -- what is learned ---------------------------------------------------------------------------------------------------


def test_a_linear_model_learns_a_linear_map_into_other_units() -> None:
    model = linear().fit(X[:200], target=TARGET[:200])
    answers = model.reconstruct(X[200:])
    assert answers.shape == (40, 4)
    assert model.score(X[200:], target=TARGET[200:]) > 0.9999
    np.testing.assert_allclose(answers, TARGET[200:], atol=0.03 * TARGET.std())
    expected = (
        1
        - (((answers - TARGET[200:]) / TARGET[:200].std(0)) ** 2).sum()
        / (((TARGET[200:] - TARGET[:200].mean(0)) / TARGET[:200].std(0)) ** 2).sum()
    )
    assert model.score(X[200:], target=TARGET[200:]) == pytest.approx(expected, abs=1e-6)


def test_errors_are_those_of_the_answers_in_units_of_the_target() -> None:
    model = linear(max_epochs=5).fit(X, target=TARGET)
    away = model.reconstruct(X) - TARGET
    np.testing.assert_allclose(model.reconstruction_error(X, target=TARGET), (away**2).mean(1), rtol=1e-6)
    each = model.reconstruction_error(X, target=TARGET, per_feature=True, metric="mean-absolute")
    np.testing.assert_allclose(each, np.abs(away), rtol=1e-6, atol=1e-9)
    chunks = list(model.stream(X, "reconstruction_error", target=TARGET, rows_per_chunk=100))
    np.testing.assert_array_equal(np.concatenate(chunks), model.reconstruction_error(X, target=TARGET))
    scaled = (away / TARGET.std(0)) ** 2
    np.testing.assert_allclose(model.score_samples(X, target=TARGET), -scaled.mean(1), rtol=1e-5)
    np.testing.assert_allclose(model.training_errors_[[0, -1]], [scaled.mean(1).min(), scaled.mean(1).max()], rtol=1e-3)


def test_noise_is_undone_by_pairs(digits: np.ndarray) -> None:
    clean = digits.reshape(len(digits), -1)
    noisy = clean + 0.3 * np.random.default_rng(1).normal(size=clean.shape)
    model = Autoencoder(16, max_epochs=20, random_state=0).fit(noisy[:-100], target=clean[:-100])
    left = np.square(model.reconstruct(noisy[-100:]) - clean[-100:]).mean()
    assert left < 0.6 * np.square(noisy[-100:] - clean[-100:]).mean()


@pytest.mark.parametrize(
    ("given", "target"),
    [(GREY, COLOUR), (COLOUR, GREY), (GREY, GREY.repeat(2, 1).repeat(2, 2)), (GREY, GREY[:, ::3, ::2] / 255.0)],
)
def test_images_are_turned_into_images_of_other_channels_and_sizes(given: np.ndarray, target: np.ndarray) -> None:
    model = ConvolutionalAutoencoder(8, network=Convolutional((4, 8)), **BRIEF).fit(given, target=target)
    answers = model.reconstruct(given[:5])
    assert answers.shape == target[:5].shape
    assert answers.dtype == target.dtype
    assert model.inverse_transform(model.transform(given[:5])).shape == target[:5].shape
    assert model.transform(given[:5]).shape == (5, 8)
    assert model.corrupt(given[:5]).shape == given[:5].shape


@pytest.mark.parametrize(
    ("given", "target", "network"),
    [
        (X[:60], X[:60].repeat(3, 1), Convolutional((4,), dimensions=1)),
        (GREY[:, :, :, None], COLOUR, Convolutional((4,), head="convolutional")),
        (COLOUR[..., None], COLOUR[:, :5, ..., None] / 255.0, Convolutional((4,), dimensions=3)),
        (GREY, X[:60], Dense((5,), decoder_sizes=(7, 6))),
        (GREY, COLOUR.repeat(2, 1), UNet((4, 6))),
    ],
)
def test_signals_volumes_and_codes_that_are_images_take_targets(
    given: np.ndarray, target: np.ndarray, network: Any
) -> None:
    model = Autoencoder(12, network=network, **BRIEF).fit(given, target=target)
    assert model.reconstruct(given).shape == target.shape
    assert np.isfinite(model.score(given, target=target))


def test_channels_first_holds_for_the_target_too() -> None:
    given, target = COLOUR.transpose(0, 3, 1, 2), GREY
    network = Convolutional((4,), channels_first=True)
    model = Autoencoder(4, network=network, **BRIEF).fit(given, target=target)
    assert model.reconstruct(given).shape == GREY.shape
    flat = Autoencoder(4, network=Convolutional((4,), image_shape=(6, 7)), **BRIEF)
    model = flat.fit(GREY.reshape(60, -1), target=GREY.reshape(60, -1) / 255.0)
    assert model.reconstruct(GREY.reshape(60, -1)).shape == (60, 42)


def test_the_loss_is_chosen_by_the_target_and_each_has_its_own_scaling() -> None:
    model = Autoencoder(3, **BRIEF).fit(X[:60], target=GREY)
    assert type(model.objective_.choices.loss).__name__ == "BinaryCrossEntropy"
    assert (model.scaling_.name, target_of(model).scaling.name) == ("standard", "pixels")
    model = Autoencoder(3, **BRIEF).fit(GREY, target=X[:60])
    assert type(model.objective_.choices.loss).__name__ == "MeanSquaredError"
    assert (model.scaling_.name, target_of(model).scaling.name) == ("pixels", "standard")
    assert model.reconstruct(GREY).dtype == np.float64
    assert Autoencoder(3, **BRIEF).fit(X[:60], target=X[:60].astype(np.float32) + 1).reconstruct(X).dtype == np.float32


def test_a_user_s_modules_may_answer_in_another_shape() -> None:
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(42, 5))
    decoder = nn.Sequential(nn.Linear(5, 126), nn.Unflatten(1, (3, 6, 7)), nn.Sigmoid())
    model = Autoencoder(5, network=(encoder, decoder), **BRIEF).fit(GREY, target=COLOUR)
    assert model.reconstruct(GREY).shape == COLOUR.shape
    rows = model.decoder_(model.encoder_(torch.from_numpy(GREY)))
    np.testing.assert_allclose(rows.detach().numpy(), model.reconstruct(GREY), atol=0.51)  # bytes are rounded


def test_a_corruption_damages_x_and_not_the_target() -> None:
    model = linear(corruption="masking", max_epochs=2).fit(X, target=TARGET)
    damaged = model.corrupt(X, random_state=0)
    np.testing.assert_allclose(damaged[damaged == X], X[damaged == X])
    assert 0.2 < np.isclose(damaged, X.mean(0)).mean() < 0.4


def test_a_gaussian_code_gives_the_likelihood_of_the_target() -> None:
    model = VariationalAutoencoder(2, network=(8,), loss="normal", max_epochs=60, learning_rate=0.02, random_state=0)
    model.fit(X, target=TARGET)
    near, far = (model.log_likelihood(X[:50], target=rows, random_state=0) for rows in (TARGET[:50], TARGET[50:100]))
    assert near.shape == (50,)
    assert near.mean() > far.mean() + 1.0
    assert model.score(X, target=TARGET) < model.score(X, target=TARGET.mean(0) + 0.0 * TARGET)
    assert model.sample(3).shape == (3, 4)
    assert model.posterior(X).mean.shape == (240, 2)


def test_new_rows_are_rows_of_the_target() -> None:
    frame = pd.DataFrame(np.round(10.0 * TARGET), columns=["north", "south", "east", "west"])
    model = linear().fit(pd.DataFrame(X, columns=list("abcdef")), target=frame)
    drawn = model.sample(2000, random_state=0)
    assert list(drawn.columns) == list(frame.columns)
    np.testing.assert_allclose(drawn.mean(), frame.mean(), atol=0.2 * frame.std().max())
    np.testing.assert_allclose(drawn.std() / frame.std(), 1.0, atol=0.2)
    assert all(drawn[name].between(frame[name].min(), frame[name].max()).all() for name in frame)
    images = Autoencoder(2, **BRIEF).fit(GREY, target=COLOUR)
    assert images.sample(3, random_state=0).shape == (3, 6, 7, 3)
    assert images.sample(3, random_state=0).dtype == np.uint8
    assert images.interpolate(GREY[0], GREY[1], 4).shape == (4, 6, 7, 3)
    assert latent_plane(images, n=2).shape == (2, 2, 6, 7, 3)
    assert linear(max_epochs=2).fit(GREY, target=X[:60]).sample(5, random_state=0).shape == (5, 6)


def test_missing_cells_of_the_target_are_left_out() -> None:
    target = TARGET.copy()
    target[::3, 1] = np.nan
    model = linear(loss=Observed()).fit(X, target=target)
    assert model.score(X, target=target) > 0.999
    assert model.score(X, target=TARGET) > 0.999  # also in the cells that were hidden


def test_conditional_models_take_labels_and_targets() -> None:
    y = np.arange(len(X)) % 2
    target = TARGET + 40.0 * y[:, None]
    model = linear(conditional=True, max_epochs=150).fit(X, y, target=target)
    assert model.score(X, y, target=target) > 0.99
    assert model.score(X, 1 - y, target=target) < 0.9
    assert model.inverse_transform(model.transform(X, y), y).shape == target.shape


def test_weights_of_rows_hold_for_their_targets() -> None:
    two = np.vstack([TARGET[:120], -TARGET[:120]])
    double = np.vstack([X[:120], X[:120]])
    first = np.repeat([1.0, 0.0], 120)
    model = linear().fit(double, target=two, sample_weight=first)
    assert model.score(X[:120], target=TARGET[:120]) > 0.999
    assert model.score(double, target=two, sample_weight=first) > 0.999
    alone = linear().fit(X[:120], target=TARGET[:120])
    np.testing.assert_array_equal(model.reconstruct(X), alone.reconstruct(X))


def test_held_out_pairs_are_split_together_and_stop_training() -> None:
    model = linear(validation_fraction=0.25, early_stopping=5).fit(X, target=TARGET)
    assert model.history_["val_loss"].min() < 0.05
    model = linear(max_epochs=5).fit(X[:200], target=TARGET[:200], X_val=X[200:], target_val=TARGET[200:])
    np.testing.assert_allclose(
        model.history_["val_loss"][-1], -model.score_samples(X[200:], target=TARGET[200:]).mean(), rtol=1e-4
    )


def test_partial_fit_goes_on_with_pairs() -> None:
    model = linear(batch_size=16)
    for _ in range(20):
        model.partial_fit(X, target=TARGET)
    assert model.score(X, target=TARGET) > 0.99
    with pytest.warns(isthmus.FitWarning, match="no better than their mean"):  # what it learned before is wrong now
        model.partial_fit(X, target=TARGET * 3)
    assert target_of(model).known.ranges[1].max() == pytest.approx((TARGET * 3).max())
    with pytest.raises(ValueError, match=r"fitted with a target of shape \(n, 4\)"):
        model.partial_fit(X)


def test_the_compiled_engine_learns_what_the_general_one_does() -> None:
    more = {"network": (64,), "max_epochs": 100, "batch_size": 16, "corruption": "gaussian-noise"}
    compiled = linear(**more).fit(X, target=TARGET)
    assert compiled.engine_.name == "compiled"
    general = linear(**more | {"optimizer": isthmus.Adam(clip_norm=1e9)}).fit(X, target=TARGET)
    assert general.engine_.name == "general"
    scores = [model.score(X, target=TARGET) for model in (compiled, general)]
    assert min(scores) > 0.8
    assert scores[0] == pytest.approx(scores[1], abs=0.03)


def test_several_models_on_pairs_end_as_each_would_alone() -> None:
    grid = {"learning_rate": [0.01, 0.02]}
    models = fit_many(linear(max_epochs=2), X, grid, target=TARGET, X_val=X[:9], target_val=TARGET[:9])
    alone = linear(max_epochs=2, learning_rate=0.02).fit(X, target=TARGET, X_val=X[:9], target_val=TARGET[:9])
    np.testing.assert_array_equal(models[1].reconstruct(X), alone.reconstruct(X))


# -- kinds of data -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("random_access", [True, False])
def test_pairs_of_sources_are_streamed_together(random_access: bool) -> None:
    given, target = Slow(X, random_access=random_access), Slow(TARGET, random_access=random_access)
    model = linear().fit(given, target=target)
    assert model.score(given, target=target) > 0.999
    assert model.score(X, target=TARGET) > 0.999
    assert linear().fit(given, target=TARGET).score(X, target=TARGET) > 0.999
    bad = TARGET.copy()
    bad[11, 2] = np.nan
    with pytest.raises(DataError, match="target has 1 NaN value, at row 11, column 2"):
        linear().fit(given, target=Slow(bad))


def test_frames_answer_in_frames_with_the_columns_of_the_target() -> None:
    frame = pd.DataFrame(X, columns=list("abcdef"), index=np.arange(240) + 1000)
    target = pd.DataFrame(TARGET, columns=["north", "south", "east", "west"])
    model = linear(max_epochs=5).fit(frame, target=target)
    answers = model.reconstruct(frame)
    assert list(answers.columns) == list(target.columns)
    assert (answers.index == frame.index).all()
    assert model.score(frame, target=target[["west", "north", "east", "south"]]) == model.score(frame, target=target)
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        np.testing.assert_array_equal(model.reconstruct(X.copy()), answers.to_numpy())
    with pytest.raises(DataError, match="target lacks 'west'"):
        model.score(frame, target=target.drop(columns="west"))
    lazy = model.reconstruct(pl.DataFrame(X, schema=list("abcdef")))
    assert lazy.columns == list(target.columns)
    codes = pd.DataFrame(model.transform(frame), index=frame.index)
    assert list(model.inverse_transform(codes).columns) == list(target.columns)
    assert isinstance(linear(max_epochs=1).fit(frame, target=TARGET).reconstruct(frame), np.ndarray)


def test_frames_are_not_paired_by_position_where_their_indexes_say_otherwise() -> None:
    frame, target = pd.DataFrame(X), pd.DataFrame(TARGET)
    shuffled = target.sample(frac=1.0, random_state=0)
    with pytest.raises(ValueError, match=r"target has the index of X in another order.*target\.loc\[X\.index\]"):
        linear(max_epochs=1).fit(frame, target=shuffled)
    model = linear(max_epochs=1).fit(frame, target=target)
    with pytest.raises(ValueError, match="index of X in another order"):
        model.score(frame, target=shuffled)
    assert model.score(frame, target=shuffled.loc[frame.index]) == model.score(frame, target=target)
    other = target.set_axis(np.arange(240) + 5000, axis=0)  # labels of its own say nothing
    assert model.score(frame, target=other) == model.score(frame, target=target)


def test_tensors_and_sparse_rows_are_given_with_targets() -> None:
    given, target = torch.from_numpy(X).float(), torch.from_numpy(TARGET).float()
    model = linear(max_epochs=2)
    codes, answers = model.fit_transform(given, target=target), model.reconstruct(given)
    assert codes.shape == (240, 4)
    assert isinstance(answers, torch.Tensor)
    assert answers.dtype == torch.float32
    sparse = scipy.sparse.csr_array(np.where(X > 3.0, X, 0.0))
    model = linear(max_epochs=2).fit(sparse, target=TARGET)
    assert model.reconstruct(sparse).shape == TARGET.shape


def test_a_fit_without_a_target_forgets_it() -> None:
    model = linear(max_epochs=1).fit(X, target=TARGET).fit(X)
    assert model.target_ is None
    assert model.reconstruct(X).shape == X.shape
    assert "target" not in model.describe()


def test_neither_rows_nor_targets_are_changed() -> None:
    given, target = X.copy(), TARGET.copy()
    model = linear(max_epochs=1, corruption="masking").fit(given, target=target)
    model.score(given, target=target)
    np.testing.assert_array_equal(given, X)
    np.testing.assert_array_equal(target, TARGET)


# -- files, copies, graphs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_learns_pairs_and_comes_back_from_its_file(kind: str, tmp_path: Path) -> None:
    more = {"align": False} if kind == "linear" else {"network": Convolutional((4,))} if kind == "convolutional" else {}
    model = KINDS[kind](code_size=4, **BRIEF, **more).fit(GREY, target=COLOUR)
    loaded = isthmus.load(model.save(tmp_path / "m.safetensors"))
    copies = [loaded, pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]  # our own bytes
    for each in copies:
        np.testing.assert_array_equal(each.reconstruct(GREY), model.reconstruct(GREY))
        assert each.score(GREY, target=COLOUR) == model.score(GREY, target=COLOUR)
        assert each.describe()["target"] == f"6×7×3 uint8, scaling '{'global' if kind == 'linear' else 'pixels'}'"
    assert not hasattr(clone(model), "target_")
    assert str(model.summary()).splitlines()[0].startswith(f"{type(model).__name__}: 6×7 → ")
    assert str(model.summary()).splitlines()[0].endswith(" → 6×7×3")
    again = KINDS[kind](code_size=4, **BRIEF, **more).fit(GREY, target=COLOUR)
    np.testing.assert_array_equal(again.reconstruct(GREY), model.reconstruct(GREY))


def test_names_and_double_precision_are_kept_in_files(tmp_path: Path) -> None:
    frame = pd.DataFrame(TARGET, columns=["north", "south", "east", "west"])
    model = linear(max_epochs=2).fit(pd.DataFrame(X, columns=list("abcdef")), target=frame)
    loaded = isthmus.load(model.save(tmp_path / "m.safetensors"))
    assert loaded.target_.names == ("north", "south", "east", "west")
    assert loaded.target_.dtype == np.float64
    for name in ("ranges", "mean", "scale"):
        np.testing.assert_array_equal(getattr(loaded.target_.known, name), getattr(target_of(model).known, name))
    loaded.partial_fit(pd.DataFrame(X, columns=list("abcdef")), target=frame)


def test_a_header_that_contradicts_itself_is_refused(tmp_path: Path) -> None:
    state = linear(max_epochs=1).fit(X, target=TARGET)._to_state()
    wrong = {**state.values, "target": None}
    with pytest.raises(ModelFileError, match="one of the two parts that describe a target"):
        Autoencoder._from_state(type(state)(state.kind, wrong, state.arrays))
    wrong = {**state.values, "target": {**state.values["target"], "dtype": "object"}}
    with pytest.raises(ModelFileError, match="a target has no dtype 'object'"):
        Autoencoder._from_state(type(state)(state.kind, wrong, state.arrays))
    arrays = {**state.arrays, "target.mean": np.zeros(3)}
    with pytest.raises(ModelFileError, match="target"):
        Autoencoder._from_state(type(state)(state.kind, state.values, arrays))
    inner = {**state.values["context"]["target"], "code_size": 9}
    wrong = {**state.values, "context": {**state.values["context"], "target": inner}}
    with pytest.raises(ModelFileError, match="another code"):
        Autoencoder._from_state(type(state)(state.kind, wrong, state.arrays))


def test_a_killed_run_on_pairs_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    whole = linear(max_epochs=4, callbacks=(Checkpoint(tmp_path / "{epoch}.safetensors"),)).fit(X, target=TARGET)
    path = tmp_path / "2.safetensors"
    resumed = linear(max_epochs=4).fit(X, target=TARGET, resume=path)
    np.testing.assert_array_equal(resumed.reconstruct(X), whole.reconstruct(X))
    np.testing.assert_array_equal(isthmus.load(path).reconstruct(X).shape, TARGET.shape)
    with pytest.raises(isthmus.IsthmusError, match="training rows"):
        linear(max_epochs=4).fit(X, target=TARGET[::-1].copy(), resume=path)


def test_graphs_answer_in_the_units_of_the_target(tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = Autoencoder(4, network=(5,), **BRIEF).fit(GREY, target=COLOUR)

    def run(what: str, **inputs: np.ndarray) -> np.ndarray:
        path = isthmus.export_onnx(model, tmp_path / f"{what}.onnx", what=what)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return session.run(None, inputs)[0]  # type: ignore[no-any-return]

    answers = run("reconstruct", **isthmus.onnx_inputs(model, GREY))
    assert answers.dtype == np.uint8
    assert np.abs(answers.astype(int) - model.reconstruct(GREY)).max() <= 1
    scores = run("score_samples", **isthmus.onnx_inputs(model, GREY, target=COLOUR))
    np.testing.assert_allclose(scores, model.score_samples(GREY, target=COLOUR), atol=1e-4)
    with pytest.raises(ValueError, match="fitted without a target"):
        isthmus.onnx_inputs(Autoencoder(2, **BRIEF).fit(X), X, target=TARGET)


def test_the_graph_of_a_conditional_model_takes_rows_labels_and_targets() -> None:
    y = np.arange(60) % 3
    model = Autoencoder(4, network=(5,), conditional=True, **BRIEF).fit(GREY, y, target=X[:60])
    verb = Verb(model, "score_samples")
    assert list(verb.inputs()) == ["X", "y", "target"]
    scores = verb(torch.from_numpy(GREY), torch.from_numpy(y), torch.from_numpy(X[:60]))
    np.testing.assert_allclose(scores.detach().numpy(), model.score_samples(GREY, y, target=X[:60]), atol=1e-4)
    assert list(Verb(model, "reconstruct").inputs()) == ["X", "y"]


def test_errors_of_a_source_are_passed_on_as_they_are() -> None:
    class Broken(Slow):
        def read(self, rows: Rows) -> np.ndarray:
            raise UnicodeDecodeError("utf-8", b"X", 0, 1, "a broken file")

    with pytest.raises(UnicodeDecodeError, match="a broken file"):
        linear().fit(X, target=Broken(TARGET))


def test_a_grid_search_routes_targets() -> None:
    with sklearn.config_context(enable_metadata_routing=True):
        model = linear(max_epochs=20).set_fit_request(target=True).set_score_request(target=True)
        search = GridSearchCV(model, {"learning_rate": [1e-6, 0.02]}, cv=2).fit(X, target=TARGET)
    assert search.best_params_ == {"learning_rate": 0.02}
    assert search.best_score_ > 0.9


def test_an_encoder_that_learned_pairs_classifies() -> None:
    y = (X[:, 0] > 3.0).astype(int)
    model = EncoderClassifier(linear(max_epochs=10).fit(X, target=TARGET), max_epochs=30, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.7
