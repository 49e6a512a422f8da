"""What numbers, times and arrays mean: which interactions count, when they were, and what is refused as ambiguous."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse
import torch
from sklearn.exceptions import NotFittedError

import isthmus
from isthmus import (
    DataError,
    HeldOut,
    Recommender,
    evaluate_recommender,
    leave_after,
    leave_k_out,
    leave_latest,
    leave_out,
    read_interactions,
)
from isthmus.tasks.recommendation.liking import ABOVE_ZERO, learn_liking

TINY: dict[str, Any] = {"code_size": 4, "network": (8,), "max_epochs": 3, "random_state": 0}
LEFT, RIGHT = list("ABCDEF"), list("UVWXYZ")


def answers(no: float, yes: float, share: float = 0.6) -> pd.DataFrame:
    """Everybody is asked about most items and says yes to four of one kind."""
    draw = np.random.default_rng(0)
    had = {user: set(draw.permutation([LEFT, RIGHT][user % 2])[:4]) for user in range(60)}
    rows = [(user, item, yes if item in had[user] else no) for user in had for item in LEFT + RIGHT]
    return pd.DataFrame(rows, columns=["user", "item", "rating"]).sample(frac=share, random_state=1)


# -- what counts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "kind", "least"),
    [
        ([0, 0, 0, 1], "counts", ABOVE_ZERO),
        ([-1, -1, -1, 1], "ratings", 1),
        ([-1, 0, 0, 0, 1], "ratings", 1),
        ([-1, -1, -2], "ratings", ABOVE_ZERO),
        ([1, 1, 1, 2, 3, 40], "counts", ABOVE_ZERO),
        ([1] * 8 + [2] * 4 + [3], "counts", ABOVE_ZERO),
        ([0.25, 3.17, 120.5], "counts", ABOVE_ZERO),
        ([7, 7, 7], "counts", ABOVE_ZERO),
        ([1, 2, 3, 4, 4, 5, 5], "ratings", 4),
        ([0.5, 3, 3.5, 4, 5], "ratings", 3.5),
        ([1, 1, 1, 1, 5, 5, 5], "ratings", 5),
        ([0, 60, 80, 90, 100], "ratings", 80),
        ([-9.5, -3, 2, 8, 9], "ratings", 2),
        ([1] * 6 + [5] * 3, "ratings", 5),
    ],
)
def test_auto_never_counts_zero_and_tells_counts_from_ratings(values: list[float], kind: str, least: float) -> None:
    found = learn_liking(np.asarray(values, np.float32), True, False, "auto")
    assert found.values == kind
    assert found.positive_from == least
    assert found.counted(np.asarray(values, np.float32)).sum() == sum(value >= least for value in values)


@pytest.mark.parametrize(("no", "yes"), [(0, 1), (-1, 1), (1, 5), (-1, 0.5)])
def test_what_was_not_liked_is_not_learned(no: float, yes: float) -> None:
    log = answers(no, yes)
    model = Recommender(**(TINY | {"max_epochs": 50})).fit(log)
    assert model.summary()["interactions that count"] == (log["rating"] == yes).sum()
    for kind in (LEFT, RIGHT):
        assert set(model.recommend(history=dict.fromkeys(kind[:4], yes), n=2).items) <= set(kind)


def test_a_zero_count_is_no_interaction_and_a_low_rating_is_one() -> None:
    counts = Recommender(**TINY).fit(answers(0, 1, share=1.0))
    assert len(counts.recommend(0, 20)) == 12 - 4
    ratings = Recommender(**TINY).fit(
        answers(0, 5, share=1.0).assign(rating=lambda log: log.rating.where(log.user > 3, 3))
    )
    assert ratings.liking_.values == "ratings"
    assert len(ratings.recommend(10, 20)) == 0  # a rating of 0 says that the item was seen
    counts.partial_fit(pd.DataFrame({"user": [0], "item": [counts.recommend(0, 1).items[0]], "rating": [0]}))
    assert len(counts.recommend(0, 20)) == 8
    assert counts.recommend(history={"A": 0}).by_popularity


def test_all_plays_are_learned_and_the_summary_says_so(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    log = answers(0, 1).query("rating == 1").drop(columns="rating")
    log["plays"] = np.round(draw.lognormal(1, 1, len(log))) + 1
    with_zero = pd.concat([log, pd.DataFrame({"user": [0], "item": ["Z"], "plays": [0]})])
    model = Recommender(**TINY).fit(with_zero)
    facts = model.summary()
    assert facts["interactions that count"] == facts["interactions"] == len(log)
    assert (facts["values are"], facts["counts as having"]) == ("counts", "above 0")
    plain = Recommender(**TINY).fit(log[["user", "item"]])
    np.testing.assert_array_equal(model.recommend(1).scores, plain.recommend(1).scores)
    loaded = isthmus.load(model.save(tmp_path / "r.safetensors"))
    assert loaded.summary() == facts
    twice = read_interactions(pd.DataFrame({"user": [1, 1], "item": ["a", "a"], "plays": [2, 3]}))
    assert twice.matrix.data.tolist() == [5]


def test_a_rating_that_float32_rounds_down_still_counts() -> None:
    log = answers(1.1, 4.1)
    model = Recommender(**TINY, positive_from=4.1, rating_range=(1.1, 4.1)).fit(log)
    assert model.summary()["interactions that count"] == (log["rating"] == 4.1).sum()


def test_implicit_feedback_refuses_no_number() -> None:
    draw = np.random.default_rng(0)
    log = pd.DataFrame([(user, item, float(draw.integers(2, 50))) for user in range(60)
                        for item in draw.permutation(12)[:5]], columns=["user", "item", "rating"])  # fmt: skip
    model = Recommender(**TINY).fit(log)
    wanted = model.recommend(history=[3]).items.tolist()
    for history in ({3: 60.0}, {3: 1}, {3: True}, scipy.sparse.csr_array(np.eye(1, 12, 3))):
        assert model.recommend(history=history).items.tolist() == wanted
    unrated = Recommender(**TINY).fit(log[["user", "item"]])
    assert unrated.recommend(history={3: 5.0}).items.tolist() == unrated.recommend(history=[3]).items.tolist()
    assert unrated.recommend(history={3: -1.0}).by_popularity
    split = leave_out(log, random_state=0)
    split.held.matrix.data[0] = 60
    assert 0 <= evaluate_recommender(Recommender(**TINY).fit(split.given), split, ["ndcg@5"]).mean("ndcg@5") <= 1


def test_ones_for_a_model_of_ratings_are_refused_as_ambiguous_and_booleans_taken() -> None:
    model = Recommender(**TINY).fit(answers(1, 5))
    rows = np.eye(1, 12)
    with pytest.raises(DataError, match=r"All values of the histories are 1, but only ratings from 5 are positive"):
        model.recommend_batch(histories=rows)
    wanted = model.recommend(history=["A"]).items.tolist()
    assert model.recommend_batch(histories=rows > 0)[0].items.tolist() == wanted
    assert model.recommend_batch(histories=scipy.sparse.csr_array(rows > 0))[0].items.tolist() == wanted
    assert model.recommend(history={"A": 1}).by_popularity


# -- scores ------------------------------------------------------------------------------------------------------------


def test_one_pair_has_one_score_and_all_of_a_user_sum_to_one() -> None:
    model = Recommender(**TINY).fit(answers(0, 1))
    whole = model.recommend(5, 12, exclude_seen=False)
    assert whole.scores.sum() == pytest.approx(1)
    by_item = dict(whole)
    best = model.recommend(5, 1).items[0]
    for answer in (model.recommend(5, 12), model.recommend(5, filter=[best]), model.recommend(5, exclude=["A", "Z"])):
        assert dict(answer) == pytest.approx({item: by_item[item] for item in answer.items})
    np.testing.assert_allclose(model.predict([5] * 12, whole.items), whole.scores)


def test_items_nobody_has_are_absent_and_their_vectors_zero() -> None:
    draw = np.random.default_rng(0)
    X = (draw.random((200, 30)) < np.where(np.arange(200)[:, None] % 3 == np.arange(30) % 3, 0.5, 0.05)).astype(float)
    X[:, 24:] = 0
    X[0] = 0
    model = Recommender(**(TINY | {"max_epochs": 20})).fit(scipy.sparse.csr_array(X))
    assert not model.item_embeddings_[24:].any()
    assert not model.user_embeddings([0]).any()
    assert model.recommend(1, 30, exclude_seen=False).items.max() < 24
    assert (model.rank(X[1:4], 30) < 24).all()
    assert model.predict([1], [25]).tolist() == [0.0]
    assert max(model.similar_items(item, 30).items.max() for item in range(24)) < 24
    cold = model.similar_items(27, 3)
    assert cold.by_popularity
    assert cold.scores.tolist() == [0, 0, 0]
    assert cold.items.tolist() == np.argsort(-X.sum(0), kind="stable")[:3].tolist()
    rater = Recommender(feedback="explicit", shallow=False, **TINY).fit(scipy.sparse.csr_array(X * 4 - np.triu(X)))
    expected = rater.predict([1, 1], [25, 28])
    assert expected[0] == expected[1]  # of both nothing but the user is known


def test_similar_items_in_batches_and_with_a_filter() -> None:
    model = Recommender(**(TINY | {"max_epochs": 30})).fit(answers(0, 1))
    batch = model.similar_items_batch(["A", "U"], 3)
    for item, answer in zip("AU", batch, strict=True):
        single = model.similar_items(item, 3)
        assert answer.items.tolist() == single.items.tolist()
        np.testing.assert_allclose(answer.scores, single.scores, rtol=1e-5)
    assert set(model.similar_items("A", filter=["U", "V", "A"]).items) == {"U", "V"}
    assert "B" not in model.similar_items("A", 12, exclude=["B"]).items
    with pytest.raises(DataError, match="pass one item, or several to similar_items_batch"):
        model.similar_items(["A", "U"])  # type: ignore[arg-type]
    with pytest.raises(DataError, match="items='A' is one item; pass a list"):
        model.similar_items_batch("A")


def test_similar_users_are_of_one_kind() -> None:
    model = Recommender(**(TINY | {"max_epochs": 30})).fit(answers(0, 1))
    near = model.similar_users(4, 5)
    assert len(near) == 5
    assert 4 not in near.items
    assert (near.items % 2 == 0).mean() >= 0.8
    assert (np.diff(near.scores) <= 0).all()
    asked = model.similar_users(history=LEFT[:3], n=5)
    assert (asked.items % 2 == 0).mean() >= 0.8
    model.partial_fit(pd.DataFrame({"user": ["twin"], "item": ["A"], "rating": [1]}))
    assert "twin" in model.similar_users(history=["A"], n=3).items
    nobody = model.similar_users(history=[])
    assert (len(nobody), nobody.by_popularity) == (0, True)


# -- arrays ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def numbered() -> tuple[Recommender, np.ndarray]:
    X = (np.add.outer(np.arange(40), np.arange(12)) % 2 == 0) & (np.random.default_rng(0).random((40, 12)) < 0.7)
    return Recommender(**(TINY | {"max_epochs": 40})).fit(scipy.sparse.csr_array(X.astype(float))), X


def test_a_matrix_is_a_matrix_in_every_form(numbered: Any) -> None:
    model, X = numbered
    rows = X[:6].astype(float)
    wanted = [answer.items.tolist() for answer in model.recommend_batch(range(6), 3)]
    with_nan = np.where(rows > 0, rows, np.nan)
    forms = (scipy.sparse.csr_array(rows), scipy.sparse.coo_matrix(rows), rows, rows > 0, rows.astype(int),
             torch.tensor(rows), with_nan, [np.flatnonzero(row) for row in rows], [row > 0 for row in rows],
             [set(np.flatnonzero(row).tolist()) for row in rows])  # fmt: skip
    for form in forms:
        assert [answer.items.tolist() for answer in model.recommend_batch(n=3, histories=form)] == wanted
    assert model.rank(rows, 3).tolist() == wanted
    for form in (scipy.sparse.csr_array(rows[:1]), rows[:1], rows[0] > 0, (rows[0] > 0).tolist(),
                 pd.DataFrame({"item": np.flatnonzero(rows[0])})):  # fmt: skip
        assert model.recommend(history=form, n=3).items.tolist() == wanted[0]


def test_a_filter_is_a_mask_where_it_is_boolean(numbered: Any) -> None:
    model, _ = numbered
    mask = np.arange(12) >= 6
    wanted = model.recommend(0, 12, filter=range(6, 12), exclude_seen=False).items.tolist()
    assert sorted(wanted) == list(range(6, 12))
    shuffled = pd.Series(mask, index=range(12)).sample(frac=1, random_state=0)
    for form in (mask, mask.tolist(), shuffled, lambda item: item >= 6):
        assert model.recommend(0, 12, filter=form, exclude_seen=False).items.tolist() == wanted
        assert not set(model.recommend(0, 12, exclude=form, exclude_seen=False).items) & set(wanted)
    assert len(model.recommend(0, filter=[])) == 0
    users = np.arange(40) < 2
    assert len(model.recommend_batch(users)) == 2


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m, X: m.recommend(X), "user is a ndarray, but the identifier of one user is needed"),
        (lambda m, X: m.recommend(scipy.sparse.csr_array(X)), "user is a csr_array, but the identifier of one"),
        (lambda m, X: m.recommend([0, 1]), "pass several to recommend_batch"),
        (lambda m, X: m.recommend_batch(users=0), r"users is 0, but a list of users is needed; for one: \[user\]"),
        (lambda m, X: m.recommend_batch("ab"), "users is 'ab', but a list of users"),
        (lambda m, X: m.recommend_batch(X), r"users has shape \(40, 12\)"),
        (lambda m, X: m.recommend_batch(X[:, 0][:9]), "users is a mask of 9 booleans, but there are 40 users"),
        (
            lambda m, X: m.predict(0, 3),
            r"users=0 must be a list of identifiers; for one pair: predict\(\[user\], \[item\]\)",
        ),
        (lambda m, X: m.recommend(history=X[0].astype(int)), "12 numbers, which may be identifiers of items or a row"),
        (lambda m, X: m.recommend(history=X[0].astype(float).tolist()), "12 numbers, which may be identifiers"),
        (lambda m, X: m.recommend(history=np.array([1.0, 3.0])), "2 numbers, which may be identifiers"),
        (lambda m, X: m.recommend(history=X[0, :5]), "an array of shape .1, 5., but a matrix needs a column for each"),
        (lambda m, X: m.recommend(history=[True, 3]), "an array of shape .1, 2., but a matrix needs a column"),
        (lambda m, X: m.recommend(history=5), r"The history 5 is not a list of items; for one item: \[5\]"),
        (lambda m, X: m.recommend(history=X[:2]), "The history has 2 rows; pass several users to recommend_batch"),
        (lambda m, X: m.recommend(history=pd.DataFrame({"user": [1], "item": [2]})), "items of one user are needed: a"),
        (lambda m, X: m.recommend(history={3: "good"}), "The rating of 3 is 'good', but a finite number"),
        (lambda m, X: m.recommend(history={3: np.nan}), "The rating of 3 is nan, but a finite number"),
        (lambda m, X: m.recommend(history=[[1, 2]]), r"\[1, 2\] is a list, which is not a name"),
        (lambda m, X: m.recommend_batch(histories=np.arange(3)), "an array of shape .3,., but a matrix needs"),
        (lambda m, X: m.recommend_batch(histories=X[:, :5]), "an array of shape .40, 5., but a matrix needs"),
        (lambda m, X: m.recommend_batch(histories={0: [1]}), "The histories are a dict, but a list with one history"),
        (lambda m, X: m.recommend_batch(histories=pd.DataFrame(X)), "The histories are a frame"),
        (lambda m, X: m.recommend_batch([0], histories=[[1]]), "users and histories are both given"),
        (lambda m, X: m.rank(X[:2] * np.inf), "ratings that are NaN or infinite"),
        (
            lambda m, X: m.recommend(0, filter=X[0].astype(int)),
            "12 values with repetitions, as many as there are items",
        ),
        (lambda m, X: m.recommend(0, filter=X[0, :5]), "a mask of 5 booleans, but there are 12 items"),
        (lambda m, X: m.recommend(0, filter=X), "filter is a mask of 40 booleans|filter has shape"),
        (lambda m, X: m.recommend(0, filter=pd.Series(X[0], list("abcdefghijkl"))), "whose index lacks 12 items"),
        (lambda m, X: m.recommend(0, exclude=pd.DataFrame(X)), "exclude is a frame; pass its column of items"),
        (lambda m, X: m.predict_held(X[:2], X[:3]), "given has 2 users and held 3"),
    ],
)  # fmt: skip
def test_what_may_mean_two_things_is_refused(numbered: Any, call: Any, text: str) -> None:
    with np.errstate(invalid="ignore"), pytest.raises(ValueError if "both given" in text else DataError, match=text):
        call(*numbered)


def test_batches_take_users_first_and_an_integer_alone_is_n(numbered: Any) -> None:
    model, X = numbered
    wanted = [answer.items.tolist() for answer in model.recommend_batch([3, 1], 2)]
    assert wanted == [model.recommend(user, 2).items.tolist() for user in (3, 1)]
    assert [answer.items.tolist() for answer in model.recommend_batch(2, users=[3, 1])] == wanted
    assert [len(answer) for answer in model.recommend_batch(2)] == [2] * 40
    assert len(model.recommend_batch(2, histories=X[:3])) == 3
    assert model.rank([], 3).shape == model.rank(X[:0], 3).shape == (0, 3)
    assert model.recommend_batch([]) == []


# -- times -------------------------------------------------------------------------------------------------------------

DAYS = pd.date_range("2020-01-01", periods=4)
BASE = pd.DataFrame({"user": [1, 1, 2, 2], "item": list("abab")})


@pytest.mark.parametrize(
    "values",
    [
        DAYS,
        DAYS.tz_localize("UTC"),
        DAYS.tz_localize("Asia/Tokyo"),
        DAYS.date,
        DAYS.astype(str),
        DAYS.strftime("%Y-%m-%dT%H:%M:%SZ"),
        DAYS.strftime("%Y-%m-%d %H:%M:%S"),
        list(DAYS.to_pydatetime()),
        np.array(DAYS, "datetime64[s]") + np.timedelta64(2_900_000, "D"),
        [dt.datetime(9000, 1, day) for day in (1, 2, 3, 4)],
        [1577836800000, 1577836800001, 1577836800002, 1577836800003],
        [20200101, 20200102, 20200103, 20200104],
        pd.array([1, 2, 3, 4], "Int64"),
        [0.5, 1.5, 2.5, 3.5],
    ],
)
@pytest.mark.parametrize("turned", [False, True])
def test_everyday_times_are_read_in_their_order(values: Any, turned: bool) -> None:
    log = BASE.assign(time=values)
    log = log[::-1] if turned else log
    held = leave_latest(log, 0.5).held
    assert [held.items[column] for column in held.matrix.indices] == ["b", "b"]
    late = leave_after(log, 0.25).held
    assert (late.users[late.matrix.nonzero()[0]].tolist(), late.items[late.matrix.indices].tolist()) == ([2], ["b"])


def test_zones_are_compared_as_moments() -> None:
    texts = ["2020-01-01T00:00:00+09:00", "2019-12-31T20:00:00Z", "2020-01-01T02:00:00+01:00", "2020-01-01T02:00:00"]
    times = read_interactions(BASE.assign(time=texts)).times
    assert times is not None
    assert np.argsort(times).tolist() == [0, 1, 2, 3]
    polar = pl.DataFrame({"user": [1], "item": [1], "time": [dt.datetime(2020, 1, 1)]})
    zoned = polar.with_columns(pl.col("time").dt.replace_time_zone("Asia/Tokyo"))
    assert read_interactions(zoned).times == np.datetime64("2019-12-31T15:00")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1.0, np.nan, 2, 3], "'time' has 1 time that is missing or infinite, the first at row 1"),
        ([DAYS[0], pd.NaT, DAYS[1], DAYS[2]], "'time' has 1 time that is missing or infinite, the first at row 1"),
        (["2020-01-01", None, "2020-01-02", "2020-01-02"], "1 time that is missing"),
        (np.array([1577836800, None, 3, 4], object), "1 time that is missing or infinite, the first at row 1"),
        (["01/02/2020"] * 4, "neither numbers nor dates: row 0 is '01/02/2020'"),
        ([True] * 4, "neither numbers nor dates"),
        ([1577836800, 1577836800000, 1577836801, 1577836802], "seconds in 3 rows and milliseconds in 1"),
    ],
)
def test_times_that_cannot_be_compared_are_refused(values: Any, text: str) -> None:
    with pytest.raises(DataError, match=text):
        read_interactions(BASE.assign(time=values))


def test_ties_in_time_are_not_cut_by_the_number_of_the_item() -> None:
    log = pd.DataFrame([(user, item, 0) for user in range(200) for item in range(30)], columns=["user", "item", "time"])
    held = leave_latest(log, 0.1).held.matrix.indices
    assert held.shape == (600,)
    thirds = np.bincount(held // 10, minlength=3)
    assert (thirds > 150).all()  # 200 each were expected, 600 in the last when cut by number
    np.testing.assert_array_equal(leave_latest(log, 0.1).held.matrix.indices, held)
    assert (leave_latest(log, 0.1, random_state=1).held.matrix.indices != held).any()


def test_leave_k_out_takes_k_of_those_who_have_more() -> None:
    log = pd.DataFrame([(user, item, item) for user in range(6) for item in range(user + 1)],
                       columns=["user", "item", "time"])  # fmt: skip
    split = leave_k_out(log, 2, random_state=0)
    assert np.diff(split.held.matrix.indptr).tolist() == [0, 0, 2, 2, 2, 2]
    assert split.held.matrix.nnz + split.given.matrix.nnz == len(log)
    latest = leave_k_out(log, 2, latest=True).held
    assert latest.matrix.indices.tolist() == [1, 2, 2, 3, 3, 4, 4, 5]
    with pytest.raises(ValueError, match="k=0 must be an integer >= 1"):
        leave_k_out(log, 0)


def test_a_global_split_by_time_keeps_equal_times_together() -> None:
    log = pd.DataFrame({"user": [1, 1, 2, 2, 3], "item": list("abcab"), "time": [1, 5, 2, 5, 9]})
    split = leave_after(log, 0.4)
    assert split.given.matrix.nnz == 2
    assert split.held.matrix.nnz == 3
    assert leave_after(log, at=9).held.matrix.nnz == 1
    dated = log.assign(time=pd.to_datetime(log.time, unit="D"))
    for moment in ("1970-01-06", dt.date(1970, 1, 6), pd.Timestamp("1970-01-06"), np.datetime64("1970-01-06")):
        assert leave_after(dated, at=moment).held.matrix.nnz == 3
    with pytest.raises(DataError, match="at='1970-01-06' must be a number, as the times are"):
        leave_after(log, at="1970-01-06")
    with pytest.raises(DataError, match="at=5 must be a date"):
        leave_after(dated, at=5)
    with pytest.raises(DataError, match=r"0 of 5 interactions are from 10 on \(1 to 9\), but some are needed on both"):
        leave_after(log, at=10)
    with pytest.raises(DataError, match="have no times"):
        leave_after(log[["user", "item"]])


# -- scoring -----------------------------------------------------------------------------------------------------------


def test_score_is_what_an_evaluation_of_new_interactions_gives() -> None:
    log = answers(0, 1, share=1.0).query("rating == 1")[["user", "item"]].reset_index(drop=True)
    train, test = log[log.index % 4 != 0], log[log.index % 4 == 0]
    model = Recommender(**(TINY | {"max_epochs": 30})).fit(train)
    split = HeldOut(read_interactions(train), read_interactions(test))
    assert model.score(test) == pytest.approx(evaluate_recommender(model, split, ["ndcg@10"]).mean("ndcg@10"))
    assert 0 < model.score(train) <= 1  # nothing is new: a fifth is held out
    matrix = read_interactions(train).matrix
    own = leave_out(matrix, random_state=0)
    lists = model.rank(own.given.matrix, 10)
    wanted = np.nanmean(isthmus.tasks.recommendation.ranking.ndcg(lists, own.held.matrix, 10))
    assert model.score(matrix) == pytest.approx(wanted)
    rater = Recommender(feedback="explicit", **TINY).fit(answers(1, 5))
    assert -4 < rater.score(answers(1, 5, share=0.9)) < 0
    with pytest.raises(DataError, match="has an interaction that can be held out"):
        model.score(scipy.sparse.csr_array(np.eye(12)))


@pytest.mark.parametrize("form", ["matrix", "frame"])
def test_a_grid_search_takes_the_recommender(form: str) -> None:
    from sklearn.model_selection import GridSearchCV  # noqa: PLC0415

    log = answers(0, 1).query("rating == 1")[["user", "item"]].sample(frac=1, random_state=0)
    data = read_interactions(log).matrix if form == "matrix" else log
    search = GridSearchCV(Recommender(**TINY), {"shallow_weight": [0, 12]}, cv=3, error_score="raise").fit(data)
    assert search.best_params_ == {"shallow_weight": 12}
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


def test_what_cannot_be_evaluated_is_refused() -> None:
    model, split = Recommender(**TINY).fit(answers(0, 1)), leave_out(answers(0, 1), random_state=0)
    with pytest.raises(TypeError, match="held_out is a DataFrame, but a HeldOut is needed"):
        evaluate_recommender(model, answers(0, 1))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"metrics is the string 'ndcg@5'; pass a list: \['ndcg@5'\]"):
        evaluate_recommender(model, split, "ndcg@5")
    with pytest.raises(NotFittedError):
        evaluate_recommender(Recommender(), split)
    with pytest.raises(TypeError, match=r"lazy frame, but a computed frame is needed; pass data.collect\(\)"):
        read_interactions(pl.LazyFrame({"user": [1], "item": [1]}))


def test_nothing_held_out_is_an_error_and_means_are_nan_without_a_warning() -> None:
    model = Recommender(**TINY).fit(answers(0, 1))
    nothing = leave_out(scipy.sparse.csr_array(np.eye(12)), random_state=0)
    named = HeldOut(read_interactions(nothing.given.matrix, items=LEFT + RIGHT), read_interactions(
        scipy.sparse.csr_array((np.zeros(1), ([0], [0])), (12, 12)), items=LEFT + RIGHT))  # fmt: skip
    with pytest.raises(DataError, match=r"None of 12 users has a held-out positive interaction \(above 0\)"):
        evaluate_recommender(model, named)
    empty = isthmus.Evaluation({"ndcg@5": np.array([np.nan])}, {})
    assert np.isnan(empty.mean("ndcg@5"))
    assert np.isnan(isthmus.Evaluation({"ndcg@5": np.array([0.5])}, {}).standard_error("ndcg@5"))


def test_parameters_changed_after_fit_change_no_answer(tmp_path: Path) -> None:
    model = Recommender(**TINY).fit(answers(1, 5))
    wanted = model.recommend(history=LEFT[:2]).scores
    model.set_params(feedback="explicit", shallow_weight=0, positive_from=1, rating_range=(0, 1))
    np.testing.assert_array_equal(model.recommend(history=LEFT[:2]).scores, wanted)
    loaded = isthmus.load(model.save(tmp_path / "r.safetensors"))
    np.testing.assert_array_equal(loaded.recommend(history=LEFT[:2]).scores, wanted)
    assert loaded.get_params()["feedback"] == "explicit"


def test_files_of_the_first_release_are_read(tmp_path: Path) -> None:
    model = Recommender(**TINY).fit(answers(1, 5))
    state = isthmus.files.read_state(model.save(tmp_path / "new.safetensors"))
    values = {
        name: value for name, value in state.values.items() if name not in ("feedback", "path_weight", "values_are")
    }
    old = isthmus.files.State(state.kind, values | {"rating_range": [1.0, 5.0]}, state.arrays)
    loaded = isthmus.load(isthmus.files.write_state(tmp_path / "old.safetensors", old))
    np.testing.assert_array_equal(loaded.recommend(3).scores, model.recommend(3).scores)
    assert loaded.summary() == model.summary()
