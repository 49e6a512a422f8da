"""S1 to S11: the systems of the tutorials, as published and with defaults."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse

import isthmus
from benchmarks.systems.harness import (
    DEFAULT,
    PUBLISHED,
    Measured,
    Sheet,
    default,
    fit,
    fit_on,
    mnist,
    noisy,
    psnr,
    published,
    row,
    timed,
)
from isthmus import L1, Convolutional, ConvolutionalAutoencoder, GaussianNoise, MeanSquaredError, SparseAutoencoder
from isthmus.diagnosis import code_statistics


def both(sheet: Sheet, models: tuple[Measured, Measured], targets: tuple[float, float]) -> None:
    """The validation losses of the published and the default model, with their targets."""
    for column, measured, target in zip((PUBLISHED, DEFAULT), models, targets, strict=True):
        sheet.add(measured, "test loss", measured.val_loss, "≤", target, column=column)


@row("S1")
def s1(sheet: Sheet) -> None:
    """Deep 784-128-32-128-784, 5 epochs."""
    models = fit(published((128,), 32, epochs=5), sheet.seed), fit(default((128,), 32, epochs=5), sheet.seed)
    both(sheet, models, (0.0885, 0.0820))


@row("S2")
def s2(sheet: Sheet) -> None:
    """Shallow 784-32-784, 10 epochs."""
    models = fit(published((), 32, epochs=10), sheet.seed), fit(default((), 32, epochs=10), sheet.seed)
    both(sheet, models, (0.0935, 0.0910))


@row("S3")
def s3(sheet: Sheet) -> None:
    """Denoising with S1's layers, 10 epochs: PSNR of the noisy and of the cleaned test images."""
    noise = GaussianNoise(0.5)
    old = fit(published((128,), 32, epochs=10, corruption=noise), sheet.seed)
    new = fit(default((128,), 32, epochs=10, corruption=noise), sheet.seed)
    clean = mnist()[2]
    given = noisy(clean)
    after = psnr(clean, old.model.reconstruct(given))
    sheet.add(old, "PSNR before, dB", psnr(clean, given), column=PUBLISHED)
    sheet.add(old, "PSNR after, dB", after, ">", psnr(clean, given), column=PUBLISHED)
    sheet.add(new, "PSNR after, dB", psnr(clean, new.model.reconstruct(given)), ">", after)


@row("S4")
def s4(sheet: Sheet) -> None:
    """Sparse: S2 at 20 epochs with and without L1 of 1e-5 on the code; published 0.0933 → 0.0947, 6.69 → 4.42."""
    plain = fit(published((), 32, epochs=20), sheet.seed)
    sparse = fit(published((), 32, epochs=20, penalty=L1(1e-5)), sheet.seed)
    ours = fit(SparseAutoencoder(32, network=(), max_epochs=20), sheet.seed)
    X_test = mnist()[2]
    activity = [float(measured.model.transform(X_test).mean()) for measured in (plain, sparse, ours)]
    rise = float(sparse.model.history_["loss"][-1] - plain.model.history_["loss"][-1])
    sheet.add(plain, "training loss without penalty", plain.model.history_["loss"][-1], column=PUBLISHED)
    sheet.add(sparse, "rise of training loss (published 0.0014)", rise, "≥", 0.0005, column=PUBLISHED)
    sheet.add(sparse, "rise of training loss (published 0.0014)", rise, "≤", 0.003, column=PUBLISHED)
    sheet.add(plain, "mean activation without penalty (published 6.69)", activity[0], column=PUBLISHED)
    sheet.add(sparse, "mean activation (published 4.42)", activity[1], "≤", 0.8 * activity[0], column=PUBLISHED)
    sheet.add(ours, "mean activation", activity[2], "≤", activity[1])
    sheet.add(ours, "test reconstruction loss", ours.val_loss, "≤", sparse.val_loss)


@row("S5")
def s5(sheet: Sheet) -> None:
    """784-64-784 with mean squared error, 10 epochs."""
    mse = "mean-squared-error"
    models = (
        fit(published((), 64, epochs=10, loss=mse), sheet.seed),
        fit(default((), 64, epochs=10, loss=mse), sheet.seed),
    )
    both(sheet, models, (0.0041, 0.0035))


@row("S6")
def s6(sheet: Sheet) -> None:
    """Deep 784-128-64-32-64-128-784, batch 256, 29 epochs."""
    old = fit(published((128, 64), 32, epochs=29, batch_size=256), sheet.seed)
    both(sheet, (old, fit(default((128, 64), 32, epochs=29), sheet.seed)), (0.0880, 0.0810))


@row("S8")
def s8(sheet: Sheet) -> None:
    """Denoising with S6's layers, noise 0.5 clipped, 29 epochs; the loss is that of noisy test images."""
    noise = GaussianNoise(0.5)
    old = fit(published((128, 64), 32, epochs=29, batch_size=256, corruption=noise), sheet.seed)
    new = fit(default((128, 64), 32, epochs=29, corruption=noise), sheet.seed)
    both(sheet, (old, new), (0.1220, 0.1095))


@row("S7")
def s7(sheet: Sheet) -> None:
    """A two-dimensional code, 784-128-64-32-16-8-4-2, 29 epochs; published 0.2023, with one of the two units dead."""
    sizes = (128, 64, 32, 16, 8, 4)
    old = fit(published(sizes, 2, epochs=29, batch_size=256), sheet.seed)
    new = fit(default(sizes, 2, epochs=29), sheet.seed)
    dead = [code_statistics(measured.model.transform(mnist()[2])).dead_units for measured in (old, new)]
    sheet.add(old, "test loss (published 0.2023)", old.val_loss, column=PUBLISHED)
    sheet.add(old, f"dead code units{named(dead[0])}", len(dead[0]), column=PUBLISHED)
    sheet.add(new, "test loss", new.val_loss, "≤", 0.1760)
    sheet.add(new, f"dead code units{named(dead[1])}", len(dead[1]), "≤", 0)


def named(units: tuple[int, ...]) -> str:
    """Which units, for a figure's text."""
    return f" (unit {', '.join(map(str, units))})" if units else ""


@row("S9")
def s9(sheet: Sheet) -> None:
    """Denoising 784-500-300-100-300-500-784, 10 epochs, noise 0.5, batch 256."""
    sizes, noise = (500, 300), GaussianNoise(0.5)
    old = fit(published(sizes, 100, epochs=10, batch_size=256, corruption=noise), sheet.seed)
    new = fit(default(sizes, 100, epochs=10, batch_size=256, corruption=noise), sheet.seed)
    sheet.add(old, "test loss", old.val_loss, column=PUBLISHED)
    sheet.add(new, "test loss", new.val_loss, "≤", 0.1010)


TWENTY_LAYERS = Convolutional(
    ((128, 112, 96, 80, 64), (48, 32, 16, 8)),
    activation="relu",
    downsampling="pooled",
    upsampling="nearest",
    head="convolutional",
)


@row("S10", minutes=4)
def s10(sheet: Sheet) -> None:
    """Twenty convolutions to a code of 7×7×1 with tanh output, on 1,000 images in 4 epochs: far better than the mean.

    The images stay in [0, 1]: in [-1, 1] the background lies at the end of tanh, whose gradient dies there.
    """
    images = mnist()[0][:1000].reshape(-1, 28, 28)
    model = ConvolutionalAutoencoder(
        49,
        network=TWENTY_LAYERS,
        loss=MeanSquaredError(activation="tanh"),
        scaling="none",
        max_epochs=4,
        batch_size=8,
        random_state=sheet.seed,
    )
    with timed() as seconds:
        model.fit(images)
    measured = Measured(model, seconds())
    share = model.history_["loss"][-1] / images.var(axis=0).mean()
    sheet.add(measured, "training loss ÷ variance of the pixels", share, "≤", 0.3, column=PUBLISHED)
    with tempfile.TemporaryDirectory() as folder:
        loaded = isthmus.load(model.save(Path(folder) / "m.safetensors"))
        apart = float(np.abs(loaded.transform(images) - model.transform(images)).max())
    sheet.add(measured, "largest change of a code by saving and loading", apart, "≤", 0.0, column=PUBLISHED)
    sheet.add(measured, "parameters", model.n_parameters_, column=PUBLISHED)


LIAR_LIAR = 1485
"""The film whose neighbours the text shows: 1391, 104, 1760, 1608, 3033, 1407, 1461, 1020 at 0.830 to 0.807."""


@row("S11")
def s11(sheet: Sheet) -> None:
    """Films as rows, their 668 users' ratings as columns, 668-512-256-128-256-512-668, 29 epochs; published 0.0920."""
    ratings, films, titles = movielens_2016()
    order = np.random.default_rng(sheet.seed).permutation(ratings.shape[0])
    held_out, learn = order[: len(order) // 5], order[len(order) // 5 :]
    shape: dict[str, Any] = {"epochs": 29, "batch_size": 256, "loss": MeanSquaredError(activation=None)}
    old = published((512, 256), 128, scaling="none", **shape).set_params(random_state=sheet.seed)
    new = default((512, 256), 128, scaling="none", **shape).set_params(random_state=sheet.seed)
    measured = [fit_on(model, ratings[learn], X_val=ratings[held_out]) for model in (old, new)]
    near, cosines = neighbours(old.transform(ratings), films, LIAR_LIAR)
    told = "; ".join(titles[film] for film in near[:10])
    sheet.add(measured[0], "validation loss (published 0.0920)", measured[0].val_loss, "≤", 0.0950, column=PUBLISHED)
    sheet.add(measured[0], f"cosine of the nearest films to Liar Liar: {told}", cosines[0], column=PUBLISHED)
    sheet.add(measured[0], "parameters", old.n_parameters_, column=PUBLISHED)
    sheet.add(measured[1], "validation loss", measured[1].val_loss)


def movielens_2016() -> tuple[scipy.sparse.csr_array, np.ndarray, dict[int, str]]:
    """Ratings, (films, users), with zeros where there is none; the films' ids; and their titles."""
    folder = Path(os.environ["ISTHMUS_DATA"]) / "movielens" / "ml-2016"
    ratings = pd.read_csv(folder / "ratings.csv")
    films, film = np.unique(ratings["movieId"], return_inverse=True)
    users, user = np.unique(ratings["userId"], return_inverse=True)
    matrix = scipy.sparse.csr_array((ratings["rating"].to_numpy(np.float32), (film, user)), (len(films), len(users)))
    movies = pd.read_csv(folder / "movies.csv")
    return matrix, films, dict(zip(movies["movieId"], movies["title"], strict=True))


def neighbours(codes: np.ndarray, names: np.ndarray, name: int) -> tuple[np.ndarray, np.ndarray]:
    """The names of all other rows by decreasing cosine to one row, and the cosines."""
    unit = codes / np.linalg.norm(codes, axis=1, keepdims=True).clip(min=1e-12)
    cosines = unit @ unit[int(np.flatnonzero(names == name)[0])]
    order = np.argsort(-cosines)
    order = order[names[order] != name]
    return names[order], cosines[order]
