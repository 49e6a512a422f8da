"""Each member of a choice, by value."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from isthmus.choices import (
    L1,
    L2,
    BinaryCrossEntropy,
    Context,
    Dense,
    GaussianNoise,
    Masking,
    MeanSquaredError,
    Modules,
    Plain,
    SaltAndPepper,
)
from isthmus.choices.networks import TiedLinear
from isthmus.choices.penalties import Encoding
from isthmus.choices.registry import Choice
from isthmus.training.objective import count_parameters

UNIT = Context((4, 4), code_size=3, lower=0.0, upper=1.0)
WIDE = Context((16,), code_size=3, lower=-5.0, upper=9.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def encoding(z: torch.Tensor) -> Encoding:
    return Encoding(z, z, lambda x: x)


def chains(pair: tuple[nn.Module, nn.Module]) -> tuple[Any, Any]:
    """Encoder and decoder as lists of layers."""
    return list(pair[0].children()), list(pair[1].children())


def test_mean_squared_error_is_the_mean_of_squares() -> None:
    output, target = torch.tensor([[1.0, 2.0], [0.0, -1.0]]), torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    loss = MeanSquaredError(activation=None)
    assert loss.mean(output, target).item() == pytest.approx((1 + 4 + 0 + 4) / 4)
    torch.testing.assert_close(loss.per_row(output, target), torch.tensor([2.5, 2.0]))


def test_mean_squared_error_takes_its_output_activation_from_the_data() -> None:
    assert MeanSquaredError().resolve(UNIT).activation == "sigmoid"
    assert MeanSquaredError().resolve(WIDE).activation is None
    assert MeanSquaredError(activation="tanh").resolve(UNIT).activation == "tanh"


def test_binary_cross_entropy_agrees_with_the_bernoulli_of_torch_distributions() -> None:
    output, target = torch.randn(7, 5, generator=generator()), torch.randint(2, (7, 5), generator=generator()).float()
    expected = -torch.distributions.Bernoulli(logits=output).log_prob(target)
    torch.testing.assert_close(BinaryCrossEntropy().per_feature(output, target), expected)
    torch.testing.assert_close(BinaryCrossEntropy().mean(output, target), expected.mean())


def test_binary_cross_entropy_stays_exact_far_from_zero() -> None:
    assert BinaryCrossEntropy().mean(torch.tensor([[100.0]]), torch.tensor([[0.0]])).item() == pytest.approx(100.0)


def test_l1_sums_absolute_values_over_units_and_averages_over_rows() -> None:
    z = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    assert L1(0.1).penalize(encoding(z)).item() == pytest.approx(0.1 * (3 + 3) / 2)


def test_l2_sums_squares_over_units_and_averages_over_rows() -> None:
    z = torch.tensor([[1.0, -2.0], [0.0, 3.0]])
    assert L2(0.1).penalize(encoding(z)).item() == pytest.approx(0.1 * (5 + 9) / 2)


def test_gaussian_noise_has_the_stated_deviation_and_leaves_the_input_whole() -> None:
    x = torch.zeros(500, 400)
    noise = GaussianNoise(0.3, clip=False).corrupt(x, generator())
    assert noise.std().item() == pytest.approx(0.3, rel=0.01)
    assert noise.mean().item() == pytest.approx(0.0, abs=0.005)
    assert not x.any()


def test_gaussian_noise_is_clipped_only_where_data_lie_in_the_unit_interval() -> None:
    assert GaussianNoise().resolve(UNIT).clip is True
    assert GaussianNoise().resolve(WIDE).clip is False
    clipped = GaussianNoise(2.0, clip=True).corrupt(torch.full((50, 50), 0.5), generator())
    assert (clipped.min().item(), clipped.max().item()) == (0.0, 1.0)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.5, 1.0])
def test_masking_zeroes_the_stated_share(fraction: float) -> None:
    masked = Masking(fraction).corrupt(torch.ones(300, 300), generator())
    assert (masked == 0).float().mean().item() == pytest.approx(fraction, abs=0.01)
    assert set(masked.unique().tolist()) <= {0.0, 1.0}


def test_salt_and_pepper_sets_half_of_its_share_to_each_end() -> None:
    noisy = SaltAndPepper(0.2).resolve(WIDE).corrupt(torch.zeros(300, 300), generator())
    assert (noisy == -5.0).float().mean().item() == pytest.approx(0.1, abs=0.01)
    assert (noisy == 9.0).float().mean().item() == pytest.approx(0.1, abs=0.01)


def test_plain_code_without_activation_is_the_identity() -> None:
    h = torch.randn(3, 2, generator=generator())
    assert Plain().build(UNIT).deterministic(h) is h


def test_dense_has_the_parameter_count_of_the_tutorials() -> None:
    context = Context((784,), code_size=32)
    pair = nn.ModuleList(Dense((128,)).build(context, code_width=32, output_width=784))
    assert count_parameters(pair) == 209_968  # S1


def test_dense_decoder_mirrors_or_takes_its_own_sizes() -> None:
    _, decoder = Dense((8, 4), decoder_sizes=(5,)).build(UNIT, code_width=3, output_width=16)
    widths = [layer.out_features for layer in decoder.modules() if isinstance(layer, nn.Linear)]
    assert widths == [5, 16]


def test_tied_decoder_is_the_transpose_and_counts_once() -> None:
    encoder, decoder = chains(Dense((8,), tied=True).build(UNIT, code_width=3, output_width=16))
    assert isinstance(decoder[0], TiedLinear)
    assert isinstance(encoder[0], nn.Linear)
    assert decoder[-1].weight is encoder[0].weight
    z = torch.randn(2, 3, generator=generator())
    torch.testing.assert_close(decoder[0](z), z @ encoder[-1].weight + decoder[0].bias)
    assert count_parameters(nn.ModuleList([*encoder, *decoder])) == 16 * 8 + 8 * 3 + (8 + 3) + (8 + 16)


def test_glorot_initialization_has_the_stated_bounds() -> None:
    pair = Dense((), activation=None, initialization="glorot-uniform").build(
        Context((600,), code_size=600), code_width=600, output_width=600
    )
    encoder, _ = chains(pair)
    weight = encoder[0].weight
    assert weight.abs().max().item() == pytest.approx(math.sqrt(6 / 1200), rel=0.01)
    assert not encoder[0].bias.any()


def test_modules_are_copied_with_their_weights() -> None:
    mine = nn.Linear(16, 3), nn.Linear(3, 16)
    encoder, decoder = Modules(*mine).build(UNIT, code_width=3, output_width=16)
    assert isinstance(encoder, nn.Linear)
    assert encoder is not mine[0]
    assert torch.equal(encoder.weight, mine[0].weight)
    assert encoder.weight is not mine[0].weight
    assert decoder(encoder(torch.zeros(2, 16))).shape == (2, 16)


def test_modules_of_the_wrong_width_are_refused() -> None:
    text = r"The encoder maps rows of shape \(n, 16\) to \(n, 5\);.*, but must return \(n, 3\)"
    with pytest.raises(ValueError, match=text):
        Modules(nn.Linear(16, 5), nn.Linear(3, 16)).build(UNIT, code_width=3, output_width=16)


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        (Masking(1.5), "Masking: fraction=1.5 must be a number in [0, 1]."),
        (GaussianNoise(-1), "GaussianNoise: scale=-1 must be a finite number >= 0, or a range (low, high)"),
        (GaussianNoise(True), "GaussianNoise: scale=True must be a finite number >= 0, or a range (low, high)"),
        (L1(float("nan")), "L1: weight=nan must be a finite number >= 0."),
        (Dense((0,)), "Dense: hidden_sizes=(0,) must be a tuple of integers >= 1 or 'auto'."),
        (Dense((8,), activation="swoosh"), "Dense: activation='swoosh' must be None, 'elu'"),
        (Dense((8,), tied=True, decoder_sizes=(9,)), "needs a decoder that mirrors the encoder"),
    ],
)
def test_wrong_parameters_are_told_in_a_sentence(choice: Choice, text: str) -> None:
    (found,) = choice.mistakes(UNIT)
    assert text in found


def test_binary_cross_entropy_refuses_data_outside_the_unit_interval() -> None:
    (found,) = BinaryCrossEntropy().mistakes(WIDE)
    assert "must lie in [0, 1], but range from -5 to 9" in found
    assert BinaryCrossEntropy().mistakes(UNIT) == []
