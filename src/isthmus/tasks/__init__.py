"""Jobs that a trained autoencoder does."""

from isthmus.tasks.transfer import EncoderClassifier

__all__ = ["EncoderClassifier"]
