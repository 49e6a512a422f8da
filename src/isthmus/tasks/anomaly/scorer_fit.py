"""From a trained model and its rows to a scorer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from isthmus.tasks.anomaly.grouping import Grouping
from isthmus.tasks.anomaly.neighbours import make_index, standard_units, white_units, with_usual
from isthmus.tasks.anomaly.relations import learn_relations
from isthmus.tasks.anomaly.scoring import (
    CHUNK_DISTANCES,
    DISTANCES,
    RULES,
    Model,
    NeighbourIndex,
    PartScores,
    Scorer,
    distance_of,
)
from isthmus.tasks.anomaly.tail_probability import TailProbability

FEWEST_TRIMMED = 10
"""Rows below which none is presumed odd."""
FEW_ROWS = {"neighbours": 1024, "local": 2048}
"""Remembered rows of parts that look at fewer than all.

Clusters of anomalies thin out in a sample. On 21 tables with anomalies in the training rows, 20 neighbours among 1,024
of the most usual rows had a mean AUROC of 0.758, among all of these 0.758 too, and five among these 0.748; among 1,024
of all rows 0.755, where 20 among all rows had 0.742. Local distances among 2,048 rows found as much as among all.
"""
USUAL = 4.0
"""The most usual rows lack this many times `trim`.

Clusters of anomalies are masked by their own: on 21 tables with anomalies in the training rows the mean AUROC of five
neighbours was 0.69 in all rows and 0.757 in the 80 % most usual ones; without anomalies 0.848 and 0.829. Hence two
parts: *neighbours* in the usual rows, *nearest* in all.
"""


@dataclass(frozen=True)
class ScorerPlan:
    """The settings of a scorer.

    Attributes
    ----------
    parts
        That count.
    grouping
        Columns of the table.
    trim
        Share of the rows that is presumed odd.
    n_neighbors, memory_size
        Codes that count for the density, and how many rows are remembered.
    """

    parts: Sequence[str]
    grouping: Grouping
    trim: float
    n_neighbors: int
    memory_size: int

    @property
    def rule(self) -> str:
        """The combination of parts: that of clean rows where no row is presumed odd and rows are compared."""
        return "clean" if self.trim == 0.0 and "nearest" in self.parts else "harmonic-relation"


@dataclass(frozen=True)
class Chosen:
    """The rows that each step of learning uses.

    Attributes
    ----------
    kept
        Those that count as normal, (n,) bool.
    usual
        Those that are far from odd, (n,) bool.
    places
        Those that are remembered, (m,).
    """

    kept: np.ndarray
    usual: np.ndarray
    places: np.ndarray


@dataclass(frozen=True)
class Learned:
    """A scorer, and the anomaly scores of the training rows, (n,), each without itself in the memory."""

    scorer: Scorer
    scores: np.ndarray


def learn_scorer(model: Model, X: Tensor, plan: ScorerPlan, generator: torch.Generator) -> Learned:
    """Learn curves and memory from scaled rows, (n, d).

    At first all rows count as normal, and the parts that clusters of odd rows deceive least judge them. Of the rows
    that are not among the most anomalous, `plan.trim`, the curves are learned.
    """
    chosen = torch.randperm(len(X), generator=generator)[: plan.memory_size].numpy()
    everything = np.ones(len(X), dtype=bool)
    with torch.inference_mode():
        if plan.trim == 0.0 or len(X) < FEWEST_TRIMMED:
            return _learned(model, X, plan, Chosen(everything, everything, chosen))
        first = [part for part in plan.parts if part not in ("nearest", "local", "relation")] or list(plan.parts)
        odd = _first_scores(model, X, replace(plan, parts=first), chosen)
        kept = odd <= np.quantile(odd, 1.0 - plan.trim)
        usual = odd <= np.quantile(odd, max(0.5, 1.0 - USUAL * plan.trim))
        return _learned(model, X, plan, Chosen(kept, usual & kept, chosen))


def _first_scores(model: Model, X: Tensor, plan: ScorerPlan, chosen: np.ndarray) -> np.ndarray:
    """The sum of the surprisals of parts, (n,), before any row is trimmed."""
    everything = np.ones(len(X), dtype=bool)
    many = max(plan.n_neighbors, int(np.ceil(plan.trim * len(chosen))))
    every = Chosen(everything, everything, chosen)
    scorer, known = _with_memory(model, X, replace(plan, n_neighbors=many), every)
    scorer, totals = _with_curves(scorer, model, X, every, known)
    tensors = {name: torch.from_numpy(total) for name, total in totals.items()}
    return scorer._surprisals(PartScores({}, tensors)).sum(0).numpy()  # noqa: SLF001


def _learned(model: Model, X: Tensor, plan: ScorerPlan, rows: Chosen) -> Learned:
    scorer, known = _with_memory(model, X, plan, rows)
    scorer, totals = _with_curves(scorer, model, X, rows, known)
    tensors = {name: torch.from_numpy(total) for name, total in totals.items()}
    return Learned(scorer, scorer.scores(PartScores({}, tensors)).numpy())


def _with_memory(model: Model, X: Tensor, plan: ScorerPlan, which: Chosen) -> tuple[Scorer, dict[str, np.ndarray]]:
    """A scorer with remembered rows, and the totals of the parts that compare with them, each (n,)."""
    scorer, totals = Scorer(plan.grouping, tuple(plan.parts), rule=plan.rule), dict[str, np.ndarray]()
    rescale = plan.grouping.places is None  # the columns of a table have their units already, and words have none
    places = _places(which)
    if set(plan.parts) & set(DISTANCES):
        together = torch.from_numpy(np.concatenate([places["neighbours"], which.places]))
        remembered = X[together].float()  # as it is written to a file
        scorer = replace(scorer, remembered=remembered.cpu())
    indexes = {}
    for name in [name for name in DISTANCES if name in plan.parts]:
        first = 0 if name == "neighbours" else len(places["neighbours"])
        rows = remembered[first : first + len(places[name])].to(X.dtype)
        units = (white_units if name == "local" else standard_units)(rows, rescale=rescale)
        index = make_index(rows, units, RULES[scorer.rule].n_neighbors[name], first=first)
        index = indexes[name] = with_usual(index, rows) if name == "local" else index
        own = _own_places(len(X), places[name])
        chunk = max(16, CHUNK_DISTANCES // len(rows))
        parts = [
            distance_of(name, index, index.squares(X[some], own[some]), own[some])
            for some in torch.arange(len(X)).split(chunk)
        ]
        totals[name] = torch.cat(parts).double().cpu().numpy()
    scorer = replace(scorer, indexes=indexes)
    if "density" in plan.parts:
        normal = which.places[which.kept[which.places]]
        scorer, totals["density"] = _remember_codes(scorer, model, X, normal, plan.n_neighbors)
    return scorer, totals


def _places(which: Chosen) -> dict[str, np.ndarray]:
    """The rows that each part compares with: a random sample of its candidates."""
    usual = which.places[which.usual[which.places]]
    usual = usual if len(usual) else which.places
    return {
        "neighbours": usual[: FEW_ROWS["neighbours"]],
        "nearest": which.places,
        "local": which.places[: FEW_ROWS["local"]],
    }


def _own_places(n_rows: int, places: np.ndarray) -> Tensor:
    """The index of each row in the memory, or -1, (n,)."""
    own = torch.full((n_rows,), -1)
    own[torch.from_numpy(places)] = torch.arange(len(places))
    return own


def _remember_codes(
    scorer: Scorer, model: Model, X: Tensor, chosen: np.ndarray, n_neighbors: int
) -> tuple[Scorer, np.ndarray]:
    """Remember the codes of some rows; also gives the density of all rows, each without itself in the memory, (n,)."""
    codes = model.encode(X[torch.from_numpy(chosen)])
    memory = NeighbourIndex(codes, torch.ones(len(codes)), n_neighbors)
    own = _own_places(len(X), chosen)
    with_codes = replace(scorer, memory=memory)
    chunks = [memory.distances(model.encode(x), own[rows]) for rows, x in with_codes.chunks(model, X)]
    distances = torch.cat(chunks, dim=1)  # (models, n)
    positive = torch.where(distances > 0.0, distances, torch.nan)  # rows that repeat are 0 apart, which is no unit
    unit = positive.nanmedian(dim=1).values.nan_to_num(nan=1.0).clamp(min=1e-6)
    density: np.ndarray = (distances / unit[:, None]).mean(0).double().cpu().numpy()
    return replace(scorer, memory=NeighbourIndex(codes, unit.cpu(), n_neighbors)), density


def _with_curves(
    scorer: Scorer, model: Model, X: Tensor, which: Chosen, known: Mapping[str, np.ndarray]
) -> tuple[Scorer, dict[str, np.ndarray]]:
    """The scorer with its curves, learned from the rows that count as normal; and the totals of all parts, each (n,).

    Parameters
    ----------
    scorer
        With its memory.
    model
        Trained.
    X
        Scaled rows, (n, d).
    which
        Which of them count as normal, and which as usual.
    known
        The totals of the parts that compare with remembered rows, which leave out the row itself.
    """
    kept = which.kept
    normal = X[torch.from_numpy(np.flatnonzero(kept))]
    values, curves = normal.double().cpu().numpy(), dict[str, TailProbability]()
    if "marginal" in scorer.parts:
        curves |= {"high": TailProbability.learn(values), "low": TailProbability.learn(-values)}
        holes = scorer.grouping.sum(normal.isnan().double()) > 0
        # A hole where none was is as far outside as a value a million spreads away: the curves add that logarithm.
        missing = float(np.log(len(values) + 1.0) + np.log(1e6))
        scorer = replace(scorer, whole_columns=(~holes.any(dim=0)).double(), missing=missing)
    if "reconstruction" in scorer.parts:
        curves["error"] = TailProbability.learn(_error_reference(scorer, model, normal))
    known = dict(known)
    if "relation" in scorer.parts:
        scorer, curves["residual"], known["relation"] = _with_relations(scorer, X, which)
    parts = [name for name in scorer.parts if name not in known]
    others = replace(scorer, parts=parts, curves=curves)
    chunks = [others.read(model, x, in_full=False).totals for _, x in scorer.chunks(model, X)]
    found = {name: torch.cat([chunk[name] for chunk in chunks]).double().cpu().numpy() for name in parts}
    totals = {**found, **known}
    curves |= {name: TailProbability.learn(total[kept, None]) for name, total in totals.items()}
    return replace(scorer, curves=curves), totals


def _with_relations(scorer: Scorer, X: Tensor, which: Chosen) -> tuple[Scorer, TailProbability, np.ndarray]:
    """The scorer with relations, the curve of their residuals, and the totals of all rows, (n,)."""
    relations, squares = learn_relations(X, torch.from_numpy(np.flatnonzero(which.usual)), scorer.grouping)
    curve = TailProbability.learn(squares.sqrt().double().cpu().numpy()[which.kept])
    made = replace(scorer, relations=relations, curves={"residual": curve})
    return replace(scorer, relations=relations), curve, made.broken(squares).sum(1).double().cpu().numpy()


def _error_reference(scorer: Scorer, model: Model, rows: Tensor) -> np.ndarray:
    """The errors of all models in all columns, (n, models · columns)."""
    parts = []
    for x in rows.split(scorer.chunk_rows(model)):
        errors = scorer.grouping.sum(model.errors(x, model.encode(x)).nan_to_num())
        parts.append(errors.transpose(0, 1).reshape(len(x), -1).double().cpu().numpy())
    return np.concatenate(parts)
