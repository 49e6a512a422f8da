"""Adapts a user's encoder and decoder: copies them with their weights and wraps them to map flat rows."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn

from isthmus.choices.layers import ACTIVATIONS
from isthmus.choices.losses import LINKS, Loss
from isthmus.choices.registry import Context

PROBED = (2, 3)
"""Batch sizes of the probes of a module: two sizes show which axis of the output is the batch."""
PROBED_CODES, CODE_SCALES = 64, (1.0, 30.0, 1000.0)
"""Random codes, at three scales, that probe the range of a decoder's outputs."""
CLOSE_TO_BOUND = 1e-6
"""Outputs are clipped this far inside their range before the inverse activation: float32 resolves 6e-8 at 1."""


# -- copies ------------------------------------------------------------------------------------------------------------


def copied(*modules: nn.Module) -> tuple[nn.Module, ...]:
    """Copies of modules in single precision; parameters that they share stay shared.

    ``copy.deepcopy`` fails for weights that are recomputed before every call (``torch.nn.utils.weight_norm``), and
    copies of scripted modules lose ``requires_grad=False``. This function handles both.
    """
    computed = {
        id(value): value.detach().clone()
        for module in modules
        for part in module.modules()
        for value in vars(part).values()
        if isinstance(value, Tensor) and not value.is_leaf
    }
    with torch.no_grad():
        copies: tuple[nn.Module, ...] = copy.deepcopy(modules, computed)
    for mine, theirs in zip(copies, modules, strict=True):
        for made, given in zip(mine.parameters(), theirs.parameters(), strict=True):
            if made.requires_grad != given.requires_grad:
                made.requires_grad_(given.requires_grad)
    return tuple(module.float() for module in copies)


def is_lazy(module: nn.Module) -> bool:
    """Whether some parameter gets its shape from the first batch."""
    uninitialized = nn.UninitializedParameter | nn.UninitializedBuffer
    return any(isinstance(tensor, uninitialized) for tensor in (*module.parameters(), *module.buffers()))


def is_scripted(module: nn.Module) -> bool:
    """Whether a module, or a part of it, is compiled by ``torch.jit``; such parts do not support hooks."""
    return any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())


# -- shapes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """The layout in which a module takes or returns rows, which are flat and row-major over `shape` elsewhere.

    Attributes
    ----------
    name
        ``"flat"``: (n, d). ``"as is"``: (n, *shape). ``"added"``: (n, 1, *shape). ``"moved"``: the last axis, the
        channels, comes first, as torch expects images.
    shape
        Shape of a row.
    """

    name: str
    shape: tuple[int, ...]

    @property
    def inner(self) -> tuple[int, ...]:
        """Shape of a row in the module."""
        shapes = {
            "flat": (math.prod(self.shape),),
            "as is": self.shape,
            "added": (1, *self.shape),
            "moved": (self.shape[-1], *self.shape[:-1]),
        }
        return shapes[self.name]

    def given(self, x: Tensor) -> Tensor:
        """Flat rows in the layout of the module."""
        if self.name == "flat":
            return x
        if self.name == "moved":
            return x.reshape(len(x), *self.shape).movedim(-1, 1)
        return x.reshape(len(x), *self.inner)

    def taken(self, y: Tensor) -> Tensor:
        """The module's output as flat rows; several outputs per feature come as groups of channels."""
        if self.name != "moved":
            return y.reshape(len(y), -1)
        return y.reshape(len(y), -1, *self.inner).movedim(2, -1).reshape(len(y), -1)

    def fits(self, shape: tuple[int, ...], n_groups: int) -> bool:
        """Whether a row of this shape from the module holds `n_groups` outputs for each feature."""
        first, *rest = self.inner
        grouped = (first * n_groups, *rest)
        return shape == (grouped if n_groups == 1 or self.name != "as is" else None)


def layouts(shape: tuple[int, ...]) -> list[Layout]:
    """The layouts to try for rows of a shape, the most likely first.

    Images with channels are tried channels first, even for modules that flatten them, because pretrained weights
    learned torch's order. For other shapes flat rows come first: their order of values is the same in any layout.
    """
    names = {1: ("flat", "added"), 2: ("flat", "added", "as is", "moved")}.get(
        len(shape), ("moved", "as is", "added", "flat")
    )
    return [Layout(name, shape) for name in names]


class Adapted(nn.Module):
    """Wraps a user's module to map flat rows to flat rows.

    Parameters
    ----------
    inner
        The module.
    before, after
        Layouts of its input and output.
    undone
        An activation that both the module and the loss apply. Its inverse is applied here, so that it acts only once.
    """

    def __init__(self, inner: nn.Module, before: Layout, after: Layout, undone: str | None = None) -> None:
        super().__init__()
        self.inner, self.before, self.after, self.undone = inner, before, after, undone
        # a plain list, so that torch does not register the layers twice
        self._norms = [part for part in inner.modules() if isinstance(part, nn.modules.batchnorm._NormBase)]  # noqa: SLF001  # torch has no public base

    def forward(self, x: Tensor) -> Tensor:
        given = self.before.given(x)
        alone = self.training and len(x) == 1 and bool(self._norms)
        y = self._of_one_row(given) if alone else self.inner(given)
        joined = (
            torch.cat([part.flatten(1) for part in y], dim=1) if isinstance(y, tuple | list) else self.after.taken(y)
        )
        return joined if self.undone is None else _INVERSES[self.undone](joined)

    def _of_one_row(self, given: Tensor) -> Any:
        """Normalise with the running statistics: the variance of one row is undefined (201 rows in batches of 100)."""
        learning = [norm for norm in self._norms if norm.training]
        for norm in learning:
            norm.eval()
        try:
            return self.inner(given)
        finally:
            for norm in learning:
                norm.train()

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen parts stay in evaluation mode, so that their batch statistics do not change."""
        super().train(mode)
        for part in self.inner.modules():
            parameters = list(part.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                part.eval()
        return self


def plain(module: nn.Module) -> nn.Module:
    """The user's module inside an `Adapted` module; other modules are returned as they are."""
    return module.inner if isinstance(module, Adapted) else module


# -- fitting a module to rows ------------------------------------------------------------------------------------------


class Tried(NamedTuple):
    """The result of probing a module: the row shapes of its outputs, or an error."""

    shapes: tuple[tuple[int, ...], ...] = ()
    error: str = ""


def adapt_encoder(module: nn.Module, context: Context, width: int) -> tuple[nn.Module, tuple[int, ...]]:
    """An encoder that maps flat rows to (n, width), and the shape of a code as the module returns it."""
    candidates = (
        layouts(context.feature_shape) if not context.n_conditions else [Layout("flat", (context.encoder_width,))]
    )
    tried = [(layout, _try(module, layout, context.encoder_width)) for layout in candidates]
    n_parts = 2 if width == 2 * context.code_size else 1  # a Gaussian code takes mean and log-variance
    for layout, found in tried:
        if _total(found) == width and len(found.shapes) in (1, n_parts):
            after = Layout("flat", found.shapes[0])
            return _settled(module, layout, after, found), found.shapes[0]
    raise ValueError(_encoder_mistake(tried, width, n_parts))


def adapt_decoder(module: nn.Module, context: Context, width: int, code_shape: tuple[int, ...]) -> nn.Module:
    """A decoder that maps flat codes to (n, width); it may take codes in the shape that the encoder returns."""
    candidates = [Layout("flat", (context.decoder_width,))]
    if len(code_shape) > 1 and math.prod(code_shape) == context.decoder_width:
        candidates.append(Layout("as is", code_shape))
    tried = [(layout, _try(module, layout, context.decoder_width)) for layout in candidates]
    n_groups = max(1, width // context.n_features)
    for layout, found in tried:
        if _total(found) != width or len(found.shapes) not in (1, n_groups):
            continue
        fitting = [after for after in layouts(context.feature_shape) if after.fits(found.shapes[0], n_groups)]
        flat = Layout("flat", (width,))
        if len(found.shapes) > 1 or len(found.shapes[0]) == 1 or fitting:
            after = flat if len(found.shapes[0]) == 1 or not fitting else fitting[0]
            return _settled(module, layout, after, found)
    raise ValueError(_decoder_mistake(tried, context, width))


def _total(found: Tried) -> int:
    return sum(math.prod(shape) for shape in found.shapes)


@torch.no_grad()
def _try(module: nn.Module, layout: Layout, wide: int) -> Tried:
    """Call a copy of a module with rows of zeros, so that its own lazy parameters stay uninitialized."""
    (trial,) = copied(module)
    shapes = []
    for n_rows in PROBED:
        try:
            answer = trial.eval()(layout.given(torch.zeros(n_rows, wide)))
        except Exception as error:  # noqa: BLE001  # a user's module may raise anything
            return Tried(error=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        parts = answer if isinstance(answer, tuple | list) else (answer,)
        if not all(isinstance(part, Tensor) and part.ndim >= 2 and len(part) == n_rows for part in parts):
            return Tried(error=f"it returns {_words(parts)}")
        shapes.append(tuple(tuple(part.shape[1:]) for part in parts))
    return (
        Tried(shapes[0])
        if shapes[0] == shapes[1]
        else Tried(error="the shape of its output depends on the number of rows")
    )


def _words(parts: Any) -> str:
    return " and ".join(
        f"a tensor of shape {tuple(part.shape)}" if isinstance(part, Tensor) else f"a {type(part).__name__}"
        for part in parts
    )


def _settled(module: nn.Module, before: Layout, after: Layout, found: Tried) -> nn.Module:
    """The module itself if it maps flat rows without special handling (it may then be compiled), else wrapped."""
    if is_lazy(module):
        with torch.no_grad():
            module.eval()(before.given(torch.zeros(PROBED[0], math.prod(before.shape))))
    frozen = any(not parameter.requires_grad for parameter in module.parameters())
    has_norm = any(isinstance(part, nn.modules.batchnorm._NormBase) for part in module.modules())  # noqa: SLF001  # as above
    flat = before.name == "flat" and len(found.shapes) == 1 and len(found.shapes[0]) == 1
    if flat and not frozen and not has_norm and not is_scripted(module):
        return module
    return Adapted(module, before, after)


def _encoder_mistake(tried: list[tuple[Layout, Tried]], width: int, n_parts: int) -> str:
    several = next((found for _, found in tried if len(found.shapes) == 2 and n_parts == 1), None)
    if several is not None and _total(several) == 2 * width:
        return (
            f"The encoder returns a pair of ({width},) for each row, such as mean and log-variance, but the code "
            f"takes {width} values. Use code='gaussian' (VariationalAutoencoder), or return one tensor from the "
            "encoder."
        )
    return f"The encoder {_told(tried)}, but must return (n, {width}); change its layers, or set code_size."


def _decoder_mistake(tried: list[tuple[Layout, Tried]], context: Context, width: int) -> str:
    shape = "" if width != context.n_features or len(context.feature_shape) == 1 else f", or (n, {_csv(context)})"
    return f"The decoder {_told(tried)}, but must return (n, {width}){shape}; change its layers."


def _csv(context: Context) -> str:
    shape = context.feature_shape
    return ", ".join(map(str, shape if len(shape) < 3 else (shape[-1], *shape[:-1])))


def _told(tried: list[tuple[Layout, Tried]]) -> str:
    """The output of a module for each layout, in words."""
    texts = []
    for layout, found in tried:
        given = f"({', '.join(map(str, ('n', *layout.inner)))})"
        shapes = " and ".join(f"({', '.join(map(str, ('n', *shape)))})" for shape in found.shapes)
        texts.append(
            f"maps rows of shape {given} to {shapes}" if shapes else f"does not accept {given} ({found.error})"
        )
    return "; ".join(texts)


# -- the end of a decoder ----------------------------------------------------------------------------------------------


class Range(NamedTuple):
    """The range of a decoder's outputs, and how it was found."""

    low: float
    high: float
    words: str


SHAPING = (nn.Flatten, nn.Unflatten, nn.Identity, nn.Dropout)
"""Layers that leave the range of the values as it is."""
_ENDS: dict[type[nn.Module], tuple[float, float]] = {
    nn.Sigmoid: (0.0, 1.0),
    nn.Hardsigmoid: (0.0, 1.0),
    nn.Softmax: (0.0, 1.0),
    nn.Tanh: (-1.0, 1.0),
    nn.ReLU: (0.0, math.inf),
    nn.Softplus: (0.0, math.inf),
}
_LINKED: dict[str | None, tuple[float, float]] = {
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softmax": (0.0, 1.0),
    "softmax per group": (0.0, 1.0),
    "exp": (0.0, math.inf),
}


def _within(y: Tensor, low: float, high: float) -> Tensor:
    """Clip y to the inside of a range; the gradient of y is kept there."""
    return y.clamp(low + CLOSE_TO_BOUND, high - CLOSE_TO_BOUND)


def _logarithm(y: Tensor) -> Tensor:
    return _within(y, 0.0, math.inf).log()


_INVERSES: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": lambda y: torch.logit(_within(y, 0.0, 1.0)),
    "tanh": lambda y: torch.atanh(_within(y, -1.0, 1.0)),
    "softmax": _logarithm,
    "softmax per group": _logarithm,
    "exp": _logarithm,
}


@torch.no_grad()
def output_range(decoder: nn.Module, wide: int) -> Range | None:
    """The range of a decoder's outputs, by its last layer, else by its outputs for random codes of several scales.

    The second test finds activations that are functions, such as ``torch.sigmoid`` in ``forward``. The outputs of a
    decoder that ends in a linear layer leave every range as the codes grow.
    """
    last = _last_leaf(decoder, wide)
    if last in _ENDS:
        return Range(*_ENDS[last], f"it ends in {last.__name__}")
    draw = torch.Generator().manual_seed(0)
    codes = torch.randn(PROBED_CODES, wide, generator=draw)
    was_training = decoder.training
    outputs = torch.cat([decoder.eval()(codes * scale) for scale in CODE_SCALES])
    decoder.train(was_training)
    if not bool(torch.isfinite(outputs).all()) or float(outputs.std(0).max()) == 0.0:
        return None
    for low, high in ((0.0, 1.0), (-1.0, 1.0)):
        if float(outputs.min()) >= low and float(outputs.max()) <= high:
            return Range(low, high, f"so do all its outputs for {len(outputs)} random codes")
    return None


def _last_leaf(decoder: nn.Module, wide: int) -> type[nn.Module]:
    """The class of the last layer that runs, shape-only layers aside; for scripted modules the decoder's class."""
    if is_scripted(decoder):
        return type(decoder)
    seen: list[nn.Module] = [decoder]
    leaves = [part for part in decoder.modules() if not list(part.children())]
    hooks = [leaf.register_forward_hook(lambda module, _given, _out: seen.append(module)) for leaf in leaves]
    was_training = decoder.training
    decoder.eval()(torch.zeros(PROBED[0], wide))
    decoder.train(was_training)
    for hook in hooks:
        hook.remove()
    return type(next(module for module in reversed(seen) if not isinstance(module, SHAPING)))


def match_end(decoder: nn.Module, loss: Loss, context: Context, width: int) -> nn.Module:
    """A decoder whose last activation agrees with the loss.

    Losses apply the output activation themselves. If the decoder ends in it too, it would act twice: a second sigmoid
    maps [0, 1] to [0.5, 0.73], and the model cannot learn. The decoder's outputs are then used as the reconstruction.

    Raises
    ------
    ValueError
        The decoder ends in an activation whose range does not cover the data.
    """
    found = output_range(decoder, context.decoder_width)
    applied = loss.output_activation
    if found is None or not (math.isfinite(context.lower) and math.isfinite(context.upper)):
        return decoder
    if applied in _INVERSES and _LINKED[applied] == found[:2] and _is_reached(decoder, loss, context):
        flat = Layout("flat", (context.decoder_width,))
        if isinstance(decoder, Adapted):
            return Adapted(decoder.inner, decoder.before, decoder.after, applied)
        return Adapted(decoder, flat, Layout("flat", (width,)), applied)
    _refuse_out_of_reach(found, applied, context)
    return decoder


@torch.no_grad()
def _is_reached(decoder: nn.Module, loss: Loss, context: Context) -> bool:
    """Whether inverse and output activation restore the decoder's outputs; a softmax does only if they sum to 1."""
    assert loss.output_activation is not None
    y = decoder(torch.randn(PROBED_CODES, context.decoder_width, generator=torch.Generator().manual_seed(1)))
    return torch.allclose(loss.link(_INVERSES[loss.output_activation](y)), y, atol=1e-3)


def _refuse_out_of_reach(found: Range, applied: str | None, context: Context) -> None:
    if applied not in LINKS:
        return
    link = nn.Identity() if applied is None else ACTIVATIONS[applied]()
    low, high = (float(link(torch.tensor(end))) for end in found[:2])
    if context.lower >= low - 1e-3 and context.upper <= high + 1e-3:
        return
    through = "" if applied is None else f", and [{low:.3g}, {high:.3g}] after the loss's own {applied}"
    raise ValueError(
        f"The decoder's outputs lie in [{found.low:g}, {found.high:g}] ({found.words}){through}, but the scaled data "
        f"range from {context.lower:.4g} to {context.upper:.4g}, so it cannot restore them. Remove its last "
        "activation, since the loss applies the right one, or choose a scaling into that range (such as "
        "scaling='minmax')."
    )
