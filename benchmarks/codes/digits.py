"""MNIST: maps, features, transfer, clusters, search and samples."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier, NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import isthmus
from benchmarks.codes import peers
from isthmus import (
    Autoencoder,
    DenoisingAutoencoder,
    Dense,
    EncoderClassifier,
    Masking,
    SearchIndex,
    VariationalAutoencoder,
    cluster_codes,
    map_codes,
    map_figures,
    matched_accuracy,
)
from isthmus.tasks.features import _chosen

DEEP = (128, 64, 32, 16, 8, 4)


class Images(NamedTuple):
    """Flat images in [0, 1], with labels."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


@cache
def load(n_rows: int) -> Images:
    """The first training images, and all test images."""
    data = isthmus.datasets.load_mnist()
    flat, test = (np.asarray(rows).reshape(len(rows), -1).astype(np.float32) / 255 for rows in (data.X, data.X_test))
    return Images(flat[:n_rows], np.asarray(data.y)[:n_rows], test, np.asarray(data.y_test))


def maps(images: Images, epochs: int, seed: int) -> Iterator[tuple[str, float]]:
    """Two-number codes beside PCA and openTSNE: 5-NN accuracy on test images, and the time to place new rows."""

    def accuracy(train: np.ndarray, test: np.ndarray) -> float:
        few = slice(0, 10_000)
        return float(KNeighborsClassifier(5).fit(train[few], images.y[few]).score(test, images.y_test))

    pca = PCA(2, random_state=0).fit(images.X)
    yield "5-NN accuracy, PCA of 2", accuracy(pca.transform(images.X), pca.transform(images.X_test))
    model = Autoencoder(2, max_epochs=epochs, random_state=seed).fit(images.X)
    yield "5-NN accuracy, default code of 2", accuracy(model.transform(images.X), model.transform(images.X_test))
    for name, activation in (("gelu", "gelu"), ("relu", "relu")):
        deep = Autoencoder(2, network=Dense(DEEP, activation=activation), max_epochs=epochs, random_state=seed)
        deep.fit(images.X)
        codes = deep.transform(images.X_test)
        units = (codes - codes.mean(axis=0)) / np.maximum(codes.std(axis=0), 1e-12)
        singular = np.linalg.svd(units, compute_uv=False)
        yield f"5-NN accuracy, deep {name} code of 2", accuracy(deep.transform(images.X), codes)
        yield f"second singular value over the first, deep {name}", float(singular[1] / singular[0])
    published = Autoencoder(
        2,
        network=Dense(DEEP, activation="relu"),
        code="relu",
        loss="binary-cross-entropy",
        batch_size=128,
        learning_rate=0.001,
        schedule="constant",
        max_epochs=epochs,
        random_state=seed,
    ).fit(images.X)
    yield "5-NN accuracy, as published", accuracy(published.transform(images.X), published.transform(images.X_test))
    wide = Autoencoder(32, max_epochs=epochs, random_state=seed).fit(images.X)
    found = map_codes(wide, images.X[:5_000], "opentsne", random_state=seed)
    new = images.X_test[:1_000]
    began = time.perf_counter()
    placed = found.place(new)
    by_tsne = time.perf_counter() - began
    model.transform(new)
    began = time.perf_counter()
    for _ in range(20):
        model.transform(new)
    by_code = (time.perf_counter() - began) / 20
    yield "seconds to place 1,000 rows, openTSNE", by_tsne
    yield "seconds to place 1,000 rows, code of 2", by_code
    yield "ratio of both", by_tsne / by_code
    near = KNeighborsClassifier(5).fit(found.points, images.y[:5_000])
    yield "5-NN accuracy of placed rows, openTSNE of codes of 32", float(near.score(placed, images.y_test[:1_000]))
    for name, points in (
        ("code of 2", model.transform(images.X_test[:2_000])),
        ("PCA", pca.transform(images.X_test[:2_000])),
    ):
        figures = map_figures(points, images.X_test[:2_000], images.y_test[:2_000])
        yield f"trustworthiness, {name}", figures.trustworthiness
        yield f"continuity, {name}", figures.continuity


def features(images: Images, epochs: int, seed: int) -> Iterator[tuple[str, float]]:
    """Codes of 32 numbers beside PCA-32 under three classifiers that learn from 10,000 labels."""
    models = {
        "default": Autoencoder(32, max_epochs=epochs, random_state=seed),
        **{
            f"denoising, {share:.0%} masked": DenoisingAutoencoder(
                32, corruption=Masking(share), max_epochs=epochs, random_state=seed
            )
            for share in (0.5, 0.7)
        },
    }
    pca = PCA(32, random_state=0).fit(images.X)
    few = slice(0, 10_000)
    sets = {"PCA of 32": (pca.transform(images.X[few]), pca.transform(images.X_test))}
    for name, model in models.items():
        model.fit(images.X)
        sets[name] = model.transform(images.X[few]), model.transform(images.X_test)
    kinds = {
        "logistic regression": make_pipeline(StandardScaler(), LogisticRegression(max_iter=300)),
        "5-NN": KNeighborsClassifier(5),
        "tree": DecisionTreeClassifier(random_state=0),
    }
    for kind, classifier in kinds.items():
        for name, (train, test) in sets.items():
            yield f"accuracy, {kind}, {name}", float(classifier.fit(train, images.y[few]).score(test, images.y_test))


def transfer(images: Images, epochs: int, seed: int) -> Iterator[tuple[str, float]]:
    """Error with few labels: a fine-tuned encoder without and with the rows without a label, and one from scratch."""
    encoder = DenoisingAutoencoder(
        64, network=(512, 256), corruption="masking", max_epochs=epochs, random_state=seed
    ).fit(images.X)
    blank = Autoencoder(64, network=(512, 256), max_epochs=1, learning_rate=1e-9, random_state=seed).fit(images.X)
    noise: dict[str, Any] = {"corruption": "masking", "dropout": 0.2, "random_state": seed}
    few = {"fine-tuned": (encoder, 1.0), "fine-tuned, layer_decay 0.5": (encoder, 0.5), "from scratch": (blank, 1.0)}
    for number in (100, 1_000):
        rows = _chosen(images.y, number, seed)
        for name, (start, layer_decay) in few.items():
            model = EncoderClassifier(start, layer_decay=layer_decay, max_epochs=100, **noise)
            model.fit(images.X[rows], images.y[rows])
            yield f"error with {number:,} labels, {name}", 1.0 - model.score(images.X_test, images.y_test)
        labels = np.full(len(images.X), -1)
        labels[rows] = images.y[rows]
        for name, settings in {"defaults": {"random_state": seed}, "masking and dropout": noise}.items():
            model = EncoderClassifier(encoder, max_epochs=epochs, **settings).fit(images.X, labels)
            error = 1.0 - model.score(images.X_test, images.y_test)
            yield f"error with {number:,} labels and all other rows unlabelled, {name}", error


def clusters(images: Images, epochs: int, seed: int) -> Iterator[tuple[str, float]]:
    """Matched accuracy of ten clusters of the 10,000 test images."""
    model = Autoencoder(10, network=(500, 500), max_epochs=epochs, random_state=seed).fit(images.X)
    codes = model.transform(images.X_test)
    pixels = KMeans(10, n_init=5, random_state=seed).fit_predict(images.X_test)
    yield "k-means on pixels", matched_accuracy(images.y_test, pixels)
    on_codes = KMeans(10, n_init=5, random_state=seed).fit_predict(codes)
    yield "k-means on codes", matched_accuracy(images.y_test, on_codes)
    mixed = cluster_codes(model, images.X_test, 10, "codes", random_state=seed).labels
    yield "mixture on codes", matched_accuracy(images.y_test, mixed)
    found = cluster_codes(model, images.X_test, 10, random_state=seed).labels
    yield "codes, UMAP, mixture", matched_accuracy(images.y_test, found)


def search(images: Images, epochs: int, seed: int) -> Iterator[tuple[str, float]]:
    """Precision of ten neighbours of 1,000 test images among 10,000 training images, and times at a million codes."""
    few, asked = slice(0, 10_000), slice(0, 1_000)

    def precision(near: np.ndarray) -> float:
        return float((images.y[few][near] == images.y_test[asked, None]).mean())

    pixels = NearestNeighbors(n_neighbors=10).fit(images.X[few])
    yield "precision at 10, pixels", precision(pixels.kneighbors(images.X_test[asked], return_distance=False))
    for name, model in {
        "code of 32": Autoencoder(32, max_epochs=epochs, random_state=seed),
        "denoising code of 32": DenoisingAutoencoder(32, corruption="masking", max_epochs=epochs, random_state=seed),
    }.items():
        model.fit(images.X)
        for metric in ("euclidean", "cosine"):
            index = SearchIndex(model, metric=metric, thumbnails=False).add(images.X[few])
            found = index.query(images.X_test[asked], 10)
            yield f"precision at 10, {name}, {metric}", precision(found.names.astype(int))
    draw = np.random.default_rng(seed)
    many = SearchIndex(model, metric="cosine", thumbnails=False)
    many.codes = draw.normal(size=(1_000_000, 32)).astype(np.float32)
    many.names = np.arange(1_000_000).astype(object)
    began = time.perf_counter()
    many.query(images.X_test[:10], 10)
    yield "milliseconds a query at a million codes, exact", (time.perf_counter() - began) * 100
    began = time.perf_counter()
    many.query(images.X_test[:1], 10, approximate=True)
    yield "seconds to build at a million codes, faiss", time.perf_counter() - began
    began = time.perf_counter()
    many.query(images.X_test[:100], 10, approximate=True)
    yield "milliseconds a query at a million codes, faiss", (time.perf_counter() - began) * 10


def samples(images: Images, epochs: int, seed: int) -> Iterator[tuple[str, float]]:
    """10,000 generated images: balance of the digits, precision and recall, distance to the nearest training image."""
    rows = images.X[:10_000]
    judge = EncoderClassifier(
        Autoencoder(64, max_epochs=10, random_state=0).fit(images.X), max_epochs=10, random_state=0
    ).fit(images.X, images.y)
    yield "accuracy of the classifier that counts digits", judge.score(images.X_test, images.y_test)
    sizes = (400, 200)
    plain = Autoencoder(16, network=sizes, max_epochs=epochs, random_state=seed).fit(rows).fit_sampler(rows)
    drawn = VariationalAutoencoder(16, network=sizes, max_epochs=epochs, random_state=seed).fit(rows)
    made = {
        "autoencoder, mixture": plain.sample(10_000, random_state=seed),
        "variational, prior": drawn.sample(10_000, random_state=seed),
        "variational, mixture": drawn.fit_sampler(rows).sample(10_000, random_state=seed),
    }
    if peers.python() is not None:
        prior, mixture = peers.pythae_samples(rows, drawn, 10_000, seed)
        made |= {"pythae's VAE, prior": prior, "pythae's VAE, mixture": mixture}
    held_out = images.X_test
    for name, samples_ in {"test images (best possible)": held_out, **made}.items():
        shares = np.bincount(judge.predict(samples_).astype(int), minlength=10) / len(samples_)
        yield f"smallest share of a digit, {name}", float(shares.min())
        yield f"largest share of a digit, {name}", float(shares.max())
        precision, recall = precision_recall(judge, rows, samples_[:10_000])
        yield f"precision, {name}", precision
        yield f"recall, {name}", recall
        away = NearestNeighbors(n_neighbors=1).fit(rows).kneighbors(samples_[:1_000])[0]
        yield f"median distance to the nearest training image, {name}", float(np.median(away))


def augmentation(images: Images, epochs: int, seed: int) -> Iterator[tuple[str, float]]:
    """Accuracy of a support-vector machine with few labels, without and with four made images for each labelled one.

    The autoencoders learn from all training images without labels. Mixtures on the codes of the labelled images give
    samples of each digit; reconstructions of masked versions are restored images.
    """
    model = Autoencoder(32, max_epochs=epochs, random_state=seed).fit(images.X)
    denoising = DenoisingAutoencoder(32, corruption=Masking(0.5), max_epochs=epochs, random_state=seed).fit(images.X)
    for number in (100, 1_000):
        chosen = _chosen(images.y, number, seed)
        few, labels = images.X[chosen], images.y[chosen]
        repeated, draw = np.tile(labels, 4), np.random.default_rng(seed)
        copies = np.tile(few, (4, 1))
        masked = np.where(draw.random(copies.shape) < 0.5, 0.0, copies).astype(np.float32)
        made = {
            "samples": model.fit_sampler(few, labels).sample(len(repeated), repeated, random_state=seed),
            "restored images": denoising.reconstruct(masked),
            "masked images": masked,
        }
        sets = {"alone": (few, labels)}
        for name, rows in made.items():
            sets[f"with {name}"] = np.concatenate([few, rows]), np.concatenate([labels, repeated])
        for name, (rows, answers) in sets.items():
            found = SVC(C=10, gamma="scale").fit(rows, answers).score(images.X_test, images.y_test)
            yield f"accuracy, {number:,} labels {name}", float(found)


@torch.inference_mode()
def precision_recall(judge: EncoderClassifier, real: np.ndarray, made: np.ndarray) -> tuple[float, float]:
    """Improved precision and recall with k = 3 (Kynkäänniemi et al. 2019) in the codes of the classifier's encoder."""
    codes = [np.asarray(judge.encoder_.transform(rows)) for rows in (real[:5_000], made[:5_000])]
    inside = []
    for known, asked in ((codes[0], codes[1]), (codes[1], codes[0])):
        radius = NearestNeighbors(n_neighbors=4).fit(known).kneighbors(known)[0][:, -1]
        hits = 0
        for start in range(0, len(asked), 500):
            block = asked[start : start + 500]
            away = np.sqrt(np.maximum(_squares(block, known), 0.0))
            hits += int((away <= radius).any(axis=1).sum())
        inside.append(hits / len(asked))
    return inside[0], inside[1]


def _squares(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.asarray(np.square(one).sum(axis=1)[:, None] + np.square(other).sum(axis=1) - 2.0 * one @ other.T)
