"""The training objective of restoration: from a damaged crop to the clean one."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.choices import Plain, UNet
from isthmus.choices.corruptions import Corruption
from isthmus.choices.losses import Loss
from isthmus.choices.registry import Context
from isthmus.choices.unet import PictureNetwork, reflected
from isthmus.training import Choices, Objective


class Enlarging(nn.Module):
    """A network for images of any size, (n, c, h, w), whose input is first enlarged by bicubic interpolation.

    The network then works at the size of its output. Since it shuffles its input to half that size, an enlargement by
    two costs as much as convolutions at the size of the input.

    Parameters
    ----------
    network
        Keeps the size of its input.
    scale
        The enlargement, >= 1.
    """

    def __init__(self, network: PictureNetwork, scale: int) -> None:
        super().__init__()
        self.network, self.scale = network, scale

    def forward(self, x: Tensor) -> Tensor:
        restored: Tensor
        if self.scale == 1:
            restored = self.network(x)
            return restored
        height, width = (self.scale * length for length in x.shape[2:])
        padded = reflected(x, self.network.stride)  # padded before it is enlarged, so that tiles agree at the edges too
        large = functional.interpolate(padded, scale_factor=float(self.scale), mode="bicubic", align_corners=False)
        restored = self.network(large)
        return restored[:, :, :height, :width]


class _OfRows(nn.Module):
    """A network for images as a network for flat rows, (n, h · w · c) → (n, h' · w' · c')."""

    def __init__(self, pictures: Enlarging, side: int) -> None:
        super().__init__()
        self.pictures, self.side = pictures, side

    def forward(self, x: Tensor) -> Tensor:
        picture = x.view(len(x), self.side, self.side, -1).movedim(-1, 1)
        restored: Tensor = self.pictures(picture)
        return restored.movedim(1, -1).flatten(1)


class Restoring(Objective):
    """Restores square crops; the trained network restores images of any size.

    ::

        clean crop ─▶ damage ─▶ UNet with skips ─▶ restored crop ◀── loss ──▶ clean crop

    The restored crop is the code, because skip connections bypass deeper layers; the decoder is the identity.

    A row of a batch is a clean crop, which the corruption damages, or with `paired` a damaged crop and its target.

    Parameters
    ----------
    network
        The `UNet`.
    loss
        Of restored pixels.
    corruption
        The damage; None for pairs.
    side
        Height and width of a crop.
    n_given, n_wanted
        Channels before and after.
    scale
        The enlargement.
    residual
        Whether the network learns the difference from its input.
    paired
        Whether a row holds its target.
    generator
        Of the initial weights.
    """

    def __init__(
        self,
        network: UNet,
        loss: Loss,
        corruption: Corruption | None,
        *,
        side: int,
        n_given: int,
        n_wanted: int,
        scale: int = 1,
        residual: bool = True,
        paired: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        shape = (scale * side, scale * side, n_wanted)
        context = Context(shape, shape[0] * shape[1] * n_wanted, 0.0, 1.0)
        picture_network = network.picture_network(n_given, n_wanted, residual=residual, generator=generator)
        pictures = Enlarging(picture_network, scale)
        choices = Choices(network, Plain(), loss.resolve(context), corruption and corruption.resolve(context))
        super().__init__(choices, context, networks=(_OfRows(pictures, side), nn.Identity()))
        self.n_given, self.paired = side * side * n_given, paired

    @property
    def pictures(self) -> Enlarging:
        """The network for images of any size."""
        pictures = self.encoder.pictures
        assert isinstance(pictures, Enlarging)
        return pictures

    @property
    def row_width(self) -> int:
        return self.n_given + self.context.n_features if self.paired else self.context.n_features

    def given_and_target(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x[:, : self.n_given], x[:, self.n_given :]) if self.paired else (x, x)
