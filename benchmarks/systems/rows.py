"""The rows: each takes a seed and gives the figures of one system."""

from __future__ import annotations

from collections.abc import Callable

from benchmarks.systems.harness import (
    DEFAULT,
    PUBLISHED,
    Figure,
    Measured,
    default,
    fit,
    mnist,
    noisy,
    psnr,
    published,
)
from isthmus import L1, GaussianNoise, SparseAutoencoder

Row = Callable[[int], list[Figure]]
ROWS: dict[str, Row] = {}


def row(system: str) -> Callable[[Row], Row]:
    """Register a row under the name of its system."""

    def add(function: Row) -> Row:
        ROWS[system] = function
        return function

    return add


def both(system: str, seed: int, models: tuple[Measured, Measured], targets: tuple[float, float]) -> list[Figure]:
    """The validation losses of the published and the default model beside their targets."""
    return [
        measured.figure(system, column, "test loss", measured.val_loss, target=target, seed=seed)
        for column, measured, target in zip((PUBLISHED, DEFAULT), models, targets, strict=True)
    ]


@row("S1")
def s1(seed: int) -> list[Figure]:
    """Deep 784-128-32-128-784, 5 epochs."""
    models = fit(published((128,), 32, epochs=5), seed), fit(default((128,), 32, epochs=5), seed)
    return both("S1", seed, models, (0.0885, 0.0820))


@row("S2")
def s2(seed: int) -> list[Figure]:
    """Shallow 784-32-784, 10 epochs."""
    models = fit(published((), 32, epochs=10), seed), fit(default((), 32, epochs=10), seed)
    return both("S2", seed, models, (0.0935, 0.0910))


@row("S3")
def s3(seed: int) -> list[Figure]:
    """Denoising with S1's layers, 10 epochs: PSNR of the noisy and of the cleaned test images."""
    noise = GaussianNoise(0.5)
    old = fit(published((128,), 32, epochs=10, corruption=noise), seed)
    new = fit(default((128,), 32, epochs=10, corruption=noise), seed)
    clean = mnist()[2]
    given = noisy(clean)
    after = psnr(clean, old.model.reconstruct(given))
    return [
        old.figure("S3", PUBLISHED, "PSNR before, dB", psnr(clean, given), seed=seed),
        old.figure("S3", PUBLISHED, "PSNR after, dB", after, relation=">", target=psnr(clean, given), seed=seed),
        new.figure("S3", DEFAULT, "PSNR after, dB", psnr(clean, new.model.reconstruct(given)), relation=">",
                   target=after, seed=seed),
    ]  # fmt: skip


@row("S4")
def s4(seed: int) -> list[Figure]:
    """Sparse: S2 at 20 epochs with and without L1 of 1e-5 on the code; published 0.0933 → 0.0947, 6.69 → 4.42."""
    plain = fit(published((), 32, epochs=20), seed)
    sparse = fit(published((), 32, epochs=20, penalty=L1(1e-5)), seed)
    ours = fit(SparseAutoencoder(32, network=(), max_epochs=20), seed)
    X_test = mnist()[2]
    activity = [float(measured.model.transform(X_test).mean()) for measured in (plain, sparse, ours)]
    rise = float(sparse.model.history_["loss"][-1] - plain.model.history_["loss"][-1])
    return [
        plain.figure("S4", PUBLISHED, "training loss without penalty", plain.model.history_["loss"][-1], seed=seed),
        sparse.figure("S4", PUBLISHED, "rise of training loss (published 0.0014)", rise, relation="≥", target=0.0005,
                      seed=seed),
        sparse.figure("S4", PUBLISHED, "rise of training loss (published 0.0014)", rise, target=0.003, seed=seed),
        plain.figure("S4", PUBLISHED, "mean activation without penalty (published 6.69)", activity[0], seed=seed),
        sparse.figure("S4", PUBLISHED, "mean activation (published 4.42)", activity[1], target=0.8 * activity[0],
                      seed=seed),
        ours.figure("S4", DEFAULT, "mean activation", activity[2], target=activity[1], seed=seed),
        ours.figure("S4", DEFAULT, "test reconstruction loss", ours.val_loss, target=sparse.val_loss, seed=seed),
    ]  # fmt: skip


@row("S5")
def s5(seed: int) -> list[Figure]:
    """784-64-784 with mean squared error, 10 epochs."""
    mse = "mean-squared-error"
    models = fit(published((), 64, epochs=10, loss=mse), seed), fit(default((), 64, epochs=10, loss=mse), seed)
    return both("S5", seed, models, (0.0041, 0.0035))


@row("S6")
def s6(seed: int) -> list[Figure]:
    """Deep 784-128-64-32-64-128-784, batch 256, 29 epochs."""
    old = fit(published((128, 64), 32, epochs=29, batch_size=256), seed)
    return both("S6", seed, (old, fit(default((128, 64), 32, epochs=29), seed)), (0.0880, 0.0810))


@row("S8")
def s8(seed: int) -> list[Figure]:
    """Denoising with S6's layers, noise 0.5 clipped, 29 epochs; the loss is that of noisy test images."""
    noise = GaussianNoise(0.5)
    old = fit(published((128, 64), 32, epochs=29, batch_size=256, corruption=noise), seed)
    new = fit(default((128, 64), 32, epochs=29, corruption=noise), seed)
    return both("S8", seed, (old, new), (0.1220, 0.1095))
