"""Inputs of the checks: a sample of scaled rows, their codes and their reconstructions."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.diagnosis.measures import take_rows
from isthmus.estimators import Autoencoder
from isthmus.estimators.inference import Verb, whole

ROWS = 2_000
BYTES = 2**28
"""Maximum number and size (as doubles) of the rows in the sample."""
CHUNK = 250
FEWEST_ROWS = 20


class Evidence:
    """Quantities for the checks in scaled units, computed on first use.

    A model with a corruption is evaluated on its training task: it receives corrupted rows, and its reconstructions are
    compared with the clean rows.
    """

    def __init__(self, model: Autoencoder, X: Any, y: Any, X_train: Any, seed: int) -> None:
        self.model, self.objective, self.history = model, model.objective_, model.history_
        self.index = spread(X)
        self.X, self.x = self._scaled(X, self.index, None if y is None else np.asarray(y)[self.index])
        self._train = None if X_train is None else self._scaled(X_train, spread(X_train), None)[0]
        self.seed, self.generator = seed, torch.Generator().manual_seed(seed)

    def _scaled(self, X: Any, index: np.ndarray, y: Any) -> tuple[np.ndarray, Tensor]:
        """Scaled rows without labels, as doubles, and the network's input, with labels."""
        given = self.model._take(take_rows(X, index), y)  # noqa: SLF001  # the common input check
        rows = torch.from_numpy(whole(self.model, given, Verb(lambda _, x: x), check_units=False)).float()
        return rows[:, : self.objective.context.n_features].nan_to_num().double().numpy(), rows

    def restore(self, x: Tensor) -> np.ndarray:
        """Reconstructions of scaled rows."""
        with torch.inference_mode():
            parts = [self.objective.reconstruct(part.to(self.model.device_)).cpu() for part in x.split(CHUNK)]
        return torch.cat(parts).double().numpy()

    def damage(self, x: Tensor) -> Tensor:
        """Scaled rows after the model's corruption, as in training."""
        device = torch.device(self.model.device_)
        generator = torch.Generator(device).manual_seed(self.seed)
        return torch.cat([self.objective.corrupt(part.to(device), generator).cpu() for part in x.split(CHUNK)])

    @cached_property
    def given(self) -> Tensor:
        return self.damage(self.x)

    @cached_property
    def raw(self) -> np.ndarray:
        """Rows in the original units, (n, d)."""
        scaling = self.model.scaling_
        rows: np.ndarray = self.X / scaling.factor + scaling.shift
        return rows

    @cached_property
    def restored(self) -> np.ndarray:
        return self.restore(self.given)

    @cached_property
    def clean_errors(self) -> np.ndarray:
        """Mean squared error of each row for clean input, as in `training_errors_`."""
        if self.objective.choices.corruption is None:
            return self.errors
        errors: np.ndarray = np.square(self.restore(self.x) - self.X).mean(axis=1)
        return errors

    @cached_property
    def errors(self) -> np.ndarray:
        """Mean squared error of each row, for corrupted input if the model has a corruption."""
        errors: np.ndarray = np.square(self.restored - self.X).mean(axis=1)
        return errors

    @cached_property
    def variance(self) -> float:
        """Mean variance over features."""
        return max(float(self.X.var(axis=0).mean()), 1e-12)

    @cached_property
    def unexplained(self) -> float:
        """Unexplained fraction of the variance of the rows."""
        return float(self.errors.mean()) / self.variance

    @cached_property
    def train(self) -> np.ndarray | None:
        """Scaled training rows, or None if they were not passed."""
        return self._train

    @cached_property
    def codes(self) -> np.ndarray:
        with torch.inference_mode():
            parts = [self.objective.encode(part.to(self.model.device_)).cpu() for part in self.x.split(CHUNK)]
        return torch.cat(parts).double().numpy()

    @cached_property
    def noise_unexplained(self) -> float:
        """Unexplained fraction of the variance for rows whose features are shuffled independently."""
        noise = self.x.clone()
        for column in range(self.X.shape[1]):
            noise[:, column] = noise[torch.randperm(len(noise), generator=self.generator), column]
        noisy = noise[:, : self.X.shape[1]].nan_to_num().double().numpy()
        return float(np.square(self.restore(noise) - noisy).mean()) / self.variance

    @cached_property
    def filled_in(self) -> float:
        """Relative error reduction on hidden entries, compared with the mean; 30 % of the entries are hidden."""
        hidden = (torch.rand(self.X.shape, generator=self.generator) < 0.3).numpy()
        mean = self.X.mean(axis=0)
        damaged = self.x.clone()
        damaged[:, : self.X.shape[1]] = torch.from_numpy(np.where(hidden, mean, self.X)).float()
        left = np.square(self.restore(damaged) - self.X)[hidden].mean()
        return 1.0 - float(left / max(np.square(mean - self.X)[hidden].mean(), 1e-12))

    @cached_property
    def unlike_mask(self) -> np.ndarray:
        """Whether each row has a far larger, or far smaller, error than all training rows."""
        quantiles = self.model.training_errors_
        errors = self.clean_errors
        unlike: np.ndarray = (errors > 1.5 * quantiles[-1]) | (errors < 0.25 * quantiles[0])
        return unlike


def spread(X: Any) -> np.ndarray:
    """Indices of the rows in the sample: all, or 2,000 evenly spaced."""
    n_rows = X.n_rows if hasattr(X, "n_rows") else X.shape[0]
    n_features = X.n_features if hasattr(X, "n_features") else int(np.prod(X.shape[1:]))
    most = max(FEWEST_ROWS, min(ROWS, BYTES // (8 * n_features)))
    return np.unique(np.linspace(0, n_rows - 1, min(most, n_rows)).astype(int))
