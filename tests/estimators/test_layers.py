"""The layer table, and any layer's output as a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import isthmus
from isthmus import Autoencoder, Dense


@pytest.fixture(scope="module")
def model(digits: np.ndarray) -> Autoencoder:
    return Autoencoder(3, network=Dense((12, 7), activation="relu"), max_epochs=2, random_state=0).fit(digits)


def test_every_layer_gives_what_the_network_gives_there(model: Autoencoder, digits: np.ndarray) -> None:
    h = torch.from_numpy(digits)
    objective = model.objective_.as_dtype(torch.float64)
    by_hand, chain = [], [*objective.encoder.children(), *objective.decoder.children()]
    for layer in chain:
        h = layer(h)
        by_hand.append(h.detach().numpy())
    # encoder: linear, relu, linear, relu, linear; the table has one row for a layer with its activation
    for place, step in ((0, 1), (1, 3), (2, 4), (4, 6), (5, 8)):
        np.testing.assert_array_equal(model.output_of(place).transform(digits), by_hand[step])
    np.testing.assert_array_equal(model.output_of("code").transform(digits), model.transform(digits))
    np.testing.assert_allclose(model.output_of(-1).transform(digits), model.reconstruct(digits))
    shapes = [layer.output_shape for layer in model.layers()]
    assert [model.output_of(place).transform(digits).shape[1:] for place in range(len(shapes))] == shapes


def test_a_layer_goes_into_a_pipeline(model: Autoencoder, digits: np.ndarray) -> None:
    scaled = make_pipeline(model.output_of(0), StandardScaler()).fit_transform(digits)
    assert scaled.shape == (len(digits), 12)


def test_feature_maps_of_a_convolutional_network() -> None:
    images = np.random.default_rng(0).random((6, 8, 8))
    model = Autoencoder(3, network="convolutional", max_epochs=1, random_state=0).fit(images)
    first = model.output_of(0).transform(images)
    assert first.shape == (6, *model.layers()[0].output_shape)
    assert first.ndim == 4


@pytest.mark.parametrize("layer", [7, -8, "middle", 1.5])
def test_a_layer_that_is_not_there_is_refused(layer: Any, model: Autoencoder) -> None:
    with pytest.raises(ValueError, match=r"must be 'code' or a row of layers\(\), -7 to 6"):
        model.output_of(layer)


# -- plain PyTorch -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scaling", ["standard", "minmax", "none"])
def test_encoder_and_decoder_work_in_the_units_of_the_data(scaling: str, table: np.ndarray) -> None:
    model = Autoencoder(2, network=(8,), scaling=scaling, max_epochs=2, random_state=0).fit(table)
    x = torch.from_numpy(table.astype(np.float32))
    codes = model.encoder_(x)
    np.testing.assert_allclose(codes.detach(), model.transform(table.astype(np.float32)), atol=1e-5)
    rows = model.decoder_(codes).detach().numpy()
    np.testing.assert_allclose(rows, model.reconstruct(table.astype(np.float32)), rtol=1e-4, atol=1e-4)


def test_encoder_and_decoder_take_bytes_and_labels() -> None:
    images = np.random.default_rng(0).integers(0, 256, (40, 4, 4), dtype=np.uint8)
    y = np.array(["a", "b"] * 20)
    model = Autoencoder(2, network=(8,), conditional=True, max_epochs=1, random_state=0).fit(images, y)
    places = torch.from_numpy(np.searchsorted(model.classes_, y))
    codes = model.encoder_(torch.from_numpy(images), places)
    np.testing.assert_allclose(codes.detach(), model.transform(images, y), atol=1e-5)
    rows = model.decoder_(codes, places).detach()
    assert rows.shape == (40, 4, 4)
    np.testing.assert_array_equal(rows.round().clamp(0, 255).to(torch.uint8), model.reconstruct(images, y))
    with pytest.raises(ValueError, match="The model is conditional and needs the index of each row's label"):
        model.encoder_(torch.from_numpy(images))


def test_training_the_modules_in_plain_pytorch_changes_the_model(digits: np.ndarray) -> None:
    model = Autoencoder(3, network=(12,), max_epochs=1, random_state=0).fit(digits)
    x = torch.from_numpy(digits.astype(np.float32))
    before = model.reconstruction_error(digits).mean()
    encoder, decoder = model.encoder_, model.decoder_
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=0.01)
    for _ in range(50):
        optimizer.zero_grad()
        (decoder(encoder(x)) - x).square().mean().backward()
        optimizer.step()
    for X in (digits, digits.astype(np.float32)):
        assert model.reconstruction_error(X).mean() < 0.9 * before
    np.testing.assert_allclose(encoder(x).detach(), model.transform(digits), atol=1e-5)


def test_weights_changed_in_place_are_seen_by_single_and_double_rows(digits: np.ndarray) -> None:
    model = Autoencoder(3, network=(12,), max_epochs=1, random_state=0).fit(digits)
    changes: list[Any] = [
        lambda layer: layer.weight.data.mul_(2.0),
        lambda layer: layer.bias.detach().add_(1.0),
        lambda layer: setattr(layer, "weight", torch.nn.Parameter(layer.weight.detach() * 3.0)),
    ]
    encoder: Any = model.objective_.encoder
    for change in changes:
        model.transform(digits)
        change(encoder[0])
        single, double = (model.transform(digits.astype(kind)) for kind in (np.float32, np.float64))
        np.testing.assert_allclose(double, single, rtol=1e-3, atol=1e-4)
    encoder[0] = torch.nn.Linear(64, 12)
    np.testing.assert_allclose(model.transform(digits), model.transform(digits.astype(np.float32)), atol=1e-5)


def test_hooks_are_called_for_double_rows_too(model: Autoencoder, digits: np.ndarray) -> None:
    model.transform(digits)
    seen: list[tuple[int, ...]] = []
    encoder: Any = model.objective_.encoder
    handle = encoder[0].register_forward_hook(lambda _m, _x, y: seen.append(tuple(y.shape)))
    model.transform(digits)
    handle.remove()
    model.transform(digits)
    assert seen == [(300, 12)]


def test_weights_go_out_and_in(digits: np.ndarray) -> None:
    one, other = (Autoencoder(3, network=(12,), max_epochs=1, random_state=seed).fit(digits) for seed in (0, 1))
    assert np.array_equal(other.load_state_dict(one.state_dict()).transform(digits), one.transform(digits))
    state = one.state_dict()
    state["encoder.0.weight"].zero_()
    assert one.state_dict()["encoder.0.weight"].any()
    with pytest.raises(ValueError, match=r"encoder.0.bias is missing; middle is unknown.*Pass the state_dict\(\)"):
        one.load_state_dict(
            {name: t for name, t in state.items() if name != "encoder.0.bias"} | {"middle": state["encoder.0.bias"]}
        )
    with pytest.raises(ValueError, match=r"encoder.0.weight has shape \(1,\) instead of \(12, 64\)"):
        one.load_state_dict({**state, "encoder.0.weight": torch.zeros(1)})
    assert np.array_equal(one.transform(digits), other.transform(digits))


def test_the_weights_of_own_modules_have_their_own_names(digits: np.ndarray) -> None:
    encoder: Any = torch.nn.Sequential(torch.nn.Linear(64, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 3))
    decoder = torch.nn.Linear(3, 64)
    model = Autoencoder(3, network=(encoder, decoder), max_epochs=1, random_state=0).fit(digits)
    state = model.state_dict()
    assert [*state] == [f"encoder.{name}" for name in encoder.state_dict()] + ["decoder.weight", "decoder.bias"]
    encoder.load_state_dict({n.removeprefix("encoder."): t for n, t in state.items() if n.startswith("encoder.")})
    trained: Any = model.encoder_.network
    assert torch.equal(encoder[2].weight, trained[2].weight)


@pytest.mark.parametrize(
    ("loss", "scaling", "activation"),
    [
        ("poisson", "none", "exp"),
        ("multinomial", "none", "softmax"),
        ("binary-cross-entropy", "minmax", "sigmoid"),
        (isthmus.CategoricalCrossEntropy(3), "minmax", "softmax per group"),
        (isthmus.Normal(1.0), "standard", None),
        (isthmus.Normal(), "standard", "none for the mean, softplus for the scale"),
        (isthmus.Observed("bce"), "minmax", "sigmoid"),
        (isthmus.ByColumn((("bce", 3), ("poisson", 3))), "none", "sigmoid, exp"),
        ("mse", "standard", None),
    ],
)
def test_the_table_names_the_output_activation(loss: Any, scaling: str, activation: str | None) -> None:
    X = np.eye(6)[np.arange(60) % 6]
    model = Autoencoder(2, network=(4,), loss=loss, scaling=scaling, max_epochs=1, random_state=0).fit(X)
    assert model.layers()[-1].activation == activation
