"""Inputs of the checks: a sample of scaled rows, their codes and their reconstructions."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from isthmus.diagnosis.measures import in_one_unit, take_rows
from isthmus.estimators import Autoencoder
from isthmus.estimators.inference import Verb, whole
from isthmus.estimators.targets import output_scaling, take_pair, target_of

ROWS = 2_000
BYTES = 2**28
"""Maximum number and size (as doubles) of the rows in the sample."""
CHUNK = 250
FEWEST_ROWS = 20


class Evidence:
    """Quantities for the checks in scaled units, computed on first use.

    A model with a corruption is evaluated on its training task: it receives corrupted rows, and its reconstructions are
    compared with the clean rows. `wanted` has the rows that answers are compared with: X, or the target of pairs.
    """

    def __init__(
        self, model: Autoencoder, X: Any, y: Any, *, target: Any, training: tuple[Any, Any], seed: int
    ) -> None:
        self.model, self.objective, self.history = model, model.objective_, model.history_
        self.index = spread(X)
        self.paired = target_of(model) is not None
        some_labels = None if y is None else np.asarray(y)[self.index]
        self.in_one_unit = target is None or in_one_unit(X, target)
        self.X, self.x, self.wanted = self._scaled(X, self.index, some_labels, target)
        X_train, target_train = training
        self._train = None if X_train is None else self._scaled(X_train, spread(X_train), None, target_train)
        self.seed, self.generator = seed, torch.Generator().manual_seed(seed)

    def _scaled(self, X: Any, index: np.ndarray, y: Any, target: Any) -> tuple[np.ndarray, Tensor, np.ndarray]:
        """Scaled rows without labels, as doubles; the network's input, with labels; and what answers should be."""
        wanted = None if target is None else take_rows(target, index)
        given = take_pair(self.model, take_rows(X, index), y, wanted)
        verb = Verb(lambda _, x: x, compares=self.paired)
        batch = torch.from_numpy(whole(self.model, given, verb, check_units=False)).float()
        rows, compared = self.objective.given_and_target(batch)
        own = _plain(rows[:, : self.objective.context.n_features])
        return own, rows, _plain(compared) if self.paired else own

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
        errors: np.ndarray = np.square(self.restore(self.x) - self.wanted).mean(axis=1)
        return errors

    @cached_property
    def errors(self) -> np.ndarray:
        """Mean squared error of each row, for corrupted input if the model has a corruption."""
        errors: np.ndarray = np.square(self.restored - self.wanted).mean(axis=1)
        return errors

    @cached_property
    def variance(self) -> float:
        """Mean variance over features of what answers are compared with."""
        return max(float(self.wanted.var(axis=0).mean()), 1e-12)

    @cached_property
    def unexplained(self) -> float:
        """Unexplained fraction of the variance of the rows."""
        return float(self.errors.mean()) / self.variance

    @cached_property
    def train(self) -> np.ndarray | None:
        """Scaled training rows, or None if they were not passed."""
        return None if self._train is None else self._train[0]

    @cached_property
    def train_error(self) -> float | None:
        """Mean squared error of training rows, corrupted as in training; None if they were not passed."""
        if self._train is None:
            return None
        _, given, wanted = self._train
        return float(np.square(self.restore(self.damage(given)) - wanted).mean())

    @cached_property
    def untouched(self) -> np.ndarray | None:
        """The input as an answer, in scaled units of the answers; None where X and target differ in shape or unit."""
        rows = _plain(self.given[:, : self.X.shape[1]])
        if not self.paired:
            return rows
        if not self.in_one_unit:
            return None
        scaling = self.model.scaling_
        raw = torch.from_numpy(rows / scaling.factor + scaling.shift)
        return _plain(output_scaling(self.model).apply(raw))

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


def _plain(rows: Tensor) -> np.ndarray:
    """Rows as doubles, missing entries as zeros."""
    plain: np.ndarray = rows.nan_to_num().double().numpy()
    return plain


def spread(X: Any) -> np.ndarray:
    """Indices of the rows in the sample: all, or 2,000 evenly spaced."""
    n_rows = X.n_rows if hasattr(X, "n_rows") else X.shape[0]
    n_features = X.n_features if hasattr(X, "n_features") else int(np.prod(X.shape[1:]))
    most = max(FEWEST_ROWS, min(ROWS, BYTES // (8 * n_features)))
    return np.unique(np.linspace(0, n_rows - 1, min(most, n_rows)).astype(int))
