"""The exceptions and warnings of the library.

    IsthmusError                        base class of all errors of this library
    ├── DataError (ValueError)          the data are invalid
    │   └── StreamError                 a compressed stream is damaged, of another model, or no such stream
    ├── ModelFileError (ValueError)     a model file is missing, truncated, from another program or too new
    ├── OutputError (OSError)           a result cannot be written to its path
    ├── DivergenceError (RuntimeError)  the loss became NaN or infinite in the first epoch
    └── ProcessError (RuntimeError)     processes that work together disagree, or one of them has failed
    IsthmusWarning (UserWarning)        base class of all warnings of this library
    ├── FitWarning                      the model was trained, but is useless
    ├── UnitsWarning                    most rows lie far outside the range at fit
    ├── InterruptedWarning              training was stopped by the user; the best weights so far are kept
    ├── DivergenceWarning               the loss became NaN or infinite; the best weights so far are kept
    └── ConversionWarning               images were converted while reading

Invalid parameters raise ``ValueError`` or ``TypeError``; unfitted estimators raise scikit-learn's ``NotFittedError``.
"""

from __future__ import annotations


class IsthmusError(Exception):
    """Base class of all errors of this library."""


class DataError(IsthmusError, ValueError):
    """The data are invalid; the message says where and what to do."""


class StreamError(DataError):
    """A compressed stream is damaged, of another model, or not a compressed stream."""


class ModelFileError(IsthmusError, ValueError):
    """A model or checkpoint file is missing, truncated, from another program, or of a newer format."""


class OutputError(IsthmusError, OSError):
    """A file cannot be written: it exists, its folder does not, or the disk is full."""


class DivergenceError(IsthmusError, RuntimeError):
    """The loss became NaN or infinite before the first epoch was finished."""


class ProcessError(IsthmusError, RuntimeError):
    """Processes that train one model or score parts together disagree, or one of them has failed."""


class IsthmusWarning(UserWarning):
    """Base class of all warnings of this library."""


class FitWarning(IsthmusWarning):
    """The model was trained, but is useless; the message says why."""


class UnitsWarning(IsthmusWarning):
    """Most rows lie far outside the feature ranges at fit."""


class InterruptedWarning(IsthmusWarning):
    """Training was stopped by the user; the best weights so far are kept."""


class DivergenceWarning(IsthmusWarning):
    """The loss became NaN or infinite; the best weights so far are kept."""


class ConversionWarning(IsthmusWarning):
    """Images were converted while reading; the message says how many and how."""
