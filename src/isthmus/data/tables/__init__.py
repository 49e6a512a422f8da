"""Tables with columns of mixed types and missing cells, in memory or in files larger than memory."""

from isthmus.data.tables.chunks import TablePiece, follow, read_pieces
from isthmus.data.tables.columns import KINDS, Column
from isthmus.data.tables.dialect import TextFormat
from isthmus.data.tables.opening import is_table, open_table
from isthmus.data.tables.schema import Schema, learn_schema
from isthmus.data.tables.source import TableSource
from isthmus.data.tables.stored import CSVTable

__all__ = [
    "KINDS",
    "CSVTable",
    "Column",
    "Schema",
    "TablePiece",
    "TableSource",
    "TextFormat",
    "follow",
    "is_table",
    "learn_schema",
    "open_table",
    "read_pieces",
]
