"""Layer-wise pretraining: what it does to the layers, with which choices it goes, and that it helps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import isthmus
from isthmus import Autoencoder, Dense, LayerWise
from isthmus.exceptions import FitWarning
from isthmus.training.pretraining import _between

SETTINGS: dict[str, Any] = {"network": (24, 12), "max_epochs": 6, "random_state": 0}


def test_each_layer_is_trained_and_its_loss_falls(digits: np.ndarray) -> None:
    model = Autoencoder(4, pretraining=LayerWise(max_epochs=8), **SETTINGS).fit(digits)
    assert [len(history) for history in model.pretraining_history_] == [8, 8, 8]
    assert all(history["loss"][-1] < 0.9 * history["loss"][0] for history in model.pretraining_history_)
    assert len(model.history_) == 6


def test_deep_sigmoid_networks_that_hardly_train_from_scratch_do_train(digits: np.ndarray) -> None:
    network = Dense((32, 24, 16), activation="sigmoid", initialization="glorot-uniform")
    settings: dict[str, Any] = {"network": network, "max_epochs": 30, "random_state": 0}
    with pytest.warns(FitWarning, match="no better than their mean"):
        scratch = Autoencoder(8, **settings).fit(digits)
    stacked = Autoencoder(8, pretraining=LayerWise(max_epochs=30), **settings).fit(digits)
    assert stacked.history_["loss"][-1] < 0.9 * scratch.history_["loss"][-1]


@pytest.mark.parametrize(
    "choices",
    [
        {"corruption": "masking"},
        {"corruption": ["salt-and-pepper", "gaussian-noise"], "penalty": "l1"},
        {"code": "sigmoid", "penalty": "kl-sparsity"},
        {"code": "gaussian"},
        {"code": "top-k", "code__k": 2},
        {"penalty": "contractive"},
        {"network": Dense((12,), tied=True)},
        {"network": ()},
        {"loss": "mean-squared-error"},
    ],
)
def test_it_goes_with_any_choice(choices: dict[str, Any], digits: np.ndarray) -> None:
    model = Autoencoder(4, pretraining="layer-wise", **(SETTINGS | {"max_epochs": 3})).set_params(**choices).fit(digits)
    assert np.isfinite(model.reconstruct(digits)).all()
    again = Autoencoder(4, pretraining="layer-wise", **(SETTINGS | {"max_epochs": 3})).set_params(**choices).fit(digits)
    assert np.array_equal(model.transform(digits), again.transform(digits))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"network": "convolutional"}, r"needs network=Dense"),
        ({"network": Dense((8,), decoder_sizes=(9, 9))}, "mirrors the encoder"),
        ({"conditional": True}, "cannot be combined with conditional=True"),
        ({"pretraining": LayerWise(max_epochs=0)}, "max_epochs=0 must be an integer >= 1 or None"),
    ],
)
def test_what_cannot_be_stacked_is_refused(choices: dict[str, Any], message: str, digits: np.ndarray) -> None:
    with pytest.raises(ValueError, match=message):
        Autoencoder(4, pretraining="layer-wise").set_params(**choices).fit(digits, np.zeros(len(digits)))


def test_a_checkpoint_goes_on_without_pretraining_again(digits: np.ndarray, tmp_path: Any) -> None:
    path = tmp_path / "c.safetensors"
    whole = Autoencoder(4, pretraining="layer-wise", callbacks=(isthmus.Checkpoint(path, every=2),), **SETTINGS)
    whole.fit(digits)
    resumed = Autoencoder(4, pretraining="layer-wise", **SETTINGS).fit(digits, resume=path)
    assert np.array_equal(resumed.transform(digits), whole.transform(digits))
    assert resumed.pretraining_history_ == []


def test_layers_are_cut_where_they_belong() -> None:
    chain = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    assert [type(part).__name__ for part in _between(chain, 1, 2)] == ["Linear", "ReLU"]
    assert _between(chain, 0, 0)(torch.ones(1, 5)).shape == (1, 5)
