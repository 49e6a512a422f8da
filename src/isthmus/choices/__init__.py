"""The five choices that make an autoencoder: network, code, corruption, penalty, loss."""

from isthmus.choices.codes import CODES, Code, Plain
from isthmus.choices.corruptions import CORRUPTIONS, Corruption, GaussianNoise, Masking, SaltAndPepper
from isthmus.choices.losses import LOSSES, BinaryCrossEntropy, Loss, MeanSquaredError
from isthmus.choices.networks import NETWORKS, Dense, Modules, Network
from isthmus.choices.penalties import L1, L2, PENALTIES, Penalty
from isthmus.choices.registry import Choice, Context, Registry

__all__ = [
    "CODES",
    "CORRUPTIONS",
    "L1",
    "L2",
    "LOSSES",
    "NETWORKS",
    "PENALTIES",
    "BinaryCrossEntropy",
    "Choice",
    "Code",
    "Context",
    "Corruption",
    "Dense",
    "GaussianNoise",
    "Loss",
    "Masking",
    "MeanSquaredError",
    "Modules",
    "Network",
    "Penalty",
    "Plain",
    "Registry",
    "SaltAndPepper",
]
