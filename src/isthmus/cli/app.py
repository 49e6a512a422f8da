"""The commands. Nothing heavy is imported before a command runs, so that help comes at once."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus import __version__
from isthmus.cli import errors, show
from isthmus.cli.settings import Settings, make_estimator, parse_assignments, read_config, to_toml

app = typer.Typer(
    name="isthmus",
    help="Autoencoders for data without labels: train one, look at it, use it.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A named set (`isthmus datasets`), a .csv, .parquet, .npy, .npz or idx .gz file, or a folder of images.",
    ),
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file written by `isthmus fit`.")]
Force = Annotated[bool, typer.Option("--force", "-f", help="Replace files that exist.")]
SkipBad = Annotated[bool, typer.Option("--skip-bad", help="Leave out images that are unreadable or of another size.")]
Device = Annotated[str, typer.Option(help="`auto`, `cpu`, `cuda` or `mps`.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def top(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback when something fails.")] = False,  # noqa: ARG001
) -> None:
    """Autoencoders for data without labels: train one, look at it, use it."""
    if version:
        typer.echo(f"isthmus {__version__}")
        raise typer.Exit


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the model, the pictures and the report.")] = Path("demo"),
    epochs: Annotated[int | None, typer.Option(help="Epochs to train.", min=1)] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Train on 1,797 real handwritten digits and show what was learned.

    Example: `isthmus demo --out demo`
    """
    from isthmus.cli.demo import run_demo  # noqa: PLC0415

    run_demo(out, epochs, verbose=not quiet)


@app.command()
def fit(
    data: Data,
    out: Annotated[Path, typer.Option(help="Where the model goes.")] = Path("model.safetensors"),
    kind: Annotated[str | None, typer.Option(help="Kind of autoencoder; `isthmus kinds` lists them.")] = None,
    code_size: Annotated[int | None, typer.Option(help="Numbers in a code.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Epochs to train.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Rows a step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Peak of the learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed; the same seed gives the same model.")] = None,
    device: Annotated[str | None, typer.Option(help="`auto`, `cpu`, `cuda` or `mps`.")] = None,
    validation: Annotated[
        str | None, typer.Option(help="Share of rows to hold out (0.1), or DATA to measure on.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any parameter, such as `corruption.fraction=0.3`."),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings from a TOML file; `--dry-run` prints one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the settings and stop.")] = False,
    report: Annotated[bool, typer.Option("--report", help="Also write a report page beside the model.")] = False,
    checkpoint: Annotated[Path | None, typer.Option(help="Write the run here after every epoch.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on from this checkpoint.")] = None,
    force: Force = False,
    skip_bad: SkipBad = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar.")] = False,
) -> None:
    """Train an autoencoder and save it.

    Flags win over `--set`, and `--set` wins over `--config`.

    Examples
    --------
    `isthmus fit digits --code-size 16 --out digits.safetensors --report`

    `isthmus fit mnist --kind denoising --set corruption=masking --set corruption.fraction=0.3`

    `isthmus fit table.csv --set network.hidden_sizes=64,32 --validation 0.1`
    """
    from isthmus.cli.train import Job, train  # noqa: PLC0415

    settings: Settings = (read_config(config) if config else {}) | parse_assignments(assignments or [])
    flags = {
        "code_size": code_size,
        "max_epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "random_state": seed,
        "device": device,
    }
    settings |= {name: value for name, value in flags.items() if value is not None}
    named = kind or settings.pop("kind", "autoencoder")
    settings.pop("kind", None)
    model = make_estimator(named, settings)
    if dry_run:
        typer.echo(to_toml(named, model.describe()))
        return
    train(Job(data, model, out, validation, report, checkpoint, resume, force, skip_bad, quiet))


@app.command()
def info(model: Model, as_json: Json = False) -> None:
    """Say what a model file holds: kind, shapes, layers, settings, losses.

    Example: `isthmus info digits.safetensors`
    """
    import isthmus  # noqa: PLC0415

    fitted = isthmus.load(model, device="cpu")
    if as_json:
        typer.echo(json.dumps(show.model_facts(fitted), indent=2))
    else:
        show.print_model(fitted, model)


@app.command()
def encode(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(help="A .csv, .parquet or .npy file.")],
    force: Force = False,
    skip_bad: SkipBad = False,
    device: Device = "auto",
) -> None:
    """Write the codes of rows.

    Example: `isthmus encode digits.safetensors digits --out codes.parquet`
    """
    from isthmus.cli.apply import Use, write_verb  # noqa: PLC0415

    write_verb("transform", Use(model, data, out, force, skip_bad, device))


@app.command()
def reconstruct(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(help="A .csv, .parquet or .npy file.")],
    force: Force = False,
    skip_bad: SkipBad = False,
    device: Device = "auto",
) -> None:
    """Write rows as the model restores them; a denoising model cleans them.

    Example: `isthmus reconstruct digits.safetensors digits --out restored.npy`
    """
    from isthmus.cli.apply import Use, write_verb  # noqa: PLC0415

    write_verb("reconstruct", Use(model, data, out, force, skip_bad, device))


@app.command()
def score(
    model: Model,
    data: Data,
    out: Annotated[
        Path | None, typer.Option(help="A .csv, .parquet or .npy file; without it a summary is printed.")
    ] = None,
    force: Force = False,
    skip_bad: SkipBad = False,
    device: Device = "auto",
) -> None:
    """Score rows by how well the model restores them (higher is better), and by squared error.

    Example: `isthmus score digits.safetensors digits --out scores.csv`
    """
    from isthmus.cli.apply import Use, print_scores, write_scores  # noqa: PLC0415

    if out is None:
        print_scores(model, data, skip_bad, device)
    else:
        write_scores(Use(model, data, out, force, skip_bad, device))


@app.command()
def report(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(help="The page.")] = Path("report.html"),
    force: Force = False,
    skip_bad: SkipBad = False,
) -> None:
    """Write a self-contained page: pictures and figures of a model on data.

    Example: `isthmus report digits.safetensors digits --out report.html`
    """
    from isthmus.cli.apply import write_page  # noqa: PLC0415

    write_page(model, data, out, force=force, skip_bad=skip_bad)


@app.command()
def datasets(as_json: Json = False) -> None:
    """List the named data sets: what there is, where it is on this machine, its size and licence."""
    import isthmus  # noqa: PLC0415

    found = isthmus.datasets.available()
    if as_json:
        typer.echo(json.dumps([show.dataset_facts(info) for info in found], indent=2))
    else:
        show.print_datasets(found)


@app.command()
def kinds() -> None:
    """List the kinds of autoencoder, and every choice with its members and their parameters."""
    show.print_kinds()


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 when all went well, 2 for wrong usage, 1 for failure."""
    words = sys.argv[1:] if arguments is None else arguments
    command: Any = typer.main.get_command(app)
    debug = "--debug" in words
    sys.exit(errors.run(lambda: _finish(command.main(words, prog_name="isthmus", standalone_mode=False)), debug=debug))


def _finish(code: Any) -> None:
    """Turn the exit code that a command gave into an exit."""
    if isinstance(code, int) and code:
        raise typer.Exit(code)
