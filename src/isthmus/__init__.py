"""Autoencoders for people who have data without labels and a job to do.

>>> import isthmus, numpy
>>> X = numpy.random.default_rng(0).random((100, 8))
>>> isthmus.Autoencoder(code_size=3, max_epochs=2, random_state=0).fit(X).transform(X).shape
(100, 3)

Names are loaded when they are first used, so that ``import isthmus`` imports neither torch nor scikit-learn.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "isthmus.exceptions": (
        "DataError",
        "DivergenceError",
        "DivergenceWarning",
        "FitWarning",
        "InterruptedWarning",
        "IsthmusError",
        "IsthmusWarning",
        "ModelFileError",
        "OutputError",
    ),
    "isthmus.choices": (
        "BinaryCrossEntropy",
        "ByColumn",
        "CategoricalCrossEntropy",
        "Contractive",
        "Convolutional",
        "Dense",
        "DropEntries",
        "Gaussian",
        "GaussianNoise",
        "Huber",
        "KLSparsity",
        "L1",
        "L2",
        "Masking",
        "MeanAbsoluteError",
        "MeanSquaredError",
        "Modules",
        "Multinomial",
        "Normal",
        "Observed",
        "Plain",
        "Poisson",
        "SaltAndPepper",
        "SparseRows",
        "TopK",
    ),
    "isthmus.training": (
        "Adam",
        "AdamW",
        "Callback",
        "Checkpoint",
        "Constant",
        "Cosine",
        "History",
        "LayerWise",
        "MaxSteps",
        "OneCycle",
        "ProgressBar",
    ),
    "isthmus.data": (
        "ImageFolder",
        "Source",
        "read",
    ),
    "isthmus.estimators": (
        "Autoencoder",
        "ContractiveAutoencoder",
        "ConvolutionalAutoencoder",
        "DenoisingAutoencoder",
        "KINDS",
        "LinearAutoencoder",
        "Posterior",
        "SparseAutoencoder",
        "VariationalAutoencoder",
        "choices_by_parameter",
        "find_kind",
        "fit_many",
        "load",
    ),
    "isthmus.tasks": (
        "AnomalyDetector",
        "Auto",
        "Contamination",
        "EncoderClassifier",
        "Evaluation",
        "Explanation",
        "FalseAlarmRate",
        "HeldOut",
        "Imputer",
        "Interactions",
        "Quantile",
        "Recommendations",
        "Recommender",
        "SignalDetector",
        "SimilarityIndex",
        "StrongSplit",
        "benjamini_hochberg",
        "conformal_p_values",
        "evaluate_recommender",
        "leave_latest",
        "leave_out",
        "nearest",
        "read_interactions",
        "strong_generalization",
    ),
    "isthmus.diagnosis": ("diagnose",),
    "isthmus.export": ("export_onnx", "onnx_inputs"),
    "isthmus.report": ("OddRow", "write_anomaly_report", "write_report"),
    "isthmus.files": ("write_rows",),
    "isthmus.data.tables": (
        "Schema",
        "TableSource",
        "learn_schema",
        "read_pieces",
    ),
}
_MODULES = (
    "choices",
    "data",
    "datasets",
    "diagnosis",
    "estimators",
    "export",
    "files",
    "plots",
    "report",
    "tasks",
    "training",
)
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = ["__version__", *_HOME_OF, "datasets", "diagnosis", "plots"]  # noqa: PLE0604  # names from the table above

if TYPE_CHECKING:
    from isthmus import diagnosis as diagnosis
    from isthmus import files as files
    from isthmus import plots as plots
    from isthmus.choices import L1 as L1
    from isthmus.choices import L2 as L2
    from isthmus.choices import BinaryCrossEntropy as BinaryCrossEntropy
    from isthmus.choices import ByColumn as ByColumn
    from isthmus.choices import CategoricalCrossEntropy as CategoricalCrossEntropy
    from isthmus.choices import Contractive as Contractive
    from isthmus.choices import Convolutional as Convolutional
    from isthmus.choices import Dense as Dense
    from isthmus.choices import DropEntries as DropEntries
    from isthmus.choices import Gaussian as Gaussian
    from isthmus.choices import GaussianNoise as GaussianNoise
    from isthmus.choices import Huber as Huber
    from isthmus.choices import KLSparsity as KLSparsity
    from isthmus.choices import Masking as Masking
    from isthmus.choices import MeanAbsoluteError as MeanAbsoluteError
    from isthmus.choices import MeanSquaredError as MeanSquaredError
    from isthmus.choices import Modules as Modules
    from isthmus.choices import Multinomial as Multinomial
    from isthmus.choices import Normal as Normal
    from isthmus.choices import Observed as Observed
    from isthmus.choices import Plain as Plain
    from isthmus.choices import Poisson as Poisson
    from isthmus.choices import SaltAndPepper as SaltAndPepper
    from isthmus.choices import SparseRows as SparseRows
    from isthmus.choices import TopK as TopK
    from isthmus.data import ImageFolder as ImageFolder
    from isthmus.data import Source as Source
    from isthmus.data import datasets as datasets
    from isthmus.data import read as read
    from isthmus.data.tables import Schema as Schema
    from isthmus.data.tables import TableSource as TableSource
    from isthmus.data.tables import learn_schema as learn_schema
    from isthmus.data.tables import read_pieces as read_pieces
    from isthmus.diagnosis import diagnose as diagnose
    from isthmus.estimators import KINDS as KINDS
    from isthmus.estimators import Autoencoder as Autoencoder
    from isthmus.estimators import ContractiveAutoencoder as ContractiveAutoencoder
    from isthmus.estimators import ConvolutionalAutoencoder as ConvolutionalAutoencoder
    from isthmus.estimators import DenoisingAutoencoder as DenoisingAutoencoder
    from isthmus.estimators import LinearAutoencoder as LinearAutoencoder
    from isthmus.estimators import Posterior as Posterior
    from isthmus.estimators import SparseAutoencoder as SparseAutoencoder
    from isthmus.estimators import VariationalAutoencoder as VariationalAutoencoder
    from isthmus.estimators import choices_by_parameter as choices_by_parameter
    from isthmus.estimators import find_kind as find_kind
    from isthmus.estimators import fit_many as fit_many
    from isthmus.estimators import load as load
    from isthmus.exceptions import DataError as DataError
    from isthmus.exceptions import DivergenceError as DivergenceError
    from isthmus.exceptions import DivergenceWarning as DivergenceWarning
    from isthmus.exceptions import FitWarning as FitWarning
    from isthmus.exceptions import InterruptedWarning as InterruptedWarning
    from isthmus.exceptions import IsthmusError as IsthmusError
    from isthmus.exceptions import IsthmusWarning as IsthmusWarning
    from isthmus.exceptions import ModelFileError as ModelFileError
    from isthmus.exceptions import OutputError as OutputError
    from isthmus.export import export_onnx as export_onnx
    from isthmus.export import onnx_inputs as onnx_inputs
    from isthmus.files import write_rows as write_rows
    from isthmus.report import OddRow as OddRow
    from isthmus.report import write_anomaly_report as write_anomaly_report
    from isthmus.report import write_report as write_report
    from isthmus.tasks import AnomalyDetector as AnomalyDetector
    from isthmus.tasks import Auto as Auto
    from isthmus.tasks import Contamination as Contamination
    from isthmus.tasks import EncoderClassifier as EncoderClassifier
    from isthmus.tasks import Evaluation as Evaluation
    from isthmus.tasks import Explanation as Explanation
    from isthmus.tasks import FalseAlarmRate as FalseAlarmRate
    from isthmus.tasks import HeldOut as HeldOut
    from isthmus.tasks import Imputer as Imputer
    from isthmus.tasks import Interactions as Interactions
    from isthmus.tasks import Quantile as Quantile
    from isthmus.tasks import Recommendations as Recommendations
    from isthmus.tasks import Recommender as Recommender
    from isthmus.tasks import SignalDetector as SignalDetector
    from isthmus.tasks import SimilarityIndex as SimilarityIndex
    from isthmus.tasks import StrongSplit as StrongSplit
    from isthmus.tasks import benjamini_hochberg as benjamini_hochberg
    from isthmus.tasks import conformal_p_values as conformal_p_values
    from isthmus.tasks import evaluate_recommender as evaluate_recommender
    from isthmus.tasks import leave_latest as leave_latest
    from isthmus.tasks import leave_out as leave_out
    from isthmus.tasks import nearest as nearest
    from isthmus.tasks import read_interactions as read_interactions
    from isthmus.tasks import strong_generalization as strong_generalization
    from isthmus.training import Adam as Adam
    from isthmus.training import AdamW as AdamW
    from isthmus.training import Callback as Callback
    from isthmus.training import Checkpoint as Checkpoint
    from isthmus.training import Constant as Constant
    from isthmus.training import Cosine as Cosine
    from isthmus.training import History as History
    from isthmus.training import LayerWise as LayerWise
    from isthmus.training import MaxSteps as MaxSteps
    from isthmus.training import OneCycle as OneCycle
    from isthmus.training import ProgressBar as ProgressBar


def __getattr__(name: str) -> Any:
    if name in _HOME_OF:
        value = getattr(importlib.import_module(_HOME_OF[name]), name)
    elif name in _MODULES:
        value = importlib.import_module("isthmus.data.datasets" if name == "datasets" else f"isthmus.{name}")
    else:
        raise AttributeError(f"module 'isthmus' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_MODULES})
