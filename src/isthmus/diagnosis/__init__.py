"""What a model does with data, in numbers, and what is wrong with it, in words."""

from isthmus.diagnosis.measures import (
    CodeStatistics,
    Density,
    WorstRows,
    code_densities,
    code_map,
    code_statistics,
    densities_of,
    pca_error,
    sample_rows,
    take_rows,
    worst_rows,
)
from isthmus.diagnosis.verdicts import FEWEST_ROWS, Diagnosis, Finding, diagnose

__all__ = [
    "FEWEST_ROWS",
    "CodeStatistics",
    "Density",
    "Diagnosis",
    "Finding",
    "WorstRows",
    "code_densities",
    "code_map",
    "code_statistics",
    "densities_of",
    "diagnose",
    "pca_error",
    "sample_rows",
    "take_rows",
    "worst_rows",
]
