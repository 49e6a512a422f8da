"""Commands that use the codes of a model: sample, map, search, tune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.errors import WrongUsageError
from isthmus.cli.table_options import Delimiter, Encoding, Header, TextFlags

app = typer.Typer()

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
