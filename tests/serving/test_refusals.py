"""Whatever is sent, a bad request gets a status from 400 to 499 with a text that says what is wrong."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.serving.common import ARROW, MIXED, NUMBERS, Client, as_arrow, as_json

from isthmus import AnomalyDetector, Autoencoder, Imputer, Recommender
from isthmus.serving import Limits

ROW = {"a": 1.0, "b": 2.0, "c": 3.0}
DEEP = 100_000


def stream(table: pa.Table, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    written: bytes = sink.getvalue().to_pybytes()
    return written


def record(**changed: Any) -> dict[str, Any]:
    return {"records": [{**ROW, **changed}]}


BAD: dict[str, tuple[Any, int, str]] = {
    "empty": (b"", 400, r"The body is empty; send \{\"rows\": "),
    "not JSON": (b"a,b,c\n1,2,3", 400, "The body is not valid JSON: .*invalid character"),
    "cut": (b'{"rows": [[1, 2', 400, "The body is not valid JSON: Input data was truncated"),
    "UTF-16": ('{"rows": [[1, 2, 3]]}'.encode("utf-16"), 400, "not valid JSON"),
    "bytes": (b"\xff\x00\xfe", 400, "not valid JSON"),
    "more after it": (b'{"rows": [[1, 2, 3]]} {}', 400, "trailing characters"),
    "NaN": (b'{"rows": [[NaN, 2, 3]]}', 400, "NaN and Infinity are not JSON: write null for a missing cell"),
    "Infinity": (b'{"records": [{"a": Infinity}]}', 400, "NaN and Infinity are not JSON"),
    "too large a number": (b'{"rows": [[1e999, 2, 3]]}', 422, "Number out of range"),
    "deep": (b"[" * DEEP, 422, "Expected `object`, got `array`"),
    "deep rows": (b'{"rows": ' + b"[" * DEEP + b"]" * DEEP + b"}", 400, "nested too deeply"),
    "deep objects": (b'{"columns": ' * DEEP, 422, "Expected `array`, got `object`"),
    "a list": ([ROW], 422, "Expected `object`, got `array`; send"),
    "null": (b"null", 422, "Expected `object`, got `null`"),
    "no table": ({}, 422, "The JSON has no rows; send exactly one of"),
    "two tables": ({"rows": [[1, 2, 3]], "records": [ROW]}, 422, "The JSON has rows and records; send exactly one of"),
    "unknown key": ({"row": [[1, 2, 3]]}, 422, "unknown field `row`"),
    "no rows": ({"rows": []}, 422, "The table has 0 rows and 1 columns; send at least 1 of each"),
    "no cells": ({"rows": [[]]}, 422, "The table has 1 rows and 0 columns"),
    "no records": ({"records": []}, 422, "The table has 0 rows and 0 columns"),
    "no columns": ({"columns": {}}, 422, "The table has 0 rows and 0 columns"),
    "one flat row": ({"rows": [1, 2, 3]}, 422, r"Expected `array`, got `int` - at `\$\[0\]`"),
    "rows of other lengths": ({"rows": [[1, 2, 3], [1, 2]]}, 422, "whose rows have different lengths"),
    "too few numbers": ({"rows": [[1, 2]]}, 422, "X has 2 features, but Autoencoder is expecting 3 features"),
    "too deep rows": ({"rows": [[[1, 2, 3]]]}, 422, r"X has rows of shape \(1, 3\), but Autoencoder is expecting"),
    "texts": ({"rows": [["1", "2", "3"]]}, 422, r"Expected `float \| null`, got `str` - at `\$\[0\]\[0\]`"),
    "booleans": ({"rows": [[True, 2, 3]]}, 422, "got `bool`"),
    "null among rows": ({"rows": [[1, None, 3]]}, 422, "X has 1 NaN value, at row 0, column 1"),
    "null in a record": (record(b=None), 422, "X has 1 column that is not numeric: 'b'|1 NaN"),
    "text in a record": (record(b="many"), 422, "'b' "),
    "missing column": ({"records": [{"a": 1, "b": 2}]}, 422, "X lacks 'c'"),
    "extra column": (record(d=4), 422, "Autoencoder was not fitted with 'd'"),
    "renamed column": ({"columns": {"a": [1], "b": [2], "C": [3]}}, 422, "X lacks 'c'; .* was not fitted with 'C'"),
    "records that differ": ({"records": [ROW, {"a": 1, "b": 2}]}, 422, "Record 1 differs from record 0 in 'c'; give "),
    "columns that differ": (
        {"columns": {"a": [1, 2], "b": [2], "c": [3]}},
        422,
        "different lengths .'a' 2, 'b' 1, 'c'",
    ),
    "nested cell": (record(c=[3]), 422, "got `array`"),
    "huge integer": (record(c=10**400), 422, "int too large to convert to float"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_body_of_json_is_refused_with_the_reason(autoencoder: Autoencoder, name: str) -> None:
    body, status, text = BAD[name]
    reply = Client(autoencoder).post("/score", body, headers={"content-type": "application/json"})
    assert reply.status_code == status, reply.text
    assert [*reply.json()] == ["error"]
    assert re.search(text, reply.json()["error"]), reply.json()["error"]


TABLE = pa.table({name: [value] for name, value in ROW.items()})
GOOD = stream(TABLE)
BAD_ARROW: dict[str, tuple[bytes, int, str]] = {
    "empty": (b"", 400, "The body is empty"),
    "not Arrow": (b'{"rows": [[1, 2, 3]]}', 400, "The body is not a whole Arrow IPC stream: "),
    "cut in the schema": (GOOD[:100], 400, "not a whole Arrow IPC stream"),
    "cut in the rows": (GOOD[:-40], 400, "not a whole Arrow IPC stream"),
    "no rows": (stream(TABLE.slice(0, 0)), 422, "The table has 0 rows and 3 columns"),
    "no columns": (stream(pa.table({})), 422, "The table has 0 rows and 0 columns"),
    "compressed": (stream(TABLE, compression="zstd"), 415, "has compressed buffers; write it without compression"),
    "compressed dictionary": (
        stream(pa.table({"a": pa.array(["x"] * 99).dictionary_encode()}), compression="lz4"),
        415,
        "compressed buffers",
    ),
    "two milliard nulls": (
        stream(pa.table({"a": pa.nulls(2 * 10**9)})),
        413,
        "2,000,000,000 rows, but at most 100,000",
    ),
    "lists": (stream(pa.table({"a": [[1.0]]})), 422, r"'a' \(list<item: double>\); send numbers, booleans, strings"),
    "views": (stream(pa.table({"a": pa.array(["x"], pa.string_view())})), 422, r"'a' \(string_view\)"),
    "NaN": (stream(pa.table({"a": [1.0], "b": [float("nan")], "c": [1.0]})), 422, "1 NaN"),
    "infinite": (stream(pa.table({"a": [1.0], "b": [float("inf")], "c": [1.0]})), 422, "1 infinite"),
    "texts": (stream(pa.table({"a": ["x"], "b": [1.0], "c": [1.0]})), 422, "'a' "),
    "repeated name": (
        stream(pa.table([[1.0], [2.0], [3.0]], names=["a", "b", "b"])),
        422,
        "several columns named 'b'; rename",
    ),
    "missing column": (stream(TABLE.drop_columns(["b"])), 422, "X lacks 'b'"),
}


@pytest.mark.parametrize("name", BAD_ARROW)
def test_a_bad_body_of_arrow_is_refused_with_the_reason(autoencoder: Autoencoder, name: str) -> None:
    body, status, text = BAD_ARROW[name]
    reply = Client(autoencoder).post("/score", body, headers={"content-type": ARROW})
    assert reply.status_code == status, reply.text
    assert re.search(text, reply.json()["error"]), reply.json()["error"]


def test_a_detector_names_the_columns_and_cells_that_are_wrong(detector: AnomalyDetector) -> None:
    client, row = Client(detector), as_json(MIXED.head(1))[0]
    cases = [
        ({**row, "amount": "many"}, "Column 'amount'"),
        ({**row, "country": 5}, "Column 'country' holds numbers instead of text"),
        ({**row, "day": "soon"}, "Column 'day' holds dates, but also text such as 'soon'"),
        ({name: row[name] for name in ("amount", "country", "day")}, "Column 'paid' is missing"),
        ({**row, "other": 1}, "Column 'other' was not present"),
        ({"Amount": 1, **{name: row[name] for name in ("country", "day", "paid")}}, "is it now called 'Amount'"),
    ]
    for record_, text in cases:
        reply = client.post("/score", {"records": [record_]})
        assert reply.status_code == 422
        assert text in reply.json()["error"]
    reply = client.post("/score", {"rows": [[1.0, 2.0, 3.0, 4.0]]})
    assert reply.status_code == 422
    assert "Column 'amount' is missing" in reply.json()["error"]


def test_wrong_histories_are_refused(recommender: Recommender) -> None:
    client = Client(recommender)
    cases: list[tuple[Any, int, str]] = [
        (b"", 400, "The body is empty"),
        ({}, 422, "The JSON needs either histories or users"),
        ({"users": [1], "histories": [[1]]}, 422, "The JSON needs either histories or users"),
        ({"users": []}, 422, "There are no histories or users; send at least one"),
        ({"users": ["nobody"]}, 422, "nobody"),
        ({"histories": [[99]]}, 422, "The item 99 did not occur at fit"),
        ({"histories": [["Film"]]}, 422, "'Film'"),
        ({"histories": [{"1": None}]}, 422, "got `null`"),
        ({"users": [1], "n": 0}, 422, "n=0 must be an integer >= 1"),
        ({"users": [1], "unknown": "skip"}, 422, "unknown='skip' must be 'error' or 'ignore'"),
        ({"users": [1], "k": 5}, 422, "unknown field `k`"),
        ({"histories": [[]] * 90_000, "n": 100}, 413, "90,000 users with n=100 are more than 1,000,000 items"),
        ({"histories": [[]] * 100_001}, 413, "100,001 rows, but at most 100,000"),
    ]
    for body, status, text in cases:
        reply = client.post("/recommend", body)
        assert reply.status_code == status, reply.text
        assert text in reply.json()["error"]
    reply = client.post("/recommend", as_arrow(NUMBERS), headers={"content-type": ARROW})
    assert reply.status_code == 415
    assert "/recommend takes application/json, not " in reply.json()["error"]


@pytest.fixture(scope="module")
def of_rows(nameless: Autoencoder) -> Client:
    return Client(nameless)


@pytest.fixture(scope="module")
def of_tables(imputer: Imputer) -> Client:
    return Client(imputer)


@settings(max_examples=60, deadline=None)
@given(body=st.binary(max_size=60), content_type=st.sampled_from(["application/json", ARROW]))
def test_random_bytes_are_refused(of_rows: Client, body: bytes, content_type: str) -> None:
    reply = of_rows.post("/score", body, headers={"content-type": content_type})
    assert 400 <= reply.status_code < 500
    assert reply.json()["error"]


@settings(max_examples=80, deadline=None)
@given(place=st.integers(0, 10_000), value=st.integers(0, 255), mixed=st.booleans())
def test_a_damaged_arrow_stream_is_refused_or_answered(
    of_tables: Client, of_rows: Client, place: int, value: int, mixed: bool
) -> None:
    body = bytearray(as_arrow(MIXED.head(2) if mixed else NUMBERS.head(2)))
    body[place % len(body)] = value
    path, client = ("/impute", of_tables) if mixed else ("/score", of_rows)
    reply = client.post(path, bytes(body), headers={"content-type": ARROW})
    assert reply.status_code == 200 or 400 <= reply.status_code < 500


# -- headers, paths, options -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status", "text"),
    [
        ({"content-type": "text/csv"}, 415, "Content-Type 'text/csv' is not accepted; send application/json or"),
        ({"content-encoding": "gzip"}, 415, "Content-Encoding 'gzip' is not accepted; send the body as it is"),
        ({"accept": "text/html"}, 406, "Accept 'text/html' has no format of this server; accept application/json or"),
        ({"accept": "application/json;q=0"}, 406, "has no format of this server"),
        ({"accept": "application/json;q=x"}, 406, "has no format of this server"),
    ],
)
def test_wrong_headers_are_refused(autoencoder: Autoencoder, headers: dict[str, str], status: int, text: str) -> None:
    reply = Client(autoencoder).post("/score", json.dumps(record()).encode(), headers=headers)
    assert reply.status_code == status
    assert text in reply.json()["error"]


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("*/*", "application/json"),
        ("application/*;q=0.5", "application/json"),
        (f"text/html, {ARROW};q=0.9, application/json;q=0.1", ARROW),
        (f"{ARROW};q=0.1, application/json", "application/json"),
    ],
)
def test_the_answer_has_the_format_that_is_accepted(autoencoder: Autoencoder, accept: str, wanted: str) -> None:
    reply = Client(autoencoder).post("/encode", record(), headers={"accept": accept})
    assert reply.status_code == 200
    assert reply.headers["content-type"] == wanted


def test_wrong_paths_and_verbs_name_the_right_ones(autoencoder: Autoencoder) -> None:
    client = Client(autoencoder)
    reply = client.post("/explain", record())
    assert reply.status_code == 404
    assert reply.json()["error"].startswith("This Autoencoder has no /explain; it has /encode, /reconstruct, /score, ")
    reply = client.get("/score")
    assert reply.status_code == 405
    assert reply.json()["error"] == "/score does not take GET; see /docs."
    assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("query", "text"),
    [
        ("n_columns=many", "The option n_columns='many' must be a whole number >= 1"),
        ("n_columns=-1", "must be a whole number >= 1"),
        ("columns=1", "Unknown option 'columns' in the query; /explain has the options n_columns"),
    ],
)
def test_wrong_options_are_refused(detector: AnomalyDetector, query: str, text: str) -> None:
    reply = Client(detector).post(f"/explain?{query}", {"records": as_json(MIXED.head(1))})
    assert reply.status_code == 400
    assert text in reply.json()["error"]
    reply = Client(detector).post("/explain?n_columns=0", {"records": as_json(MIXED.head(1))})
    assert reply.status_code == 422
    assert "n_columns=0 must be an integer >= 1" in reply.json()["error"]
    reply = Client(detector).post("/score?n=1", {"records": as_json(MIXED.head(1))})
    assert reply.json()["error"] == "Unknown option 'n' in the query; /score has none."


# -- limits ------------------------------------------------------------------------------------------------------------


async def chunks(*parts: bytes, pause: float = 0.0) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(pause)
        yield part


def test_too_large_a_body_is_413_with_and_without_its_length(autoencoder: Autoencoder) -> None:
    client = Client(autoencoder, Limits(max_body=1_000))
    for body in (b" " * 2_000, chunks(b" " * 600, b" " * 600)):
        reply = client.send(("POST", "/score", {"content": body}))[0]
        assert reply.status_code == 413
        assert "The body has more than 1,000 bytes, which is the most that is accepted" in reply.json()["error"]
    assert client.post("/score", record()).status_code == 200
    assert client.app.state.isthmus.held == 0


def test_too_many_rows_are_413(autoencoder: Autoencoder) -> None:
    client = Client(autoencoder, Limits(max_rows=3))
    for body in ({"rows": [[1, 2, 3]] * 4}, {"records": [ROW] * 4}):
        reply = client.post("/score", body)
        assert reply.status_code == 413
        assert reply.json()["error"] == "The request has 4 rows, but at most 3 are accepted; send it in parts."


def test_a_body_that_comes_too_slowly_is_408(autoencoder: Autoencoder) -> None:
    client = Client(autoencoder, Limits(seconds=0.1))
    reply = client.send(("POST", "/score", {"content": chunks(b"{", b"}", pause=0.2)}))[0]
    assert reply.status_code == 408
    assert reply.json()["error"] == "The body did not arrive within 0.1 s."


def test_more_requests_than_may_wait_are_503_and_told_to_come_again(autoencoder: Autoencoder) -> None:
    client = Client(autoencoder, Limits(max_waiting=2))
    replies = client.send(*[("POST", "/score", {"json": record()})] * 6)
    statuses = sorted(reply.status_code for reply in replies)
    assert statuses == [200, 200, 503, 503, 503, 503]
    busy = next(reply for reply in replies if reply.status_code == 503)
    assert busy.headers["retry-after"] == "1"
    assert busy.json()["error"] == "The server is busy; try again in a second."
    assert client.post("/score", record()).status_code == 200


def test_more_bytes_than_may_be_held_are_503(autoencoder: Autoencoder) -> None:
    client = Client(autoencoder, Limits(max_bytes=10))
    assert client.post("/score", record()).status_code == 503
    assert client.app.state.isthmus.held == 0


def test_a_fault_of_the_server_is_500_without_its_inside(
    autoencoder: Autoencoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Client(autoencoder)

    def fail(*_: object) -> None:
        raise KeyError("inside")

    monkeypatch.setattr(Autoencoder, "score_samples", fail)
    reply = client.post("/score", record())
    assert reply.status_code == 500
    assert reply.json()["error"] == "The server failed (KeyError); its log says more."


def test_a_request_without_memory_is_413(autoencoder: Autoencoder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Autoencoder, "score_samples", fail)
    reply = Client(autoencoder).post("/score", record())
    assert reply.status_code == 413
    assert "does not fit into memory" in reply.json()["error"]


def test_a_long_text_among_many_rows_takes_no_more_memory_than_it_has(detector: AnomalyDetector) -> None:
    rows = as_json(MIXED.head(1)) * 2_000
    rows[0] = {**rows[0], "country": "x" * 1_000_000}  # as numpy's text of fixed width 8 GB
    assert Client(detector).post("/score", {"records": rows}).status_code == 200
