"""The rows of the table: each fits what it needs and adds its figures."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from skimage import color
from sklearn.svm import SVC

import isthmus
from benchmarks.restoration import baselines, ocr, peers, pictures, sets
from benchmarks.restoration.harness import Figure, Sheet, timed
from isthmus import AdamW, BlockMask, DenoisingAutoencoder, GaussianNoise, Huber, Restorer, UNet, datasets

ROWS: dict[str, Callable[[Sheet], None]] = {}
SIGMAS = (15, 25, 50)
"""Strengths of noise, of 255, that are tested."""
LARGE = UNet((32, 48, 64, 96), shuffle=2)
"""A network that works at half size: for enlarged images, whose content is coarser than their pixels."""
DEEP = UNet((16, 32, 48, 64, 96))
"""Five levels, so that what fills a hole comes from all of a small image: +0.7 dB over `LARGE` at equal steps."""
BLIND: dict[str, Any] = {"loss": "log-mean-squared-error", "self_ensemble": True, "max_steps": 32_000}
"""For noise of unknown strength. The logarithm restored weak noise 0.2 dB better than the squared error at equal steps,
and strong noise 0.05 dB; the mean over flips and rotations added 0.1 to 0.2 dB."""


def row(function: Callable[[Sheet], None]) -> Callable[[Sheet], None]:
    """Decorator: a row, by the name of its function."""
    ROWS[function.__name__.replace("_", "-")] = function
    return function


def fitted(sheet: Sheet, name: str, restorer: Restorer, X: object, **more: object) -> tuple[Restorer, float]:
    """A restorer, fitted and kept in a file, and the minutes of processor time that it took."""
    restorer.set_params(max_steps=sheet.steps(restorer.max_steps), random_state=sheet.seed, verbose=1)
    with timed() as clock:
        restorer.fit(X, **more)
    restorer.set_params(verbose=0).save(sheet.folder / f"{name}-{sheet.seed}.safetensors")
    return restorer, clock.minutes


@row
def documents(sheet: Sheet) -> None:
    """Scanned pages, trained on the first 84, tested on the other 24: RMSE, and what Tesseract reads."""
    noisy, clean, _ = sets.documents()
    train, test = slice(None, sets.N_DOCUMENTS), slice(sets.N_DOCUMENTS, None)
    made = Restorer(loss=Huber(delta=0.05), augment=False, max_steps=5000)
    restorer, minutes = fitted(sheet, "documents", made, noisy[train], target=clean[train])
    restored = restorer.restore(noisy[test])
    sheet.add(
        Figure("documents", "RMSE before", _rmse(noisy[test], clean[test])),
        Figure("documents", "RMSE after", _rmse(restored, clean[test]), "≤", 0.022, sheet.seed, minutes),
    )
    pictures.keep(sheet, "documents", noisy[test][:2], restored[:2], clean[test][:2])
    wanted = [ocr.read(page) for page in clean[test]]
    before, after = (ocr.error_rate([*map(ocr.read, pages)], wanted) for pages in (noisy[test], restored))
    sheet.add(
        Figure("documents", "character error rate before", before),
        Figure("documents", "character error rate after", after, seed=sheet.seed),
        Figure("documents", "share of character errors removed", 1 - after / before, "≥", 0.6, sheet.seed),
    )


def _rmse(images: Sequence[np.ndarray], clean: Sequence[np.ndarray]) -> float:
    """Root of the mean squared error over all pixels, as shares of 255."""
    errors = [np.square(one / 255.0 - other / 255.0).ravel() for one, other in zip(images, clean, strict=True)]
    return float(np.sqrt(np.concatenate(errors).mean()))


@row
def photographs(sheet: Sheet) -> None:
    """Grey Kodak with noise of unknown strength: trained on kodim01–12, tested on 13–24."""
    made = Restorer(GaussianNoise((10 / 255, 50 / 255), clip=False), **BLIND)
    restorer, minutes = fitted(sheet, "photographs", made, sets.kodak(1, 12))
    _test_photographs(sheet, "photographs", restorer, minutes)
    if sheet.seed == 1:
        _denoise_by_others(sheet)
    for sigma in SIGMAS:
        ours = sheet.value("photographs", f"PSNR, sigma {sigma}", sheet.seed)
        others = sheet.value("photographs", f"non-local means, sigma {sigma}", 0)
        if ours is not None and others is not None:
            quantity = f"gain over non-local means, sigma {sigma}, dB"
            sheet.add(Figure("photographs", quantity, ours - others, "≥", 1.0, sheet.seed))


def _test_photographs(sheet: Sheet, name: str, restorer: Restorer, minutes: float) -> None:
    clean = sets.kodak(13, 24)
    for sigma in SIGMAS:
        noisy = sets.noisy_kodak(clean, sigma, 1000 + sigma)
        restored = restorer.restore(noisy)
        sheet.add(
            Figure(name, f"PSNR before, sigma {sigma}", sets.psnr(noisy, clean)),
            Figure(name, f"PSNR, sigma {sigma}", sets.psnr(restored, clean), seed=sheet.seed, minutes=minutes),
        )
        if sigma == 25:
            pictures.keep(sheet, name, noisy[7:8], restored[7:8], clean[7:8])


def _denoise_by_others(sheet: Sheet) -> None:
    """The methods of scikit-image, each with the strength that is best on three training images."""
    some, clean = sets.kodak(1, 3), sets.kodak(13, 24)
    for sigma in SIGMAS:
        noisy, known = sets.noisy_kodak(clean, sigma, 1000 + sigma), sets.noisy_kodak(some, sigma, sigma)
        for name, (method, _) in baselines.DENOISERS.items():
            strength = baselines.best_strength(name, known, some, sigma / 255)
            found = [method(image, sigma / 255, strength) for image in noisy]
            sheet.add(Figure("photographs", f"{name}, sigma {sigma}", sets.psnr(found, clean)))
        if peers.python() is not None:
            found = peers.bm3d(noisy, sigma / 255)
            sheet.add(Figure("photographs", f"BM3D, sigma {sigma}", sets.psnr(found, clean)))


@row
def noisy_alone(sheet: Sheet) -> None:
    """The same photographs, learned from one noisy shot of each of kodim01–12 and nothing else."""
    draw = np.random.default_rng(sheet.seed)
    shots = [
        sets.noisy_kodak([image], draw.uniform(10, 50), 2000 + number)[0]
        for number, image in enumerate(sets.kodak(1, 12))
    ]
    restorer, minutes = fitted(sheet, "noisy-alone", Restorer("unknown", **BLIND), shots)
    _test_photographs(sheet, "noisy-alone", restorer, minutes)
    for sigma in SIGMAS:
        ours = sheet.value("noisy-alone", f"PSNR, sigma {sigma}", sheet.seed)
        for what, name, seed, target in (
            ("loss against supervised", "PSNR", sheet.seed, ("≤", 0.8)),
            ("gain over non-local means", "non-local means", 0, ("≥", 0.0)),
        ):
            other = sheet.value("photographs", f"{name}, sigma {sigma}", seed)
            if ours is not None and other is not None:
                difference = other - ours if target[0] == "≤" else ours - other
                sheet.add(Figure("noisy-alone", f"{what}, sigma {sigma}, dB", difference, *target, sheet.seed))


@row
def digits(sheet: Sheet) -> None:
    """MNIST with noise 0.5, clipped: beside the dense denoising autoencoder with the layers of S8."""
    data = datasets.load_mnist()
    train, test = (np.asarray(part, np.float32).reshape(-1, 28, 28) / 255 for part in (data.X, data.X_test))
    noisy = np.clip(test + 0.5 * np.random.default_rng(123).normal(size=test.shape), 0, 1).astype(np.float32)
    made = Restorer(GaussianNoise(0.5), augment=False, max_steps=4000)
    restorer, minutes = fitted(sheet, "digits", made, train)
    restored = restorer.restore(noisy)
    with timed() as clock:
        dense = DenoisingAutoencoder(
            32, network=(128, 64), corruption=GaussianNoise(0.5), max_epochs=1 if sheet.quick else 29,
            random_state=sheet.seed,
        ).fit(train.reshape(-1, 784))  # fmt: skip
    ours, theirs = _psnr(restored, test), _psnr(dense.reconstruct(noisy.reshape(-1, 784)).reshape(-1, 28, 28), test)
    sheet.add(
        Figure("digits", "PSNR before", _psnr(noisy, test)),
        Figure("digits", "PSNR of the dense autoencoder", theirs, seed=sheet.seed, minutes=clock.minutes),
        Figure("digits", "PSNR", ours, seed=sheet.seed, minutes=minutes),
        Figure("digits", "gain over the dense autoencoder, dB", ours - theirs, "≥", 2.0, sheet.seed),
    )
    pictures.keep(sheet, "digits", noisy[:3], restored[:3], test[:3])


def _psnr(images: np.ndarray, clean: np.ndarray) -> float:
    """Peak signal-to-noise ratio in decibels over all pixels, in [0, 1]."""
    return float(-10 * np.log10(np.square(np.clip(images, 0, 1) - clean).mean()))


@row
def colour(sheet: Sheet) -> None:
    """CIFAR-10 from lightness to the a and b of CIELAB: squared error beside grey and nearest neighbours.

    10,000 training images are few: channels twice as many with mirrored images only had 0.87 of the error of grey.
    """
    data = datasets.load_cifar10()
    train, test = (color.rgb2lab(np.asarray(part).reshape(-1, 32, 32, 3)) for part in (data.X, data.X_test))
    light, known = (part[..., 0].astype(np.float32) / 100 for part in (train, test))
    made = Restorer(
        network=UNet((24, 48, 96, 128), shuffle=2), residual=False, crop_size=32, batch_size=32, self_ensemble=True,
        optimizer=AdamW(0.1, beta2=0.99, clip_norm=1.0), max_steps=16_000,
    )  # fmt: skip
    restorer, minutes = fitted(sheet, "colour", made, light, target=train[..., 1:].astype(np.float32))
    found, truth = restorer.restore(known), test[..., 1:]
    grey, ours = float(np.square(truth).mean()), float(np.square(found - truth).mean())
    sheet.add(
        Figure("colour", "squared error of grey", grey),
        Figure("colour", "squared error, share of that of grey", ours / grey, "≤", 0.75, sheet.seed, minutes),
    )
    shown = [color.lab2rgb(np.concatenate([test[:3, ..., :1], part], axis=-1)) for part in (0 * truth[:3], found[:3])]
    pictures.keep(sheet, "colour", shown[0], shown[1], np.asarray(data.X_test).reshape(-1, 32, 32, 3)[:3])
    near = baselines.colours_of_neighbours(light[:2000], train[:2000, ..., 1:], known[:100], sheet.seed)
    theirs = float(np.square(near - truth[:100]).mean() / np.square(truth[:100]).mean())
    sheet.add(
        Figure("colour", "squared error of nearest patches, share of that of grey", theirs),
        Figure("colour", "squared error, share of that of nearest patches", ours / grey / theirs, "<", 1.0, sheet.seed),
    )


@row
def holes(sheet: Sheet) -> None:
    """A quarter of the pixels hidden in blocks, CIFAR-10 and Olivetti: error inside the holes beside biharmonic."""
    cifar, faces = datasets.load_cifar10(), datasets.load_olivetti()
    pictures_of = {
        "CIFAR-10": (_images(cifar.X, 32, 3), _images(cifar.X_test, 32, 3)[:200]),
        "Olivetti": (_images(faces.X, 64, 1)[:320], _images(faces.X, 64, 1)[320:]),  # other people
    }
    for name, (train, test) in pictures_of.items():
        mask = BlockMask(0.25, value=HOLE)
        made = Restorer(mask, network=DEEP, augment="mirror", self_ensemble=True, max_steps=24_000)
        restorer, minutes = fitted(sheet, f"holes-{name}", made, train)
        damaged = restorer.damage_images(test, random_state=7)
        hidden = (damaged == np.float32(HOLE)).all(-1) if test.ndim == 4 else damaged == np.float32(HOLE)
        restored = restorer.restore(damaged)
        filled = np.stack([baselines.biharmonic(*pair) for pair in zip(damaged, hidden, strict=True)])
        ours, theirs = _psnr(restored[hidden], test[hidden]), _psnr(filled[hidden], test[hidden])
        sheet.add(
            Figure("holes", f"{name}, PSNR inside, biharmonic", theirs),
            Figure("holes", f"{name}, PSNR inside", ours, seed=sheet.seed, minutes=minutes),
            Figure("holes", f"{name}, gain over biharmonic, dB", ours - theirs, "≥", 1.0, sheet.seed),
        )
        pictures.keep(sheet, f"holes-{name}", np.clip(damaged[:3], 0, 1), restored[:3], test[:3])


HOLE = -0.1
"""The value of hidden pixels: no other pixel has it, so that the network sees where they are, as biharmonic is told.
-0.5 restored 0.6 dB worse at equal steps."""


def _images(X: object, side: int, n_channels: int) -> np.ndarray:
    """Images in [0, 1], (n, side, side) or (n, side, side, 3)."""
    array = np.asarray(X)
    images = array.reshape(-1, side, side, n_channels) / (255 if array.max() > 1 else 1)
    return images.astype(np.float32)[..., 0] if n_channels == 1 else images.astype(np.float32)


@row
def enlarging(sheet: Sheet) -> None:
    """Kodak at half its size and back: trained on kodim01–12, tested on 13–24."""
    train, test = sets.kodak(1, 12), sets.kodak(13, 24)
    small, asked = ([baselines.halved(image) for image in part] for part in (train, test))
    restorer, minutes = fitted(sheet, "enlarging", Restorer(network=LARGE, max_steps=4000), small, target=train)
    restored = [image / 255 for image in restorer.restore(asked)]
    bicubic = sets.psnr([baselines.doubled(image) / 255 for image in asked], test)
    ours = sets.psnr(restored, test)
    sheet.add(
        Figure("enlarging", "PSNR, bicubic", bicubic),
        Figure("enlarging", "PSNR", ours, seed=sheet.seed, minutes=minutes),
        Figure("enlarging", "gain over bicubic, dB", ours - bicubic, "≥", 0.5, sheet.seed),
    )
    pictures.keep(sheet, "enlarging", [baselines.doubled(asked[6])], [restored[6]], [test[6]])


@row
def memory(sheet: Sheet) -> None:
    """A photograph of 12 million pixels: memory above that of the interpreter with the library loaded."""
    made = Restorer("gaussian-noise", max_steps=2, random_state=0).fit([np.zeros((64, 64, 3), np.uint8)])
    path = made.save(sheet.folder / "memory.safetensors")
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path)], check=True, capture_output=True, text=True)
    sheet.add(Figure("memory", "gigabytes for 12 megapixels", json.loads(done.stdout), "<", 2.0))


MEASURE = """
import json, resource, sys
import numpy as np, isthmus
restorer = isthmus.load(sys.argv[1], device="cpu")
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
image = np.random.default_rng(0).integers(0, 256, (3000, 4000, 3), dtype=np.uint8)
before = peak()
restorer.restore([image])
print(json.dumps(peak() - before))
"""


@row
def few_labels(sheet: Sheet) -> None:
    """Digits with few labels: whether restored versions of them are worth something as further training images."""
    data = datasets.load_mnist()
    X, y = np.asarray(data.X, np.float32).reshape(-1, 28, 28) / 255, np.asarray(data.y)
    test, truth = np.asarray(data.X_test, np.float32).reshape(-1, 784) / 255, np.asarray(data.y_test)
    restorer: Restorer = isthmus.load(sheet.folder / f"digits-{sheet.seed}.safetensors")
    for n_labels in (100, 1000):
        scores = []
        for draw in range(5):
            chosen = np.random.default_rng(draw).permutation(len(X))[:n_labels]
            few, labels = X[chosen], y[chosen]
            noisy = [restorer.damage_images(few, random_state=10 * draw + copy) for copy in range(4)]
            more = np.concatenate([few, *map(restorer.restore, noisy)])
            sets_of = {"alone": few, "with restored images": more, "with noisy images": np.concatenate([few, *noisy])}
            scores.append([_accuracy(images, labels, test, truth) for images in sets_of.values()])
        for name, score in zip(sets_of, np.mean(scores, axis=0), strict=True):
            sheet.add(Figure("few-labels", f"accuracy, {n_labels} labels {name}", float(score), seed=sheet.seed))


def _accuracy(images: np.ndarray, labels: np.ndarray, test: np.ndarray, truth: np.ndarray) -> float:
    """Of a support-vector machine, on the test images."""
    repeated = np.tile(labels, len(images) // len(labels))
    machine = SVC(C=10, gamma="scale").fit(images.reshape(len(images), -1), repeated)
    return float(machine.score(test, truth))
