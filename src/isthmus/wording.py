"""Words of messages that several rooms need."""

from __future__ import annotations


def counted(n: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, in the singular or the plural.

    Parameters
    ----------
    n
        The number.
    noun
        The noun in the singular.
    plural
        The plural; None: the singular with an s.

    Examples
    --------
    >>> counted(1, "row"), counted(12_000, "row"), counted(2, "index", "indices")
    ('1 row', '12,000 rows', '2 indices')
    """
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"


def be(n: int) -> str:
    """``"is"`` for one, else ``"are"``.

    >>> be(1), be(0)
    ('is', 'are')
    """
    return "is" if n == 1 else "are"


def these(n: int, noun: str) -> str:
    """The noun with "this" for one, else its plural with "these".

    >>> these(1, "row"), these(3, "row")
    ('this row', 'these rows')
    """
    return f"this {noun}" if n == 1 else f"these {noun}s"
