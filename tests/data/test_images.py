"""Folders of images: pixels, order, labels and refusals, each against values written by hand."""

from __future__ import annotations

import os
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import PIL
import pytest
from PIL import Image

import isthmus
from isthmus import Autoencoder, ConversionWarning, DataError, ImageFolder

RAMP = np.arange(48, dtype=np.uint16).reshape(6, 8) * 1365  # 0 … 64,155


def save_image(path: Path, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    path.parent.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def only(path: Path, **options: Any) -> np.ndarray:
    """The single image of a folder, read without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return np.asarray(whole(ImageFolder(path, **options))[0])


def whole(folder: ImageFolder) -> np.ndarray:
    return folder.read(slice(0, folder.n_rows))


def save_deep_png(path: Path, pixels: np.ndarray, colour_type: int, more: bytes = b"") -> None:
    """A PNG of 16 bits a channel, which Pillow writes for greys only."""
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in pixels)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 16, colour_type, 0, 0, 0)
    body = chunk(b"IHDR", head) + more + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def test_images_of_a_folder_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    pixels = [save_image(tmp_path / f"{name}.png", (5, 7), seed) for seed, name in enumerate("cab")]
    source = ImageFolder(tmp_path)
    assert (source.n_rows, source.feature_shape, source.dtype.name) == (3, (5, 7), "uint8")
    np.testing.assert_array_equal(source.read(slice(0, 3)), [pixels[1], pixels[2], pixels[0]])


def test_images_are_resized_where_a_size_is_given(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", (5, 7))
    save_image(tmp_path / "b.png", (9, 9))
    assert ImageFolder(tmp_path, size=(4, 6)).read(slice(0, 2)).shape == (2, 4, 6)


def test_ragged_and_unreadable_images_are_named_and_can_be_skipped(tmp_path: Path) -> None:
    for name in "abc":
        save_image(tmp_path / f"{name}.png", (5, 7))
    save_image(tmp_path / "odd.png", (6, 7))
    (tmp_path / "torn.png").write_bytes((tmp_path / "a.png").read_bytes()[:60])
    text = r"2 of 5 images .* odd\.png \(6×7\), torn\.png \(unreadable\); most are 5×7.*--skip-bad"
    with pytest.raises(DataError, match=text):
        ImageFolder(tmp_path)
    assert ImageFolder(tmp_path, skip_bad=True).n_rows == 3


def test_a_folder_without_images_and_no_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no images"):
        ImageFolder(tmp_path)
    with pytest.raises(DataError, match="There is no folder"):
        ImageFolder(tmp_path / "none")
    with pytest.raises(ValueError, match=r"mode='CMYK' must be 'L' \(grey\), 'RGB', 'RGBA' or None"):
        ImageFolder(tmp_path, mode="CMYK")


def test_an_image_that_breaks_after_the_survey_is_named(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", (5, 7))
    source = ImageFolder(tmp_path)
    (tmp_path / "a.png").write_bytes(b"gone")
    with pytest.raises(DataError, match=r"a\.png' cannot be decoded"):
        source.read(slice(0, 1))


# -- depth -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.pgm"])
def test_sixteen_bits_keep_every_value(tmp_path: Path, name: str) -> None:
    if name == "a.pgm":
        (tmp_path / name).write_bytes(b"P5\n8 6\n65535\n" + RAMP.astype(">u2").tobytes())
    else:
        Image.fromarray(RAMP).save(tmp_path / name)
    read = only(tmp_path)
    assert read.dtype == np.uint16
    np.testing.assert_array_equal(read, RAMP)


def test_floats_and_wide_integers_keep_every_value(tmp_path: Path) -> None:
    floats, integers = RAMP.astype(np.float32) / 7 - 100, RAMP.astype(np.int32) * 1000 - 5
    for name, pixels in (("floats", floats), ("integers", integers)):
        (tmp_path / name).mkdir()
        Image.fromarray(pixels).save(tmp_path / name / "a.tiff")
        read = only(tmp_path / name)
        assert read.dtype == pixels.dtype
        np.testing.assert_array_equal(read, pixels)


def test_eight_bits_among_sixteen_keep_black_and_white(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    Image.fromarray(np.array([[0, 255] * 4] * 6, dtype=np.uint8)).save(tmp_path / "b.png")
    with pytest.warns(ConversionWarning, match="1 with 8 bits multiplied by 257"):
        folder = ImageFolder(tmp_path)
    np.testing.assert_array_equal(whole(folder), np.stack([RAMP, np.array([[0, 65535] * 4] * 6)]))


def test_kinds_without_a_common_scale_are_refused(tmp_path: Path) -> None:
    Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "a.tif")
    save_image(tmp_path / "b.png", (6, 8))
    with pytest.raises(DataError, match=r"float32 \(such as a\.tif\), uint8 \(such as b\.png\).*no common scale"):
        ImageFolder(tmp_path)


def test_coloured_images_of_sixteen_bits_are_scaled_and_reported(tmp_path: Path) -> None:
    save_deep_png(tmp_path / "a.png", np.stack([RAMP, RAMP // 2, RAMP * 0], axis=-1), 2)
    with pytest.warns(ConversionWarning, match="1 with 16 bits a colour channel read with 8"):
        read = whole(ImageFolder(tmp_path))[0]
    np.testing.assert_array_equal(read, np.stack([RAMP >> 8, (RAMP // 2) >> 8, RAMP * 0], axis=-1))


def test_resizing_keeps_depth_and_mean(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    read = only(tmp_path, size=(3, 4))
    assert (read.dtype.name, read.shape) == ("uint16", (3, 4))
    assert abs(float(read.mean()) - float(RAMP.mean())) < 1
    assert read.max() > 50_000


def test_cropping_keeps_proportions(tmp_path: Path) -> None:
    pixels = np.zeros((4, 12), np.uint8)
    pixels[:, 4:8] = 200
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(only(tmp_path, size=(4, 4), crop=True), np.full((4, 4), 200))
    assert only(tmp_path, size=(4, 4)).min() == 0


# -- colours -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_rotation_of_the_camera_is_applied(tmp_path: Path, name: str) -> None:
    pixels = np.zeros((16, 32), np.uint8)
    pixels[:, 16:] = 255  # bright on the right
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise by 90 degrees
    Image.fromarray(pixels).save(tmp_path / name, exif=exif)
    with pytest.warns(ConversionWarning, match="1 rotated according to their EXIF data"):
        folder = ImageFolder(tmp_path)
    assert folder.feature_shape == (32, 16)
    read = whole(folder)[0].astype(int)
    assert read[:12].max() < 10
    assert read[20:].min() > 245  # bright below


def test_transparent_pixels_lie_on_white_or_stay(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[..., 0], pixels[0, 0, 3], pixels[1, 1, 3] = 255, 255, 51
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with pytest.warns(ConversionWarning, match=r"1 with transparency composited over white \(mode='RGBA' keeps it"):
        read = whole(ImageFolder(tmp_path))[0]
    assert read.tolist() == [[[255, 0, 0], [255, 255, 255]], [[255, 255, 255], [255, 204, 204]]]
    np.testing.assert_array_equal(only(tmp_path, mode="RGBA"), pixels)


def test_grey_with_transparency_stays_one_channel(tmp_path: Path) -> None:
    Image.fromarray(np.array([[[100, 255], [100, 0]]], np.uint8)).save(tmp_path / "a.png")
    with pytest.warns(ConversionWarning, match="composited"):
        assert whole(ImageFolder(tmp_path)).tolist() == [[[100, 255]]]
    np.testing.assert_array_equal(only(tmp_path, mode="RGBA"), [[[100, 100, 100, 255], [100, 100, 100, 0]]])


def test_one_transparent_grey_of_sixteen_bits_is_white(tmp_path: Path) -> None:
    clear = struct.pack(">I", 2) + b"tRNS" + struct.pack(">H", 1365)
    save_deep_png(tmp_path / "a.png", RAMP, 0, clear + struct.pack(">I", zlib.crc32(clear[4:])))
    with pytest.warns(ConversionWarning, match="composited"):
        np.testing.assert_array_equal(whole(ImageFolder(tmp_path))[0], np.where(RAMP == 1365, 65535, RAMP))


def test_opaque_alpha_is_dropped_without_a_word(tmp_path: Path) -> None:
    pixels = save_image(tmp_path / "a.png", (3, 4, 4))
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(only(tmp_path), pixels[..., :3])


def test_a_palette_of_greys_is_one_channel_and_one_of_colours_three(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode="L")
    image.putpalette([9, 9, 9, 200, 200, 200, 50, 50, 50, 255, 0, 0])  # the red one is not used
    image.save(tmp_path / "a.png")
    with pytest.warns(ConversionWarning, match="1 with a palette of greys read as one channel"):
        assert whole(ImageFolder(tmp_path)).tolist() == [[[9, 200, 50]]]
    image.putpalette([9, 9, 9, 200, 0, 0, 50, 50, 50])
    image.save(tmp_path / "a.png")
    assert only(tmp_path).tolist() == [[[9, 9, 9], [200, 0, 0], [50, 50, 50]]]


def test_one_bit_and_cmyk(tmp_path: Path) -> None:
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "a.png")
    assert only(tmp_path).tolist() == [[255, 0]]
    (tmp_path / "a.png").unlink()
    Image.new("CMYK", (2, 1), (0, 255, 255, 0)).save(tmp_path / "a.tif")
    with pytest.warns(ConversionWarning, match="1 converted from CMYK to RGB"):
        assert whole(ImageFolder(tmp_path)).tolist() == [[[[255, 0, 0], [255, 0, 0]]]]


def test_grey_among_coloured_ones_is_reported(tmp_path: Path) -> None:
    grey = save_image(tmp_path / "a.png", (5, 7))
    save_image(tmp_path / "b.png", (5, 7, 3))
    with pytest.warns(ConversionWarning, match="1 grey ones repeated in three channels"):
        folder = ImageFolder(tmp_path)
    np.testing.assert_array_equal(whole(folder)[0], np.stack([grey] * 3, axis=-1))
    with pytest.warns(ConversionWarning, match="1 coloured ones made grey"):
        assert ImageFolder(tmp_path, mode="L").feature_shape == (5, 7)


# -- pages -------------------------------------------------------------------------------------------------------------


def test_every_page_and_frame_is_a_row(tmp_path: Path) -> None:
    stack = [np.full((4, 5), value, np.uint16) for value in (1, 20_000, 65_535)]
    first, *rest = map(Image.fromarray, stack)
    first.save(tmp_path / "a.tif", save_all=True, append_images=rest)
    with pytest.warns(ConversionWarning, match="3 rows are pages or frames of files with several"):
        folder = ImageFolder(tmp_path)
    np.testing.assert_array_equal(whole(folder), stack)
    np.testing.assert_array_equal(folder.read(np.array([2, 0])), [stack[2], stack[0]])
    assert [file.name for file in folder.files] == ["a.tif"] * 3
    np.testing.assert_array_equal(only(tmp_path, pages="first"), stack[0])


def test_frames_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in ((255, 0, 0), (0, 255, 0), (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    with pytest.warns(ConversionWarning, match="3 rows are pages"):
        read = whole(ImageFolder(tmp_path))
    np.testing.assert_array_equal(read[:, 0, 0], np.eye(3) * 255)


@pytest.mark.skipif(
    tuple(map(int, PIL.__version__.split(".")[:2])) < (11, 2), reason="older Pillow writes no settings for each page"
)
def test_thumbnails_inside_a_tiff_are_no_rows(tmp_path: Path) -> None:
    small = Image.fromarray(RAMP[:3, :4].copy())
    small.encoderinfo = {"tiffinfo": {254: 1}}
    Image.fromarray(RAMP).save(tmp_path / "a.tif", save_all=True, append_images=[small])
    np.testing.assert_array_equal(only(tmp_path), RAMP)


# -- folders -----------------------------------------------------------------------------------------------------------


def test_natural_order_and_hidden_files(tmp_path: Path) -> None:
    for name in ("img10", "img2", "Img1", "img02", "b"):
        save_image(tmp_path / f"{name}.png", (2, 2))
    for name in ("._1.png", ".hidden.png"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07")
    (tmp_path / "__MACOSX").mkdir()
    save_image(tmp_path / "__MACOSX" / "x.png", (2, 2))
    names = [file.stem for file in ImageFolder(tmp_path).files]
    assert names == ["b", "Img1", "img02", "img2", "img10"]


def test_sub_folders_are_labels(tmp_path: Path) -> None:
    for name in ("cat/2.png", "cat/10.png", "dog/1.png"):
        save_image(tmp_path / name, (4, 4), seed=len(name))
    data = isthmus.read(tmp_path)
    assert data.y is not None
    assert data.y.tolist() == ["cat", "cat", "dog"]
    assert [file.name for file in data.X.files] == ["2.png", "10.png", "1.png"]
    model = Autoencoder(2, conditional=True, max_epochs=1, random_state=0).fit(data.X, data.y)
    assert model.classes_.tolist() == ["cat", "dog"]
    assert ImageFolder(tmp_path, subfolders="all").labels is None


def test_images_beside_sub_folders_of_images_have_to_be_decided_on(tmp_path: Path) -> None:
    for name in ("a.png", "cat/b.png"):
        save_image(tmp_path / name, (4, 4))
    with pytest.raises(
        DataError, match=r"contains 1 images itself and 1 in sub-folders.*subfolders='labels', 'all' or"
    ):
        ImageFolder(tmp_path)
    counts = {kind: ImageFolder(tmp_path, subfolders=kind).n_rows for kind in ("labels", "all", "ignore")}
    assert counts == {"labels": 1, "all": 2, "ignore": 1}


def test_a_link_that_leads_back_up_ends(tmp_path: Path) -> None:
    save_image(tmp_path / "cat" / "a.png", (4, 4))
    (tmp_path / "cat" / "again").symlink_to(tmp_path)
    assert ImageFolder(tmp_path).n_rows == 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes here")
def test_what_is_no_regular_file_is_refused_without_being_opened(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", (4, 4))
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(DataError, match=r"folder\.png \(not a regular file\), pipe\.png \(not a regular file\)"):
        ImageFolder(tmp_path)
    assert ImageFolder(tmp_path, skip_bad=True).n_rows == 1


def test_text_and_torn_files_are_named(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", (64, 64))
    torn = (tmp_path / "a.png").read_bytes()
    (tmp_path / "torn.png").write_bytes(torn[: len(torn) // 2])
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(DataError, match=r"2 of 3 images .* text\.png \(unreadable\), torn\.png \(unreadable\)"):
        ImageFolder(tmp_path)


def test_images_of_formats_that_are_not_read_are_reported(tmp_path: Path) -> None:
    save_image(tmp_path / "a.png", (4, 4))
    (tmp_path / "b.HEIC").write_bytes(b"")
    with pytest.warns(ConversionWarning, match=r"1 images of formats that cannot be read left out \(b\.HEIC\)"):
        assert ImageFolder(tmp_path).n_rows == 1


def test_the_warning_counts_everything_once(tmp_path: Path) -> None:
    for seed in range(3):
        save_image(tmp_path / f"{seed}.png", (4, 4, 4), seed)
    with pytest.warns(ConversionWarning) as caught:
        folder = ImageFolder(tmp_path)
    assert len(caught) == len(folder.conversions) == 1
    assert folder.conversions[0].startswith("3 with transparency composited")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"pages": "two"}, "pages='two' must be 'all' or 'first'"),
        ({"subfolders": "deep"}, "subfolders='deep' must be"),
        ({"size": (4,)}, r"size=\(4,\) must be \(height, width\)"),
        ({"crop": True}, "crop=True needs size"),
    ],
)
def test_wrong_parameters_are_named(tmp_path: Path, options: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ImageFolder(tmp_path, **options)
