"""From exceptions to one line on stderr and an exit code: 2 for wrong usage, 1 for failure."""

from __future__ import annotations

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
NOISE = (DeprecationWarning, PendingDeprecationWarning, FutureWarning, ImportWarning, ResourceWarning)
"""Warnings that programmers of libraries send to each other."""

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
"""What people type who come from elsewhere, and what does it here."""


class WrongUsageError(Exception):
    """Something in the command was written wrong."""


def run(command: Callable[[], object], *, debug: bool) -> int:
    """Run a command and give its exit code; what went wrong is told on stderr, with a traceback only when debugging."""
    try:
        with plain_warnings(), ending_at_sigterm():
            command()
            sys.stdout.flush()
    except typer.Exit as stop:
        return tell("interrupted.", FAILURE) if stop.exit_code == INTERRUPTED else stop.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone; nobody is left to tell
        return FAILURE
    except (typer.Abort, KeyboardInterrupt):
        return tell("interrupted.", FAILURE)
    except Exception as error:  # noqa: BLE001  # whatever it is, a user gets one line
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


def text_of(error: Exception) -> str:
    """What to say of an error; wrong usage of a command points to its help."""
    if hasattr(error, "format_message"):
        context = getattr(error, "ctx", None)
        right = OPTIONS.get(getattr(error, "option_name", None) or "")
        hint = f"; use {right}." if right else ""
        return str(error.format_message()) + hint + (f"\nTry '{context.command_path} --help'." if context else "")
    if isinstance(error, OSError) and not isinstance(error, isthmus.IsthmusError) and error.strerror:
        return f"{error.strerror}: '{error.filename}'." if error.filename else f"{error.strerror}."
    return str(error) or type(error).__name__


def code_of(error: Exception) -> int:
    """Wrong words and wrong parameters are wrong usage; everything else is a failure."""
    if isinstance(error, isthmus.IsthmusError):
        return FAILURE
    if isinstance(error, WrongUsageError | ValueError | TypeError):
        return USAGE
    return int(getattr(error, "exit_code", FAILURE))


def tell(text: str, code: int) -> int:
    """Say what is wrong and pass the exit code on."""
    echo(f"error: {text}", err=True)
    return code


@contextmanager
def noting(mistakes: list[str]) -> Iterator[None]:
    """Put what is wrong in a list instead of stopping, so that all mistakes can be told at once."""
    try:
        yield
    except (WrongUsageError, ValueError, TypeError, isthmus.OutputError) as error:
        mistakes.append(str(error))


def refuse(mistakes: Iterable[str], kind: type[Exception] = WrongUsageError) -> None:
    """Raise one error with all mistakes, if there are any."""
    different = list(dict.fromkeys(mistakes))
    if different:
        count = f"{len(different)} things are wrong:"
        raise kind(different[0] if len(different) == 1 else "\n  ".join([count, *different]))


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings as one line each."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        for kind in NOISE:
            warnings.simplefilter("ignore", kind)
        warnings.showwarning = lambda message, *_, **__: echo(f"warning: {message}", err=True)
        yield
