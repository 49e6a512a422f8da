"""The rows of the table: each fits what it needs and adds its figures."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from benchmarks.restoration import sets
from benchmarks.restoration.harness import Figure, Sheet, timed
from isthmus import Huber, Restorer

ROWS: dict[str, Callable[[Sheet], None]] = {}


def row(function: Callable[[Sheet], None]) -> Callable[[Sheet], None]:
    """Decorator: a row, by the name of its function."""
    ROWS[function.__name__.replace("_", "-")] = function
    return function


@row
def documents(sheet: Sheet) -> None:
    """Scanned pages, trained on the first 84, tested on the other 24."""
    noisy, clean, _ = sets.documents()
    train, test = slice(None, sets.N_DOCUMENTS), slice(sets.N_DOCUMENTS, None)
    with timed() as clock:
        restorer = Restorer(
            loss=Huber(delta=0.05), augment=False, max_steps=sheet.steps(5000), random_state=sheet.seed, verbose=1
        ).fit(noisy[train], target=clean[train])
    restorer.save(sheet.folder / f"documents-{sheet.seed}.safetensors")
    restored = restorer.restore(noisy[test])
    for what, images in (("before", noisy[test]), ("after", restored)):
        errors = [np.square(one / 255 - other / 255.0).mean() for one, other in zip(images, clean[test], strict=True)]
        rmse, target = float(np.sqrt(np.mean(errors))), 0.022 if what == "after" else None
        sheet.add(Figure("documents", f"RMSE {what}", rmse, "≤", target, sheet.seed, clock.minutes))
