"""The 10,000 test images of MNIST as one file, beside one mosaic in other formats."""

from __future__ import annotations

import bisect
import io
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features
from sklearn.decomposition import PCA

from benchmarks.sheet import Sheet
from isthmus import ImageCodec, datasets, load
from isthmus.tasks.compression.curves import FORMATS
from isthmus.tasks.compression.records import peak_signal_to_noise

CODE_SIZE = 32
Settings = Callable[[int], Mapping[str, Any]]


def run(sheet: Sheet, folder: Path, docs: Path | None) -> None:  # noqa: ARG001  # as all parts
    """Bytes at the PSNR, over all pixels, of a code of 32 principal components."""
    data = datasets.load_mnist()
    assert data.X_test is not None
    images, test = data.X, data.X_test
    wanted = _pca_psnr(images, test)
    sheet.add("digits", f"PSNR of {CODE_SIZE} principal components, dB", wanted)
    best = min(_mosaic_sizes(sheet, test, wanted))
    made = {
        "wavelet": ImageCodec(f"{wanted:.2f} dB", max_images=3000, random_state=0),
        "dense": ImageCodec(f"{wanted:.2f} dB", transform="dense", random_state=0),
    }
    for name, codec in made.items():
        path = folder / f"digits-{name}.safetensors"
        if not path.exists():
            began = time.process_time()
            codec.fit(images).save(path)
            sheet.add("digits", f"{name}: CPU seconds of fit", time.process_time() - began)
        size = _bytes_at(load(path), test, wanted)
        target = ("≤ 0.333", 3 * size <= best) if name == "dense" else ("", None)
        sheet.add("digits", f"{name}: bytes of 10,000 images", size)
        sheet.add("digits", f"{name}: share of the best other format", size / best, *target)
        sheet.add("digits", f"{name}: bytes of the model", path.stat().st_size)
        if size < best:
            pays = path.stat().st_size / (best - size) * len(test)
            sheet.add("digits", f"{name}: images from which the model pays", pays)


def _bytes_at(codec: ImageCodec, test: np.ndarray, wanted: float) -> int:
    """Bytes at the last step whose PSNR is at least the wanted one, of a stream that is restored as reconstructed."""
    last = bisect.bisect_right(range(1, 145), -wanted, key=lambda code: -_psnr(codec, test, code))
    blob = codec.compress(test, code=last)
    restored = codec.decompress(blob)
    assert peak_signal_to_noise(test, restored) >= wanted
    assert np.array_equal(restored, codec.reconstruct(test, code=last))
    return len(blob)


def _psnr(codec: ImageCodec, test: np.ndarray, code: int) -> float:
    return peak_signal_to_noise(test, codec.decompress(codec.compress(test, code=code)))


def _pca_psnr(images: np.ndarray, test: np.ndarray) -> float:
    flat, other = (part.reshape(len(part), -1).astype(np.float32) for part in (images, test))
    pca = PCA(CODE_SIZE, random_state=0).fit(flat)
    restored = np.clip(np.rint(pca.inverse_transform(pca.transform(other))), 0, 255).astype(np.uint8)
    return peak_signal_to_noise(test.reshape(len(test), -1), restored)


NUMBERS = {"JPEG 2000": range(69, 19, -1), "WebP": range(20)}
"""What is tried of formats whose settings are not qualities from 1 to 20: better ones come later."""


def _mosaic_sizes(sheet: Sheet, test: np.ndarray, wanted: float) -> Iterator[float]:
    """Least bytes of each format whose PSNR is at least the wanted one."""
    mosaic = test.reshape(100, 100, 28, 28).transpose(0, 2, 1, 3).reshape(2800, 2800)
    for name, (feature, settings, _) in FORMATS.items():
        if not features.check(feature):
            continue

        def stream_at(number: int, name: str = name, settings: Settings = settings) -> io.BytesIO:
            stream = io.BytesIO()
            Image.fromarray(mosaic).save(stream, name.replace(" ", ""), **settings(number))
            return stream

        def psnr_at(number: int, stream_at: Callable[[int], io.BytesIO] = stream_at) -> float:
            with Image.open(stream_at(number)) as restored:
                return peak_signal_to_noise(mosaic, np.asarray(restored.convert("L")))

        numbers = NUMBERS.get(name, range(1, 21))
        first = bisect.bisect_left(numbers, wanted, key=psnr_at)
        near = numbers[max(first - 4, 0) : first + 1]  # the PSNR of AVIF does not rise with every setting
        size = min(len(stream_at(number).getvalue()) for number in near if psnr_at(number) >= wanted)
        sheet.add("digits", f"bytes of a mosaic as {name}", size)
        yield float(size)
