"""Telling a wrong kind of model, wherever only an autoencoder will do."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import check_is_fitted

from isthmus.estimators.autoencoder import Autoencoder

_REMEDIES = {
    "AnomalyDetector": "detector.explain(X) and isthmus.write_anomaly_report tell of a detector",
    "SignalDetector": "detector.explain(X) tells of a detector of signals",
    "EncoderClassifier": "give its autoencoder, model.encoder_",
    "Recommender": "isthmus.evaluate_recommender tells of a recommender; its autoencoder is model.model_",
}


def require_autoencoder(model: Any, what: str) -> Autoencoder:
    """The model itself, which must be a fitted `Autoencoder`.

    Parameters
    ----------
    model
        What was given.
    what
        Who asks, such as ``"write_report"``.

    Raises
    ------
    TypeError
        It is another kind of object.
    NotFittedError
        It is not fitted.
    """
    if not isinstance(model, Autoencoder):
        kind = model.__name__ if isinstance(model, type) else type(model).__name__
        given = f"the class {kind}, which has to be made and fitted first" if isinstance(model, type) else kind
        remedy = _REMEDIES.get(kind, "give a model such as Autoencoder(8).fit(X)")
        raise TypeError(f"{what} takes a fitted autoencoder, but was given {given}; {remedy}.")
    check_is_fitted(model, "objective_")
    return model
