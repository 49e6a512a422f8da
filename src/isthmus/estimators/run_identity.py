"""What a checkpoint records of its run, so that another run is not resumed from it by mistake."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from isthmus.data import Scaling, Source
from isthmus.estimators import persistence
from isthmus.estimators.targets import Target
from isthmus.training import Objective
from isthmus.training.checkpoint import digest_rows


def identity_of(
    kind: str,
    objective: Objective,
    scalings: tuple[Scaling, Target | None],
    parts: Mapping[str, tuple[Source, np.ndarray]],
    weights: np.ndarray | None = None,
) -> dict[str, Any]:
    """Properties, besides settings, that a run must share with a checkpoint to resume from it: by name, as JSON.

    The rows of `parts` are what steps need, so their digests cover labels and targets.
    """
    scaling, target = scalings
    pairs = {} if target is None else {"target": f"{target.shape}, {_learned(target.scaling)}"}
    context = {name: value for name, value in vars(objective.context).items() if name not in ("ranges", "target")}
    return {
        "model": kind,
        **persistence.fitted_choices(objective),
        "context": {**context, "feature_shape": list(objective.context.feature_shape)},
        "scaling": _learned(scaling),
        **pairs,
        **{
            name: f"{len(rows)} rows, SHA-256 {digest_rows(source, rows)[:16]}"
            for name, (source, rows) in parts.items()
        },
        **(
            {}
            if weights is None
            else {"sample_weight": f"SHA-256 {hashlib.sha256(weights.tobytes()).hexdigest()[:16]}"}
        ),
    }


def _learned(scaling: Scaling) -> str:
    """A digest of a learned scaling."""
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in scaling.to_arrays().values()))
    return f"{scaling.name}, SHA-256 {digest.hexdigest()[:16]}"
