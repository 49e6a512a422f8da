"""What the script of a peer and the harness say to each other: a JSON line of what to train, then a line an epoch."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Workload:
    """A dense autoencoder and how it is trained: ReLU, Glorot weights, Adam at 0.001, sigmoid output.

    Attributes
    ----------
    sizes
        Widths of all layers, from the input to the output.
    batch_size, loss, noise
        Rows a step; ``"bce"`` or ``"mse"``; deviation of the Gaussian noise drawn every step and clipped, or 0.
    """

    name: str
    sizes: tuple[int, ...]
    batch_size: int
    loss: str = "bce"
    noise: float = 0.0


def serve(prepare: Callable[[Workload, np.ndarray], tuple[Callable[[], Any], Callable[[np.ndarray], Any]]]) -> None:
    """Answer the harness: train an epoch or encode all rows whenever it asks, and say how many seconds that took.

    Parameters
    ----------
    prepare
        Makes, from a workload and rows in [0, 1] as float32, what trains one epoch and what encodes rows.
    """
    told = json.loads(sys.stdin.readline())
    X = np.load(told["data"])
    workload = Workload(**{**told["workload"], "sizes": tuple(told["workload"]["sizes"])})
    epoch, encode = prepare(workload, X)
    work: dict[str, Callable[[], Any]] = {"epoch": epoch, "encode": lambda: encode(X)}
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        work[line.strip()]()
        print(json.dumps({"seconds": time.perf_counter() - began}), flush=True)
