"""The transforms of the codec, by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.files.records import Numbers
from isthmus.tasks.compression import dense_coding, dense_learning, wavelet_coding, wavelet_learning
from isthmus.tasks.compression.model import CodecModel
from isthmus.tasks.compression.targets import Goal, code_for_lambda

Tell = Callable[[int, int], None]
"""Shows progress: steps done, of all."""


@dataclass(frozen=True)
class Transform:
    """How a transform is learned, stored and read.

    Attributes
    ----------
    learn
        From images, (n, h, w, c) uint8 each, a goal, a seed and a number of steps.
    of_arrays, declared
        A model from the arrays of a file, and their declarations.
    max_images
        Most images that are learned from, if the user sets no number.
    first_code
        Where the search for a target begins.
    curve_codes
        Steps of a rate-distortion curve.
    code_for_lambda
        The step at which a bit is worth so many squared grey levels.
    for_one_size
        Whether it learns whole images of one size, for its goal, and could memorise them: it is then measured on
        a tenth of the images that it does not learn from.
    remedy
        What to do when a target cannot be reached.
    """

    learn: Callable[[Sequence[np.ndarray], Goal, int, int, Tell], CodecModel]
    of_arrays: Callable[[Mapping[str, np.ndarray]], CodecModel]
    declared: Mapping[str, Numbers]
    max_images: int
    first_code: int
    curve_codes: Sequence[int]
    code_for_lambda: Callable[[float], int]
    for_one_size: bool
    remedy: str = ""


def _learn_wavelet(batches: Sequence[np.ndarray], goal: Goal, seed: int, n_steps: int, tell: Tell) -> CodecModel:
    """The networks serve all rates, so the goal only chooses the step, later."""
    del goal
    return wavelet_learning.learn(batches, seed=seed, n_steps=n_steps, tell=tell)


def _learn_dense(batches: Sequence[np.ndarray], goal: Goal, seed: int, n_steps: int, tell: Tell) -> CodecModel:
    return dense_learning.learn(batches, goal, seed=seed, n_steps=2 * n_steps, tell=tell)


TRANSFORMS: Mapping[str, Transform] = {
    "wavelet": Transform(
        learn=_learn_wavelet,
        of_arrays=wavelet_coding.WaveletModel.of_arrays,
        declared=wavelet_coding.DECLARED,
        max_images=200,
        first_code=96,  # 32 grey levels
        curve_codes=(76, 86, 96, 106, 116),  # 13 to 76 grey levels
        code_for_lambda=code_for_lambda,
        for_one_size=False,
    ),
    "dense": Transform(
        learn=_learn_dense,
        of_arrays=dense_coding.DenseModel.of_arrays,
        declared=dense_coding.DECLARED,
        max_images=100_000,
        first_code=dense_coding.UNIT_CODE,
        curve_codes=(40, 52, 64, 76, 88),
        code_for_lambda=lambda _: dense_coding.UNIT_CODE,  # it is trained with this lambda
        for_one_size=True,
        remedy="The dense transform learns to be this good: pass more images or n_steps, or use transform='wavelet'.",
    ),
}
