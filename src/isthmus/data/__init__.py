"""Data: sources of rows, file readers, and scaling."""

from isthmus.data.images import ImageFolder
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
]
