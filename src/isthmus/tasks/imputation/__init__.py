"""Imputation of missing cells in tables."""

from isthmus.tasks.imputation.imputer import Imputer

__all__ = ["Imputer"]
