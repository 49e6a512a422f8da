"""A step as one captured graph: on CUDA, the dozens of kernels of a step are launched by one call.

Launching costs the host some microseconds a kernel, which is more than small networks compute in one. A graph is
recorded once and replayed on buffers that stay where they are: rows and learning rate are copied in, the loss is copied
out.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from isthmus.exceptions import IsthmusWarning
from isthmus.training.objective import LossParts

WARM_UP = 3
"""Steps taken without a graph, in which the libraries allocate what they keep."""

Work = Callable[[], LossParts]
StepFunction = Callable[[Tensor, float | Tensor, torch.Generator | None], LossParts]


class Recorder(Protocol):
    """Makes of work on fixed buffers something that does it again."""

    def warm_up(self, work: Work) -> LossParts:
        """Do the work as it is, in a way that a later recording allows."""

    def record(self, work: Work, generator: torch.Generator | None) -> tuple[Callable[[], object], LossParts]:
        """What repeats the work, and where its results then lie. Recording does not do the work."""


class CudaRecorder:
    """Records CUDA graphs (``torch.cuda.CUDAGraph``), noise of the generator included."""

    def warm_up(self, work: Work) -> LossParts:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            parts = work()
        torch.cuda.current_stream().wait_stream(stream)
        return parts

    def record(self, work: Work, generator: torch.Generator | None) -> tuple[Callable[[], object], LossParts]:
        graph = torch.cuda.CUDAGraph()
        if generator is not None:
            graph.register_generator_state(generator)
        with torch.cuda.graph(graph):
            parts = work()
        return graph.replay, parts


class RecordedStep:
    """Takes full batches by a recorded step, all others, and all that cannot be recorded, by the step itself.

    Parameters
    ----------
    step
        Takes rows, learning rate and generator, and trains on the rows.
    rows
        Room for a full batch, (n, row width), on the device.
    recorder
        How.
    """

    def __init__(self, step: StepFunction, rows: Tensor, recorder: Recorder) -> None:
        self.step, self.recorder = step, recorder
        self._x, self._rate = rows, rows.new_zeros(())
        self._taken, self._replay, self._out = 0, None, None

    _replay: Callable[[], object] | None
    _out: Tensor | None

    def __call__(self, x: Tensor, learning_rate: float, generator: torch.Generator | None) -> LossParts:
        """As the step itself."""
        if self.recorder_is_out or len(x) != len(self._x):
            return self.step(x, learning_rate, generator)
        self._x.copy_(x)
        self._rate.fill_(learning_rate)
        self._taken += 1
        if self._taken <= WARM_UP:
            return self.recorder.warm_up(lambda: self.step(self._x, learning_rate, generator))
        if self._replay is None and not self._record(generator):
            return self.step(x, learning_rate, generator)
        assert self._replay is not None
        assert self._out is not None
        self._replay()
        return LossParts(*self._out.clone().unbind())

    recorder_is_out = False
    """Whether recording has failed, so that every step is taken without."""

    def _record(self, generator: torch.Generator | None) -> bool:
        """Record the step; where the device refuses (a value was asked of it), say so and go on without."""
        out = self._x.new_empty(len(LossParts._fields))

        def work() -> LossParts:
            parts = self.step(self._x, self._rate, generator)
            torch.stack([part.detach() for part in parts], out=out)
            return parts

        try:
            self._replay, _ = self.recorder.record(work, generator)
        except RuntimeError as error:
            self.recorder_is_out = True
            reason = str(error).partition("\n")[0]
            text = f"This step cannot be captured as a CUDA graph and runs without: {reason}"
            warnings.warn(text, IsthmusWarning, stacklevel=2)
            return False
        self._out = out
        return True
