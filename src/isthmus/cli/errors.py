"""From exceptions to one line on stderr and an exit code: 2 for wrong usage, 1 for failure."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import click

FAILURE, USAGE = 1, 2


def run(command: Callable[[], object], *, debug: bool) -> int:
    """Run a command and give its exit code; what went wrong is told on stderr, with a traceback only when debugging."""
    try:
        with plain_warnings():
            command()
    except BrokenPipeError:
        sys.stderr.close()  # the reader has gone; there is nobody to tell
        return FAILURE
    except (click.Abort, KeyboardInterrupt):
        return tell("interrupted", FAILURE)
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.ClickException as error:
        context = getattr(error, "ctx", None)
        hint = f"\nTry '{context.command_path} --help'." if context else ""
        return tell(error.format_message() + hint, error.exit_code)
    except Exception as error:
        if debug:
            raise
        return tell(str(error) or type(error).__name__, code_of(error))
    return 0


def code_of(error: Exception) -> int:
    """Wrong parameters are wrong usage; everything else is a failure."""
    from isthmus.exceptions import IsthmusError  # noqa: PLC0415  # kept out of start-up with the rest

    own = isinstance(error, IsthmusError)
    return USAGE if isinstance(error, ValueError | TypeError) and not own else FAILURE


def tell(text: str, code: int) -> int:
    """Say what is wrong and pass the exit code on."""
    click.echo(f"error: {text}", err=True)
    return code


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show warnings as one line each."""
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: click.echo(f"warning: {message}", err=True)
        yield
