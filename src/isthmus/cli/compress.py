"""``isthmus compress`` and ``isthmus decompress``: images to fewer bytes and back."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli import show
from isthmus.cli.errors import WrongUsageError
from isthmus.cli.terminal import echo

app = typer.Typer(name="compress", help="Compress images: learn a codec, compress a folder, show what a file holds.")

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder of images of any sizes.")]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A file written by `isthmus compress fit`.")]
Stream = Annotated[Path, typer.Argument(metavar="FILE", help="A file written by `isthmus compress run`.")]
TargetOption = Annotated[
    str | None,
    typer.Option(metavar="TEXT", help="A rate such as '0.4 bpp' (bits per pixel), or a PSNR such as '32 dB'."),
]
Force = Annotated[bool, typer.Option("--force", "-f", metavar="", help="Replace files that exist.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", metavar="", help="Skip images that cannot be read.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="No progress bar.")]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")]


class Transform(StrEnum):
    """The transforms of `isthmus.ImageCodec`; typer before 0.19 takes no `Literal`."""

    WAVELET = "wavelet"
    DENSE = "dense"


@app.command()
def fit(
    folder: Folder,
    target: TargetOption = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Output file of the model.")] = Path("codec.safetensors"),
    transform: Annotated[
        Transform,
        typer.Option(help="'dense' is for thousands of small, alike images of one size; 'wavelet' for all others."),
    ] = Transform.WAVELET,
    steps: Annotated[
        int, typer.Option(metavar="N", min=1, help="Training steps in each of two rounds; more are better.")
    ] = 1500,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page with the rate–distortion curve.")
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="The same seed gives the same model.")] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Learn a codec from a folder of images, and save it.

    One codec serves all rates: the target can be changed for each file. For example:

    `isthmus compress fit photos/ --target "0.4 bpp" --out c.safetensors --report c.html`
    """
    import isthmus  # noqa: PLC0415

    if out.suffix != ".safetensors":
        raise WrongUsageError(f"--out '{out}' has the suffix {out.suffix!r}; a model file needs .safetensors.")
    for path in filter(None, (out, report)):
        isthmus.files.check_writable(path, overwrite=force)
    codec = isthmus.ImageCodec(
        target or "0.4 bpp", transform=transform.value, n_steps=steps, random_state=seed, verbose=0 if quiet else 1
    )
    codec.fit(folder).set_params(verbose=0)
    codec.save(out)
    facts = {
        "channels": str(codec.n_channels_),
        "bits per pixel": f"{codec.rate_:.4f}",
        "PSNR, dB": f"{codec.psnr_:.2f}",
        "model, bytes": f"{out.stat().st_size:,}",
        "saved": str(out),
    }
    if report is not None:
        isthmus.write_compression_report(codec, folder, report, title=f"Compression of {folder}")
        facts["report"] = str(report)
    show.print_facts(facts)


@app.command("run")
def run_(
    model: Model,
    folder: Folder,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Output file.")] = Path("images.isth"),
    target: TargetOption = None,
    skip_bad: SkipBad = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Compress the images of a folder to one file; each is decoded again and compared before the file is written.

    Example: `isthmus compress run c.safetensors photos/ --out photos.isth`
    """
    from isthmus.cli.compress_work import compress_folder  # noqa: PLC0415

    facts = compress_folder(model, folder, out, target, skip_bad=skip_bad, force=force, quiet=quiet)
    _print(facts, as_json=as_json)


@app.command()
def info(stream: Stream, as_json: Json = False) -> None:
    """Show what a compressed file holds, without its model.

    Example: `isthmus compress info photos.isth`
    """
    from isthmus.cli.compress_work import describe_stream  # noqa: PLC0415

    _print(describe_stream(stream), as_json=as_json)


def decompress(
    stream: Stream,
    model: Model,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Output folder; images are PNG files.")] = Path("images"),
    image: Annotated[
        str | None, typer.Option(metavar="NAME|N", help="Only this image: its name, or its place from 0.")
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Restore the images of a compressed file as PNG files, under their names.

    Example: `isthmus decompress photos.isth c.safetensors --out photos/`
    """
    from isthmus.cli.compress_work import restore_folder  # noqa: PLC0415

    _print(restore_folder(stream, model, out, image, force=force, quiet=quiet), as_json=False)


def _print(facts: dict[str, str | int | float], *, as_json: bool) -> None:
    if as_json:
        import json  # noqa: PLC0415

        echo(json.dumps(facts))
    else:
        show.print_facts({name: _written(value) for name, value in facts.items()})


def _written(value: str | float) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value
