"""Layer-wise pretraining, before the whole network is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor, nn

from isthmus.choices import Context, Dense, MeanSquaredError, Modules, Plain
from isthmus.choices.networks import TiedLinear
from isthmus.choices.registry import Choice, Registry
from isthmus.choices.rules import OneOf, Rule, Whole, either
from isthmus.training.batches import Feed
from isthmus.training.callbacks import Callback
from isthmus.training.history import History
from isthmus.training.loop import Run, Settings, train
from isthmus.training.objective import Choices, Objective


class Pretraining(Choice):
    """Base class of pretraining: it trains parts of a network before the whole."""

    def conflicts(self, choices: Choices) -> list[str]:
        """Conflicts with other choices, one sentence each."""
        return []

    def pretrain(
        self, objective: Objective, settings: Settings, feed: Feed, callbacks: Sequence[Callback]
    ) -> list[History]:
        """Train parts of the objective in place; returns the history of each."""
        raise NotImplementedError


PRETRAININGS: Registry[Pretraining] = Registry("pretraining", Pretraining)


@PRETRAININGS.register("layer-wise")
@dataclass(eq=False, repr=False)
class LayerWise(Pretraining):
    """Trains each layer to reconstruct its own input, from the outer to the inner layers (Bengio et al. 2007; Vincent
    et al. 2010).

    Layer i of the encoder and the corresponding layer of the decoder are trained as a shallow autoencoder on the
    outputs of the previous layers for clean rows, with the model's corruption and penalty. Then the whole network is
    trained as usual. The network must be `Dense` with a mirrored decoder.

    Parameters
    ----------
    max_epochs
        Epochs for each layer; None: those of the whole training, divided by the number of layers.

    Examples
    --------
    >>> import isthmus, numpy
    >>> X = numpy.random.default_rng(0).random((60, 6))
    >>> model = isthmus.Autoencoder(2, network=(4,), pretraining="layer-wise", max_epochs=2, random_state=0).fit(X)
    >>> [len(history) for history in model.pretraining_history_]
    [1, 1]
    """

    _: KW_ONLY
    max_epochs: int | None = None

    rules: ClassVar[Mapping[str, Rule]] = {"max_epochs": either(Whole(1), OneOf((None,)))}

    def conflicts(self, choices: Choices) -> list[str]:
        network = choices.network
        if not isinstance(network, Dense):
            return [f"LayerWise: needs network=Dense(…), not {type(network).__name__}; set pretraining=None."]
        sizes = tuple(network.hidden_sizes)
        if network.decoder_sizes is not None and tuple(network.decoder_sizes) != sizes[::-1]:
            return ["LayerWise: needs a decoder that mirrors the encoder; leave decoder_sizes out."]
        if choices.corruption is not None and choices.corruption.reads_images:
            return [
                "LayerWise: the corruption needs images, but outputs of layers are not images; set pretraining=None."
            ]
        return []

    def pretrain(
        self, objective: Objective, settings: Settings, feed: Feed, callbacks: Sequence[Callback]
    ) -> list[History]:
        n_layers = len(_linears(objective.encoder))
        epochs = self.max_epochs or max(1, settings.max_epochs // n_layers)
        histories = []
        for index in range(n_layers):
            layer_feed = EncodedFeed(feed, _between(objective.encoder, 0, index))
            layer = _layer(objective, index, layer_feed)
            run = train(Run(layer, replace(settings, max_epochs=epochs, patience=None), layer_feed, None, callbacks))
            if run.stop_reason == "interrupted":
                raise KeyboardInterrupt
            histories.append(run.history)
        return histories


class EncodedFeed(Feed):
    """The outputs of some layers for the batches of another feed, computed batch by batch."""

    def __init__(self, feed: Feed, layers: nn.Module) -> None:
        self.feed, self.layers = feed, layers
        self.n_rows, self.batch_size = feed.n_rows, feed.batch_size

    def shuffled(self, generator: torch.Generator) -> Iterator[Tensor]:
        for x in self.feed.shuffled(generator):
            with torch.no_grad():
                encoded: Tensor = self.layers(x)
            yield encoded


def _linears(chain: nn.Module) -> list[nn.Module]:
    return [layer for layer in chain.children() if isinstance(layer, nn.Linear | TiedLinear)]


def _between(chain: nn.Module, first: int, last: int) -> nn.Sequential:
    """The linear layers `first` to `last` of a sequence, each with its activation."""
    kept, seen = [], 0
    for layer in chain.children():
        seen += isinstance(layer, nn.Linear | TiedLinear)
        if first < seen <= last:
            kept.append(layer)
    return nn.Sequential(*kept)


def _layer(objective: Objective, index: int, feed: Feed) -> Objective:
    """The shallow autoencoder of one layer, which shares its weights with the whole network."""
    choices, n_layers = objective.choices, len(_linears(objective.encoder))
    outermost, innermost = index == 0, index == n_layers - 1
    encoder = _between(objective.encoder, index, index + 1)
    decoder = _between(objective.decoder, n_layers - 1 - index, n_layers - index)
    context = objective.context if outermost else _context_of(feed, objective.context)
    code = choices.code if innermost else Plain()
    penalty = None if choices.penalty is None or choices.penalty.conflicts(code) else choices.penalty
    loss = choices.loss if outermost else MeanSquaredError(activation=None)
    made = Choices(Modules(encoder, decoder), code, loss, choices.corruption, penalty).resolve(context)
    return Objective(made, context, networks=(encoder, decoder), code=objective.code if innermost else None)


def _context_of(feed: Feed, whole: Context) -> Context:
    """The context of the values between two layers, with the range of one batch."""
    batch = next(iter(feed.shuffled(torch.Generator().manual_seed(0))))
    return Context((batch.shape[1],), whole.code_size, float(batch.min()), float(batch.max()))
