"""The `Autoencoder` estimator, its named variants, and their model files."""

from isthmus.estimators.autoencoder import Autoencoder
from isthmus.estimators.fitting import choices_by_parameter
from isthmus.estimators.generative import Posterior
from isthmus.estimators.layer_table import Layer
from isthmus.estimators.linear_autoencoder import LinearAutoencoder
from isthmus.estimators.many import fit_many
from isthmus.estimators.persistence import load
from isthmus.estimators.variants import (
    KINDS,
    ContractiveAutoencoder,
    ConvolutionalAutoencoder,
    DenoisingAutoencoder,
    SparseAutoencoder,
    VariationalAutoencoder,
    find_kind,
)

__all__ = [
    "KINDS",
    "Autoencoder",
    "ContractiveAutoencoder",
    "ConvolutionalAutoencoder",
    "DenoisingAutoencoder",
    "Layer",
    "LinearAutoencoder",
    "Posterior",
    "SparseAutoencoder",
    "VariationalAutoencoder",
    "choices_by_parameter",
    "find_kind",
    "fit_many",
    "load",
]
