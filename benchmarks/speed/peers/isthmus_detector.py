"""isthmus: what PyOD's AutoEncoder does in one call: standardise, fit by squared error, score the training rows."""

from __future__ import annotations

from typing import Any

from isthmus_fit import network_of
from protocol import Job, serve

from isthmus import Autoencoder, Plain


def prepare(job: Job) -> dict[str, Any]:
    X, workload = job.rows, job.workload

    def fit(epochs: int) -> None:
        model = Autoencoder(
            workload.code_size,
            network=network_of(workload),
            code=Plain("relu"),
            scaling="standard",
            loss="mean-squared-error",
            schedule="constant",
            learning_rate=1e-3,
            batch_size=workload.batch_size,
            max_epochs=epochs,
            random_state=42,
        )
        model.fit(X).reconstruction_error(X)

    return {"fit": fit}


serve(prepare)
