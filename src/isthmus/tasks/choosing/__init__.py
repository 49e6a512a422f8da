"""Choosing the hyper-parameters of an autoencoder in a given time."""

from isthmus.tasks.choosing.choose import Chosen, choose

__all__ = ["Chosen", "choose"]
