"""``isthmus restore``: learn to undo a damage to images, and restore folders of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Restore images: remove noise, blur, stains; fill holes; colour; enlarge.", no_args_is_help=True)

Force = Annotated[bool, typer.Option("--force", "-f", metavar="", help="Replace files that exist.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="`auto`, `cpu`, `cuda` or `mps`.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="No progress bar.")]


@app.command()
def fit(
    folder: Annotated[
        Path | None,
        typer.Argument(metavar="FOLDER", help="Clean images, or with `--damage unknown` noisy ones; of any sizes."),
    ] = None,
    damage: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="The damage to undo: a corruption with its strength, such as `noise:0.1-0.5` (pixels lie in [0, 1]); "
            "several separated by +; `unknown` learns from noisy images alone.",
        ),
    ] = None,
    pairs: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="DAMAGED CLEAN", help="Instead of a damage: two folders of images of the same names."),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Output file of the restorer.")] = Path(
        "restorer.safetensors"
    ),
    steps: Annotated[int | None, typer.Option(metavar="N", help="Steps of training; more restore better.")] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any parameter of the restorer, such as `crop_size=96`."),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="The same seed gives the same restorer.")] = None,
    device: Device = "auto",
    force: Force = False,
    quiet: Quiet = False,
) -> None:
    """Fit a restorer and save it.

    For example:

    `isthmus restore fit photos/ --damage noise:0.05-0.2 --out denoiser.safetensors`

    `isthmus restore fit --pairs scanned/ clean/ --out scans.safetensors`

    `isthmus restore fit night-shots/ --damage unknown`
    """
    from isthmus.cli.restore_work import Lesson, learn  # noqa: PLC0415

    asked = {"max_steps": steps, "random_state": seed, "device": device}
    learn(Lesson(folder, pairs, damage, out, asked, assignments or [], force, quiet))


@app.command()
def run(
    restorer: Annotated[Path, typer.Argument(metavar="RESTORER", help="A file written by `isthmus restore fit`.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Damaged images.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Output folder.")] = Path("restored"),
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page with images before and after.")
    ] = None,
    clean: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Clean images of the same names, to show in the report.")
    ] = None,
    self_ensemble: Annotated[
        bool,
        typer.Option(
            "--self-ensemble",
            metavar="",
            help="Average over flips and rotations: better by about 0.1 to 0.2 dB, in up to eight times the time.",
        ),
    ] = False,
    device: Device = "auto",
    force: Force = False,
) -> None:
    """Restore every image of a folder into another folder.

    Names, sizes, formats and transparency stay; images are turned as their EXIF data say. Files that cannot be restored
    are listed at the end, and the exit code is then 1. For example:

    `isthmus restore run denoiser.safetensors noisy/ --out cleaned/ --report cleaned.html`
    """
    from isthmus.cli.restore_work import Errand, work  # noqa: PLC0415

    work(Errand(restorer, folder, out, report, clean, self_ensemble, device, force))
