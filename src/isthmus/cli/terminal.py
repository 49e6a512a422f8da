"""Terminal output: control characters in text from data are escaped, so that they have no effect."""

from __future__ import annotations

import re

import typer
from rich.text import Text

UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # control codes except tab and line feed; \x1b and \x9b start terminal commands
    "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"  # marks that change the text direction
    "\u2028\u2029\ufeff\ud800-\udfff]"  # other line ends; surrogates, which cannot be encoded
)


def escaped(text: object, *, one_line: bool = False) -> str:
    r"""Escape all characters that control a terminal.

    Line feeds are kept, because messages may have several lines; with `one_line` they are escaped too.

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
    """A cell of a rich table without markup; line feeds are escaped."""
    return text if isinstance(text, Text) else Text(escaped(text, one_line=True))
