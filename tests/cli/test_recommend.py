"""``isthmus recommend`` as a user types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from isthmus.cli import main

TITLES = [
    "Heat (1995)",
    "Casino (1995)",
    "Usual Suspects, The (1995)",
    "Amélie (2001)",
    "Emma (1996)",
    "Clueless (1995)",
]
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Run a command in a folder with ratings, films and a recommender."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    rows = [(user, 10 + 3 * (user % 2) + film, 5 - user % 2, 1000 + film) for user in range(40)
            for film in draw.permutation(3)[:2]]  # fmt: skip
    pd.DataFrame(rows, columns=["userId", "movieId", "rating", "timestamp"]).to_csv("ratings.csv", index=False)
    pd.DataFrame({"movieId": range(10, 16), "title": TITLES}).to_csv("movies.csv", index=False)

    def call(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stopped:
            main(["recommend", *map(str, words)])
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


def fit(run: Run, *more: str) -> None:
    words = ["fit", "ratings.csv", "--items", "movies.csv", "--out", "r.safetensors", "--epochs", "3", "--seed", "0"]
    code, out, err = run(*words, "--quiet", "--positive-from", "1", *more)
    assert code == 0, err
    assert "interactions" in out


def test_fit_then_similar_films_as_a_table_and_as_json(run: Run) -> None:
    fit(run)
    code, out, _ = run("similar", "r.safetensors", "the usual suspects", "-n", "2")
    assert code == 0
    assert out.startswith("2 items like Usual Suspects, The (1995)")
    assert "cosine" in out
    told: dict[str, Any] = json.loads(run("similar", "r.safetensors", "10", "--json")[1])
    assert told["items"][0]["title"] in TITLES
    assert len(told["items"]) == 5


def test_recommendations_for_users_and_for_histories(run: Run) -> None:
    fit(run)
    code, out, _ = run("for", "r.safetensors", "--user", "2", "-n", "1")
    assert (code, out.splitlines()[0]) == (0, "1 items for user 2")
    code, out, _ = run("for", "r.safetensors", "--history", "Heat;casino", "-n", "1")
    assert out.splitlines()[0] == "1 items for somebody who has Heat (1995), Casino (1995)"
    assert "Usual Suspects, The (1995)" in out
    code, out, _ = run("for", "r.safetensors", "--history", "")
    assert "no known history, so these are the most popular items" in out


@pytest.mark.parametrize("protocol", ["users", "random", "time", "after", "one"])
def test_evaluate_measures_by_each_protocol(run: Run, protocol: str) -> None:
    words = ["evaluate", "ratings.csv", "--epochs", "1", "--quiet", "--positive-from", "1", "--protocol", protocol]
    code, out, err = run(*words, "--json")
    assert code == 0, err
    assert 0 <= json.loads(out)["ndcg@10"] <= 1
    assert "recall@20" in run(*words)[1]


def test_ratings_are_measured_by_their_error(run: Run) -> None:
    words = ["evaluate", "ratings.csv", "--ratings", "--epochs", "1", "--quiet", "--protocol", "random", "--json"]
    assert 0 <= json.loads(run(*words)[1])["rmse"] < 2


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["fit", "ratings.csv", "--out", "r.txt"], 2, "a model file needs the suffix .safetensors"),
        (["fit", "ratings.csv", "--items", "bare.csv"], 1, "no column for title, only 'movieid'"),
        (["fit", "bare.csv"], 1, "no column for user"),
        (["fit", "none.csv"], 1, "There is no file"),
        (
            ["evaluate", "ratings.csv", "--protocol", "place"],
            2,
            "'place' is unknown; use one of users, random, time, after, one",
        ),
        (["for", "none.safetensors", "--user", "1", "--history", "a"], 2, "Exactly one of --user and --history"),
        (["similar", "none.safetensors", "Heat"], 1, "There is no model file at"),
    ],
)
def test_wrong_use_is_one_line(run: Run, words: list[str], code: int, text: str) -> None:
    Path("bare.csv").write_text("movieId\n1\n")
    got, _, err = run(*words)
    assert got == code
    assert err.startswith("error: ")
    assert text in err


def test_what_is_not_known_is_one_line(run: Run) -> None:
    fit(run)
    assert (
        "The user '99' is not in the log; pass a history instead, with --history"
        in run("for", "r.safetensors", "--user", "99")[2]
    )
    assert "did you mean 'Casino (1995)'" in run("similar", "r.safetensors", "Cassino")[2]
    assert "exists; choose another name" in run("fit", "ratings.csv", "--out", "r.safetensors")[2]
