"""``isthmus serve``: a model as a web service."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from isthmus.cli.terminal import echo

Model = Annotated[Path, typer.Argument(metavar="MODEL", help="A model file, of an autoencoder, a detector, …")]
Megabytes = Annotated[float, typer.Option(metavar="MB", help="Largest body of a request.", min=0.001)]


def serve(
    model: Model,
    host: Annotated[
        str, typer.Option(metavar="NAME", help="Address to listen on; 0.0.0.0 is every one.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(metavar="N", help="Port to listen on; 0 takes a free one.", min=0, max=65535)
    ] = 8000,
    max_body: Megabytes = 16.0,
    max_rows: Annotated[int, typer.Option(metavar="N", help="Most rows of a request.", min=1)] = 100_000,
    seconds: Annotated[
        float, typer.Option(metavar="X", help="Time for a request to arrive, and for its answer.", min=0.001)
    ] = 30.0,
    max_waiting: Annotated[int, typer.Option(metavar="N", help="Most requests in flight.", min=1)] = 256,
    device: Annotated[str, typer.Option(metavar="NAME", help="`auto`, `cpu`, `cuda` or `mps`.")] = "auto",
) -> None:
    """Serve a model over HTTP, with JSON and Arrow; /docs lists what it can be asked.

    It listens on this machine only, unless told otherwise, and has no passwords. SIGTERM and Ctrl-C end it after the
    requests that were accepted. Needs `pip install 'isthmus[serve]'`. For example:

    `isthmus serve detector.safetensors --port 8080`

    `curl 127.0.0.1:8080/score --json '{"rows": [[0.5, 1.25, 3]]}'`
    """
    import isthmus  # noqa: PLC0415  # the command line starts without it

    limits = isthmus.serving.Limits(
        max_body=int(max_body * 1e6), max_rows=max_rows, seconds=seconds, max_waiting=max_waiting
    )

    def ready(address: str) -> None:
        echo(f"serving {model} at {address} (what it can be asked: {address}/docs); Ctrl-C ends it")

    answered = isthmus.serving.serve(model, host=host, port=port, limits=limits, device=device, ready=ready)
    echo(f"ended; requests answered: {answered:,}")
