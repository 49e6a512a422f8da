"""The commands. Slow imports are inside the commands, so that the help is fast."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from isthmus import __version__
from isthmus.cli import codes, compress, detect, errors, recommend, restore, serve, show
from isthmus.cli.parts import Address, Engine, PartsFlags, Resume
from isthmus.cli.settings import layered, make_estimator, parse_assignments, read_config, to_toml
from isthmus.cli.table_options import Delimiter, Encoding, EscapeFormulas, Header, Keep, TextFlags
from isthmus.cli.terminal import echo

OTHERWISE = {
    "train": "fit",
    "learn": "fit",
    "transform": "encode",
    "predict": "reconstruct",
    "decode": "reconstruct",
    "denoise": "restore",
    "inpaint": "restore",
    "colorize": "restore",
    "colourise": "restore",
    "evaluate": "score",
    "test": "score",
    "show": "info",
    "describe": "info",
    "summary": "info",
    "anomaly": "detect",
    "generate": "sample",
    "synthesize": "sample",
    "embed": "map",
    "similar": "search",
    "choose": "tune",
    "list": "kinds",
}
"""Command names of other tools, with their equivalents."""


class Commands(TyperGroup):
    """The commands; for a known name of another tool the error suggests the equivalent command."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command named by the first argument."""
        right = OTHERWISE.get(args[0].casefold()) if args else None
        if right is not None and self.get_command(ctx, args[0]) is None:
            ctx.fail(f"No such command '{args[0]}'; use '{right}'.")
        return super().resolve_command(ctx, args)


app = typer.Typer(
    name="isthmus",
    cls=Commands,
    help="Autoencoders for unlabelled data: train, inspect and use them.",
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(detect.app, name="detect")
app.add_typer(recommend.app)
app.add_typer(codes.app)
app.add_typer(restore.app, name="restore")
app.add_typer(compress.app)
app.command()(compress.decompress)
app.command()(serve.serve)

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A named data set (`isthmus datasets`), a .csv, .parquet, .feather, .npy, .npz or idx .gz file, or a "
        "folder of images.",
    ),
]
DataOrParts = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="As for `isthmus fit`, or parts: a folder of .parquet files, or a pattern in quotes ('table/*.parquet').",
    ),
]
Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file written by `isthmus fit`.")]
Target = Annotated[
    str | None,
    typer.Option(
        metavar="DATA",
        help="What each row is to become, such as clean images for damaged ones: rows in the same order, or a folder "
        "with the same names.",
    ),
]
Out = Annotated[Path, typer.Option(metavar="FILE", help="Output file: .csv, .parquet or .npy.")]
OutOrFolder = Annotated[
    Path,
    typer.Option(metavar="FILE", help="Output file: .csv, .parquet or .npy; for DATA in parts, a folder."),
]
Force = Annotated[bool, typer.Option("--force", "-f", metavar="", help="Replace files that exist.")]
SkipBad = Annotated[
    bool, typer.Option("--skip-bad", metavar="", help="Skip images that are unreadable or of another size.")
]
Device = Annotated[str, typer.Option(metavar="NAME", help="`auto`, `cpu`, `cuda` or `mps`.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="No progress bar.")]
Json = Annotated[bool, typer.Option("--json", metavar="", help="Print JSON.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        echo(f"isthmus {__version__}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[  # handled by its callback
        bool,
        typer.Option(
            "--version", metavar="", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
    debug: Annotated[  # handled by main(), and listed here for the help
        bool, typer.Option("--debug", metavar="", help="Show a traceback on errors; accepted at any position.")
    ] = False,
) -> None:
    """Autoencoders for unlabelled data: train, inspect and use them.

    First steps:

    `isthmus demo`

    `isthmus fit table.csv --code-size 8 --out table.safetensors --report`

    `isthmus encode table.safetensors table.csv --out codes.csv`
    """


@app.command()
def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Output folder of model, pictures and report.")] = Path(
        "demo"
    ),
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Number of epochs.", min=1)] = None,
    quiet: Quiet = False,
) -> None:
    """Train on 1,797 handwritten digits and show the results.

    Takes less than a minute and needs no download. Files of an earlier demo in the folder are replaced.

    Example: `isthmus demo --out demo`
    """
    from isthmus.cli.demo import run_demo  # noqa: PLC0415

    run_demo(out, epochs, verbose=not quiet)


@app.command()
def fit(
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Output file of the model.")] = Path("model.safetensors"),
    kind: Annotated[
        str | None, typer.Option(metavar="NAME", help="Kind of autoencoder; `isthmus kinds` lists them.")
    ] = None,
    code_size: Annotated[int | None, typer.Option(metavar="N", help="Number of latent dimensions.")] = None,
    epochs: Annotated[int | None, typer.Option(metavar="N", help="Number of epochs.")] = None,
    batch_size: Annotated[int | None, typer.Option(metavar="N", help="Rows per training step.")] = None,
    learning_rate: Annotated[float | None, typer.Option(metavar="X", help="Peak learning rate.")] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="The same seed gives the same model.")] = None,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="`auto`, `cpu`, `cuda` or `mps`.")] = None,
    target: Target = None,
    validation: Annotated[
        str | None, typer.Option(metavar="SHARE|DATA", help="Fraction of rows to hold out (0.1), or validation data.")
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="Any parameter, such as `corruption.fraction=0.3`; a list is `64,32` or `64,`. May be repeated.",
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings from a TOML file; `--dry-run` prints one.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Print the settings and stop.")] = False,
    report: Annotated[
        bool, typer.Option("--report", metavar="", help="Also write a report next to the model file.")
    ] = False,
    report_to: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write a report to this file.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a checkpoint to this file after every epoch.")
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="FILE", help="Resume from this checkpoint.")] = None,
    force: Force = False,
    skip_bad: SkipBad = False,
    quiet: Quiet = False,
    keep: Keep = None,
    header: Header = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
) -> None:
    """Train an autoencoder and save it.

    Flags override `--set`, and `--set` overrides `--config`. Ctrl-C stops the training and saves the best weights so
    far.

    For example:

    `isthmus fit digits --code-size 16 --out digits.safetensors --report`

    `isthmus fit mnist --kind denoising --set corruption=masking --set corruption.fraction=0.3`

    `isthmus fit table.csv --set network.hidden_sizes=64,32 --validation 0.1`

    `isthmus fit photos/ --skip-bad --dry-run > run.toml`, then `isthmus fit photos/ --skip-bad --config run.toml`
    """
    from isthmus.cli.fit_work import Job, train  # noqa: PLC0415

    flags = {
        "kind": kind,
        "code_size": code_size,
        "max_epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "random_state": seed,
        "device": device,
    }
    settings = layered(
        read_config(config) if config else {},
        parse_assignments(assignments or []),
        {name: value for name, value in flags.items() if value is not None},
    )
    named = str(settings.pop("kind", "autoencoder"))
    model = make_estimator(named, settings)
    if dry_run:
        echo(to_toml(named, model.describe()))
        return
    page = report_to or (out.with_suffix(".html") if report else None)
    text = TextFlags(header, encoding, delimiter)
    kept = tuple(keep or ())
    train(Job(data, model, out, validation, page, checkpoint, resume, force, skip_bad, quiet, kept, text, target))


@app.command()
def info(model: Model, as_json: Json = False) -> None:
    """Show the contents of a model file: kind, shapes, layers, settings, losses.

    Example: `isthmus info digits.safetensors`
    """
    import isthmus  # noqa: PLC0415

    fitted = isthmus.load(model, device="cpu")
    if as_json:
        echo(show.to_json(show.model_facts(fitted)))
    else:
        show.print_model(fitted, model)


@app.command()
def encode(
    model: Model,
    data: DataOrParts,
    out: OutOrFolder,
    force: Force = False,
    skip_bad: SkipBad = False,
    device: Device = "auto",
    keep: Keep = None,
    header: Header = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    escape_formulas: EscapeFormulas = False,
    engine: Engine = None,
    address: Address = None,
    resume: Resume = False,
) -> None:
    """Encode rows and write their codes.

    A folder of Parquet files is encoded in parts: `--out` is a folder, with an output file for each. For example:

    `isthmus encode digits.safetensors digits --out codes.parquet`

    `isthmus encode model.safetensors table/ --keep id --out codes/ --engine ray --resume`
    """
    from isthmus.cli.model_commands import Use, write_codes  # noqa: PLC0415

    text = TextFlags(header, encoding, delimiter)
    use = Use(model, data, out, force, skip_bad, device, tuple(keep or ()), text, escape_formulas)
    write_codes(use, PartsFlags(engine, address, resume))


@app.command()
def reconstruct(
    model: Model,
    data: Data,
    out: Out,
    force: Force = False,
    skip_bad: SkipBad = False,
    device: Device = "auto",
    keep: Keep = None,
    header: Header = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    escape_formulas: EscapeFormulas = False,
) -> None:
    """Reconstruct rows; a denoising model removes noise from them.

    Example: `isthmus reconstruct digits.safetensors digits --out restored.npy`
    """
    from isthmus.cli.model_commands import Use, write_verb  # noqa: PLC0415

    text = TextFlags(header, encoding, delimiter)
    write_verb("reconstruct", Use(model, data, out, force, skip_bad, device, tuple(keep or ()), text, escape_formulas))


@app.command()
def score(
    model: Model,
    data: DataOrParts,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Output file: .csv, .parquet or .npy; for DATA in parts, a folder; without it, print a summary.",
        ),
    ] = None,
    force: Force = False,
    skip_bad: SkipBad = False,
    device: Device = "auto",
    keep: Keep = None,
    header: Header = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    escape_formulas: EscapeFormulas = False,
    engine: Engine = None,
    address: Address = None,
    resume: Resume = False,
) -> None:
    """Score rows by their reconstruction (higher is better), with their squared errors.

    A folder of Parquet files is scored in parts: `--out` is a folder, with an output file for each. For example:

    `isthmus score digits.safetensors digits --out scores.csv`

    `isthmus score model.safetensors 'table/2026-*.parquet' --keep id --out scores/`
    """
    from isthmus.cli.model_commands import Reading, Use, print_scores, write_scores  # noqa: PLC0415

    parts, text = PartsFlags(engine, address, resume), TextFlags(header, encoding, delimiter)
    if out is None:
        parts.refuse_printing(data)
        print_scores(model, data, device, Reading(skip_bad, tuple(keep or ()), text))
    else:
        use = Use(model, data, out, force, skip_bad, device, tuple(keep or ()), text, escape_formulas)
        write_scores(use, parts)


@app.command()
def report(
    model: Model,
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Output file of the page.")] = Path("report.html"),
    target: Target = None,
    force: Force = False,
    skip_bad: SkipBad = False,
    keep: Keep = None,
    header: Header = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
) -> None:
    """Write a self-contained HTML report of a model on data, with plots and measures.

    Example: `isthmus report digits.safetensors digits --out report.html`
    """
    from isthmus.cli.model_commands import Use, write_page  # noqa: PLC0415

    text = TextFlags(header, encoding, delimiter)
    write_page(Use(model, data, out, force, skip_bad, "auto", tuple(keep or ()), text), target)


@app.command()
def export(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="A file written by `isthmus fit` or `isthmus detect fit`.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Output file of the graph: .onnx.")] = Path("model.onnx"),
    what: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Method of an autoencoder: `transform`, `reconstruct`, `inverse_transform` or `score_samples`.",
        ),
    ] = "auto",
    force: Force = False,
) -> None:
    """Export a model as an ONNX graph that includes scaling and threshold, to run it without Python.

    Example: `isthmus export detector.safetensors --out detector.onnx`
    """
    import isthmus  # noqa: PLC0415

    isthmus.export_onnx(isthmus.load(model, device="cpu"), out, what=what, overwrite=force)
    show.note(f"graph: {out}")


@app.command()
def diagnose(
    model: Model,
    data: Data,
    train: Annotated[str | None, typer.Option(metavar="DATA", help="The training rows, for comparison.")] = None,
    target: Target = None,
    as_json: Json = False,
    skip_bad: SkipBad = False,
    keep: Keep = None,
    header: Header = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
) -> None:
    """Diagnose a model: problems with their measures and remedies.

    Example: `isthmus diagnose digits.safetensors new-digits.csv --train digits.csv`
    """
    from isthmus.cli.model_commands import Reading, diagnosis_of  # noqa: PLC0415

    reading = Reading(skip_bad, tuple(keep or ()), TextFlags(header, encoding, delimiter))
    found = diagnosis_of(model, data, train, reading, target)
    echo(show.to_json(found.to_dict()) if as_json else str(found))


@app.command()
def datasets(as_json: Json = False) -> None:
    """List the named data sets with their shape, size, local path and licence.

    Example: `isthmus datasets`
    """
    import isthmus  # noqa: PLC0415

    found = isthmus.datasets.available()
    if as_json:
        echo(show.to_json([show.dataset_facts(info) for info in found]))
    else:
        show.print_datasets(found)


@app.command()
def kinds(as_json: Json = False) -> None:
    """List the kinds of autoencoders, and all settings of `--set`: choices, their members and parameters.

    Example: `isthmus kinds`
    """
    facts = show.kind_facts()
    if as_json:
        echo(show.to_json(facts))
    else:
        show.print_kinds(facts)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 for success, 2 for wrong usage, 1 for failure."""
    given = sys.argv[1:] if arguments is None else arguments
    words = [word for word in given if word != "--debug"]
    completing = "_ISTHMUS_COMPLETE" in os.environ
    words = words if words or completing else ["--help"]
    command: Any = typer.main.get_command(app)
    sys.exit(
        errors.run(
            lambda: _finish(command.main(words, prog_name="isthmus", standalone_mode=False)), debug="--debug" in given
        )
    )


def _finish(code: Any) -> None:
    """Convert the exit code of a command to an exit."""
    if isinstance(code, int) and code:
        raise typer.Exit(code)
