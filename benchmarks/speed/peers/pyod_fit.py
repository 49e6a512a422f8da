"""PyOD's AutoEncoder: a whole fit, which ends with the scores of the rows it learned from."""

from __future__ import annotations

from typing import Any

from protocol import Job, serve
from pyod.models.auto_encoder import AutoEncoder


def prepare(job: Job) -> dict[str, Any]:
    X, workload = job.rows, job.workload

    def fit(epochs: int) -> None:
        AutoEncoder(
            epoch_num=epochs,
            batch_size=workload.batch_size,
            hidden_neuron_list=list(workload.sizes[1 : workload.half + 1]),
            batch_norm=False,
            dropout_rate=0.0,
            verbose=0,
        ).fit(X)

    return {"fit": fit}


serve(prepare)
