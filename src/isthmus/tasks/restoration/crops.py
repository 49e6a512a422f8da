"""Batches of random crops of images, which are drawn for every step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from isthmus.tasks.restoration.pictures import Range
from isthmus.tasks.restoration.symmetries import turned
from isthmus.training.batches import Feed


@dataclass(frozen=True)
class Lesson:
    """The training images of a restorer.

    Attributes
    ----------
    given
        Images, (h, w, c) each: clean ones, damaged ones with a target, or noisy ones.
    given_range
        The range of their pixels.
    wanted
        The targets of damaged images, (scale · h, scale · w, c') each; None: there are none.
    wanted_range
        The range of their pixels.
    scale
        Height and width of targets divided by those of the given images, >= 1.
    alone
        Whether there are only noisy images; `wanted` are then these images denoised, if that was done before.
    """

    given: Sequence[np.ndarray]
    given_range: Range
    wanted: Sequence[np.ndarray] | None = None
    wanted_range: Range | None = None
    scale: int = 1
    alone: bool = False

    @property
    def paired(self) -> bool:
        """Whether a batch contains inputs and targets instead of clean images."""
        return self.alone or self.wanted is not None


class CropFeed(Feed):
    """Batches of square crops at random places, flipped and rotated at random: rows of pixels, followed by those of the
    target.

    An epoch takes crops from all images, more from larger ones. Images that are smaller than a crop are padded by
    reflection.

    Noisy images without targets give pairs of crops of half the size with independent noise: see `two_of_four`.

    Parameters
    ----------
    lesson
        The images.
    side
        Height and width of a crop of a given image; the crop of its target is `Lesson.scale` times as large.
    batch_size, n_batches
        Crops a batch, and batches an epoch.
    device
        The device of the batches.
    turns
        The `symmetries` from which that of each batch is drawn.
    """

    def __init__(
        self, lesson: Lesson, side: int, batch_size: int, n_batches: int, device: torch.device, *, turns: Sequence[int]
    ) -> None:
        self.lesson, self.device, self.turns = lesson, device, turns
        self.side = 2 * side if lesson.alone else side
        self.batch_size, self.n_rows = batch_size, batch_size * n_batches
        self._owners = torch.tensor(
            [place for place, image in enumerate(lesson.given) for _ in range(_n_crops(image, self.side))]
        )

    def shuffled(self, generator: torch.Generator) -> Iterator[Tensor]:
        owners = self._endless(generator)
        for _ in range(self.n_batches):
            draws = torch.rand(self.batch_size, 2, generator=generator).tolist()
            places = [(next(owners), down, right) for down, right in draws]
            n_turns = len(self.turns)
            turn = self.turns[int(torch.randint(n_turns, (), generator=generator)) if n_turns > 1 else 0]
            parts = [*self._crops(places)]
            if self.lesson.alone:
                parts = [*noisy_pair(parts[0], parts[1] if len(parts) > 1 else None, generator)]
            yield torch.cat([turned(part, turn, (1, 2)).flatten(1) for part in parts], dim=1).to(self.device)

    def _endless(self, generator: torch.Generator) -> Iterator[int]:
        """Images in random order, repeatedly; each in proportion to the number of crops that fit in it."""
        while True:
            yield from self._owners[torch.randperm(len(self._owners), generator=generator)].tolist()

    def _crops(self, places: Sequence[tuple[int, float, float]]) -> Iterator[Tensor]:
        lesson = self.lesson
        parts = [(lesson.given, lesson.given_range, 1)]
        if lesson.wanted is not None and lesson.wanted_range is not None:
            parts.append((lesson.wanted, lesson.wanted_range, lesson.scale))
        for images, unit, scale in parts:
            crops = [self._crop(lesson.given[owner].shape, images[owner], place, scale) for owner, *place in places]
            yield torch.stack([unit.scaled(crop) for crop in crops])  # one by one: bytes among 16 bits keep their unit

    def _crop(self, shape: tuple[int, ...], image: np.ndarray, place: Sequence[float], scale: int) -> np.ndarray:
        """A crop of an image at the place, in [0, 1), of the given image of this shape."""
        starts = [int(where * max(1, length - self.side + 1)) for where, length in zip(place, shape, strict=False)]
        rows, columns = (slice(scale * start, scale * (start + self.side)) for start in starts)
        crop = image[rows, columns]
        missing = [(0, scale * self.side - length) for length in crop.shape[:2]]
        return np.pad(crop, [*missing, (0, 0)], mode="reflect") if any(left for _, left in missing) else crop


MOVED = 0.5
"""How much of the difference between two places in the denoised image is added to the target.

The whole difference hands on noise that the denoised image still holds. At noise of 15, 25 and 50, 1,500 steps after
32,000 gave +0.38, +0.15 and -0.02 dB with half of it, and +0.30, +0.06 and -0.07 dB with all; 400 of 2,000 steps +0.31,
+0.02 and -0.16 dB with half, and +0.22, -0.23 and -0.36 dB with all. Denoising and correcting once more made all worse.
"""
FIRST, SECOND = torch.tensor([[0, 1, 0, 2, 1, 3, 2, 3], [1, 0, 2, 0, 3, 1, 3, 2]])
"""The eight ways to take two direct neighbours of a cell of 2×2 pixels, as numbers of its pixels in reading order."""


def two_of_four(crops: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two images of half the size from one: of each cell of 2×2 pixels a random one, and one of its direct neighbours.

    The two show nearly the same, and noise that is independent between pixels is independent between them. A network
    that predicts one from the other cannot predict its noise, and learns to remove that of the other (Huang et al.
    2021, Neighbor2Neighbor; here without their regulariser, which cost 0.8 dB on photographs at equal work). Masked
    pixels as targets (Noise2Self, Noise2Void) were 1 dB worse than this, and 16 times slower in use.

    Parameters
    ----------
    crops
        (n, 2 · side, 2 · side, c).
    generator
        Of the choices, on the CPU.

    Returns
    -------
    Two tensors, (n, side, side, c).
    """
    n, height, width, n_channels = crops.shape
    cells = crops.view(n, height // 2, 2, width // 2, 2, n_channels).permute(0, 1, 3, 2, 4, 5)
    cells = cells.reshape(n, height // 2, width // 2, 4, n_channels)
    way = torch.randint(8, cells.shape[:3], generator=generator)
    chosen = (which[way][..., None, None].expand(-1, -1, -1, 1, n_channels) for which in (FIRST, SECOND))
    one, other = (cells.gather(3, place)[..., 0, :] for place in chosen)
    return one, other


def noisy_pair(noisy: Tensor, denoised: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Input and target from one noisy image: `two_of_four`, with the target moved to the place of the input.

    Neighbours do not show exactly the same, so that a network that predicts one from the other blurs. Where a denoised
    image is known, `MOVED` of the difference between the two places in it is added to the target. The regulariser of
    Huang et al. (2021, eq. 6) aims at the same, with a second pass through the network in every step.

    Parameters
    ----------
    noisy, denoised
        (n, 2 · side, 2 · side, c) each.
    generator
        Of the choices, on the CPU.

    Returns
    -------
    Two tensors, (n, side, side, c).
    """
    if denoised is None:
        return two_of_four(noisy, generator)
    n_channels = noisy.shape[3]
    one, other = two_of_four(torch.cat([noisy, denoised], dim=3), generator)
    moved = MOVED * (one[..., n_channels:] - other[..., n_channels:])
    return one[..., :n_channels], other[..., :n_channels] + moved


def _n_crops(image: np.ndarray, side: int) -> int:
    """The area of the image in crops, rounded."""
    return max(1, round(float(image.shape[0] * image.shape[1]) / side**2))
