"""Building blocks of networks: activations, initial weights, and the layers between flat rows and images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.choices import formulas
from isthmus.choices.formulas import Formula, Numbers, key_of


@dataclass(frozen=True)
class Activation(Formula):
    """An elementwise function between layers.

    Parameters
    ----------
    name
        The registered name.
    kind
        The torch layer that computes the same function with its own kernel; None: an `Elementwise` layer.
    """

    name: str = ""
    kind: type[nn.Module] | None = field(default=None, compare=False)

    def __call__(self) -> nn.Module:
        """A layer."""
        return Elementwise(self) if self.kind is None else self.kind()

    @cached_property
    def settings(self) -> dict[str, object]:
        """The settings of its torch layer."""
        return _settings(self())


class Elementwise(nn.Module):
    """The layer of an activation that torch does not have."""

    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.activation.function(x)
        return y

    def extra_repr(self) -> str:
        return self.activation.name


class Activations(dict[str, Activation]):
    """The activations by name.

    Examples
    --------
    >>> known = Activations()
    >>> @known.register("squared-relu")
    ... def squared_relu(x):
    ...     return formulas.square(formulas.positive_part(x))
    >>> known["squared-relu"]()(torch.tensor([-1.0, 3.0]))
    tensor([0., 9.])
    """

    def register(
        self, name: str, kind: type[nn.Module] | None = None
    ) -> Callable[[Callable[[Numbers], Numbers]], Callable[[Numbers], Numbers]]:
        """Decorator: register a formula under a name."""

        def add(function: Callable[[Numbers], Numbers]) -> Callable[[Numbers], Numbers]:
            if name in self:
                raise ValueError(f"The activation name {name!r} is taken; use another.")
            self[name] = Activation(key_of(function), function, name, kind)
            return function

        return add


ACTIVATIONS = Activations()
ACTIVATIONS.register("relu", nn.ReLU)(formulas.positive_part)
ACTIVATIONS.register("sigmoid", nn.Sigmoid)(formulas.sigmoid)
ACTIVATIONS.register("softplus", nn.Softplus)(formulas.softplus)
ACTIVATIONS.register("tanh", nn.Tanh)(formulas.tanh)


@ACTIVATIONS.register("gelu", nn.GELU)
def _gelu(x: Numbers) -> Numbers:
    return x * formulas.normal_cdf(x)


@ACTIVATIONS.register("silu", nn.SiLU)
def _silu(x: Numbers) -> Numbers:
    return x * formulas.sigmoid(x)


@ACTIVATIONS.register("leaky-relu", nn.LeakyReLU)
def _leaky_relu(x: Numbers) -> Numbers:
    return formulas.where(x > 0.0, x, x * 0.01)


@ACTIVATIONS.register("elu", nn.ELU)
def _elu(x: Numbers) -> Numbers:
    return formulas.where(x > 0.0, x, formulas.exp(formulas.minimum(x, 0.0)) - 1.0)


@ACTIVATIONS.register("selu", nn.SELU)
def _selu(x: Numbers) -> Numbers:
    """Klambauer et al. 2017, eq. 2."""
    scale, alpha = 1.0507009873554805, 1.6732632423543772
    return formulas.where(x > 0.0, x * scale, (formulas.exp(formulas.minimum(x, 0.0)) - 1.0) * (scale * alpha))


IDENTITY = Activation(None, lambda x: x, "identity", nn.Identity)
"""No activation."""


def activation_of(layer: nn.Module) -> Activation | None:
    """The activation that a layer computes; None for other layers and for non-default settings."""
    if isinstance(layer, Elementwise):
        return layer.activation
    for known in ACTIVATIONS.values():
        if known.kind is type(layer) and _settings(layer) == known.settings:
            return known
    return None


def activation_name(layer: nn.Module) -> str | None:
    """The name of an activation layer, with any settings; None for other layers."""
    if isinstance(layer, Elementwise):
        return layer.activation.name
    return next((name for name, known in ACTIVATIONS.items() if known.kind is type(layer)), None)


def _settings(layer: nn.Module) -> dict[str, object]:
    """The settings of a layer, without `inplace`, which does not change the result."""
    return {
        name: value for name, value in vars(layer).items() if name not in {"training", "inplace"} and name[0] != "_"
    }


INITIALIZATIONS: dict[str, Callable[..., Tensor]] = {
    "glorot-uniform": nn.init.xavier_uniform_,
    "he-uniform": nn.init.kaiming_uniform_,
    "orthogonal": nn.init.orthogonal_,
}


def blank(kind: Callable[..., nn.Module], *arguments: Any, **named: Any) -> nn.Module:
    """A layer with uninitialized parameters; torch's global generator is not used.

    Replaces ``nn.utils.skip_init``, which imports sympy on the first fit of a process. The device is passed as an
    argument, because the context manager of torch's device "meta" writes a variable that all threads share.
    """
    layer = kind(*arguments, device="meta", **named)
    for name, parameter in list(layer.named_parameters(recurse=False)):
        setattr(layer, name, nn.Parameter(torch.empty(parameter.shape)))
    return layer


def initialized(layer: nn.Module, initialization: str, generator: torch.Generator | None) -> nn.Module:
    """Draw the weights of a layer from the generator, set its bias to zero, and return it."""
    with torch.no_grad():
        INITIALIZATIONS[initialization](layer.weight, generator=generator)
        layer.bias.zero_()  # type: ignore[operator, union-attr]
    return layer


class Stage(NamedTuple):
    """One convolution of the encoder and its mirror in the decoder."""

    inner: int
    """Channels on the side of the image."""
    outer: int
    """Channels on the side of the code."""
    scales: bool
    """Whether the size is halved (encoder) or doubled (decoder) here."""


@dataclass(frozen=True)
class Frame:
    """The sizes of an image in the network: as given, padded, and after the last level."""

    size: tuple[int, ...]
    n_channels: int
    n_levels: int
    n_conditions: int = 0
    channels_first: bool = False

    @property
    def coarse(self) -> tuple[int, ...]:
        """Size after the last level."""
        return tuple(-(-length // 2**self.n_levels) for length in self.size)

    @property
    def places(self) -> int:
        """Number of positions after the last level."""
        return math.prod(self.coarse)

    @property
    def padding(self) -> list[int]:
        """Zeros added at each side, last dimension first, as `torch.nn.functional.pad` expects them."""
        missing = [short * 2**self.n_levels - long for short, long in zip(self.coarse, self.size, strict=True)]
        return [side for total in missing[::-1] for side in (total // 2, total - total // 2)]


class ToPicture(nn.Module):
    """Reshapes flat rows to padded images, channels first; each condition becomes a channel of one constant value.

    >>> ToPicture(Frame((3, 5), 2, 1))(torch.zeros(4, 30)).shape
    torch.Size([4, 2, 4, 6])
    """

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        self.frame = frame

    def forward(self, x: Tensor) -> Tensor:
        frame = self.frame
        row = x[:, : x.shape[1] - frame.n_conditions]
        if frame.channels_first:
            picture = row.reshape(x.shape[0], frame.n_channels, *frame.size)
        else:
            picture = row.reshape(x.shape[0], *frame.size, frame.n_channels).movedim(-1, 1)
        return _with_planes(functional.pad(picture, frame.padding), x[:, row.shape[1] :])


class ToRow(nn.Module):
    """The inverse of `ToPicture`: crops and flattens to the layout of the row; groups of channels stay in order."""

    def __init__(self, frame: Frame) -> None:
        super().__init__()
        self.frame = frame

    def forward(self, x: Tensor) -> Tensor:
        before = self.frame.padding[::-1][1::2]
        for axis, (start, length) in enumerate(zip(before, self.frame.size, strict=True), start=2):
            x = x.narrow(axis, start, length)
        groups = x.reshape(x.shape[0], -1, self.frame.n_channels, *self.frame.size)
        return (groups if self.frame.channels_first else groups.movedim(2, -1)).reshape(x.shape[0], -1)


class ToPlaces(nn.Module):
    """Reshapes a flat code to a small image of `n_channels`; each condition becomes a channel of one constant value."""

    def __init__(self, n_channels: int, size: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = (n_channels, *size)

    def forward(self, z: Tensor) -> Tensor:
        n = math.prod(self.shape)
        return _with_planes(z[:, :n].reshape(z.shape[0], *self.shape), z[:, n:])


def _with_planes(picture: Tensor, conditions: Tensor) -> Tensor:
    if not conditions.shape[1]:
        return picture
    shape = (*conditions.shape, *(1 for _ in picture.shape[2:]))
    return torch.cat([picture, conditions.view(shape).expand(-1, -1, *picture.shape[2:])], dim=1)


class Residual(nn.Module):
    """``x + f(x)``, where f is two convolutions (He et al. 2016, eq. 1)."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        changed: Tensor = self.body(x)
        return x + changed


@dataclass(frozen=True)
class Layers:
    """Builds the layers of a convolutional network in one, two or three dimensions."""

    n_dimensions: int
    kernel_size: int
    activation: str | None
    downsampling: str
    upsampling: str
    n_residual_blocks: int
    initialization: str
    generator: torch.Generator | None = None

    def down(self, stage: Stage) -> list[nn.Module]:
        """One stage of the encoder: a convolution, which halves the size if the stage scales."""
        strided = stage.scales and self.downsampling == "strided"
        layers = self.convolution(stage.inner, stage.outer, halving=strided)
        if stage.scales and not strided:
            layers.append((nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)[self.n_dimensions - 1](2))
        return layers + (self.residual(stage.outer) if stage.scales else [])

    def up(self, stage: Stage) -> list[nn.Module]:
        """The mirrored stage of the decoder: a convolution, after doubling the size if the stage scales."""
        if not stage.scales:
            return self.convolution(stage.outer, stage.inner)
        if self.upsampling == "nearest":
            doubled = [nn.Upsample(scale_factor=2), *self.convolution(stage.outer, stage.inner)]
        else:
            doubled = [self._doubling(stage.outer, stage.inner), *self._activations()]
        return self.residual(stage.outer) + doubled

    def dense_heads(
        self,
        n_channels: int,
        frame: Frame,
        code_width: int,
        code_size: int,
        hidden_sizes: Sequence[int],
        *,
        taking: Frame | None = None,
    ) -> tuple[list[nn.Module], list[nn.Module]]:
        """Dense layers between the last level and a code of any size, for the encoder and the decoder.

        The decoder's frame is `taking`; None: that of the encoder.
        """
        wide, hidden = n_channels * frame.places, [int(size) for size in hidden_sizes]
        taking = taking or frame
        given = self._dense([wide, *hidden, code_width])
        given = given[:-1] if self.activation else given  # the code applies its own activation, or none
        taken = self._dense([code_size + frame.n_conditions, *hidden[::-1], n_channels * taking.places])
        return [nn.Flatten(), *given], [*taken, ToPlaces(n_channels, taking.coarse)]

    def _dense(self, widths: list[int]) -> list[nn.Module]:
        linears = [self.fresh(blank(nn.Linear, *pair)) for pair in pairwise(widths)]
        return [layer for linear in linears for layer in (linear, *self._activations())]

    def convolutional_heads(
        self, n_channels: int, frame: Frame, code_width: int, code_size: int
    ) -> tuple[list[nn.Module], list[nn.Module]]:
        """Convolutions between the last level and a code that is a small image, for the encoder and the decoder."""
        codes = code_size // frame.places
        given = self.convolution(n_channels, code_width // frame.places)[0]
        taken = self.convolution(codes + frame.n_conditions, n_channels)
        return [given, nn.Flatten()], [ToPlaces(codes, frame.coarse), *taken]

    def convolution(self, inner: int, outer: int, *, halving: bool = False) -> list[nn.Module]:
        kind = (nn.Conv1d, nn.Conv2d, nn.Conv3d)[self.n_dimensions - 1]
        where = {"stride": 2, "padding": (self.kernel_size - 1) // 2} if halving else {"padding": "same"}
        return [self.fresh(blank(kind, inner, outer, self.kernel_size, **where)), *self._activations()]

    def _doubling(self, inner: int, outer: int) -> nn.Module:
        kind = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)[self.n_dimensions - 1]
        side = (self.kernel_size - 1) // 2
        left = 2 * side + 2 - self.kernel_size
        made = blank(kind, inner, outer, self.kernel_size, stride=2, padding=side, output_padding=left)
        return self.fresh(made)

    def residual(self, width: int) -> list[nn.Module]:
        return [
            Residual(*self.convolution(width, width), self.convolution(width, width)[0])
            for _ in range(self.n_residual_blocks)
        ]

    def _activations(self) -> list[nn.Module]:
        return [] if self.activation is None else [ACTIVATIONS[self.activation]()]

    def fresh(self, layer: nn.Module) -> nn.Module:
        return initialized(layer, self.initialization, self.generator)
