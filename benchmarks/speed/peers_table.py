"""The peers: which script runs in which environment, what that needs, and where each takes part."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

US = "isthmus"
FLOOR = "matrix products alone"


@dataclass(frozen=True)
class Peer:
    """A way to train.

    Attributes
    ----------
    script
        Of the folder `peers`.
    environment
        Name of its virtual environment; "" is the one that the benchmark runs in.
    packages
        What the environment needs.
    shares
        Whether it also sees the packages of the benchmark's own environment, so that all have the same torch.
    variables
        Environment variables of its process.
    options
        Arguments of the script besides the workload.
    only
        Names of the workloads that it can do; none means all.
    """

    script: str
    environment: str = ""
    packages: tuple[str, ...] = ()
    shares: bool = False
    variables: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    only: tuple[str, ...] = ()


KERAS, JAX_VERSION = "keras==3.15.1", "0.10.2"
DENSE = ("S1", "S5", "S6", "S8", "wide")


def _keras(backend: str, environment: str, *packages: str, shares: bool = False) -> Peer:
    variables = {"KERAS_BACKEND": backend}
    return Peer("keras_fit.py", environment, (KERAS, *packages), shares=shares, variables=variables)


TENSORFLOW = _keras("tensorflow", "tensorflow", "tensorflow-cpu==2.21.0", "numpy")
KERAS_JAX = _keras("jax", "jax", f"jax=={JAX_VERSION}", "numpy")
KERAS_TORCH = _keras("torch", "keras-torch", shares=True)
JAX = Peer("jax_scan.py", "jax", KERAS_JAX.packages, only=(*DENSE, "variational", "contractive"))
LOADER = Peer("torch_loader.py")
PYTHAE = Peer("pythae_trainer.py", "pythae", ("pythae==0.1.2",), shares=True, only=("variational",))

TRAINING = {
    US: Peer("isthmus_fit.py"),
    "Keras on TensorFlow": TENSORFLOW,
    "Keras on JAX": KERAS_JAX,
    "Keras on torch": KERAS_TORCH,
    "JAX scan": JAX,
    "PyTorch DataLoader": LOADER,
    "scikit-learn MLPRegressor": Peer("sklearn_mlp.py", only=("S5",)),
    "pythae Trainer": PYTHAE,
    FLOOR: Peer("floor.py", only=DENSE),
}
LARGE = {"batch_size": 1024}
INFERENCE = {
    US: Peer("isthmus_fit.py", options={"infer": True}),
    "Keras on TensorFlow": TENSORFLOW,
    "Keras on TensorFlow, batches of 1024": replace(TENSORFLOW, options=LARGE),
    "Keras on JAX": KERAS_JAX,
    "Keras on JAX, batches of 1024": replace(KERAS_JAX, options=LARGE),
    "Keras on torch": KERAS_TORCH,
    "JAX, one call": JAX,
    "PyTorch DataLoader": LOADER,
}
QUALITY = {
    US: Peer("isthmus_quality.py", options={"task": "default"}),
    "isthmus, as published": Peer("isthmus_quality.py", options={"task": "published"}),
    "Keras on TensorFlow": replace(TENSORFLOW, script="keras_quality.py", options={"task": "published"}),
}
DETECTORS = {
    US: Peer("isthmus_detector.py"),
    "PyOD AutoEncoder": Peer("pyod_fit.py", "pyod", ("pyod==3.6.7", "tqdm"), shares=True),
}
MANY = {
    US: Peer("isthmus_many.py", options={"task": "together"}),
    "isthmus, one after the other": Peer("isthmus_many.py", options={"task": "alone"}),
    "isthmus, one model": Peer("isthmus_many.py", options={"task": "one"}),
}
FIRST_STEPS = {
    US: Peer("first_step_isthmus.py"),
    "Keras on TensorFlow": replace(TENSORFLOW, script="first_step_keras.py"),
    "Keras on JAX": replace(KERAS_JAX, script="first_step_keras.py"),
    "Keras on torch": replace(KERAS_TORCH, script="first_step_keras.py"),
    "PyTorch": Peer("first_step_torch.py"),
}


def on_device() -> dict[str, Peer]:
    """Who trains on a GPU; JAX as it is installed here, else in its own environment.

    JAX takes TF32 for matrix products of single precision unless told otherwise, and isthmus does when asked to: both
    are timed both ways.
    """
    card = Peer("jax_scan.py", "jax-cuda", (f"jax[cuda12]=={JAX_VERSION}",))
    scan = replace(Peer("jax_scan.py") if importlib.util.find_spec("jax") else card, only=JAX.only)
    shared = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}  # the card is not JAX's alone
    single = shared | {"JAX_DEFAULT_MATMUL_PRECISION": "float32"}
    return {
        US: TRAINING[US],
        "isthmus, TF32": replace(TRAINING[US], options={"precision": "tf32"}),
        "PyTorch DataLoader": LOADER,
        "JAX scan": replace(scan, variables=single),
        "JAX scan, TF32": replace(scan, variables=shared),
    }
