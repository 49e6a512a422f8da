"""The 10,000 test images of MNIST as one file, beside one mosaic in other formats."""

from __future__ import annotations

import bisect
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, features
from sklearn.decomposition import PCA

from benchmarks.sheet import Sheet
from isthmus import ImageCodec, datasets, load
from isthmus.tasks.compression.curves import FORMATS
from isthmus.tasks.compression.records import peak_signal_to_noise

CODE_SIZE = 32


def run(sheet: Sheet, folder: Path, docs: Path | None) -> None:  # noqa: ARG001  # as all parts
    """Bytes at the PSNR, over all pixels, of a code of 32 principal components."""
    data = datasets.load_mnist()
    assert data.X_test is not None
    images, test = data.X, data.X_test
    wanted = _pca_psnr(images, test)
    sheet.add("digits", f"PSNR of {CODE_SIZE} principal components, dB", wanted)
    path = folder / "digits.safetensors"
    if not path.exists():
        ImageCodec(f"{wanted:.2f} dB", max_images=3000, random_state=0).fit(images[:3000]).save(path)
    codec = load(path)
    largest = bisect.bisect_right(range(1, 145), -wanted, key=lambda code: -_psnr(codec, test, code))
    blob = codec.compress(test, code=largest)  # the last step whose PSNR is at least the wanted one
    best = min(_mosaic_sizes(sheet, test, wanted))
    sheet.add("digits", "bytes of 10,000 images", len(blob))
    sheet.add("digits", "share of the best other format", len(blob) / best, "≤ 0.333", 3 * len(blob) <= best)
    sheet.add("digits", "bytes of the model", path.stat().st_size)
    pays = path.stat().st_size / max(best - len(blob), 1) * len(test)
    sheet.add("digits", "images from which the model pays", pays)


def _psnr(codec: ImageCodec, test: np.ndarray, code: int) -> float:
    return peak_signal_to_noise(test, codec.decompress(codec.compress(test, code=code)))


def _pca_psnr(images: np.ndarray, test: np.ndarray) -> float:
    flat, other = (part.reshape(len(part), -1).astype(np.float32) for part in (images, test))
    pca = PCA(CODE_SIZE, random_state=0).fit(flat)
    restored = np.clip(np.rint(pca.inverse_transform(pca.transform(other))), 0, 255).astype(np.uint8)
    return peak_signal_to_noise(test.reshape(len(test), -1), restored)


def _mosaic_sizes(sheet: Sheet, test: np.ndarray, wanted: float) -> Iterator[float]:
    """Least bytes of each format whose PSNR is at least the wanted one."""
    mosaic = test.reshape(100, 100, 28, 28).transpose(0, 2, 1, 3).reshape(2800, 2800)
    for name, (feature, settings, _) in FORMATS.items():
        if not features.check(feature):
            continue
        sizes = []
        for number in range(20, 70, 2) if name == "JPEG 2000" else range(0 if name == "WebP" else 1, 14):
            stream = io.BytesIO()
            Image.fromarray(mosaic).save(stream, name.replace(" ", ""), **settings(number))
            with Image.open(stream) as restored:
                if peak_signal_to_noise(mosaic, np.asarray(restored.convert("L"))) >= wanted:
                    sizes.append(stream.tell())
        sheet.add("digits", f"bytes of a mosaic as {name}", min(sizes))
        yield float(min(sizes))
