"""Requests at the same time are stacked into one call, and each has the answer that it would have alone."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
from tests.serving.common import ARROW, IMAGES, MIXED, NUMBERS, Client, as_arrow, as_json, of_arrow

from isthmus import AnomalyDetector, Autoencoder, ConvolutionalAutoencoder, EncoderClassifier, Imputer
from isthmus.serving import Limits
from isthmus.serving.batching import Batcher
from isthmus.serving.replies import RefusedError, Reply
from isthmus.serving.routes import routes_of
from isthmus.serving.work import Job, Worker

JSON = "application/json"
SIZES = [1, 3, 1, 2, 5, 1, 1, 4]


def job(model: Any, route: str, body: Any) -> Job:
    """A request of JSON, or of Arrow for bytes."""
    sent = ARROW if isinstance(body, bytes) else JSON
    return Job(routes_of(model)[route], body if sent == ARROW else msgspec.json.encode(body), sent, JSON)


def answered(
    model: Any, route: str, bodies: Sequence[Any], limits: Limits | None = None
) -> tuple[list[int], list[tuple[int, Any]]]:
    """The rows of each call of the model, and status and JSON of each reply, for requests that wait together."""
    seen, jobs = list[int](), [job(model, route, body) for body in bodies]
    Worker(limits or Limits(), seen.append).answer(jobs)
    return seen, [(one.reply.status, json.loads(one.reply.body)) for one in jobs if one.reply is not None]


def pieces(frame: pd.DataFrame) -> list[pd.DataFrame]:
    ends = np.cumsum(SIZES)
    return [frame.iloc[end - size : end] for size, end in zip(SIZES, ends, strict=True)]


def bodies(frame: pd.DataFrame) -> list[Any]:
    """Requests in all forms in turn, with the columns in another order in each second one."""
    found = list[Any]()
    for place, piece in enumerate(pieces(frame)):
        turned = piece[[*piece.columns[::-1]]] if place % 2 else piece
        forms = ({"records": as_json(turned)}, {"columns": {k: turned[k].tolist() for k in turned}}, as_arrow(turned))
        found.append(forms[place % 3])
    return found


def test_rows_for_an_autoencoder_are_one_call_with_the_answers_of_each(autoencoder: Autoencoder) -> None:
    seen, replies = answered(autoencoder, "score", bodies(NUMBERS))
    assert seen == [sum(SIZES)]
    for (status, reply), piece in zip(replies, pieces(NUMBERS), strict=True):
        assert status == 200
        scores = reply["columns"]
        np.testing.assert_allclose(scores["score"], autoencoder.score_samples(piece), rtol=1e-12)
        np.testing.assert_allclose(scores["reconstruction_error"], autoencoder.reconstruction_error(piece), rtol=1e-12)


def test_rows_for_a_classifier_are_one_call(classifier: EncoderClassifier) -> None:
    seen, replies = answered(classifier, "predict", bodies(NUMBERS))
    assert seen == [sum(SIZES)]
    for (_, reply), piece in zip(replies, pieces(NUMBERS), strict=True):
        assert reply["columns"]["predict"] == classifier.predict(piece).tolist()
        wanted = classifier.predict_proba(piece)[:, 0]
        np.testing.assert_allclose(reply["columns"]["predict_proba_high"], wanted, rtol=1e-12)


def test_images_are_one_call(of_images: ConvolutionalAutoencoder) -> None:
    images = IMAGES[:4].astype(np.float64)
    seen, replies = answered(of_images, "encode", [{"rows": [image.tolist()]} for image in images])
    assert seen == [4]
    for (_, reply), image in zip(replies, images, strict=True):
        codes = [values[0] for values in reply["columns"].values()]
        np.testing.assert_allclose(codes, of_images.transform(image[None])[0], rtol=1e-12, atol=1e-12)


def test_rows_of_a_mixed_table_are_one_call_and_ties_with_calibration_rows_are_decided_alone(
    detector: AnomalyDetector,
) -> None:
    shifted = MIXED.assign(amount=MIXED["amount"] + 0.005)  # no row that calibrates
    seen, replies = answered(detector, "score", bodies(shifted))
    assert seen[0] == sum(SIZES)
    seen_too, replies_too = answered(detector, "score", bodies(MIXED))
    assert len(seen_too) > 1  # a quarter of the training rows calibrates: their p-values hang on the last bit
    for frame, found in ((shifted, replies), (MIXED, replies_too)):
        for (status, reply), piece in zip(found, pieces(frame), strict=True):
            assert status == 200
            scores = reply["columns"]
            np.testing.assert_allclose(scores["anomaly_score"], -detector.score_samples(piece), rtol=1e-12)
            np.testing.assert_array_equal(scores["p_value"], detector.p_values(piece))
            np.testing.assert_array_equal(scores["anomaly"], detector.predict(piece) == -1)


def test_a_bad_request_fails_alone(autoencoder: Autoencoder, detector: AnomalyDetector) -> None:
    good, bad = {"records": as_json(NUMBERS.head(2))}, [{"records": [{"a": 1, "b": 2}]}, {"rows": [[1]]}, 5, b"Arrow"]
    bad.append({"records": [{"a": 1, "b": "x", "c": 3}]})
    seen, replies = answered(autoencoder, "encode", [good, *bad, good])
    assert [status for status, _ in replies] == [200, 422, 422, 422, 400, 422, 200]
    assert seen == [4]
    assert replies[0] == replies[-1]
    rows = as_json(MIXED.head(2))
    seen, replies = answered(
        detector, "score", [{"records": rows}, {"records": [{**rows[0], "day": "soon"}]}, {"records": rows}]
    )
    assert [status for status, _ in replies] == [200, 422, 200]
    assert "Column 'day'" in replies[1][1]["error"]


def test_a_cell_that_fails_the_whole_stack_leaves_the_others_their_answers(detector: AnomalyDetector) -> None:
    rows = as_json(MIXED.head(3))
    sent = [{"records": [row]} for row in (rows[0], {**rows[1], "day": "2024-13-45"}, rows[2])]  # shaped like a date
    _, replies = answered(detector, "score", sent)
    assert [status for status, _ in replies] == [200, 422, 200]
    for place in (0, 2):
        wanted = -detector.score_samples(MIXED.iloc[[place]])
        np.testing.assert_allclose(replies[place][1]["columns"]["anomaly_score"], wanted, rtol=1e-12)


def test_dates_of_other_formats_have_the_answers_that_they_have_alone(detector: AnomalyDetector) -> None:
    days = ["2024-02-01", "2024-02-01 13:00:00", "2024-02-01T13:00:00Z", "2024-02-01T13:00:00+02:00"]
    frames = [MIXED.head(1).assign(day=[day]) for day in days]
    _, replies = answered(detector, "score", [{"records": as_json(frame)} for frame in [*frames, *frames]])
    for (status, reply), frame in zip(replies, [*frames, *frames], strict=True):
        assert status == 200
        wanted = -detector.score_samples(frame)
        np.testing.assert_allclose(reply["columns"]["anomaly_score"], wanted, rtol=1e-12)


def test_words_where_numbers_are_learned_are_read_alone(detector: AnomalyDetector) -> None:
    rows = as_json(MIXED.head(2))
    texts = [{**rows[0], "amount": "51.5"}, {**rows[1], "amount": "49"}, {**rows[0], "paid": "true"}]
    seen, replies = answered(detector, "score", [{"records": [row]} for row in texts])
    assert seen == [1, 1, 1]
    for (status, reply), row in zip(replies, texts, strict=True):
        assert status == 200
        np.testing.assert_array_equal(reply["columns"]["anomaly_score"], -detector.score_samples(pd.DataFrame([row])))


def test_a_warning_stays_with_its_request(autoencoder: Autoencoder) -> None:
    near, far = {"records": as_json(NUMBERS.head(5))}, {"records": as_json(NUMBERS.head(1) * 1e4)}
    seen, replies = answered(autoencoder, "score", [near, far, near])
    assert seen == [10, 1]  # among ten rows nearby, one that is far would not be told
    assert [len(reply["warnings"]) for _, reply in replies] == [0, 1, 0]


def test_single_and_double_precision_are_not_mixed(autoencoder: Autoencoder) -> None:
    single = NUMBERS.head(2).astype(np.float32)
    jobs = [job(autoencoder, "encode", as_arrow(frame)) for frame in (NUMBERS.head(2), single, NUMBERS.head(2), single)]
    for one in jobs:
        one.wanted = ARROW
    Worker(Limits()).answer(jobs)
    found = [of_arrow(one.reply.body) for one in jobs if one.reply is not None]
    assert [frame.dtypes.iloc[0] for frame in found] == [np.float64, np.float32] * 2
    np.testing.assert_array_equal(found[1], autoencoder.transform(single))


def test_a_stack_has_at_most_the_rows_of_the_limit(autoencoder: Autoencoder) -> None:
    sent = [{"records": as_json(NUMBERS.head(size))} for size in (3, 3, 3, 20)]
    seen, replies = answered(autoencoder, "encode", sent, Limits(batch_rows=6))
    assert sorted(seen) == [3, 6, 20]
    assert [len(reply["columns"]["autoencoder0"]) for _, reply in replies] == [3, 3, 3, 20]


def test_routes_of_single_precision_are_never_stacked(imputer: Imputer) -> None:
    seen, replies = answered(imputer, "impute", [{"records": as_json(MIXED.head(2))}] * 3)
    assert seen == [2, 2, 2]
    assert all(status == 200 for status, _ in replies)


# -- at the same time --------------------------------------------------------------------------------------------------


def test_many_clients_at_once_get_their_own_answers(detector: AnomalyDetector) -> None:
    client = Client(detector)
    frames = [MIXED.iloc[[place % len(MIXED)]].assign(amount=40.25 + place) for place in range(64)]
    requests = [("POST", "/score", {"json": {"records": as_json(frame)}}) for frame in frames]
    replies = client.send(*requests)
    for reply, frame in zip(replies, frames, strict=True):
        found = reply.json()["columns"]
        np.testing.assert_allclose(found["anomaly_score"], -detector.score_samples(frame), rtol=1e-12)
        np.testing.assert_array_equal(found["p_value"], detector.p_values(frame))
    text = client.get("/metrics").text
    [calls] = [line for line in text.splitlines() if line.startswith("isthmus_call_rows_count")]
    assert float(calls.split()[1]) < len(frames) / 2


def waiting(work: Any, limits: Limits, n_jobs: int, model: Autoencoder) -> list[Reply | Exception]:
    """What comes of jobs that all wait at the same time."""

    async def together() -> list[Any]:
        batcher = Batcher(work, limits)
        jobs = [job(model, "encode", {"records": as_json(NUMBERS.head(1))}) for _ in range(n_jobs)]
        return await asyncio.gather(*map(batcher.answer, jobs), return_exceptions=True)

    return asyncio.run(together())


def test_jobs_that_wait_are_handed_over_together(autoencoder: Autoencoder) -> None:
    sizes = list[int]()

    def work(jobs: Sequence[Job]) -> None:
        sizes.append(len(jobs))
        for one in jobs:
            one.reply = Reply(b"")

    assert len(waiting(work, Limits(), 10, autoencoder)) == 10
    assert sizes == [10]


def test_an_answer_that_comes_late_is_504_and_its_job_is_left_out(autoencoder: Autoencoder) -> None:
    free, seen = threading.Event(), list[bool]()

    def work(jobs: Sequence[Job]) -> None:
        free.wait(5)
        for one in jobs:
            seen.append(one.abandoned)
            one.reply = Reply(b"")

    async def late() -> RefusedError:
        batcher = Batcher(work, Limits(seconds=0.05))
        with pytest.raises(RefusedError, match="The answer took too long; send fewer rows, or try again later") as told:
            await batcher.answer(job(autoencoder, "encode", {"records": as_json(NUMBERS.head(1))}))
        free.set()
        while not seen:
            await asyncio.sleep(0.01)
        return told.value

    assert asyncio.run(late()).status == 504
    assert seen == [True]


def test_work_that_raises_does_not_end_the_batcher(autoencoder: Autoencoder) -> None:
    rounds = list[int]()

    def work(jobs: Sequence[Job]) -> None:
        rounds.append(len(jobs))
        if len(rounds) == 1:
            raise RuntimeError("broken")
        for one in jobs:
            one.reply = Reply(b"")

    async def twice() -> list[Any]:
        batcher = Batcher(work, Limits())
        made = [job(autoencoder, "encode", {"records": as_json(NUMBERS.head(1))}) for _ in range(2)]
        first = await asyncio.gather(batcher.answer(made[0]), return_exceptions=True)
        return [*first, await batcher.answer(made[1])]

    first, second = asyncio.run(twice())
    assert first.status == 500
    assert json.loads(first.body) == {"error": "The server failed; its log says more."}
    assert second == Reply(b"")
