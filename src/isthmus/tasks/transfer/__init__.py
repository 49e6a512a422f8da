"""Transfer learning: a classifier on a pretrained encoder."""

from isthmus.tasks.transfer.classifier import EncoderClassifier

__all__ = ["EncoderClassifier"]
