"""The convolutional network: any size, any number of channels, every way of scaling."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import isthmus
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
    z, restored = built(Convolutional((2, 3), dimensions=2), (height, width))
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
        dimensions=2,
    )
    assert built(network, (7, 10, n_channels))[1].shape == (2, 70 * n_channels)


@pytest.mark.parametrize("shape", [(1,), (2,), (13,), (64,), (70,)])
def test_signals(shape: tuple[int, ...]) -> None:
    assert built(Convolutional((2, 3, 4), dimensions=1), shape)[1].shape == (2, *shape)
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
    assert "a code of 49 positions, but code_size=50 is not a multiple of 49" in found


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
        (Convolutional(dimensions=3), (8, 8), r"\(d, h, w, c\), not \(8, 8\)"),
        (
            Convolutional(image_shape=(8, 9)),
            (64,),
            r"image_shape=\(8, 9\) has 72 values, but rows have",
        ),
        (Convolutional(image_shape=(4, 16)), (8, 8), "the image in a flat row"),
        (Convolutional(channels_first=True, dimensions=2), (8, 8), "needs rows with channels"),
    ],
)
def test_what_cannot_be_built_is_refused(network: Convolutional, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConvolutionalAutoencoder(2, network=network, max_epochs=1).fit(np.random.default_rng(0).random((5, *shape)))


@pytest.mark.parametrize(
    ("shape", "readings"),
    [
        ((784,), r"rows of 784 values may be images or signals.*image_shape=\(28, 28\).*dimensions=1"),
        ((600,), r"image_shape=\(height, width\)"),
        (
            (1, 28, 28),
            r"images of 1×28 with 28 channels.*channels_first=True.*X\.transpose\(0, 2, 3, 1\)",
        ),
        ((2, 28, 28), "channels_first=True"),
        ((3, 32, 32), "images of 3×32 with 32 channels"),
        ((3, 8, 16, 16), r"volumes of 3×8×16 with 16 channels.*X\.transpose\(0, 2, 3, 4, 1\)"),
        ((16, 20, 20), r"may be volumes or images of 16×20 with 20 channels.*dimensions=3.*dimensions=2"),
        ((128, 9), r"images of 128×9 pixels or series of 128 steps with 9 features.*Convolutional\(dimensions=1\)"),
        ((9, 128), r"series of 128 steps with 9 features.*Convolutional\(dimensions=1, channels_first=True\)"),
    ],
)
def test_shapes_with_several_readings_are_asked_about(shape: tuple[int, ...], readings: str) -> None:
    X = np.random.default_rng(0).random((4, *shape))
    with pytest.raises(ValueError, match=readings):
        ConvolutionalAutoencoder(2, max_epochs=1).fit(X)


@pytest.mark.parametrize(
    ("network", "shape", "size", "n_channels"),
    [
        (Convolutional(), (28, 28), (28, 28), 1),
        (Convolutional(), (32, 32, 3), (32, 32), 3),
        (Convolutional(), (9, 8, 7, 2), (9, 8, 7), 2),
        (Convolutional(dimensions=3), (9, 8, 7), (9, 8, 7), 1),
        (Convolutional(dimensions=2), (9, 8, 7), (9, 8), 7),
        (Convolutional(dimensions=1), (128, 9), (128,), 9),
        (Convolutional(dimensions=1, channels_first=True), (9, 128), (128,), 9),
        (Convolutional(channels_first=True), (9, 128), (128,), 9),
        (Convolutional(channels_first=True), (3, 32, 32), (32, 32), 3),
        (Convolutional(channels_first=True), (1, 9, 8, 7), (9, 8, 7), 1),
        (Convolutional(channels_first=False), (3, 32, 4), (3, 32), 4),
        (Convolutional(image_shape=(28, 28)), (784,), (28, 28), 1),
        (Convolutional(image_shape=(3, 32, 32), channels_first=True), (3072,), (32, 32), 3),
        (Convolutional(dimensions=1), (784,), (784,), 1),
    ],
)
def test_every_layout_is_read_as_stated(
    network: Convolutional, shape: tuple[int, ...], size: tuple[int, ...], n_channels: int
) -> None:
    context = Context(shape, 2)
    assert network.mistakes(context) == []
    encoder, _ = network.build(context, code_width=2, output_width=context.n_features)
    frame = next(part for part in encoder.modules() if isinstance(part, ToPicture)).frame
    assert (frame.size, frame.n_channels) == (size, n_channels)


def fitted(X: np.ndarray, **layout: object) -> ConvolutionalAutoencoder:
    network = Convolutional((4, 6), **layout)  # type: ignore[arg-type]
    return ConvolutionalAutoencoder(5, network=network, max_epochs=2, random_state=0).fit(X)


def test_the_layout_changes_nothing_but_the_layout() -> None:
    last = np.random.default_rng(0).random((12, 8, 7, 3))
    first, flat = np.ascontiguousarray(last.transpose(0, 3, 1, 2)), last.reshape(12, -1)
    model = fitted(last)
    other, shaped = fitted(first, channels_first=True), fitted(flat, image_shape=(8, 7, 3))
    np.testing.assert_allclose(other.transform(first), model.transform(last), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(other.reconstruct(first).transpose(0, 2, 3, 1), model.reconstruct(last), atol=1e-6)
    np.testing.assert_array_equal(shaped.transform(flat), model.transform(last))
    np.testing.assert_array_equal(shaped.reconstruct(flat).reshape(last.shape), model.reconstruct(last))


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((3, 8, 7), {"channels_first": True}),
        ((56,), {"image_shape": (8, 7)}),
        ((5, 6, 7), {"dimensions": 3}),
        ((2, 5, 6, 7), {"channels_first": True}),
        ((30, 4), {"dimensions": 1}),
    ],
)
def test_layouts_survive_files_graphs_and_memory_maps(
    shape: tuple[int, ...], layout: dict[str, object], tmp_path: Path
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    X = np.random.default_rng(0).random((10, *shape)).astype(np.float32)
    model = fitted(X, **layout)
    assert model.reconstruct(X).shape == X.shape
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(isthmus.load(tmp_path / "m.safetensors").reconstruct(X), model.reconstruct(X))
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    np.testing.assert_array_equal(fitted(mapped, **layout).reconstruct(X), model.reconstruct(X))
    isthmus.export_onnx(model, tmp_path / "m.onnx", what="reconstruct")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    (answer,) = session.run(None, {session.get_inputs()[0].name: X})
    np.testing.assert_allclose(answer, model.reconstruct(X), atol=1e-5)


def test_volumes_are_learned_with_three_dimensional_convolutions() -> None:
    place = np.indices((8, 8, 8)).reshape(3, -1)
    centres = np.random.default_rng(0).uniform(2, 6, (300, 3))
    balls = np.exp(-np.square(place[None] - centres[:, :, None]).sum(1) / 4).reshape(-1, 8, 8, 8)
    model = ConvolutionalAutoencoder(
        6, network=Convolutional((8,), dimensions=3), loss="mean-squared-error", max_epochs=30, random_state=0
    ).fit(balls[:250])
    assert [layer.kind for layer in model.layers()].count("Conv3d") == 1
    assert model.reconstruction_error(balls[250:]).mean() < 0.5 * balls[250:].var(axis=0).mean()


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
