"""The symmetries of a square, by which crops are augmented and restored images averaged."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from isthmus.choices.unet import reflected
from isthmus.tasks.restoration.objective import Enlarging

SYMMETRIES: dict[bool | str, Sequence[int]] = {True: range(8), "mirror": (0, 6), False: (0,)}
"""The symmetries of each `augment`, as numbers that `turned` takes: all eight, left and right exchanged, or none."""


def turned(images: Tensor, turn: int, axes: tuple[int, int]) -> Tensor:
    """Images under one of the eight symmetries of a square: flipped upside down (+ 4), then rotated by 90° × 0 to 3.

    >>> image = torch.tensor([[1, 2], [3, 4]])
    >>> turned(image, 6, (0, 1)).tolist(), turned(turned(image, 5, (0, 1)), -5, (0, 1)).tolist()
    ([[2, 1], [4, 3]], [[1, 2], [3, 4]])

    A negative number undoes the symmetry.
    """
    if turn < 0:
        back = torch.rot90(images, -(-turn & 3), dims=axes)
        return back.flip(axes[0]) if -turn & 4 else back
    flipped = images.flip(axes[0]) if turn & 4 else images
    return torch.rot90(flipped, turn & 3, dims=axes)


class SelfEnsemble(nn.Module):
    """The mean output of a network over symmetries of its input, (n, c, h, w) (Timofte et al. 2016, section 3.4).

    Images are padded to multiples of the network's stride before they are flipped and rotated. The cells of the network
    then lie at the same pixels in a tile and in the whole image, so that both give the same result.

    Parameters
    ----------
    pictures
        The network for images of any size.
    turns
        The symmetries.
    """

    def __init__(self, pictures: Enlarging, turns: Sequence[int]) -> None:
        super().__init__()
        self.pictures, self.turns = pictures, turns

    def forward(self, x: Tensor) -> Tensor:
        height, width = (self.pictures.scale * length for length in x.shape[2:])
        padded = reflected(x, self.pictures.network.stride)
        restored = [turned(self.pictures(turned(padded, turn, (2, 3))), -turn, (2, 3)) for turn in self.turns]
        mean: Tensor = torch.stack(restored).mean(dim=0) if len(restored) > 1 else restored[0]
        return mean[:, :, :height, :width]
