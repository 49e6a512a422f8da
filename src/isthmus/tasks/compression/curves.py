"""Rate and distortion of a codec beside the formats that every viewer reads."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, features

from isthmus.tasks.compression.codec import ImageCodec
from isthmus.tasks.compression.records import peak_signal_to_noise
from isthmus.tasks.compression.transforms import TRANSFORMS


@dataclass(frozen=True)
class Curve:
    """Points of a codec: means over images of the bits per pixel of whole files, and of the PSNR in decibels."""

    name: str
    bpp: np.ndarray
    psnr: np.ndarray

    def at(self, bpp: float) -> float:
        """PSNR at a rate, interpolated over the logarithm of the rate; NaN outside of the points."""
        order = np.argsort(self.bpp)
        x, y = np.log(self.bpp[order]), self.psnr[order]
        return float(np.interp(np.log(bpp), x, y, left=np.nan, right=np.nan))


def codec_curve(codec: ImageCodec, images: Sequence[np.ndarray], codes: Sequence[int] | None = None) -> Curve:
    """Points of a codec at several quantisation steps; each image is a stream of its own.

    Examples
    --------
    >>> image = (np.add.outer(np.arange(40), np.arange(40)) * 3).astype("uint8")
    >>> codec = ImageCodec("30 dB", n_steps=2, random_state=0).fit([image])
    >>> curve = codec_curve(codec, [image], codes=(60, 90))
    >>> bool(curve.psnr[0] > curve.psnr[1]), bool(curve.bpp[0] > curve.bpp[1])
    (True, True)
    """
    chosen = TRANSFORMS[codec.transform].curve_codes if codes is None else codes

    def point(code: int) -> Iterator[tuple[float, float]]:
        for image in images:
            blob = codec.compress([image], code=code)
            yield _measured(image, len(blob), codec.decompress(blob)[0])

    return _curve("isthmus", [list(point(code)) for code in chosen])


def _webp(quality: int) -> Mapping[str, Any]:
    return {"quality": quality, "method": 6}


def _jpeg(quality: int) -> Mapping[str, Any]:
    return {"quality": quality, "optimize": True, "progressive": True}


def _avif(quality: int) -> Mapping[str, Any]:
    return {"quality": quality, "speed": 4}


def _jpeg_2000(ratio: int) -> Mapping[str, Any]:
    return {"quality_mode": "rates", "quality_layers": [ratio], "irreversible": True}


FORMATS: Mapping[str, tuple[str, Callable[[int], Mapping[str, Any]], Sequence[int]]] = {
    "JPEG": ("jpg", _jpeg, (5, 8, 12, 18, 25, 35, 50)),
    "WebP": ("webp", _webp, (1, 5, 12, 25, 40, 60)),
    "JPEG 2000": ("jpg_2000", _jpeg_2000, (240, 160, 120, 80, 60, 40, 30)),
    "AVIF": ("avif", _avif, (12, 20, 30, 40, 50)),
}
"""Formats of Pillow: its name for the feature, and settings from one number, at the best that Pillow offers."""


def format_curve(name: str, images: Sequence[np.ndarray]) -> Curve | None:
    """Points of a format of Pillow; None if this Pillow cannot write it.

    >>> curve = format_curve("JPEG", [np.full((16, 16, 3), 128, np.uint8)])
    >>> len(curve.bpp), float(curve.psnr.max())
    (7, 99.0)
    """
    feature, settings, numbers = FORMATS[name]
    if not features.check(feature):
        return None
    points = []
    for number in numbers:
        found = []
        for image in images:
            stream = io.BytesIO()
            plain = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
            Image.fromarray(plain).save(stream, name.replace(" ", ""), **settings(number))
            with Image.open(stream) as restored:
                pixels = np.asarray(restored.convert("L" if plain.ndim == 2 else "RGB"))
            found.append(_measured(plain, stream.tell(), pixels))
        points.append(found)
    return _curve(name, points)


def _measured(image: np.ndarray, size: int, restored: np.ndarray) -> tuple[float, float]:
    return 8 * size / (image.shape[0] * image.shape[1]), peak_signal_to_noise(image, restored)


def _curve(name: str, points: Sequence[Sequence[tuple[float, float]]]) -> Curve:
    means = np.array(points).mean(axis=1)
    return Curve(name, means[:, 0], means[:, 1])
