"""Conversion of images with other channels than those at fit, before and after restoration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from isthmus.exceptions import DataError

LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Weights of red, green and blue in grey (ITU-R BT.601), as Pillow converts."""


@dataclass(frozen=True)
class Passage:
    """The conversion of an image for a restorer with other channels.

    ===========  ================================  ==========================================
    image        restorer                          way
    ===========  ================================  ==========================================
    as at fit    any                               as it is
    and alpha    any                               alpha is put aside
    grey         of colour                         repeated in three channels; the mean of the restored ones
    grey         that colours                      repeated in three channels
    colour       of grey                           each channel for itself
    colour       from grey to colour               as grey
    ===========  ================================  ==========================================

    Attributes
    ----------
    n_colour
        Channels of the image without alpha.
    has_alpha
        Whether a channel of transparency follows.
    way
        ``"as-is"``, ``"repeated"``, ``"each"`` or ``"grey"``.
    to_grey
        Whether the repeated channels are averaged at the end.
    """

    n_colour: int
    has_alpha: bool
    way: str
    to_grey: bool = False

    @classmethod
    def of(cls, n_channels: int, n_given: int, n_wanted: int, *, colours: bool, name: str) -> Passage:
        """The conversion for an image with a number of channels.

        Raises
        ------
        DataError
            There is none.
        """
        if n_channels == n_given:
            return cls(n_channels, has_alpha=False, way="as-is")
        for n_colour in (n_channels, n_channels - 1):
            has_alpha = n_colour < n_channels
            if has_alpha and n_channels not in (2, 4):
                continue
            if n_colour == n_given:
                return cls(n_colour, has_alpha, "as-is")
            if (n_colour, n_given) == (1, 3):
                return cls(1, has_alpha, "repeated", to_grey=n_wanted == 3 and not colours)
            if (n_colour, n_given) == (3, 1):
                return cls(3, has_alpha, "each" if n_wanted == 1 else "grey")
        raise DataError(
            f"{name} has {n_channels} channels, but the restorer was fitted to images of {n_given}; convert it to "
            f"{n_given}, or fit a restorer to such images."
        )

    def enter(self, image: np.ndarray) -> list[np.ndarray]:
        """The inputs of the network, one or more images: (h, w, c) → (h, w, n_given) each."""
        colour = image[..., : self.n_colour]
        if self.way == "repeated":
            return [np.repeat(colour, 3, axis=2)]
        if self.way == "each":
            return [colour[..., [channel]] for channel in range(self.n_colour)]
        if self.way == "grey":
            grey = colour.astype(np.float32) @ LUMA
            kept = grey if image.dtype.kind == "f" else np.rint(grey)
            return [kept.astype(image.dtype)[..., None]]
        return [colour]

    def leave(self, restored: Sequence[np.ndarray]) -> np.ndarray:
        """The restored image, without alpha: (h, w, c')."""
        if self.way == "each":
            return np.concatenate(restored, axis=2)
        return restored[0].mean(axis=2, keepdims=True, dtype=np.float32) if self.to_grey else restored[0]
