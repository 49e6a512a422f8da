"""The image codec: exact, at its targets, and never wrong in silence."""

from __future__ import annotations

import itertools
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from sklearn.exceptions import NotFittedError

import isthmus
from isthmus import ImageCodec
from isthmus.exceptions import ConversionWarning, DataError, ModelFileError, StreamError
from isthmus.tasks.compression import container
from isthmus.tasks.compression.records import measured, peak_signal_to_noise
from isthmus.tasks.compression.targets import Outcome, Target, code_for_target

DRAW = np.random.default_rng(0)


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    pixels: np.ndarray = load_sample_image("china.jpg")
    return pixels


@pytest.fixture(scope="module")
def codec(photo: np.ndarray) -> ImageCodec:
    crops = [photo[i : i + 96, j : j + 128] for i, j in ((40, 60), (240, 400))]
    return ImageCodec("30 dB", n_steps=60, random_state=0).fit(crops)


@pytest.fixture(scope="module")
def blob(codec: ImageCodec, photo: np.ndarray) -> bytes:
    return codec.compress([photo[:40, :50], photo[100:133, :17], photo[200:220, 100:130, :1]], names=["a", "b", "c"])


def test_fewer_bytes_than_jpeg_at_the_same_quality(codec: ImageCodec, photo: np.ndarray, tmp_path: Path) -> None:
    whole = photo[:256, :256]
    blob = codec.compress([whole])
    ours = peak_signal_to_noise(whole, codec.decompress(blob)[0])
    sizes = []
    for quality in range(5, 95, 3):
        Image.fromarray(whole).save(tmp_path / "x.jpg", quality=quality, optimize=True, progressive=True)
        if peak_signal_to_noise(whole, np.asarray(Image.open(tmp_path / "x.jpg"))) >= ours:
            sizes.append((tmp_path / "x.jpg").stat().st_size)
    assert len(blob) < 0.8 * min(sizes)


@pytest.mark.parametrize("height", [1, 2, 5, 33, 70])
@pytest.mark.parametrize("width", [1, 3, 8, 31, 69])
def test_every_size_is_restored_exactly_as_quantised(codec: ImageCodec, height: int, width: int) -> None:
    for n_channels in (1, 3):
        image = DRAW.integers(0, 256, (height, width, n_channels), np.uint8)
        blob = codec.compress([image], code=40)
        (restored,) = codec.decompress(blob)
        assert restored.shape == image.shape
        batch = measured(codec.model_, [image[None]], 40)  # what the encoder saw
        assert peak_signal_to_noise(image, restored) == pytest.approx(batch.psnr, abs=1e-9)
        assert batch.psnr > 38  # a step of 2.8 grey levels
        assert 8 * len(stream_payload(blob)) <= 1.01 * batch.bpp * height * width + 64


def stream_payload(blob: bytes) -> bytes:
    return b"".join(entry.payload for entry in container.read(blob).entries)


def test_one_model_gives_every_rate(codec: ImageCodec, photo: np.ndarray) -> None:
    image = photo[:128, :128]
    outcomes = [measured(codec.model_, [image[None]], code) for code in range(20, 140, 20)]
    assert all(one.bpp > other.bpp and one.psnr > other.psnr for one, other in itertools.pairwise(outcomes))


def test_targets_are_met(codec: ImageCodec, photo: np.ndarray) -> None:
    image = photo[150:250, 200:300]
    for target in ("0.5 bpp", "2 bpp"):
        blob = codec.compress([image], target=target)
        assert 0.85 * float(target[:-4]) < 8 * len(stream_payload(blob)) / 10_000 <= float(target[:-4]) * 1.005
    for wanted in (27.0, 35.0):
        restored = codec.decompress(codec.compress([image], target=f"{wanted} dB"))[0]
        assert wanted <= peak_signal_to_noise(image, restored) < wanted + 0.5
    assert codec.psnr_ >= 30.0
    with pytest.raises(DataError, match=r"0\.001 bpp cannot be reached: these images need at least 0\.\d+ bpp"):
        codec.compress([image], target="0.001 bpp")
    with pytest.raises(DataError, match=r"90 dB cannot be reached: these images need at most \d+\.?\d* dB"):
        codec.compress([image], target="90 dB")


@pytest.mark.parametrize("start", [0, 96, 144])
@pytest.mark.parametrize(("text", "right"), [("0.4 bpp", 83), ("8 bpp", 0), ("30 dB", 74), ("1 dB", 144)])
def test_the_search_finds_the_best_step(text: str, right: int, start: int) -> None:
    asked = []

    def measure(code: int) -> Outcome:
        asked.append(code)
        return Outcome(8 * 2 ** (-code / 19), 50 - code * 0.27)

    assert code_for_target(Target.parse(text), measure, start) == right
    assert len(asked) <= 8


def test_a_lambda_is_the_slope_of_the_curve(codec: ImageCodec, photo: np.ndarray) -> None:
    image = photo[240:336, 400:528]
    model = ImageCodec(None, lambda_=150.0, n_steps=1, random_state=0).fit([image])
    code = model.code_
    fine, coarse = (measured(codec.model_, [image[None]], code + more) for more in (-8, 8))
    errors = [3 * 255**2 / 10 ** (one.psnr / 10) for one in (fine, coarse)]  # a pixel, all channels
    assert (errors[1] - errors[0]) / (fine.bpp - coarse.bpp) == pytest.approx(150.0, rel=0.6)


def test_small_images_share_a_record_and_one_can_be_taken_out(codec: ImageCodec, photo: np.ndarray) -> None:
    images = np.stack([photo[i : i + 28, j : j + 28, 0] for i in range(0, 390, 56) for j in range(0, 600, 56)])
    blob = codec.compress(images)
    restored = codec.decompress(blob)
    assert restored.shape == images.shape
    assert restored.dtype == np.uint8
    assert len(container.read(blob).entries) == 1
    np.testing.assert_array_equal(codec.decompress(blob, image=17), restored[17])
    alone = sum(len(codec.compress(images[place : place + 1])) for place in range(20)) / 20
    together = len(codec.compress(images[:20])) / 20
    assert together < alone - 30  # of the 42 bytes that head and index of a stream take


def test_names_forms_and_order_are_kept(codec: ImageCodec, photo: np.ndarray, blob: bytes) -> None:
    assert list(codec.read(blob).names) == ["a", "b", "c"]
    assert [image.shape for image in codec.decompress(blob)] == [(40, 50, 3), (33, 17, 3), (20, 30, 1)]
    stacked = codec.decompress(codec.compress(photo[None, :20, :20]))
    assert isinstance(stacked, np.ndarray)
    assert stacked.shape == (1, 20, 20, 3)
    (grey,) = codec.decompress(codec.compress([photo[:20, :20, 0]]))
    assert grey.shape == (20, 20)
    with pytest.raises(ValueError, match="names has 1 entries, but there are 2 images"):
        codec.compress([photo[:9, :9], photo[:9, :9]], names=["a"])
    with pytest.raises(IndexError, match="There is no image 3: the stream holds 3"):
        codec.decompress(blob, image=3)


def test_flat_and_extreme_images(codec: ImageCodec) -> None:
    for value in (0, 255):
        image = np.full((64, 48, 3), value, np.uint8)
        blob = codec.compress([image], code=60)
        assert np.abs(codec.decompress(blob)[0].astype(int) - value).max() <= 2
        assert len(blob) < 200
    edges = np.indices((64, 48)).sum(0).astype(np.uint8) % 2 * np.uint8(255)
    assert peak_signal_to_noise(edges, codec.decompress(codec.compress([edges], code=60))[0]) > 30


SCRIPT = """
import sys, numpy as np, torch, isthmus
torch.set_num_threads(int(sys.argv[3]))
codec = isthmus.load(sys.argv[1])
blob = open(sys.argv[2], "rb").read()
images = codec.decompress(blob)
np.savez(sys.argv[4], *images)
assert codec.compress(images, names=["a", "b", "c"]) == codec.compress(images, names=["a", "b", "c"])
"""


def test_equal_after_loading_in_a_fresh_process_with_other_threads(
    codec: ImageCodec, blob: bytes, tmp_path: Path
) -> None:
    wanted = codec.decompress(blob)
    codec.save(tmp_path / "codec.safetensors")
    (tmp_path / "images.isth").write_bytes(blob)
    paths = str(tmp_path / "codec.safetensors"), str(tmp_path / "images.isth")
    subprocess.run(
        [sys.executable, "-c", SCRIPT, *paths, "2", str(tmp_path / "2.npz")],
        check=True,
        env={"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PYTHONPATH": ":".join(sys.path)},
    )
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    loaded = isthmus.load(tmp_path / "codec.safetensors").decompress(blob)
    torch.set_num_threads(before)
    with np.load(tmp_path / "2.npz") as fresh:
        for place, image in enumerate(wanted):
            np.testing.assert_array_equal(loaded[place], image)
            np.testing.assert_array_equal(fresh[f"arr_{place}"], image)


def test_damaged_cut_extended_and_foreign_streams_are_refused(codec: ImageCodec, blob: bytes) -> None:
    wanted = codec.decompress(blob)
    for place in range(0, len(blob), max(1, len(blob) // 60)):
        damaged = bytearray(blob)
        damaged[place] ^= 1 << int(DRAW.integers(8))
        for bad in (bytes(damaged), blob[:place]):
            with pytest.raises(StreamError):
                codec.decompress(bad)
    with pytest.raises(StreamError, match="followed by other data"):
        codec.decompress(blob + b"\0")
    with pytest.raises(StreamError, match="not a compressed stream"):
        codec.decompress(b"\x89PNG\r\n\x1a\n" + blob)
    for restored, image in zip(codec.decompress(blob), wanted, strict=True):
        np.testing.assert_array_equal(restored, image)


def forged(blob: bytes, **changes: Any) -> bytes:
    """A stream whose first record says something else, with right checksums."""
    stream = container.read(blob)
    return container.write(replace(stream, entries=[replace(stream.entries[0], **changes)], names=[]))


def test_forged_streams_are_refused_before_memory_is_taken(codec: ImageCodec, blob: bytes) -> None:
    with pytest.raises(StreamError, match=r"more than the limit of 268,435,456; pass max_pixels="):
        codec.decompress(forged(blob, height=1 << 40, width=1 << 20))
    with pytest.raises(StreamError, match="does not fit the codec"):
        codec.decompress(forged(blob, code=4000))
    with pytest.raises(StreamError, match="does not fit the codec"):
        codec.decompress(forged(blob, n_channels=2))
    with pytest.raises(StreamError, match="a record is empty"):
        codec.decompress(forged(blob, width=0))
    for change in ({"height": 41}, {"code": 3}, {"payload": b"\0" * 8}, {"payload": b""}, {"payload": b"abc"}):
        with pytest.raises(StreamError, match=r"other pixels than were compressed|cannot be decoded"):
            codec.decompress(forged(blob, **change))  # type: ignore[arg-type]
    with pytest.raises(StreamError, match="version 9"):
        codec.decompress(blob[:4] + b"\x09" + blob[5:])


def test_a_stream_of_another_model_is_refused(codec: ImageCodec, photo: np.ndarray, blob: bytes) -> None:
    other = ImageCodec("30 dB", n_steps=2, random_state=1).fit([photo[:64, :64]])
    with pytest.raises(StreamError, match="of another model"):
        other.decompress(blob)


BAD: list[tuple[Any, str]] = [
    (np.zeros((3, 8, 8)), r"X\[0\] is of the dtype float64, but the codec takes bytes; convert it"),
    (np.zeros((3, 8, 8), np.uint16), r"dtype uint16"),
    (np.zeros((0, 8, 8), np.uint8), "there are no images"),
    ([], "empty list"),
    ([np.zeros((8, 8, 2), np.uint8)], r"needs \(h, w\), \(h, w, 1\) or \(h, w, 3\)"),
    ([np.zeros((8, 8, 4), np.uint8)], r"needs \(h, w\)"),
    ([np.zeros((0, 8), np.uint8)], r"needs \(h, w\)"),
    (np.zeros((8, 8), np.uint8), r"Pass a single image as a list"),
    (np.zeros((8, 8, 3), np.uint8), r"Pass a single image as a list"),
]


@pytest.mark.parametrize(("X", "text"), BAD)
def test_what_is_not_an_image_of_bytes_is_refused(codec: ImageCodec, X: Any, text: str) -> None:
    for verb in (codec.compress, ImageCodec(n_steps=1).fit):
        with pytest.raises(DataError, match=text):
            verb(X)


def test_other_mistakes_are_named(codec: ImageCodec, photo: np.ndarray) -> None:
    with pytest.raises(TypeError, match="X is a int; pass an array"):
        codec.compress(7)
    with pytest.raises(ValueError, match=r"target='0.4' must be a rate, '0.4 bpp', or a quality, '32 dB'"):
        ImageCodec("0.4").fit([photo])
    with pytest.raises(ValueError, match="exactly one of them must be given"):
        ImageCodec(lambda_=3.0).fit([photo])
    with pytest.raises(ValueError, match="code=200 must be a whole number from 0 to 144"):
        codec.compress([photo], code=200)
    with pytest.raises(NotFittedError):
        ImageCodec().compress([photo])
    grey = ImageCodec("30 dB", n_steps=1, random_state=0).fit([photo[:40, :40, 0]])
    with pytest.raises(DataError, match="Image 0 has 3 channels, but the codec was fitted to grey images"):
        grey.compress([photo[:40, :40]])


def test_a_folder_is_read_as_viewers_show_it(codec: ImageCodec, photo: np.ndarray, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    small = photo[:20, :30]
    Image.fromarray(small).save(tmp_path / "sub" / "a.png")
    Image.fromarray(small).convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(small[..., 0]).save(tmp_path / "grey.png")
    Image.fromarray(small[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
    Image.fromarray(small).convert("CMYK").save(tmp_path / "print.tif")
    Image.fromarray(small).quantize(8).save(tmp_path / "palette.gif")
    with pytest.warns(ConversionWarning, match="1 with 16 bits reduced to 8"):
        blob = codec.compress(tmp_path)
    names = list(codec.read(blob).names)
    assert names == ["alpha.png", "deep.png", "grey.png", "palette.gif", "print.tif", "sub/a.png"]
    images = dict(zip(names, codec.decompress(blob), strict=True))
    assert images["deep.png"].shape == images["grey.png"].shape == (20, 30, 1)
    np.testing.assert_array_equal(images["deep.png"], images["grey.png"])
    np.testing.assert_array_equal(images["alpha.png"], images["sub/a.png"])
    (tmp_path / "broken.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"broken.png' cannot be read.*Skip them with skip_bad=True"):
        codec.compress(tmp_path)
    with pytest.warns(ConversionWarning, match="1 left out"):
        assert len(codec.read(codec.compress(tmp_path, skip_bad=True)).names) == 6
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty"):
        codec.compress(tmp_path / "empty")


def test_a_model_file_with_weights_that_are_not_exact_is_refused(codec: ImageCodec, tmp_path: Path) -> None:
    path = codec.save(tmp_path / "codec.safetensors")
    state = isthmus.files.model_file.read_state(path)
    for name, value, text in (
        ("network.inner", 1 << 20, "too large for exact arithmetic"),
        ("tables.frequencies", 0, "'tables.frequencies' are out of range"),
        ("colour", 1 << 20, "'colour' are out of range"),
    ):
        changed = np.array(state.arrays[name])
        changed.flat[0] = value
        isthmus.files.model_file.write_state(path, replace(state, arrays={**state.arrays, name: changed}))
        with pytest.raises(ModelFileError, match=text):
            isthmus.load(path)


def test_the_checksum_of_pixels_is_of_the_pixels(codec: ImageCodec, blob: bytes) -> None:
    stream = container.read(blob)
    for entry, image in zip(stream.entries, codec.decompress(blob), strict=True):
        assert entry.data_check == zlib.crc32(image.tobytes())


def test_without_the_extra_the_remedy_is_named(photo: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ImportError, match=r"pip install 'isthmus\[compress\]'"):
        ImageCodec().fit([photo[:8, :8]])


@pytest.mark.parametrize("n", [1, 20])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (2, 2), (4, 4), (4, 4, 3)])
def test_images_of_a_few_pixels_are_compressed_exactly_as_reconstructed(n: int, shape: tuple[int, ...]) -> None:
    X = np.random.default_rng(n).integers(0, 256, (n, *shape), dtype=np.uint8)
    codec = ImageCodec("20 dB", n_steps=3, random_state=0).fit(X)
    restored = codec.decompress(codec.compress(X))
    assert restored.shape == X.shape
    np.testing.assert_array_equal(restored, codec.reconstruct(X))
    assert codec.psnr_ >= 20.0
