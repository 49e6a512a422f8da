"""Measures of a fitted model on data, and diagnosis of its problems."""

from isthmus.diagnosis.evidence import FEWEST_ROWS
from isthmus.diagnosis.measures import (
    CodeStatistics,
    Density,
    Restoration,
    WorstRows,
    code_densities,
    code_map,
    code_statistics,
    densities_of,
    in_one_unit,
    pca_error,
    psnr,
    restoration,
    sample_rows,
    take_rows,
    worst_rows,
)
from isthmus.diagnosis.verdicts import Diagnosis, Finding, diagnose

__all__ = [
    "FEWEST_ROWS",
    "CodeStatistics",
    "Density",
    "Diagnosis",
    "Finding",
    "Restoration",
    "WorstRows",
    "code_densities",
    "code_map",
    "code_statistics",
    "densities_of",
    "diagnose",
    "in_one_unit",
    "pca_error",
    "psnr",
    "restoration",
    "sample_rows",
    "take_rows",
    "worst_rows",
]
