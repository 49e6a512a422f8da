"""Networks that the compiler takes: chains of linear layers, each followed by an activation or none."""

from __future__ import annotations

from torch import nn

from isthmus.choices.layers import Activation, activation_of


def followed(network: nn.Module) -> list[tuple[nn.Linear, Activation | None]]:
    """The linear layers of a chain, each with the activation that follows it, or None."""
    layers = list(network.children())
    following = [*layers[1:], nn.Identity()]
    return [
        (layer, activation_of(behind))
        for layer, behind in zip(layers, following, strict=True)
        if isinstance(layer, nn.Linear)
    ]


def is_chain(network: nn.Module) -> bool:
    """Whether a network is a chain of linear layers, each followed by nothing or an activation with a formula.

    >>> is_chain(nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 2)))
    True
    >>> is_chain(nn.Sequential(nn.Linear(2, 3), nn.Dropout(), nn.Linear(3, 2)))
    False
    """
    if not isinstance(network, nn.Sequential) or not len(network) or not isinstance(network[0], nn.Linear):
        return False
    kinds = [type(layer) for layer in network]
    known = all(
        kind is nn.Linear or (kinds[place - 1] is nn.Linear and activation_of(network[place]) is not None)
        for place, kind in enumerate(kinds)
    )
    return known and all(layer.bias is not None for layer in network if isinstance(layer, nn.Linear))
