"""The convolutional network: any size, any number of channels, every way of scaling."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from isthmus import ConvolutionalAutoencoder
from isthmus.choices import Context, Convolutional
from isthmus.choices.layers import Frame, ToPicture, ToRow

SIZES = [*range(1, 70, 4), 70]


def built(network: Convolutional, shape: tuple[int, ...], code_size: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    context = Context(shape, code_size)
    assert network.mistakes(context) == []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        encoder, decoder = network.build(context, code_width=code_size, output_width=context.n_features)
        z = encoder(torch.randn(2, context.n_features))
        return z, decoder(z)


@pytest.mark.parametrize("height", SIZES)
def test_any_height_and_width_come_back(height: int) -> None:
    width = (height * 37) % 70 + 1
    z, restored = built(Convolutional((2, 3)), (height, width))
    assert (z.shape, restored.shape) == ((2, 3), (2, height * width))


@pytest.mark.parametrize("n_channels", [1, 2, 3, 5])
@pytest.mark.parametrize("downsampling", ["strided", "pooled"])
@pytest.mark.parametrize("upsampling", ["transposed", "nearest"])
@pytest.mark.parametrize("kernel_size", [1, 3, 5])
def test_every_way_of_scaling_and_number_of_channels(
    n_channels: int, downsampling: str, upsampling: str, kernel_size: int
) -> None:
    network = Convolutional(
        ((2, 3), 4),
        kernel_size=kernel_size,
        downsampling=downsampling,
        upsampling=upsampling,
        n_residual_blocks=1,
    )
    assert built(network, (7, 10, n_channels))[1].shape == (2, 70 * n_channels)


@pytest.mark.parametrize("shape", [(1,), (2,), (13,), (64,), (70,)])
def test_signals(shape: tuple[int, ...]) -> None:
    assert built(Convolutional((2, 3, 4)), shape)[1].shape == (2, *shape)
    assert built(Convolutional((2, 3), dimensions=1), (*shape, 3))[1].shape == (2, 3 * shape[0])


def test_rows_become_padded_pictures_and_come_back_whole() -> None:
    frame = Frame((5, 3), 2, 2)
    rows = torch.arange(60.0).view(2, 30)
    picture = ToPicture(frame)(rows)
    assert picture.shape == (2, 2, 8, 4)
    assert torch.equal(picture[0, :, 1:6, 0:3], rows[0].view(5, 3, 2).movedim(-1, 0))
    assert float(picture.sum()) == float(rows.sum())
    assert torch.equal(ToRow(frame)(picture), rows)


def test_a_loss_with_two_numbers_a_feature_gets_means_first_then_the_rest() -> None:
    frame = Frame((2, 2), 1, 0)
    both = torch.arange(8.0).view(1, 2, 2, 2)
    assert torch.equal(ToRow(frame)(both), torch.arange(8.0).view(1, 8))


def test_the_code_may_be_a_picture_itself() -> None:
    network = Convolutional((4, 8), head="convolutional")
    assert built(network, (28, 28), code_size=49)[0].shape == (2, 49)
    (found,) = network.mistakes(Context((28, 28), code_size=50))
    assert "a code of 49 places, but code_size=50 is no multiple of 49" in found


def test_twenty_layers_are_a_setting() -> None:
    network = Convolutional(
        ((128, 112, 96, 80, 64), (48, 32, 16, 8)),
        activation="relu",
        downsampling="pooled",
        upsampling="nearest",
        head="convolutional",
    )
    encoder, decoder = network.build(Context((28, 28), 49), code_width=49, output_width=784)
    counts = [sum(isinstance(part, torch.nn.Conv2d) for part in net.modules()) for net in (encoder, decoder)]
    assert counts == [10, 10]
    assert [part.out_channels for part in encoder.modules() if isinstance(part, torch.nn.Conv2d)][-1] == 1


@pytest.mark.parametrize(
    ("network", "shape", "message"),
    [
        (Convolutional(()), (8, 8), "channels"),
        (Convolutional((0,)), (8, 8), "channels"),
        (Convolutional(kernel_size=4), (8, 8), "must be odd"),
        (Convolutional(dimensions=2), (8,), "needs rows of shape"),
        (Convolutional(dimensions=1), (8, 8, 3), r"\(l, c\)"),
    ],
)
def test_what_cannot_be_built_is_refused(network: Convolutional, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvolutionalAutoencoder(2, network=network, max_epochs=1).fit(np.random.default_rng(0).random((5, *shape)))


def test_shifted_images_are_restored_better_than_by_a_dense_network() -> None:
    images = np.pad(load_digits().images[:1200] / 16.0, ((0, 0), (4, 4), (4, 4)))
    shift = np.random.default_rng(0).integers(-3, 4, (len(images), 2))
    moved = np.stack([np.roll(image, step, (0, 1)) for image, step in zip(images, shift, strict=True)])
    errors = [
        ConvolutionalAutoencoder(16, network=network, max_epochs=8, random_state=0)
        .fit(moved[:900])
        .reconstruction_error(moved[900:])
        .mean()
        for network in ("convolutional", "dense")
    ]
    assert errors[0] < errors[1]
