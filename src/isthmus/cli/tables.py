"""What a command says of the tables that it reads and writes."""

from __future__ import annotations

from isthmus.data.tables import TextFormat


def text_format(header: bool | None, encoding: str | None, delimiter: str | None) -> TextFormat:
    """How a file of text is written, as far as the flags say; a tab may be typed as ``tab``."""
    typed = {"\\t": "\t", "tab": "\t"}
    return TextFormat(header, None if delimiter is None else typed.get(delimiter, delimiter), encoding)
