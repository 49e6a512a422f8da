"""Steps as one captured graph: on CUDA, the dozens of kernels of each step are launched by one call.

Launching costs the host some microseconds a kernel, which is more than small networks compute in one. A graph is
recorded once and replayed on buffers that stay where they are: rows and learning rates are copied in, the losses are
copied out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from isthmus.exceptions import IsthmusWarning
from isthmus.training.objective import LossParts

WARM_UP = 3
"""Steps taken without a graph, in which the libraries allocate what they keep."""

StepFunction = Callable[[Tensor, float | Tensor, torch.Generator | None], LossParts]


class Recorder(Protocol):
    """Turns work on fixed buffers into a function that repeats it."""

    def warm_up(self, work: Callable[[], LossParts]) -> LossParts:
        """Do the work without recording, in the way that a later recording requires."""

    def record(self, work: Callable[[], None], generator: torch.Generator | None) -> Callable[[], object]:
        """A function that repeats the work; recording itself does not do it."""


class CudaRecorder:
    """Records CUDA graphs (``torch.cuda.CUDAGraph``), noise of the generator included."""

    def warm_up(self, work: Callable[[], LossParts]) -> LossParts:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            parts = work()
        torch.cuda.current_stream().wait_stream(stream)
        return parts

    def record(self, work: Callable[[], None], generator: torch.Generator | None) -> Callable[[], object]:
        graph = torch.cuda.CUDAGraph()
        if generator is not None:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            work()
        replay: Callable[[], object] = graph.replay
        return replay


class RecordedSteps:
    """Takes full batches by recorded graphs, and others, or steps that cannot be recorded, one by one.

    One graph holds all steps of a full chunk, since a launch and the copies around it take longer than a step of a
    small network does; another holds a single step, for what is left over.

    Parameters
    ----------
    step
        Takes rows, learning rate and generator, and trains on the rows.
    rows
        Room for the batches of a full chunk, (n_steps, n, row width), on the device.
    recorder
        How.
    """

    def __init__(self, step: StepFunction, rows: Tensor, recorder: Recorder) -> None:
        self.step, self.recorder = step, recorder
        self._rows, self._rates = rows, rows.new_zeros(len(rows))
        self._out = rows.new_empty(len(rows), len(LossParts._fields))
        self._taken = 0
        self._replays: dict[int, Callable[[], object]] = {}

    recorder_is_out = False
    """Whether recording has failed, so that every step is taken without."""

    def __call__(self, rows: Tensor, rates: Sequence[float], generator: torch.Generator | None) -> Tensor:
        """Train on some batches, (n_rows, row width), one for each rate; the parts of the loss, (n_steps, 4)."""
        n_steps, batch = self._rows.shape[:2]
        if self._taken >= WARM_UP and len(rates) == n_steps and len(rows) == n_steps * batch:
            return self._graph(rows, rates, generator)
        pieces = zip(rows.split(batch), rates, strict=True)
        return torch.cat([self._graph(x, [rate], generator) for x, rate in pieces])

    def _graph(self, rows: Tensor, rates: Sequence[float], generator: torch.Generator | None) -> Tensor:
        """Take steps by a graph of this many steps, which is recorded at the first call."""
        n_steps, n_rows = len(rates), self._rows.shape[1]
        if self.recorder_is_out or len(rows) != n_steps * n_rows:
            return self._one_by_one(rows, rates, generator)
        self._rows[:n_steps].copy_(rows.view(n_steps, n_rows, -1))
        self._rates[:n_steps].copy_(torch.tensor(rates))
        self._taken += n_steps
        if self._taken <= WARM_UP:
            return _logged([self.recorder.warm_up(lambda: self.step(self._rows[0], rates[0], generator))])
        if n_steps not in self._replays and not self._record(n_steps, generator):
            return self._one_by_one(rows, rates, generator)
        self._replays[n_steps]()
        return self._out[:n_steps].clone()

    def _one_by_one(self, rows: Tensor, rates: Sequence[float], generator: torch.Generator | None) -> Tensor:
        pieces = zip(rows.split(self._rows.shape[1]), rates, strict=True)
        return _logged([self.step(x, rate, generator) for x, rate in pieces])

    def _record(self, n_steps: int, generator: torch.Generator | None) -> bool:
        """Record steps; if the device refuses, because a value was read from it, warn and continue without graphs."""

        def work() -> None:
            for rows, rate, out in zip(self._rows[:n_steps], self._rates[:n_steps], self._out[:n_steps], strict=True):
                torch.stack([part.detach() for part in self.step(rows, rate, generator)], out=out)

        try:
            self._replays[n_steps] = self.recorder.record(work, generator)
        except RuntimeError as error:
            self.recorder_is_out = True
            reason = str(error).partition("\n")[0]
            text = f"This step cannot be captured as a CUDA graph and runs without: {reason}"
            warnings.warn(text, IsthmusWarning, stacklevel=2)
            return False
        return True


def _logged(parts: Sequence[LossParts]) -> Tensor:
    """The parts of the loss of some steps, (n_steps, 4)."""
    return torch.stack([part.detach() for each in parts for part in each]).view(len(parts), -1)  # at once: 15 µs each
