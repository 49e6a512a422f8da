"""Conversion of exceptions to one line on stderr and an exit code: 2 for wrong usage, 1 for failure."""

from __future__ import annotations

import _thread
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import typer

import isthmus
from isthmus.cli.terminal import echo

FAILURE, USAGE = 1, 2
INTERRUPTED = 130
"""What typer makes of Ctrl-C in a command: an exit code without a word."""
REPEATED_SECONDS = 0.05
"""After which an interrupt that Python discarded is raised once more."""
NOISE = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning, ResourceWarning)
"""Warnings for developers, which users of the command line do not see."""

OPTIONS = {
    "--latent-dim": "--code-size",
    "--encoding-dim": "--code-size",
    "--bottleneck": "--code-size",
    "--max-epochs": "--epochs",
    "--n-epochs": "--epochs",
    "--lr": "--learning-rate",
    "--random-state": "--seed",
    "--random-seed": "--seed",
    "--batch": "--batch-size",
    "--val": "--validation",
    "--validation-split": "--validation",
    "--hidden": "--set network=128,64",
    "--hidden-layer-sizes": "--set network=128,64",
    "--network": "--set network=128,64",
    "--loss": "--set loss=NAME",
    "--corruption": "--set corruption=NAME",
    "--output": "--out",
}
"""Options of other tools, with their equivalents."""


class WrongUsageError(Exception):
    """The command line is invalid."""


def run(command: Callable[[], object], *, debug: bool) -> int:
    """Run a command and return its exit code; errors go to stderr, with a traceback only if `debug`."""
    try:
        with plain_warnings(), ending_at_sigterm(), repeating_lost_interrupts():
            command()
            sys.stdout.flush()
    except typer.Exit as stop:
        return tell("interrupted.", FAILURE) if stop.exit_code == INTERRUPTED else stop.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader of the pipe has exited
        return FAILURE
    except (typer.Abort, KeyboardInterrupt):
        return tell("interrupted.", FAILURE)
    except Exception as error:  # noqa: BLE001  # every error becomes one line
        if comes_from_interrupt(error):
            return tell("interrupted.", FAILURE)
        if debug:
            echo(traceback.format_exc().rstrip(), err=True)
        return tell(text_of(error), code_of(error))
    return 0


@contextmanager
def ending_at_sigterm() -> Iterator[None]:
    """A block that SIGTERM ends as Ctrl-C does: by default it ends a process at once, and temporary files stay."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def repeating_lost_interrupts() -> Iterator[None]:
    """A block in which no Ctrl-C is lost.

    CPython prints and discards an exception that is raised in a finaliser, or in the callbacks of its import locks. A
    `KeyboardInterrupt` of that kind is raised once more a moment later: at once, it would be raised in the hook, whose
    exceptions are discarded too.
    """
    before, again = sys.unraisablehook, list[threading.Timer]()

    def hook(lost: sys.UnraisableHookArgs) -> None:
        if lost.exc_type is not KeyboardInterrupt:
            before(lost)
            return
        again.append(threading.Timer(REPEATED_SECONDS, _thread.interrupt_main))
        again[-1].start()

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = before
        for timer in again:
            timer.cancel()


def comes_from_interrupt(error: BaseException | None) -> bool:
    """Whether an error was caused by a Ctrl-C: Python 3.11 makes a RuntimeError of one while a class is built."""
    return error is not None and (isinstance(error, KeyboardInterrupt) or comes_from_interrupt(error.__cause__))


def text_of(error: Exception) -> str:
    """The message of an error; for wrong usage it points to the command's help."""
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        right = OPTIONS.get(getattr(error, "option_name", None) or "")
        hint = f"; use {right}." if right else ""
        return str(error.format_message()) + hint + (f"\nTry '{context.command_path} --help'." if context else "")
    if isinstance(error, OSError) and not isinstance(error, isthmus.IsthmusError) and error.strerror:
        return f"{error.strerror}: '{error.filename}'." if error.filename else f"{error.strerror}."
    return str(error) or type(error).__name__


def code_of(error: Exception) -> int:
    """The exit code of an error: invalid arguments and parameters are wrong usage, everything else is a failure."""
    if isinstance(error, isthmus.IsthmusError):
        return FAILURE
    if isinstance(error, WrongUsageError | ValueError | TypeError):
        return USAGE
    return int(getattr(error, "exit_code", FAILURE))


def tell(text: str, code: int) -> int:
    """Print an error message and return the exit code."""
    echo(f"error: {text}", err=True)
    return code


@contextmanager
def noting(mistakes: list[str]) -> Iterator[None]:
    """Context manager: append errors to a list instead of raising them, so that all can be reported at once."""
    try:
        yield
    except (WrongUsageError, ValueError, TypeError, isthmus.OutputError) as error:
        mistakes.append(str(error))


def refuse(mistakes: Iterable[str], kind: type[Exception] = WrongUsageError) -> None:
    """Raise one error that lists all mistakes, if there are any."""
    different = list(dict.fromkeys(mistakes))
    if different:
        count = f"{len(different)} errors:"
        raise kind(different[0] if len(different) == 1 else "\n  ".join([count, *different]))


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Context manager: print each warning on one line."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for kind in NOISE:
            warnings.simplefilter("ignore", kind)
        warnings.showwarning = lambda message, *_, **__: echo(f"warning: {message}", err=True)
        yield
