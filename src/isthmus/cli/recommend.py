"""``isthmus recommend``: fit a recommender to a log, recommend, find similar items, evaluate."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isthmus.cli import show
from isthmus.cli.errors import WrongUsageError
from isthmus.cli.table_options import Delimiter, Encoding, Header, TextFlags
from isthmus.cli.terminal import echo

if TYPE_CHECKING:
    import isthmus

app = typer.Typer(name="recommend", help="Recommend items: fit to a log, recommend, find similar items, evaluate.")

Log = Annotated[
    Path,
    typer.Argument(
        metavar="RATINGS",
        help="A .csv or .parquet file with the columns user, item[, rating][, time]; names such as userId, movieId and "
        "timestamp are recognised.",
    ),
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A file written by `isthmus recommend fit`.")]
Items = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A .csv or .parquet file with the columns item and title.")
]
Count = Annotated[int, typer.Option("--count", "-n", metavar="N", help="Number of items.")]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")]
Ratings = Annotated[
    bool, typer.Option("--ratings", metavar="", help="Learn and predict ratings instead of interactions.")
]
Epochs = Annotated[int | None, typer.Option(metavar="N", help="Number of epochs.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="The same seed gives the same model.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="No progress bar.")]
PositiveFrom = Annotated[
    float | None,
    typer.Option(
        metavar="X", help="Lowest rating that counts as positive; default: the median for ratings, above 0 for counts."
    ),
]


@app.command()
def fit(
    ratings: Log,
    items: Items = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Output file of the model.")] = Path(
        "recommender.safetensors"
    ),
    explicit: Ratings = False,
    positive_from: PositiveFrom = None,
    epochs: Epochs = None,
    seed: Seed = None,
    force: Annotated[bool, typer.Option("--force", "-f", metavar="", help="Replace a file that exists.")] = False,
    quiet: Quiet = False,
    header: Header = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
) -> None:
    """Fit a recommender to a log of users and items, and save it.

    Example: `isthmus recommend fit ratings.csv --items movies.csv --out r.safetensors`
    """
    import isthmus  # noqa: PLC0415

    if out.suffix != ".safetensors":
        raise WrongUsageError(
            f"--out '{out}' has the suffix {out.suffix!r}; a model file needs the suffix .safetensors."
        )
    isthmus.files.check_writable(out, overwrite=force)
    text = TextFlags(header, encoding, delimiter)
    titles = None if items is None else isthmus.read(items, **text.known()).X
    model = make(explicit, positive_from, epochs, seed, quiet)
    model.fit(isthmus.read(ratings, **text.known()).X, titles=titles)
    model.set_params(verbose=0).save(out)
    facts = {
        "users": f"{len(model.users_):,}",
        "items": f"{len(model.items_):,}",
        "interactions": f"{model.log_.matrix.nnz:,}",
        **counting(model),
        **({"titles": f"{len(model.titles_):,} of {len(model.items_):,} items"} if model.titles_ else {}),
        "epochs": f"{len(model.history_)}",
        "training loss": f"{model.history_['loss'][-1]:.5f}",
        "saved": str(out),
    }
    show.print_facts(facts)


@app.command()
def similar(
    model: Model,
    title: Annotated[
        str, typer.Argument(metavar="TITLE", help="A title, in any spelling, or the identifier of an item.")
    ],
    count: Count = 10,
    as_json: Json = False,
) -> None:
    """List the items most similar to an item.

    Example: `isthmus recommend similar r.safetensors "Liar Liar"`
    """
    import isthmus  # noqa: PLC0415

    known = isthmus.load(model, device="cpu")
    item = find(known, title)
    tell(known, known.similar_items(item, count), as_json, "cosine", f"like {titled(known, item)}")


@app.command("for")
def for_(
    model: Model,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="A user of the log.")] = None,
    history: Annotated[
        str | None, typer.Option(metavar="TITLES", help="Instead of a user: titles that the user likes, separated by ;")
    ] = None,
    exclude: Annotated[str | None, typer.Option(metavar="TITLES", help="Titles to exclude, separated by ;")] = None,
    count: Count = 10,
    as_json: Json = False,
) -> None:
    """Recommend items to a user of the log, or for a given history.

    Example: `isthmus recommend for r.safetensors --history "Heat;Casino"`
    """
    import isthmus  # noqa: PLC0415

    if (user is None) == (history is None):
        raise WrongUsageError("Exactly one of --user and --history is needed; pass one of them.")
    known = isthmus.load(model, device="cpu")
    told = "rating" if known.feedback_ == "explicit" else "score"
    unwanted = find_all(known, exclude)
    if user is not None:
        row = known.log_.user_index.find(user)
        if row is None:
            raise isthmus.DataError(f"The user {user!r} is not in the log; pass a history instead, with --history.")
        answer = known.recommend(known.users_.tolist()[row], count, exclude=unwanted)
        tell(known, answer, as_json, told, f"for user {user}")
        return
    had = find_all(known, history)
    given: Any = dict.fromkeys(had, known.rating_range_[1]) if known.feedback_ == "explicit" else had
    words = "for somebody who has " + ", ".join(titled(known, item) for item in had) if had else "for somebody unknown"
    tell(known, known.recommend(history=given, n=count, exclude=unwanted), as_json, told, words)


@app.command()
def evaluate(
    ratings: Log,
    protocol: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What is held out: interactions of unseen `users`, `random` interactions, each user's latest by "
            "`time`, all `after` a point in time, or `one` per user.",
        ),
    ] = "users",
    explicit: Ratings = False,
    positive_from: PositiveFrom = None,
    epochs: Epochs = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
    header: Header = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
) -> None:
    """Hold out a fifth of the interactions (of a tenth of the users, or of all), train on the rest, and evaluate.

    Example: `isthmus recommend evaluate ratings.csv --protocol time`
    """
    import isthmus  # noqa: PLC0415

    text = TextFlags(header, encoding, delimiter)
    log = isthmus.read_interactions(isthmus.read(ratings, **text.known()).X)
    known, split = hold_out(log, protocol, seed)
    if not split.held.matrix.nnz:
        told = (
            f"Nothing is held out by --protocol {protocol}: none of {len(log.users):,} users has two interactions that "
            "can be split; give a log with more of them, or another protocol."
        )
        if as_json:
            echo(show.to_json({"error": told}))
        raise isthmus.DataError(told)
    model = make(explicit, positive_from, epochs, seed, quiet).fit(known)
    ranked = ("ndcg@100", "ndcg@10", "recall@20", "recall@50", "map@10", "hit-rate@10", "coverage@10", "novelty@10")
    found = isthmus.evaluate_recommender(model, split, (*ranked, "rmse") if explicit else ranked)
    if as_json:
        echo(show.to_json(found.to_dict()))
    else:
        show.print_facts({name: f"{value:.4f}" for name, value in found.to_dict().items()})


PROTOCOLS = ("users", "random", "time", "after", "one")


def hold_out(
    log: isthmus.Interactions, protocol: str, seed: int | None
) -> tuple[isthmus.Interactions, isthmus.HeldOut]:
    """The training log, and the split into given and held-out interactions."""
    import isthmus  # noqa: PLC0415

    if protocol not in PROTOCOLS:
        raise WrongUsageError(f"--protocol {protocol!r} is unknown; use one of {', '.join(PROTOCOLS)}.")
    if protocol == "users":
        tenth = max(1, len(log.users) // 10)
        split = isthmus.strong_generalization(log, n_validation=1, n_test=tenth, random_state=seed)
        return split.train, split.test
    draws = {
        "random": lambda: isthmus.leave_out(log, random_state=seed),
        "time": lambda: isthmus.leave_latest(log, random_state=seed),
        "after": lambda: isthmus.leave_after(log),
        "one": lambda: isthmus.leave_k_out(log, 1, random_state=seed),
    }
    held = draws[protocol]()
    return held.given, held


def make(
    explicit: bool, positive_from: float | None, epochs: int | None, seed: int | None, quiet: bool
) -> isthmus.Recommender:
    """The recommender with the settings of the flags."""
    import isthmus  # noqa: PLC0415

    return isthmus.Recommender(
        feedback="explicit" if explicit else "implicit",
        positive_from="auto" if positive_from is None else positive_from,
        max_epochs="auto" if epochs is None else epochs,
        random_state=seed,
        verbose=0 if quiet else 1,
    )


def counting(model: isthmus.Recommender) -> dict[str, str]:
    """The interpretation of values and the number of positive interactions; empty if all values are ones."""
    facts = model.summary()
    if facts.get("values are", "ones") == "ones":
        return {}
    words = f"{facts['interactions that count']:,} of {facts['interactions']:,}"
    return {"liked": f"{words} ({facts['values are']}: {facts['counts as having']})"}


def find(model: isthmus.Recommender, text: str) -> Any:
    """The item with this identifier or title."""
    place = model.log_.item_index.find(text)
    return model.find(text) if place is None else model.items_.tolist()[place]


def find_all(model: isthmus.Recommender, titles: str | None) -> list[Any]:
    """The items of titles separated by ;"""
    return [find(model, part.strip()) for part in (titles or "").split(";") if part.strip()]


def titled(model: isthmus.Recommender, item: Any) -> str:
    """The title of an item, or its identifier."""
    return str(model.titles_.get(item, item))


def tell(model: isthmus.Recommender, answer: isthmus.Recommendations, as_json: bool, score: str, words: str) -> None:
    """Print items as a table, or as JSON."""
    rows = [{"item": item, "title": titled(model, item), score: value} for item, value in answer]
    if as_json:
        echo(show.to_json({"by_popularity": answer.by_popularity, "items": rows}))
        return
    why = ": no known history, so these are the most popular items" if answer.by_popularity else ""
    show.note(f"{len(rows)} items {words}{why}")
    show.print_rows(("", "title", score, "item"), _numbered(rows, score))


def _numbered(rows: Iterable[dict[str, Any]], score: str) -> Iterable[tuple[str, ...]]:
    for place, row in enumerate(rows, start=1):
        yield str(place), row["title"], f"{row[score]:.4f}", str(row["item"])
