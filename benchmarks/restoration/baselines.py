"""What the figures are compared with: methods of scikit-image, Pillow and scikit-learn, at their best settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
from PIL import Image
from skimage import restoration
from sklearn.neighbors import KNeighborsRegressor

Denoiser = Callable[[np.ndarray, float, float], np.ndarray]
PATCH, NEIGHBOURS, PATCHES = 7, 30, 60_000


def non_local_means(image: np.ndarray, sigma: float, strength: float) -> np.ndarray:
    """Told the strength of the noise, which a blind restorer is not."""
    found: np.ndarray = restoration.denoise_nl_means(
        image, h=strength * sigma, sigma=sigma, patch_size=5, patch_distance=6, fast_mode=True
    )
    return found


def total_variation(image: np.ndarray, sigma: float, strength: float) -> np.ndarray:
    found: np.ndarray = restoration.denoise_tv_chambolle(image, weight=strength * sigma)
    return found


def wavelet(image: np.ndarray, sigma: float, strength: float) -> np.ndarray:
    found: np.ndarray = restoration.denoise_wavelet(
        image, sigma=strength * sigma, method="BayesShrink", mode="soft", rescale_sigma=True
    )
    return found


def bilateral(image: np.ndarray, sigma: float, strength: float) -> np.ndarray:
    found: np.ndarray = restoration.denoise_bilateral(image, sigma_color=strength * sigma, sigma_spatial=2)
    return found


DENOISERS: dict[str, tuple[Denoiser, Sequence[float]]] = {
    "non-local means": (non_local_means, (0.4, 0.6, 0.8, 1.0)),
    "total variation": (total_variation, (0.8, 1.2, 1.6, 2.0)),
    "wavelet": (wavelet, (0.7, 1.0, 1.3)),
    "bilateral": (bilateral, (1.5, 2.5, 3.5)),
}
"""Methods of scikit-image, and the strengths from which the best is taken, on training images, for each noise."""
if find_spec("pywt") is None:  # scikit-image's wavelets need PyWavelets, which isthmus does not
    del DENOISERS["wavelet"]


def best_strength(name: str, noisy: Sequence[np.ndarray], clean: Sequence[np.ndarray], sigma: float) -> float:
    """The strength of a method that is best on some training images."""
    method, strengths = DENOISERS[name]
    errors = [
        np.mean(
            [
                np.square(method(one, sigma, strength) - other / 255).mean()
                for one, other in zip(noisy, clean, strict=True)
            ]
        )
        for strength in strengths
    ]
    return float(strengths[int(np.argmin(errors))])


def biharmonic(image: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Holes filled by scikit-image, which is told where they are: (h, w[, c]) and (h, w)."""
    filled: np.ndarray = restoration.inpaint_biharmonic(image, hidden, channel_axis=2 if image.ndim == 3 else None)
    return filled


def halved(image: np.ndarray) -> np.ndarray:
    """Half the height and width, bicubic with antialiasing."""
    return _resized(image, image.shape[1] // 2, image.shape[0] // 2)


def doubled(image: np.ndarray) -> np.ndarray:
    """Twice the height and width, bicubic."""
    return _resized(image, image.shape[1] * 2, image.shape[0] * 2)


def _resized(image: np.ndarray, width: int, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def colours_of_neighbours(grey: np.ndarray, colour: np.ndarray, asked: np.ndarray, seed: int) -> np.ndarray:
    """Colours of pixels as means over the most similar grey patches: (n, h, w), (n, h, w, 2) → (m, h, w, 2)."""
    draw = np.random.default_rng(seed)
    patches = _patches(grey)
    chosen = draw.choice(len(patches), min(PATCHES, len(patches)), replace=False)
    neighbours: Any = KNeighborsRegressor(NEIGHBOURS, n_jobs=1).fit(patches[chosen], colour.reshape(-1, 2)[chosen])
    found: np.ndarray = neighbours.predict(_patches(asked))
    return found.reshape(*asked.shape, 2)


def _patches(images: np.ndarray) -> np.ndarray:
    """The patch around every pixel, (n · h · w, 49)."""
    side = PATCH // 2
    padded = np.pad(images, [(0, 0), (side, side), (side, side)], mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (PATCH, PATCH), axis=(1, 2))
    return np.ascontiguousarray(windows.reshape(-1, PATCH * PATCH), dtype=np.float32)
