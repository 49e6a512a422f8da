"""Named settings: each changes defaults of the one estimator and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from isthmus.choices.registry import unknown
from isthmus.estimators.autoencoder import Autoencoder
from isthmus.estimators.linear_autoencoder import LinearAutoencoder


@dataclass(eq=False, repr=False, kw_only=True)
class DenoisingAutoencoder(Autoencoder):
    """Learns to restore rows from damaged copies of themselves (Vincent et al. 2008).

    An `Autoencoder` with ``corruption="gaussian-noise"``. `reconstruct` cleans: give it the noisy rows.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((50, 6))
    >>> DenoisingAutoencoder(2, max_epochs=1, random_state=0).fit(X).reconstruct(X).shape
    (50, 6)
    """

    corruption: Any = "gaussian-noise"


@dataclass(eq=False, repr=False, kw_only=True)
class SparseAutoencoder(Autoencoder):
    """Learns codes most of whose numbers are zero or small.

    An `Autoencoder` with ``code=Plain("relu")``, so that zeros are exact, and ``penalty="l1"``.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((50, 6))
    >>> bool((SparseAutoencoder(4, max_epochs=1, random_state=0).fit(X).transform(X) >= 0).all())
    True
    """

    code: Any = "relu"
    penalty: Any = "l1"


@dataclass(eq=False, repr=False, kw_only=True)
class ContractiveAutoencoder(Autoencoder):
    """Learns codes that move little when the input does (Rifai et al. 2011).

    An `Autoencoder` with ``penalty="contractive"``.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((50, 6))
    >>> ContractiveAutoencoder(2, max_epochs=1, random_state=0).fit(X).transform(X).shape
    (50, 2)
    """

    penalty: Any = "contractive"


@dataclass(eq=False, repr=False, kw_only=True)
class ConvolutionalAutoencoder(Autoencoder):
    """Learns codes of images or signals with convolutions, which take neighbouring pixels together.

    An `Autoencoder` with ``network="convolutional"``. Give images as (n, h, w) or (n, h, w, c), of any size. For flat
    rows, series, volumes and channels first, say how rows are read with ``network=Convolutional(…)``.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((20, 9, 7))
    >>> ConvolutionalAutoencoder(4, max_epochs=1, random_state=0).fit(X).reconstruct(X).shape
    (20, 9, 7)
    """

    network: Any = "convolutional"


@dataclass(eq=False, repr=False, kw_only=True)
class VariationalAutoencoder(Autoencoder):
    """Learns a distribution of codes for each row, from whose prior new rows can be drawn (Kingma & Welling 2014).

    An `Autoencoder` with ``code="gaussian"``; the loss of data that do not lie in [0, 1] is then `Normal`. Besides the
    usual verbs it has `sample`, `posterior` and `log_likelihood`.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((50, 6))
    >>> model = VariationalAutoencoder(2, max_epochs=1, random_state=0).fit(X)
    >>> model.sample(3, random_state=0).shape, model.log_likelihood(X, random_state=0).shape
    ((3, 6), (50,))
    """

    code: Any = "gaussian"


KINDS: dict[str, type[Autoencoder]] = {
    "autoencoder": Autoencoder,
    "contractive": ContractiveAutoencoder,
    "convolutional": ConvolutionalAutoencoder,
    "denoising": DenoisingAutoencoder,
    "linear": LinearAutoencoder,
    "sparse": SparseAutoencoder,
    "variational": VariationalAutoencoder,
}
"""The estimators by the short name that the command line uses."""


def find_kind(name: str) -> type[Autoencoder]:
    """The estimator class of a short name; a `ValueError` lists the right ones and the nearest.

    >>> find_kind("denoising").__name__
    'DenoisingAutoencoder'
    """
    if name not in KINDS:
        raise ValueError(unknown("kind", name, KINDS))
    return KINDS[name]
