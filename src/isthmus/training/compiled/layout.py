"""Where in the working memory of a program everything lies."""

from __future__ import annotations

from typing import NamedTuple

from isthmus.training.compiled.columns import ROOMS, looks
from isthmus.training.compiled.formulas import ACTIVATIONS
from isthmus.training.compiled.machine import Machine
from isthmus.training.compiled.plans import PARTS, Plan


class Room(NamedTuple):
    """A matrix with a row for each row of a batch: where it begins, numbers from row to row, and in a row."""

    place: int
    stride: int
    size: int


class Layout:
    """The rooms of a plan.

    Parameters
    ----------
    plan
        What the program is written for.
    machine
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
    losses
        The parts of the loss of each row.
    size
        Numbers in all.
    """

    def __init__(self, plan: Plan, machine: Machine) -> None:
        self.size, self._width = 0, machine.width
        self._n_rows = plan.n_rows + machine.rows  # tiles are whole: rows behind the last are computed and not used
        self.outputs = [self._room(layer.outer) for layer in plan.layers]
        self.given = [self._room(plan.layers[0].inner), *self.outputs[:-1]]
        self.gradients = [*(self._room(layer.outer) for layer in plan.layers[:-1]), self.outputs[-1]]
        self.back = [self.given[0], *self.gradients[:-1]]  # that of the rows themselves is not wanted
        self.slopes = [self._room(layer.outer) if _keeps(layer.activation) else None for layer in plan.layers]
        self.losses = self._room(PARTS)
        code = self.given[plan.n_encoder]
        self.columns = {name: self._room(code.size) for name in ROOMS} if looks(plan.penalties) else {}
        self.coding: dict[str, Room] = {}
        if plan.is_drawn:
            self._draw(plan.n_encoder, plan.layers[plan.n_encoder].inner)

    def _room(self, size: int) -> Room:
        stride = self._width * (-(-size // self._width) | 1)  # odd, so that rows do not share cache lines
        place = self.size
        self.size += self._n_rows * stride
        return Room(place, stride, size)

    def _draw(self, first: int, code_size: int) -> None:
        """The decoder is given codes, not what the encoder says."""
        names = ("code", "code_gradient", "noise", "bent", "deviation")
        self.coding = {name: self._room(code_size) for name in names}
        self.coding |= {"told": self.outputs[first - 1], "told_gradient": self.gradients[first - 1]}
        self.coding["losses"] = self.losses
        self.given[first], self.back[first] = self.coding["code"], self.coding["code_gradient"]


def _keeps(activation: str) -> bool:
    return activation in ACTIVATIONS and ACTIVATIONS[activation].slope is None
