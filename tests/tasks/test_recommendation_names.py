"""Names of users and items: kept as they are, found however they are written, refused where two would be one."""

from __future__ import annotations

import datetime as dt
import decimal
import enum
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse

import isthmus
from isthmus import DataError, HeldOut, Recommender, evaluate_recommender, read_interactions
from isthmus.tasks.recommendation.identifiers import NameIndex, as_names

TINY: dict[str, Any] = {"code_size": 2, "network": (4,), "max_epochs": 1, "random_state": 0}
BLOCKS = scipy.sparse.csr_array((np.add.outer(np.arange(20), np.arange(12)) % 2 == 0).astype(np.float32))


def log_of(items: Any, n_users: int = 20) -> pd.DataFrame:
    """Every user has half of the items."""
    return pd.DataFrame([(user, item) for user in range(n_users) for item in items[user % 2 :: 2]],
                        columns=["user", "item"])  # fmt: skip


@pytest.mark.parametrize(
    "names",
    [
        list(np.unique(np.arange(12) * 10)),
        [uuid.UUID(int=k) for k in range(12)],
        [decimal.Decimal(k) / 10 for k in range(12)],
        list(np.arange(12.0)),
        list(np.array([f"i{k}" for k in range(12)])),
        [2**64 - 1 - k for k in range(12)],
        [2**70 + k for k in range(12)],
        [b"a%d" % k for k in range(12)],
        list(pd.date_range("2020-01-01", periods=12)),
        [dt.datetime(2020, 1, 1 + k) for k in range(12)],
        [f"{k:03}" for k in range(11)] + ["7"],
        ["a", "a\0", "é", "e\u0301", " a", "A", "nan", "None", "", "1e3", "\ud800", "x" * 3000],
    ],
)
def test_names_come_back_from_a_file_as_they_were(names: list[Any], tmp_path: Path) -> None:
    model = Recommender(**TINY).fit(BLOCKS, items=names)
    loaded = isthmus.load(model.save(tmp_path / "r.safetensors"))
    plain = [name.item() if isinstance(name, np.generic) else name for name in names]
    for one in (model, loaded):
        assert one.items_.tolist() == plain
        assert list(map(type, one.items_.tolist())) == list(map(type, plain))
        folded = one.recommend(history=[names[0]], n=3)
        assert folded.items.tolist() == model.recommend(history=[plain[0]], n=3).items.tolist()


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame])
def test_large_identifiers_in_frames_keep_every_digit(make: Any) -> None:
    users = np.array([2**64 - 1, 2**64 - 2, 2**63], np.uint64)
    log = read_interactions(make({"user": users, "item": ["a", "b", "a"]}))
    assert log.users.tolist() == [2**63, 2**64 - 2, 2**64 - 1]
    assert log.users.dtype == np.uint64
    signed = read_interactions(make({"user": [2**53 + 1, 2**53], "item": ["a", "b"]}))
    assert signed.users.tolist() == [2**53, 2**53 + 1]


def test_long_names_do_not_widen_the_others() -> None:
    frame = pd.DataFrame({"user": np.arange(400) % 20, "item": ["y" * 20_000, *(f"i{k}" for k in range(399))]})
    assert read_interactions(frame).items.nbytes == 400 * 8


class Colour(enum.StrEnum):
    RED = "red"


def test_members_of_an_enum_are_their_values() -> None:
    names = as_names([Colour.RED, "blue"])
    assert list(map(type, names.tolist())) == [str, str]
    assert names.tolist() == ["red", "blue"]


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ([object(), *range(11)], r"of type object, which a model file cannot hold; name users and items by integers"),
        ([pd.Period("2020"), *range(11)], "of type Period, which a model file cannot hold"),
        ([None, *range(11)], "The name None is missing"),
        ([float("nan"), *range(11)], "The name nan is missing"),
        ([pd.NaT, *range(11)], "The name NaT is missing"),
        (
            [2.0**53, *range(11)],
            "is a float of 9,007,199,254,740,992 or more, where different integers become the same",
        ),
        (["3", *range(11)], "The names '3' and 3 look alike but are of different types"),
        ([True, *range(2, 13)], "mix True and False with numbers"),
        (["3", *map(float, range(11))], "The names '3' and 3.0 look alike"),
    ],
)
def test_names_that_cannot_be_kept_are_refused_at_fit(names: list[Any], text: str) -> None:
    with pytest.raises(DataError, match=text):
        Recommender(**TINY).fit(BLOCKS, items=names)


def test_names_of_two_types_in_one_column_are_refused_where_they_look_alike() -> None:
    frame = pd.DataFrame({"user": np.array([3, "3", 4], object), "item": ["a", "b", "a"]})
    with pytest.raises(DataError, match="look alike but are of different types"):
        read_interactions(frame)
    with pytest.raises(DataError, match=r"users is a str, but a list of 20 names"):
        read_interactions(BLOCKS, users="abcdefghijklmnopqrst")
    with pytest.raises(DataError, match=r"The columns 'user' and 'User' have the same name"):
        read_interactions(pd.DataFrame({"user": [1], "User": [2], "item": [3]}))
    with pytest.raises(TypeError, match="A frame contains its users and items"):
        read_interactions(read_interactions(BLOCKS), items=range(12))


def test_text_for_a_number_and_a_number_for_text_find_the_same() -> None:
    model = Recommender(**TINY).fit(log_of(list(range(60, 72))))
    assert model.recommend("3", 3).items.tolist() == model.recommend(3, 3).items.tolist()
    mixed = model.recommend(history=["65", np.int32(67)])
    assert mixed.items.tolist() == model.recommend(history=[65, 67]).items.tolist()
    with pytest.raises(DataError, match=r"The user '03' is not in the log.*Users have identifiers such as 0 \(int\)"):
        model.recommend("03")
    with pytest.raises(DataError, match="The user True is not in the log"):
        model.recommend(True)
    model.partial_fit(pd.DataFrame({"user": ["3", "99"], "item": ["61", "62"]}))
    assert model.users_.tolist() == [*range(20), 99]
    assert 61 not in model.recommend(3, 12).items
    words = Recommender(**TINY).fit(log_of([str(k) for k in range(12)]).assign(user=lambda log: log.user.astype(str)))
    assert words.recommend(3, 3).items.tolist() == words.recommend("3", 3).items.tolist()
    words.partial_fit(pd.DataFrame({"user": [3], "item": [1]}))
    assert len(words.users_) == 20


def test_floats_of_a_column_with_holes_are_found_as_integers() -> None:
    index = NameIndex(as_names([3.0, 2.5]))
    assert [index.find(name) for name in (3, 3.0, "3", "3.0", "2.5", "2", None)] == [0, 0, 0, 0, 1, None, None]


# -- pairing by name ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_kinds() -> tuple[Recommender, pd.DataFrame, pd.DataFrame]:
    draw = np.random.default_rng(0)
    kinds = [list("ABCDEF"), list("UVWXYZ")]
    rows = [(user, item) for user in range(60) for item in draw.permutation(kinds[user % 2])[:4]]
    log = pd.DataFrame(rows, columns=["user", "item"])
    train, test = log[log.index % 4 != 0], log[log.index % 4 == 0]
    return Recommender(code_size=4, network=(8,), max_epochs=50, random_state=0).fit(train), train, test


def score(model: Recommender, given: Any, held: Any) -> float:
    return evaluate_recommender(model, HeldOut(given, held), ["ndcg@5"]).mean("ndcg@5")


def test_users_and_items_are_paired_by_name(two_kinds: Any) -> None:
    model, train, test = two_kinds
    wanted = score(model, read_interactions(train), read_interactions(test))
    assert wanted > 0.5
    texts = read_interactions(test.assign(user=test.user.astype(str)))
    assert texts.users.tolist() != list(map(str, range(60)))  # sorted as texts: 0, 1, 10, …
    assert score(model, read_interactions(train), texts) == pytest.approx(wanted)
    given = read_interactions(train)
    order = np.random.default_rng(1).permutation(60)
    assert score(model, given.select(order), read_interactions(test)) == pytest.approx(wanted)
    items = np.random.default_rng(2).permutation(12)
    turned = read_interactions(given.matrix[:, items], users=given.users, items=given.items[items])
    assert score(model, turned, read_interactions(test)) == pytest.approx(wanted)


def test_users_of_one_part_are_left_out_and_counted(two_kinds: Any) -> None:
    model, train, test = two_kinds
    both = HeldOut(read_interactions(train[train.user != 0]), read_interactions(test[test.user != 59]))
    found = evaluate_recommender(model, both, ["ndcg@5"])
    assert found.n_unpaired == 2
    assert found.users is not None
    assert found.users.tolist() == list(range(1, 59))
    whole = evaluate_recommender(model, HeldOut(read_interactions(train), read_interactions(test)), ["ndcg@5"])
    np.testing.assert_array_equal(found.per_user["ndcg@5"], whole.per_user["ndcg@5"][1:59])
    strangers = read_interactions(test.assign(user=test.user + 1000))
    with pytest.raises(DataError, match=r"No user of held \(60, such as \[1000\]\) is in given"):
        evaluate_recommender(model, HeldOut(read_interactions(train), strangers))


def test_a_catalogue_newer_than_the_model_is_refused_or_ignored_with_a_count(two_kinds: Any) -> None:
    model, train, test = two_kinds
    with pytest.raises(DataError, match=r"The item 'new' did not occur at fit.*unknown='ignore'"):
        model.recommend(history=["A", "new"])
    answer = model.recommend(history=["A", "new"], unknown="ignore")
    assert answer.n_unknown == 1
    assert answer.items.tolist() == model.recommend(history=["A"]).items.tolist()
    batch = model.recommend_batch(histories=[["A"], ["new", "newer"]], unknown="ignore")
    assert [one.n_unknown for one in batch] == [0, 2]
    assert [one.by_popularity for one in batch] == [False, True]
    assert set(model.recommend(0, filter=["U", "new"], unknown="ignore").items) == {"U"}
    assert np.isnan(model.predict([0, 0], ["new", "A"], unknown="ignore")).tolist() == [True, False]
    newer = pd.concat([test, pd.DataFrame({"user": [0], "item": ["new"]})])
    split = HeldOut(read_interactions(train), read_interactions(newer))
    with pytest.raises(DataError, match="The item 'new' did not occur"):
        evaluate_recommender(model, split)
    found = evaluate_recommender(model, split, ["ndcg@5"], unknown="ignore")
    assert found.n_unknown == 1
    assert found.mean("ndcg@5") == pytest.approx(score(model, split.given, read_interactions(test)))
    with pytest.raises(ValueError, match="unknown='skip' must be 'error' or 'ignore'"):
        model.recommend(0, unknown="skip")


# -- titles ------------------------------------------------------------------------------------------------------------

TITLES = {"A": "Heat (1995)", "B": "Heat (1972)", "C": "Amélie (2001)", "D": "Usual Suspects, The (1995)", "?": "None"}


@pytest.mark.parametrize(
    "titles",
    [
        TITLES,
        pd.Series(TITLES),
        pd.DataFrame({"Item": TITLES.keys(), "title": TITLES.values()}),
        pl.DataFrame({"movieId": list(TITLES), "name": list(TITLES.values())}),
    ],
)
def test_titles_are_taken_wherever_items_are(two_kinds: Any, titles: Any) -> None:
    _, train, _ = two_kinds
    model = Recommender(**TINY).fit(train, titles=titles)
    assert model.titles_ == {name: title for name, title in TITLES.items() if name != "?"}
    plain = model.recommend(history=["C", "D"], n=12)
    assert model.recommend(history=["amelie", "The Usual Suspects"], n=12).items.tolist() == plain.items.tolist()
    assert plain.titles is not None
    assert plain.titles[plain.items.tolist().index("A")] == "Heat (1995)"
    assert plain.titles[plain.items.tolist().index("Z")] == "Z"
    assert plain.to_frame().columns.tolist() == ["item", "score", "title"]
    assert set(model.recommend(1, 12, filter=["Heat (1995)", "Z"]).items) <= {"A", "Z"}
    assert "C" not in model.recommend(1, 12, exclude=["Amélie (2001)"]).items
    assert model.predict([0], ["Heat (1972)"]) == model.predict([0], ["B"])
    assert model.similar_items("amelie").items.tolist() == model.similar_items("C").items.tolist()
    with pytest.raises(DataError, match=r"The title 'heat' matches 2 items \('A', 'B'\)"):
        model.recommend(history=["heat"])
    assert model.recommend(history=["heat (1995)"]).items.tolist() == model.recommend(history=["A"]).items.tolist()


def test_titles_of_other_items_are_refused_at_fit(two_kinds: Any) -> None:
    _, train, _ = two_kinds
    with pytest.raises(DataError, match=r"None of the 2 items in titles \('m1', 'm2'\) is in the log, whose items are"):
        Recommender(**TINY).fit(train, titles={"m1": "Heat", "m2": "Casino"})
    with pytest.raises(DataError, match="titles is a list, but a mapping from item to title"):
        Recommender(**TINY).fit(train, titles=["Heat"] * 12)
    with pytest.raises(DataError, match="no column for title, only 'item'"):
        Recommender(**TINY).fit(train, titles=pd.DataFrame({"item": ["A"]}))
    with pytest.raises(DataError, match="The item 'A' has the titles 'Heat' and 'Casino'"):
        Recommender(**TINY).fit(train, titles=pd.DataFrame({"item": ["A", "A"], "title": ["Heat", "Casino"]}))
    numbered = Recommender(**TINY).fit(BLOCKS, titles={"3": "Heat", 4: None, 5: float("nan")})
    assert numbered.titles_ == {3: "Heat"}
