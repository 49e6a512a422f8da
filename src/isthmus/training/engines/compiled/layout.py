"""The layout of a program's working memory."""

from __future__ import annotations

from typing import NamedTuple

import torch

from isthmus.choices.formulas import Formula, differentiated
from isthmus.training.engines.compiled.batch_penalties import ROOMS, looks
from isthmus.training.engines.compiled.plans import PARTS, Plan
from isthmus.training.engines.compiled.target import Processor


class Room(NamedTuple):
    """A matrix with a row for each row of a batch: its offset, its stride in numbers, and the numbers of a row."""

    place: int
    stride: int
    size: int


class Layout:
    """The rooms of a plan.

    Parameters
    ----------
    plan
        What the program is written for.
    processor
        For which processor.

    Attributes
    ----------
    given, outputs
        What goes into each layer, and what comes out of it.
    gradients, back
        The gradients of what comes out of each layer before its activation, and of what goes in.
    slopes
        Of activations whose slope does not follow from what comes out.
    columns
        What penalties know of a batch as a whole.
    coding
        What a code that is drawn keeps.
    constant_slopes
        The derivatives of such a code that are the same for all numbers.
    losses
        The parts of the loss of each row.
    size
        Numbers in all.
    """

    def __init__(self, plan: Plan, processor: Processor) -> None:
        self.size, self._width = 0, processor.width
        self._n_rows = plan.n_rows + processor.rows  # tiles are whole: rows behind the last are computed and not used
        self.outputs = [self._room(layer.outer) for layer in plan.layers]
        self.given = [self._room(plan.layers[0].inner), *self.outputs[:-1]]
        self.gradients = [*(self._room(layer.outer) for layer in plan.layers[:-1]), self.outputs[-1]]
        self.back = [self.given[0], *self.gradients[:-1]]  # that of the rows themselves is not wanted
        self.slopes = [self._room(layer.outer) if _keeps(layer.activation) else None for layer in plan.layers]
        self.losses = self._room(PARTS)
        code = self.given[plan.n_encoder]
        self.columns = {name: self._room(code.size) for name in ROOMS} if looks(plan.penalties) else {}
        self.coding: dict[str, Room] = {}
        self.constant_slopes: dict[str, float] = {}
        if plan.drawn is not None:
            self._draw(plan.n_encoder, plan.layers[plan.n_encoder].inner, plan.drawn)

    def _room(self, size: int) -> Room:
        stride = self._width * (-(-size // self._width) | 1)  # odd, so that rows do not share cache lines
        place = self.size
        self.size += self._n_rows * stride
        return Room(place, stride, size)

    def _draw(self, first: int, code_size: int, drawn: Formula) -> None:
        """Replace the encoder's outputs by codes as the decoder's input."""
        self.n_inputs = self.outputs[first - 1].size // code_size
        slopes = slopes_of(drawn, self.n_inputs)
        self.constant_slopes = {name: slope for name, slope in slopes.items() if isinstance(slope, float)}
        names = ("code", "code_gradient", "noise", *(name for name in slopes if name not in self.constant_slopes))
        self.coding = {name: self._room(code_size) for name in names}
        self.coding |= {"given": self.outputs[first - 1], "given_gradient": self.gradients[first - 1]}
        self.coding["losses"] = self.losses
        self.given[first], self.back[first] = self.coding["code"], self.coding["code_gradient"]


def slopes_of(drawn: Formula, n_inputs: int) -> dict[str, object]:
    """The derivatives of a drawn code and of its prior with respect to each input, traced with zeros."""
    zero = torch.zeros(())
    z, nats = differentiated(drawn.function, *[zero] * n_inputs, given=[zero])
    return {f"{name}_{i}": slope for name, dual in (("z", z), ("nats", nats)) for i, slope in enumerate(dual.slopes)}


def _keeps(activation: Formula | None) -> bool:
    return activation is not None and activation.slope_by_value is None
