"""Data: sources of rows, file readers, and scaling; `tables` is loaded on first use, because it is slow to import."""

import importlib
from types import ModuleType

from isthmus.data.images import IMAGE_SUFFIXES, ImageFolder
from isthmus.data.reading import read
from isthmus.data.scaling import (
    SCALINGS,
    Scaling,
    Statistics,
    all_finite,
    huge_text,
    learn_scaling,
    refuse_huge,
    summarise,
)
from isthmus.data.sources import (
    ArraySource,
    LabelledSource,
    MemoryMappedSource,
    MissingSource,
    PairedSource,
    RowsSource,
    Source,
    SparseSource,
    as_source,
)

__all__ = [
    "IMAGE_SUFFIXES",
    "SCALINGS",
    "ArraySource",
    "ImageFolder",
    "LabelledSource",
    "MemoryMappedSource",
    "MissingSource",
    "PairedSource",
    "RowsSource",
    "Scaling",
    "Source",
    "SparseSource",
    "Statistics",
    "all_finite",
    "as_source",
    "huge_text",
    "learn_scaling",
    "read",
    "refuse_huge",
    "summarise",
    "tables",
]


def __getattr__(name: str) -> ModuleType:
    if name == "tables":
        return importlib.import_module("isthmus.data.tables")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
