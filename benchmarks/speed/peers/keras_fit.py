"""Keras as the tutorials have it, on whatever back end KERAS_BACKEND names: compile and fit."""

from __future__ import annotations

import keras
import numpy as np
from protocol import Workload, serve


def prepare(workload: Workload, X: np.ndarray):  # type: ignore[no-untyped-def]
    inputs = keras.Input((workload.sizes[0],))
    h = inputs
    if workload.noise:
        h = keras.layers.GaussianNoise(workload.noise)(h)
        h = keras.layers.ReLU(max_value=1.0)(h)
    for index, width in enumerate(workload.sizes[1:], start=1):
        last = index == len(workload.sizes) - 1
        h = keras.layers.Dense(width, activation="sigmoid" if last else "relu")(h)
        if index == len(workload.sizes) // 2:
            code = h
    model, encoder = keras.Model(inputs, h), keras.Model(inputs, code)
    model.compile("adam", "binary_crossentropy" if workload.loss == "bce" else "mse")

    def epoch() -> None:
        model.fit(X, X, epochs=1, batch_size=workload.batch_size, shuffle=True, verbose=0)

    def encode(rows: np.ndarray) -> None:
        encoder.predict(rows, verbose=0)

    return epoch, encode


serve(prepare)
