"""From exceptions to one line on stderr and an exit code: 2 for wrong usage, 1 for failure."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

FAILURE, USAGE = 1, 2


class WrongUsageError(Exception):
    """Something in the command was written wrong."""


def run(command: Callable[[], object], *, debug: bool) -> int:
    """Run a command and give its exit code; what went wrong is told on stderr, with a traceback only when debugging."""
    try:
        with plain_warnings():
            command()
            sys.stdout.flush()
    except typer.Exit as stop:
        return stop.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has gone; nobody is left to tell
        return FAILURE
    except (typer.Abort, KeyboardInterrupt):
        return tell("interrupted", FAILURE)
    except Exception as error:
        if debug and code_of(error) == FAILURE:
            raise
        return tell(text_of(error), code_of(error))
    return 0


def text_of(error: Exception) -> str:
    """What to say of an error; wrong usage of a command points to its help."""
    if not hasattr(error, "format_message"):
        return str(error) or type(error).__name__
    context = getattr(error, "ctx", None)
    return str(error.format_message()) + (f"\nTry '{context.command_path} --help'." if context else "")


def code_of(error: Exception) -> int:
    """Wrong words and wrong parameters are wrong usage; everything else is a failure."""
    from isthmus.exceptions import IsthmusError  # noqa: PLC0415  # kept out of start-up with the rest

    if isinstance(error, IsthmusError):
        return FAILURE
    return (
        USAGE
        if isinstance(error, WrongUsageError | ValueError | TypeError)
        else int(getattr(error, "exit_code", FAILURE))
    )


def tell(text: str, code: int) -> int:
    """Say what is wrong and pass the exit code on."""
    typer.echo(f"error: {text}", err=True)
    return code


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings as one line each."""
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = lambda message, *_, **__: typer.echo(f"warning: {message}", err=True)
        yield
