"""One run of every recommender on every seed, and the table of results."""

from __future__ import annotations

import json
import resource
import time
from dataclasses import asdict, dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from benchmarks.recommend import peers
from benchmarks.recommend.baselines import BASELINES, lists
from benchmarks.recommend.logs import HELD_OUT_USERS, positives
from isthmus import Recommender, StrongSplit, strong_generalization
from isthmus.tasks.recommendation.protocols import evaluate_lists

METRICS = ("ndcg@100", "ndcg@10", "recall@20", "recall@50")
OURS = "isthmus"


@dataclass
class Line:
    """The result of one recommender on one seed."""

    log: str
    seed: int
    who: str
    figures: dict[str, float]
    seconds: float
    gigabytes: float
    settings: str = ""
    per_user: list[float] = field(default_factory=list, repr=False)


def run_seed(log: str, seed: int, wanted: list[str]) -> list[Line]:
    """All recommenders on one split."""
    held = HELD_OUT_USERS[log]
    split = strong_generalization(positives(log), n_validation=held, n_test=held, random_state=seed)
    found = []
    for who in wanted:
        recommended, used, fitted, settings = _recommend(who, split, seed)
        line = _line(split, recommended, Line(log, seed, who, {}, fitted, used, settings))
        found.append(line)
        figures = ", ".join(f"{name} {value:.4f}" for name, value in line.figures.items())
        print(f"{log} seed {seed} {who} ({settings}): {figures}; {fitted:.0f} s", flush=True)
    return found


def _recommend(who: str, split: StrongSplit, seed: int) -> tuple[np.ndarray, float, float, str]:
    """Lists for the test users, gigabytes at the peak, seconds of fitting, and the settings chosen."""
    if who in peers.PEERS:
        return peers.recommend(who, split, seed)
    with get_context("spawn").Pool(1) as alone:  # so that each has its own peak of memory
        return alone.apply(_in_process, (who, split, seed))


def _in_process(who: str, split: StrongSplit, seed: int) -> tuple[np.ndarray, float, float, str]:
    began = time.process_time()
    given = split.test.given.matrix
    if who == OURS:
        model = Recommender(random_state=seed).fit(split.train)
        fitted, words = time.process_time() - began, "defaults"
        recommended = model.rank(given, 100)
    else:
        words, scores = BASELINES[who](split)
        fitted = time.process_time() - began
        recommended = lists(scores, given)
    return recommended, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, fitted, words


def _line(split: StrongSplit, recommended: np.ndarray, line: Line) -> Line:
    popularity = np.bincount(split.train.matrix.indices, minlength=len(split.train.items)) / len(split.train.users)
    found = evaluate_lists(recommended, split.test.held.matrix, METRICS, popularity)
    line.figures = {name: round(value, 5) for name, value in found.to_dict().items()}
    line.per_user = [round(float(value), 5) for value in found.per_user["ndcg@100"]]
    return line


def write(lines: list[Line], folder: Path) -> None:
    """Store the figures; those of other logs, seeds and recommenders are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "recommend.json"
    old = [Line(**row) for row in json.loads(path.read_text())] if path.exists() else []
    new = {(line.log, line.seed, line.who): line for line in (*old, *lines)}
    path.write_text(json.dumps([asdict(line) for line in new.values()]))
    (folder / "recommend-table.md").write_text(markdown(list(new.values())) + "\n")


def markdown(lines: list[Line]) -> str:
    """Means over seeds, and the difference to isthmus with its standard error over seeds."""
    rows = []
    for log in dict.fromkeys(line.log for line in lines):
        header = ("recommender", "seeds", *METRICS, "ours less theirs, NDCG@100", "fit, CPU s", "GB")
        rows += [f"\n{log}\n", f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
        own = {line.seed: line for line in lines if line.log == log and line.who == OURS}
        whos = dict.fromkeys(line.who for line in lines if line.log == log)
        of = {who: [line for line in lines if line.log == log and line.who == who] for who in whos}
        ordered = sorted(of.items(), key=lambda pair: -np.mean([line.figures["ndcg@100"] for line in pair[1]]))
        rows += [_row(who, theirs, own) for who, theirs in ordered]
    return "\n".join(rows)


def _row(who: str, theirs: list[Line], own: dict[int, Line]) -> str:
    means = [f"{np.mean([line.figures[name] for line in theirs]):.4f}" for name in METRICS]
    pairs = [own[line.seed].figures["ndcg@100"] - line.figures["ndcg@100"] for line in theirs if line.seed in own]
    apart = "–"
    if who != OURS and pairs:
        error = f" ± {np.std(pairs, ddof=1) / len(pairs) ** 0.5:.4f}" if len(pairs) > 1 else ""
        apart = f"{np.mean(pairs):+.4f}{error}"
    seconds, largest = np.mean([line.seconds for line in theirs]), max(line.gigabytes for line in theirs)
    cells = (who, str(len(theirs)), *means, apart, f"{seconds:.0f}", f"{largest:.2f}")
    return f"| {' | '.join(cells)} |"
