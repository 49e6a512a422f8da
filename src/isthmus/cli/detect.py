"""``isthmus detect``: find odd rows. Nothing heavy is imported before a command runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.table_options import Delimiter, Encoding, EscapeFormulas, Header, TextFlags

app = typer.Typer(help="Find odd rows in tables, images and signals, and say why they are odd.", no_args_is_help=True)

Data = Annotated[
    str,
    typer.Argument(
        metavar="DATA",
        help="A .csv, .parquet or .feather file, which is read in pieces, or whatever else `isthmus fit` takes.",
    ),
]
Detector = Annotated[Path, typer.Argument(metavar="DETECTOR", help="A file written by `isthmus detect fit`.")]
Threshold = Annotated[
    str | None,
    typer.Option(metavar="SHARE|NAME", help="Share of odd rows among those learned from, such as 0.01, or `auto`."),
]
FalseAlarms = Annotated[
    float | None,
    typer.Option(metavar="X", help="Instead: alarm for at most so large a share of normal rows, as calibrated."),
]
Force = Annotated[bool, typer.Option("--force", "-f", metavar="", help="Replace files that exist.")]
Device = Annotated[str, typer.Option(metavar="NAME", help="`auto`, `cpu`, `cuda` or `mps`.")]


@app.command()
def fit(
    data: Data,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where the detector goes.")] = Path("detector.safetensors"),
    threshold: Threshold = None,
    false_alarm_rate: FalseAlarms = None,
    kinds: Annotated[
        list[str] | None,
        typer.Option(
            "--kind",
            metavar="COLUMN=KIND",
            help="numeric, binary, categorical, ordinal, datetime or ignore, where the data mislead; values in order, "
            "such as `size=S,M,L`, make an ordinal; `when=%d/%m/%Y` is a form of dates. May be "
            "repeated.",
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
    """Learn what is normal, and save the detector.

    The rows may contain odd ones. For example:

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
    data: Data,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A .csv or .parquet file for all rows; without it odd rows are printed."),
    ] = None,
    explain: Annotated[int, typer.Option(metavar="N", help="Columns to name as reasons.", min=0)] = 3,
    threshold: Threshold = None,
    false_alarm_rate: FalseAlarms = None,
    follow: Annotated[
        bool, typer.Option("--follow", metavar="", help="Go on with the rows that are written to a .csv file's end.")
    ] = False,
    idle: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="With --follow: stop when nothing came for so long.", min=0)
    ] = None,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", metavar="", help="Exit with 3 when there are odd rows.")
    ] = False,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write a page with the oddest rows and their reasons.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", metavar="", help="Print a line of JSON for each odd row.")] = False,
    escape_formulas: EscapeFormulas = False,
    header: Header = None,
    encoding: Encoding = None,
    delimiter: Delimiter = None,
    force: Force = False,
    device: Device = "auto",
) -> None:
    """Score rows, and say which are odd and why.

    The file has a row for each row of DATA: its cells as they are there, `anomaly_score` (higher is odder), `anomaly`,
    `p_value` where the detector was calibrated, and for odd rows `reason_1`, … . For example:

    `isthmus detect score payments.safetensors new.csv --out scored.parquet --explain 3`

    `isthmus detect score payments.safetensors new.csv --exit-code || mail -s alarm me@example.org`

    `isthmus detect score payments.safetensors log.csv --follow --json`
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
    )
    if watch(asked) and exit_code:
        raise typer.Exit(3)
