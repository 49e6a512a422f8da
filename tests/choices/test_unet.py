"""The network of restoration: what it sees, what it keeps of sizes, and what it holds in its code."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isthmus import Autoencoder, UNet
from isthmus.choices import Context
from isthmus.choices.unet import reflected, reflection

NETWORKS = [
    UNet((4,)),
    UNet((4, 6)),
    UNet((3, 4, 5)),
    UNet((3, 4), n_blocks=2, shuffle=1),
    UNet((4, 4), n_blocks=0, shuffle=4, kernel_size=5),
]


@pytest.mark.parametrize("network", NETWORKS, ids=repr)
def test_a_pixel_sees_as_far_as_stated_and_no_further(network: UNet) -> None:
    generator = torch.Generator().manual_seed(0)
    made = network.picture_network(1, 1, residual=False, generator=generator).double()
    for parameter in made.parameters():  # the blocks of a fresh network do nothing
        torch.nn.init.normal_(parameter, std=0.1, generator=generator)
    side = -(-(2 * network.receptive_radius + 4 * network.stride) // network.stride) * network.stride
    x = torch.randn(1, 1, side, side, generator=generator, dtype=torch.double, requires_grad=True)
    seen = 0
    for offset in range(network.stride):
        row = side // 2 // network.stride * network.stride + offset
        (gradient,) = torch.autograd.grad(made(x)[0, 0, row].sum(), x)
        rows = gradient[0, 0].abs().sum(1).nonzero()[:, 0]
        seen = max(seen, row - int(rows.min()), int(rows.max()) - row)
    assert seen == network.receptive_radius


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 7), (8, 8), (17, 3)])
def test_any_size_goes_in_and_comes_out(size: tuple[int, int]) -> None:
    network = UNet((3, 4)).picture_network(2, 3)
    assert network(torch.rand(2, 2, *size)).shape == (2, 3, *size)


def test_a_fresh_network_with_a_residual_output_gives_back_its_input() -> None:
    x = torch.rand(2, 1, 9, 10)
    torch.testing.assert_close(UNet((3, 4)).picture_network(1, 1)(x), x)
    colour = UNet((3, 4)).picture_network(1, 3)(x)
    torch.testing.assert_close(colour, x.expand(-1, 3, -1, -1))


def test_skips_carry_what_the_smallest_level_does_not_hold() -> None:
    torch.manual_seed(0)
    x = torch.rand(1, 1, 16, 16)
    for skips in (True, False):
        network = UNet((4, 4), skips=skips).picture_network(1, 1, residual=False)
        with torch.no_grad():
            for weight in (network.expanding.doublings[0].weight, network.expanding.doublings[0].bias):
                weight.zero_()  # type: ignore[operator, union-attr]  # nothing comes from the smallest level
        varies = bool(network(x).std() > 1e-4)
        assert varies == skips


def test_reflection_agrees_with_numpy() -> None:
    for length in (1, 2, 3, 7):
        expected = np.pad(np.arange(length), (0, 12), mode="reflect")
        assert reflection(length, length + 12, 13).tolist() == expected.tolist()
    x = torch.rand(1, 2, 3, 5)
    expected = np.pad(x.numpy(), [(0, 0), (0, 0), (0, 5), (0, 3)], mode="reflect")
    np.testing.assert_array_equal(reflected(x, 8).numpy(), expected)


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (UNet(()), "at least one entry"),
        (UNet((4,), kernel_size=4), "must be odd"),
        (UNet((4,), shuffle=3), "shuffle=3 must be 1, 2 or 4"),
        (UNet((4,), skips=True), "skips=True bypasses the code"),
        (UNet((4,), image_shape=(4, 16)), "UNet: image_shape"),
    ],
)
def test_what_cannot_be_built_is_refused(network: UNet, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Autoencoder(2, network=network, max_epochs=1).fit(np.random.default_rng(0).random((5, 8, 8)))


def test_an_autoencoder_has_no_skips_so_that_its_code_holds_the_image() -> None:
    images = np.random.default_rng(0).random((20, 9, 6, 3)).astype(np.float32)
    model = Autoencoder(5, network=UNet((4, 4)), max_epochs=2, random_state=0).fit(images)
    codes = model.transform(images)
    assert codes.shape == (20, 5)
    np.testing.assert_allclose(model.inverse_transform(codes), model.reconstruct(images), rtol=1e-5, atol=1e-6)
    pairs = Autoencoder(5, network=UNet((4, 4)), max_epochs=2, random_state=0).fit(images[..., 0], target=images)
    assert pairs.reconstruct(images[..., 0]).shape == images.shape
    assert UNet().resolve(Context((8, 8), 2)).skips is False
