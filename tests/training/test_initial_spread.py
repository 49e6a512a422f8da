"""Deep ReLU networks begin with codes of several directions."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from isthmus import Autoencoder, Dense, Plain
from isthmus.training.initial_output import begin_spread, may_fold

X = np.random.default_rng(0).normal(size=(300, 20)).astype(np.float32)
DEEP: Any = {"network": Dense((16, 12, 8, 6), activation="relu"), "random_state": 0, "max_epochs": 1}


def test_each_linear_layer_gives_mean_zero_and_deviation_one() -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, 2))
    rows = torch.from_numpy(X) * 7.0 + 3.0
    begin_spread(encoder, rows)
    h = rows
    for layer in encoder:
        h = layer(h)
        if isinstance(layer, nn.Linear):
            torch.testing.assert_close(h.mean(0), torch.zeros(h.shape[1]), atol=1e-4, rtol=0)
            torch.testing.assert_close(h.std(0), torch.ones(h.shape[1]), atol=1e-4, rtol=0)


def test_constant_units_and_single_rows_keep_their_weights() -> None:
    layer = nn.Linear(3, 2)
    encoder, before = nn.Sequential(layer), layer.weight.detach().clone()
    begin_spread(encoder, torch.ones(5, 3))
    assert bool((layer.weight == before).all())
    assert bool(torch.isfinite(layer.bias).all())
    begin_spread(encoder, torch.ones(1, 3))
    assert bool((layer.weight == before).all())


def test_only_deep_relu_networks_with_a_plain_code_begin_so() -> None:
    assert may_fold(DEEP["network"], Plain())
    assert not may_fold(DEEP["network"], Plain("relu"))
    assert not may_fold(Dense((16, 12, 8, 6)), Plain())
    assert not may_fold(Dense((16,), activation="relu"), Plain())


def test_the_code_of_a_fresh_deep_relu_network_is_no_line() -> None:
    for seed in range(3):
        settings = {**DEEP, "random_state": seed, "learning_rate": 1e-9}
        codes = Autoencoder(2, **settings).fit(X).transform(X)
        np.testing.assert_allclose(codes.std(axis=0), 1.0, atol=0.1)
    tied = Dense((16, 12, 8, 6), activation="relu", tied=True)
    assert np.isfinite(Autoencoder(2, **{**DEEP, "network": tied}).fit(X).transform(X)).all()
