"""Commands that use the codes of a model: sample, map, search, tune."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.errors import WrongUsageError

app = typer.Typer()

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
