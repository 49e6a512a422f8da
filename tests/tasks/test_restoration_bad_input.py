"""What a restorer does with images of every kind: a sensible answer, or one error that names the image."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from isthmus import GaussianNoise, Restorer, UNet, restore_folder
from isthmus.exceptions import ConversionWarning, DataError, OutputError

FEW: dict[str, Any] = {"network": UNet((4, 4)), "max_steps": 2, "batch_size": 2, "random_state": 0}
COLOUR = np.random.default_rng(0).integers(0, 256, (4, 12, 10, 3), dtype=np.uint8)
GREY = COLOUR[..., 0]
DEEP = GREY.astype(np.uint16) * 257


@pytest.fixture(scope="module")
def grey() -> Restorer:
    return Restorer("gaussian-noise", **FEW).fit(GREY)


@pytest.fixture(scope="module")
def colour() -> Restorer:
    return Restorer("gaussian-noise", **FEW).fit(COLOUR)


def loss(images: Any) -> float:
    return float(Restorer("gaussian-noise", **FEW | {"batch_size": 4}).fit(images).history_["loss"][-1])


# -- units and depths --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("other", [DEEP, GREY / 255, (GREY / 255).astype(np.float32)], ids=["16 bits", "64", "32"])
def test_images_of_different_types_are_learned_in_one_unit(other: np.ndarray) -> None:
    assert loss([GREY[0], other[1], GREY[2], other[3]]) == pytest.approx(loss(list(GREY)), rel=1e-4)


def test_bytes_among_floats_of_another_unit_are_numbers_like_these() -> None:
    far = 20.0 * GREY + 100.0
    restorer = Restorer("gaussian-noise", **FEW).fit([far[0], GREY[1]])
    assert (restorer.given_range_.low, restorer.given_range_.high) == (float(GREY[1].min()), float(far[0].max()))


def test_black_and_white_of_another_unit_becomes_floats() -> None:
    restorer = Restorer("gaussian-noise", **FEW).fit(20.0 * GREY)
    assert restorer.restore(GREY > 100).dtype == np.float32


# -- folders -----------------------------------------------------------------------------------------------------------


def mixed(folder: Path) -> dict[str, tuple[tuple[int, ...], type]]:
    """Images of many modes in one folder, in the order of their names, with the shape and type of each."""
    made = {
        "a-grey": Image.fromarray(GREY[0]),
        "b-clear-grey": Image.fromarray(np.stack([GREY[0], GREY[1]], -1)),
        "c-colour": Image.fromarray(COLOUR[0]),
        "d-clear": Image.fromarray(np.concatenate([COLOUR[0], GREY[1][..., None]], -1)),
        "e-deep": Image.fromarray(DEEP[0]),
        "f-palette": Image.fromarray(COLOUR[0]).quantize(8),
    }
    for name, image in made.items():
        image.save(folder / f"{name}.png")
    shapes: list[tuple[int, ...]] = [(12, 10), (12, 10, 2), (12, 10, 3), (12, 10, 4), (12, 10), (12, 10, 3)]
    types = [np.uint16 if "deep" in name else np.uint8 for name in made]
    return dict(zip(made, zip(shapes, types, strict=True), strict=True))


@pytest.mark.parametrize("fitted", ["grey", "colour"])
def test_each_image_of_a_mixed_folder_keeps_its_mode(
    fitted: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    restorer: Restorer = request.getfixturevalue(fitted)
    expected = mixed(tmp_path)
    restored = restorer.restore(tmp_path)
    for image, (name, (shape, dtype)) in zip(restored, expected.items(), strict=True):
        assert (image.shape, image.dtype) == (shape, dtype), name
        with Image.open(tmp_path / f"{name}.png") as alone:
            if shape[-1:] in ((2,), (4,)):
                np.testing.assert_array_equal(image[..., -1], np.asarray(alone)[..., -1])
            elif alone.mode != "P":
                np.testing.assert_array_equal(image, restorer.restore([np.asarray(alone)])[0])


def test_a_mixed_folder_is_learned_in_colour(tmp_path: Path) -> None:
    mixed(tmp_path)
    restorer = Restorer("gaussian-noise", **FEW).fit(tmp_path)
    assert (restorer.n_channels_in_, restorer.n_images_) == (3, 6)


def test_a_list_may_mix_channels_where_images_are_restored(grey: Restorer) -> None:
    assert [image.shape for image in grey.restore([GREY[0], COLOUR[0]])] == [(12, 10), (12, 10, 3)]
    with pytest.raises(DataError, match=r"X\[1\] has 3 channels, but X\[0\] has 1; all images need the same"):
        Restorer("gaussian-noise", **FEW).fit([GREY[0], COLOUR[0]])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_pixels_of_a_file_that_are_not_finite_are_named(value: float, tmp_path: Path, grey: Restorer) -> None:
    pixels = (GREY[0] / 255).astype(np.float32)
    pixels[3, 4] = value
    Image.fromarray(pixels).save(tmp_path / "odd.tif")
    for use in (grey.restore, Restorer("gaussian-noise", **FEW).fit):
        with pytest.raises(DataError, match=r"odd\.tif' has 1 pixels that are not finite.*at \(3, 4\)"):
            use(tmp_path)


def test_formats_that_are_not_read_are_named(tmp_path: Path, grey: Restorer) -> None:
    Image.fromarray(GREY[0]).save(tmp_path / "a.png")
    (tmp_path / "phone.heic").write_bytes(b"")
    with pytest.warns(ConversionWarning, match=r"1 image in .* left out \(phone\.heic\)"):
        assert len(grey.restore(tmp_path)) == 1
    done = list(restore_folder(grey, tmp_path, tmp_path.parent / "out"))
    assert [bool(file.error) for file in done] == [False, True]
    assert "phone.heic' is of a format that cannot be read; convert it" in done[1].error
    (tmp_path / "a.png").unlink()
    with pytest.raises(DataError, match=r"has no images .*; convert phone\.heic and the like"):
        grey.restore(tmp_path)


def test_a_file_is_no_folder(tmp_path: Path, grey: Restorer) -> None:
    Image.fromarray(GREY[0]).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png' is a file, but a folder of images is needed"):
        grey.restore(tmp_path / "a.png")
    assert len(grey.restore([tmp_path / "a.png"])) == 1


def test_pairs_of_files_need_as_many_pages(tmp_path: Path) -> None:
    pages = [Image.fromarray(image) for image in GREY]
    for part, counts in (("damaged", (2, 1)), ("clean", (1, 2))):
        (tmp_path / part).mkdir()
        for name, count in zip("ab", counts, strict=True):
            pages[0].save(tmp_path / part / f"{name}.tif", save_all=True, append_images=pages[1:count])
    with pytest.raises(DataError, match=r"a\.tif' \(page 1\) is of a file of 2 pages, but .*a\.tif' of one of 1 page;"):
        Restorer(**FEW).fit(tmp_path / "damaged", target=tmp_path / "clean")
    assert Restorer(**FEW).fit(tmp_path / "clean", target=tmp_path / "clean").n_images_ == 3


@pytest.mark.parametrize("cut", [5, 300, 500, 522, 530])
def test_a_truncated_animation_is_named_wherever_it_ends(cut: int, tmp_path: Path, grey: Restorer) -> None:
    stream = io.BytesIO()
    frames = [Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12) + number) for number in range(2)]
    frames[0].save(stream, "GIF", save_all=True, append_images=frames[1:])
    (tmp_path / "cut.gif").write_bytes(stream.getvalue()[:cut])
    with pytest.raises(DataError, match=r"cut\.gif' cannot be read \(.+\); repair or remove it"):
        grey.restore(tmp_path)


# -- lists -------------------------------------------------------------------------------------------------------------


def truncated() -> Image.Image:
    stream = io.BytesIO()
    Image.fromarray(COLOUR[0]).save(stream, "PNG")
    return Image.open(io.BytesIO(stream.getvalue()[:200]))


BAD: list[tuple[Any, type[Exception], str]] = [
    ("a.png", TypeError, r"X\[1\] is a path or text, but others are images"),
    (truncated(), DataError, r"X\[1\] is no image \("),
    ([["a", "b"]], DataError, r"X\[1\] is no image \(X has dtype <U1"),
    ([[1, 2], [3]], DataError, r"X\[1\] is no image \(.*different lengths"),
    (GREY[0] + 1j, DataError, r"X\[1\] is no image \(Complex"),
    (np.full((9, 9), 1e300), DataError, r"X\[1\] has numbers beyond 3\.4e\+38"),
    (np.zeros(9), DataError, r"X\[1\] has the shape \(9,\)"),
    (np.full((9, 9), -np.inf), DataError, r"X\[1\] has 81 numbers that are not finite, the first infinite"),
]


@pytest.mark.parametrize(("bad", "kind", "message"), BAD)
def test_the_image_of_a_list_that_is_wrong_is_named(
    bad: Any, kind: type[Exception], message: str, grey: Restorer
) -> None:
    for use in (grey.restore, Restorer("gaussian-noise", **FEW).fit):
        with pytest.raises(kind, match=message):
            use([GREY[0], bad])


# -- sizes and damages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (1, 40)])
@pytest.mark.parametrize("scale", [1, 2])
def test_images_smaller_than_a_crop_are_learned_and_restored(size: tuple[int, int], scale: int) -> None:
    small = GREY[:, : size[0], : size[1]]
    large = small.repeat(scale, 1).repeat(scale, 2)
    restorer = Restorer(**FEW).fit(small, target=large)
    assert restorer.restore(small).shape == large.shape
    if scale == 1:
        assert Restorer("noise:0-0.3 + blur:0.5-1", **FEW).fit(small).restore(small).shape == small.shape


def test_noisy_images_alone_need_neighbours() -> None:
    with pytest.raises(DataError, match=r"X\[1\] is 1×9; to learn from noisy images alone, each needs at least 2×2"):
        Restorer("unknown", **FEW).fit([GREY[0], GREY[0, :1, :9]])
    assert Restorer("unknown", **FEW).fit([GREY[0, :2, :3]]).n_images_ == 1


def test_a_range_upside_down_is_refused() -> None:
    with pytest.raises(ValueError, match=r"scale=\(0\.5, 0\.1\)"):
        Restorer(GaussianNoise((0.5, 0.1)), **FEW).fit(GREY)
    with pytest.raises(ValueError, match="max_steps=0"):
        Restorer("gaussian-noise", **FEW | {"max_steps": 0}).fit(GREY)


def test_a_damage_that_does_not_fit_an_image_names_it() -> None:
    restorer = Restorer("grayscale", **FEW).fit(COLOUR)
    with pytest.raises(DataError, match=r"X\[0\]: the damage Grayscale\(\) cannot be applied to it: "):
        restorer.damage_images(GREY)


def test_images_are_compared_with_targets_of_their_channels_and_unit(grey: Restorer) -> None:
    with pytest.raises(DataError, match=r"target\[0\] has 3 channels, but X\[0\] is restored to 1; pass targets"):
        grey.score(GREY, target=COLOUR)
    with pytest.raises(DataError, match=r"target\[0\] has pixels from .* lie between 0 and 1, or are bytes"):
        grey.score(GREY, target=GREY.astype(np.float64))


# -- output ------------------------------------------------------------------------------------------------------------


def one(folder: Path, name: str = "a.png", image: Image.Image | None = None, **settings: Any) -> Path:
    """A folder with one image."""
    folder.mkdir(parents=True)
    (image or Image.fromarray(GREY[0])).save(folder / name, **settings)
    return folder


@pytest.mark.parametrize("out", ["file", "file/below", "link"])
def test_output_needs_a_folder_that_can_be_made(out: str, tmp_path: Path, grey: Restorer) -> None:
    given = one(tmp_path / "in")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(OutputError, match="is a file, but a folder for the restored images is needed"):
        next(restore_folder(grey, given, tmp_path / out))


def test_output_needs_folders_below_and_permission(
    tmp_path: Path, grey: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one(tmp_path / "in" / "sub")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").write_text("")
    with pytest.raises(OutputError, match="sub' is a file, but a folder"):
        next(restore_folder(grey, tmp_path / "in", tmp_path / "out", overwrite=True))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OutputError, match="is not writable; choose another output folder"):
        next(restore_folder(grey, tmp_path / "in", tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_an_image_too_large_for_memory_does_not_stop_the_others(
    tmp_path: Path, grey: Restorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    one(tmp_path / "in")

    def refused(_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(grey, "restore", refused)
    (done,) = restore_folder(grey, tmp_path / "in", tmp_path / "out")
    assert "a.png' does not fit into memory" in done.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("channels", [1, 2, 5])
def test_pixels_that_no_file_holds_are_named(channels: int, tmp_path: Path) -> None:
    target = np.repeat(20.0 * GREY[..., None], channels, axis=-1)
    restorer = Restorer(**FEW).fit(GREY, target=target)
    (done,) = restore_folder(restorer, one(tmp_path / "in"), tmp_path / "out")
    assert "a.png' cannot be written" in done.error
    assert not list((tmp_path / "out").iterdir())


def test_a_profile_stays_where_its_colours_do(tmp_path: Path, colour: Restorer) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    kinds = {"RGB": Image.fromarray(COLOUR[0]), "L": Image.fromarray(GREY[0])}
    for mode, image in kinds.items():
        given = one(tmp_path / mode, image=image, icc_profile=profile)
        (done,) = restore_folder(colour, given, tmp_path / f"{mode}-out")
        assert done.path is not None
        with Image.open(done.path) as restored:
            assert ("icc_profile" in restored.info) == (mode == "RGB")


def test_each_frame_keeps_its_time(tmp_path: Path, colour: Restorer) -> None:
    frames = [Image.fromarray(image) for image in COLOUR]
    given = one(
        tmp_path / "in", "a.webp", frames[0], save_all=True, append_images=frames[1:], duration=[40, 80, 120, 500]
    )
    (done,) = restore_folder(colour, given, tmp_path / "out")
    assert done.path is not None
    with Image.open(done.path) as restored:
        times = []
        for number in range(4):
            restored.seek(number)
            restored.load()
            times.append(restored.info["duration"])
    assert times == [40, 80, 120, 500]


@pytest.mark.parametrize(
    "name", ["[red]X[0].png", "-a.png", "a\nb.png", "a .png", "\u96ea" * 80 + ".png", os.fsdecode(b"\xff.png")]
)
def test_names_of_files_may_be_odd(name: str, tmp_path: Path, grey: Restorer) -> None:
    (tmp_path / "in").mkdir()
    try:
        (tmp_path / "in" / name).write_bytes(b"")
    except (OSError, UnicodeError):
        pytest.skip("the file system has no such names")
    (tmp_path / "in" / name).unlink()
    one(tmp_path / "plain")
    (tmp_path / "plain" / "a.png").rename(tmp_path / "in" / name)
    (done,) = restore_folder(grey, tmp_path / "in", tmp_path / "out")
    assert (done.error, done.path) == ("", tmp_path / "out" / name)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
