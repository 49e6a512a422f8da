"""From errors, codes and columns to one score, and the contribution of each column to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from isthmus.tasks.anomaly.grouping import Grouping
from isthmus.tasks.anomaly.neighbours import RowIndex, index_arrays, make_index
from isthmus.tasks.anomaly.relations import Relations
from isthmus.tasks.anomaly.tail_probability import TailProbability

PARTS = ("marginal", "relation", "reconstruction", "neighbours", "nearest", "local", "density")
TABLE_PARTS, IMAGE_PARTS = PARTS[:-1], ("reconstruction", "density")
"""Those that count by default: codes of tables found less than distances between their rows (see docs/anomaly.md)."""
DISTANCES = ("neighbours", "nearest", "local")
"""Parts that compare rows with training rows in the columns of the table."""


@dataclass(frozen=True)
class Combination:
    """How the surprisals of parts become one score.

    Attributes
    ----------
    weights
        How much each part counts; they are divided by their sum.
    exponent
        The score is minus the log of the weighted power mean of p-values with the exponent ``-exponent`` (Vovk & Wang
        2020): 1 for their harmonic mean, towards 0 for their geometric mean, which is the mean of the surprisals.
    n_neighbors
        Of each part that compares rows.
    proportional
        Parts whose totals are nats of cells, so that their surprisal goes on rising in proportion beyond all training
        rows; see `TailProbability.proportional`.
    """

    weights: Mapping[str, float]
    exponent: float
    n_neighbors: Mapping[str, int]
    proportional: frozenset[str] = frozenset()


_FORMER = {"neighbours": 5, "nearest": 1, "local": 20}
RULES: dict[str, Combination] = {
    "harmonic-relation": Combination(
        {
            "marginal": 1.0, "relation": 0.2, "reconstruction": 0.1, "neighbours": 1.0, "nearest": 0.4,
            "local": 0.3, "density": 0.3,
        },
        1.0,
        {"neighbours": 20, "nearest": 1, "local": 20},
        frozenset({"marginal", "relation"}),
    ),
    "clean": Combination(
        {
            "marginal": 0.2, "relation": 0.05, "reconstruction": 0.02, "neighbours": 0.03, "nearest": 0.5,
            "local": 0.2, "density": 0.06,
        },
        0.5,
        {"neighbours": 20, "nearest": 1, "local": 20},
        frozenset({"marginal", "relation"}),
    ),
    "harmonic": Combination(
        {
            "marginal": 1.0, "reconstruction": 0.1, "neighbours": 1.0, "nearest": 0.3,
            "local": 0.3, "density": 0.3,
        },
        1.0,
        _FORMER,
    ),
    "mean": Combination({"marginal": 1.0, "reconstruction": 1.0, "density": 2.0}, 0.0, _FORMER),
}  # fmt: skip
"""Rules by name; "mean" is that of files of version 0.1.0, "harmonic" of files before the relation was a part.

"clean" is for training rows that are known to be normal: the nearest of them says most then, while among rows that hold
anomalies the next anomaly is the nearest. Weights and exponent were chosen on eleven of 21 tables of normal rows, two
seeds: AUROC .807 became .822 and average precision .572 became .610; on the other ten .866 became .876 and .611 .657.
With some anomalies among the training rows the same rule had .71 instead of .75.
"""
MOST_BROKEN = 3
"""Cells of a row that count for the relation: one broken relation shows in two columns, and others only add noise."""
FEW_NEIGHBORS, MORE_TRIED = 8, 4
"""Up to so many neighbours, so many more are looked for in single precision, and their distances worked out again."""
RARE = 0.5
"""Nats that are added to the rarity of a cell where it weighs its part in another surprisal."""
CHUNK_NUMBERS, CHUNK_DISTANCES = 2**22, 2**20
"""Numbers that are held at a time, and distances, which take several passes and should stay in the cache."""


class Model(Protocol):
    """One autoencoder, or several: E members."""

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
class NeighbourIndex:
    """Codes of training rows, among which the nearest ones of new rows are searched.

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
        """The mean distance to the nearest, and their indices: (E, n, code) → (E, n), (E, n, k).

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
        """The mean distance of `look` alone, which is faster for many neighbours."""
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
        """Squared distances to all, without the squares of the codes, which do not change their order, (E, n, m)."""
        stored = self.codes.to(codes)
        ranks = torch.baddbmm(self._squares.to(codes), codes, stored.transpose(1, 2), alpha=-2.0)
        if own is not None:
            rows = (own >= 0).nonzero()[:, 0]
            ranks[:, rows, own[rows]] = torch.inf
        return ranks

    def _exact(self, codes: Tensor, places: Tensor, ranks: Tensor) -> Tensor:
        """Squared distances from differences, (E, n, k), because differences of squares cancel if they are small."""
        member = torch.arange(len(places), device=places.device)[:, None, None]
        away = self.codes.to(codes.device)[member, places].to(codes) - codes[:, :, None]  # (E, n, k, code)
        return torch.where(ranks.isinf(), torch.inf, away.square().sum(3))


@dataclass(frozen=True)
class PartScores:
    """The results of the parts for some rows, before they are made comparable.

    Attributes
    ----------
    columns
        For each part, what each column adds, (n, columns).
    totals
        For each part, (n,).
    holes
        Cells that are missing where none ever was, (n, columns), 1 or 0; None where they were not looked for.
    """

    columns: dict[str, Tensor]
    totals: dict[str, Tensor]
    holes: Tensor | None = None


@dataclass(frozen=True)
class Scorer:
    """Everything learned besides the weights: curves, memory, and how parts become a score.

    Each part answers one question in nats: minus the log of the share of training rows that are as unusual.

    * *marginal*: how rare is each cell in its own column? It is the error of an autoencoder whose code is empty.
    * *relation*: how far are its three most unusual cells from a linear prediction by the other columns?
    * *reconstruction*: how rare is so large an error in that column, mean over models?
    * *neighbours*: how far away are the nearest of the most usual training rows?
    * *nearest*: how far away is the nearest training row?
    * *local*: how far away are the nearest, relative to the distances among them, with all directions at one scale?
    * *density*: how far is the code from the nearest codes of training rows, mean over models?

    The score is minus the log of the weighted harmonic mean of these shares (Wilson 2019): the largest surprisal
    decides, less the log of its part's weight, whereas a mean lets parts that see nothing outvote it. The harmonic
    mean of p-values is itself a p-value up to a small factor, however the parts depend on each other.

    Attributes
    ----------
    grouping
        Columns of the table.
    parts
        Those that count.
    curves
        TailProbability by name: ``low`` and ``high`` of cells, ``error`` of models, ``residual`` of relations, and one
        for each part.
    memory
        Codes of training rows, for the density.
    indexes
        Training rows by the part that compares with them.
    remembered
        The scaled rows of the indexes, the most usual first, (m, d).
    whole_columns
        Columns that missed no cell in training, (columns,); a missing cell there is a surprisal of `missing` nats.
    rule
        How parts are combined, of `RULES`.
    relations
        Of the columns with each other, for the relation.
    """

    grouping: Grouping
    parts: Sequence[str]
    curves: Mapping[str, TailProbability] = field(default_factory=dict)
    memory: NeighbourIndex | None = None
    indexes: Mapping[str, RowIndex] = field(default_factory=dict)
    whole_columns: Tensor | None = None
    missing: float = 0.0
    rule: str = "harmonic-relation"
    remembered: Tensor | None = None
    relations: Relations | None = None

    def read(self, model: Model, x: Tensor, *, in_full: bool = True) -> PartScores:
        """The result of each part for scaled rows, (n, d); of columns only what totals need, unless `in_full`."""
        codes = model.encode(x) if set(self.parts) & {"reconstruction", "density"} else x[None]
        columns = dict[str, Tensor]()
        totals = dict[str, Tensor]()
        if "marginal" in self.parts:
            columns["marginal"] = self._marginal(x)
        if "relation" in self.parts:
            columns["relation"] = self._broken(x)
        if "reconstruction" in self.parts:
            columns["reconstruction"] = self._errors(model, x, codes)
        totals |= {name: part.sum(1) for name, part in columns.items()}
        if "density" in self.parts:
            totals["density"], places = self._density(codes, with_places=in_full)
            if places is not None:
                columns["density"] = self._density_columns(model, x, places, totals["density"])
        for name in [name for name in DISTANCES if name in self.parts]:
            index = self.indexes[name]
            if name == "nearest" and not in_full:
                totals[name] = index.nearest_distance(x)
                continue
            squares = index.squares(x)
            totals[name] = distance_of(name, index, squares)
            if in_full:
                columns[name] = self.grouping.sum(index.shares(x, squares))
        return PartScores(columns, totals, self._holes(x) if in_full else None)

    def _holes(self, x: Tensor) -> Tensor | None:
        """Cells that are missing in columns that never missed one, (n, columns)."""
        if self.whole_columns is None:
            return None
        return (self.grouping.sum(x.isnan().to(x)) > 0) * self.whole_columns.to(x)

    def _marginal(self, x: Tensor) -> Tensor:
        rarer = torch.maximum(self.curves["high"](x), self.curves["low"](-x)) - np.log(2.0)  # two tails
        cells = self.grouping.sum(rarer.clamp_(min=0.0))
        holes = self._holes(x)
        return cells if holes is None else cells + holes * self.missing

    def _broken(self, x: Tensor) -> Tensor:
        if self.relations is None:
            raise RuntimeError("The relation part was read before relations were learned.")
        return self.broken(self.relations.squares(x, self.grouping))

    def broken(self, squares: Tensor) -> Tensor:
        """How rare the largest residuals of a row are, in nats, from their squares: (n, columns) → (n, columns).

        0 for all but the largest ones.
        """
        rare = self.curves["residual"].proportional(squares.sqrt())
        if rare.shape[1] <= MOST_BROKEN:
            return rare
        least = rare.topk(MOST_BROKEN, dim=1, sorted=False).values.amin(1, keepdim=True)
        return torch.where(rare >= least, rare, 0.0)

    def _errors(self, model: Model, x: Tensor, codes: Tensor) -> Tensor:
        errors = self.grouping.sum(model.errors(x, codes).nan_to_num())  # (E, n, columns)
        flat = errors.transpose(0, 1).reshape(x.shape[0], -1)
        return self.curves["error"](flat).view(x.shape[0], len(errors), -1).mean(1)

    def _density(self, codes: Tensor, *, with_places: bool) -> tuple[Tensor, Tensor | None]:
        """The distance in units of the memory, (n,), and the indices of the nearest, (E, n, k), if requested."""
        if self.memory is None:
            raise RuntimeError("The density part was read before the memory was filled.")
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
        """Anomaly scores, (n,)."""
        return self._combined(self._surprisals(reading))

    def _surprisals(self, reading: PartScores) -> Tensor:
        """How rare so large a total is, in nats, (parts, n)."""
        found, rising = list[Tensor](), RULES[self.rule].proportional
        for name in self.parts:
            curve, total = self.curves[name], reading.totals[name][:, None]
            found.append((curve.proportional(total) if name in rising else curve(total))[:, 0])
        return torch.stack(found)

    def _weights(self, surprisals: Tensor) -> Tensor:
        weights = torch.tensor([RULES[self.rule].weights[name] for name in self.parts], dtype=torch.float64)
        return (weights / weights.sum())[:, None].to(surprisals)

    def _combined(self, surprisals: Tensor) -> Tensor:
        weights = self._weights(surprisals)
        exponent = RULES[self.rule].exponent
        if exponent == 0.0:
            return (weights * surprisals).sum(0)
        largest = surprisals.amax(0)  # taken out, so that no exponential overflows
        return ((exponent * (surprisals - largest)).exp() * weights).sum(0).log() / exponent + largest

    def contributions(self, reading: PartScores) -> Tensor:
        """The contribution of each column to the score: (n, columns), which sum to the score.

        The score is dealt out to parts as they decide it, and within a part to columns. Of cells that contradict each
        other the one that is rarer in its own column is the likelier mistake, and gets more.
        """
        surprisals = self._surprisals(reading)
        weights, total = self._weights(surprisals), self._combined(surprisals)
        exponent = RULES[self.rule].exponent
        decisive = exponent > 0.0
        of_parts = weights * surprisals
        if decisive:
            of_parts = weights * (exponent * (surprisals - surprisals.amax(0))).exp()
            of_parts = of_parts / of_parts.sum(0) * total
        added: Any = 0.0
        for name, part in zip(self.parts, of_parts, strict=True):
            cells = reading.columns[name]
            if name == "relation":
                # The largest residual is the broken one. Dealt out in proportion, another column whose own value is
                # rare was named first in a tenth of the rows with a broken relation; with the sixth power in 1 %.
                cells = (cells / cells.amax(1, keepdim=True).clamp(min=torch.finfo(cells.dtype).tiny)) ** 6
            if decisive and name != "marginal" and "marginal" in self.parts:
                cells = cells * (RARE + reading.columns["marginal"])
            if decisive and name != "marginal" and reading.holes is not None:
                # Distances and errors take a hole for the mean, as if nothing were wrong with its column.
                cells = torch.maximum(cells, reading.holes * cells.amax(1, keepdim=True))
            sums = cells.sum(1, keepdim=True)
            even = torch.ones_like(cells) / cells.shape[1]
            shares = torch.where(sums > 0.0, cells / sums.clamp(min=torch.finfo(cells.dtype).tiny), even)
            added = added + shares * part[:, None]
        answer: Tensor = added
        return answer

    def chunk_rows(self, model: Model) -> int:
        """Most rows to process at a time."""
        by_model = self.grouping.n_columns if self.memory is None else self.memory.codes.shape[1]
        width = max(self.grouping.n_columns, by_model) * model.n_members
        rows = CHUNK_NUMBERS // width
        if self.indexes:
            rows = min(rows, CHUNK_DISTANCES // max(len(index.rows) for index in self.indexes.values()))
        return max(16, rows)

    def chunks(self, model: Model, X: Tensor) -> Iterator[tuple[slice, Tensor]]:
        """Blocks of rows, with their slices."""
        size = self.chunk_rows(model)
        for start in range(0, len(X), size):
            yield slice(start, start + size), X[start : start + size]

    # -- keeping -------------------------------------------------------------------------------------------------

    def to_arrays(self) -> dict[str, np.ndarray]:
        """The learned arrays, by name."""
        arrays = {f"{name}.{key}": a for name, curve in self.curves.items() for key, a in curve.to_arrays().items()}
        if self.memory is not None:
            arrays |= {"memory.codes": self.memory.codes.cpu().numpy(), "memory.unit": self.memory.unit.cpu().numpy()}
        for name, index in self.indexes.items():
            arrays |= {f"{name}.{key}": array for key, array in index_arrays(index).items()}
        if self.remembered is not None:
            arrays["remembered"] = self.remembered.numpy()
        if self.relations is not None:
            arrays |= {f"relation.{key}": array for key, array in self.relations.to_arrays().items()}
        if self.whole_columns is not None:
            arrays["whole_columns"] = self.whole_columns.cpu().numpy()
        return arrays | {"missing": np.array([self.missing])}

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, np.ndarray],
        grouping: Grouping,
        parts: Sequence[str],
        n_neighbors: int,
        rule: str,
    ) -> Self:
        """The inverse of `to_arrays`."""
        names = {name.rpartition(".")[0] for name in arrays if name.endswith(".knots")}
        curves = {n: TailProbability.from_arrays(_of(arrays, n)) for n in names}
        tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
        memory = None
        if "memory.codes" in arrays:
            memory = NeighbourIndex(tensors["memory.codes"], tensors["memory.unit"], n_neighbors)
        rows = tensors.get("remembered")
        counts = RULES[rule].n_neighbors
        indexes = {n: _index(rows, _of(tensors, n), counts[n]) for n in DISTANCES if n in parts}
        relation = _of(tensors, "relation")
        relations = Relations(relation["shift"], relation["factor"]) if "relation" in parts else None
        whole, missing = tensors.get("whole_columns"), float(arrays["missing"][0])
        return cls(grouping, tuple(parts), curves, memory, indexes, whole, missing, rule, rows, relations)


def distance_of(name: str, index: RowIndex, squares: Tensor, own: Tensor | None = None) -> Tensor:
    """The total of a part that compares rows, from squared distances: (n, m) → (n,)."""
    return index.local_distance(squares, own) if name == "local" else index.distance(squares, own)


def _of(arrays: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The arrays of one member, by their names in it."""
    return {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}


def _index(remembered: Tensor | None, tensors: Mapping[str, Tensor], n_neighbors: int) -> RowIndex:
    if remembered is None:
        raise RuntimeError("There are no rows to compare with.")
    units = tensors["shift"], tensors["factor"]
    first = int(tensors["first"]) if "first" in tensors else 0  # files before the rule "harmonic-relation" have none
    rows = remembered[first : first + int(tensors["n_rows"])].to(units[0])
    return make_index(rows, units, n_neighbors, tensors.get("usual"), first=first)
