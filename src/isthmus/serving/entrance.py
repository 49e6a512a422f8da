"""The entrances to serving: the application of a model, and a server that runs it. Both need the extra ``serve``."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from isthmus.estimators import load
from isthmus.serving.limits import Limits

NEEDED = ("fastapi", "uvicorn", "prometheus_client")


def app(model: Any, *, limits: Limits | None = None, device: str = "auto") -> Any:
    """The ASGI application that serves a model, for any ASGI server, or to be mounted in another application.

    Parameters
    ----------
    model
        A fitted model, or the path of a model file.
    limits
        What is accepted; None: the defaults of `Limits`.
    device
        Where a model file is loaded: ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.

    Returns
    -------
    fastapi.FastAPI
        With a path for each thing that the model can be asked: ``/score``, ``/encode``, …

    Raises
    ------
    ImportError
        The extra is not installed: ``pip install 'isthmus[serve]'``.
    ModelFileError
        The file is missing or damaged.
    TypeError
        Models of this kind cannot be served.

    Examples
    --------
    >>> import isthmus, numpy
    >>> model = isthmus.Autoencoder(2, max_epochs=1, random_state=0).fit(numpy.random.default_rng(0).random((20, 3)))
    >>> sorted(route.path for route in isthmus.serving.app(model).routes)[:4]
    ['/', '/docs', '/encode', '/health']
    """
    check_installed()
    from isthmus.serving.application import build  # noqa: PLC0415  # optional

    fitted = load(model, device=device) if isinstance(model, str | Path) else model
    return build(fitted, limits or Limits())


def serve(
    model: Any,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits | None = None,
    device: str = "auto",
    ready: Callable[[str], None] | None = None,
) -> int:
    """Serve a model until SIGTERM or Ctrl-C; requests that were accepted before are answered.

    Parameters
    ----------
    model, limits, device
        As for `app`.
    host, port
        Where to listen. Port 0 takes any that is free.
    ready
        Called with the address, such as ``"http://127.0.0.1:8000"``, when connections are accepted.

    Returns
    -------
    int
        How many requests to the model were answered, refusals included.

    Raises
    ------
    OSError
        The port is in use, or the host is not one of this machine.
    ImportError, ModelFileError, TypeError
        As for `app`.
    """
    check_installed()
    from isthmus.serving.server import listening, run  # noqa: PLC0415  # optional

    with listening(host, port) as socket:  # before the model is loaded, which may take long
        made = app(model, limits=limits, device=device)
        run(made, socket, limits or Limits(), ready)
    answered: int = made.state.isthmus.answered
    return answered


def check_installed() -> None:
    """Raise an error that names the extra if something is missing."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"Serving needs {', '.join(missing)}, which is not installed; install it with: "
            "pip install 'isthmus[serve]'."
        )
