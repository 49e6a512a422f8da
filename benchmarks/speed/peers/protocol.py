"""What the script of a peer and the harness say to each other: a JSON line of what to do, then a line a request."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

PACKAGES = ("isthmus", "torch", "keras", "tensorflow", "jax", "sklearn", "pyod", "pythae", "numpy")
"""Packages whose versions are reported if they are loaded."""


@dataclass(frozen=True)
class Workload:
    """An autoencoder and how it is trained: ReLU, Glorot weights, Adam at 0.001, sigmoid output, constant rate.

    Attributes
    ----------
    name
        Short.
    sizes
        Widths of all layers, from the input to the output.
    batch_size, loss, noise
        Rows a step; ``"bce"`` or ``"mse"``; deviation of the Gaussian noise drawn every step and clipped, or 0.
    channels
        Filters of the strided 3×3 convolutions before the code, mirrored after it; none for a dense network.
    variational
        Whether the code is a Normal distribution held near the standard one.
    contraction
        Weight of the squared norm of the Jacobian of a code of one sigmoid layer, or 0.
    n_rows
        Rows of an epoch.
    device
        ``"cpu"`` or ``"cuda"``.
    """

    name: str
    sizes: tuple[int, ...]
    batch_size: int
    loss: str = "bce"
    noise: float = 0.0
    channels: tuple[int, ...] = ()
    variational: bool = False
    contraction: float = 0.0
    n_rows: int = 60_000
    device: str = "cpu"

    @property
    def half(self) -> int:
        """How many layers come before the code."""
        return len(self.sizes) // 2

    @property
    def code_size(self) -> int:
        """The width in the middle."""
        return self.sizes[self.half]

    def __str__(self) -> str:
        kinds = {"variational": self.variational, "contractive": self.contraction, f"noise {self.noise:g}": self.noise}
        layers = (self.sizes[0], *(f"{width} filters" for width in self.channels), *self.sizes[1:])
        told = ["–".join(map(str, layers)), self.loss, f"batch {self.batch_size}", f"{self.n_rows:,} rows"]
        return f"{self.name}: {', '.join([*told, *(kind for kind, holds in kinds.items() if holds)])}"


class Job(NamedTuple):
    """What a script is to do."""

    workload: Workload
    folder: Path
    options: dict[str, Any]

    @property
    def rows(self) -> np.ndarray:
        """Rows in [0, 1] as float32 to learn from, (n, d)."""
        array: np.ndarray = np.load(self.folder / "rows.npy")
        return array[: self.workload.n_rows]

    @property
    def test_rows(self) -> np.ndarray:
        """Rows to measure on."""
        array: np.ndarray = np.load(self.folder / "test.npy")
        return array


_answers = sys.stdout
notes: dict[str, Any] = {}
"""Figures that the next answer contains besides its seconds."""


def told() -> Job:
    """The harness's first line; afterwards, what libraries print goes to stderr."""
    global _answers  # noqa: PLW0603  # the one channel to the harness
    _answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    line = json.loads(sys.stdin.readline())
    fields: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in line["workload"].items()}
    return Job(Workload(**fields), Path(line["folder"]), line["options"])


def requests() -> Iterator[dict[str, Any]]:
    """What the harness asks for, one request after the other; each is answered when the next one is fetched.

    The answer holds the seconds from one to the other, and the `notes`. The process ends when there are no more.
    """
    _answer({name: _version(name) for name in PACKAGES if name in sys.modules})
    for line in sys.stdin:
        asked = json.loads(line)
        notes.clear()
        began = time.perf_counter()
        yield asked
        _answer({"seconds": time.perf_counter() - began, **notes})
    raise SystemExit


def _version(name: str) -> str:
    return str(getattr(sys.modules[name], "__version__", None) or metadata.version(name))


def _answer(facts: Mapping[str, Any]) -> None:
    print(json.dumps(facts), file=_answers, flush=True)


def serve(prepare: Callable[[Job], Mapping[str, Callable[..., Any]]], job: Job | None = None) -> None:
    """Answer the harness: do the task that it names, with what it gives, and say how many seconds that took.

    Parameters
    ----------
    prepare
        Makes the tasks by name.
    job
        What was told, where that was read already.
    """
    tasks = prepare(job or told())
    for asked in requests():
        tasks[asked.pop("task")](**asked)
