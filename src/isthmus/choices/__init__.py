"""The five choices that make an autoencoder: network, code, corruption, penalty, loss."""

from isthmus.choices.codes import CODES, Code, Gaussian, Plain, TopK
from isthmus.choices.composed_losses import ByColumn, Observed
from isthmus.choices.convolutional import Convolutional
from isthmus.choices.corruptions import (
    CORRUPTIONS,
    Corruption,
    DropEntries,
    GaussianNoise,
    Masking,
    PoissonNoise,
    SaltAndPepper,
    Sometimes,
)
from isthmus.choices.image_corruptions import JPEG, BlockMask, Blur, Downsample, Grayscale, ImageCorruption
from isthmus.choices.layers import ACTIVATIONS
from isthmus.choices.losses import (
    LOSSES,
    BinaryCrossEntropy,
    Huber,
    LogMeanSquaredError,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    Normal,
    Poisson,
)
from isthmus.choices.networks import NETWORKS, Dense, Modules, Network
from isthmus.choices.page_corruptions import Scratches, Stains, UnevenLight
from isthmus.choices.penalties import L1, L2, PENALTIES, Contractive, KLSparsity, Penalty
from isthmus.choices.quantized import Quantized, Rate
from isthmus.choices.registry import Choice, Context, Registry
from isthmus.choices.softmax_losses import CategoricalCrossEntropy, Multinomial
from isthmus.choices.sparse_rows import SparseRows
from isthmus.choices.unet import UNet

__all__ = [
    "ACTIVATIONS",
    "CODES",
    "CORRUPTIONS",
    "JPEG",
    "L1",
    "L2",
    "LOSSES",
    "NETWORKS",
    "PENALTIES",
    "BinaryCrossEntropy",
    "BlockMask",
    "Blur",
    "ByColumn",
    "CategoricalCrossEntropy",
    "Choice",
    "Code",
    "Context",
    "Contractive",
    "Convolutional",
    "Corruption",
    "Dense",
    "Downsample",
    "DropEntries",
    "Gaussian",
    "GaussianNoise",
    "Grayscale",
    "Huber",
    "ImageCorruption",
    "KLSparsity",
    "LogMeanSquaredError",
    "Loss",
    "Masking",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Modules",
    "Multinomial",
    "Network",
    "Normal",
    "Observed",
    "Penalty",
    "Plain",
    "Poisson",
    "PoissonNoise",
    "Quantized",
    "Rate",
    "Registry",
    "SaltAndPepper",
    "Scratches",
    "Sometimes",
    "SparseRows",
    "Stains",
    "TopK",
    "UNet",
    "UnevenLight",
]
