"""S27, S37, S39, S40: stacking, plots, out-of-distribution data, and the output of any layer."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import isthmus
from benchmarks.systems.harness import Measured, Sheet, default, fit, mnist, published, row
from isthmus import Autoencoder, Dense, EncoderClassifier, LayerWise, Masking, diagnose, plots
from isthmus.diagnosis import code_densities, code_map


@row("S27", minutes=15)
def s27(sheet: Sheet) -> None:
    """Stacked denoising 784-1000-1000-1000, then fine-tuned with labels on 50,000 + 10,000 images."""
    X, y, X_test, y_test = mnist()
    stack = Autoencoder(
        1000,
        network=Dense((1000, 1000), activation="relu"),
        code="relu",
        corruption=Masking(0.25),
        pretraining=LayerWise(max_epochs=5),
        max_epochs=1,
        batch_size=128,
        random_state=sheet.seed,
    )
    began = time.perf_counter()
    stack.fit(X)
    classifier = EncoderClassifier(
        stack, max_epochs=30, batch_size=128, corruption=Masking(0.2), dropout=0.5, random_state=sheet.seed
    ).fit(X, y)
    measured = Measured(stack, time.perf_counter() - began)
    error = 100 * (1 - classifier.score(X_test, y_test))
    sheet.add(measured, "test error after fine-tuning, % (Rifai 2011, Vincent 2010: 1.1–1.7)", error, "≤", 1.4)


@row("S37")
def s37(sheet: Sheet) -> None:
    """Each plot is one public function."""
    X, _, X_test, y_test = mnist()
    models = {
        "default": default((128,), 32, epochs=2).set_params(random_state=sheet.seed),
        "as published": published((128,), 32, epochs=2).set_params(random_state=sheet.seed),
    }
    began = time.perf_counter()
    for model in models.values():
        model.fit(X[:10_000], X_val=X_test[:1000])
    model = models["default"]
    shown = X_test[:10]
    pictures: dict[str, Callable[[], Any]] = {
        "originals over reconstructions": lambda: plots.plot_reconstructions(shown, model.reconstruct(shown)),
        "training curves": lambda: plots.plot_training_curves({name: m.history_ for name, m in models.items()}),
        "code distributions": lambda: plots.plot_code_density(code_densities(models, X_test[:1000])),
        "map of the codes": lambda: plots.plot_code_map(code_map(model.transform(X_test[:1000])), y_test[:1000]),
        "diagram of the network": lambda: plots.plot_network(model),
    }
    with tempfile.TemporaryDirectory() as folder:
        for name, draw in pictures.items():
            plots.save(draw(), Path(folder) / f"{name}.png")
        made = sum(path.stat().st_size > 5_000 for path in Path(folder).iterdir())
    measured = Measured(model, time.perf_counter() - began)
    rows = len(model.layers())
    sheet.add(measured, "pictures by one public function each", made, "≥", 5)
    sheet.add(measured, "rows of the layer table", rows, "≥", 4)


@row("S39")
def s39(sheet: Sheet) -> None:
    """A model of digits, applied to digits and to photographs."""
    X_test = mnist()[2]
    measured = fit(default((128,), 32, epochs=5), sheet.seed)
    photographs = isthmus.datasets.load_cifar10().X_test[:2000, 2:30, 2:30].mean(axis=3).reshape(-1, 784) / 255
    found = [diagnose(measured.model, rows) for rows in (X_test, photographs.astype(np.float32))]
    unlike = [float("unlike-training-data" in diagnosis.faults) for diagnosis in found]
    looked_at = 2000, min(2000, len(photographs))
    rows_unlike = [len(diagnosis.unlike_rows) / n for diagnosis, n in zip(found, looked_at, strict=True)]
    sheet.add(measured, "digits: said to be unlike the training data", unlike[0], "≤", 0)
    sheet.add(measured, "digits: share of rows said to be unlike", rows_unlike[0], "≤", 0.02)
    sheet.add(measured, "photographs: said to be unlike the training data", unlike[1], "≥", 1)
    sheet.add(measured, "photographs: share of rows said to be unlike", rows_unlike[1], "≥", 0.5)


@row("S40")
def s40(sheet: Sheet) -> None:
    """The output of the second layer, compared with a direct computation."""
    measured = fit(default((128, 64), 32, epochs=1), sheet.seed)
    X_test, model = mnist()[2], measured.model
    first = list(model.objective_.encoder.children())[:4]
    with torch.inference_mode():
        by_hand = torch.nn.Sequential(*first)(torch.from_numpy(X_test)).numpy()
    apart = float(np.abs(model.output_of(1).transform(X_test) - by_hand).max())
    sheet.add(measured, "largest difference to the layers by hand", apart, "≤", 1e-5)
