"""Networks: the architecture of encoder and decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from isthmus.choices import modules
from isthmus.choices.draws import drawn_from
from isthmus.choices.layers import ACTIVATIONS, INITIALIZATIONS, blank, initialized
from isthmus.choices.losses import Loss
from isthmus.choices.registry import Choice, Context, Registry
from isthmus.choices.rules import Instance, OneOf, Rule, Sizes, Whole, either

Pair = tuple[nn.Module, nn.Module]


class _ActivationNames(Sequence[object]):
    """None and the names of all activations, also of those that are registered later."""

    def __len__(self) -> int:
        return 1 + len(ACTIVATIONS)

    def __getitem__(self, index: Any) -> Any:
        return (None, *sorted(ACTIVATIONS))[index]


def activation_rule() -> Rule:
    """The rule for a parameter that is the name of an activation or None."""
    return OneOf(_ActivationNames())


class Network(Choice):
    """Builds the encoder and the decoder; both map flat rows to flat rows."""

    @property
    def hidden_width(self) -> float:
        """The largest geometric mean of the widths of two consecutive hidden layers; 0 without such a pair."""
        return 0.0

    @property
    def has_hidden_layers(self) -> bool:
        """Whether there is a layer between rows and codes."""
        return True

    def conflicts(self, context: Context, *, code_width: int, output_width: int) -> list[str]:
        """Why this network does not support a code or an output of that width, one sentence each."""
        return []

    def build(
        self, context: Context, *, code_width: int, output_width: int, generator: torch.Generator | None = None
    ) -> Pair:
        """Build the encoder, (n, d) → (n, code_width), and the decoder, (n, code_size) → (n, output_width).

        The encoder reads rows of `context`, the decoder gives rows of ``context.output``, which has another shape where
        a model is trained on pairs. The conditions of the context, if any, are appended to each row and each code.

        Initial weights are drawn from the generator; None uses torch's global generator (estimators always pass one).
        """
        raise NotImplementedError

    def suit(self, pair: Pair, loss: Loss, context: Context) -> Pair:
        """The same encoder and decoder, adapted to the output activation that the loss applies."""
        return pair

    def row_shape(self, feature_shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape in which the network reads a row, which differs from that of X where flat rows hold images."""
        return feature_shape

    def output_range(self, decoder_width: int) -> tuple[float, float] | None:
        """Least and greatest value that the decoder gives for codes of that width; None where it is not bounded."""
        return None


def _as_network(value: Any) -> Network | None:
    if isinstance(value, list | tuple) and all(isinstance(part, nn.Module) for part in value) and len(value) == 2:
        return Modules(*value)
    if isinstance(value, nn.Module):
        raise TypeError(
            f"A single {type(value).__name__} is not a network; give encoder and decoder: network=(encoder, decoder)."
        )
    if Sizes().admits(value):
        return Dense(hidden_sizes=tuple(value))
    if Whole(1).admits(value):
        raise TypeError(f"{value} is not a network; for one hidden layer of that size write network=({value},).")
    return None


NETWORKS: Registry[Network] = Registry("network", Network, convert=_as_network)


class TiedLinear(nn.Module):
    """A linear layer whose weight is the transpose of another layer's; only the bias is its own.

    >>> TiedLinear(nn.Linear(4, 2))(torch.zeros(3, 2)).shape
    torch.Size([3, 4])
    """

    def __init__(self, source: nn.Linear) -> None:
        super().__init__()
        self.weight = source.weight  # (out of source, in of source): one parameter, shared by two layers
        self.bias = nn.Parameter(torch.zeros(source.in_features))
        self.in_features, self.out_features = source.out_features, source.in_features

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight.t(), self.bias)


@NETWORKS.register("dense")
@dataclass(eq=False, repr=False)
class Dense(Network):
    """Fully connected layers of any widths.

    ::

        x (d) ─▶ hidden_sizes[0] ─▶ … ─▶ hidden_sizes[-1] ─▶ h (code) ─▶ z ─▶ decoder_sizes … ─▶ x^ (d)
                 └── activation after each ──┘     none          └── activation after each ──┘  the loss's

    Parameters
    ----------
    hidden_sizes
        Widths of the encoder's hidden layers, from the input to the code. ``()`` is one linear layer to the code.
        ``"auto"``: two layers, sized by the number of features (at most 512 and 256).
    activation
        After every hidden layer; None for a linear network.
    decoder_sizes
        Widths of the decoder's hidden layers, from the code to the output; None mirrors the encoder.
    tied
        Whether the decoder's weights are the transposes of the encoder's throughout training; requires a mirrored
        decoder.
    initialization
        ``"orthogonal"`` (Saxe et al. 2014), which keeps deep narrow networks trainable, ``"glorot-uniform"`` (Glorot &
        Bengio 2010, eq. 16; most tutorials) or ``"he-uniform"`` (He et al. 2015, eq. 10). Biases start at zero.

    Examples
    --------
    >>> encoder, decoder = Dense((8,)).build(Context((16,), code_size=2), code_width=2, output_width=16)
    >>> decoder(encoder(torch.zeros(5, 16))).shape
    torch.Size([5, 16])
    """

    hidden_sizes: tuple[int, ...] | str = "auto"
    _: KW_ONLY
    activation: str | None = "gelu"
    decoder_sizes: tuple[int, ...] | None = None
    tied: bool = False
    initialization: str = "orthogonal"

    rules: ClassVar[Mapping[str, Rule]] = {
        "hidden_sizes": either(Sizes(), OneOf(("auto",))),
        "activation": activation_rule(),
        "decoder_sizes": either(Sizes(), OneOf((None,))),
        "tied": OneOf((True, False)),
        "initialization": OneOf(tuple(INITIALIZATIONS)),
    }

    def mistakes(self, context: Context | None = None) -> list[str]:
        found = super().mistakes(context)
        mirrored = self.decoder_sizes is None or tuple(self.decoder_sizes) == tuple(self.hidden_sizes)[::-1]
        if not found and self.tied and not mirrored:
            found.append(
                f"Dense: tied=True needs a decoder that mirrors the encoder, but decoder_sizes={self.decoder_sizes} "
                f"is not hidden_sizes={self.hidden_sizes} reversed; leave decoder_sizes out or set tied=False."
            )
        return found

    @property
    def hidden_width(self) -> float:
        chains = [sizes for sizes in (self.hidden_sizes, self.decoder_sizes) if sizes and not isinstance(sizes, str)]
        return max((math.sqrt(one * two) for sizes in chains for one, two in pairwise(sizes)), default=0.0)

    @property
    def has_hidden_layers(self) -> bool:
        return bool(self.hidden_sizes) or bool(self.decoder_sizes)

    def conflicts(self, context: Context, *, code_width: int, output_width: int) -> list[str]:
        if not self.tied:
            return []
        wanted = (
            (context.code_size, code_width, "an encoder output as wide as the code"),
            (context.n_features, context.output.n_features, "a target as wide as X"),
            (context.output.n_features, output_width, "a loss with one output per feature"),
            (0, context.n_conditions, "a model that is not conditional"),
        )
        return [f"Dense: tied=True needs {words}; use tied=False." for right, got, words in wanted if right != got]

    def resolve(self, context: Context) -> Dense:
        sizes = _sizes_for(context) if self.hidden_sizes == "auto" else tuple(self.hidden_sizes)
        return self._with(hidden_sizes=sizes)

    def build(
        self, context: Context, *, code_width: int, output_width: int, generator: torch.Generator | None = None
    ) -> Pair:
        sizes = tuple(map(int, self.resolve(context).hidden_sizes))
        encoder = self._chain(_linears((context.encoder_width, *sizes, code_width)), generator)
        if self.tied:
            return encoder, self._chain([TiedLinear(layer) for layer in _linear_layers(encoder)[::-1]], generator)
        back = sizes[::-1] if self.decoder_sizes is None else tuple(map(int, self.decoder_sizes))
        return encoder, self._chain(_linears((context.decoder_width, *back, output_width)), generator)

    def _chain(self, layers: list[nn.Module], generator: torch.Generator | None) -> nn.Sequential:
        chain: list[nn.Module] = []
        for layer in layers:
            chain += [layer] if self.activation is None else [layer, ACTIVATIONS[self.activation]()]
            if isinstance(layer, nn.Linear):
                initialized(layer, self.initialization, generator)
        return nn.Sequential(*(chain if self.activation is None else chain[:-1]))


def _linears(widths: tuple[int, ...]) -> list[nn.Module]:
    return [blank(nn.Linear, wide, narrow) for wide, narrow in pairwise(widths)]


def _linear_layers(chain: nn.Module) -> list[nn.Linear]:
    return [layer for layer in chain.modules() if isinstance(layer, nn.Linear)]


def _sizes_for(context: Context) -> tuple[int, ...]:
    """Two hidden layers: a power of two near twice the number of features, in [64, 512], and half of it."""
    first = min(512, max(64, 2 ** round(math.log2(2 * context.n_features))))
    return first, first // 2


@dataclass(eq=False, repr=False)
class Modules(Network):
    """A user's encoder and decoder, any two ``nn.Module``; ``network=(encoder, decoder)`` is the short form.

    Every `fit` starts from a copy of the given modules, weights included, and leaves the modules unchanged. Existing
    weights are fine-tuned; ``random_state`` draws only the weights of lazy layers, which have none yet. A frozen part
    (``requires_grad_(False)``) keeps its weights and batch statistics, and its dropout is off. Weights are converted to
    single precision. A last batch of one row is normalised with the running batch statistics, since one row has no
    variance.

    Parameters
    ----------
    encoder
        Maps scaled rows to codes, (n, code), or for a variational code to (n, 2 · code) or a pair (mean, log-variance)
        of (n, code) each. It receives rows in the first of these shapes that it accepts: images with channels as
        (n, c, h, w), (n, h, w, c) or flat; others as (n, d), (n, 1, *feature_shape), (n, *feature_shape) or channels
        first. With ``conditional=True`` rows are flat, followed by the one-hot labels.
    decoder
        Maps codes to rows, flat or in the shape that the encoder takes, without the output activation, which the loss
        applies. If the decoder ends in that activation, the loss does not apply it again.

    Raises
    ------
    ValueError
        At `fit`: the modules take or return other shapes, they have no trainable parameters, or the decoder ends in an
        activation whose range does not cover the data.
    """

    encoder: nn.Module
    decoder: nn.Module

    rules: ClassVar[Mapping[str, Rule]] = {
        "encoder": Instance(nn.Module, "a torch.nn.Module"),
        "decoder": Instance(nn.Module, "a torch.nn.Module"),
    }

    def build(
        self, context: Context, *, code_width: int, output_width: int, generator: torch.Generator | None = None
    ) -> Pair:
        encoder, decoder = modules.copied(self.encoder, self.decoder)
        with drawn_from(generator):  # lazy modules draw their weights on the first batch
            encoder, code_shape = modules.adapt_encoder(encoder, context, code_width)
            decoder = modules.adapt_decoder(decoder, context.output, output_width, code_shape)
        if not any(parameter.requires_grad for part in (encoder, decoder) for parameter in part.parameters()):
            raise ValueError(
                "The encoder and the decoder have no trainable parameters: they have none, or all are frozen; give "
                "at least one module parameters with requires_grad=True."
            )
        return encoder, decoder

    def output_range(self, decoder_width: int) -> tuple[float, float] | None:
        (decoder,) = modules.copied(self.decoder)  # running it changes lazy layers
        try:
            with drawn_from(torch.Generator().manual_seed(0)):
                found = modules.output_range(decoder, decoder_width)
        except (RuntimeError, TypeError, ValueError):
            return None  # a decoder of other shapes, or of none: `build` adapts it or says what is wrong
        return None if found is None else (found.low, found.high)

    def suit(self, pair: Pair, loss: Loss, context: Context) -> Pair:
        encoder, decoder = pair
        return encoder, modules.match_end(decoder, loss, context, loss.output_width(context.n_features))
