"""Restoration of images: what is learned, what comes out, and what is refused."""

from __future__ import annotations

import copy
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import isthmus
from isthmus import Restorer, UNet
from isthmus.choices import CORRUPTIONS
from isthmus.exceptions import DataError, FitWarning, InterruptedWarning
from isthmus.tasks.restoration import restorer_fit
from isthmus.tasks.restoration.crops import CropFeed, Lesson, two_of_four
from isthmus.tasks.restoration.damages import damage_of
from isthmus.tasks.restoration.noise import noise_correlation
from isthmus.tasks.restoration.pictures import Range
from isthmus.tasks.restoration.symmetries import SYMMETRIES, turned
from isthmus.training import Callback, Run

DRAW = np.random.default_rng(0)
SMALL: dict[str, Any] = {"network": UNet((8, 8)), "max_steps": 60, "batch_size": 8, "random_state": 0}


def stripes(n: int, height: int = 24, width: int = 28) -> np.ndarray:
    """Images of soft stripes in all directions, (n, h, w), in [0.1, 0.9]."""
    draw = np.random.default_rng(n)
    y, x = np.mgrid[:height, :width]
    angle, speed, phase = draw.uniform(0, np.pi, n), draw.uniform(0.2, 0.5, n), draw.uniform(0, 6, n)
    along = np.cos(angle)[:, None, None] * x + np.sin(angle)[:, None, None] * y
    images: np.ndarray = 0.5 + 0.4 * np.sin(speed[:, None, None] * along + phase[:, None, None])
    return images.astype(np.float32)


CLEAN = stripes(40)
NOISY = (CLEAN + 0.2 * DRAW.normal(size=CLEAN.shape)).astype(np.float32)


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer(**SMALL | {"max_steps": 120}).fit(NOISY[:30], target=CLEAN[:30])


def test_pairs_teach_to_undo_their_damage(restorer: Restorer) -> None:
    quality = restorer.score(NOISY[30:], target=CLEAN[30:])
    assert quality == quality.psnr
    assert quality.psnr > quality.psnr_before + 6.0
    assert quality.ssim > quality.ssim_before + 0.1
    assert quality.rmse < 0.6 * quality.rmse_before
    restored = restorer.restore(NOISY[30:])
    errors = np.square(restored - CLEAN[30:]).mean((1, 2))
    assert quality.psnr == pytest.approx(float((-10 * np.log10(errors)).mean()), abs=0.01)
    assert quality.rmse == pytest.approx(float(np.sqrt(errors).mean()), rel=1e-4)


def test_a_damage_is_done_to_clean_images_and_undone() -> None:
    restorer = Restorer(isthmus.GaussianNoise(0.2), **SMALL | {"max_steps": 120}).fit(CLEAN[:30])
    noisy = restorer.damage_images(CLEAN[30:], random_state=1)
    assert np.abs(noisy - CLEAN[30:]).std() > 0.08
    assert restorer.score(noisy, target=CLEAN[30:]) > restorer.score(noisy, target=CLEAN[30:]).psnr_before + 5.0
    assert restorer.score(CLEAN[30:]).psnr == pytest.approx(restorer.score(noisy, target=CLEAN[30:]).psnr, abs=1.0)
    np.testing.assert_array_equal(noisy, restorer.damage_images(CLEAN[30:], random_state=1))


@pytest.mark.parametrize(("height", "crop_size", "side"), [(31, 64, 32), (40, 31, 24)])  # whole images, and crops
def test_borders_are_learned_also_of_images_that_need_no_padding(height: int, crop_size: int, side: int) -> None:
    made: dict[str, Any] = SMALL | {"network": UNet((8, 8, 8, 8)), "residual": False, "max_steps": 150}  # stride 8
    restorer = Restorer("noise:0.1", crop_size=crop_size, **made).fit(stripes(30, height, height))
    assert restorer.side_ == side
    larger = stripes(30, 32, 32)
    errors = np.square(restorer.restore(restorer.damage_images(larger)) - larger).mean(0)
    assert errors[-1].mean() < 4 * errors[:-1].mean()
    assert errors[:, -1].mean() < 4 * errors[:, :-1].mean()


@pytest.mark.parametrize("self_ensemble", [False, True])
@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("size", [(70, 90), (33, 61), (5, 100)])
def test_tiles_agree_with_the_whole_image(size: tuple[int, int], scale: int, self_ensemble: bool) -> None:
    small = CLEAN[:, ::2, ::2] if scale == 2 else NOISY
    made = Restorer(**SMALL | {"max_steps": 30}, self_ensemble=self_ensemble)
    restorer = made.fit(small[:8], target=CLEAN[:8])
    image = np.random.default_rng(1).random(size).astype(np.float32)
    (whole,) = restorer.set_params(tile_size=1000).restore([image])
    (tiled,) = restorer.set_params(tile_size=16).restore([image])
    assert whole.shape == (scale * size[0], scale * size[1])
    assert np.abs(whole - np.float32(image.mean())).max() > 0.01
    np.testing.assert_allclose(tiled, whole, atol=1e-5, rtol=0)


def test_a_symmetry_is_undone_by_its_negative_and_eight_differ() -> None:
    image = torch.arange(6.0).view(2, 3)
    views = [turned(image, turn, (0, 1)) for turn in SYMMETRIES[True]]
    assert len({(*view.shape, *view.flatten().tolist()) for view in views}) == 8
    for turn, view in enumerate(views):
        assert torch.equal(turned(view, -turn, (0, 1)), image)
    assert turned(image, SYMMETRIES["mirror"][1], (0, 1)).tolist() == [[2, 1, 0], [5, 4, 3]]


@pytest.mark.parametrize(("augment", "n_views"), [(True, 8), ("mirror", 2), (False, 1)])
def test_crops_are_augmented_by_the_chosen_symmetries_only(augment: bool | str, n_views: int) -> None:
    image = np.arange(64, dtype=np.float32).reshape(8, 8, 1) / 64
    feed = CropFeed(Lesson([image], Range(0.0, 1.0)), 8, 1, 60, torch.device("cpu"), turns=SYMMETRIES[augment])
    found = {tuple(batch[0].tolist()) for batch in feed.shuffled(torch.Generator().manual_seed(0))}
    expected = {tuple(turned(torch.tensor(image), turn, (0, 1)).flatten().tolist()) for turn in SYMMETRIES[augment]}
    assert len(found) == n_views
    assert found == expected


@pytest.mark.parametrize("augment", [True, "mirror", False])
def test_a_self_ensemble_is_the_mean_of_the_restored_views(restorer: Restorer, augment: bool | str) -> None:
    image = NOISY[31, :24, :24]  # a multiple of the stride, which needs no padding
    views = [turned(torch.tensor(image), turn, (0, 1)) for turn in SYMMETRIES[augment]]
    restored = restorer.restore([view.numpy() for view in views])
    pairs = zip(SYMMETRIES[augment], restored, strict=True)
    mean = np.mean([turned(torch.tensor(view), -turn, (0, 1)).numpy() for turn, view in pairs], axis=0)
    whole = clone_of(restorer).set_params(self_ensemble=True, augment=augment)
    np.testing.assert_allclose(whole.restore([image])[0], mean, atol=1e-6)


def test_a_self_ensemble_restores_better(restorer: Restorer) -> None:
    whole = clone_of(restorer).set_params(self_ensemble=True)
    assert whole.score(NOISY[30:], target=CLEAN[30:]) > restorer.score(NOISY[30:], target=CLEAN[30:])


def clone_of(restorer: Restorer) -> Restorer:
    """Another object with the same fitted network."""
    return copy.deepcopy(restorer)


def test_a_logarithmic_loss_lets_weak_noise_count() -> None:
    noisy = (CLEAN[30:] + 0.02 * np.random.default_rng(5).normal(size=CLEAN[30:].shape)).astype(np.float32)
    found = []
    for loss in ("mean-squared-error", "log-mean-squared-error"):
        made = Restorer(isthmus.GaussianNoise((0.02, 0.5)), loss=loss, **SMALL | {"max_steps": 300})
        found.append(made.fit(CLEAN[:30]).score(noisy, target=CLEAN[30:]).psnr)
    assert found[1] > found[0] + 0.5


def test_small_images_are_restored_alone_as_among_others(restorer: Restorer) -> None:
    together = restorer.restore(NOISY)
    alone = restorer.restore([NOISY[3]])[0]
    np.testing.assert_allclose(alone, together[3], atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float16, np.float32, np.float64])
def test_the_dtype_and_the_unit_are_those_of_the_image(restorer: Restorer, dtype: type) -> None:
    white = np.iinfo(dtype).max if issubclass(dtype, np.integer) else 1
    image = np.clip(NOISY[35], 0, 1)
    restored = restorer.restore([(image * white).round() if white > 1 else image][0][None].astype(dtype))
    assert restored.dtype == dtype
    expected = restorer.restore(image[None])
    np.testing.assert_allclose(restored.astype(np.float64) / white, expected, atol=0.006)


def test_floats_of_another_range_keep_their_unit() -> None:
    far = 4000.0 * CLEAN + 1000.0
    noisy = far + 800.0 * DRAW.normal(size=far.shape)
    restorer = Restorer(**SMALL | {"max_steps": 120}).fit(noisy[:30], target=far[:30])
    restored = restorer.restore(noisy[30:])
    assert np.sqrt(np.square(restored - far[30:]).mean()) < 500.0
    whole = restorer.restore(noisy[30:].astype(np.int32))
    assert whole.dtype == np.int32
    assert np.abs(whole - restored).max() < 50
    with pytest.raises(DataError, match=r"X\[0\] has pixels from 0\.\d+ to .* lie between"):
        Restorer(**SMALL | {"max_steps": 2}).fit(noisy + 1e5, target=far + 1e5).restore(CLEAN)
    with pytest.raises(DataError, match="or are bytes"):
        Restorer(**SMALL | {"max_steps": 2}).fit(NOISY, target=CLEAN).restore(far)


def test_images_of_other_channels_come_out_as_they_were() -> None:
    colour = np.stack([CLEAN, CLEAN[::-1], 1 - CLEAN], axis=-1)
    of_colour = Restorer("gaussian-noise", **SMALL | {"max_steps": 5}).fit(colour)
    of_grey = Restorer("gaussian-noise", **SMALL | {"max_steps": 5}).fit(CLEAN)
    assert of_colour.restore(CLEAN[:2]).shape == CLEAN[:2].shape
    np.testing.assert_allclose(of_grey.restore(colour[:2])[..., 1], of_grey.restore(colour[:2, ..., 1]), atol=1e-6)
    alpha = DRAW.random(CLEAN[:2].shape).astype(np.float32)
    with_alpha = np.concatenate([colour[:2], alpha[..., None]], axis=-1)
    restored = of_colour.restore(with_alpha)
    np.testing.assert_array_equal(restored[..., 3], alpha)
    np.testing.assert_allclose(restored[..., :3], of_colour.restore(colour[:2]), atol=1e-6)
    assert of_grey.restore(np.stack([CLEAN[:2], alpha], axis=-1)).shape == (2, 24, 28, 2)
    with pytest.raises(DataError, match=r"X\[0\] has 5 channels, but the restorer was fitted to images of 1"):
        of_grey.restore(np.zeros((1, 9, 9, 5)))


def test_a_target_may_have_other_channels() -> None:
    colour = np.stack([CLEAN, CLEAN, 1 - CLEAN], axis=-1)
    restorer = Restorer(**SMALL | {"max_steps": 120}).fit(CLEAN[:30], target=colour[:30])
    restored = restorer.restore(CLEAN[30:])
    assert restored.shape == (10, 24, 28, 3)
    assert np.abs(restored - colour[30:]).mean() < 0.05
    quality = restorer.score(CLEAN[30:], target=colour[30:])
    assert quality.psnr > quality.psnr_before + 6.0
    assert restorer.restore(colour[30:]).shape == (10, 24, 28, 3)  # of coloured images their grey ones


def test_enlarging_beats_interpolation_on_edges() -> None:
    blocks = (stripes(40, 32, 32) > 0.5).astype(np.float32)
    small = blocks.reshape(40, 16, 2, 16, 2).mean((2, 4))
    restorer = Restorer(**SMALL | {"max_steps": 150}).fit(small[:30], target=blocks[:30])
    quality = restorer.score(small[30:], target=blocks[30:])
    assert restorer.scale_ == 2
    assert quality.psnr > quality.psnr_before + 1.0


def test_lists_hold_images_of_different_sizes(restorer: Restorer) -> None:
    images = [NOISY[0], NOISY[1, :5, :20], NOISY[2, :1, :1], NOISY[3]]
    restored = restorer.restore(images)
    assert [image.shape for image in restored] == [image.shape for image in images]
    mixed = Restorer("masking", **SMALL | {"max_steps": 3}).fit(images)
    assert len(mixed.restore(images)) == 4


def test_a_folder_is_read_as_people_see_it(tmp_path: Path) -> None:
    for number, image in enumerate(CLEAN[:4]):
        turned = Image.fromarray((image * 255).round().astype(np.uint8).T)
        exif = Image.Exif()
        exif[0x0112] = 5  # mirrored and turned: viewers show the transpose
        turned.save(tmp_path / f"{number}.png", exif=exif)
    restorer = Restorer("masking", **SMALL | {"max_steps": 3}).fit(str(tmp_path))
    restored = restorer.restore(tmp_path)
    assert [image.shape for image in restored] == [(24, 28)] * 4
    assert restored[0].dtype == np.uint8


def test_images_of_pillow_have_the_colours_of_their_palette() -> None:
    pixels = (255 * np.stack([CLEAN[0], CLEAN[1], 1 - CLEAN[0]], axis=-1)).astype(np.uint8)
    palette = Image.fromarray(pixels).quantize(32)
    restorer = Restorer("masking", **SMALL | {"max_steps": 2}).fit([Image.fromarray(pixels)])
    (restored,) = restorer.restore([palette])
    np.testing.assert_array_equal(restored, restorer.restore([np.asarray(palette.convert("RGB"))])[0])


def test_the_residual_output_is_a_choice() -> None:
    for residual in (True, False):
        restorer = Restorer("masking", residual=residual, **SMALL | {"max_steps": 1}).fit(CLEAN)
        near = np.abs(restorer.restore(CLEAN) - CLEAN).mean() < 0.1
        assert near == residual


def test_independent_noise_measures_no_correlation_and_blurred_noise_does() -> None:
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    scene = 0.5 + 0.2 * np.sin(x / 40) * np.cos(y / 55)
    noise = draw.normal(size=(256, 257))
    for sigma in (0.04, 0.2):
        assert abs(noise_correlation([(scene + sigma * noise[:, :256])[..., None]])) < 0.1
        blurred = (noise[:, 1:] + noise[:, :-1]) / np.sqrt(2)
        assert noise_correlation([(scene + sigma * blurred)[..., None]]) > 0.35
    assert np.isnan(noise_correlation([np.zeros((5, 5, 1))]))
    assert np.isnan(noise_correlation([np.zeros((64, 64, 1))]))


@pytest.mark.parametrize(
    ("text", "member"),
    [
        ("noise:0.1-0.5", "GaussianNoise(scale=(0.1, 0.5))"),
        ("gaussian-noise : 2e-2", "GaussianNoise(scale=0.02)"),
        ("Noise", "GaussianNoise()"),
        ("masking:0.3+noise:0.1", "Chain(members=(Masking(), GaussianNoise(scale=0.1)))"),
        ("block-mask:0.15", "BlockMask(fraction=0.15)"),
        ("holes", "BlockMask()"),
        ("sometimes:0.2", "Sometimes(probability=0.2)"),
        ("stains:0.1-0.3", "Stains(strength=(0.1, 0.3))"),
        ("grey", "Grayscale()"),
    ],
)
def test_a_damage_is_a_text_with_its_strength(text: str, member: str) -> None:
    assert repr(damage_of(text)) == member


STRENGTHS = {
    "block-mask": ("fraction", 0.5),
    "blur": ("sigma", 0.5),
    "downsample": ("factor", 3),
    "drop-entries": ("fraction", 0.25),
    "gaussian-noise": ("scale", 0.25),
    "grayscale": (None, None),
    "jpeg": ("quality", 40),
    "masking": ("fraction", 0.25),
    "poisson-noise": ("peak", 12),
    "salt-and-pepper": ("fraction", 0.25),
    "scratches": ("n_lines", 3),
    "sometimes": ("probability", 0.25),
    "stains": ("strength", 0.25),
    "uneven-light": ("strength", 0.25),
}
"""The parameter that the number after the name of a corruption sets, with a value."""


@pytest.mark.parametrize("name", CORRUPTIONS.names())
def test_the_number_after_the_name_is_the_strength_of_every_corruption(name: str) -> None:
    parameter, value = STRENGTHS[name]
    if parameter is None:
        with pytest.raises(ValueError, match=f"'{name}:0.5' has a strength, but {name} takes none; write '{name}'"):
            damage_of(f"{name}:0.5")
        return
    made = damage_of(f"{name}:{value}")
    changed = {key for key, given in made.get_params(deep=False).items() if given != type(made)().get_params()[key]}
    assert changed == {parameter}
    assert getattr(made, parameter) == value
    assert made.mistakes() == []


def test_a_wrong_damage_suggests_the_nearest_of_all_accepted_names() -> None:
    for wrong, right in {"nois": "noise", "hole": "holes", "gausian": "gaussian-noise", "jpg": "jpeg"}.items():
        with pytest.raises(ValueError, match=f"Unknown corruption '{wrong}'; did you mean '{right}'"):
            Restorer(f"{wrong}:0.1", **SMALL).fit(CLEAN)


def test_a_blind_restorer_undoes_every_strength_of_a_range() -> None:
    restorer = Restorer("noise:0.05-0.3", **SMALL | {"max_steps": 150}).fit(CLEAN[:30])
    for sigma in (0.1, 0.25):
        noisy = (CLEAN[30:] + sigma * DRAW.normal(size=CLEAN[30:].shape)).astype(np.float32)
        quality = restorer.score(noisy, target=CLEAN[30:])
        assert quality.psnr > quality.psnr_before + 3.0, sigma


WRONG: list[tuple[Any, Any, Any, type[Exception], str]] = [
    (None, CLEAN, None, ValueError, r"neither a damage nor a target.*fit\(damaged, target=clean\)"),
    ("masking", CLEAN, CLEAN, ValueError, "damage='masking' and a target exclude each other"),
    ("maskings", CLEAN, None, ValueError, "Unknown corruption 'maskings'.*masking"),
    ("noise:0.5-0.1", CLEAN, None, ValueError, "range in reverse order; write noise:0.1-0.5"),
    ("noise:strong", CLEAN, None, ValueError, "needs a number or a range after the colon"),
    ("noise:1.2.3", CLEAN, None, ValueError, "is '1.2.3', which is not a number"),
    ("masking:0.1-0.3", CLEAN, None, ValueError, r"fraction=\(0\.1, 0\.3\) must be a number in \[0, 1\]"),
    (None, CLEAN, CLEAN[:5], DataError, "There are 40 images, but 5 targets"),
    (None, CLEAN, CLEAN[:, :20], DataError, r"X\[0\] is 24×28, but target\[0\] is 20×28; a target must"),
    (
        None,
        [CLEAN[0], CLEAN[1]],
        [CLEAN[0], np.repeat(np.repeat(CLEAN[1], 2, 0), 2, 1)],
        DataError,
        r"target\[1\] is 2",
    ),
    ("masking", CLEAN[0], None, DataError, r"shape \(24, 28\), but images need \(n, h, w\).*pass a list"),
    ("masking", np.zeros((28, 24, 3)), None, DataError, r"may be one colour image or 28 grey.*X\[None\]"),
    ("masking", np.zeros((5, 3, 20, 30)), None, DataError, r"images of 3×20 pixels.*X\.transpose\(0, 2, 3, 1\)"),
    ("masking", [np.zeros((1, 20, 30))], None, DataError, r"X\[0\] would be read.*image\.transpose\(1, 2, 0\)"),
    ("masking", np.ma.masked_less(CLEAN, 0.2), None, DataError, "NaN"),
    ("masking", [], None, DataError, "X is empty"),
    ("masking", np.zeros((3, 0, 4)), None, DataError, r"its shape, \(3, 0, 4\), has no"),
    ("masking", [CLEAN[0], np.where(CLEAN[1] > 0.5, np.nan, 0)], None, DataError, r"X\[1\] has \d+ numbers.*NaN at"),
    ("masking", [CLEAN[0], np.zeros((5, 5, 3))], None, DataError, r"X\[1\] has 3 channels, but X\[0\] has 1"),
    ("masking", [np.array([["a"]])], None, DataError, "text|dtype"),
    ("masking", (image for image in CLEAN), None, TypeError, "generator"),
]


@pytest.mark.parametrize(("damage", "X", "target", "kind", "message"), WRONG)
def test_what_cannot_be_learned_from_is_refused(
    damage: Any, X: Any, target: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        Restorer(damage, **SMALL).fit(X, target=target)


def test_targets_are_no_labels(restorer: Restorer) -> None:
    with pytest.raises(ValueError, match=r"fit\(damaged, target=clean\)"):
        Restorer(**SMALL).fit(NOISY, CLEAN)
    with pytest.raises(ValueError, match=r"score\(damaged, target=clean\)"):
        restorer.score(NOISY, CLEAN)
    with pytest.raises(ValueError, match="damage is not known"):
        restorer.damage_images(CLEAN)


def test_parameters_are_checked_together() -> None:
    with pytest.raises(ValueError, match=r"(?s)crop_size=4 .*max_steps=0 .*network='dense' must be a UNet"):
        Restorer("masking", crop_size=4, max_steps=0, network="dense").fit(CLEAN)
    with pytest.raises(ValueError, match="is not a distance between pixels"):
        Restorer("masking", loss="multinomial", **SMALL).fit(CLEAN)


@pytest.mark.parametrize("make", ["text", "folder", "empty"])
def test_bad_files_are_named(tmp_path: Path, make: str) -> None:
    if make != "empty":
        Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "good.png")
    if make == "text":
        (tmp_path / "bad.png").write_text("no image")
    if make == "folder":
        (tmp_path / "bad.png").mkdir()
    with pytest.raises(DataError, match="has no images" if make == "empty" else r"bad\.png"):
        Restorer("masking", **SMALL).fit(tmp_path)


def test_the_network_is_a_module_for_images(restorer: Restorer) -> None:
    x = torch.from_numpy(NOISY[:2, None])
    with torch.no_grad():
        restored = restorer.objective_.pictures(x)[:, 0].numpy().clip(0, 1)
    np.testing.assert_allclose(restored, restorer.restore(NOISY[:2]).clip(0, 1), atol=1e-5)


def test_noisy_images_alone_teach_to_remove_their_noise() -> None:
    noisy = (stripes(40, 48, 48) + 0.2 * DRAW.normal(size=(40, 48, 48))).astype(np.float32)
    restorer = Restorer("unknown", **SMALL | {"max_steps": 120}).fit(noisy[:30])
    quality = restorer.score(noisy[30:], target=stripes(40, 48, 48)[30:])
    assert quality.psnr > quality.psnr_before + 4.0
    with pytest.raises(ValueError, match="damage is not known"):
        restorer.score(noisy[30:])


class Interrupting(Callback):
    """Stands in for the progress bar, and presses Ctrl-C at the third step."""

    def on_step_end(self, run: Run) -> None:
        if run.step == 3:
            signal.raise_signal(signal.SIGINT)


def test_ctrl_c_keeps_what_was_learned_so_far(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restorer_fit, "ProgressBar", Interrupting)
    with pytest.warns(InterruptedWarning, match="interrupted in epoch 1"):
        restorer = Restorer("masking", **SMALL | {"max_steps": 50, "verbose": 1}).fit(CLEAN)
    assert restorer.stop_reason_ == "interrupted"
    assert restorer.restore(CLEAN[:2]).shape == CLEAN[:2].shape


def test_a_fit_that_fails_leaves_the_restorer_as_it_was(restorer: Restorer) -> None:
    before = restorer.restore(NOISY[:2])
    with pytest.raises(DataError):
        restorer.fit(NOISY, target=CLEAN[:3])
    np.testing.assert_array_equal(restorer.restore(NOISY[:2]), before)


def test_a_damage_that_does_not_fit_the_images_is_refused() -> None:
    with pytest.raises(ValueError, match="Grayscale: images have 1 channel, but red, green"):
        Restorer("grey", **SMALL).fit(CLEAN)
    with pytest.raises(ValueError, match=r"BlockMask: size=30 is larger than the images of 24×24"):
        Restorer(isthmus.BlockMask(0.25, 30), **SMALL).fit(CLEAN)


def test_colour_that_the_damage_takes_away_is_learned_and_given_to_grey_images() -> None:
    colour = np.stack([CLEAN, 1 - CLEAN, 0.5 + 0 * CLEAN], axis=-1)
    restorer = Restorer("grayscale", **SMALL | {"max_steps": 100}).fit(colour[:30])
    assert restorer.adds_colour_
    grey = restorer.damage_images(colour[30:])
    restored = restorer.restore(grey[..., 0])
    assert restored.shape == colour[30:].shape
    assert np.abs(restored - colour[30:]).mean() < 0.5 * np.abs(grey - colour[30:]).mean()


def test_two_of_four_takes_neighbours_of_each_cell_and_never_the_same_pixel() -> None:
    pixels = torch.arange(2 * 6 * 8 * 3, dtype=torch.float32).view(2, 6, 8, 3)
    one, other = two_of_four(pixels, torch.Generator().manual_seed(0))
    assert one.shape == other.shape == (2, 3, 4, 3)
    apart = set(np.unique((one - other).abs().numpy()).tolist())
    assert apart == {3.0, 8 * 3.0}  # one pixel to the side, or one row down
    rows, columns = torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij")
    for part in (one, other):
        place = part[0, ..., 0] / 3
        assert torch.equal(place // 8 // 2, rows.float())
        assert torch.equal(place % 8 // 2, columns.float())


def test_correlated_noise_that_stands_alone_is_warned_of() -> None:
    draw = np.random.default_rng(0)
    noise = draw.normal(size=(4, 128, 129))
    smoothed = (0.5 + 0.1 * (noise[..., 1:] + noise[..., :-1]) / np.sqrt(2)).astype(np.float32)
    restorer = Restorer("unknown", **SMALL | {"max_steps": 2})
    with pytest.warns(FitWarning, match=r"correlated: 0\.[45]\d, where independent noise measures about 0"):
        restorer.fit(smoothed)
    restorer.fit((0.5 + 0.1 * noise).astype(np.float32))
