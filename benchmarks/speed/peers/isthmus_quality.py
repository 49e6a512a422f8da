"""isthmus: whole fits until the test loss is as wanted, by default and with the published settings."""

from __future__ import annotations

import time
from typing import Any

from isthmus_fit import model_of
from protocol import Job, notes, serve

from isthmus import Autoencoder, Callback


class Until(Callback):
    """Stops when the validation loss is as wanted."""

    def __init__(self, loss: float) -> None:
        self.loss = loss

    def on_epoch_end(self, run: Any) -> None:
        if run.history["val_reconstruction"][-1] <= self.loss:
            run.stop("as wanted")


def prepare(job: Job) -> dict[str, Any]:
    X, X_test, workload = job.rows, job.test_rows, job.workload

    def by_default(loss: float, max_epochs: int, seed: int) -> None:
        """All a user says is the layers and the number of epochs; the fewest that suffice count, alone."""
        for epochs in range(1, max_epochs + 1):
            sizes = workload.sizes[1 : workload.half]
            model = Autoencoder(workload.code_size, network=sizes, max_epochs=epochs, random_state=seed)
            began = time.perf_counter()
            model.fit(X)
            seconds, reached = time.perf_counter() - began, -model.score(X_test)
            if reached <= loss:
                notes.update(seconds=seconds, epochs=epochs, loss=reached)
                return
        raise SystemExit(f"The loss is {reached:.4f} after {max_epochs} epochs.")

    def as_published(loss: float, max_epochs: int, seed: int) -> None:
        model = model_of(workload, max_epochs, callbacks=[Until(loss)]).set_params(random_state=seed)
        history = model.fit(X, X_val=X_test).history_
        reached = history["val_reconstruction"][-1]
        if reached > loss:
            raise SystemExit(f"The loss is {reached:.4f} after {max_epochs} epochs.")
        notes.update(seconds=history["seconds"].sum(), epochs=len(history), loss=reached)

    return {"default": by_default, "published": as_published}


serve(prepare)
