"""Requests at the same time are stacked into one call, and each has the answer that it would have alone."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from isthmus import AnomalyDetector, Autoencoder, FalseAlarmRate
from isthmus.serving import Limits
from isthmus.serving.batching import Batcher
from isthmus.serving.replies import RefusedError, Reply
from isthmus.serving.routes import routes_of
from isthmus.serving.work import Job, Worker
from tests.serving.common import ARROW, MIXED, NUMBERS, Client, as_arrow, as_json, of_arrow


@pytest.fixture(scope="module")
def autoencoder() -> Autoencoder:
    return Autoencoder(2, max_epochs=2, random_state=0).fit(NUMBERS)


@pytest.fixture(scope="module")
def detector() -> AnomalyDetector:
    return AnomalyDetector(FalseAlarmRate(0.1), max_steps=20, random_state=0).fit(MIXED)


def calls(model: Any, route: str, bodies: Sequence[Any]) -> tuple[list[int], list[Job]]:
    """Rows of each call of the model for requests that are answered together, and the requests."""
    import msgspec

    seen = list[int]()
    jobs = [Job(routes_of(model)[route], msgspec.json.encode(body), "application/json", "application/json") for body in bodies]
    Worker(Limits(), seen.append).answer(jobs)
    return seen, jobs


def parts(frame: pd.DataFrame, sizes: Sequence[int]) -> list[pd.DataFrame]:
    ends = np.cumsum(sizes)
    return [frame.iloc[end - size : end] for size, end in zip(sizes, ends, strict=True)]


SIZES = [1, 3, 1, 2, 5, 1, 1, 4]


def test_rows_of_an_autoencoder_are_one_call_with_the_answers_of_each(autoencoder: Autoencoder) -> None:
    pieces = parts(NUMBERS, SIZES)
    seen, jobs = calls(autoencoder, "score", [{"records": as_json(piece[["c", "a", "b"]])} for piece in pieces])
    assert seen == [sum(SIZES)]
    for job, piece in zip(jobs, pieces, strict=True):
        assert job.reply is not None
        found = __import__("json").loads(job.reply.body)["columns"]
        np.testing.assert_allclose(found["score"], autoencoder.score_samples(piece), rtol=1e-12)
        np.testing.assert_allclose(found["reconstruction_error"], autoencoder.reconstruction_error(piece), rtol=1e-12)
