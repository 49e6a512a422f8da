"""The training objective of the classifier: a softmax layer on a code."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from isthmus.choices import ByColumn, CategoricalCrossEntropy, Corruption, Loss, MeanSquaredError, Plain
from isthmus.choices.corruptions import suited
from isthmus.choices.layers import activation_name, blank
from isthmus.choices.precision import single_precision
from isthmus.training import Choices, LossParts, Objective


class Classified(Objective):
    """An encoder and a code with a softmax layer as decoder; the objective is the cross-entropy of labels.

    A row of a batch is the row, (d,), followed by its one-hot label times the weight of the row, (classes,).

    Parameters
    ----------
    trained
        The objective whose encoder and code are copied.
    n_classes
        Number of labels.
    corruption
        Damage to rows in training.
    dropout
        Fraction of hidden activations set to zero in training.
    layer_decay
        Learning rate of a layer of the encoder relative to that of the layer above it; the topmost is relative to the
        softmax layer.
    """

    def __init__(
        self,
        trained: Objective,
        n_classes: int,
        corruption: Corruption | None,
        dropout: float,
        layer_decay: float = 1.0,
    ) -> None:
        context = trained.context
        choices = Choices(
            trained.choices.network,
            trained.choices.code,
            self.loss_of(n_classes),
            corruption and suited(corruption, context),
        )
        with single_precision():
            head = blank(nn.Linear, context.code_size, n_classes)
        assert isinstance(head, nn.Linear)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        networks = copy.deepcopy(trained.encoder), nn.Sequential(head)
        super().__init__(choices, context, networks=networks, code=copy.deepcopy(trained.code))
        self.n_classes, self.dropout, self.layer_decay = n_classes, dropout, layer_decay

    @staticmethod
    def loss_of(n_outputs: int) -> Loss:
        """The loss of the outputs: one column, so that it is a mean over rows, not over classes."""
        return ByColumn(((CategoricalCrossEntropy(), n_outputs),))

    def freeze(self, n_layers: int | None) -> None:
        """Keep the first layers of the encoder that have weights as they are; None: all of them."""
        weighted = self._weighted_layers()
        for layer in weighted if n_layers is None else weighted[:n_layers]:
            layer.requires_grad_(requires_grad=False)

    def _weighted_layers(self) -> list[nn.Module]:
        """The layers of the encoder that have weights, from the input on."""
        layers = list(self.encoder.children()) if isinstance(self.encoder, nn.Sequential) else [self.encoder]
        return [layer for layer in layers if next(layer.parameters(), None) is not None]

    def rate_factors(self) -> Mapping[nn.Parameter, float]:
        """The layer-wise learning rates of the encoder, relative to that of the softmax layer."""
        if self.layer_decay == 1.0:
            return {}
        layers = reversed(self._weighted_layers())
        return {
            parameter: self.layer_decay**depth
            for depth, layer in enumerate(layers, 1)
            for parameter in layer.parameters()
        }

    @property
    def row_width(self) -> int:
        return self.context.n_features + self.n_classes

    @property
    def follows_choices(self) -> bool:
        """Dropout and a rate for each layer are no choices, and a code that draws is used as it was learned."""
        return not self.dropout and self.layer_decay == 1.0 and isinstance(self.choices.code, Plain)

    def given_and_target(self, x: Tensor) -> tuple[Tensor, Tensor]:
        given, labels = x.split([self.context.n_features, self.n_classes], dim=1)
        return given, labels

    def filled(self, x: Tensor) -> Tensor:
        """Zeros for missing entries, as the encoder that was trained with them was given."""
        return x.nan_to_num()

    def corrupt(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Rows with corruption in training only: a validation loss is of rows as they come in use."""
        return super().corrupt(x, generator) if self.training else x

    def logits(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Unnormalised log-probabilities: (n, d) → (n, classes)."""
        return self._logits(self.filled(x), generator)

    def _logits(self, h: Tensor, generator: torch.Generator | None) -> Tensor:
        """As `logits`, for rows without missing entries."""
        for layer in self.encoder.children() if isinstance(self.encoder, nn.Sequential) else [self.encoder]:
            h = layer(h)
            if self.training and self.dropout and activation_name(layer):
                keep = torch.rand(h.shape, generator=generator, device=h.device) >= self.dropout
                h = h * keep / (1 - self.dropout)
        answer: Tensor = self.decoder(self.code.deterministic(h))
        return answer

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> LossParts:
        """The cross-entropy of a batch of rows followed by weighted one-hot labels, (n, d + classes)."""
        given, labels = self.given_and_target(x)
        loss = self.choices.loss.mean(self._logits(self.corrupt(self.filled(given), generator), generator), labels)
        return LossParts(loss, loss, x.new_zeros(()), x.new_zeros(()))


class Regressed(Classified):
    """An encoder and a code with a linear layer as decoder; the objective is the squared error of standardised targets.

    A row of a batch is the row, (d,), followed by its standardised targets, (targets,).
    """

    @staticmethod
    def loss_of(n_outputs: int) -> Loss:
        return ByColumn(((MeanSquaredError(activation=None), n_outputs),))  # says how many targets there are
