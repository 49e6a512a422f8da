"""Keras as its guides have it, on whatever back end KERAS_BACKEND names: compile, fit, predict."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops
from protocol import Job, Workload, notes, serve


class Sampling(layers.Layer):
    """Draws codes and adds their divergence to the loss, as the guide on variational models has it."""

    def __init__(self, n_features: int) -> None:
        super().__init__()
        self.n_features, self.seeds = n_features, keras.random.SeedGenerator(0)

    def call(self, inputs: Any) -> Any:
        mean, log_var = inputs
        divergence = -0.5 * ops.sum(1 + log_var - ops.square(mean) - ops.exp(log_var), axis=1)
        self.add_loss(ops.mean(divergence) / self.n_features)
        return mean + ops.exp(0.5 * log_var) * keras.random.normal(ops.shape(mean), seed=self.seeds)


class ContractiveDense(layers.Dense):
    """A sigmoid layer that adds the squared norm of its Jacobian to the loss."""

    def __init__(self, width: int, weight: float) -> None:
        super().__init__(width, activation="sigmoid")
        self.weight = weight

    def call(self, inputs: Any) -> Any:
        h = super().call(inputs)
        norms = ops.sum(ops.square(self.kernel), axis=0)
        self.add_loss(self.weight * ops.mean(ops.sum(ops.square(h * (1 - h)) * norms, axis=1)))
        return h


def models_of(workload: Workload) -> tuple[keras.Model, keras.Model]:
    """The compiled autoencoder and its encoder."""
    inputs, code, outputs = convolutional(workload) if workload.channels else dense(workload)
    model = keras.Model(inputs, outputs)
    model.compile("adam", "binary_crossentropy" if workload.loss == "bce" else "mse")
    return model, keras.Model(inputs, code)


def dense(workload: Workload) -> tuple[Any, Any, Any]:
    inputs = h = keras.Input((workload.sizes[0],))
    if workload.noise:
        h = layers.ReLU(max_value=1.0)(layers.GaussianNoise(workload.noise)(h))
    for width in workload.sizes[1 : workload.half]:
        h = layers.Dense(width, activation="relu")(h)
    code = z = code_of(workload, h)
    if workload.variational:
        code, z = code[0], Sampling(workload.sizes[0])(code)
    for width in workload.sizes[workload.half + 1 : -1]:
        z = layers.Dense(width, activation="relu")(z)
    return inputs, code, layers.Dense(workload.sizes[-1], activation="sigmoid")(z)


def code_of(workload: Workload, h: Any) -> Any:
    if workload.variational:
        return [layers.Dense(workload.code_size)(h), layers.Dense(workload.code_size)(h)]
    if workload.contraction:
        return ContractiveDense(workload.code_size, workload.contraction)(h)
    return layers.Dense(workload.code_size, activation="relu")(h)


def convolutional(workload: Workload) -> tuple[Any, Any, Any]:
    def strided(kind: Any, filters: int, activation: str = "relu") -> Any:
        return kind(filters, 3, strides=2, padding="same", activation=activation)

    inputs = h = keras.Input((28, 28, 1))
    for filters in workload.channels:
        h = strided(layers.Conv2D, filters)(h)
    coarse = h.shape[1:]
    code = layers.Dense(workload.code_size, activation="relu")(layers.Flatten()(h))
    z = layers.Reshape(coarse)(layers.Dense(int(np.prod(coarse)), activation="relu")(code))
    for filters in workload.channels[-2::-1]:
        z = strided(layers.Conv2DTranspose, filters)(z)
    return inputs, code, strided(layers.Conv2DTranspose, 1, "sigmoid")(z)


def prepare(job: Job) -> dict[str, Any]:
    X = job.rows.reshape(-1, 28, 28, 1) if job.workload.channels else job.rows
    model, encoder = models_of(job.workload)

    def epoch() -> None:
        fitted = model.fit(X, X, epochs=1, batch_size=job.workload.batch_size, shuffle=True, verbose=0)
        notes["loss"] = fitted.history["loss"][-1]

    def predict(part: keras.Model) -> np.ndarray:
        return part.predict(X, verbose=0, **job.options)

    return {
        "epoch": epoch,
        "transform": lambda: predict(encoder),
        "reconstruct": lambda: predict(model),
        "reconstruction_error": lambda: np.mean(np.square(predict(model) - X), axis=1),
    }


if __name__ == "__main__":
    serve(prepare)
