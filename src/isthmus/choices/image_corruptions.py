"""Corruptions of images: holes, blur, low resolution, lost colour, and compression."""

from __future__ import annotations

import functools
import io
import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from isthmus.choices.corruptions import CORRUPTIONS, Corruption, per_row
from isthmus.choices.registry import Context
from isthmus.choices.rules import Number, OneOf, Rule, Sizes, Span, Whole, either
from isthmus.wording import counted

MOST_CHANNELS = 4
"""Most channels of ordinary images; rows with a longer last axis are images only if `image_shape` says so."""


IMAGE_RULES: Mapping[str, Rule] = {"image_shape": either(Sizes(), OneOf((None,)))}


class Size(NamedTuple):
    """Height, width and number of channels of an image."""

    height: int
    width: int
    channels: int


@dataclass(eq=False, repr=False, kw_only=True)
class ImageCorruption(Corruption):
    """Base class of corruptions of images, (n, h, w) or (n, h, w, c), or of flat rows that hold them.

    A subclass implements `damage` for images with channels first, (n, c, h, w); the result has the shape of the rows.

    Parameters
    ----------
    image_shape
        Shape of the image in a row, (h, w) or (h, w, c); None: that of the row. Flat rows need it.
    """

    image_shape: tuple[int, ...] | None = None

    rules: ClassVar[Mapping[str, Rule]] = IMAGE_RULES

    @property
    def reads_images(self) -> bool:
        return True

    def mistakes(self, context: Context | None = None) -> list[str]:
        found = super().mistakes(context)
        if found or context is None:
            return found
        problem = self._misreading(context.feature_shape)
        return [f"{type(self).__name__}: {problem}"] if problem else self._misfits(self._size(context.feature_shape))

    def _misfits(self, size: Size) -> list[str]:
        """Hook for subclasses: reasons why images of this size cannot be corrupted, one sentence each."""
        return []

    def damage(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        """Damaged copies of images, (n, c, h, w)."""
        raise NotImplementedError

    def corrupt(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        shape = tuple(x.shape[1:])
        problem = self._misreading(shape)
        misfits = [f"{type(self).__name__}: {problem}"] if problem else self._misfits(self._size(shape))
        if misfits:
            raise ValueError(misfits[0])
        images = x.reshape(len(x), *self._size(shape)).movedim(-1, 1)
        return self.damage(images, generator).movedim(1, -1).reshape(x.shape)

    def _size(self, shape: tuple[int, ...]) -> Size:
        height, width, *channels = shape if self.image_shape is None else self.image_shape
        return Size(height, width, math.prod(channels))

    def _misreading(self, shape: tuple[int, ...]) -> str:
        """Why rows of a shape cannot be read as images, or ""."""
        if self.image_shape is not None:
            if len(self.image_shape) in (2, 3) and math.prod(self.image_shape) == math.prod(shape):
                return ""
            return (
                f"image_shape={tuple(self.image_shape)} must be (height, width) or (height, width, channels) with "
                f"{math.prod(shape)} values, as many as a row of shape {shape} has."
            )
        if len(shape) == 1:
            side = math.isqrt(shape[0])
            example = (side, side) if side * side == shape[0] else "(height, width)"
            return (
                f"damages images, but rows are flat, of {shape[0]} values; give image_shape={example}, with channels "
                "(height, width, channels), or reshape X to images."
            )
        if len(shape) == 2 or (len(shape) == 3 and shape[-1] <= MOST_CHANNELS):
            return ""
        if len(shape) != 3:
            return (
                f"damages images (h, w) or (h, w, c), but rows have the shape {shape}; use a corruption of single "
                "values, "
                "such as Masking."
            )
        return (
            f"rows of shape {shape} would be read as images of {shape[0]}×{shape[1]} with {shape[2]} channels; if "
            f"channels go first, give X.transpose(0, 2, 3, 1), and if the reading is right, image_shape={shape}."
        )


def draws(images: Tensor, *shape: int, generator: torch.Generator | None) -> Tensor:
    """Uniform draws from [0, 1) for each image, (n, *shape)."""
    return torch.rand((len(images), *shape), generator=generator, device=images.device, dtype=images.dtype)


def whole_numbers(span: Any, draw: Tensor) -> Tensor:
    """Whole numbers, each equally likely, from a range (low, high) by uniform draws; a number for a number.

    >>> whole_numbers((2, 4), torch.tensor([0.0, 0.4, 0.99]))
    tensor([2, 3, 4])
    """
    low, high = span if isinstance(span, list | tuple) else (span, span)
    return (int(low) + (draw * (int(high) - int(low) + 1)).floor().long()).clamp(max=int(high))


def highest(span: Any) -> float:
    """The upper end of a number or a range."""
    return float(max(span)) if isinstance(span, list | tuple) else float(span)


@CORRUPTIONS.register("block-mask", "holes")
@dataclass(eq=False, repr=False)
class BlockMask(ImageCorruption):
    """Hides rectangles of an image, all channels of a pixel together, until a share of its area is hidden.

    Blocks may exceed the border, so that pixels at the border are hidden as often as others (more often by blocks as
    large as half an image). The number of blocks is drawn from the two numbers that hide just less and just more than
    the share, so that its mean is exact. A block that is larger than the share is therefore placed in some images only.

    Parameters
    ----------
    fraction
        Expected share of the pixels that is hidden, in [0, 0.95].
    size
        Height and width of a block in pixels, each drawn from a range (low, high), or one number for both.
        ``"auto"``: from an eighth to a third of the shorter side.
    value
        The value of hidden pixels, in units of the scaled data: 0 is black for pixels in [0, 1], and the mean for
        standardised data.
    image_shape
        Shape of the image in a row, (h, w) or (h, w, c); None: that of the row. Flat rows need it.

    Examples
    --------
    >>> hidden = BlockMask(0.25, 8).corrupt(torch.ones(200, 16, 16), torch.Generator().manual_seed(0)) == 0
    >>> bool(abs(hidden.float().mean() - 0.25) < 0.03)
    True
    """

    fraction: float = 0.25
    size: int | tuple[int, int] | str = "auto"
    _: KW_ONLY
    value: float = 0.0

    rules: ClassVar[Mapping[str, Rule]] = {
        **IMAGE_RULES,
        "fraction": Number(0.0, 0.95),
        "size": either(Span(Whole(1)), OneOf(("auto",))),
        "value": Number(),
    }
    most_blocks: ClassVar[int] = 1_000

    def _misfits(self, size: Size) -> list[str]:
        (low, high), pixels = self._sides(size), f"{size.height}×{size.width}"
        if high > min(size.height, size.width):
            return [f"BlockMask: size={self.size} is larger than the images of {pixels}; give blocks that fit in them."]
        count = self._count(size)
        if count > self.most_blocks:
            given = f"hiding {self.fraction:.0%} of {pixels} pixels by blocks of {low} to {high} takes {count:,}"
            return [f"BlockMask: {given}, but at most {self.most_blocks:,} are placed; use larger blocks, or Masking."]
        return []

    def _sides(self, size: Size) -> tuple[int, int]:
        if self.size != "auto":
            low, high = self.size if isinstance(self.size, list | tuple) else (self.size, self.size)
            return int(low), int(high)
        shorter = min(size.height, size.width)
        return max(1, shorter // 8), max(1, shorter // 3)

    def _count(self, size: Size) -> int:
        """The number of placed blocks: enough to reach the share, with a margin for overlaps."""
        side = sum(self._sides(size)) / 2
        share = side * side / ((size.height + side - 1) * (size.width + side - 1))  # area of one block
        return math.ceil(2.0 * math.log1p(-self.fraction) / math.log1p(-share)) + 6 if share < 1.0 else 1

    def damage(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        _, channels, height, width = images.shape
        size = Size(height, width, channels)
        n_blocks, sides = self._count(size), self._sides(size)
        draw = draws(images, 4, n_blocks, generator=generator)
        rows = _intervals(height, whole_numbers(sides, draw[:, 0]), draw[:, 1])  # (n, blocks, h)
        columns = _intervals(width, whole_numbers(sides, draw[:, 2]), draw[:, 3])
        # (n, h, w): the first block that hides a pixel
        first = torch.full((len(images), height, width), n_blocks, device=images.device)
        for k in reversed(range(n_blocks)):
            first = torch.where(rows[:, k, :, None] & columns[:, k, None, :], k, first)
        number = self._number(first.flatten(1), n_blocks, draws(images, generator=generator))
        return torch.where((first < number[:, None, None])[:, None], self.value, images)

    def _number(self, first: Tensor, n_blocks: int, draw: Tensor) -> Tensor:
        """The number of blocks of each image: (n, pixels), (n,) → (n,)."""
        counts = torch.zeros(len(first), n_blocks + 1, dtype=torch.long, device=first.device)
        counts.scatter_add_(1, first, torch.ones_like(first))
        shares = functional.pad(counts[:, :-1].cumsum(1).to(draw) / first.shape[1], (1, 0))  # (n, blocks + 1)
        enough = shares >= self.fraction
        number = torch.where(enough.any(1), enough.int().argmax(1), n_blocks)
        upper, lower = (shares.gather(1, place.clamp(min=0)[:, None])[:, 0] for place in (number, number - 1))
        chance = ((self.fraction - lower) / (upper - lower).clamp(min=1e-9)).clamp(0.0, 1.0)
        return torch.where(draw < chance, number, (number - 1).clamp(min=0))


def _intervals(length: int, sides: Tensor, places: Tensor) -> Tensor:
    """Which positions lie in intervals of these lengths at random places, cut by the ends: (n, k) → (n, k, length)."""
    starts = (places * (length + sides - 1)).floor().long() - sides + 1
    position = torch.arange(length, device=sides.device)
    return (position >= starts[..., None]) & (position < (starts + sides)[..., None])


@CORRUPTIONS.register("blur")
@dataclass(eq=False, repr=False)
class Blur(ImageCorruption):
    """Blurs each channel with a Gaussian kernel, as `scipy.ndimage.gaussian_filter` with ``mode="nearest"``.

    Beyond the border the outermost pixels are repeated, so that a constant image does not change. Values stay within
    the range of the image.

    Parameters
    ----------
    sigma
        Standard deviation of the kernel in pixels, >= 0. A range (low, high): the value of each row is drawn uniformly.
    image_shape
        Shape of the image in a row, (h, w) or (h, w, c); None: that of the row. Flat rows need it.

    Examples
    --------
    >>> Blur(1.0).corrupt(torch.eye(3)[None] * 0 + 0.5, None).unique()
    tensor([0.5000])
    """

    sigma: float | tuple[float, float] = 1.0

    rules: ClassVar[Mapping[str, Rule]] = {**IMAGE_RULES, "sigma": Span(Number(0.0))}
    truncate: ClassVar[float] = 4.0
    """Standard deviations after which the kernel ends."""

    def damage(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        reach = int(self.truncate * highest(self.sigma) + 0.5)
        offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
        sigma = per_row(self.sigma, images, generator).clamp(min=1e-6).flatten(1)  # (n, 1)
        kernel = torch.exp(-0.5 * (offsets / sigma).square())  # (n, 2 · reach + 1)
        weights = (kernel / kernel.sum(1, keepdim=True))[..., None, None, None].unbind(1)
        blurred = functional.pad(images, (reach,) * 4, mode="replicate")
        for axis in (2, 3):  # one axis after the other: the kernel is a product
            length = images.shape[axis]
            parts = (weight * blurred.narrow(axis, k, length) for k, weight in enumerate(weights))
            blurred = functools.reduce(torch.add, parts)
        return blurred


@CORRUPTIONS.register("downsample")
@dataclass(eq=False, repr=False)
class Downsample(ImageCorruption):
    """Replaces blocks of pixels by their mean: lower resolution at the same size.

    Blocks start at the upper left corner; those at the right and bottom border may be smaller, and are means of their
    pixels.

    Parameters
    ----------
    factor
        Height and width of a block in pixels, >= 1. A range (low, high): each row has one of its own.
    upsampling
        How the small image is enlarged to its former size: ``"nearest"``, blocks of one value, or ``"bicubic"``,
        clipped to the range of the small image.
    image_shape
        Shape of the image in a row, (h, w) or (h, w, c); None: that of the row. Flat rows need it.

    Examples
    --------
    >>> Downsample(2).corrupt(torch.tensor([[[0.0, 1.0, 4.0], [2.0, 1.0, 6.0]]]), None)
    tensor([[[1., 1., 5.],
             [1., 1., 5.]]])
    """

    factor: int | tuple[int, int] = 2
    _: KW_ONLY
    upsampling: str = "nearest"

    rules: ClassVar[Mapping[str, Rule]] = {
        **IMAGE_RULES,
        "factor": Span(Whole(1)),
        "upsampling": OneOf(("nearest", "bicubic")),
    }

    def _misfits(self, size: Size) -> list[str]:
        if highest(self.factor) <= min(size.height, size.width):
            return []
        pixels = f"{size.height}×{size.width}"
        return [f"Downsample: factor={self.factor} is larger than the images of {pixels}; give a smaller one."]

    def damage(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        if not isinstance(self.factor, list | tuple):
            return self._by(images, int(self.factor))
        factors = whole_numbers(self.factor, draws(images, 1, 1, 1, generator=generator))
        low, high = map(int, self.factor)
        damaged = images
        for factor in range(low, high + 1):
            damaged = torch.where(factors == factor, self._by(images, factor), damaged)
        return damaged

    def _by(self, images: Tensor, factor: int) -> Tensor:
        height, width = images.shape[2:]
        small = functional.avg_pool2d(images, factor, ceil_mode=True, count_include_pad=False)
        if self.upsampling == "nearest":
            large = small.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        else:
            ends = small.amin((2, 3), keepdim=True), small.amax((2, 3), keepdim=True)
            large = functional.interpolate(small, scale_factor=factor, mode="bicubic").clamp(*ends)
        return large[:, :, :height, :width]


LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue (ITU-R BT.601), those of Pillow's grey images."""


@CORRUPTIONS.register("grayscale", "greyscale", "grey", "gray")
@dataclass(eq=False, repr=False)
class Grayscale(ImageCorruption):
    """Removes colour: red, green and blue all become ``0.299 R + 0.587 G + 0.114 B`` (ITU-R BT.601).

    Rows keep their shape, so images need three channels, or four: the fourth (transparency) is not changed. To pass one
    channel to the network instead, train on pairs: ``fit(grey, target=colour)``. All pixels must have the same scaling,
    so the data must not be standardised.

    Parameters
    ----------
    image_shape
        Shape of the image in a row, (h, w, c); None: that of the row. Flat rows need it.

    Examples
    --------
    >>> Grayscale().corrupt(torch.tensor([[[[1.0, 0.0, 0.0], [1.0, 1.0, 1.0]]]]), None)
    tensor([[[[0.2990, 0.2990, 0.2990],
              [1.0000, 1.0000, 1.0000]]]])
    """

    def mistakes(self, context: Context | None = None) -> list[str]:
        return super().mistakes(context) or self.needs(context, lambda facts: facts.lower >= 0.0, "be >= 0")

    def _misfits(self, size: Size) -> list[str]:
        if size.channels in (3, 4):
            return []
        got = f"images have {counted(size.channels, 'channel')}, but red, green and blue are needed"
        return [f"Grayscale: {got}; use another corruption, or train on grey images with fit(grey, target=colour)."]

    def damage(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        grey = (images[:, :3] * images.new_tensor(LUMA)[:, None, None]).sum(1, keepdim=True)
        return torch.cat([grey.expand(-1, 3, -1, -1), images[:, 3:]], dim=1)


@CORRUPTIONS.register("jpeg")
@dataclass(eq=False, repr=False)
class JPEG(ImageCorruption):
    """Compresses each image as JPEG and decodes it again, by Pillow.

    Pillow processes bytes on the CPU, one image after the other, for any device: values are clipped to [0, 1] and
    rounded to 255 steps.

    Parameters
    ----------
    quality
        1 to 95, as in Pillow; small values damage more. A range (low, high): each row has one of its own.
    image_shape
        Shape of the image in a row, (h, w) or (h, w, c); None: that of the row. Flat rows need it.

    Examples
    --------
    >>> coded = JPEG(50).corrupt(torch.full((1, 8, 8), 0.25), None) * 255
    >>> coded.unique()
    tensor([64.])
    """

    quality: int | tuple[int, int] = (10, 50)

    rules: ClassVar[Mapping[str, Rule]] = {**IMAGE_RULES, "quality": Span(Whole(1, 95))}

    @property
    def works_on_host(self) -> bool:
        return True

    def mistakes(self, context: Context | None = None) -> list[str]:
        return super().mistakes(context) or self.needs(context, lambda facts: facts.in_unit_interval, "lie in [0, 1]")

    def _misfits(self, size: Size) -> list[str]:
        if size.channels in (1, 3):
            return []
        return [f"JPEG: images have {size.channels} channels, but JPEG codes 1 or 3; leave the others out of X."]

    def damage(self, images: Tensor, generator: torch.Generator | None) -> Tensor:
        draw = (
            draws(images, generator=generator)
            if isinstance(self.quality, list | tuple)
            else images.new_zeros(len(images))
        )
        qualities = whole_numbers(self.quality, draw).tolist()
        pixels = (images.clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
        coded = np.stack([_recoded(image, quality) for image, quality in zip(pixels, qualities, strict=True)])
        return torch.from_numpy(coded).to(images).movedim(-1, 1) / 255.0


def _recoded(image: np.ndarray, quality: int) -> np.ndarray:
    """An image of bytes, (h, w, c), after JPEG."""
    from PIL import Image  # noqa: PLC0415  # loaded where images are coded

    buffer = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer)).reshape(image.shape)
