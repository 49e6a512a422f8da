"""Where training begins: bounded codes and deep networks restore the mean row before the first step, and deep ReLU
networks have codes with several directions.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from isthmus.choices.codes import Code, Plain
from isthmus.choices.layers import ACTIVATIONS
from isthmus.choices.losses import Loss
from isthmus.choices.networks import Dense, Network

FARTHEST = 6.0
"""Raw outputs are sought between minus and plus this: a pixel that is never lit begins at sigmoid(-6) = 0.0025."""
HALVINGS = 40


def is_bounded(code: Code) -> bool:
    """Whether the numbers of a code stay in an interval, as those of a sigmoid do.

    >>> is_bounded(Plain("tanh")), is_bounded(Plain("relu")), is_bounded(Plain())
    (True, False, False)
    """
    if not isinstance(code, Plain) or code.activation is None:
        return False
    ends = ACTIVATIONS[code.activation]()(torch.tensor([-1e6, 1e6]))
    return bool(ends.abs().max() < 1e3)


DEEP = 4
"""Hidden layers of an encoder from which a network is deep."""


def is_deep(network: Network) -> bool:
    """Whether a dense network is so deep that the way to the mean row would leave two code units on one line.

    6,000 digits of MNIST, 784-128-64-32-16-8-4-2, 4 epochs: the two units correlate by -0.52 and restore 22 % of the
    variance; with a start at the mean by -0.19, and 27 %.
    """
    return isinstance(network, Dense) and len(network.hidden_sizes) >= DEEP


def may_fold(network: Network, code: Code) -> bool:
    """Whether the code of a fresh network may start on a line: a deep dense one of ReLU units, and a plain code.

    Each ReLU layer gives outputs that are positive and therefore alike, and units that are zero for every row. A code
    with an activation of its own is left as it was published.
    """
    plain_code = isinstance(code, Plain) and code.activation is None
    return is_deep(network) and isinstance(network, Dense) and plain_code and network.activation == "relu"


@torch.no_grad()
def begin_spread(encoder: nn.Module, rows: Tensor) -> None:
    """Scale and shift each linear layer so that its outputs for some rows have mean 0 and deviation 1.

    Every ReLU unit is then active for about half of the rows (data-dependent initialisation, Salimans & Kingma 2016,
    eq. 5-6). 6,000 digits of MNIST, 784-128-64-32-16-8-4-2 with ReLU, 4 epochs, three seeds: the second singular value
    of the codes is 0.48, 0.42 and 0.76 of the first instead of 0.21, 0.22 and 0.01, and 28, 30 and 30 % of the variance
    are restored instead of 27, 25 and 16 %. The decoder stays: with its layers scaled too, one of the three codes was a
    line.

    Parameters
    ----------
    encoder
        Layers in a sequence; others are left as they are.
    rows
        Scaled training rows, (n, d), n >= 2.
    """
    if not isinstance(encoder, nn.Sequential) or len(rows) < 2:
        return
    h = rows
    for layer in encoder:
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            z = layer(h)  # (n, units)
            spread = z.std(dim=0)
            spread = torch.where(spread > SMALLEST_SPREAD, spread, torch.ones_like(spread))
            layer.weight /= spread[:, None]
            layer.bias.copy_((layer.bias - z.mean(dim=0)) / spread)
        h = layer(h)


SMALLEST_SPREAD = 1e-6
"""Deviation of a unit below which it is constant and keeps its weights."""


@torch.no_grad()
def begin_at_rate(encoder: nn.Module, decoder: nn.Module, code: Plain, rate: float | None = None) -> None:
    """Let the units of a fresh bounded code start at a mean activation, in the middle by default, as if unbounded.

    With a penalty on the rate, units that start in the middle (1/2) are pushed down together before they have learned
    anything, and then lie where a sigmoid is flat. 5,000 digits of MNIST, 64 units at 0.05, 8 epochs: 49 % of the
    variance of held-out rows with a start in the middle, 82 % at the rate; L1 78 %.
    """
    layers = [layer for layer in encoder.modules() if isinstance(layer, nn.Linear)]
    start = 0.0
    if rate is not None and code.activation == "sigmoid" and layers and layers[-1].bias is not None:
        start = math.log(rate / (1.0 - rate))
        layers[-1].bias.fill_(start)
    begin_as_plain(decoder, code, start)


@torch.no_grad()
def begin_as_plain(decoder: nn.Module, code: Plain, start: float = 0.0) -> None:
    """Scale a fresh decoder's first linear layer so that it sees of a bounded code what it would of a plain one.

    Around zero, a sigmoid gives 1/2 + h / 4: the weights are multiplied by 4, and the bias takes the 1/2 away. The
    activation's value and slope at zero, or at another `start`, say by how much; tanh needs neither at zero.
    """
    first = next((layer for layer in decoder.modules() if isinstance(layer, nn.Linear)), None)
    if first is None or code.activation is None:
        return
    value, slope = _at(start, ACTIVATIONS[code.activation]())
    first.weight.div_(slope)
    first.bias.sub_(first.weight.sum(1) * value)


def _at(start: float, activation: nn.Module) -> tuple[float, float]:
    with torch.enable_grad():
        h = torch.tensor(start, dtype=torch.double, requires_grad=True)
        value = activation(h)
        (slope,) = torch.autograd.grad(value, h)
    return float(value.detach()), float(slope)


@torch.no_grad()
def begin_at_mean(decoder: nn.Module, loss: Loss, mean: Tensor) -> None:
    """Set the biases of a fresh decoder's last layer so that it restores the mean row from a code of zero.

    Otherwise all rows first want the same, the mean row, and the way there is to drive every unit of the code to one
    end. A unit without bounds comes back; one of a sigmoid or tanh is saturated then and has no gradient left. 5,000
    digits of MNIST, code size 16, 8 epochs: 0 % of the variance restored without, 71 % (sigmoid) and 79 % (tanh) with.

    Parameters
    ----------
    decoder
        Its last layer is changed, if that has biases: one for each feature, or one for each channel.
    loss
        Whose link turns outputs into rows.
    mean
        Of the scaled rows, (d,).
    """
    biases = [getattr(layer, "bias", None) for layer in decoder.modules() if not list(layer.children())]
    last = next((bias for bias in reversed(biases) if isinstance(bias, Tensor)), None)
    if last is None or len(mean) % len(last):
        return
    wanted = mean.to(last).view(-1, len(last)).mean(0)  # (d,), or (channels,): the channels of a row come last
    low, high = torch.full_like(wanted, -FARTHEST), torch.full_like(wanted, FARTHEST)
    for _ in range(HALVINGS):  # links rise, so halving finds their inverse, whichever they are
        middle = (low + high) / 2
        below = loss.link(middle[None])[0] < wanted
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    last.copy_((low + high) / 2)
