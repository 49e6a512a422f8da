"""Encoders and decoders of the user's own: what is kept, what is adapted, what is refused."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.base import clone
from torch import Tensor, nn

import isthmus
from isthmus import Autoencoder, DenoisingAutoencoder, Modules, Normal, VariationalAutoencoder
from isthmus.choices.modules import Adapted, Layout, plain
from isthmus.choices.registry import Context

DRAW = np.random.default_rng(0)
LINE = (DRAW.normal(size=(300, 2)) @ DRAW.normal(size=(2, 6)) + 0.1 * DRAW.normal(size=(300, 6))).astype(np.float32)
UNIT = 1 / (1 + np.exp(-2.0 * LINE))
BRIEF: dict[str, Any] = {"max_epochs": 3, "random_state": 0}


def pair(seed: int = 0) -> tuple[nn.Sequential, nn.Linear]:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2)), nn.Linear(2, 6)


def restored(model: Autoencoder, X: np.ndarray) -> float:
    """The share of the variance that is restored."""
    return float(1 - np.square(model.reconstruct(X) - X).mean() / X.var(axis=0).mean())


# -- weights -----------------------------------------------------------------------------------------------------------


def test_every_fit_starts_from_the_weights_as_given() -> None:
    own = pair()
    before = [parameter.detach().clone() for module in own for parameter in module.parameters()]
    still = Autoencoder(2, network=own, learning_rate=1e-12, scaling="none", **BRIEF).fit(LINE)
    after = list(still.objective_.parameters())
    for mine, fitted in zip(before, after, strict=True):
        torch.testing.assert_close(fitted.detach(), mine, atol=1e-6, rtol=0)
    model = Autoencoder(2, network=own, **BRIEF)
    first = model.fit(LINE).transform(LINE)
    assert np.array_equal(model.fit(LINE).transform(LINE), first)
    assert np.array_equal(clone(model).fit(LINE).transform(LINE), first)
    for mine, parameter in zip(before, [p for module in own for p in module.parameters()], strict=True):
        assert torch.equal(mine, parameter)


def test_fine_tuning_begins_where_training_ended() -> None:
    first = Autoencoder(2, network=pair(), max_epochs=60, random_state=0).fit(LINE)
    own = pair()
    own[0].load_state_dict(first.encoder_.network.state_dict())
    own[1].load_state_dict(first.decoder_.network.state_dict())
    fresh, tuned = (Autoencoder(2, network=given, **BRIEF).fit(LINE) for given in (pair(), own))
    assert restored(tuned, LINE) > 0.9 > restored(fresh, LINE)


def test_frozen_parts_stay_as_they_are() -> None:
    encoder, decoder = pair()
    encoder.requires_grad_(requires_grad=False)
    model = Autoencoder(2, network=(encoder, decoder), **BRIEF).fit(LINE)
    for mine, fitted in zip(encoder.parameters(), model.objective_.encoder.parameters(), strict=True):
        assert torch.equal(mine, fitted)
        assert not fitted.requires_grad
    assert not torch.equal(next(model.objective_.decoder.parameters()), decoder.weight)


def test_batch_statistics_and_dropout_of_a_frozen_part_stay_too() -> None:
    torch.manual_seed(0)
    frozen = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.9)).requires_grad_(requires_grad=False)
    encoder = nn.Sequential(frozen, nn.Linear(8, 2))
    model = Autoencoder(2, network=(encoder, nn.Linear(2, 6)), **BRIEF).fit(LINE)
    fitted: Any = plain(model.objective_.encoder)
    norm = fitted[0][1]
    assert torch.equal(norm.running_mean, torch.zeros(8))
    model.objective_.train()
    x = torch.from_numpy(LINE)
    assert torch.equal(model.objective_.encoder(x), model.objective_.encoder(x))  # nothing is dropped


def test_modules_that_cannot_learn_are_refused() -> None:
    own = [module.requires_grad_(requires_grad=False) for module in pair()]
    with pytest.raises(ValueError, match="The encoder and the decoder have no trainable parameters"):
        Autoencoder(2, network=tuple(own), **BRIEF).fit(LINE)


def test_weights_that_both_share_stay_shared() -> None:
    class Turned(nn.Module):
        def __init__(self, weight: Any) -> None:
            super().__init__()
            self.weight = weight

        def forward(self, z: Tensor) -> Tensor:
            turned: Tensor = z @ self.weight
            return turned

    encoder = nn.Linear(6, 2)
    model = Autoencoder(2, network=(encoder, Turned(encoder.weight)), **BRIEF).fit(LINE)
    assert plain(model.objective_.encoder).weight is plain(model.objective_.decoder).weight
    assert model.n_parameters_ == 6 * 2 + 2


# -- kinds of modules --------------------------------------------------------------------------------------------------


def test_double_modules_are_trained_in_single_precision() -> None:
    encoder, decoder = pair()
    double = Autoencoder(2, network=(encoder.double(), decoder.double()), **BRIEF).fit(LINE)
    single = Autoencoder(2, network=pair(), **BRIEF).fit(LINE)
    np.testing.assert_allclose(double.transform(LINE), single.transform(LINE), atol=1e-6)
    assert encoder[0].weight.dtype == torch.float64


def test_lazy_layers_are_shaped_at_fit_and_drawn_from_the_seed() -> None:
    own = nn.Sequential(nn.LazyLinear(8), nn.ReLU(), nn.LazyLinear(2)), nn.LazyLinear(6)
    codes = [Autoencoder(2, network=own, **BRIEF).fit(LINE).transform(LINE) for _ in range(2)]
    assert np.array_equal(*codes)
    assert codes[0].shape == (300, 2)
    assert isinstance(own[0][0], nn.LazyLinear)
    assert own[0][0].has_uninitialized_params()


def test_weight_normed_modules_of_both_kinds() -> None:
    encoder, decoder = pair()
    nn.utils.parametrizations.weight_norm(encoder[0])
    new = Autoencoder(2, network=(encoder, decoder), **BRIEF).fit(LINE)
    encoder, decoder = pair()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nn.utils.weight_norm(encoder[0])
        old = Autoencoder(2, network=(encoder, decoder), **BRIEF).fit(LINE)
    np.testing.assert_allclose(new.transform(LINE), old.transform(LINE), atol=1e-5)


def test_scripted_modules_learn_as_their_originals_do(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = tuple(torch.jit.script(module) for module in pair())
    model = Autoencoder(2, network=own, **BRIEF).fit(LINE)
    plain_one = Autoencoder(2, network=pair(), **BRIEF).fit(LINE)
    np.testing.assert_allclose(model.transform(LINE), plain_one.transform(LINE), atol=1e-4)
    np.testing.assert_allclose(model.transform(LINE.astype(np.float64)), model.transform(LINE), atol=1e-5)
    kinds = [layer.kind for layer in model.layers()]
    assert kinds == ["Scripted Sequential", "Plain", "Scripted Linear"]
    loaded = isthmus.load(model.save(tmp_path / "m.safetensors"), network=own)
    assert np.array_equal(loaded.transform(LINE), model.transform(LINE))


def test_a_last_batch_of_one_row_is_normalised_as_in_use() -> None:
    encoder = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))
    model = Autoencoder(2, network=(encoder, nn.Linear(2, 6)), batch_size=100, **BRIEF).fit(LINE[:201])
    assert np.isfinite(model.history_["loss"]).all()
    adapted = model.objective_.encoder.train()
    one = torch.from_numpy(LINE[:1])
    by_hand = model.objective_.encoder.eval()(one)
    adapted.train()
    assert torch.equal(adapted(one), by_hand)
    assert all(part.training for part in adapted.modules())


# -- shapes ------------------------------------------------------------------------------------------------------------


class Watched(nn.Module):
    """Notes the rows that it is given and gives a fixed number of their numbers."""

    def __init__(self, n_dimensions: int, width: int) -> None:
        super().__init__()
        self.n_dimensions, self.width, self.scale = n_dimensions, width, nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim != self.n_dimensions:
            raise RuntimeError(f"Expected {self.n_dimensions} dimensions.")
        return self.scale * x.flatten(1)[:, : self.width]


@pytest.mark.parametrize(
    ("shape", "n_dimensions", "order"),
    [
        ((12,), 2, "nd->nd"),
        ((12,), 3, "nd->n1d"),
        ((4, 3), 2, "nhw->n(hw)"),
        ((4, 3), 4, "nhw->n1hw"),
        ((4, 3), 3, "nhw->nhw"),
        ((2, 3, 2), 4, "nhwc->nchw"),
        ((2, 3, 2), 2, "nhwc->n(hwc)"),
    ],
)
def test_rows_are_given_in_the_shape_that_a_module_takes(shape: tuple[int, ...], n_dimensions: int, order: str) -> None:
    X = np.random.default_rng(1).random((40, *shape)).astype(np.float32)
    own = Watched(n_dimensions, 5), nn.Linear(5, 12)
    model = Autoencoder(5, network=own, scaling="none", learning_rate=1e-12, **BRIEF).fit(X)
    wanted = np.moveaxis(X, -1, 1) if order == "nhwc->nchw" else X
    np.testing.assert_allclose(model.transform(X), wanted.reshape(40, -1)[:, :5], atol=1e-6)


def test_convolutions_of_ones_own_restore_colour_images_in_their_order() -> None:
    torch.manual_seed(0)
    images = np.random.default_rng(0).random((60, 4, 4, 3)).astype(np.float32)
    encoder, decoder = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        for layer in (encoder, decoder):
            layer.weight.copy_(torch.eye(3)[:, :, None, None])
    model = Autoencoder(48, network=(encoder, decoder), loss=Normal(1.0), learning_rate=1e-12, scaling="none", **BRIEF)
    np.testing.assert_allclose(model.fit(images).reconstruct(images), images, atol=1e-5)


def test_two_numbers_for_each_pixel_come_as_groups_of_channels() -> None:
    layout = Layout("moved", (2, 2, 3))
    means, scales = torch.rand(5, 2, 2, 3), torch.rand(5, 2, 2, 3)
    given = torch.cat([means.movedim(-1, 1), scales.movedim(-1, 1)], dim=1)
    assert torch.equal(layout.taken(given), torch.cat([means.flatten(1), scales.flatten(1)], dim=1))


def test_flat_rows_for_a_module_that_wants_images_are_explained() -> None:
    text = (
        r"The encoder does not accept \(n, 16\) \(RuntimeError: .*\); does not accept \(n, 1, 16\).*, "
        r"but must return \(n, 2\)"
    )
    with pytest.raises(ValueError, match=text):
        Modules(nn.Conv2d(1, 2, 3), nn.Linear(2, 16)).build(Context((16,), 2), code_width=2, output_width=16)


@pytest.mark.parametrize(
    ("own", "text"),
    [
        ((nn.Linear(6, 5), nn.Linear(2, 6)), "The encoder maps rows of shape (n, 6) to (n, 5)"),
        (
            (nn.Linear(6, 2), nn.Linear(2, 7)),
            "The decoder maps rows of shape (n, 2) to (n, 7), but must return (n, 6); change its layers",
        ),
        (
            (nn.Linear(6, 2), nn.LSTM(2, 3)),
            "The decoder does not accept (n, 2) (it returns a tensor of shape (2, 3) and a tuple)",
        ),
    ],
)
def test_wrong_shapes_are_told(own: tuple[nn.Module, nn.Module], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        Autoencoder(2, network=own, **BRIEF).fit(LINE)


def test_one_module_is_no_network() -> None:
    with pytest.raises(ValueError, match=re.escape("A single Linear is not a network; give encoder and decoder")):
        Autoencoder(2, network=nn.Linear(6, 6)).fit(LINE)


# -- mean and log-variance ---------------------------------------------------------------------------------------------


class Twofold(nn.Module):
    """Mean and log-variance, as most tutorials write it."""

    def __init__(self) -> None:
        super().__init__()
        self.mean, self.log_var = nn.Linear(6, 2), nn.Linear(6, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(x), self.log_var(x)


def test_a_pair_of_mean_and_log_variance_goes_to_a_gaussian_code() -> None:
    torch.manual_seed(0)
    own = Twofold(), nn.Linear(2, 12)
    model = VariationalAutoencoder(2, network=own, scaling="none", learning_rate=1e-12, **BRIEF).fit(LINE)
    mean, deviation = model.posterior(LINE)
    with torch.no_grad():
        expected, log_var = own[0](torch.from_numpy(LINE))
    np.testing.assert_allclose(mean, expected, atol=1e-5)
    np.testing.assert_allclose(deviation, (5.0 * (log_var / 10.0).tanh()).exp(), atol=1e-5)


def test_a_pair_is_explained_where_the_code_takes_one() -> None:
    with pytest.raises(
        ValueError, match=r"a pair of \(2,\) for each row.*Use code='gaussian' \(VariationalAutoencoder\)"
    ):
        Autoencoder(2, network=(Twofold(), nn.Linear(2, 6)), **BRIEF).fit(LINE)


# -- the end of the decoder --------------------------------------------------------------------------------------------


class Functional(nn.Module):
    """A decoder whose last activation is a function."""

    def __init__(self, end: Any) -> None:
        super().__init__()
        self.layer, self.end = nn.Linear(2, 6), end

    def forward(self, z: Tensor) -> Tensor:
        y: Tensor = self.end(self.layer(z))
        return y


@pytest.mark.parametrize("loss", ["auto", "mse"])
@pytest.mark.parametrize(
    "end", [lambda: nn.Sequential(nn.Linear(2, 6), nn.Sigmoid()), lambda: Functional(torch.sigmoid)]
)
def test_a_sigmoid_at_the_end_is_not_repeated(end: Any, loss: str) -> None:
    def fitted(decoder: nn.Module) -> Autoencoder:
        return Autoencoder(2, network=(pair()[0], decoder), loss=loss, max_epochs=60, random_state=0).fit(UNIT)

    torch.manual_seed(1)
    own = fitted(end())
    torch.manual_seed(1)
    usual = fitted(nn.Linear(2, 6))
    assert restored(own, UNIT) > 0.9
    assert restored(own, UNIT) == pytest.approx(restored(usual, UNIT), abs=0.02)
    assert own.layers()[-1].activation == "sigmoid"


def test_given_weights_that_end_in_a_sigmoid_restore_what_the_modules_themselves_do() -> None:
    encoder, decoder = pair()[0], nn.Sequential(nn.Linear(2, 6), nn.Sigmoid())
    model = Autoencoder(2, network=(encoder, decoder), learning_rate=1e-12, **BRIEF).fit(UNIT.astype(np.float32))
    with torch.no_grad():
        expected = decoder(encoder(torch.from_numpy(UNIT.astype(np.float32))))
    np.testing.assert_allclose(model.reconstruct(UNIT.astype(np.float32)), expected, atol=1e-5)


def test_a_softmax_at_the_end_is_not_repeated() -> None:
    torch.manual_seed(0)
    shares = np.random.default_rng(0).dirichlet(np.ones(6), 50).astype(np.float32)
    encoder, decoder = pair()[0], nn.Sequential(nn.Linear(2, 6), nn.Softmax(1))
    model = Autoencoder(2, network=(encoder, decoder), loss="multinomial", scaling="none", learning_rate=1e-12, **BRIEF)
    with torch.no_grad():
        expected = decoder(encoder(torch.from_numpy(shares)))
    np.testing.assert_allclose(model.fit(shares).reconstruct(shares), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("end", "X", "scaling", "loss", "text"),
    [
        (
            nn.Sigmoid(),
            LINE,
            "auto",
            "auto",
            r"lie in \[0, 1\] \(it ends in Sigmoid\), but the scaled data range from ",
        ),
        (nn.Tanh(), LINE * 3, "auto", "auto", r"lie in \[-1, 1\] \(it ends in Tanh\), but the scaled data range from "),
        (
            nn.ReLU(),
            UNIT,
            "none",
            "bce",
            r"lie in \[0, inf\] \(it ends in ReLU\), and \[0.5, 1\] after the loss's own ",
        ),
    ],
)
def test_a_decoder_that_cannot_reach_the_data_is_refused(
    end: nn.Module, X: np.ndarray, scaling: str, loss: str, text: str
) -> None:
    own = pair()[0], nn.Sequential(nn.Linear(2, 6), end)
    with pytest.raises(ValueError, match=text + ".*Remove its last activation"):
        Autoencoder(2, network=own, loss=loss, scaling=scaling, **BRIEF).fit(X)


def test_a_plain_decoder_is_left_as_it_is() -> None:
    model = Autoencoder(2, network=pair(), **BRIEF).fit(UNIT)
    assert not any(isinstance(part, Adapted) for part in model.objective_.modules())


def test_modules_go_with_every_other_choice() -> None:
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 2))
    settings: list[dict[str, Any]] = [
        {"penalty": "contractive"},
        {"penalty": "l1"},
        {"code": "top-k", "code__k": 1},
        {"loss": "normal"},
    ]
    for more in settings:
        width = 12 if more.get("loss") == "normal" else 6
        model = DenoisingAutoencoder(2, network=(encoder, nn.Linear(2, width)), **BRIEF)
        model.set_params(**more).fit(LINE)
        assert np.isfinite(model.score(LINE))


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_file_knows_modules_of_another_forward(tmp_path: Path) -> None:
    model = Autoencoder(2, network=pair(), **BRIEF).fit(LINE)
    path = model.save(tmp_path / "m.safetensors")
    assert np.array_equal(isthmus.load(path, network=pair(3)).transform(LINE), model.transform(LINE))
    other = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 2)), nn.Linear(2, 6)
    with pytest.raises(isthmus.ModelFileError, match="compute other results than those that were saved"):
        isthmus.load(path, network=other)
    with torch.no_grad():
        next(model.objective_.encoder.parameters()).mul_(2.0)  # a model that was changed after fit can be kept, too
    assert np.array_equal(isthmus.load(model.save(path), network=pair()).transform(LINE), model.transform(LINE))
