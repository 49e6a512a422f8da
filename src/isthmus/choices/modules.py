"""Encoders and decoders of the user's own: copied with their weights, and made to take and give flat rows."""

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
"""Rows of the batches that a module is tried on: two sizes, so that rows are not taken for channels by chance."""
PROBED_CODES, CODE_SCALES = 64, (1.0, 30.0, 1000.0)
"""Codes a decoder is given to find the range of its outputs; what no scale drives out of [0, 1] stays."""
CLOSE_TO_BOUND = 1e-6
"""How close an output comes to the end of its range before its inverse is taken: float32 resolves 6e-8 at 1."""


# -- copies ------------------------------------------------------------------------------------------------------------


def copied(*modules: nn.Module) -> tuple[nn.Module, ...]:
    """A copy of modules with their weights in single precision; what they share stays shared.

    Weights that are computed before every call (``torch.nn.utils.weight_norm``) cannot be copied by torch itself, and
    copies of scripted modules forget which parameters are frozen. Both are set right here.
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
    """Whether the shape of some parameter is still to be seen from the first batch."""
    uninitialized = nn.UninitializedParameter | nn.UninitializedBuffer
    return any(isinstance(tensor, uninitialized) for tensor in (*module.parameters(), *module.buffers()))


def is_scripted(module: nn.Module) -> bool:
    """Whether a module, or a part of it, is compiled by ``torch.jit``; such parts take no hooks."""
    return any(isinstance(part, torch.jit.ScriptModule) for part in module.modules())


# -- shapes ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Layout:
    """How a module wants, or gives, rows that are flat for everybody else, row-major over `shape`.

    Attributes
    ----------
    name
        ``"flat"``: (n, d). ``"as is"``: (n, *shape). ``"added"``: (n, 1, *shape). ``"moved"``: the last axis of the
        shape, the channels, comes first, as torch wants images.
    shape
        Of a row.
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
        """Flat rows as the module wants them."""
        if self.name == "flat":
            return x
        if self.name == "moved":
            return x.reshape(len(x), *self.shape).movedim(-1, 1)
        return x.reshape(len(x), *self.inner)

    def taken(self, y: Tensor) -> Tensor:
        """What the module gives as flat rows; several numbers for each feature come as groups of channels."""
        if self.name != "moved":
            return y.reshape(len(y), -1)
        return y.reshape(len(y), -1, *self.inner).movedim(2, -1).reshape(len(y), -1)

    def fits(self, shape: tuple[int, ...], n_groups: int) -> bool:
        """Whether a row of this shape from the module is a row of features, each with so many numbers."""
        first, *rest = self.inner
        grouped = (first * n_groups, *rest)
        return shape == (grouped if n_groups == 1 or self.name != "as is" else None)


def layouts(shape: tuple[int, ...]) -> list[Layout]:
    """The layouts that rows of a shape may be wanted in, the likeliest first.

    Images with channels go channels first to a module that takes them so, also where it flattens them, since torch's
    order is the one that given weights have learned. Flat rows come first elsewhere: they are the same in any order.
    """
    names = {1: ("flat", "added"), 2: ("flat", "added", "as is", "moved")}.get(
        len(shape), ("moved", "as is", "added", "flat")
    )
    return [Layout(name, shape) for name in names]


class Adapted(nn.Module):
    """A module of the user's own between flat rows: (n, wide) → (n, narrow).

    Parameters
    ----------
    inner
        The module.
    before, after
        Layouts of what it takes and gives.
    undone
        The activation that the loss applies and the module has already: its inverse is taken here, so that both
        together change nothing.
    """

    def __init__(self, inner: nn.Module, before: Layout, after: Layout, undone: str | None = None) -> None:
        super().__init__()
        self.inner, self.before, self.after, self.undone = inner, before, after, undone
        # a plain list, which torch does not take for parts of this module
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
        """One row has no spread to normalise by: the last batch of 201 rows by 100 is normalised as in use."""
        learning = [norm for norm in self._norms if norm.training]
        for norm in learning:
            norm.eval()
        try:
            return self.inner(given)
        finally:
            for norm in learning:
                norm.train()

    def train(self, mode: bool = True) -> Self:
        """Switch to training or use; frozen parts work as in use always, so that batch statistics stay too."""
        super().train(mode)
        for part in self.inner.modules():
            parameters = list(part.parameters())
            if parameters and not any(parameter.requires_grad for parameter in parameters):
                part.eval()
        return self


def plain(module: nn.Module) -> nn.Module:
    """The user's own module within an adapted one; others are themselves."""
    return module.inner if isinstance(module, Adapted) else module


# -- fitting a module to rows ------------------------------------------------------------------------------------------


class Tried(NamedTuple):
    """What came of giving a module some rows: the shape of a row of its answer, or of each of several, or an error."""

    shapes: tuple[tuple[int, ...], ...] = ()
    error: str = ""


def adapt_encoder(module: nn.Module, context: Context, width: int) -> tuple[nn.Module, tuple[int, ...]]:
    """An encoder from flat rows to ``width`` numbers, and the shape of a code as the module gives it."""
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
    """A decoder from flat codes to ``width`` numbers; also one that takes codes in the shape the encoder gives."""
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
    """Give a copy of a module rows of zeros; lazy parameters of the module itself stay open."""
    (trial,) = copied(module)
    shapes = []
    for n_rows in PROBED:
        try:
            answer = trial.eval()(layout.given(torch.zeros(n_rows, wide)))
        except Exception as error:  # noqa: BLE001  # whatever a module of somebody's own may raise
            return Tried(error=f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")
        parts = answer if isinstance(answer, tuple | list) else (answer,)
        if not all(isinstance(part, Tensor) and part.ndim >= 2 and len(part) == n_rows for part in parts):
            return Tried(error=f"it gives {_words(parts)}")
        shapes.append(tuple(tuple(part.shape[1:]) for part in parts))
    return Tried(shapes[0]) if shapes[0] == shapes[1] else Tried(error="its answer changes with the number of rows")


def _words(parts: Any) -> str:
    return " and ".join(
        f"a tensor of shape {tuple(part.shape)}" if isinstance(part, Tensor) else f"a {type(part).__name__}"
        for part in parts
    )


def _settled(module: nn.Module, before: Layout, after: Layout, found: Tried) -> nn.Module:
    """The module itself where it takes and gives flat rows and has nothing to watch; such are compiled, too."""
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
            f"The encoder gives a pair of ({width},) for each row, such as mean and log-variance, but the code takes "
            f"{width} numbers. Use code='gaussian' (VariationalAutoencoder), or let the encoder give one tensor."
        )
    return f"The encoder {_told(tried)}, but must give (n, {width})."


def _decoder_mistake(tried: list[tuple[Layout, Tried]], context: Context, width: int) -> str:
    shape = "" if width != context.n_features or len(context.feature_shape) == 1 else f", or (n, {_csv(context)})"
    return f"The decoder {_told(tried)}, but must give (n, {width}){shape}."


def _csv(context: Context) -> str:
    shape = context.feature_shape
    return ", ".join(map(str, shape if len(shape) < 3 else (shape[-1], *shape[:-1])))


def _told(tried: list[tuple[Layout, Tried]]) -> str:
    """What a module made of each layout."""
    texts = []
    for layout, found in tried:
        given = f"({', '.join(map(str, ('n', *layout.inner)))})"
        shapes = " and ".join(f"({', '.join(map(str, ('n', *shape)))})" for shape in found.shapes)
        texts.append(f"turns rows of shape {given} into {shapes}" if shapes else f"cannot take {given} ({found.error})")
    return "; ".join(texts)


# -- the end of a decoder ----------------------------------------------------------------------------------------------


class Range(NamedTuple):
    """Where all outputs of a decoder lie, and how that is known."""

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
    """Kept off the ends of a range, with the gradient of y inside."""
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
    """The range that a decoder ends in: by its last layer, else by what it makes of codes of all sizes.

    An activation that is a function, such as ``torch.sigmoid`` in ``forward``, is seen by the second. A decoder that
    ends in a linear layer leaves any range when its codes grow.
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
            return Range(low, high, f"no code of {len(outputs)} gives any other")
    return None


def _last_leaf(decoder: nn.Module, wide: int) -> type[nn.Module]:
    """The kind of the layer whose output is the decoder's; of scripted ones the decoder's own."""
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
    """A decoder whose last activation goes with the loss's.

    Losses apply the output activation themselves. A decoder that has it already would get it twice: a second sigmoid
    maps [0, 1] to [0.5, 0.73], and nothing can be learned. Its outputs are then taken for the reconstruction itself.

    Raises
    ------
    ValueError
        The decoder ends in an activation with which it cannot restore the data.
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
    """Whether the loss gives back a decoder's outputs from their inverse, as a softmax does only of shares."""
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
        f"reach from {context.lower:.4g} to {context.upper:.4g}, so it cannot restore them. Drop its last activation, "
        "since the loss applies the right one, or choose a scaling whose data lie there (such as scaling='minmax')."
    )
