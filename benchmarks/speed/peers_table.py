"""The peers: which script runs in which environment, and what that needs."""

from __future__ import annotations

from dataclasses import dataclass


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
    variables
        Environment variables of its process.
    """

    script: str
    environment: str = ""
    packages: tuple[str, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


TENSORFLOW = ("keras==3.15.1", "tensorflow-cpu==2.21.0", "numpy")
JAX = ("jax==0.10.2", "keras==3.15.1", "numpy")
PEERS = {
    "isthmus": Peer("isthmus_fit.py"),
    "Keras on TensorFlow": Peer("keras_fit.py", "tensorflow", TENSORFLOW, (("KERAS_BACKEND", "tensorflow"),)),
    "Keras on JAX": Peer("keras_fit.py", "jax", JAX, (("KERAS_BACKEND", "jax"),)),
    "JAX scan": Peer("jax_scan.py", "jax", JAX),
    "PyTorch DataLoader": Peer("torch_loader.py"),
    "scikit-learn MLPRegressor": Peer("sklearn_mlp.py"),
    "matrix products alone": Peer("floor.py"),
}
