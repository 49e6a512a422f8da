"""Training: the objective, the engines, the training loop, schedules, callbacks and checkpoints."""

from isthmus.training.callbacks import Callback, MaxSteps
from isthmus.training.checkpoint import Checkpoint
from isthmus.training.devices import available_devices, choose_device
from isthmus.training.history import History
from isthmus.training.loop import Run, Settings, train
from isthmus.training.objective import Choices, LossParts, Objective, Trainable
from isthmus.training.pretraining import PRETRAININGS, LayerWise
from isthmus.training.processes import is_main_process
from isthmus.training.progress import ProgressBar
from isthmus.training.schedule import (
    OPTIMIZERS,
    SCHEDULES,
    SGD,
    Adam,
    AdamW,
    Constant,
    Cosine,
    OneCycle,
    ReduceOnPlateau,
    RMSprop,
    TorchOptimizer,
)
from isthmus.training.trackers import LogToMLflow, LogToTensorBoard, LogToWandb

__all__ = [
    "OPTIMIZERS",
    "PRETRAININGS",
    "SCHEDULES",
    "SGD",
    "Adam",
    "AdamW",
    "Callback",
    "Checkpoint",
    "Choices",
    "Constant",
    "Cosine",
    "History",
    "LayerWise",
    "LogToMLflow",
    "LogToTensorBoard",
    "LogToWandb",
    "LossParts",
    "MaxSteps",
    "Objective",
    "OneCycle",
    "ProgressBar",
    "RMSprop",
    "ReduceOnPlateau",
    "Run",
    "Settings",
    "TorchOptimizer",
    "Trainable",
    "available_devices",
    "choose_device",
    "is_main_process",
    "train",
]
