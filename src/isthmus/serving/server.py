"""A web server for one application: one process, one socket, a clean end."""

from __future__ import annotations

import contextlib
import errno
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import uvicorn

from isthmus.serving.limits import Limits

BACKLOG = 1024
SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket bound to an address, which does not listen yet.

    Raises
    ------
    OSError
        The port is in use, or not allowed, or the host is unknown.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise OSError(f"The host {host!r} is unknown ({error.strerror}); use an address of this machine.") from None
    # of the protocol by name: asyncio sends small answers at once (TCP_NODELAY) only on sockets that state it
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # after a server that has just ended
        try:
            bound.bind(address)
        except OSError as error:
            raise OSError(_told(error, host, port)) from None
        yield bound
    finally:
        bound.close()


def _told(error: OSError, host: str, port: int) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"Port {port} of {host} is in use; end the program that uses it, or choose another port."
    if error.errno == errno.EACCES:
        return f"Port {port} of {host} is not allowed for this user; choose one from 1024."
    return f"Port {port} of {host} cannot be opened ({error.strerror}); use an address of this machine."


class _Server(uvicorn.Server):
    """Tells when it is ready, and ends at SIGTERM and Ctrl-C without raising them again."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None], ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready, self._ending = ready, ending

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._ending()
        super().handle_exit(sig, frame)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Uvicorn's own would raise the signal again after the end: the exit code would be that of a kill."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(app: Any, bound: socket.socket, limits: Limits, ready: Callable[[str], None] | None = None) -> None:
    """Serve on a bound socket until a signal; then finish what was accepted."""
    name, port = bound.getsockname()[:2]
    address = f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        backlog=BACKLOG,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=int(2 * limits.seconds) + 1,
    )
    made = app.state.isthmus

    def told() -> None:
        if ready is not None:
            ready(address)

    _Server(config, told, lambda: setattr(made, "ending", True)).run(sockets=[bound])
