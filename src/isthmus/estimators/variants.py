"""Named variants of `Autoencoder`; each only changes defaults."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from isthmus.choices.registry import unknown
from isthmus.estimators.autoencoder import Autoencoder
from isthmus.estimators.linear_autoencoder import LinearAutoencoder


@dataclass(eq=False, repr=False, kw_only=True)
class DenoisingAutoencoder(Autoencoder):
    """Denoising autoencoder: learns to restore rows from corrupted copies (Vincent et al. 2008).

    An `Autoencoder` with ``corruption="gaussian-noise"``. `reconstruct` denoises: pass it the noisy rows.

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
    """Sparse autoencoder: learns codes in which most units are zero.

    An `Autoencoder` with ``penalty="l1"`` and ``code="auto"``: ``"relu"``, so that zeros are exact; with
    ``penalty="kl-sparsity"``, which asks how often a unit is active, ``"sigmoid"``.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.random.default_rng(0).random((50, 6))
    >>> bool((SparseAutoencoder(4, max_epochs=1, random_state=0).fit(X).transform(X) >= 0).all())
    True
    """

    code: Any = "auto"
    penalty: Any = "l1"

    usual_code: ClassVar[str] = "relu"


@dataclass(eq=False, repr=False, kw_only=True)
class ContractiveAutoencoder(Autoencoder):
    """Contractive autoencoder: learns codes that are insensitive to small changes of the input (Rifai et al. 2011).

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
    """Convolutional autoencoder for images and signals.

    An `Autoencoder` with ``network="convolutional"``. Pass images as (n, h, w) or (n, h, w, c), of any size. For flat
    rows, series, volumes and channels-first data, set the layout with ``network=Convolutional(…)``.

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
    """Variational autoencoder: learns a distribution of codes for each row, and generates rows from the prior (Kingma &
    Welling 2014).

    An `Autoencoder` with ``code="gaussian"``. For data outside [0, 1] the default loss is then `Normal`, because the KL
    divergence is in nats and needs a loss in nats. It adds the methods `sample`, `posterior` and `log_likelihood`.

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
"""The estimators by their short names on the command line."""


def find_kind(name: str) -> type[Autoencoder]:
    """The estimator class of a short name; a `ValueError` lists the known names and the nearest one.

    >>> find_kind("denoising").__name__
    'DenoisingAutoencoder'
    """
    if name not in KINDS:
        raise ValueError(unknown("kind", name, KINDS))
    return KINDS[name]
