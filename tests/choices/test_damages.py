"""Corruptions of images and blind noises, by value: moments, shares, and other libraries as oracles."""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import torch
from PIL import Image
from sklearn.base import clone

from isthmus import AnomalyDetector, Autoencoder, DenoisingAutoencoder, EncoderClassifier
from isthmus.choices import (
    CORRUPTIONS,
    JPEG,
    BlockMask,
    Blur,
    Context,
    Corruption,
    Downsample,
    GaussianNoise,
    Grayscale,
    Masking,
    PoissonNoise,
    SaltAndPepper,
    Scratches,
    Sometimes,
    Stains,
    UnevenLight,
)

UNIT = Context((12, 9, 3), code_size=2, lower=0.0, upper=1.0)
STANDARD = Context((12, 9, 3), code_size=2, lower=-3.0, upper=4.0)
COLOUR = torch.rand(16, 12, 9, 3, generator=torch.Generator().manual_seed(3))
GREY = COLOUR[..., 0].clone()
OF_IMAGES = [name for name in CORRUPTIONS.names() if CORRUPTIONS.resolve(name).reads_images]


def draw(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def damaged(corruption: Corruption, x: torch.Tensor, seed: int = 0) -> torch.Tensor:
    return corruption.resolve(UNIT).corrupt(x, draw(seed))


# -- what holds for all ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CORRUPTIONS.names())
def test_the_same_seed_damages_alike_and_leaves_the_rows_and_the_global_generator(name: str) -> None:
    corruption, x = CORRUPTIONS.resolve(name), COLOUR.clone()
    before = torch.get_rng_state()
    first, second = damaged(corruption, x, 1), damaged(corruption, x, 1)
    assert torch.equal(first, second)
    assert torch.equal(x, COLOUR)
    assert torch.equal(torch.get_rng_state(), before)
    assert first.shape == x.shape
    assert first.dtype == x.dtype
    assert bool(torch.isfinite(first).all())
    assert not torch.equal(first, x)
    random = name not in ("blur", "downsample", "grayscale")
    assert torch.equal(first, damaged(corruption, x, 2)) != random
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert torch.equal(damaged(corruption, x, 1), first)
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize("name", [name for name in OF_IMAGES if name != "grayscale"])
def test_grey_images_with_and_without_an_axis_of_channels_and_flat_rows_are_damaged_alike(name: str) -> None:
    corruption = CORRUPTIONS.resolve(name)
    expected = damaged(corruption, GREY)
    assert torch.equal(damaged(corruption, GREY[..., None])[..., 0], expected)
    flat = clone(corruption).set_params(image_shape=(12, 9))
    assert torch.equal(damaged(flat, GREY.flatten(1)), expected.flatten(1))


@pytest.mark.parametrize("name", OF_IMAGES)
def test_flat_rows_and_channels_that_go_first_are_refused(name: str) -> None:
    corruption = CORRUPTIONS.resolve(name)
    for shape, text in (
        ((784,), r"damages images, but rows are flat, of 784 values; give image_shape=\(28, 28\)"),
        ((3, 32, 32), r"images of 3×32 with 32 channels.*X\.transpose\(0, 2, 3, 1\)"),
        ((4, 4, 4, 2), r"damages images \(h, w\) or \(h, w, c\), but rows have the shape"),
    ):
        context = Context(shape, 2, 0.0, 1.0)
        (mistake,) = corruption.resolve(context).mistakes(context)
        assert mistake.startswith(type(corruption).__name__)
        with pytest.raises(ValueError, match=text):
            corruption.resolve(context).corrupt(torch.zeros(2, *shape), draw())
    wrong = clone(corruption).set_params(image_shape=(5, 5))
    with pytest.raises(ValueError, match=r"image_shape=\(5, 5\) must be .* with 108 values, as many as a row"):
        damaged(wrong, GREY)


@pytest.mark.parametrize("name", CORRUPTIONS.names())
def test_a_model_learns_against_each_and_shows_its_damage(name: str) -> None:
    images = (COLOUR.numpy() * 255).astype(np.uint8)
    model = Autoencoder(2, network=(4,), corruption=name, max_epochs=1, random_state=0).fit(images)
    shown = model.corrupt(images, random_state=0)
    assert shown.dtype == np.uint8
    assert shown.shape == images.shape
    assert not np.array_equal(shown, images)
    assert model.describe()["corruption"]["class"] == type(CORRUPTIONS.resolve(name)).__name__


# -- noises ------------------------------------------------------------------------------------------------------------


def test_blind_noise_has_a_strength_of_its_own_for_each_row() -> None:
    noise = GaussianNoise((0.04, 0.2), clip=False).corrupt(torch.zeros(4000, 500), draw())
    strengths = noise.std(1)
    assert noise.mean().item() == pytest.approx(0.0, abs=1e-3)
    assert strengths.mean().item() == pytest.approx(0.12, abs=2e-3)
    assert strengths.std().item() == pytest.approx(0.16 / math.sqrt(12), rel=0.05)  # uniform
    assert 0.035 < strengths.min().item() < 0.045
    assert 0.19 < strengths.max().item() < 0.22
    one = GaussianNoise((0.1, 0.1), clip=False).corrupt(torch.zeros(500, 500), draw())
    assert one.std().item() == pytest.approx(0.1, rel=0.01)


def test_blind_noise_is_not_compiled_as_noise_of_one_strength() -> None:
    assert GaussianNoise((0.1, 0.4)).elementwise() is None
    assert GaussianNoise(0.1).elementwise() is not None
    X = np.random.default_rng(0).random((300, 30))
    model = DenoisingAutoencoder(4, network=(64,), corruption=GaussianNoise((0.0, 0.5)), max_epochs=60, random_state=0)
    assert model.fit(X).engine_.name == "compiled"  # the damage is torch's, the step is compiled


def test_shot_noise_has_the_mean_and_the_variance_of_photon_counts() -> None:
    for value, peak in ((0.5, 20.0), (0.1, 4.0), (1.0, 100.0)):
        noisy = PoissonNoise(peak, clip=False).corrupt(torch.full((400, 500), value), draw())
        assert noisy.mean().item() == pytest.approx(value, rel=5e-3)
        assert noisy.var().item() == pytest.approx(value / peak, rel=2e-2)
    assert not PoissonNoise().corrupt(torch.zeros(3, 3), draw()).any()
    assert damaged(PoissonNoise(1.0), torch.ones(50, 50)).max().item() == 1.0  # a camera saturates
    peaks = PoissonNoise((10.0, 50.0), clip=False).corrupt(torch.full((2000, 400), 0.5), draw()).var(1)
    assert (0.5 / peaks).mean().item() == pytest.approx(30.0, rel=0.03)


def test_sometimes_damages_its_share_of_rows_and_leaves_the_others() -> None:
    x = torch.rand(4000, 6, generator=draw(5)) + 1.0
    given = Sometimes(Masking(1.0), 0.3).corrupt(x, draw())
    hit = (given == 0).all(1)
    assert torch.equal(given[~hit], x[~hit])
    assert hit.float().mean().item() == pytest.approx(0.3, abs=0.02)
    assert torch.equal(Sometimes("masking", 0.0).corrupt(x, draw()), x)
    chain = CORRUPTIONS.resolve([Sometimes(Masking(1.0), 0.5), Sometimes(GaussianNoise(1.0, clip=False), 0.5)])
    none = (chain.corrupt(x, draw()) == x).all(1).float().mean().item()
    assert none == pytest.approx(0.25, abs=0.03)  # each decides for itself
    assert Sometimes("gaussian-noise").resolve(UNIT).member.get_params()["clip"] is True
    assert Sometimes("masking").set_params(corruption__fraction=0.9).member.get_params()["fraction"] == 0.9


# -- holes, blur, resolution, colour -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fraction", "size"), [(0.0, 3), (0.1, 16), (0.25, (2, 7)), (0.25, 8), (0.5, "auto"), (0.9, 5)]
)
def test_blocks_hide_their_share_of_the_area(fraction: float, size: Any) -> None:
    hidden = BlockMask(fraction, size).corrupt(torch.ones(1500, 16, 20, 3), draw()) == 0
    assert hidden.float().mean().item() == pytest.approx(fraction, abs=0.012)
    assert torch.equal(hidden.any(3), hidden.all(3))  # all channels of a pixel together
    corner = hidden[:, 0, 0, 0].float().mean().item()
    assert fraction == 0.0 or corner == pytest.approx(fraction, abs=0.1)  # the border is hidden as often as the middle


def test_one_block_is_a_rectangle_of_its_size_and_of_its_value() -> None:
    hidden = BlockMask(0.02, 5, value=7.0).corrupt(torch.zeros(500, 40, 50), draw()) == 7.0  # 25 of 2,000 pixels
    ends = [hidden[:, 0], hidden[:, -1], hidden[..., 0], hidden[..., -1]]
    inside = ~torch.stack([end.any(1) for end in ends]).any(0)
    inner = [(rows.any(1), rows.any(0)) for rows in hidden[inside & (hidden.flatten(1).sum(1) == 25)]]
    assert len(inner) > 50
    assert all(int(down.sum()) == int(across.sum()) == 5 for down, across in inner)


def test_blur_equals_scipy() -> None:
    images = COLOUR[:3].double()
    for sigma in (0.0, 0.6, 1.0, 2.3):
        expected = scipy.ndimage.gaussian_filter(images.numpy(), (0, sigma, sigma, 0), mode="nearest", truncate=4.0)
        np.testing.assert_allclose(Blur(sigma).corrupt(images, None).numpy(), expected, atol=1e-12)
    several = Blur((0.5, 2.0)).corrupt(torch.eye(41).repeat(300, 1, 1), draw())
    peaks = several[:, 20, 20]  # of a diagonal, which fall as sigma grows
    ends = [Blur(sigma).corrupt(torch.eye(41)[None], None)[0, 20, 20] for sigma in (0.5, 1.25, 2.0)]
    assert ends[2] <= peaks.min() < 1.05 * ends[2]
    assert 0.95 * ends[0] < peaks.max() <= ends[0] + 1e-6
    assert (peaks > ends[1]).float().mean().item() == pytest.approx(0.5, abs=0.08)


def test_low_resolution_is_the_mean_of_blocks() -> None:
    low = Downsample(3).corrupt(COLOUR, None)
    expected = COLOUR.reshape(16, 4, 3, 3, 3, 3).mean((2, 4)).repeat_interleave(3, 1).repeat_interleave(3, 2)
    torch.testing.assert_close(low, expected)
    ragged = Downsample(5).corrupt(GREY, None)  # 12 × 9: blocks of 5, 5, 2 by 5, 4
    torch.testing.assert_close(ragged[:, 10:, 5:], GREY[:, 10:, 5:].mean((1, 2), keepdim=True).expand(-1, 2, 4))
    assert torch.equal(Downsample(1).corrupt(GREY, None), GREY)
    smooth = Downsample(3, upsampling="bicubic").corrupt(GREY, None)
    reference = torch.nn.functional.interpolate(
        torch.nn.functional.avg_pool2d(GREY[:, None], 3), scale_factor=3, mode="bicubic"
    )[:, 0]
    inside = (reference <= low[..., 0].amax((1, 2), keepdim=True)) & (
        reference >= low[..., 0].amin((1, 2), keepdim=True)
    )
    torch.testing.assert_close(smooth[inside], reference[inside])
    mixed = Downsample((1, 3)).corrupt(GREY.repeat(100, 1, 1), draw())
    known = [Downsample(factor).corrupt(GREY.repeat(100, 1, 1), None) for factor in (1, 2, 3)]
    shares = [(mixed == one).flatten(1).all(1).float().mean().item() for one in known]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.05)


def test_grey_is_that_of_pillow() -> None:
    pixels = (COLOUR * 255).round().to(torch.uint8)
    grey = Grayscale().corrupt(pixels.double() / 255, None)
    expected = np.stack([np.asarray(Image.fromarray(image).convert("L")) for image in pixels.numpy()])
    assert np.abs(grey[..., 0].numpy() * 255 - expected).max() <= 0.51  # Pillow rounds to bytes
    assert torch.equal(grey[..., 0], grey[..., 2])
    alpha = torch.cat([COLOUR, GREY[..., None]], dim=-1)
    assert torch.equal(Grayscale().corrupt(alpha, None)[..., 3], GREY)
    text = r"Grayscale: images have 1 channel, but red, green and blue are needed; .*fit\(grey, target=colour\)"
    with pytest.raises(ValueError, match=text):
        Grayscale().corrupt(GREY, None)


@pytest.mark.parametrize("quality", [1, 30, 95])
def test_jpeg_is_that_of_pillow(quality: int) -> None:
    for images in (COLOUR, GREY):
        pixels = (images * 255).round().to(torch.uint8).numpy()
        expected = []
        for image in pixels:
            buffer = io.BytesIO()
            Image.fromarray(image).save(buffer, "JPEG", quality=quality)
            expected.append(np.asarray(Image.open(buffer)))
        coded = JPEG(quality).corrupt(images, None) * 255
        np.testing.assert_allclose(coded.numpy(), np.stack(expected), atol=1e-3)


def test_jpeg_clips_and_draws_a_quality_for_each_row() -> None:
    image = (COLOUR[:1] * 3.0 - 1.0).repeat(300, 1, 1, 1)
    coded = JPEG((1, 3)).corrupt(image, draw())
    known = [JPEG(quality).corrupt(image[:1].clamp(0.0, 1.0), None) for quality in (1, 2, 3)]
    shares = [(coded == one).flatten(1).all(1).float().mean().item() for one in known]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.1)
    with pytest.raises(ValueError, match="JPEG: images have 2 channels, but JPEG codes 1 or 3"):
        JPEG().corrupt(COLOUR[..., :2], draw())


# -- pages and photographs ---------------------------------------------------------------------------------------------


def test_scratches_cover_the_area_of_their_lines() -> None:
    black = torch.zeros(400, 60, 60)
    lines = Scratches(1, width=3.0, length=0.2, low=1.0, high=1.0).corrupt(black, draw())
    inside = (lines[:, 0].amax(1) + lines[:, -1].amax(1) + lines[..., 0].amax(1) + lines[..., -1].amax(1)) == 0
    area = lines[inside].sum((1, 2)).mean().item()  # a capsule of length 0.2 · diagonal and width 3
    length = 0.2 * math.hypot(60, 60)
    assert area == pytest.approx(length * 3.0 + math.pi * 1.5**2, rel=0.02)
    assert lines.max().item() == 1.0
    assert lines.min().item() == 0.0


def test_scratches_have_their_number_and_both_colours() -> None:
    grey = torch.full((600, 30, 30), 0.5)
    none = Scratches((0, 1), low=0.0, high=1.0).corrupt(grey, draw())
    untouched = (none == 0.5).flatten(1).all(1)
    assert untouched.float().mean().item() == pytest.approx(0.5, abs=0.06)
    bright = (none[~untouched] > 0.5).flatten(1).any(1)
    assert bright.float().mean().item() == pytest.approx(0.5, abs=0.06)
    assert Scratches().resolve(STANDARD).get_params()["low"] == -3.0


def test_stains_darken_by_their_strength_at_most() -> None:
    page = torch.ones(300, 40, 50)
    light = Stains(1, strength=0.5, size=0.3).corrupt(page, draw())
    assert light.max().item() == 1.0
    assert light.min().item() == pytest.approx(0.5, abs=0.01)
    assert light.flatten(1).amin(1).median().item() == pytest.approx(0.5, abs=0.02)  # a rim is as dark as it is said
    assert torch.equal(Stains(0).corrupt(page, draw()), page)
    assert torch.equal(Stains(3).corrupt(page * 0, draw()), page * 0)
    coloured = Stains(1).corrupt(COLOUR, draw()) / COLOUR
    torch.testing.assert_close(coloured[..., 0], coloured[..., 2])


def test_uneven_light_keeps_its_brightest_pixel_and_takes_its_share_of_the_darkest() -> None:
    light = UnevenLight(0.6).corrupt(torch.ones(50, 30, 40), draw())
    torch.testing.assert_close(light.amax((1, 2)), torch.ones(50))
    torch.testing.assert_close(light.amin((1, 2)), torch.full((50,), 0.4))
    steps = torch.maximum(light.diff(dim=1).abs().amax(), light.diff(dim=2).abs().amax())
    assert steps.item() < 0.1  # smooth
    darkest = UnevenLight((0.2, 0.7)).corrupt(torch.ones(2000, 8, 8), draw()).amin((1, 2))
    assert darkest.mean().item() == pytest.approx(0.55, abs=0.01)


# -- what is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: GaussianNoise((0.2, 0.04)), r"scale=\(0.2, 0.04\) must be .*range \(low, high\).*low <= high"),
        (lambda: GaussianNoise((0.1, 0.2, 0.3)), r"scale=\(0.1, 0.2, 0.3\) must be"),
        (lambda: GaussianNoise((-0.1, 0.2)), "scale"),
        (lambda: PoissonNoise(0.0), "peak=0.0 must be a finite number > 0"),
        (lambda: BlockMask(1.0), r"fraction=1.0 must be a number in \[0, 0.95\]"),
        (lambda: BlockMask(0.2, (8, 4)), r"size=\(8, 4\) must be an integer >= 1, or a range"),
        (lambda: BlockMask(0.2, 20), "BlockMask: size=20 is larger than the images of 12×9"),
        (lambda: BlockMask(0.2, image_shape=(12, 9)), r"image_shape=\(12, 9\) must be"),
        (lambda: Blur(-1.0), "sigma=-1.0"),
        (lambda: Downsample(10), "Downsample: factor=10 is larger than the images of 12×9"),
        (lambda: Downsample(2.5), "factor=2.5"),
        (lambda: JPEG(0), r"quality=0 must be an integer in \[1, 95\]"),
        (lambda: JPEG(96), "quality=96"),
        (lambda: JPEG((50, 10)), r"quality=\(50, 10\)"),
        (lambda: Scratches((5, 1)), r"n_lines=\(5, 1\)"),
        (lambda: Scratches(width=0.0), "width=0.0"),
        (lambda: Stains(strength=1.5), "strength=1.5"),
        (lambda: UnevenLight(n_waves=1), r"n_waves=1 must be an integer in \[2, 16\]"),
        (lambda: Sometimes("maskin"), "Sometimes: corruption: Unknown corruption 'maskin'"),
        (lambda: Sometimes(Masking(2)), r"Masking: fraction=2"),
        (lambda: Sometimes(probability=2), r"Sometimes: probability=2"),
    ],
)
def test_each_wrong_setting_has_an_error_of_its_own(make: Callable[[], Corruption], text: str) -> None:
    model = Autoencoder(2, network=(4,), corruption=make(), max_epochs=1)
    with pytest.raises(ValueError, match=text):
        model.fit(COLOUR.numpy())


@pytest.mark.parametrize("name", ["poisson-noise", "grayscale", "jpeg", "stains", "uneven-light"])
def test_damage_that_needs_black_at_zero_refuses_standardised_data(name: str) -> None:
    text = r"the scaled data must .*, but range from .*scaling='none'"
    with pytest.raises(ValueError, match=text):
        Autoencoder(2, network=(4,), corruption=name, scaling="standard", max_epochs=1).fit(COLOUR.numpy())


def test_other_damage_goes_with_standardised_data() -> None:
    for corruption in (BlockMask(), Blur(), Downsample(), Scratches(), SaltAndPepper(), GaussianNoise((0.1, 0.2))):
        model = Autoencoder(2, network=(4,), corruption=corruption, scaling="standard", max_epochs=1, random_state=0)
        assert np.isfinite(model.fit(COLOUR.numpy()).corrupt(COLOUR.numpy(), random_state=0)).all()


def test_tasks_refuse_damage_that_does_not_fit_their_data() -> None:
    X = np.random.default_rng(0).normal(size=(60, 9))
    with pytest.raises(ValueError, match="BlockMask: damages images, but rows are flat, of 9 values"):
        AnomalyDetector(corruption="block-mask", max_steps=1).fit(X)
    with pytest.raises(ValueError, match=r"JPEG: the scaled data must lie in \[0, 1\]"):
        AnomalyDetector(corruption="jpeg", max_steps=1).fit(X.reshape(60, 3, 3))
    encoder = Autoencoder(2, network=(4,), max_epochs=1).fit(X)
    with pytest.raises(ValueError, match="Blur: damages images"):
        EncoderClassifier(encoder, corruption="blur", max_epochs=1).fit(X, X[:, 0] > 0)


def test_blocks_that_would_take_too_many_are_refused() -> None:
    context = Context((500, 500), 2, 0.0, 1.0)
    (mistake,) = BlockMask(0.5, 1).mistakes(context)
    assert "takes 346,579" in mistake
    assert "use larger blocks, or Masking" in mistake


def test_layers_are_not_pretrained_against_damage_of_images() -> None:
    model = Autoencoder(2, network=(8,), corruption=["masking", Sometimes(Blur())], pretraining="layer-wise")
    with pytest.raises(ValueError, match="LayerWise: the corruption needs images, but outputs of layers"):
        model.fit(COLOUR.numpy())


def test_a_step_that_codes_jpeg_is_not_captured_as_a_graph() -> None:
    images = COLOUR.numpy()
    model = Autoencoder(2, network=(4,), corruption=["masking", Sometimes("jpeg")], max_epochs=1).fit(images)
    assert model.objective_.waits_for_host()
    assert not Autoencoder(2, network=(4,), corruption="blur", max_epochs=1).fit(images).objective_.waits_for_host()
