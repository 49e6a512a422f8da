"""Commands that use the codes of a model: sample, map, search, tune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.errors import WrongUsageError
from isthmus.cli.table_options import Delimiter, Encoding, Header, TextFlags

app = typer.Typer()
search = typer.Typer(name="search", help="Find the images or rows most like an example: build an index, query it.")
app.add_typer(search)

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file written by `isthmus fit`.")]
Data = Annotated[str, typer.Argument(metavar="DATA", help="A data set, a file, or a folder of images, as for `fit`.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", metavar="", help="Skip images that are unreadable or of another size.")
]
Force = Annotated[bool, typer.Option("--force", "-f", metavar="", help="Replace a file that exists.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="The same seed gives the same result.")]


@app.command()
def sample(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A model file of an autoencoder, or of a `TableSampler`.")
    ],
    out: Annotated[
        Path, typer.Option(metavar="FILE", help="Output file: .png for images, or .csv, .parquet or .npy for rows.")
    ],
    n: Annotated[int, typer.Option("--n", "-n", metavar="N", help="Number of rows.")] = 64,
    label: Annotated[
        str | None, typer.Option(metavar="LABEL", help="Only rows of this label, of a model that knows labels.")
    ] = None,
    seed: Seed = None,
    force: Force = False,
) -> None:
    """Generate rows from a model and write them as a picture or a table.

    Example: `isthmus sample digits.safetensors --n 64 --out grid.png`
    """
    from isthmus.cli.codes_work import write_samples  # noqa: PLC0415

    if n < 1:
        raise WrongUsageError(f"--n {n} must be at least 1.")
    write_samples(model, out, n, label, seed, overwrite=force)


@app.command("map")
def draw_map(
    model: Model,
    data: Data,
    out: Annotated[
        Path,
        typer.Option(metavar="FILE", help="Output file: .html (a page), .png (a picture), .parquet or .csv (points)."),
    ] = Path("map.html"),
    labels: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="A column that is not a feature, which colours the points.")
    ] = None,
    method: Annotated[str, typer.Option(metavar="NAME", help="`auto`, `code`, `pca`, `opentsne` or `umap`.")] = "auto",
    seed: Seed = None,
    force: Force = False,
    skip_bad: SkipBad = False,
    header: Header = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
) -> None:
    """Map the codes of rows to the plane: a page with points, thumbnails and figures.

    Example: `isthmus map digits.safetensors digits --out map.html`
    """
    from isthmus.cli.codes_work import MapJob, write_code_map  # noqa: PLC0415

    text = TextFlags(header, encoding, delimiter)
    write_code_map(MapJob(model, data, out, labels, method, 0 if seed is None else seed, force, skip_bad, text))


Index = Annotated[Path, typer.Argument(metavar="INDEX", help="A file written by `isthmus search build`.")]


@search.command("build")
def build_index(
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Output file of the index.")] = Path("index.isthmus"),
    model: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="A fitted model; without it, one is trained on the data.")
    ] = None,
    metric: Annotated[str, typer.Option(metavar="NAME", help="`euclidean` or `cosine`.")] = "euclidean",
    seed: Seed = None,
    force: Force = False,
    skip_bad: SkipBad = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="No progress bar.")] = False,
) -> None:
    """Build a search index of images or rows.

    Example: `isthmus search build photos/ --out photos.isthmus`
    """
    from isthmus.cli.codes_work import write_index  # noqa: PLC0415

    write_index(data, out, model, metric, seed, overwrite=force, skip_bad=skip_bad, quiet=quiet)


@search.command("query")
def query_index(
    index: Index,
    example: Annotated[
        str, typer.Argument(metavar="EXAMPLE", help="An image, or a data set, a file or a folder of examples.")
    ],
    n: Annotated[int, typer.Option("--n", "-n", metavar="N", help="Number of results for each example.")] = 10,
    html: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a page with thumbnails.")] = None,
    resize: Annotated[bool, typer.Option("--resize", metavar="", help="Resize an image of another size.")] = False,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")] = False,
) -> None:
    """Find the rows of an index most like an example, the nearest first.

    Example: `isthmus search query photos.isthmus photo.png --n 10 --html found.html`
    """
    from isthmus.cli.codes_work import print_matches  # noqa: PLC0415

    if n < 1:
        raise WrongUsageError(f"--n {n} must be at least 1.")
    print_matches(index, example, n, html, overwrite=force, resize=resize, as_json=as_json)


@search.command("duplicates")
def find_duplicates(
    index: Index,
    share: Annotated[
        float, typer.Option(metavar="X", help="Largest distance, as a share of the typical one of neighbours.")
    ] = 0.1,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")] = False,
) -> None:
    """List groups of rows that are nearly alike.

    Example: `isthmus search duplicates photos.isthmus`
    """
    from isthmus.cli.codes_work import print_duplicates  # noqa: PLC0415

    print_duplicates(index, share, as_json=as_json)


@app.command()
def tune(
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Output file of the best model.")] = Path(
        "tuned.safetensors"
    ),
    budget: Annotated[str, typer.Option(metavar="TIME", help="Time for the search, such as `10 min`.")] = "10 min",
    trials: Annotated[
        int | None, typer.Option(metavar="N", help="Largest number of trials; 0 only chooses the code size.")
    ] = None,
    report_to: Annotated[
        Path | None, typer.Option("--report-to", metavar="FILE", help="Also write a page with curve and trials.")
    ] = None,
    folder: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Stores finished trials, to continue an interrupted search.")
    ] = None,
    seed: Seed = None,
    force: Force = False,
    skip_bad: SkipBad = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="No progress bar.")] = False,
) -> None:
    """Choose code size and settings of a model in a given time, and save the best model.

    Example: `isthmus tune table.csv --budget "10 min" --out tuned.safetensors --report-to tuned.html`
    """
    from isthmus.cli.codes_work import TuneJob, write_tuned  # noqa: PLC0415

    write_tuned(
        TuneJob(data, out, budget, trials, report_to, folder, 0 if seed is None else seed, force, skip_bad, quiet)
    )


@app.command()
def features(
    model: Model,
    data: Data,
    labels: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="The column of classes; a named data set has its own.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Output file: .csv or .parquet; without it, print the table.")
    ] = None,
    seed: Seed = None,
    force: Force = False,
    skip_bad: SkipBad = False,
    header: Header = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
) -> None:
    """Compare codes with the raw features and PCA under four classifiers, with 100, 1,000 and all labels.

    Example: `isthmus features digits.safetensors digits`
    """
    from isthmus.cli.codes_work import print_features  # noqa: PLC0415

    text = TextFlags(header, encoding, delimiter)
    print_features(model, data, labels, out, 0 if seed is None else seed, text, overwrite=force, skip_bad=skip_bad)
