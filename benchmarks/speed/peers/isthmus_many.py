"""isthmus: models of one kind that differ in seed and learning rate, fitted together, one by one, or only one."""

from __future__ import annotations

from typing import Any

from isthmus_fit import model_of
from protocol import Job, serve
from sklearn.base import clone
from sklearn.model_selection import ParameterGrid

from isthmus import fit_many


def prepare(job: Job) -> dict[str, Any]:
    X, model = job.rows, model_of(job.workload, 1)

    def grid(n_models: int) -> dict[str, list[Any]]:
        return {"random_state": list(range(n_models // 2)), "learning_rate": [1e-3, 2e-3]}

    def alone(n_models: int) -> None:
        for point in ParameterGrid(grid(n_models)):
            clone(model).set_params(**point).fit(X)

    return {
        "together": lambda n_models: fit_many(model, X, grid(n_models)),
        "alone": alone,
        "one": lambda n_models: clone(model).fit(X),  # noqa: ARG005  # asked like the others
    }


serve(prepare)
