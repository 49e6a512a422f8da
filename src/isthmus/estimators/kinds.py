"""Error messages for functions that need an autoencoder and get another kind of model."""

from __future__ import annotations

from typing import Any

from sklearn.utils.validation import check_is_fitted

from isthmus.estimators.autoencoder import Autoencoder
from isthmus.estimators.targets import refuse_pairs

_REMEDIES = {
    "AnomalyDetector": "for a detector use detector.explain(X) or isthmus.write_anomaly_report",
    "SignalDetector": "for a signal detector use detector.explain(X)",
    "EncoderClassifier": "pass its autoencoder, model.encoder_",
    "Recommender": "for a recommender use isthmus.evaluate_recommender, or pass its autoencoder, model.model_",
}


def require_autoencoder(model: Any, what: str, *, compares: bool = True) -> Autoencoder:
    """Return the model if it is a fitted `Autoencoder`, and one that restores its input if it is compared with that.

    Parameters
    ----------
    model
        Any object.
    what
        The calling function, such as ``"write_report"``.

    Raises
    ------
    TypeError
        It is not an `Autoencoder`.
    NotFittedError
        It is not fitted.
    ValueError
        It was fitted with a target, so its answers cannot be compared with X.
    """
    if not isinstance(model, Autoencoder):
        kind = model.__name__ if isinstance(model, type) else type(model).__name__
        given = f"the class {kind} instead of a fitted object" if isinstance(model, type) else kind
        remedy = _REMEDIES.get(kind, "pass a model such as Autoencoder(8).fit(X)")
        raise TypeError(f"{what} needs a fitted autoencoder, but got {given}; {remedy}.")
    check_is_fitted(model, "objective_")
    if compares:
        refuse_pairs(model, what, "use score(X, target=…) and reconstruction_error(X, target=…)")
    return model
