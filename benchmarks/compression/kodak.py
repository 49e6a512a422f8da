"""Kodak: a codec learned from images 1 to 12 (and some of CIFAR-10) on images 13 to 24, beside other formats."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.sheet import Sheet
from isthmus import ImageCodec, load
from isthmus.plots import style
from isthmus.report import plot_rate_distortion
from isthmus.tasks.compression.container import read
from isthmus.tasks.compression.curves import FORMATS, codec_curve, format_curve
from isthmus.tasks.compression.records import measured

DATA = Path(os.environ.get("ISTHMUS_DATA", "."))
RATES = (0.15, 0.25, 0.4, 0.6)
CODES = (90, 97, 104, 111, 118, 124, 131)
N_CIFAR = 32


def kodak(first: int, last: int) -> list[np.ndarray]:
    """Images by number."""
    return [np.asarray(Image.open(DATA / "kodak" / f"kodim{n:02d}.png").convert("RGB")) for n in range(first, last + 1)]


def cifar(n: int) -> list[np.ndarray]:
    """The first images of CIFAR-10, (32, 32, 3)."""
    raw = np.fromfile(DATA / "cifar10" / "data_batch_1.bin", np.uint8).reshape(-1, 3073)[:n, 1:]
    return list(raw.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def fitted(folder: Path) -> ImageCodec:
    """The codec of the benchmark, learned once."""
    path = folder / "kodak.safetensors"
    if not path.exists():
        began = time.process_time()
        codec = ImageCodec("0.4 bpp", random_state=0).fit([*kodak(1, 12), *cifar(N_CIFAR)])
        print(f"learned in {time.process_time() - began:.0f} CPU seconds", flush=True)
        codec.save(path)
    codec = load(path)
    assert isinstance(codec, ImageCodec)
    return codec


def run(sheet: Sheet, folder: Path, docs: Path | None) -> None:
    """All figures of Kodak."""
    codec, images = fitted(folder), kodak(13, 24)
    ours = codec_curve(codec, images, CODES)
    others = {name: curve for name in FORMATS if (curve := format_curve(name, images)) is not None}
    for rate in RATES:
        mine = ours.at(rate)
        sheet.add("kodak", f"PSNR at {rate} bpp, dB", mine)
        for name, curve in others.items():
            wanted, met = "", None
            if name == "JPEG":
                wanted, met = "≥ 0.8", bool(mine - curve.at(rate) >= 0.8) if np.isfinite(curve.at(rate)) else None
            if name == "WebP":
                wanted, met = "≥ -0.5", bool(mine - curve.at(rate) >= -0.5) if np.isfinite(curve.at(rate)) else None
            sheet.add("kodak", f"PSNR minus {name} at {rate} bpp, dB", mine - curve.at(rate), wanted, met)
    _sizes(sheet, codec, images[0])
    if docs is not None:
        (docs / "pictures").mkdir(exist_ok=True)
        style.save(
            plot_rate_distortion([ours, *others.values()]), docs / "pictures" / "compression.png", dots_per_inch=110
        )


def _sizes(sheet: Sheet, codec: ImageCodec, image: np.ndarray) -> None:
    """Real size over estimated rate, and speed, on one image."""
    began = time.process_time()
    blob = codec.compress([image])
    middle = time.process_time()
    codec.decompress(blob)
    end = time.process_time()
    megapixels = image.shape[0] * image.shape[1] / 1e6
    estimate = measured(codec.model_, [image[None]], codec.code_).bpp * megapixels * 1e6
    sheet.add(
        "kodak", "real size over estimated rate", 8 * len(blob) / estimate, "≤ 1.01", 8 * len(blob) <= 1.01 * estimate
    )
    sheet.add("kodak", "payload over estimated rate", 8 * len(read(blob).entries[0].payload) / estimate)
    sheet.add("kodak", "compress, megapixels a CPU second", megapixels / (middle - began))
    sheet.add("kodak", "decompress, megapixels a CPU second", megapixels / (end - middle))


def large(sheet: Sheet, folder: Path, docs: Path | None) -> None:  # noqa: ARG001  # as all parts
    """A 12-megapixel image, 3000 × 4000, and the memory that it takes."""
    codec = fitted(folder)
    parts = kodak(1, 24)
    rows = [np.concatenate([part[:500, :500] for part in parts[start : start + 8]], axis=1) for start in (0, 8, 16)]
    image = np.concatenate([*rows, *rows], axis=0)[:3000]
    assert image.shape == (3000, 4000, 3)
    began = time.process_time()
    blob = codec.compress([image])
    sheet.add("large", "12 megapixels: compress, CPU seconds", time.process_time() - began)
    began = time.process_time()
    codec.decompress(blob)
    sheet.add("large", "12 megapixels: decompress, CPU seconds", time.process_time() - began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    sheet.add("large", "12 megapixels: peak memory of the process, GiB", peak, "< 2", peak < 2)
