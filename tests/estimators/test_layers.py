"""The layer table, and any layer's output as a model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

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
