"""Holes in tables, filled."""

from isthmus.tasks.imputation.imputer import Imputer

__all__ = ["Imputer"]
