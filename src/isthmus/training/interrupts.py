"""Ctrl-C and SIGTERM during training: the run ends after the current step and keeps its best weights."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_DEFAULTS: dict[signal.Signals, tuple[Any, ...]] = {
    signal.SIGINT: (signal.default_int_handler,),
    signal.SIGTERM: (signal.SIG_DFL, signal.default_int_handler),
}
"""Handlers that are replaced during training; in the command line SIGTERM raises `KeyboardInterrupt`, like SIGINT."""


@contextmanager
def stopping_at_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Context manager: the first SIGINT or SIGTERM calls `stop`, a second one raises `KeyboardInterrupt`.

    An exception could be raised in the middle of an update; a flag that the loop checks cannot. Handlers are set in the
    main thread only, and only if the program has not set its own. They are restored afterwards. The second signal
    raises, so that a callback that never returns can be interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    was_stopped = False

    def handle(*_: object) -> None:
        nonlocal was_stopped
        if was_stopped:
            raise KeyboardInterrupt
        was_stopped = True
        stop()

    before = {number: signal.getsignal(number) for number in _DEFAULTS}
    taken = {number: handler for number, handler in before.items() if handler in _DEFAULTS[number]}
    try:
        for number in taken:
            signal.signal(number, handle)
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)
