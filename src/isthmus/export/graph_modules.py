"""Modules that are traced for export, from raw input to the result."""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from isthmus.data import Scaling
from isthmus.estimators.targets import output_scaling, output_shape, target_of
from isthmus.export.table_columns import Encoding
from isthmus.tasks.anomaly.detector import AnomalyDetector
from isthmus.tasks.anomaly.ensemble import Ensemble
from isthmus.tasks.anomaly.grouping import Grouping
from isthmus.tasks.anomaly.models import EnsembleModel, SingleModel
from isthmus.tasks.anomaly.neighbours import RowIndex
from isthmus.tasks.anomaly.scoring import NeighbourIndex, Scorer
from isthmus.tasks.anomaly.tail_probability import TailProbability


class Detect(nn.Module):
    """Negative anomaly scores of rows, and labels: -1 for anomalies, 1 for normal rows.

    A row with a value that the detector rejects gets the score NaN and the label -1, because a graph cannot raise
    errors.
    """

    offset: Tensor

    def __init__(self, detector: AnomalyDetector) -> None:
        super().__init__()
        form, old = detector.fitted_.format, detector.fitted_.scorer
        self.encoding = None if form.schema is None else Encoding(form.schema)
        self.scaling: Scaling = form.scaling
        self.left_out = None if form.left_out is None else torch.from_numpy(form.left_out)
        self.missing_allowed = form.missing_allowed
        self.register_buffer("offset", torch.tensor(detector.offset_ - detector.rounding_, dtype=torch.float64))
        self.model, self.network = _on_cpu(detector.fitted_.model)
        n_neighbors = 1 if old.memory is None else old.memory.n_neighbors
        arrays = old.to_arrays()
        grouping = _Product.of(old.grouping)
        self.scorer = _traceable(Scorer.from_arrays(arrays, grouping, old.parts, n_neighbors, old.rule))

    def forward(self, *given: Tensor) -> tuple[Tensor, Tensor]:
        raw = given[0].flatten(1) if self.encoding is None else self.encoding(list(given))
        x = self.scaling.apply(raw)
        x = x if self.left_out is None else x.masked_fill(self.left_out, 0.0)
        scores = -self.scorer.scores(self.scorer.read(self.model, x, in_full=False))
        bad = raw.isinf() if self.missing_allowed else ~raw.isfinite()
        scores = torch.where(bad.any(1), torch.nan, scores)
        return scores, torch.where(scores >= self.offset, 1, -1)


class Restore(nn.Module):
    """Restored images, in the unit of the target: (n, h, w, c) → (n, scale · h, scale · w, c'), of any size."""

    def __init__(self, restorer: Any) -> None:
        super().__init__()
        self.pictures = copy.deepcopy(restorer.restoring_network).cpu()
        self.given, self.wanted = restorer.given_range_, restorer.wanted_range_

    def forward(self, *given: Tensor) -> Tensor:
        scaled = (given[0] - self.given.low) / (self.given.high - self.given.low)
        restored: Tensor = self.pictures(scaled.movedim(-1, 1)).movedim(1, -1)
        in_unit: Tensor = restored * (self.wanted.high - self.wanted.low) + self.wanted.low
        return in_unit


@dataclass(frozen=True)
class _Product(Grouping):
    """Sums by column as a product with a 0-1 matrix, because torch's exporter translates `index_add_` incorrectly."""

    @classmethod
    def of(cls, grouping: Grouping) -> Self:
        """A copy with the same groups."""
        return cls(grouping.places, grouping.n_columns)

    def sum(self, x: Tensor) -> Tensor:
        if self.places is None:
            return x
        return x @ (self.places.cpu()[:, None] == torch.arange(self.n_columns)[None]).to(x)


class _Curve(TailProbability):
    """Tail probabilities as one formula, because blocks and conditional computations cannot be traced."""

    def __call__(self, values: Tensor) -> Tensor:
        away = values.double() - self.tolerance
        x = torch.maximum(away.nan_to_num(nan=-torch.inf).T, self.knots[:, :1])
        left = (torch.searchsorted(self.knots, x, right=True) - 1).clamp(0, max(0, self.knots.shape[1] - 2))
        right = (left + 1).clamp(max=self.knots.shape[1] - 1)
        low, high = self.knots.gather(1, left), self.knots.gather(1, right)
        share = ((x - low) / (high - low).where(high > low, 1.0)).clamp(0.0, 1.0)
        inside = torch.lerp(self.heights.gather(1, left), self.heights.gather(1, right), share)
        beyond = ((x - self.knots[:, -1:]) / self.scale[:, None]).clamp(min=0.0)
        return (inside + beyond.log1p()).T


class _Look(NeighbourIndex):
    """A neighbour index that uses only torch operations."""

    def distances(self, codes: Tensor, own: Tensor | None = None) -> Tensor:
        return self.look(codes, own)[0]


class _Nearest(RowIndex):
    """An index that is looked at by operations of torch alone."""

    def nearest(self, squares: Tensor, own: Tensor | None = None) -> Tensor:
        k = max(1, min(self.n_neighbors, squares.shape[1]))
        return squares.topk(k, dim=1, largest=False, sorted=False).values


def _traceable(scorer: Scorer) -> Scorer:
    return replace(
        scorer,
        curves={name: _Curve(**vars(curve)) for name, curve in scorer.curves.items()},
        memory=scorer.memory and _Look(**vars(scorer.memory)),
        indexes={name: _Nearest(**_fields(index)) for name, index in scorer.indexes.items()},
    )


def _fields(index: RowIndex) -> dict[str, Any]:
    """What an index is made of, without what it has worked out since."""
    return {field.name: getattr(index, field.name) for field in fields(index)}


def _on_cpu(model: Any) -> tuple[Any, nn.Module]:
    """A copy for tracing, and the module that contains its weights."""
    if isinstance(model, SingleModel):
        single = InSingle(model)
        return single, single.objective
    ensemble: Ensemble = copy.deepcopy(model.ensemble).cpu().double().eval()
    return EnsembleModel(ensemble, model.loss, [ensemble]), ensemble


class InSingle:
    """One autoencoder in single precision, the only precision of convolutions in onnxruntime; the rest is double."""

    n_members = 1

    def __init__(self, model: SingleModel) -> None:
        self.objective = copy.deepcopy(model.autoencoder.objective_).cpu().float().eval()

    def encode(self, x: Tensor) -> Tensor:
        """Codes of scaled rows: (n, d) → (1, n, code)."""
        codes: Tensor = self.objective.encode(x.float())[None].double()
        return codes

    def errors(self, x: Tensor, codes: Tensor) -> Tensor:
        """The loss of every feature, given the codes of the rows: (n, d) → (1, n, d)."""
        output = self.objective.decoder(codes[0].float())
        losses: Tensor = self.objective.choices.loss.per_feature(output, x.float())[None].double()
        return losses

    def restore(self, codes: Tensor) -> Tensor:
        """Reconstructions in scaled units: (1, n, code) → (1, n, d)."""
        rows: Tensor = self.objective.decode(codes[0].float())[None].double()
        return rows


class Verb(nn.Module):
    """One method of an autoencoder, from raw rows or codes to the result.

    Further inputs, in this order: labels, if it is conditional; targets, if it was fitted to pairs and the method
    compares with them.
    """

    def __init__(self, model: Any, what: str) -> None:
        super().__init__()
        self.what, self.shape, self.pixels = what, tuple(model.feature_shape_), model.scaling_.name == "pixels"
        self.objective = copy.deepcopy(model.objective_).cpu().float().eval()
        self.scaling: Scaling = model.scaling_
        target = target_of(model)
        self.output_shape, self.output_scaling = output_shape(model), output_scaling(model)
        self.output_pixels = self.pixels if target is None else target.is_bytes
        self.takes_target = target is not None and what == "score_samples"

    def forward(self, *given: Tensor) -> Tensor:
        parts, left = [self._scaled(given[0])], list(given[1:])
        if self.objective.context.n_conditions:
            known = torch.arange(self.objective.context.n_conditions)
            parts.append((left.pop(0)[:, None] == known[None]).to(parts[0]))
        if self.takes_target:
            parts.append(self.output_scaling.apply(left.pop(0).flatten(1).float()))
        answer: Tensor = getattr(self.objective, VERBS[self.what])(torch.cat(parts, dim=1))
        if self.what == "score_samples":
            return -answer
        return self._in_units(answer) if self.what in WIDE else answer

    def _scaled(self, given: Tensor) -> Tensor:
        return given if self.what == "inverse_transform" else self.scaling.apply(given.flatten(1).float())

    def _in_units(self, rows: Tensor) -> Tensor:
        rows = self.output_scaling.invert(rows).reshape(-1, *self.output_shape)
        return rows.round().clamp(0, 255).to(torch.uint8) if self.output_pixels else rows

    def inputs(self) -> dict[str, Tensor]:
        """Example inputs of two rows, by name."""
        context, codes = self.objective.context, self.what == "inverse_transform"
        shape = (context.code_size,) if codes else self.shape
        found = {"Z" if codes else "X": _zeros(shape, in_bytes=self.pixels and not codes)}
        if context.n_conditions:
            found["y"] = torch.zeros(2, dtype=torch.int64)
        if self.takes_target:
            found["target"] = _zeros(self.output_shape, in_bytes=self.output_pixels)
        return found


VERBS = {
    "transform": "encode",
    "reconstruct": "reconstruct",
    "inverse_transform": "decode",
    "score_samples": "row_losses",
}
"""Exportable methods of an autoencoder, with the names of the objective's methods."""
WIDE = ("reconstruct", "inverse_transform")


def _zeros(shape: tuple[int, ...], *, in_bytes: bool) -> Tensor:
    return torch.zeros(2, *shape, dtype=torch.uint8 if in_bytes else torch.float32)


def example_rows(shape: tuple[int, ...]) -> Tensor:
    """Two raw rows for tracing."""
    return torch.from_numpy(np.zeros((2, *shape)))
