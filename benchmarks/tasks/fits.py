"""One fit of one task in a process of its own: ``python -m benchmarks.tasks.fits TASK SET SEED`` prints JSON."""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

IMPUTED = (
    "iris", "wine", "breast cancer", "diabetes", "ADBench donors", "ADBench Hepatitis", "ADBench InternetAds",
    "ADBench landsat", "ADBench ALOI", "ADBench Lymphography", "ADBench mammography", "ADBench musk",
)  # fmt: skip
"""The sets of docs/imputation.md."""
SHARE = 0.2
"""Fraction of cells that the imputer fills."""
LABELLED = 6_000
"""Rows of MNIST with labels that the classifier is fitted to."""


@dataclass(frozen=True)
class Fit:
    """CPU seconds of one fit, user and system, and the quality on data that the fit has not seen.

    Attributes
    ----------
    seconds
        CPU time of `fit` alone; start, imports and data are not included.
    quality
        By name; for the imputer errors, where lower is better, else scores.
    """

    seconds: float
    quality: dict[str, float]


def imputer(name: str, seed: int) -> Fit:
    """Fill a fifth of the cells of a mixed table."""
    from benchmarks.imputation.sets import errors, knocked_out, mixed_tables  # noqa: PLC0415  # only what is measured
    from isthmus import Imputer  # noqa: PLC0415

    frame = next(frame for found, frame in mixed_tables() if found == name)
    holed, gone = knocked_out(frame, SHARE, seed)
    model = Imputer(random_state=seed)
    seconds = _timed(lambda: model.fit(holed))
    numbers, words = errors(frame, gone, model.transform(holed))
    return Fit(seconds, {"RMSE": numbers, "wrong categories": words})


def recommender(name: str, seed: int) -> Fit:
    """Recommend to held-out users of MovieLens."""
    from benchmarks.recommend.logs import HELD_OUT_USERS, positives  # noqa: PLC0415
    from isthmus import Recommender, strong_generalization  # noqa: PLC0415
    from isthmus.tasks.recommendation.protocols import evaluate_lists  # noqa: PLC0415

    held = HELD_OUT_USERS[name]
    split = strong_generalization(positives(name), n_validation=held, n_test=held, random_state=seed)
    model = Recommender(random_state=seed)
    seconds = _timed(lambda: model.fit(split.train))
    popularity = np.bincount(split.train.matrix.indices, minlength=len(split.train.items)) / len(split.train.users)
    lists = model.rank(split.test.given.matrix, 100)
    found = evaluate_lists(lists, split.test.held.matrix, ("ndcg@100", "recall@20"), popularity)
    return Fit(seconds, {name: float(value) for name, value in found.to_dict().items()})


def classifier(name: str, seed: int) -> Fit:
    """Classify digits of MNIST with an encoder that was fitted without labels; its fit is not timed."""
    from isthmus import Autoencoder, EncoderClassifier, datasets  # noqa: PLC0415

    assert name == "mnist"
    data = datasets.load_mnist()
    assert data.y is not None
    rows = np.random.default_rng(seed).permutation(len(data.X))[:LABELLED]
    X, y = data.X[rows].reshape(LABELLED, -1), data.y[rows]
    encoder = Autoencoder(32, network=(256,), max_epochs=3, random_state=seed).fit(X)
    model = EncoderClassifier(encoder, max_epochs=10, random_state=seed)
    seconds = _timed(lambda: model.fit(X, y))
    return Fit(seconds, {"accuracy": float(model.score(data.X_test.reshape(len(data.X_test), -1), data.y_test))})


TASKS: dict[str, tuple[Callable[[str, int], Fit], tuple[str, ...]]] = {
    "imputer": (imputer, IMPUTED),
    "recommender": (recommender, ("ml-1m",)),
    "classifier": (classifier, ("mnist",)),
}
"""The function that measures a task, and the names of its sets."""


def _timed(work: Callable[[], Any]) -> float:
    """CPU seconds of a call, of all threads."""
    before = os.times()
    work()
    after = os.times()
    return after.user + after.system - before.user - before.system


def main() -> None:
    task, name, seed = sys.argv[1:]
    warnings.simplefilter("ignore")  # not measured here
    print(json.dumps(asdict(TASKS[task][0](name, int(seed)))))


if __name__ == "__main__":
    main()
