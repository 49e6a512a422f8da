"""JAX: the whole epoch is one compiled scan over shuffled batches, with Adam written out."""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
from protocol import Workload, serve


def prepare(workload: Workload, X: np.ndarray):  # type: ignore[no-untyped-def]
    rows, batch = jnp.asarray(X), workload.batch_size
    n_steps = len(X) // batch
    keys = jax.random.split(jax.random.PRNGKey(0), len(workload.sizes))
    glorot = jax.nn.initializers.glorot_uniform()
    shapes = list(pairwise(workload.sizes))
    params = [(glorot(key, shape), jnp.zeros(shape[1])) for key, shape in zip(keys[1:], shapes, strict=True)]

    def run(params, h):  # type: ignore[no-untyped-def]
        for weight, bias in params[:-1]:
            h = jax.nn.relu(h @ weight + bias)
        return h @ params[-1][0] + params[-1][1]

    def loss_of(params, given, x):  # type: ignore[no-untyped-def]
        logits = run(params, given)
        if workload.loss == "mse":
            return jnp.mean((jax.nn.sigmoid(logits) - x) ** 2)
        return jnp.mean(jnp.maximum(logits, 0) - logits * x + jnp.log1p(jnp.exp(-jnp.abs(logits))))

    def step(state, index_and_key):  # type: ignore[no-untyped-def]
        params, means, squares, count = state
        index, key = index_and_key
        x = rows[index]
        noise = workload.noise * jax.random.normal(key, x.shape) if workload.noise else 0.0
        loss, gradient = jax.value_and_grad(loss_of)(params, jnp.clip(x + noise, 0, 1) if workload.noise else x, x)
        count = count + 1
        means = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, means, gradient)
        squares = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, squares, gradient)
        rate = 1e-3 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
        params = jax.tree.map(lambda p, m, s: p - rate * m / (jnp.sqrt(s) + 1e-8), params, means, squares)
        return (params, means, squares, count), loss

    @jax.jit
    def train(state, key):  # type: ignore[no-untyped-def]
        order, noise = jax.random.split(key)
        index = jax.random.permutation(order, len(X))[: n_steps * batch].reshape(n_steps, batch)
        return jax.lax.scan(step, state, (index, jax.random.split(noise, n_steps)))

    zeros = jax.tree.map(jnp.zeros_like, params)
    box = {"state": (params, zeros, zeros, jnp.zeros(())), "key": jax.random.PRNGKey(1)}

    def epoch() -> None:
        box["key"], key = jax.random.split(box["key"])
        box["state"], losses = train(box["state"], key)
        losses.block_until_ready()

    half = len(shapes) // 2
    encoder = jax.jit(lambda params, h: run(params[:half], h))

    def encode(data: np.ndarray) -> None:
        np.asarray(encoder(box["state"][0], jnp.asarray(data)))

    return epoch, encode


serve(prepare)
