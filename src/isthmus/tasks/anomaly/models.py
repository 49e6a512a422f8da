"""The models of a detector: an ensemble of small autoencoders, or one autoencoder of the user's choice."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.choices import Loss
from isthmus.choices.registry import Context
from isthmus.estimators import Autoencoder, persistence
from isthmus.tasks.anomaly.ensemble import Ensemble


@dataclass
class EnsembleModel:
    """Small autoencoders that were trained together.

    Attributes
    ----------
    ensemble
        Their weights.
    loss
        Resolved for the data.
    """

    ensemble: Ensemble
    loss: Loss
    _double: list[Ensemble] = field(default_factory=list, repr=False)

    @property
    def n_members(self) -> int:
        return self.ensemble.n_members

    def _as(self, x: Tensor) -> Ensemble:
        if x.dtype != torch.float64:
            return self.ensemble
        if not self._double:
            self._double.append(copy.deepcopy(self.ensemble).double())
        return self._double[0]

    def encode(self, x: Tensor) -> Tensor:
        """Codes of scaled rows: (n, d) → (E, n, code)."""
        ensemble = self._as(x)
        return ensemble.encode(ensemble.each(x))

    def errors(self, x: Tensor, codes: Tensor) -> Tensor:
        """The loss of every number, with the codes of the rows: (n, d) → (E, n, d)."""
        output = self._as(x).decode(codes).flatten(0, 1)
        return self.loss.per_feature(output, x.repeat(self.n_members, 1)).view(self.n_members, x.shape[0], -1)

    def restore(self, codes: Tensor) -> Tensor:
        """Reconstructions in scaled units: (E, n, code) → (E, n, d)."""
        output = self._as(codes).decode(codes)
        return self.loss.link(output.flatten(0, 1)).view(*codes.shape[:2], -1)

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The weights, by name."""
        return persistence.weights(self.ensemble)


@dataclass
class SingleModel:
    """One fitted `Autoencoder`.

    Attributes
    ----------
    autoencoder
        Fitted on rows that were scaled already.
    """

    autoencoder: Autoencoder

    n_members = 1

    def _objective(self, x: Tensor) -> Any:
        return self.autoencoder.objective_.as_dtype(x.dtype)

    def encode(self, x: Tensor) -> Tensor:
        """Codes of scaled rows: (n, d) → (1, n, code)."""
        return self._objective(x).encode(x)[None]  # type: ignore[no-any-return]

    def errors(self, x: Tensor, codes: Tensor) -> Tensor:
        """The loss of every number, with the codes of the rows: (n, d) → (1, n, d)."""
        objective = self._objective(x)
        return objective.choices.loss.per_feature(objective.decoder(codes[0]), x)[None]  # type: ignore[no-any-return]

    def restore(self, codes: Tensor) -> Tensor:
        """Reconstructions in scaled units: (1, n, code) → (1, n, d)."""
        return self._objective(codes).decode(codes[0])[None]  # type: ignore[no-any-return]

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All arrays of the autoencoder's state."""
        return dict(self.autoencoder._to_state().arrays)  # noqa: SLF001  # its file within the detector's


def ensemble_from_arrays(
    arrays: Mapping[str, np.ndarray], code_sizes: Sequence[int], hidden_size: int, loss: Loss, context: Context
) -> EnsembleModel:
    """The inverse of `EnsembleModel.to_arrays`."""
    width = loss.output_width(context.n_features)
    ensemble = persistence.load_module(
        lambda: Ensemble(context.n_features, width, tuple(code_sizes), hidden_size), arrays
    )
    return EnsembleModel(ensemble.eval(), loss)
