"""From errors, codes and columns to one score, of which every column knows its part."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from isthmus.tasks.anomaly.tail_probability import TailProbability

PARTS = ("marginal", "reconstruction", "density")
WEIGHTS = {"marginal": 1.0, "reconstruction": 1.0, "density": 2.0}
"""How much each part counts; the density is the only one that sees rows as a whole."""
FEW_NEIGHBORS, MORE_TRIED = 8, 4
"""Up to so many neighbours, so many more are looked for in single precision, and their distances worked out again."""
CHUNK_NUMBERS = 2**22
"""Distances that are held at a time."""


class Model(Protocol):
    """One autoencoder, or several of them: E members."""

    @property
    def n_members(self) -> int:
        """E."""

    def encode(self, x: Tensor) -> Tensor:
        """Codes of scaled rows: (n, d) → (E, n, code)."""

    def errors(self, x: Tensor, codes: Tensor) -> Tensor:
        """The loss of every number, with the codes of the rows: (n, d) → (E, n, d)."""

    def restore(self, codes: Tensor) -> Tensor:
        """Reconstructions in scaled units: (E, n, code) → (E, n, d)."""


@dataclass(frozen=True)
class Grouping:
    """Which numbers of a row belong to which column of the table; None: each is a column of its own.

    Attributes
    ----------
    places
        The column of each number, (d,), or None.
    n_columns
        How many columns there are.
    """

    places: Tensor | None
    n_columns: int

    def sum(self, x: Tensor) -> Tensor:
        """Sums by column: (…, d) → (…, columns)."""
        if self.places is None:
            return x
        sums = x.new_zeros(*x.shape[:-1], self.n_columns)
        return sums.index_add_(-1, self.places.to(x.device), x)


@dataclass(frozen=True)
class NeighbourIndex:
    """Codes of training rows, among which new rows look for their like.

    Attributes
    ----------
    codes
        (E, m, code).
    unit
        The median distance of training rows to their nearest, for each member, (E,).
    n_neighbors
        How many nearest count.
    """

    codes: Tensor
    unit: Tensor
    n_neighbors: int

    def look(self, codes: Tensor, own: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean distance to the nearest and their places: (E, n, code) → (E, n), (E, n, k).

        Parameters
        ----------
        codes
            Of the rows.
        own
            The place of each row in the memory, which is passed over, or -1, (n,).
        """
        few = self.n_neighbors <= FEW_NEIGHBORS
        ranks = self._ranks(codes.float() if few else codes, own)
        count = self._count(ranks, own)
        if not few:
            nearest = ranks.topk(count, dim=2, largest=False, sorted=False)
            return self._mean_distance(nearest.values, codes), nearest.indices
        tried = ranks.topk(min(count + MORE_TRIED, ranks.shape[2]), dim=2, largest=False)
        exact = self._exact(codes, tried.indices, tried.values).topk(count, dim=2, largest=False)
        return exact.values.nan_to_num(posinf=0.0).sqrt().mean(2), tried.indices.gather(2, exact.indices)

    def distances(self, codes: Tensor, own: Tensor | None = None) -> Tensor:
        """The first answer of `look` alone, which is quicker where many neighbours count."""
        if self.n_neighbors <= FEW_NEIGHBORS or codes.device.type != "cpu":
            return self.look(codes, own)[0]
        ranks = self._ranks(codes, own)
        count = self._count(ranks, own)
        ranks.numpy().partition(count - 1, axis=2)  # a tenth of the time of torch's topk
        return self._mean_distance(ranks[:, :, :count], codes)

    @cached_property
    def _squares(self) -> Tensor:
        """Squared lengths of the codes, (E, 1, m)."""
        return self.codes.double().square().sum(2)[:, None, :]

    def _count(self, ranks: Tensor, own: Tensor | None) -> int:
        return max(1, min(self.n_neighbors, ranks.shape[2] - (own is not None)))

    @staticmethod
    def _mean_distance(ranks: Tensor, codes: Tensor) -> Tensor:
        """Mean distance from ranks, which lack the squares of the codes: (E, n, k), (E, n, code) → (E, n)."""
        squares = (ranks + codes.square().sum(2, keepdim=True)).clamp_(min=0.0)
        return squares.nan_to_num(posinf=0.0).sqrt().mean(2)

    def _ranks(self, codes: Tensor, own: Tensor | None) -> Tensor:
        """Squared distances to all without the squares of the codes, which change no order, (E, n, m)."""
        stored = self.codes.to(codes)
        ranks = torch.baddbmm(self._squares.to(codes), codes, stored.transpose(1, 2), alpha=-2.0)
        if own is not None:
            rows = (own >= 0).nonzero()[:, 0]
            ranks[:, rows, own[rows]] = torch.inf
        return ranks

    def _exact(self, codes: Tensor, places: Tensor, ranks: Tensor) -> Tensor:
        """Squared distances from differences, (E, n, k), for a difference of squares cancels where they are small."""
        member = torch.arange(len(places), device=places.device)[:, None, None]
        away = self.codes.to(codes.device)[member, places].to(codes) - codes[:, :, None]  # (E, n, k, code)
        return torch.where(ranks.isinf(), torch.inf, away.square().sum(3))


@dataclass(frozen=True)
class PartScores:
    """What the parts say of some rows, before they are made comparable.

    Attributes
    ----------
    columns
        For each part, what each column adds, (n, columns).
    totals
        For each part, (n,).
    """

    columns: dict[str, Tensor]
    totals: dict[str, Tensor]


@dataclass
class Scorer:
    """All that was learned besides the weights: curves, memory, and how parts become a score.

    Three questions, one part each, answered in nats of surprise and averaged:

    * *marginal*: how rare is each cell in its own column? It is the error of an autoencoder whose code is empty.
    * *reconstruction*: how rare is so large an error in that column, mean over members?
    * *density*: how far is the code from the nearest codes of training rows, mean over members?

    Attributes
    ----------
    grouping
        Columns of the table.
    parts
        Those that count.
    curves
        TailProbability by name: ``low`` and ``high`` of cells, ``error`` of members, and one for each part.
    memory
        Codes of training rows.
    whole_columns
        Columns that missed no cell in training, (columns,); a missing cell there is a surprise of `missing` nats.
    """

    grouping: Grouping
    parts: Sequence[str]
    curves: dict[str, TailProbability] = field(default_factory=dict)
    memory: NeighbourIndex | None = None
    whole_columns: Tensor | None = None
    missing: float = 0.0

    def read(self, model: Model, x: Tensor, *, in_full: bool = True) -> PartScores:
        """What each part says of scaled rows, (n, d); of columns only what totals need, unless `in_full`."""
        codes = model.encode(x) if set(self.parts) & {"reconstruction", "density"} else x[None]
        columns = dict[str, Tensor]()
        totals = dict[str, Tensor]()
        if "marginal" in self.parts:
            columns["marginal"] = self._marginal(x)
        if "reconstruction" in self.parts:
            columns["reconstruction"] = self._errors(model, x, codes)
        totals |= {name: part.sum(1) for name, part in columns.items()}
        if "density" in self.parts:
            totals["density"], places = self._density(codes, with_places=in_full)
            if places is not None:
                columns["density"] = self._density_columns(model, x, places, totals["density"])
        return PartScores(columns, totals)

    def _marginal(self, x: Tensor) -> Tensor:
        rarer = torch.maximum(self.curves["high"](x), self.curves["low"](-x)) - np.log(2.0)  # two tails
        cells = self.grouping.sum(rarer.clamp_(min=0.0))
        if self.whole_columns is not None:
            holes = self.grouping.sum(x.isnan().to(x)) > 0
            cells = cells + holes * self.whole_columns.to(x) * self.missing
        return cells

    def _errors(self, model: Model, x: Tensor, codes: Tensor) -> Tensor:
        errors = self.grouping.sum(model.errors(x, codes).nan_to_num())  # (E, n, columns)
        flat = errors.transpose(0, 1).reshape(x.shape[0], -1)
        return self.curves["error"](flat).view(x.shape[0], len(errors), -1).mean(1)

    def _density(self, codes: Tensor, *, with_places: bool) -> tuple[Tensor, Tensor | None]:
        """The distance in units of the memory, (n,), and the places of the nearest, (E, n, k), if they are wanted."""
        if self.memory is None:
            raise RuntimeError("The density was asked for before the memory was filled.")
        memory = self.memory
        distances, places = memory.look(codes) if with_places else (memory.distances(codes), None)
        return (distances / self.memory.unit.to(codes)[:, None]).mean(0), places

    def _density_columns(self, model: Model, x: Tensor, places: Tensor, total: Tensor) -> Tensor:
        away = (x - model.restore(self.neighbours(places).to(x))).nan_to_num()  # from what its like look like
        shares = self.grouping.sum(away.square()).mean(0)  # (n, columns)
        return shares / shares.sum(1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny) * total[:, None]

    def neighbours(self, places: Tensor) -> Tensor:
        """The mean code of the nearest training rows: (E, n, k) → (E, n, code)."""
        if self.memory is None:
            raise RuntimeError("There is no memory.")
        member = torch.arange(len(places), device=places.device)[:, None, None]
        return self.memory.codes.to(places.device)[member, places].mean(2)

    def scores(self, reading: PartScores) -> Tensor:
        """Anomaly scores: the weighted mean surprise of the parts, (n,)."""
        return torch.stack([self.weight(name) * self.surprise(name, reading) for name in self.parts]).sum(0)

    def weight(self, name: str) -> float:
        """The share of a part in the score."""
        return WEIGHTS[name] / sum(WEIGHTS[part] for part in self.parts)

    def surprise(self, name: str, reading: PartScores) -> Tensor:
        """How rare so large a total of this part is, in nats, (n,)."""
        return self.curves[name](reading.totals[name][:, None])[:, 0]

    def contributions(self, reading: PartScores) -> Tensor:
        """What each column adds to the score: (n, columns), which sum to the score."""
        added: Any = 0.0
        for name in self.parts:
            cells = reading.columns[name]
            shares = cells / cells.sum(1, keepdim=True).clamp(min=torch.finfo(cells.dtype).tiny)
            added = added + shares * (self.weight(name) * self.surprise(name, reading))[:, None]
        answer: Tensor = added
        return answer

    # -- learning ------------------------------------------------------------------------------------------------

    def remember(self, model: Model, X: Tensor, chosen: np.ndarray, n_neighbors: int) -> np.ndarray:
        """Remember rows at some places; gives the density of all, each as if it were not remembered, (n,)."""
        codes = model.encode(X[torch.from_numpy(chosen)])
        self.memory = NeighbourIndex(codes, torch.ones(len(codes)), n_neighbors)
        own = torch.full((len(X),), -1)
        own[torch.from_numpy(chosen)] = torch.arange(len(chosen))
        chunks = [self.memory.distances(model.encode(x), own[rows]) for rows, x in self.chunks(model, X)]
        distances = torch.cat(chunks, dim=1)  # (E, n)
        unit = distances[:, torch.from_numpy(chosen)].median(dim=1).values.clamp(min=1e-6)
        self.memory = NeighbourIndex(codes, unit.cpu(), n_neighbors)
        density: np.ndarray = (distances / unit[:, None]).mean(0).double().cpu().numpy()
        return density

    def learn(
        self, model: Model, X: Tensor, kept: np.ndarray, density: Mapping[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """Learn curves from rows; gives the total of each part for each row, (n,).

        Parameters
        ----------
        model
            Trained.
        X
            Scaled rows, (n, d).
        kept
            Which of them count as normal for now: all curves come from these.
        density
            Its totals by its name, as `remember` gave them; empty where it is no part.
        """
        normal = X[torch.from_numpy(np.flatnonzero(kept))]
        values = normal.double().cpu().numpy()
        if "marginal" in self.parts:
            self.curves |= {"high": TailProbability.learn(values), "low": TailProbability.learn(-values)}
            holes = self.grouping.sum(normal.isnan().double()) > 0
            self.whole_columns, self.missing = (~holes.any(dim=0)).double(), float(np.log(len(values) + 1.0))
        if "reconstruction" in self.parts:
            self.curves["error"] = TailProbability.learn(self._error_reference(model, normal))
        totals = {**self._totals(model, X), **density}
        self.curves |= {name: TailProbability.learn(total[kept, None]) for name, total in totals.items()}
        return totals

    def scores_of_totals(self, totals: Mapping[str, np.ndarray]) -> np.ndarray:
        """Anomaly scores from the totals of the parts, (n,)."""
        tensors = {name: torch.from_numpy(total) for name, total in totals.items()}
        return self.scores(PartScores({}, tensors)).numpy()

    def _error_reference(self, model: Model, rows: Tensor) -> np.ndarray:
        parts = []
        for x in rows.split(self.chunk_rows(model)):
            errors = self.grouping.sum(model.errors(x, model.encode(x)).nan_to_num())
            parts.append(errors.transpose(0, 1).reshape(len(x), -1).double().cpu().numpy())
        return np.concatenate(parts)

    def _totals(self, model: Model, X: Tensor) -> dict[str, np.ndarray]:
        """The totals of every part but the density for rows of the training, each (n,)."""
        others = replace(self, parts=[name for name in self.parts if name != "density"])
        chunks = [others.read(model, x, in_full=False).totals for _, x in self.chunks(model, X)]
        return {name: torch.cat([chunk[name] for chunk in chunks]).double().cpu().numpy() for name in others.parts}

    def chunk_rows(self, model: Model) -> int:
        """How many rows may be worked on at a time."""
        width = max(self.grouping.n_columns, self.memory.codes.shape[1] if self.memory is not None else 1)
        return max(16, CHUNK_NUMBERS // (model.n_members * width))

    def chunks(self, model: Model, X: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Rows some at a time, with their places."""
        size = self.chunk_rows(model)
        for start in range(0, len(X), size):
            yield slice(start, start + size), X[start : start + size]

    # -- keeping -------------------------------------------------------------------------------------------------

    def to_arrays(self) -> dict[str, np.ndarray]:
        """All that was learned, by name."""
        arrays = {f"{name}.{key}": a for name, curve in self.curves.items() for key, a in curve.to_arrays().items()}
        if self.memory is not None:
            arrays |= {"memory.codes": self.memory.codes.cpu().numpy(), "memory.unit": self.memory.unit.cpu().numpy()}
        if self.whole_columns is not None:
            arrays["whole_columns"] = self.whole_columns.cpu().numpy()
        return arrays | {"missing": np.array([self.missing])}

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, np.ndarray], grouping: Grouping, parts: Sequence[str], n_neighbors: int
    ) -> Self:
        """The inverse of `to_arrays`."""
        names = {name.rpartition(".")[0] for name in arrays if name.endswith(".knots")}
        curves = {
            n: TailProbability.from_arrays({k: arrays[f"{n}.{k}"] for k in ("knots", "heights", "scale")})
            for n in names
        }
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        memory = None
        if "memory.codes" in arrays:
            memory = NeighbourIndex(tensors["memory.codes"], tensors["memory.unit"], n_neighbors)
        return cls(grouping, tuple(parts), curves, memory, tensors.get("whole_columns"), float(arrays["missing"][0]))
