"""The one way to the terminal: text from data can neither move the cursor nor pretend to be something else."""

from __future__ import annotations

import re

import typer
from rich.text import Text

UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control codes but tab and line feed; \x1b and \x9b begin terminal commands
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that reverse the direction of what follows
    "\u2028\u2029\ufeff\ud800-\udfff]"  # further line ends; half characters, which no terminal can be given
)


def escaped(text: object, *, one_line: bool = False) -> str:
    r"""The text with everything that a terminal would obey written out.

    Line feeds stay where a message may have several lines; with `one_line` they are written out too.

    >>> print(escaped("red \x1b[31mX"), escaped("a\nb", one_line=True))
    red \x1b[31mX a\x0ab
    """
    safe = UNSAFE.sub(_written_out, str(text))
    return safe.replace("\n", "\\x0a") if one_line else safe


def _written_out(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def echo(text: object, *, err: bool = False) -> None:
    """Print a line on stdout, or on stderr."""
    typer.echo(escaped(text), err=err)


def cell(text: str | Text) -> Text:
    """A cell for a table of rich, in which square brackets mean nothing and a line feed starts no line."""
    return text if isinstance(text, Text) else Text(escaped(text, one_line=True))
