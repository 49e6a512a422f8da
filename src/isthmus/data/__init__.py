"""Data: where rows come from, and what is learned of their range."""

from isthmus.data.images import ImageFolder
from isthmus.data.reading import read
from isthmus.data.scaling import SCALINGS, Scaling, Statistics, all_finite, learn_scaling, summarise
from isthmus.data.sources import (
    ArraySource,
    LabelledSource,
    MemoryMappedSource,
    MissingSource,
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
    "Scaling",
    "Source",
    "SparseSource",
    "Statistics",
    "all_finite",
    "as_source",
    "learn_scaling",
    "read",
    "summarise",
]
