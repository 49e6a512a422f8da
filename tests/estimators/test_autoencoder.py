"""The one estimator: its parameters, its data, and its place among scikit-learn's tools."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.decomposition import PCA
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

import isthmus
from isthmus import (
    L1,
    Adam,
    Autoencoder,
    Callback,
    DenoisingAutoencoder,
    Dense,
    DivergenceError,
    DivergenceWarning,
    GaussianNoise,
    Huber,
    InterruptedWarning,
    Masking,
    MaxSteps,
    MeanSquaredError,
    SparseAutoencoder,
    TopK,
)
from isthmus.exceptions import DataError, UnitsWarning


def small(**more: Any) -> Autoencoder:
    settings: dict[str, Any] = {"code_size": 3, "max_epochs": 2, "random_state": 0}
    return Autoencoder(**(settings | more))


def test_it_beats_pca_of_the_same_size_on_held_out_digits(digits: np.ndarray) -> None:
    model = Autoencoder(8, max_epochs=150, random_state=0).fit(digits[:250])
    pca = PCA(8).fit(digits[:250])
    theirs = np.square(pca.inverse_transform(pca.transform(digits[250:])) - digits[250:]).mean()
    assert model.reconstruction_error(digits[250:]).mean() < theirs


def test_all_mistakes_are_told_at_once(digits: np.ndarray) -> None:
    model = small(code_size=0, max_epochs=2.5, corruption=Masking(7), penalty="l3", early_stopping="yes")
    with pytest.raises(ValueError, match="5 parameters are invalid") as raised:
        model.fit(digits)
    for part in (
        "code_size=0 must be an integer >= 1",
        "max_epochs=2.5",
        "fraction=7",
        "did you mean 'l2'",
        "early_stopping",
    ):
        assert part in str(raised.value)


@pytest.mark.parametrize("code_size", [0, -3, 2.0, "8", True, None])
def test_a_code_size_that_is_no_positive_integer_is_refused(code_size: Any, digits: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"code_size=.* must be an integer >= 1"):
        small(code_size=code_size).fit(digits)


def test_an_unknown_parameter_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"Unknown parameter of Autoencoder 'code_sise'; did you mean 'code_size'\?"):
        small().set_params(code_sise=3)


def test_values_outside_the_unit_interval_are_refused_with_binary_cross_entropy(table: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\], but range from"):
        small(loss="binary-cross-entropy").fit(table)
    small(loss="binary-cross-entropy", scaling="minmax").fit(table)


def test_a_device_that_is_not_there_is_refused(digits: np.ndarray) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ValueError, match="device='cuda' is not on this machine, which has cpu; use device='auto'"):
        small(device="cuda").fit(digits)
    with pytest.raises(ValueError, match="device='gpu' is not a device; use 'auto' or one of cpu"):
        small(device="gpu").fit(digits)


def test_callbacks_must_be_callbacks(digits: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"callbacks contains 'print', which is not an isthmus\.Callback"):
        small(callbacks=("print",)).fit(digits)


def test_early_stopping_needs_rows_to_look_at(digits: np.ndarray) -> None:
    with pytest.raises(ValueError, match="early_stopping needs held-out rows"):
        small(early_stopping=True, validation_fraction=0.0).fit(digits)


@pytest.mark.parametrize("shape", [(0, 4), (5, 0)])
def test_empty_data_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"0 (sample|feature)\(s\)"):
        small().fit(np.zeros(shape))


def test_text_columns_are_named() -> None:
    frame = pd.DataFrame({"age": [1.0, 2.0, 3.0], "city": ["a", "b", "c"]})
    with pytest.raises(DataError, match=r"1 column that is not numeric: 'city'"):
        small().fit(frame)
    with pytest.raises(DataError, match="'city'"):
        small().fit(pl.from_pandas(frame))


def test_nan_in_a_frame_names_its_column() -> None:
    with pytest.raises(DataError, match=r"1 NaN value, at row 1, column 0 \('age'\)"):
        small().fit(pd.DataFrame({"age": [1.0, np.nan, 3.0], "height": [1.0, 2.0, 3.0]}))


def test_frames_come_back_as_frames(table: np.ndarray) -> None:
    frame = pd.DataFrame(table, columns=list("abcde"), index=range(100, 160))
    model = small().fit(frame)
    restored = model.reconstruct(frame)
    assert isinstance(restored, pd.DataFrame)
    assert list(restored.columns) == list("abcde")
    assert list(restored.index) == list(frame.index)
    polars = model.reconstruct(pl.from_pandas(frame))
    assert isinstance(polars, pl.DataFrame)
    np.testing.assert_allclose(polars.to_numpy(), restored.to_numpy())


def test_set_output_gives_named_codes(table: np.ndarray) -> None:
    frame = pd.DataFrame(table, columns=list("abcde"))
    codes = small().set_output(transform="pandas").fit(frame).transform(frame)
    assert list(codes.columns) == ["autoencoder0", "autoencoder1", "autoencoder2"]


def test_tensors_come_back_as_tensors(digits: np.ndarray) -> None:
    X = torch.from_numpy(digits).float()
    model = small().fit(X)
    Z = model.transform(X)
    assert isinstance(Z, torch.Tensor)
    assert Z.dtype == torch.float32
    assert isinstance(model.inverse_transform(Z), torch.Tensor)
    assert model.reconstruct(X).shape == X.shape


def test_sparse_rows_are_taken_and_give_what_dense_rows_give(digits: np.ndarray) -> None:
    dense = np.where(digits > 0.5, digits, 0.0)
    from_sparse = small().fit(scipy.sparse.csr_matrix(dense))
    np.testing.assert_allclose(
        from_sparse.transform(scipy.sparse.csr_array(dense)), small().fit(dense).transform(dense)
    )


def test_pictures_with_channels_are_taken() -> None:
    images = np.random.default_rng(0).random((20, 4, 5, 3))
    assert small().fit(images).reconstruct(images).shape == images.shape


def test_units_of_the_user_come_back(table: np.ndarray) -> None:
    model = small(code_size=5, max_epochs=300, network=(), learning_rate=0.05).fit(table)
    error = np.abs(model.reconstruct(table) - table).mean(axis=0) / table.std(axis=0)
    assert error.max() < 0.2


def test_single_precision_rows_give_single_precision_codes(digits: np.ndarray) -> None:
    model = small().fit(digits)
    single, double = model.transform(digits.astype(np.float32)), model.transform(digits)
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(single, double, atol=1e-5)


def test_stream_gives_the_same_as_the_verbs(digits: np.ndarray) -> None:
    model = small().fit(digits)
    chunks = list(model.stream(digits, "reconstruct", rows_per_chunk=70))
    assert [len(chunk) for chunk in chunks] == [70, 70, 70, 70, 20]
    np.testing.assert_allclose(np.concatenate(chunks), model.reconstruct(digits))
    with pytest.raises(ValueError, match="verb='predict' is not a result of a model; use one of transform"):
        model.stream(digits, "predict")


def test_codes_of_the_wrong_width_are_refused(digits: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"Z has shape \(300, 64\), but Autoencoder has codes of shape \(n, 3\)"):
        small().fit(digits).inverse_transform(digits)


def test_it_works_in_a_pipeline_and_in_cross_validation(table: np.ndarray) -> None:
    pipeline = make_pipeline(StandardScaler(), small())
    assert pipeline.fit(table).transform(table).shape == (60, 3)
    assert cross_val_score(small(), table, cv=3).shape == (3,)


def test_grid_search_reaches_into_a_choice_named_by_a_string(digits: np.ndarray) -> None:
    model = DenoisingAutoencoder(3, max_epochs=1, random_state=0)
    search = GridSearchCV(model, {"corruption__scale": [0.1, 0.3]}, cv=2).fit(digits)
    assert search.best_params_["corruption__scale"] in (0.1, 0.3)
    assert GridSearchCV(
        small(corruption=GaussianNoise()), {"corruption__scale": [0.1], "code_size": [2]}, cv=2
    ).fit(digits).best_estimator_.corruption.scale == 0.1  # fmt: skip


def test_a_denoiser_cleans(digits: np.ndarray) -> None:
    model = DenoisingAutoencoder(16, corruption=GaussianNoise(0.3), max_epochs=150, random_state=0).fit(digits[:250])
    noisy = model.corrupt(digits[250:], random_state=1)
    before, after = (np.square(X - digits[250:]).mean() for X in (noisy, model.reconstruct(noisy)))
    assert after < 0.7 * before


def test_a_sparse_code_has_zeros_and_is_weaker_than_without_penalty(digits: np.ndarray) -> None:
    plain = Autoencoder(16, code="relu", max_epochs=60, random_state=0).fit(digits)
    sparse = SparseAutoencoder(16, penalty=L1(1e-3), max_epochs=60, random_state=0).fit(digits)
    assert sparse.transform(digits).mean() < 0.5 * plain.transform(digits).mean()
    assert (sparse.transform(digits) == 0).mean() > 0.1


def test_modules_of_the_user_are_trained_and_left_as_they_were(digits: np.ndarray) -> None:
    encoder = nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3))
    decoder = nn.Linear(3, 64)
    before = decoder.weight.detach().clone()
    model = small(network=(encoder, decoder), max_epochs=5).fit(digits)
    assert model.history_["loss"][-1] < model.history_["loss"][0]
    assert torch.equal(decoder.weight, before)
    assert [layer.kind for layer in model.layers()] == ["Dense", "Dense", "Plain", "Dense"]


def test_the_layer_table_counts_every_parameter_once(digits: np.ndarray) -> None:
    model = small(network=Dense((10,), tied=True)).fit(digits)
    assert sum(layer.n_parameters for layer in model.layers()) == model.n_parameters_
    assert model.n_parameters_ == 64 * 10 + 10 * 3 + (10 + 3) + (10 + 64)


def test_tied_weights_stay_tied_through_training(digits: np.ndarray) -> None:
    model = small(network=Dense((10,), tied=True), max_epochs=3).fit(digits)
    first, *_ = model.objective_.encoder.children()
    *_, last = model.objective_.decoder.children()
    assert first.weight is last.weight
    assert isinstance(last.weight, torch.Tensor)
    np.testing.assert_array_equal(last.weight.detach().numpy().T.shape, (64, 10))


def test_validation_rows_are_measured_and_not_learned_from(digits: np.ndarray) -> None:
    held_out = small(validation_fraction=0.2).fit(digits)
    assert np.isfinite(held_out.history_["val_loss"]).all()
    given = small().fit(digits[:200], X_val=digits[200:])
    assert len(given.history_["val_loss"]) == 2
    assert "val_loss" not in small().fit(digits).history_.columns


def test_early_stopping_restores_the_best_weights(digits: np.ndarray) -> None:
    model = small(early_stopping=3, max_epochs=400, schedule="constant", learning_rate=0.02).fit(
        digits[:60], X_val=digits[200:]
    )
    assert model.stop_reason_ == "early stopping"
    assert model.n_epochs_ < 400
    assert -model.score_samples(digits[200:]).mean() == pytest.approx(model.history_["val_loss"].min(), rel=1e-4)


def test_max_steps_stops_in_the_middle_of_an_epoch(digits: np.ndarray) -> None:
    model = small(callbacks=[MaxSteps(5)], batch_size=10).fit(digits)
    assert model.stop_reason_ == "stopped by a callback"
    assert len(model.history_) == 1


class Spoil(Callback):
    """Makes all weights NaN, or raises what Ctrl-C raises, in an epoch."""

    def __init__(self, epoch: int, *, interrupt: bool = False) -> None:
        self.epoch, self.interrupt = epoch, interrupt

    def on_epoch_start(self, run: Any) -> None:
        if run.epoch == self.epoch and self.interrupt:
            raise KeyboardInterrupt
        if run.epoch == self.epoch:
            run.engine.flat.values.data.fill_(float("nan"))


def test_a_loss_that_is_not_finite_goes_back_to_the_best_weights_and_says_so(digits: np.ndarray) -> None:
    model = small(callbacks=[Spoil(3)], max_epochs=8, batch_size=100)
    text = r"not finite at step 10 \(epoch 4\).*learning rate.*the weights of epoch 3 are kept"
    with pytest.warns(DivergenceWarning, match=text):
        model.fit(digits)
    assert model.stop_reason_ == "diverged"
    assert np.isfinite(model.transform(digits)).all()


def test_a_loss_that_is_not_finite_at_once_is_an_error(digits: np.ndarray) -> None:
    with pytest.raises(DivergenceError, match=r"not finite at step 1 \(epoch 1\).*Use a lower learning_rate"):
        small(callbacks=[Spoil(0)]).fit(digits)


def test_ctrl_c_keeps_the_best_so_far_and_says_so(digits: np.ndarray) -> None:
    model = small(callbacks=[Spoil(2, interrupt=True)], max_epochs=8)
    with pytest.warns(InterruptedWarning, match=r"interrupted in epoch 3; the weights of epoch 2 are kept"):
        model.fit(digits)
    assert model.stop_reason_ == "interrupted"
    assert len(model.history_) == 2


def test_gradient_clipping_bounds_what_a_step_can_do(digits: np.ndarray) -> None:
    tight = small(optimizer=Adam(clip_norm=1e-12, epsilon=1.0), schedule="constant", max_epochs=1).fit(digits)
    free = small(optimizer=Adam(epsilon=1.0), schedule="constant", max_epochs=1).fit(digits)
    assert tight.score(digits) < free.score(digits)


@pytest.mark.parametrize("precision", ["bf16", "tf32"])
def test_lower_precision_trains_too(precision: str, digits: np.ndarray) -> None:
    history = small(precision=precision, max_epochs=10).fit(digits).history_
    assert history["loss"][-1] < history["loss"][0]


def test_the_global_generators_are_left_alone(digits: np.ndarray) -> None:
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    small().fit(digits)
    assert torch.equal(torch.rand(3), expected)


@given(n=st.integers(2, 12), d=st.integers(1, 6), code=st.integers(1, 8), single=st.booleans())
@settings(max_examples=15, deadline=None)
def test_any_small_table_goes_through(n: int, d: int, code: int, single: bool) -> None:
    X = np.random.default_rng(n * 100 + d).normal(size=(n, d)).astype(np.float32 if single else np.float64)
    model = Autoencoder(code, max_epochs=1, random_state=0).fit(X)
    assert model.transform(X).shape == (n, code)
    assert model.reconstruct(X).dtype == X.dtype


def test_a_loss_given_as_an_object_is_used_as_it_is(table: np.ndarray) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = small(loss=MeanSquaredError(activation="tanh"), scaling="none").fit(table / 1000)
    with pytest.warns(UnitsWarning, match="far outside"):
        restored = model.reconstruct(table)
    assert np.abs(restored).max() <= 1.0


def test_errors_in_three_metrics(table: np.ndarray) -> None:
    model = Autoencoder(2, max_epochs=2, random_state=0).fit(table)
    off = model.reconstruct(table) - table
    for metric, expected in (
        ("mean-squared", (off**2).mean(1)),
        ("root-mean-squared", (off**2).mean(1) ** 0.5),
        ("mean-absolute", np.abs(off).mean(1)),
    ):
        np.testing.assert_allclose(model.reconstruction_error(table, metric=metric), expected, rtol=1e-9)
    np.testing.assert_allclose(
        model.reconstruction_error(table, metric="mean-absolute", per_feature=True), np.abs(off), rtol=1e-9
    )
    with pytest.raises(ValueError, match="did you mean 'mean-squared'"):
        model.reconstruction_error(table, metric="mean-square")


def test_the_activity_of_each_unit_is_kept(digits: np.ndarray, tmp_path: Path) -> None:
    model = Autoencoder(12, code=TopK(3), max_epochs=5, random_state=0).fit(digits)
    codes = model.transform(digits)
    np.testing.assert_allclose(model.unit_activity_, (codes != 0).mean(0), atol=1e-6)
    assert model.unit_activity_.sum() == pytest.approx(3)
    np.testing.assert_allclose(model.unit_means_, codes.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(isthmus.load(model.save(tmp_path / "m.safetensors")).unit_means_, model.unit_means_)


@pytest.mark.parametrize(
    "fit",
    [
        lambda X, Y: Autoencoder(2).fit(X, Y),
        lambda X, Y: Autoencoder(2).partial_fit(X, Y),
        lambda X, Y: Autoencoder(2).fit(X, X_val=X, y_val=Y),
        lambda X, Y: Autoencoder(2, max_epochs=1).fit(X).score(X, Y),
        lambda X, Y: isthmus.fit_many(Autoencoder(2), X, {"code_size": [2]}, Y),
        lambda X, Y: isthmus.AnomalyDetector().fit(X, Y),
    ],
)
def test_targets_are_refused_where_they_would_be_ignored(fit: Any, table: np.ndarray) -> None:
    for targets in (table + 1.0, (table + 1.0).tolist(), torch.from_numpy(table), pd.DataFrame(table)):
        with pytest.raises(ValueError, match=r"y has shape \(60, 5\), but .* takes no targets.*DenoisingAutoencoder"):
            fit(table, targets)


def test_labels_stay_ignored(table: np.ndarray) -> None:
    y = (table[:, 0] > 0).astype(int)
    assert np.array_equal(small().fit(table, y).transform(table), small().fit(table).transform(table))


def test_a_conditional_model_gives_y_to_fit_and_transform(table: np.ndarray) -> None:
    y = np.where(table[:, 0] > 0, "a", "b")
    apart = small(conditional=True).fit(table, y).transform(table, y)
    assert np.array_equal(small(conditional=True).fit_transform(table, y), apart)
    pipeline = make_pipeline(small(conditional=True), StandardScaler()).fit(table, y)
    assert pipeline[-1].mean_.shape == (3,)
    frame = small(conditional=True).set_output(transform="pandas").fit_transform(table, y)
    assert np.array_equal(frame.to_numpy(), apart)
    assert list(frame.columns) == ["autoencoder0", "autoencoder1", "autoencoder2"]


@pytest.mark.parametrize(
    ("start", "change"),
    [
        ({"code": "plain"}, {"code": "relu"}),
        ({"loss": Huber(delta=1.0, activation=None)}, {"loss__delta": 0.01}),
        ({"code": isthmus.Plain("tanh")}, {"code__activation": None}),
        ({"network": (8,)}, {"network": (3,)}),
        ({}, {"code_size": 2}),
        ({}, {"scaling": "none"}),
        ({}, {"conditional": True}),
        ({"loss": isthmus.Observed(Huber(activation=None))}, {"loss__loss__delta": 0.01}),
        ({"corruption": [GaussianNoise(0.1)]}, {"corruption": None}),
    ],
)
def test_a_fitted_model_answers_as_fitted_after_set_params(
    start: dict[str, Any], change: dict[str, Any], table: np.ndarray
) -> None:
    def answers() -> list[np.ndarray]:
        codes = model.transform(table)
        rows = model.inverse_transform(codes), model.reconstruct(table), model.corrupt(table, random_state=0)
        return [codes, *rows, model.score_samples(table), np.array([layer.n_parameters for layer in model.layers()])]

    model = small(**start).fit(table)
    before = answers()
    model.set_params(**change)
    for one, other in zip(before, answers(), strict=True):
        np.testing.assert_array_equal(one, other)
