"""What is known of a served model, as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import msgspec

from isthmus import __version__
from isthmus.estimators import params_json
from isthmus.serving.limits import Limits
from isthmus.serving.routes import Route


def facts_of(model: Any, routes: Mapping[str, Route], limits: Limits) -> bytes:
    """Kind, columns, routes and settings of a model, and the limits of the server."""
    names = getattr(model, "feature_names_in_", None)
    facts = {
        "model": type(model).__name__,
        "isthmus": __version__,
        "routes": {f"/{route.name}": route.summary for route in routes.values()},
        "n_features": getattr(model, "n_features_in_", None),
        "columns": None if names is None else [*map(str, names)],
        "settings": _settings(model),
        "limits": asdict(limits),
    }
    return msgspec.json.encode(_finite(facts))


def _settings(model: Any) -> Any:
    if hasattr(model, "describe"):
        return model.describe()
    return params_json.encode(model.get_params(deep=False))


def _finite(facts: Any) -> Any:
    if isinstance(facts, Mapping):
        return {str(name): _finite(part) for name, part in facts.items()}
    if isinstance(facts, list | tuple):
        return [_finite(part) for part in facts]
    if isinstance(facts, float) and not math.isfinite(facts):
        return None
    return facts if isinstance(facts, str | int | float | bool | None) else str(facts)
