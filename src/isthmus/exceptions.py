"""What can go wrong, as types.

    IsthmusError                     everything this library raises on its own account
    ├── DataError (ValueError)       the data cannot be used as they are
    ├── ModelFileError (ValueError)  a file is missing, truncated, foreign or too new
    ├── OutputError (OSError)        a result cannot be written where it was asked for
    └── DivergenceError (RuntimeError)  training left the finite numbers before anything was learned
    IsthmusWarning (UserWarning)
    ├── InterruptedWarning           training was stopped by the user; the best weights so far are kept
    ├── DivergenceWarning            the loss became NaN or infinite; the best weights so far are kept
    └── ConversionWarning            images were converted to be read; the text says which and how

Wrong parameters are plain ``ValueError`` and ``TypeError``, an unfitted estimator is scikit-learn's ``NotFittedError``.
"""

from __future__ import annotations


class IsthmusError(Exception):
    """The base of every error that is this library's own."""


class DataError(IsthmusError, ValueError):
    """The data cannot be used as they are; the text says where and what to do."""


class ModelFileError(IsthmusError, ValueError):
    """A model or checkpoint file is missing, truncated, foreign or from a newer format."""


class OutputError(IsthmusError, OSError):
    """A file cannot be written: it exists, its folder does not, or the disk is full."""


class DivergenceError(IsthmusError, RuntimeError):
    """The loss left the finite numbers before a single epoch was finished."""


class IsthmusWarning(UserWarning):
    """The base of every warning that is this library's own."""


class FitWarning(IsthmusWarning):
    """The model was trained, but is useless; the text says why."""


class UnitsWarning(IsthmusWarning):
    """Most rows lie far outside the range that the model saw at fit."""


class InterruptedWarning(IsthmusWarning):
    """Training was stopped by the user; the best weights so far are kept."""


class DivergenceWarning(IsthmusWarning):
    """The loss became NaN or infinite; the best weights so far are kept."""


class ConversionWarning(IsthmusWarning):
    """Images were converted to be read as people see them; the text says how many and how."""
