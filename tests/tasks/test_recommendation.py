"""The recommender on a log with a known right answer: two groups of people who want different things."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

import isthmus
from isthmus import Interactions, Recommender, evaluate_recommender, leave_out, read_interactions

SMALL: dict[str, Any] = {"code_size": 4, "network": (8,), "max_epochs": 15, "learning_rate": 0.02, "random_state": 0}
FILMS = [f"crime {k}" for k in range(8)] + [f"romance {k}" for k in range(8)]


def frame(n_users: int = 60, seed: int = 0) -> pd.DataFrame:
    """Every user has five of eight films of one kind; user 0 those of the first, user 1 of the second, and so on."""
    draw = np.random.default_rng(seed)
    rows = [
        {"user": f"u{user}", "item": FILMS[8 * (user % 2) + film], "rating": 4 + film % 2}
        for user in range(n_users)
        for film in draw.permutation(8)[:5]
    ]
    return pd.DataFrame(rows)


def rated(n_users: int = 60, seed: int = 0) -> pd.DataFrame:
    """Everybody rates ten of all films: 5 for those of the own kind, 2 for the others."""
    draw = np.random.default_rng(seed)
    rows = [
        {"user": user, "item": FILMS[film], "rating": 5 if film // 8 == user % 2 else 2}
        for user in range(n_users)
        for film in draw.permutation(16)[:10]
    ]
    return pd.DataFrame(rows)


@pytest.fixture(scope="module")
def model() -> Recommender:
    return Recommender(**SMALL, positive_from=None).fit(frame())


@pytest.fixture(scope="module")
def rater() -> Recommender:
    return Recommender(feedback="explicit", **(SMALL | {"max_epochs": 60})).fit(rated())


def test_people_are_recommended_what_their_kind_has(model: Recommender) -> None:
    for user in ("u0", "u1", "u7"):
        kind = "romance" if int(user[1:]) % 2 else "crime"
        answer = model.recommend(user, 3)
        assert all(str(item).startswith(kind) for item in answer.items)
        assert not answer.by_popularity
        assert (np.diff(answer.scores) <= 0).all()
        assert 0 < answer.scores.sum() < 1


def test_nothing_seen_is_recommended_unless_asked_for(model: Recommender) -> None:
    seen = set(frame().query("user == 'u0'")["item"])
    assert not seen & set(model.recommend("u0", 16).items)
    assert seen <= set(model.recommend("u0", 16, exclude_seen=False).items)


def test_a_history_gets_the_list_of_a_user_who_has_it(model: Recommender) -> None:
    history = frame().query("user == 'u4'")["item"].tolist()
    known, folded = model.recommend("u4", 5), model.recommend(history=history, n=5)
    assert known.items.tolist() == folded.items.tolist()
    np.testing.assert_array_equal(known.scores, folded.scores)
    reversed_and_rated = dict.fromkeys(history[::-1], 5)
    assert model.recommend(history=reversed_and_rated, n=5).items.tolist() == known.items.tolist()


def test_batches_give_what_single_calls_give(model: Recommender) -> None:
    users = ["u3", "u0"]
    for answer, user in zip(model.recommend_batch(users, 4), users, strict=True):
        assert answer.items.tolist() == model.recommend(user, 4).items.tolist()
    rows = model.rank(model.log_, 4)
    assert model.items_[rows[model.users_.tolist().index("u3")]].tolist() == model.recommend("u3", 4).items.tolist()
    assert len(model.recommend_batch(n=1)) == 60


def test_an_empty_history_is_answered_by_popularity_and_said_so(model: Recommender) -> None:
    answer = model.recommend(history=[], n=16)
    assert answer.by_popularity
    counts = frame()["item"].value_counts()
    assert answer.items[0] in counts[counts == counts.max()].index
    shares = counts[answer.items.tolist()].to_numpy()
    assert (np.diff(shares) <= 0).all()
    np.testing.assert_allclose(answer.scores, shares / shares.sum(), rtol=1e-6)


def test_more_than_what_is_left_gives_all_that_is_left(model: Recommender) -> None:
    assert len(model.recommend("u0", 100)) == 11
    assert (model.rank(model.log_, 20)[:, 11:] == -1).all()


def test_a_filter_is_a_collection_or_a_function(model: Recommender) -> None:
    assert set(model.recommend("u0", 5, filter=["romance 1", "romance 2"]).items) == {"romance 1", "romance 2"}
    answer = model.recommend("u0", 9, filter=lambda item: item.endswith("1"))
    assert all(item.endswith("1") for item in answer.items)


def test_similar_items_are_of_one_kind(model: Recommender) -> None:
    near = model.similar_items("crime 2", 4)
    assert len(near) == 4
    assert "crime 2" not in near.items
    assert sum(item.startswith("crime") for item in near.items) >= 3
    assert model.item_embeddings_.shape == (16, 8)
    assert model.user_embeddings(["u0", "u1"]).shape == (2, 4)
    np.testing.assert_array_equal(
        model.user_embeddings(["u4"]), model.user_embeddings(histories=[frame().query("user == 'u4'")["item"]])
    )


def test_same_seed_same_model_and_fit_twice_starts_fresh(model: Recommender) -> None:
    again = clone(model).fit(frame()).fit(frame())
    np.testing.assert_array_equal(again.recommend("u9", 5).scores, model.recommend("u9", 5).scores)


def test_a_matrix_and_a_polars_frame_give_what_the_frame_gives(model: Recommender) -> None:
    log = read_interactions(frame())
    by_matrix = clone(model).fit(log.matrix, users=log.users, items=log.items.tolist())
    by_polars = clone(model).fit(pl.DataFrame(frame().to_dict("list")))
    for other in (by_matrix, by_polars):
        np.testing.assert_array_equal(other.recommend("u9", 5).scores, model.recommend("u9", 5).scores)


def test_saving_gives_the_same_recommender_back(model: Recommender, rater: Recommender, tmp_path: Path) -> None:
    loaded = isthmus.load(model.save(tmp_path / "r.safetensors"))
    np.testing.assert_array_equal(loaded.recommend("u9", 5).scores, model.recommend("u9", 5).scores)
    np.testing.assert_array_equal(loaded.similar_items("crime 1").items, model.similar_items("crime 1").items)
    assert loaded.get_params() == model.get_params()
    again = isthmus.load(rater.save(tmp_path / "e.safetensors"))
    np.testing.assert_array_equal(again.predict([3], ["crime 1"]), rater.predict([3], ["crime 1"]))


def test_names_of_any_type_are_kept(tmp_path: Path) -> None:
    log = read_interactions(frame())
    users = [("a", 1), 2, 3.5, "x", b"y", pd.Timestamp("2020-01-01"), dt.date(2020, 1, 1), *range(100, 153)]
    model = Recommender(**SMALL, positive_from=None).fit(log.matrix, users=users, items=FILMS)
    loaded = isthmus.load(model.save(tmp_path / "r.safetensors"))
    assert loaded.users_.tolist() == users
    assert list(map(type, loaded.users_.tolist())) == list(map(type, users))
    assert loaded.recommend(("a", 1), 2).items.tolist() == model.recommend(("a", 1), 2).items.tolist()
    model.users_[0] = object()
    with pytest.raises(isthmus.DataError, match="is a object, which a model file cannot hold"):
        model.save(tmp_path / "n.safetensors")


def test_ratings_are_predicted_in_their_units(rater: Recommender) -> None:
    pairs = [(user, film) for user in range(10) for film in FILMS]
    predicted = rater.predict([user for user, _ in pairs], [film for _, film in pairs])
    right = np.array([5 if FILMS.index(film) // 8 == user % 2 else 2 for user, film in pairs])
    assert np.abs(predicted - right).mean() < 0.5
    assert predicted.min() >= 2
    assert predicted.max() <= 5
    assert rater.recommend(0, 2).items[0].startswith("crime")
    split = leave_out(rated(), random_state=0)
    assert evaluate_recommender(clone(rater).fit(split.given), split, ["rmse"]).mean("rmse") < 0.8


def test_shares_of_implicit_feedback_are_predicted(model: Recommender) -> None:
    share = model.predict(["u0", "u0"], ["crime 1", "romance 1"])
    assert share[0] > share[1] > 0
    whole = model.predict(["u0"] * 16, FILMS)
    assert whole.sum() == pytest.approx(1.0)


def test_evaluation_beats_popularity_and_takes_held_out_users(model: Recommender) -> None:
    split = leave_out(frame(), random_state=0)
    found = evaluate_recommender(
        clone(model).fit(split.given), split, ["ndcg@3", "recall@3", "coverage@3", "novelty@3"]
    )
    assert found.mean("ndcg@3") > 0.3
    assert 0 < found.mean("coverage@3") <= 1
    assert found.mean("novelty@3") > 0
    with pytest.raises(ValueError, match="rmse needs predicted ratings; fit with feedback='explicit'"):
        evaluate_recommender(model, split, ["rmse"])


def test_low_ratings_count_as_seen_and_not_as_had() -> None:
    log = rated()
    model = Recommender(**SMALL, positive_from=4).fit(log)
    disliked = set(log.query("user == 0 and rating == 2")["item"])
    assert disliked
    assert not disliked & set(model.recommend(0, 16).items)
    assert all(item.startswith("crime") for item in model.recommend(0, 1).items)
    assert np.median(log["rating"]) == 2  # nothing lies below it, so 2 says nothing of liking
    assert Recommender(**SMALL).fit(log).positive_from_ == 5


def test_partial_fit_takes_in_new_people_and_new_interactions(model: Recommender) -> None:
    grown = clone(model).fit(frame())
    new = pd.DataFrame({"user": ["new", "new", "u0"], "item": ["romance 1", "romance 2", "crime 0"], "rating": 5})
    grown.partial_fit(new)
    assert "new" in grown.users_
    assert grown.recommend("new", 1).items[0].startswith("romance")
    assert "crime 0" not in grown.recommend("u0", 16).items
    assert len(grown.history_) == 16
    first = clone(model).partial_fit(frame())
    np.testing.assert_array_equal(first.recommend("u9", 5).scores, model.recommend("u9", 5).scores)
    with pytest.raises(
        isthmus.DataError, match=r"The item 'western' did not occur at fit.*unknown='ignore'.*fit again"
    ):
        grown.partial_fit(pd.DataFrame({"user": ["u0"], "item": ["western"], "rating": [4]}))


def test_without_the_shallow_path_and_in_a_large_catalogue_it_works_too(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = Recommender(**SMALL, positive_from=None, shallow=False).fit(frame())
    assert deep.path_ is None
    assert deep.recommend("u0", 1).items[0].startswith("crime")
    monkeypatch.setattr("isthmus.tasks.recommendation.ease.WIDEST", 10)
    part = Recommender(**SMALL, positive_from=None).fit(frame())
    assert part.path_ is not None
    assert part.path_.weights.shape == (10, 10)
    assert part.recommend("u0", 1).items[0].startswith("crime")


def test_the_latest_of_two_ratings_counts() -> None:
    log = pd.DataFrame({"user": [1, 1, 2], "item": ["a", "a", "a"], "rating": [5, 1, 3]})
    assert read_interactions(log).matrix.toarray().ravel().tolist() == [1, 3]
    timed = read_interactions(log.assign(time=[9, 1, 1]))
    assert timed.matrix.toarray().ravel().tolist() == [5, 3]
    assert timed.times is not None
    assert timed.times.tolist() == [9, 1]


def test_columns_go_by_several_names() -> None:
    log = read_interactions(pd.DataFrame({"userId": [1], "movieId": [7], "Rating": [4.5], "timestamp": [3]}))
    assert (log.users.tolist(), log.items.tolist(), log.matrix.data.tolist()) == ([1], [7], [4.5])


@pytest.mark.parametrize(
    ("log", "text"),
    [
        (pd.DataFrame({"user": [1], "film": [2]}), "no column for item, only 'user', 'film'; rename"),
        (pd.DataFrame({"a": [1]}), "no column for user and item"),
        (pd.DataFrame({"user": [1], "item": [2], "rating": ["good"]}), "'rating' holds text such as 'good'"),
        (pd.DataFrame({"user": [1, 2], "item": [2, 2], "rating": [1, np.nan]}), "1 rating that is NaN or infinite"),
        (
            pd.DataFrame({"user": [1, 2], "item": [2, 2], "rating": [1, 1e39]}),
            r"1 rating that is beyond ±3\.4e\+38, .* 1;",
        ),
        (scipy.sparse.csr_array([[1e39, 2e39]]), "2 ratings that are beyond"),
        (pd.DataFrame({"user": ["a", None], "item": [2, 2]}), "'user' has 1 missing name, the first at row 1"),
        (pd.DataFrame({"user": [], "item": []}), "The interactions have 0 rows"),
        (pd.DataFrame({"user": [1], "item": [2], "time": ["x"]}), "'time' is neither numbers nor dates"),
        (scipy.sparse.csr_array((3, 3)), "has 0 entries, but at least one is needed"),
        (
            pd.DataFrame({"user": [1, 1], "item": [2, 3]}),
            "1 user with a positive interaction, but at least 2",
        ),
    ],
)
def test_bad_logs_are_refused(log: Any, text: str) -> None:
    with pytest.raises(isthmus.DataError, match=text):
        Recommender(**SMALL).fit(log)


def test_names_must_fit_a_matrix_and_a_frame_has_its_own() -> None:
    with pytest.raises(isthmus.DataError, match="users has 2 names, 1 of them different, but the matrix has 2 users"):
        read_interactions(scipy.sparse.eye_array(2), users=["a", "a"])
    with pytest.raises(TypeError, match="A frame contains its users and items"):
        read_interactions(frame(), users=["a"])
    with pytest.raises(TypeError, match="a frame with the columns user and item or a scipy CSR matrix"):
        read_interactions([[1, 2]])


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"feedback": "both"}, "feedback='both' must be 'implicit' or 'explicit'"),
        ({"shallow_weight": -1}, "shallow_weight=-1 must be a finite number >= 0"),
        ({"rating_range": (5, 1)}, r"must be 'auto' or \(minimum, maximum\) rating"),
        ({"positive_from": "all", "max_epochs": 0}, "2 parameters are invalid"),
        ({"network": "dens"}, "did you mean 'dense'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        Recommender(**settings).fit(frame())


def test_ratings_out_of_range_and_missing_ratings_are_refused(rater: Recommender) -> None:
    with pytest.raises(isthmus.DataError, match="1 ratings lie outside 1 to 5, the first is 9"):
        Recommender(rating_range=(1, 5)).fit(pd.DataFrame({"user": [1, 2], "item": [1, 1], "rating": [3, 9]}))
    with pytest.raises(isthmus.DataError, match="1 ratings lie outside 2 to 5, the first is 7"):
        rater.recommend(history={"crime 1": 7})
    with pytest.raises(isthmus.DataError, match="needs the ratings of a history; pass a mapping"):
        rater.recommend(history=["crime 1"])
    with pytest.raises(isthmus.DataError, match="feedback='explicit' needs ratings, but the interactions have none"):
        Recommender(feedback="explicit").fit(frame()[["user", "item"]])


def test_what_was_never_seen_and_wrong_calls_are_told(model: Recommender) -> None:
    with pytest.raises(isthmus.DataError, match="The user 'nobody' is not in the log; pass a history instead"):
        model.recommend("nobody")
    with pytest.raises(isthmus.DataError, match=r"The item 'crime 9' did not occur at fit.*did you mean 'crime"):
        model.recommend(history=["crime 9"])
    with pytest.raises(ValueError, match="Exactly one of user and history is needed"):
        model.recommend()
    with pytest.raises(ValueError, match="n=0 must be an integer >= 1"):
        model.recommend("u0", 0)
    with pytest.raises(TypeError, match="The history is the string 'crime 1'; pass a list"):
        model.recommend(history="crime 1")
    with pytest.raises(TypeError, match="filter='crime 1' must be a collection"):
        model.recommend("u0", filter="crime 1")
    with pytest.raises(ValueError, match="There are 1 users and 2 items"):
        model.predict(["u0"], FILMS[:2])
    with pytest.raises(isthmus.DataError, match="The histories have 3 columns, but there are 16 items"):
        model.rank(scipy.sparse.eye_array(3).tocsr())
    with pytest.raises(NotFittedError):
        Recommender().recommend(1)


def test_titles_are_found_as_people_type_them() -> None:
    titles = {"crime 0": "Usual Suspects, The (1995)", "crime 1": "Heat (1995)", "romance 0": "Amélie (2001)",
              "romance 1": "Heat (1972)", "crime 2": "Heat and Dust (1983)"}  # fmt: skip
    model = Recommender(**SMALL, positive_from=None).fit(frame(), titles=titles)
    typed = ["the usual suspects", "heat (1972)", "amelie", "Heat and", "SUSPECTS"]
    assert [model.find(text) for text in typed] == ["crime 0", "romance 1", "romance 0", "crime 2", "crime 0"]
    with pytest.raises(isthmus.DataError, match=r"There is no title 'usul suspect' among 5 items; did you mean 'Usual"):
        model.find("usul suspect")
    with pytest.raises(isthmus.DataError, match="none is similar"):
        model.find("zzzz")


def test_a_log_in_memory_can_be_dates_and_objects() -> None:
    log = read_interactions(pd.DataFrame({"user": [dt.date(2020, 1, 1), "x"], "item": [1, 2]}))
    assert isinstance(log, Interactions)
    assert log.users.tolist() == [dt.date(2020, 1, 1), "x"]
