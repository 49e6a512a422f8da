"""What verdicts look at: some rows as the network sees them, and what becomes of them."""

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
"""Rows that are looked at, at most, and what they may take as doubles."""
CHUNK = 250
FEWEST_ROWS = 20


class Evidence:
    """What the checks look at, each computed when it is first asked for; all in scaled units.

    A model with a corruption is judged by what it is trained for: it is given damaged rows, and its reconstructions are
    compared with the clean ones.
    """

    def __init__(self, model: Autoencoder, X: Any, y: Any, X_train: Any, seed: int) -> None:
        self.model, self.objective, self.history = model, model.objective_, model.history_
        self.index = spread(X)
        self.X, self.x = self._scaled(X, self.index, None if y is None else np.asarray(y)[self.index])
        self._train = None if X_train is None else self._scaled(X_train, spread(X_train), None)[0]
        self.seed, self.generator = seed, torch.Generator().manual_seed(seed)

    def _scaled(self, X: Any, index: np.ndarray, y: Any) -> tuple[np.ndarray, Tensor]:
        """Rows without their labels, as doubles, and with them, as the network is given them."""
        given = self.model._take(take_rows(X, index), y)  # noqa: SLF001  # the gate through which all rows go
        rows = torch.from_numpy(whole(self.model, given, Verb(lambda _, x: x), check_units=False)).float()
        return rows[:, : self.objective.context.n_features].nan_to_num().double().numpy(), rows

    def restore(self, x: Tensor) -> np.ndarray:
        """Reconstructions of scaled rows."""
        with torch.inference_mode():
            parts = [self.objective.reconstruct(part.to(self.model.device_)).cpu() for part in x.split(CHUNK)]
        return torch.cat(parts).double().numpy()

    def damage(self, x: Tensor) -> Tensor:
        """Scaled rows as the network is given them in training."""
        device = torch.device(self.model.device_)
        generator = torch.Generator(device).manual_seed(self.seed)
        return torch.cat([self.objective.corrupt(part.to(device), generator).cpu() for part in x.split(CHUNK)])

    @cached_property
    def given(self) -> Tensor:
        return self.damage(self.x)

    @cached_property
    def raw(self) -> np.ndarray:
        """Rows in the user's units, (n, d)."""
        scaling = self.model.scaling_
        rows: np.ndarray = self.X / scaling.factor + scaling.shift
        return rows

    @cached_property
    def restored(self) -> np.ndarray:
        return self.restore(self.given)

    @cached_property
    def clean_errors(self) -> np.ndarray:
        """Mean squared error of each row where undamaged ones are given, as in `training_errors_`."""
        if self.objective.choices.corruption is None:
            return self.errors
        errors: np.ndarray = np.square(self.restore(self.x) - self.X).mean(axis=1)
        return errors

    @cached_property
    def errors(self) -> np.ndarray:
        """Mean squared error of each row, damaged where the model has a corruption."""
        errors: np.ndarray = np.square(self.restored - self.X).mean(axis=1)
        return errors

    @cached_property
    def variance(self) -> float:
        """Mean variance of a feature."""
        return max(float(self.X.var(axis=0).mean()), 1e-12)

    @cached_property
    def unexplained(self) -> float:
        """Share of the variance of the rows that is not restored."""
        return float(self.errors.mean()) / self.variance

    @cached_property
    def train(self) -> np.ndarray | None:
        """Scaled rows that the model was trained on, if they were given."""
        return self._train

    @cached_property
    def codes(self) -> np.ndarray:
        with torch.inference_mode():
            parts = [self.objective.encode(part.to(self.model.device_)).cpu() for part in self.x.split(CHUNK)]
        return torch.cat(parts).double().numpy()

    @cached_property
    def noise_unexplained(self) -> float:
        """Share of the variance not restored for rows whose features are shuffled, each for itself."""
        noise = self.x.clone()
        for column in range(self.X.shape[1]):
            noise[:, column] = noise[torch.randperm(len(noise), generator=self.generator), column]
        noisy = noise[:, : self.X.shape[1]].nan_to_num().double().numpy()
        return float(np.square(self.restore(noise) - noisy).mean()) / self.variance

    @cached_property
    def filled_in(self) -> float:
        """Share of the squared error of the mean that is gained where three entries in ten were set to the mean."""
        hidden = (torch.rand(self.X.shape, generator=self.generator) < 0.3).numpy()
        mean = self.X.mean(axis=0)
        damaged = self.x.clone()
        damaged[:, : self.X.shape[1]] = torch.from_numpy(np.where(hidden, mean, self.X)).float()
        left = np.square(self.restore(damaged) - self.X)[hidden].mean()
        return 1.0 - float(left / max(np.square(mean - self.X)[hidden].mean(), 1e-12))

    @cached_property
    def unlike_mask(self) -> np.ndarray:
        """Rows restored far worse, or far better, than any of the training data."""
        quantiles = self.model.training_errors_
        errors = self.clean_errors
        unlike: np.ndarray = (errors > 1.5 * quantiles[-1]) | (errors < 0.25 * quantiles[0])
        return unlike


def spread(X: Any) -> np.ndarray:
    """The places of the rows that are looked at: all, or 2,000 evenly spread."""
    n_rows = X.n_rows if hasattr(X, "n_rows") else X.shape[0]
    n_features = X.n_features if hasattr(X, "n_features") else int(np.prod(X.shape[1:]))
    most = max(FEWEST_ROWS, min(ROWS, BYTES // (8 * n_features)))
    return np.unique(np.linspace(0, n_rows - 1, min(most, n_rows)).astype(int))
