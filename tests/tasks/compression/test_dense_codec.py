"""The dense transform of the codec: for many small images that are alike."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import isthmus
from isthmus import ImageCodec, datasets
from isthmus.exceptions import DataError, ModelFileError, StreamError
from isthmus.tasks.compression import container
from isthmus.tasks.compression.dense_coding import EXACT, DenseModel, WholeLayer
from isthmus.tasks.compression.records import measured, peak_signal_to_noise


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    images: np.ndarray = (datasets.load_digits().X.reshape(-1, 8, 8) * 255).astype(np.uint8)
    return images


@pytest.fixture(scope="module")
def codec(digits: np.ndarray) -> ImageCodec:
    return ImageCodec("18 dB", transform="dense", n_steps=200, random_state=0).fit(digits[:1500])


@pytest.fixture(scope="module")
def blob(codec: ImageCodec, digits: np.ndarray) -> bytes:
    return codec.compress(digits[1500:])


def test_fewer_bytes_than_the_wavelet_on_images_that_are_alike(
    codec: ImageCodec, digits: np.ndarray, blob: bytes
) -> None:
    wavelet = ImageCodec("18 dB", n_steps=150, max_images=1500, random_state=0).fit(digits[:1500])
    psnr = np.mean([*map(peak_signal_to_noise, digits[1500:], codec.decompress(blob))])
    other = wavelet.compress(digits[1500:], target=f"{psnr:.3f} dB")
    assert len(blob) < 0.8 * len(other)


def test_the_target_holds_on_images_that_were_not_learned(codec: ImageCodec, digits: np.ndarray, blob: bytes) -> None:
    psnr = np.mean([*map(peak_signal_to_noise, digits[1500:], codec.decompress(blob))])
    assert psnr == pytest.approx(18, abs=0.5)
    assert 18 <= codec.psnr_ < 18.3
    for target in ("15 dB", "18.5 dB"):
        restored = codec.decompress(codec.compress(digits[1500:], target=target))
        psnr = np.mean([*map(peak_signal_to_noise, digits[1500:], restored)])
        assert float(target[:-3]) <= psnr < float(target[:-3]) + 0.5
    bits = 8 * len(codec.compress(digits[1500:], target="0.8 bpp")) / digits[1500:].size
    assert 0.7 < bits < 0.85  # head and index of the stream are a part of it


def test_the_rate_is_what_the_tables_say(codec: ImageCodec, digits: np.ndarray) -> None:
    for code in (codec.code_ - 20, codec.code_, codec.code_ + 20):
        payload = b"".join(entry.payload for entry in container.read(codec.compress(digits, code=code)).entries)
        estimated = measured(codec.model_, [digits[..., None]], code).bpp * digits.size
        assert estimated < 8 * len(payload) <= 1.01 * estimated + 64


def test_decompressed_is_reconstructed_for_every_step_order_and_number(codec: ImageCodec, digits: np.ndarray) -> None:
    for code in (0, 30, 64, 90, 144):
        np.testing.assert_array_equal(
            codec.decompress(codec.compress(digits[:7], code=code)), codec.reconstruct(digits[:7], code=code)
        )
    whole = codec.reconstruct(digits[:300])
    np.testing.assert_array_equal(codec.reconstruct(digits[:1]), whole[:1])
    np.testing.assert_array_equal(codec.reconstruct(digits[:300][::-1])[::-1], whole)
    np.testing.assert_array_equal(codec.decompress(codec.compress(digits[:300]), image=17), whole[17])


SCRIPT = """
import sys, numpy as np, torch, isthmus
torch.set_num_threads(2)
codec = isthmus.load(sys.argv[1])
np.save(sys.argv[3], codec.decompress(open(sys.argv[2], "rb").read()))
"""


def test_equal_after_loading_in_a_fresh_process_with_other_threads(
    codec: ImageCodec, blob: bytes, tmp_path: Path
) -> None:
    codec.save(tmp_path / "codec.safetensors")
    (tmp_path / "images.isth").write_bytes(blob)
    names = [str(tmp_path / name) for name in ("codec.safetensors", "images.isth", "found.npy")]
    own = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", SCRIPT, *names], check=True, env=own)
    np.testing.assert_array_equal(np.load(tmp_path / "found.npy"), codec.decompress(blob))


def test_a_layer_of_whole_numbers_is_exact() -> None:
    draw = np.random.default_rng(0)
    layer = WholeLayer(
        draw.integers(-(2**15), 2**15, (512, 4)).astype(np.int16), draw.integers(-(2**40), 2**40, 4), np.array([7])
    )
    x = draw.integers(0, 2**16, (20, 512))
    columns = [*zip(layer.weight.T, layer.bias, strict=True)]
    exact = [
        [(sum(int(a) * int(w) for a, w in zip(row, column, strict=True)) + int(b)) >> 7 for column, b in columns]
        for row in x
    ]
    np.testing.assert_array_equal(layer.sums(x), exact)
    assert layer.is_exact(2**16)
    assert not replace(layer, bias=np.array([EXACT, 0, 0, 0])).is_exact(2**16)


def test_weights_without_a_target_are_those_of_lambda(digits: np.ndarray) -> None:
    fine, coarse = (
        ImageCodec(None, lambda_=lambda_, transform="dense", n_steps=60, random_state=0).fit(digits[:600])
        for lambda_ in (300.0, 10_000.0)
    )
    assert fine.code_ == coarse.code_ == 64
    assert fine.rate_ > 2 * coarse.rate_
    assert fine.psnr_ > coarse.psnr_


def test_the_same_seed_gives_the_same_model(digits: np.ndarray) -> None:
    one, other = (ImageCodec("9 dB", transform="dense", n_steps=10, random_state=3).fit(digits[:200]) for _ in range(2))
    assert one.model_.fingerprint == other.model_.fingerprint


def test_colour_images_and_few_images() -> None:
    images = np.random.default_rng(0).integers(100, 110, (5, 4, 6, 3)).astype(np.uint8)
    codec = ImageCodec("10 dB", transform="dense", n_steps=20, random_state=0).fit(images)
    restored = codec.decompress(codec.compress(images))
    assert restored.shape == images.shape
    assert codec.n_channels_ == 3
    np.testing.assert_array_equal(restored, codec.reconstruct(images))


def test_images_of_another_size_are_refused(codec: ImageCodec, digits: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"Image 0 has 8 × 9 × 1 values, but the codec was fitted to 8 × 8 × 1 with"):
        codec.compress(np.zeros((2, 8, 9), np.uint8))
    with pytest.raises(DataError, match=r"Image 1 has 8 × 8 × 3 values.* or use transform='wavelet'"):
        codec.compress([digits[0], np.zeros((8, 8, 3), np.uint8)])
    with pytest.raises(DataError, match=r"several sizes, such as \(8, 8, 1\) and \(9, 8, 1\), but transform='dense'"):
        ImageCodec(transform="dense").fit([digits[0], np.zeros((9, 8), np.uint8)])
    with pytest.raises(DataError, match=r"the shape \(300, 300, 1\), 90,000 values, but .* takes at most 65,536"):
        ImageCodec(transform="dense").fit(np.zeros((2, 300, 300), np.uint8))
    with pytest.raises(ValueError, match=r"transform='fft'"):
        ImageCodec(transform="fft").fit(digits)


def test_a_target_that_is_not_learned_names_what_can_be_done(digits: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"60 dB cannot be reached: .* at most .* dB\. .*pass more images or n_steps"):
        ImageCodec("60 dB", transform="dense", n_steps=5, random_state=0).fit(digits[:100])


def test_damaged_and_forged_streams_are_refused(codec: ImageCodec, blob: bytes) -> None:
    for place in range(0, len(blob), len(blob) // 50):
        damaged = bytearray(blob)
        damaged[place] ^= 4
        for bad in (bytes(damaged), blob[:place]):
            with pytest.raises(StreamError):
                codec.decompress(bad)
    stream = container.read(blob)
    unfit: list[dict[str, Any]] = [{"height": 4}, {"n_channels": 3}, {"code": 145}]
    for change in unfit:
        forged = container.write(replace(stream, entries=[replace(stream.entries[0], **change)]))
        with pytest.raises(StreamError, match="does not fit the codec"):
            codec.decompress(forged)
    other: list[dict[str, Any]] = [{"code": 3}, {"payload": b"\0" * 8}, {"payload": b"abc"}, {"n_images": 9999}]
    for change in other:
        forged = container.write(replace(stream, entries=[replace(stream.entries[0], **change)]))
        with pytest.raises(StreamError, match=r"other pixels than were compressed|cannot be decoded"):
            codec.decompress(forged)


def test_a_model_file_out_of_range_is_refused(codec: ImageCodec, tmp_path: Path) -> None:
    path = codec.save(tmp_path / "codec.safetensors")
    state = isthmus.files.model_file.read_state(path)
    for name, value, text in (
        ("decoder.0.bias", EXACT - 1, "'decoder.0.bias' are out of range"),
        ("decoder.1.shift", 60, "'decoder.1.shift' are out of range"),
        ("tables.frequencies", 0, "'tables.frequencies' are out of range"),
        ("shape", 9, "'shape' are out of range"),
        ("scales", 40, "'scales' are out of range"),
        ("spreads", 1000, "'spreads' are out of range"),
    ):
        changed = np.array(state.arrays[name])
        changed.flat[0] = value
        isthmus.files.model_file.write_state(path, replace(state, arrays={**state.arrays, name: changed}))
        with pytest.raises(ModelFileError, match=text):
            isthmus.load(path)
    isthmus.files.model_file.write_state(path, replace(state, values={**state.values, "transform": "fft"}))
    with pytest.raises(ModelFileError, match="transform='fft' must be one of wavelet, dense"):
        isthmus.load(path)


def test_restored_levels_are_those_of_the_file(codec: ImageCodec) -> None:
    """The table of levels decides pixels, not the exponential function of the machine that decodes."""
    model = codec.model_
    assert isinstance(model, DenseModel)
    brighter = replace(model, levels=np.minimum(model.levels.astype(int) + 1, 255).astype(np.uint8))
    latent = np.zeros((1, len(model.spreads)), np.int64)
    raised = brighter.decoded(latent).astype(int) - model.decoded(latent)
    assert set(np.unique(raised)) <= {0, 1}
    assert brighter.fingerprint != model.fingerprint


def test_a_parameter_that_changed_after_fit_changes_no_file(
    codec: ImageCodec, digits: np.ndarray, blob: bytes, tmp_path: Path
) -> None:
    try:
        codec.set_params(transform="wavelet").save(tmp_path / "after.safetensors")
    finally:
        codec.set_params(transform="dense")
    loaded = isthmus.load(tmp_path / "after.safetensors")
    np.testing.assert_array_equal(loaded.decompress(blob), codec.decompress(blob))
