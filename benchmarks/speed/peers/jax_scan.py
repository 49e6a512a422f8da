"""JAX: the whole epoch is one compiled scan over shuffled batches, with Adam written out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from protocol import Job, Workload, notes, serve

Params = list[tuple[jax.Array, jax.Array]]


def initial(workload: Workload) -> Params:
    """Glorot weights and biases of zero, layer by layer."""
    before, after = workload.sizes[: workload.half + 1], workload.sizes[workload.half :]
    wide = (2 if workload.variational else 1) * workload.code_size
    shapes = [*pairwise((*before[:-1], wide)), *pairwise(after)]
    keys = jax.random.split(jax.random.PRNGKey(0), len(shapes))
    glorot = jax.nn.initializers.glorot_uniform()
    return [(glorot(key, shape), jnp.zeros(shape[1])) for key, shape in zip(keys, shapes, strict=True)]


def chain(params: Params, h: jax.Array) -> jax.Array:
    """Linear layers with ReLU after each but the last."""
    for weight, bias in params[:-1]:
        h = jax.nn.relu(h @ weight + bias)
    return h @ params[-1][0] + params[-1][1]


def encoded(workload: Workload, params: Params, x: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array | float]:
    """Codes, and what the loss has besides the reconstruction."""
    h = chain(params[: workload.half], x)
    if workload.variational:
        mean, log_var = jnp.split(h, 2, axis=1)
        divergence = -0.5 * jnp.sum(1 + log_var - mean**2 - jnp.exp(log_var)) / x.size
        return mean + jnp.exp(0.5 * log_var) * jax.random.normal(key, mean.shape), divergence
    if workload.contraction:
        z = jax.nn.sigmoid(h)
        norms = jnp.sum(params[workload.half - 1][0] ** 2, axis=0)
        return z, workload.contraction * jnp.sum((z * (1 - z)) ** 2 * norms) / len(x)
    return jax.nn.relu(h), 0.0


def loss_of(workload: Workload, params: Params, given: jax.Array, x: jax.Array, key: jax.Array) -> jax.Array:
    z, more = encoded(workload, params, given, key)
    logits = chain(params[workload.half :], z)
    if workload.loss == "mse":
        return jnp.mean((jax.nn.sigmoid(logits) - x) ** 2) + more
    return jnp.mean(jnp.maximum(logits, 0) - logits * x + jnp.log1p(jnp.exp(-jnp.abs(logits)))) + more


def adam(state: Any, gradient: Any) -> Any:
    params, means, squares, count = state
    count = count + 1
    means = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, means, gradient)
    squares = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g * g, squares, gradient)
    rate = 1e-3 * jnp.sqrt(1 - 0.999**count) / (1 - 0.9**count)
    params = jax.tree.map(lambda p, m, s: p - rate * m / (jnp.sqrt(s) + 1e-8), params, means, squares)
    return params, means, squares, count


def trainer(workload: Workload, rows: jax.Array) -> Any:
    """One epoch as one compiled function: (state, key) → (state, mean loss)."""
    n_steps = len(rows) // workload.batch_size

    def step(state: Any, index_and_key: Any) -> Any:
        index, key = index_and_key
        x, (one, two) = rows[index], jax.random.split(key)
        damaged = x + workload.noise * jax.random.normal(one, x.shape) if workload.noise else x
        given = jnp.clip(damaged, 0, 1) if workload.noise else x
        loss, gradient = jax.value_and_grad(lambda params: loss_of(workload, params, given, x, two))(state[0])
        return adam(state, gradient), loss

    def train(state: Any, key: jax.Array) -> Any:
        order, noise = jax.random.split(key)
        index = jax.random.permutation(order, len(rows))[: n_steps * workload.batch_size].reshape(n_steps, -1)
        state, losses = jax.lax.scan(step, state, (index, jax.random.split(noise, n_steps)))
        return state, losses.mean()

    return jax.jit(train, donate_argnums=0)


def prepare(job: Job) -> dict[str, Any]:
    if job.workload.device == "cuda" and jax.default_backend() != "gpu":
        raise SystemExit("This JAX sees no GPU.")
    rows, params = jnp.asarray(job.rows), initial(job.workload)
    train = trainer(job.workload, rows)
    zeros = [jax.tree.map(jnp.zeros_like, params) for _ in range(2)]
    box = {"state": (params, *zeros, jnp.zeros(())), "key": jax.random.PRNGKey(1)}

    def epoch() -> None:
        box["key"], key = jax.random.split(box["key"])
        box["state"], loss = train(box["state"], key)
        notes["loss"] = float(loss)

    return {"epoch": epoch, **verbs_of(job, box)}


def verbs_of(job: Job, box: dict[str, Any]) -> dict[str, Any]:
    """Inference: one compiled call for all rows."""
    X, half = job.rows, job.workload.half

    def reconstructed(params: Params, x: jax.Array) -> jax.Array:
        return jax.nn.sigmoid(chain(params[half:], jax.nn.relu(chain(params[:half], x))))

    works = {
        "transform": lambda params, x: jax.nn.relu(chain(params[:half], x)),
        "reconstruct": reconstructed,
        "reconstruction_error": lambda params, x: jnp.mean((reconstructed(params, x) - x) ** 2, axis=1),
    }
    compiled = {name: jax.jit(work) for name, work in works.items()}
    return {
        name: lambda work=work: np.asarray(work(box["state"][0], jnp.asarray(X))) for name, work in compiled.items()
    }


if __name__ == "__main__":
    serve(prepare)
