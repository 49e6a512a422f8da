"""isthmus: the same network, optimiser and batch size; one epoch is one pass of the engine."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from protocol import Workload, serve

from isthmus import Adam, Autoencoder, Dense, GaussianNoise, Plain
from isthmus.estimators.fitting import prepare as prepare_run
from isthmus.estimators.validation import take
from isthmus.training.devices import threads_for
from isthmus.training.loop import _run_epoch
from isthmus.training.objective import count_multiplications


def prepare(workload: Workload, X: np.ndarray):  # type: ignore[no-untyped-def]
    half = len(workload.sizes) // 2
    model = Autoencoder(
        workload.sizes[half],
        network=Dense(
            workload.sizes[1:half],
            decoder_sizes=workload.sizes[half + 1 : -1],
            activation="relu",
            initialization="glorot-uniform",
        ),
        code=Plain("relu"),
        corruption=GaussianNoise(workload.noise) if workload.noise else None,
        loss="binary-cross-entropy" if workload.loss == "bce" else "mean-squared-error",
        schedule="constant",
        learning_rate=1e-3,
        optimizer=Adam(epsilon=1e-7),
        batch_size=workload.batch_size,
        max_epochs=1,
        random_state=0,
    )
    model.fit(X)
    run = prepare_run(model, take(model, X), None).run
    run.objective.train()

    def epoch() -> None:
        run.settings = replace(run.settings, max_epochs=run.epoch + 1)
        with threads_for(6.0 * count_multiplications(run.objective) * workload.batch_size):
            _run_epoch(run)

    return epoch, model.transform


serve(prepare)
