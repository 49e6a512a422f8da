"""Autoencoders for practical work with unlabelled data.

>>> import isthmus, numpy
>>> X = numpy.random.default_rng(0).random((100, 8))
>>> isthmus.Autoencoder(code_size=3, max_epochs=2, random_state=0).fit(X).transform(X).shape
(100, 3)

The public names are listed in ``__init__.pyi``. They are loaded on first use, so that ``import isthmus`` and
``isthmus --help`` import neither torch nor scikit-learn.
"""

import lazy_loader

__version__ = "0.2.0"

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
__all__ += ["__version__"]
