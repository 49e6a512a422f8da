"""Quality of restored images, computed by scikit-image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

LARGEST_WINDOW, SMALLEST_WINDOW = 7, 3
"""Sides of the windows of SSIM: 7 by default, less for smaller images."""


class ImageQuality(float):
    """The peak signal-to-noise ratio of restored images in decibels, as a number with further measures as attributes.

    Each is the mean over images. Higher is better, for RMSE lower.

    Attributes
    ----------
    psnr, psnr_before
        Peak signal-to-noise ratio of the restored and of the damaged images, in decibels.
    ssim, ssim_before
        Structural similarity (Wang et al. 2004), at most 1; NaN for images with a side below 3 pixels.
    rmse, rmse_before
        Root mean squared error, as a share of the range of the pixels.
    """

    psnr: float
    psnr_before: float
    ssim: float
    ssim_before: float
    rmse: float
    rmse_before: float

    def __new__(cls, before: np.ndarray, after: np.ndarray) -> Self:
        """From the measures of each image, (n, 3) each."""
        made = super().__new__(cls, after.mean(0)[0])
        for name, column in zip(("psnr", "ssim", "rmse"), after.mean(0).tolist(), strict=True):
            setattr(made, name, column)
        for name, column in zip(("psnr", "ssim", "rmse"), before.mean(0).tolist(), strict=True):
            setattr(made, f"{name}_before", column)
        return made

    def __repr__(self) -> str:
        return (
            f"ImageQuality(psnr={self.psnr:.2f} dB, before {self.psnr_before:.2f}; ssim={self.ssim:.4f}, before "
            f"{self.ssim_before:.4f}; rmse={self.rmse:.4f}, before {self.rmse_before:.4f})"
        )

    def __reduce__(self) -> Any:
        rows = [(self.psnr_before, self.ssim_before, self.rmse_before), (self.psnr, self.ssim, self.rmse)]
        return type(self), tuple(np.array([row]) for row in rows)


def measures(images: Sequence[np.ndarray], clean: Sequence[np.ndarray]) -> np.ndarray:
    """PSNR in decibels, SSIM and RMSE of each image, with pixels in [0, 1]: (h, w, c) each → (n, 3).

    Raises
    ------
    ImportError
        scikit-image is not installed.
    """
    try:
        from skimage import metrics  # noqa: PLC0415  # optional
    except ImportError:
        raise ImportError(
            "Measuring the quality of images needs scikit-image, which is not installed; pip install 'isthmus[images]'."
        ) from None
    rows = []
    for image, wanted in zip(images, clean, strict=True):
        one, other = wanted.astype(np.float64), image.astype(np.float64)
        error = metrics.mean_squared_error(one, other)
        psnr = metrics.peak_signal_noise_ratio(one, other, data_range=1.0) if error else np.inf
        side = min(*wanted.shape[:2], LARGEST_WINDOW)
        window = side - 1 + side % 2
        ssim = np.nan
        if window >= SMALLEST_WINDOW:
            ssim = metrics.structural_similarity(one, other, data_range=1.0, channel_axis=2, win_size=window)
        rows.append((psnr, ssim, np.sqrt(error)))
    return np.array(rows)
