"""Transfer learning: a classifier and a regressor on a pretrained encoder."""

from isthmus.tasks.transfer.classifier import EncoderClassifier
from isthmus.tasks.transfer.regressor import EncoderRegressor

__all__ = ["EncoderClassifier", "EncoderRegressor"]
