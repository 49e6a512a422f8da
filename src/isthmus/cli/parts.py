"""Flags and the work of commands on a folder of Parquet files: one output file for each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from isthmus.cli.errors import WrongUsageError, refuse

Engine = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Who works on DATA in parts: `none` (default: this process), `ray` or `dask`, which are installed as "
        "extras.",
    ),
]
Address = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="A running cluster of the engine; default: workers on this machine."),
]
Resume = Annotated[
    bool, typer.Option("--resume", metavar="", help="DATA in parts: skip output files that are complete.")
]


@dataclass(frozen=True)
class PartsFlags:
    """How parts are worked on, as given by flags."""

    engine: str | None = None
    address: str | None = None
    resume: bool = False

    def found_in(self, data: str) -> bool:
        """Whether DATA are parts; flags that need parts are refused for other data."""
        import isthmus  # noqa: PLC0415  # the command line starts without it

        several = data not in isthmus.datasets.names() and isthmus.tasks.names_parts(data)
        if several or self == PartsFlags() or Path(data).is_dir():
            return several or self != PartsFlags()
        raise WrongUsageError(
            f"--engine, --address and --resume need DATA in parts, but '{data}' is one; give a folder of .parquet "
            "files, or a pattern in quotes such as 'table/*.parquet'."
        )

    def refuse_printing(self, data: str) -> None:
        """Refuse parts where there is no output folder."""
        if self.found_in(data):
            raise WrongUsageError(f"'{data}' is in parts, which need a folder for their outputs; use --out FOLDER.")


def refuse_for_parts(flags: Iterable[tuple[str, Any]]) -> None:
    """Refuse flags that have no effect on parts."""
    refuse(
        f"{name} does not work with DATA in parts, which are .parquet files with an output file each; remove it."
        for name, value in flags
        if value not in (None, False, ())
    )


def run_parts(function: Any, data: str, out: Path, flags: PartsFlags, *, overwrite: bool) -> Any:
    """Write the answers for all parts, and return what was done."""
    import isthmus  # noqa: PLC0415  # the command line starts without it
    from isthmus.cli import show  # noqa: PLC0415

    with show.progress("parts") as move:
        return isthmus.map_parts(
            function,
            data,
            out,
            engine=flags.engine or "none",
            address=flags.address,
            resume=flags.resume,
            overwrite=overwrite,
            progress=move,
        )


def told(done: Any, out: Path) -> str:
    """What was done, in words."""
    skipped = f", {done.n_skipped:,} of them complete before" if done.n_skipped else ""
    return f"{len(done.files):,} parts{skipped}: {out}"
