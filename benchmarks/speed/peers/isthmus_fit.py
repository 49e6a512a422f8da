"""isthmus: one long fit with the same network, optimiser and batch size, whose callback waits for each request."""

from __future__ import annotations

from typing import Any

import numpy as np
from protocol import Job, Workload, notes, requests, serve, told

from isthmus import Adam, Autoencoder, Callback, Contractive, Convolutional, Dense, Gaussian, GaussianNoise, Plain


def model_of(workload: Workload, max_epochs: int, **more: Any) -> Autoencoder:
    """The estimator of a workload."""
    return Autoencoder(
        workload.code_size,
        network=network_of(workload),
        code=Gaussian() if workload.variational else Plain("sigmoid" if workload.contraction else "relu"),
        corruption=GaussianNoise(workload.noise) if workload.noise else None,
        penalty=Contractive(workload.contraction) if workload.contraction else None,
        loss="binary-cross-entropy" if workload.loss == "bce" else "mean-squared-error",
        schedule="constant",
        learning_rate=1e-3,
        optimizer=Adam(epsilon=1e-7),
        batch_size=workload.batch_size,
        max_epochs=max_epochs,
        device=workload.device,
        random_state=0,
        **more,
    )


def network_of(workload: Workload) -> Dense | Convolutional:
    as_published = {"activation": "relu", "initialization": "glorot-uniform"}
    if workload.channels:
        return Convolutional(workload.channels, **as_published)
    decoder = workload.sizes[workload.half + 1 : -1]
    return Dense(workload.sizes[1 : workload.half], decoder_sizes=decoder, **as_published)


def shaped(workload: Workload, X: np.ndarray) -> np.ndarray:
    return X.reshape(-1, 28, 28) if workload.channels else X


class WhenAsked(Callback):
    """Lets each epoch wait until the harness asks for one; its answer covers all that the epoch costs a user."""

    def __init__(self) -> None:
        self.requests = requests()

    def on_epoch_start(self, run: Any) -> None:
        next(self.requests)

    def on_epoch_end(self, run: Any) -> None:
        notes["loss"] = float(run.history["loss"][-1])


def train(job: Job) -> None:
    """Fit until the harness has had enough."""
    precision = job.options.get("precision", "float32")
    model = model_of(job.workload, 100_000, callbacks=[WhenAsked()], precision=precision)
    model.fit(shaped(job.workload, job.rows))


def infer(job: Job) -> dict[str, Any]:
    """The verbs of a fitted model."""
    X = shaped(job.workload, job.rows)
    model = model_of(job.workload, 1).fit(X)
    verbs = (model.transform, model.reconstruct, model.reconstruction_error)
    return {verb.__name__: lambda verb=verb: verb(X) for verb in verbs}


if __name__ == "__main__":
    job = told()
    if job.options.get("infer"):
        serve(infer, job)
    else:
        train(job)
