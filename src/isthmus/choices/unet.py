"""A convolutional encoder–decoder for restoring images, whose results for tiles equal those for the whole image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from isthmus.choices.convolutional import Convolutional
from isthmus.choices.layers import INITIALIZATIONS, Frame, Layers, Residual, ToPicture, ToRow, blank
from isthmus.choices.networks import NETWORKS, Network, Pair, activation_rule
from isthmus.choices.registry import Context
from isthmus.choices.rules import OneOf, Rule, Sizes, Whole, either


@NETWORKS.register("unet")
@dataclass(eq=False, repr=False)
class UNet(Network):
    """Residual blocks at several resolutions, with skip connections from encoder to decoder (Ronneberger et al. 2015).

    ::

        x ─▶ shuffle ─▶ blocks ─────────────── skip ───────────────▶ + ─▶ blocks ─▶ shuffle back ─▶ x^
                          └─ half size ─▶ blocks ─▶ h ─▶ z ─▶ blocks ─▶ twice the size ─┘

    With ``shuffle=2`` each cell of 2×2 pixels first becomes one pixel with four times the channels
    (`torch.nn.PixelUnshuffle`). A convolution then costs a quarter and has twice the receptive radius. No layer
    normalises over an image or a batch, so an output pixel depends only on the pixels within `receptive_radius`.

    Skip connections bypass the code: a model with them restores images well, but its code contains little information.
    An autoencoder, whose code represents the image, has none; a `Restorer` has them.

    Parameters
    ----------
    channels
        Channels of each level, from the largest size to the smallest; each level has half the size of the previous one.
    n_blocks
        Residual blocks of two convolutions (He et al. 2016, eq. 1) at each level, before and after the code, >= 0.
    shuffle
        Side of the cells of pixels that become channels: 1 (no change), 2 or 4. For fine damage, as on scanned text, 1
        restores best for the same computing time.
    kernel_size
        Width of the convolutions, odd.
    activation
        Within the blocks; None for a linear network.
    skips
        Whether the encoder's features of each level are added to those of the decoder. ``"auto"``: in a `Restorer`.
    image_shape
        The shape of the image in a flat row, such as ``(28, 28)`` or ``(32, 32, 3)``.
    initialization
        As for `Dense`.

    Examples
    --------
    >>> encoder, decoder = UNet((4, 8)).build(Context((9, 7, 3), 5), code_width=5, output_width=9 * 7 * 3)
    >>> decoder(encoder(torch.zeros(2, 9 * 7 * 3))).shape
    torch.Size([2, 189])
    >>> network = UNet((4, 8), skips=True)
    >>> network.picture_network(1, 3)(torch.zeros(2, 1, 9, 7)).shape  # grey in, colour out, any size
    torch.Size([2, 3, 9, 7])
    >>> network.stride, network.receptive_radius
    (2, 15)
    """

    channels: tuple[int, ...] = (16, 24, 32, 48)
    _: KW_ONLY
    n_blocks: int = 1
    shuffle: int = 1
    kernel_size: int = 3
    activation: str | None = "relu"
    skips: bool | str = "auto"
    image_shape: tuple[int, ...] | None = None
    initialization: str = "he-uniform"

    rules: ClassVar[Mapping[str, Rule]] = {
        "channels": Sizes(),
        "n_blocks": Whole(0),
        "shuffle": OneOf((1, 2, 4)),
        "kernel_size": Whole(1),
        "activation": activation_rule(),
        "skips": OneOf(("auto", True, False)),
        "image_shape": either(Sizes(), OneOf((None,))),
        "initialization": OneOf(tuple(INITIALIZATIONS)),
    }

    def mistakes(self, context: Context | None = None) -> list[str]:
        found = super().mistakes(context)
        if not found and self.kernel_size % 2 == 0:
            found.append(f"UNet: kernel_size={self.kernel_size} must be odd, so that the kernel has a centre.")
        if not found and not self.channels:
            found.append("UNet: channels=() must have at least one entry, such as (16, 24, 32, 48).")
        if found or context is None:
            return found
        if self.skips is True:
            return [
                "UNet: skips=True bypasses the code, which must represent the image; use skips=False, or a Restorer."
            ]
        return [text.replace("Convolutional", "UNet") for text in self._reader.mistakes(context)]

    def conflicts(self, context: Context, *, code_width: int, output_width: int) -> list[str]:
        conflicts = self._reader.conflicts(context, code_width=code_width, output_width=output_width)
        return [text.replace("Convolutional", "UNet") for text in conflicts]

    def resolve(self, context: Context) -> UNet:
        return self._with(skips=False) if self.skips == "auto" else self

    def row_shape(self, feature_shape: tuple[int, ...]) -> tuple[int, ...]:
        return self._reader.row_shape(feature_shape)

    @property
    def _reader(self) -> Convolutional:
        """The network with the image layout of the data."""
        n_levels = int(math.log2(self.stride))
        return Convolutional((1,) * max(1, n_levels), dimensions=2, image_shape=self.image_shape)

    @property
    def stride(self) -> int:
        """Side in pixels of the area that one position of the smallest level represents."""
        return int(int(self.shuffle) * 2 ** (len(self.channels) - 1))

    @property
    def receptive_radius(self) -> int:
        """The largest distance, in pixels along one axis, between an input pixel and an output pixel that depends on
        it.

        Each convolution adds half its kernel times the scale of its level: four for each block, before and after the
        code, and one at each end. Gathering pixels into cells adds up to `stride` - 1 more.
        """
        half = int(self.kernel_size) // 2
        scales: list[int] = [int(self.shuffle) * 2**level for level in range(len(self.channels))]
        convolutions = 4 * int(self.n_blocks) * sum(scales) + 2 * scales[0]
        return half * convolutions + self.stride - 1

    def picture_network(
        self, n_given: int, n_wanted: int, *, residual: bool = True, generator: torch.Generator | None = None
    ) -> PictureNetwork:
        """The network for images of any size, channels first; see `PictureNetwork`."""
        return PictureNetwork(self, n_given, n_wanted, residual, generator)

    def build(
        self, context: Context, *, code_width: int, output_width: int, generator: torch.Generator | None = None
    ) -> Pair:
        frame, taking = self._frame(context), self._output_frame(context)
        last, n_wanted = int(self.channels[-1]), taking.n_channels * (output_width // context.output.n_features)
        layers = self._layers(generator)
        given, taken = layers.dense_heads(last, frame, code_width, context.code_size, (), taking=taking)
        down, up = Contracting(self, frame.n_channels + frame.n_conditions, layers), Expanding(self, n_wanted, layers)
        return nn.Sequential(ToPicture(frame), down, *given), nn.Sequential(*taken, up, ToRow(taking))

    def _frame(self, context: Context) -> Frame:
        """How rows are read as images: by the channels last, padded with zeros to a multiple of `stride`."""
        shape = self.row_shape(context.feature_shape)
        return Frame(shape[:2], math.prod(shape[2:]), int(math.log2(self.stride)), context.n_conditions)

    def _output_frame(self, context: Context) -> Frame:
        """The frame of the decoder: that of the target, which may have another size and other channels."""
        shape = self._reader.output_row_shape(context)
        return replace(self._frame(context), size=shape[:2], n_channels=math.prod(shape[2:]))

    def _layers(self, generator: torch.Generator | None) -> Layers:
        return Layers(
            2, int(self.kernel_size), self.activation, "strided", "transposed", int(self.n_blocks),
            self.initialization, generator,
        )  # fmt: skip


class Contracting(nn.Module):
    """From an image, (n, c, h, w), to the features of the smallest level, (n, channels[-1], h / stride, w / stride)."""

    def __init__(self, network: UNet, n_given: int, layers: Layers) -> None:
        super().__init__()
        widths, shuffle = [int(width) for width in network.channels], int(network.shuffle)
        self.shuffle = nn.PixelUnshuffle(shuffle)
        self.stem = layers.convolution(n_given * shuffle**2, widths[0])[0]
        self.levels = nn.ModuleList(_blocks(layers, width, int(network.n_blocks)) for width in widths)
        self.halvings = nn.ModuleList(layers.fresh(blank(nn.Conv2d, *pair, 2, stride=2)) for pair in pairwise(widths))

    def features(self, x: Tensor) -> list[Tensor]:
        """The features of every level, the largest first."""
        found = [self.levels[0](self.stem(self.shuffle(x)))]
        for halving, blocks in zip(self.halvings, self.levels[1:], strict=True):
            found.append(blocks(halving(found[-1])))
        return found

    def forward(self, x: Tensor) -> Tensor:
        return self.features(x)[-1]


class Expanding(nn.Module):
    """The inverse path of `Contracting`: from the features of the smallest level to an image."""

    def __init__(self, network: UNet, n_wanted: int, layers: Layers) -> None:
        super().__init__()
        widths, shuffle = [int(width) for width in network.channels[::-1]], int(network.shuffle)
        doubled = [layers.fresh(blank(nn.ConvTranspose2d, *pair, 2, stride=2)) for pair in pairwise(widths)]
        self.levels = nn.ModuleList(_blocks(layers, width, int(network.n_blocks)) for width in widths)
        self.doublings = nn.ModuleList(doubled)
        self.last = layers.convolution(widths[-1], n_wanted * shuffle**2)[0]
        self.shuffle = nn.PixelShuffle(shuffle)

    def forward(self, x: Tensor, skips: Sequence[Tensor] = ()) -> Tensor:
        """Features of the smallest level, and those of the others, the largest first, if they are to be added."""
        x = self.levels[0](x)
        for place, (doubling, blocks) in enumerate(zip(self.doublings, self.levels[1:], strict=True), start=1):
            x = doubling(x)
            x = blocks(x + skips[-place]) if skips else blocks(x)
        picture: Tensor = self.shuffle(self.last(x))
        return picture


def _blocks(layers: Layers, width: int, n_blocks: int) -> nn.Sequential:
    """Residual blocks with the activation before each convolution (He et al. 2016b), initialised as the identity.

    The last convolution of each block starts at zero. Otherwise each block would double the variance, because there is
    no normalisation, and training diverged at learning rates that work with it (cf. Zhang et al. 2019, Fixup).
    """
    blocks = []
    for _ in range(n_blocks):
        (first, *act), (last, *_) = layers.convolution(width, width), layers.convolution(width, width)
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]  # a convolution has one
        blocks.append(Residual(*act, first, *act, last))
    return nn.Sequential(*blocks)


class PictureNetwork(nn.Module):
    """A `UNet` without a code of fixed size: images of any height and width, (n, c, h, w) → (n, c', h, w).

    Sizes are padded to a multiple of ``network.stride`` by reflection, and the output is cropped. With a residual
    output the network learns the difference between the wanted image and the given one, whose channels are averaged
    or repeated where their numbers differ.

    Examples
    --------
    >>> network = UNet((4,), skips=True).picture_network(1, 1)
    >>> network(torch.zeros(2, 1, 5, 1)).shape
    torch.Size([2, 1, 5, 1])
    """

    def __init__(
        self, network: UNet, n_given: int, n_wanted: int, residual: bool, generator: torch.Generator | None
    ) -> None:
        super().__init__()
        layers = network._layers(generator)  # noqa: SLF001  # two halves of one member
        self.contracting, self.expanding = Contracting(network, n_given, layers), Expanding(network, n_wanted, layers)
        self.stride, self.skips, self.residual, self.n_wanted = network.stride, bool(network.skips), residual, n_wanted
        if residual:  # training starts at the input itself
            nn.init.zeros_(self.expanding.last.weight)  # type: ignore[arg-type]  # a convolution has one

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        padded = reflected(x, self.stride).contiguous(memory_format=torch.channels_last)  # the fast path of oneDNN
        *skips, smallest = self.contracting.features(padded)
        change: Tensor = self.expanding(smallest, skips if self.skips else ())[:, :, :height, :width]
        return x_like(x, self.n_wanted) + change if self.residual else change


def x_like(x: Tensor, n_channels: int) -> Tensor:
    """An image of another number of channels: as it is, or its mean channel repeated."""
    return x if x.shape[1] == n_channels else x.mean(1, keepdim=True).expand(-1, n_channels, -1, -1)


def reflected(x: Tensor, multiple: int) -> Tensor:
    """Images padded at the bottom and at the right to multiples of a size, by reflection without the edge.

    Rows and columns are always gathered, also without padding, so that one exported graph works for all sizes.
    """
    height, width = ((length + multiple - 1) // multiple * multiple for length in x.shape[2:])
    rows, columns = reflection(x.shape[2], height, multiple), reflection(x.shape[3], width, multiple)
    return x.index_select(2, rows.to(x.device)).index_select(3, columns.to(x.device))


def reflection(length: int, longer: int, most: int) -> Tensor:
    """Which pixels stand along a reflected axis: those of the image, then back from its end, and so on.

    Parameters
    ----------
    length, longer
        Length of the axis before and after.
    most
        More than the number of pixels that are added.

    Examples
    --------
    >>> reflection(3, 8, 6).tolist(), reflection(1, 3, 8).tolist()
    ([0, 1, 2, 1, 0, 1, 2, 1], [0, 0, 0])
    """
    last, place = length - 1, torch.arange(longer)
    for _ in range(most // 2 + 1):  # each turn folds at both ends; ONNX has no remainder by a size
        place = (last - (place - last).abs()).abs()
    return place.clamp(max=last)
