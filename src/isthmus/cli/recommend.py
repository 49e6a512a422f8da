"""``isthmus recommend``: learn from a log of ratings, recommend, find similar items, measure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus.cli import show
from isthmus.cli.errors import WrongUsageError
from isthmus.cli.terminal import echo

app = typer.Typer(
    name="recommend", help="Recommend items: learn from a log, answer for people, find similar items, measure."
)

Log = Annotated[
    Path,
    typer.Argument(
        metavar="RATINGS",
        help="A .csv or .parquet file with the columns user, item[, rating][, time]; userId, movieId, timestamp and "
        "the like are understood.",
    ),
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A file written by `isthmus recommend fit`.")]
Items = Annotated[
    Path | None, typer.Option(metavar="FILE", help="A .csv or .parquet file with the columns item and title.")
]
Count = Annotated[int, typer.Option("--count", "-n", metavar="N", help="How many items.")]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")]
Ratings = Annotated[
    bool, typer.Option("--ratings", metavar="", help="Learn and predict ratings, not what people have.")
]
Epochs = Annotated[int | None, typer.Option(metavar="N", help="Epochs to train.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="The same seed gives the same model.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="No progress bar.")]
PositiveFrom = Annotated[
    float | None, typer.Option(metavar="X", help="Ratings from here count as liking; without it, from the median.")
]
TITLES = ("title", "name", "itemname", "item_name")


@app.command()
def fit(
    ratings: Log,
    items: Items = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the model goes.")] = Path("recommender.safetensors"),
    explicit: Ratings = False,
    positive_from: PositiveFrom = None,
    epochs: Epochs = None,
    seed: Seed = None,
    force: Annotated[bool, typer.Option("--force", "-f", metavar="", help="Replace a file that exists.")] = False,
    quiet: Quiet = False,
) -> None:
    """Learn from a log of who had what and save the recommender.

    Example: `isthmus recommend fit ratings.csv --items movies.csv --out r.safetensors`
    """
    import isthmus  # noqa: PLC0415

    if out.suffix != ".safetensors":
        raise WrongUsageError(f"--out '{out}' has the ending {out.suffix!r}; a model file ends in .safetensors.")
    isthmus.files.check_writable(out, overwrite=force)
    titles = read_titles(items) if items is not None else None
    model = make(explicit, positive_from, epochs, seed, quiet)
    model.fit(isthmus.read(ratings).X, titles=titles)
    model.set_params(verbose=0).save(out)
    facts = {
        "users": f"{len(model.users_):,}",
        "items": f"{len(model.items_):,}",
        "interactions": f"{model.log_.matrix.nnz:,}",
        **liking(model),
        "epochs": f"{len(model.history_)}",
        "training loss": f"{model.history_['loss'][-1]:.5f}",
        "saved": str(out),
    }
    show.print_facts(facts)


@app.command()
def similar(
    model: Model,
    title: Annotated[
        str, typer.Argument(metavar="TITLE", help="A title as you would type it, or the name of an item.")
    ],
    count: Count = 10,
    as_json: Json = False,
) -> None:
    """Say which items are most like one.

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
        str | None, typer.Option(metavar="TITLES", help="Instead, what somebody likes: titles with ; between them.")
    ] = None,
    count: Count = 10,
    as_json: Json = False,
) -> None:
    """Recommend items to a user of the log, or to anybody by what they have.

    Example: `isthmus recommend for r.safetensors --history "Heat;Casino"`
    """
    import isthmus  # noqa: PLC0415

    if (user is None) == (history is None):
        raise WrongUsageError("Give either --user or --history.")
    known = isthmus.load(model, device="cpu")
    told = "rating" if known.feedback == "explicit" else "share"
    if user is not None:
        name = as_name(user, known.users_)
        if name not in known.log_.user_numbers:
            raise isthmus.DataError(f"The user {user!r} was never seen; say what the user has instead, with --history.")
        tell(known, known.recommend(name, count), as_json, told, f"for user {user}")
        return
    had = [find(known, part.strip()) for part in str(history).split(";") if part.strip()]
    rated = dict.fromkeys(had, known.rating_range_[1])
    words = "for somebody who has " + ", ".join(titled(known, item) for item in had) if had else "for somebody unknown"
    tell(known, known.recommend(history=rated, n=count), as_json, told, words)


@app.command()
def evaluate(
    ratings: Log,
    protocol: Annotated[
        str, typer.Option(metavar="NAME", help="`users` (unseen users), `random` or `time`: what is held out.")
    ] = "users",
    explicit: Ratings = False,
    positive_from: PositiveFrom = None,
    epochs: Epochs = None,
    seed: Seed = 0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Hold out a fifth of the interactions (of a tenth of the users, or of all), train on the rest, and measure.

    Example: `isthmus recommend evaluate ratings.csv --protocol time`
    """
    import isthmus  # noqa: PLC0415

    log = isthmus.read_interactions(isthmus.read(ratings).X)
    known, split = hold_out(log, protocol, seed)
    model = make(explicit, positive_from, epochs, seed, quiet).fit(known)
    ranked = ("ndcg@100", "ndcg@10", "recall@20", "recall@50", "map@10", "hit-rate@10", "coverage@10", "novelty@10")
    found = isthmus.evaluate_recommender(model, split, (*ranked, "rmse") if explicit else ranked)
    if as_json:
        echo(json.dumps(found.to_dict(), indent=2))
    else:
        show.print_facts({name: f"{value:.4f}" for name, value in found.to_dict().items()})


PROTOCOLS = ("users", "random", "time")


def hold_out(log: Any, protocol: str, seed: int | None) -> tuple[Any, Any]:
    """What to learn from, and what is given and held out."""
    import isthmus  # noqa: PLC0415

    if protocol not in PROTOCOLS:
        raise WrongUsageError(f"--protocol {protocol!r} is none of {', '.join(PROTOCOLS)}.")
    if protocol == "users":
        tenth = max(1, len(log.users) // 10)
        split = isthmus.strong_generalization(log, n_validation=1, n_test=tenth, random_state=seed)
        return split.train, split.test
    held = isthmus.leave_out(log, random_state=seed) if protocol == "random" else isthmus.leave_latest(log)
    return held.given, held


def make(explicit: bool, positive_from: float | None, epochs: int | None, seed: int | None, quiet: bool) -> Any:
    """The recommender that the flags ask for."""
    import isthmus  # noqa: PLC0415

    return isthmus.Recommender(
        feedback="explicit" if explicit else "implicit",
        positive_from="auto" if positive_from is None else positive_from,
        max_epochs="auto" if epochs is None else epochs,
        random_state=seed,
        verbose=0 if quiet else 1,
    )


def liking(model: Any) -> dict[str, str]:
    """Which ratings count as liking, where there are ratings and that matters."""
    least = model.positive_from_
    return (
        {}
        if least is None
        else {"liked": f"{model.popularity_.sum() * len(model.users_):,.0f} (rated {least:g} or more)"}
    )


def read_titles(path: Path) -> dict[Any, str]:
    """The title of each item of a table."""
    import isthmus  # noqa: PLC0415

    frame = isthmus.read(path).X
    by_name = {str(name).casefold(): name for name in frame.columns}
    title = next((by_name[name] for name in TITLES if name in by_name), None)
    item = next((by_name[name] for name in isthmus.tasks.recommendation.COLUMNS["item"] if name in by_name), None)
    missing = [role for role, name in (("item", item), ("title", title)) if name is None]
    if missing:
        raise isthmus.DataError(
            f"The items of '{path}' have no column for {' and '.join(missing)}, only {', '.join(map(repr, by_name))}; "
            "rename the columns to item and title."
        )
    return {name: str(text) for name, text in zip(frame[item].tolist(), frame[title].tolist(), strict=True)}


def find(model: Any, text: str) -> Any:
    """The item of a title, or of its own name."""
    name = as_name(text, model.items_)
    return name if name in model.log_.item_numbers else model.find(text)


def as_name(text: str, names: Any) -> Any:
    """What was typed as the log has it: a number where names are numbers."""
    return int(text) if names.dtype.kind == "i" and text.lstrip("-").isdigit() else text


def titled(model: Any, item: Any) -> str:
    """The title of an item, or its name."""
    return str(model.titles_.get(item, item))


def tell(model: Any, answer: Any, as_json: bool, score: str, words: str) -> None:
    """Print items as a table, or as JSON."""
    rows = [{"item": item, "title": titled(model, item), score: value} for item, value in answer]
    if as_json:
        echo(json.dumps({"by_popularity": answer.by_popularity, "items": rows}, indent=2, default=str))
        return
    why = ": nothing is known, so this is what most others have" if answer.by_popularity else ""
    show.note(f"{len(rows)} items {words}{why}")
    show.print_rows(("", "title", score, "item"), _numbered(rows, score))


def _numbered(rows: Iterable[dict[str, Any]], score: str) -> Iterable[tuple[str, ...]]:
    for place, row in enumerate(rows, start=1):
        yield str(place), row["title"], f"{row[score]:.4f}", str(row["item"])
