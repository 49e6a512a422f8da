"""Keras: one fit with validation until the test loss is as wanted; the seconds of validation do not count."""

from __future__ import annotations

import time
from typing import Any

import keras
from keras_fit import models_of
from protocol import Job, notes, serve


class Until(keras.callbacks.Callback):
    """Stops when the validation loss is as wanted, and keeps the time that validation took."""

    def __init__(self, loss: float) -> None:
        super().__init__()
        self.loss, self.began, self.validating = loss, 0.0, 0.0

    def on_test_begin(self, logs: Any = None) -> None:
        self.began = time.perf_counter()

    def on_test_end(self, logs: Any = None) -> None:
        self.validating += time.perf_counter() - self.began

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.model.stop_training = logs["val_loss"] <= self.loss


def prepare(job: Job) -> dict[str, Any]:
    X, X_test = job.rows, job.test_rows

    def as_published(loss: float, max_epochs: int, seed: int) -> None:
        keras.utils.set_random_seed(seed)
        model, until = models_of(job.workload)[0], Until(loss)
        settings = {"epochs": max_epochs, "batch_size": job.workload.batch_size, "shuffle": True, "verbose": 0}
        began = time.perf_counter()
        history = model.fit(X, X, validation_data=(X_test, X_test), callbacks=[until], **settings).history
        reached = history["val_loss"][-1]
        if reached > loss:
            raise SystemExit(f"The loss is {reached:.4f} after {max_epochs} epochs.")
        seconds = time.perf_counter() - began - until.validating
        notes.update(seconds=seconds, epochs=len(history["val_loss"]), loss=reached)

    return {"published": as_published}


serve(prepare)
