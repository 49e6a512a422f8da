"""Errors of predicted ratings: ``python -m benchmarks.recommend.ratings``.

A tenth of everybody's ratings is held out, and the others are given: RMSE of the mean, of biases, of the matrix
factorisation of cornac (where ``RECOMMEND_PYTHON`` has it; settings chosen on a tenth of what is given), and ours.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import scipy.sparse

from benchmarks.recommend import peers
from benchmarks.recommend.logs import HELD_OUT_USERS, ratings
from isthmus import HeldOut, Recommender, evaluate_recommender, leave_out, read_interactions
from isthmus.tasks.recommendation.biases import learn_biases
from isthmus.tasks.recommendation.ranking import rmse

Found = tuple[float, float, str]
"""RMSE, seconds of the processor, settings."""


def mean(split: HeldOut, _: int) -> Found:
    """One number for all."""
    held = split.held.matrix.data
    return rmse(np.full(len(held), split.given.matrix.data.mean()), held), 0.0, ""


def biases(split: HeldOut, _: int) -> Found:
    """The mean, and how far users and items lie off it."""
    given, held = split.given.matrix, split.held.matrix
    learned = learn_biases(given)
    users = np.repeat(learned.of_users(given), np.diff(held.indptr))
    return rmse(learned.mean + learned.items[held.indices] + users, held.data), 0.0, ""


def ours(split: HeldOut, seed: int) -> Found:
    """The recommender of ratings, by default."""
    began = time.process_time()
    model = Recommender(feedback="explicit", random_state=seed).fit(split.given)
    return evaluate_recommender(model, split, ["rmse"]).mean("rmse"), time.process_time() - began, "defaults"


def cornac(split: HeldOut, seed: int) -> Found:
    """Matrix factorisation with biases by stochastic gradients."""
    choice = leave_out(split.given, 0.1, random_state=seed)
    parts = {"train": choice.given, "chosen": choice.held, "all": split.given, "test": split.held}
    with tempfile.TemporaryDirectory() as name:
        for part, log in parts.items():
            scipy.sparse.save_npz(Path(name) / f"{part}.npz", log.matrix)
        script = Path(peers.__file__).parent / "cornac_ratings.py"
        subprocess.run([str(peers.python()), str(script), str(seed), name], check=True, stdout=subprocess.DEVNULL)
        told = json.loads((Path(name) / "told.json").read_text())
        predicted = np.load(Path(name) / "predicted.npy")
    return rmse(predicted, split.held.matrix.data), told["seconds"], told["settings"]


WAYS = {"mean": mean, "biases": biases, "isthmus": ours, "cornac-MF": cornac}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recommend.ratings", description=__doc__)
    parser.add_argument("--log", nargs="+", choices=HELD_OUT_USERS, default=list(HELD_OUT_USERS))
    parser.add_argument("--seed", type=int, nargs="+", default=[1, 2, 3])
    asked = parser.parse_args()
    wanted = [who for who in WAYS if who != "cornac-MF" or peers.python()]
    print("| log | who | RMSE | seeds | fit, CPU s | settings |\n|---|---|---|---|---|---|")
    for log in asked.log:
        rated = read_interactions(ratings(log)[["user", "item", "rating"]])
        splits = [leave_out(rated, 0.1, random_state=seed) for seed in asked.seed]
        for who in wanted:
            found = [WAYS[who](split, seed) for split, seed in zip(splits, asked.seed, strict=True)]
            errors, seconds, settings = zip(*found, strict=True)
            spread = f" ± {np.std(errors, ddof=1) / len(errors) ** 0.5:.4f}" if len(errors) > 1 else ""
            cells = (log, who, f"{np.mean(errors):.4f}{spread}", str(len(errors)), f"{np.mean(seconds):.0f}")
            print(f"| {' | '.join((*cells, settings[0]))} |", flush=True)


if __name__ == "__main__":
    main()
