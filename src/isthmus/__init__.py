"""Autoencoders for practical work with unlabelled data.

>>> import isthmus, numpy
>>> X = numpy.random.default_rng(0).random((100, 8))
>>> isthmus.Autoencoder(code_size=3, max_epochs=2, random_state=0).fit(X).transform(X).shape
(100, 3)

The public names are listed in ``__init__.pyi``. They are loaded on first use, so that ``import isthmus`` and
``isthmus --help`` import neither torch nor scikit-learn.
"""

import warnings
from typing import Any

import lazy_loader

__version__ = "0.2.0"

RENAMED = {"OddRow": "AnomalousRow", "Quality": "ImageQuality"}
"""Former public names, which warn for one version."""

_load, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]


def __getattr__(name: str) -> Any:
    """A public name, imported on first use; a former name with a warning."""
    if name in RENAMED:
        text = f"isthmus.{name} is now isthmus.{RENAMED[name]}; the former name will be removed in the next version."
        warnings.warn(text, FutureWarning, stacklevel=2)
    return _load(RENAMED.get(name, name))
