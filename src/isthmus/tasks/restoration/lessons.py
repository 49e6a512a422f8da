"""Checks that images, targets and a damage are compatible."""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from isthmus.choices import LOSSES, Huber, LogMeanSquaredError, MeanAbsoluteError, MeanSquaredError
from isthmus.choices.corruptions import Corruption
from isthmus.choices.losses import Loss
from isthmus.choices.registry import Context
from isthmus.choices.unet import x_like
from isthmus.exceptions import DataError, FitWarning
from isthmus.tasks.restoration.crops import CropFeed, Lesson
from isthmus.tasks.restoration.noise import CORRELATED, noise_correlation
from isthmus.tasks.restoration.pictures import Pictures
from isthmus.tasks.restoration.restorer_fit import Plan

PIXELS_A_STEP = 8 * 64**2
MOST_MEASURED = 50
"""The number of images on which the noise is measured."""
PIXEL_LOSSES = (MeanSquaredError, MeanAbsoluteError, Huber, LogMeanSquaredError)


def scale_of(given: Pictures, wanted: Pictures) -> int:
    """Height and width of targets divided by those of images: one integer for all pairs.

    Raises
    ------
    DataError
        The numbers of images and targets differ, or sizes are incompatible; the message names the first pair.
    """
    if len(given) != len(wanted):
        raise DataError(f"There are {len(given)} images, but {len(wanted)} targets; one target per image is needed.")
    scales = list[int]()
    for image, target, name, other in zip(given.arrays, wanted.arrays, given.names, wanted.names, strict=True):
        scale, left = divmod(target.shape[0], image.shape[0])
        if left or scale < 1 or target.shape[1] != scale * image.shape[1]:
            raise DataError(
                f"{name} is {image.shape[0]}×{image.shape[1]}, but {other} is {target.shape[0]}×{target.shape[1]}; a "
                "target must have the size of its image, or a whole number of times its height and width."
            )
        scales.append(scale)
        if scale != scales[0]:
            raise DataError(
                f"{other} is {scale} times as high and wide as its image, but {wanted.names[0]} {scales[0]} times; "
                "all pairs need the same enlargement."
            )
    return scales[0]


def crop_side(lesson: Lesson, most: int, stride: int) -> int:
    """Height and width of crops: the requested size, limited by the shorter side of most images, or half of it.

    A multiple of the network's stride: it pads others at the bottom and right and cuts its output, so that it would
    never learn what comes out at these borders of images that need no padding (colours of CIFAR-10 learned on 28×28
    had twice the error of grey on 32×32, and 0.9 times on 28×28). Smaller than requested, crops are whole images, and
    the size is rounded up: they are padded by reflection as in use. Digits of 28×28 learned on crops of 24×24 were
    restored 1.2 dB worse. From noisy images alone it is rounded down, as reflected noise is not independent.
    """
    shorter = float(np.median([min(image.shape[:2]) for image in lesson.given]))
    if not lesson.alone and shorter <= most:
        return -int(-shorter // stride) * stride
    side = min(int(most), max(8, int(shorter / 2 if lesson.alone else shorter)))
    return max(1, side // stride) * stride


def batch_size_for(side: int) -> int:
    """Crops per step, a power of two from 8 to 64: about as many pixels as 8 crops of 64×64.

    >>> [batch_size_for(side) for side in (128, 64, 28, 8)]
    [8, 8, 32, 64]
    """
    power: int = round(math.log2(PIXELS_A_STEP / side**2))
    return min(64, max(8, 1 << max(0, power)))


def refuse_lines(given: Pictures) -> None:
    """Raise an error for an image without two rows and columns, which learning from noisy images alone needs."""
    for image, name in zip(given.arrays, given.names, strict=True):
        if min(image.shape[:2]) < 2:
            raise DataError(
                f"{name} is {image.shape[0]}×{image.shape[1]}; to learn from noisy images alone, each needs at least "
                "2×2 pixels, because one pixel is predicted from its neighbours."
            )


def damaged_by(corruption: Corruption, x: Tensor, generator: torch.Generator, name: str) -> np.ndarray:
    """An image, (1, h, w, c), damaged: (h, w, c).

    Raises
    ------
    DataError
        The damage does not fit the image.
    """
    try:
        damaged = corruption.corrupt(x, generator)[0].numpy()
    except (ValueError, RuntimeError) as error:
        raise DataError(f"{name}: the damage {corruption!r} cannot be applied to it: {error}") from None
    return damaged


def warn_of_correlation(lesson: Lesson) -> None:
    """Warn if the noise of images without targets is correlated between neighbouring pixels."""
    images = [lesson.given_range.scaled(image).numpy() for image in lesson.given[:MOST_MEASURED]]
    correlation = noise_correlation(images)
    if correlation >= CORRELATED:
        warnings.warn(
            f"The noise of neighbouring pixels is correlated: {correlation:.2f}, where independent noise measures "
            "about 0 (in the twentieth of all blocks of 16×16 pixels that varies least, after a plane is "
            "subtracted). Such noise cannot be told from the image and stays. Learn from pairs instead, "
            "fit(noisy, target=clean), or from images that no camera or file format has smoothed.",
            FitWarning,
            stacklevel=3,
        )


def pixel_loss(value: Any) -> Loss:
    """A loss of pixels without an output activation: the network's output is a difference, or close to the image.

    Raises
    ------
    ValueError
        The loss is of another kind.
    """
    loss = LOSSES.resolve(value)
    if not isinstance(loss, PIXEL_LOSSES):
        raise ValueError(  # noqa: TRY004  # a name of another loss is a wrong value
            f"Restorer: loss={value!r} is not a distance between pixels; use 'mean-squared-error', "
            "'log-mean-squared-error', 'mean-absolute-error' or 'huber'."
        )
    return loss._with(activation=None) if loss.activation == "auto" else loss  # noqa: SLF001  # as in choices


def damage_mistakes(plan: Plan, lesson: Lesson) -> list[str]:
    """Reasons why the damage cannot be applied to the images."""
    if plan.corruption is None:
        return []
    context = Context((plan.side, plan.side, plan.n_given), 1, 0.0, 1.0)
    found = plan.corruption.mistakes(context)
    if found:
        return found
    clean = _some_crops(lesson, plan)
    try:
        damaged = plan.corruption.resolve(context).corrupt(clean, torch.Generator().manual_seed(0))
    except (ValueError, RuntimeError) as error:
        return [f"Restorer: the damage {plan.corruption!r} cannot be applied to these images: {error}"]
    if damaged.shape != clean.shape:
        text = f"the damage {plan.corruption!r} changes images of {_size(clean)} to {_size(damaged)}; it must keep"
        return [f"Restorer: {text} their size. Pass pairs instead: Restorer().fit(damaged, target=clean)."]
    return []


def adds_colour(lesson: Lesson, plan: Plan) -> bool:
    """Whether the damage removes colour, which restored images have."""
    if plan.corruption is None or plan.n_given != 3:
        return False
    context = Context((plan.side, plan.side, 3), 1, 0.0, 1.0)
    clean = _some_crops(lesson, plan)
    damaged = plan.corruption.resolve(context).corrupt(clean, torch.Generator().manual_seed(0))
    return _is_grey(damaged) and not _is_grey(clean)


def _is_grey(x: Tensor) -> bool:
    return bool(torch.allclose(x, x.mean(-1, keepdim=True).expand_as(x), atol=1e-4))


def _some_crops(lesson: Lesson, plan: Plan) -> Tensor:
    """A few clean crops, (n, side, side, c), always the same."""
    feed = CropFeed(lesson, plan.side, 8, 1, torch.device("cpu"), turns=(0,))
    (rows,) = feed.shuffled(torch.Generator().manual_seed(0))
    return rows.view(len(rows), plan.side, plan.side, plan.n_given)


def _size(x: Tensor) -> str:
    return "×".join(map(str, x.shape[1:]))


def with_alpha(restored: np.ndarray, image: np.ndarray, scale: int) -> np.ndarray:
    """A restored image with the transparency of the given one as its last channel."""
    alpha = image[..., -1:].repeat(scale, axis=0).repeat(scale, axis=1)
    return np.concatenate([restored, alpha.astype(restored.dtype)], axis=2)


def resembling(damaged: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    """A damaged image, (h, w, c), in the size and the channels of its target, for a comparison: enlarged, or grey."""
    x = x_like(damaged.movedim(-1, 0)[None], shape[2])
    if x.shape[2:] != shape[:2]:
        x = functional.interpolate(x, size=shape[:2], mode="bicubic", align_corners=False)
    return x[0].movedim(0, -1).numpy()
