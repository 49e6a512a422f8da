"""``isthmus detect``: find anomalies. Slow imports are inside the commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.parts import Address, Engine, PartsFlags, Resume
from isthmus.cli.table_options import Delimiter, Encoding, EscapeFormulas, Header, Keep, TextFlags

app = typer.Typer(help="Find anomalies in tables, images and signals, and explain them.", no_args_is_help=True)

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A .csv, .parquet or .feather file, which is read in chunks, or any other input of `isthmus fit`.",
    ),
]
DataOrParts = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="As for `isthmus detect fit`, or parts: a folder of .parquet files, or a pattern in quotes "
        "('table/*.parquet').",
    ),
]
Detector = Annotated[Path, typer.Argument(metavar="DETECTOR", help="A file written by `isthmus detect fit`.")]
Threshold = Annotated[
    str | None,
    typer.Option(metavar="SHARE|NAME", help="Fraction of anomalies in the training rows, such as 0.01, or `auto`."),
]
FalseAlarms = Annotated[
    float | None,
    typer.Option(metavar="X", help="Instead of a threshold: maximum false-positive rate, by calibration."),
]
Force = Annotated[bool, typer.Option("--force", "-f", metavar="", help="Replace files that exist.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="`auto`, `cpu`, `cuda` or `mps`.")]


@app.command()
def fit(
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Output file of the detector.")] = Path(
        "detector.safetensors"
    ),
    threshold: Threshold = None,
    false_alarm_rate: FalseAlarms = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="COLUMN=KIND",
            help="Override the kind of a column: numeric, binary, categorical, ordinal, datetime or ignore; values in "
            "order, such as `size=S,M,L`, for an ordinal; a date format such as `when=%d/%m/%Y`. May be repeated.",
        ),
    ] = None,
    assignments: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="Any parameter of the detector, such as `trim=0`."),
    ] = None,
    seed: Annotated[int | None, typer.Option(metavar="N", help="The same seed gives the same detector.")] = None,
    header: Header = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    device: Device = "auto",
    force: Force = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", metavar="", help="No progress bar.")] = False,
) -> None:
    """Fit a detector and save it.

    The training rows may contain anomalies. For example:

    `isthmus detect fit payments.csv --out payments.safetensors --kind account=ignore`

    `isthmus detect fit normal.parquet --false-alarm-rate 0.01`
    """
    from isthmus.cli.detect_work import Lesson, learn  # noqa: PLC0415

    text = TextFlags(header, encoding, delimiter)
    asked = {"random_state": seed, "device": device, "threshold": threshold}
    learn(Lesson(data, out, asked, false_alarm_rate, kinds or [], assignments or [], force, quiet, text))


@app.command()
def score(
    detector: Detector,
    data: DataOrParts,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Output file for all rows: .csv or .parquet; for DATA in parts, a folder; without it, print the "
            "anomalies.",
        ),
    ] = None,
    explain: Annotated[int, typer.Option(metavar="N", help="Number of columns per explanation.", min=0)] = 3,
    threshold: Threshold = None,
    false_alarm_rate: FalseAlarms = None,
    follow: Annotated[
        bool, typer.Option("--follow", metavar="", help="Continue with rows that are appended to the .csv file.")
    ] = False,
    idle: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="With --follow: stop after this time without new rows.", min=0),
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", metavar="", help="Exit with 3 if there are anomalies.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a report of the most anomalous rows.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print one line of JSON per anomaly.")] = False,
    escape_formulas: EscapeFormulas = False,
    keep: Keep = None,
    header: Header = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    force: Force = False,
    device: Device = "auto",
    engine: Engine = None,
    address: Address = None,
    resume: Resume = False,
) -> None:
    """Score rows, and explain the anomalies.

    The output has one row per row of DATA: its original cells (with `--keep` only the kept ones), `anomaly_score`
    (higher is more anomalous), `anomaly`, `p_value` if the detector is calibrated, and for anomalies `reason_1`, … .
    A folder of Parquet files is scored in parts: `--out` is a folder, with an output file for each. For example:

    `isthmus detect score payments.safetensors new.csv --out scored.parquet --explain 3`

    `isthmus detect score payments.safetensors new.csv --exit-code || mail -s alarm me@example.org`

    `isthmus detect score payments.safetensors log.csv --follow --json`

    `isthmus detect score payments.safetensors table/ --keep id --out scored/ --engine ray --resume`
    """
    from isthmus.cli.detect_work import Watch, watch  # noqa: PLC0415

    asked = Watch(
        detector=detector,
        data=data,
        out=out,
        explain=explain,
        threshold=threshold,
        false_alarm_rate=false_alarm_rate,
        follow=follow,
        idle=idle,
        report=report,
        as_json=as_json,
        force=force,
        device=device,
        text=TextFlags(header, encoding, delimiter),
        escape_formulas=escape_formulas,
        keep=tuple(keep or ()),
        parts=PartsFlags(engine, address, resume),
    )
    if watch(asked) and exit_code:
        raise typer.Exit(3)
