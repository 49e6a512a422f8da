"""S12 to S23: each kind of autoencoder compared with a closed form or with another kind."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from scipy.linalg import subspace_angles
from sklearn.datasets import load_wine
from sklearn.decomposition import PCA

import isthmus
from benchmarks.systems.harness import (
    BINARISED_MNIST,
    PUBLISHED,
    Measured,
    Sheet,
    default,
    fit,
    fit_on,
    mnist,
    psnr,
    row,
)
from isthmus import (
    L1,
    L2,
    Autoencoder,
    ByColumn,
    Contractive,
    ConvolutionalAutoencoder,
    Dense,
    KLSparsity,
    LinearAutoencoder,
    Masking,
    Normal,
    TopK,
    VariationalAutoencoder,
    diagnose,
)


@row("S12")
def s12(sheet: Sheet) -> None:
    """A linear autoencoder of code size 32 compared with PCA, after training alone and after alignment."""
    X, _, X_test, _ = mnist()
    pca = PCA(32, random_state=0).fit(X)
    theirs = np.square(pca.inverse_transform(pca.transform(X_test)) - X_test).mean()
    free = fit_on(LinearAutoencoder(32, align=False, max_epochs=10, random_state=sheet.seed), X)
    ours = fit_on(LinearAutoencoder(32, max_epochs=10, random_state=sheet.seed), X)
    angle = subspace_angles(ours.model.components_.T, pca.components_.T).max()  # type: ignore[attr-defined]
    cosine = np.abs((ours.model.components_ * pca.components_).sum(1)).min()  # type: ignore[attr-defined]
    ratio = ours.model.reconstruction_error(X_test).mean() / theirs
    alone = free.model.reconstruction_error(X_test).mean() / theirs
    sheet.add(free, "squared error ÷ PCA's, by gradient descent alone", alone, column=PUBLISHED)
    sheet.add(ours, "largest principal angle to PCA's subspace, rad", angle, "≤", 1e-2)
    sheet.add(ours, "squared error ÷ PCA's", ratio, "≤", 1.001)
    sheet.add(ours, "least cosine between a component and PCA's", cosine, "≥", 0.999)


@row("S13")
def s13(sheet: Sheet) -> None:
    """Whether the diagnosis detects copying in a model that copies, and not in one that does not."""
    X, X_test = mnist()[0], mnist()[2]
    small = fit_on(Autoencoder(32, network=(128,), max_epochs=5, random_state=sheet.seed), X)
    copier = overcomplete(sheet.seed)
    found = [diagnose(measured.model, X_test) for measured in (small, copier)]
    flags = [float("copying" in diagnosis.faults) for diagnosis in found]
    restored = [1 - diagnosis["copying"].value for diagnosis in found]
    sheet.add(small, "undercomplete: share of pure noise restored", restored[0])
    sheet.add(small, "undercomplete: said to copy", flags[0], "≤", 0)
    sheet.add(copier, "overcomplete, no regulariser: share of pure noise restored", restored[1])
    sheet.add(copier, "overcomplete, no regulariser: said to copy", flags[1], "≥", 1)


@lru_cache(maxsize=1)
def overcomplete(seed: int) -> Measured:
    """A code larger than the input without regularisation; used by two rows."""
    return fit_on(Autoencoder(1000, network=(), max_epochs=10, random_state=seed), mnist()[0])


@row("S14", minutes=4)
def s14(sheet: Sheet) -> None:
    """A code larger than the input with each of three regularisers."""
    X, X_test = mnist()[0], mnist()[2]
    kinds: dict[str, dict[str, Any]] = {
        "no regulariser": {},
        "masking noise": {"corruption": Masking(0.5)},
        "L1": {"code": "relu", "penalty": L1(1e-4)},
        "top-k": {"code": TopK(16)},
    }
    for name, settings in kinds.items():
        model = Autoencoder(1000, network=(), max_epochs=10, random_state=sheet.seed, **settings)
        measured = fit_on(model, X) if settings else overcomplete(sheet.seed)
        diagnosis = diagnose(measured.model, X_test)
        flag, wanted = float("copying" in diagnosis.faults), not settings
        sheet.add(
            measured,
            f"{name}: said to copy (noise restored {1 - diagnosis['copying'].value:.0%})",
            flag,
            "≥" if wanted else "≤",
            float(wanted),
        )


@row("S15")
def s15(sheet: Sheet) -> None:
    """Sparse by Kullback-Leibler divergence to a rate of 0.05."""
    model = Autoencoder(
        128, network=(), code="sigmoid", penalty=KLSparsity(0.05), max_epochs=10, random_state=sheet.seed
    )
    measured = fit_on(model, mnist()[0])
    rates = [model.transform(X).mean() for X in (mnist()[0], mnist()[2])]
    sheet.add(measured, "mean activation rate ÷ target, training rows", rates[0] / 0.05, "≤", 1.2)
    sheet.add(measured, "mean activation rate ÷ target, test rows", rates[1] / 0.05, "≤", 1.2)
    sheet.add(measured, "mean activation rate ÷ target, test rows", rates[1] / 0.05, "≥", 0.8)


@row("S16")
def s16(sheet: Sheet) -> None:
    """A TopK code keeps the 16 largest of 256 units."""
    measured = fit_on(Autoencoder(256, network=(), code=TopK(16), max_epochs=10, random_state=sheet.seed), mnist()[0])
    used = measured.model.transform(mnist()[2]) != 0
    sheet.add(measured, "fewest units that are not zero in a code", used.sum(1).min(), "≥", 16)
    sheet.add(measured, "most units that are not zero in a code", used.sum(1).max(), "≤", 16)
    sheet.add(measured, "units used by some row", used.any(0).sum(), "≥", 250)


@row("S17")
def s17(sheet: Sheet) -> None:
    """L1 compared with L2 on a ReLU code: exact zeros at about the same mean activation."""
    share, measured = {}, {}
    for name, penalty in (("L1", L1(1e-3)), ("L2", L2(1e-3))):
        model = Autoencoder(64, network=(), code="relu", penalty=penalty, max_epochs=10, random_state=sheet.seed)
        measured[name] = fit_on(model, mnist()[0])
        codes = model.transform(mnist()[2])
        share[name] = float((codes == 0).mean()), float(codes.mean())
    for name, target in (("L2", None), ("L1", share["L2"][0] + 0.2)):
        quantity = f"share of exact zeros with {name} (mean activation {share[name][1]:.2f})"
        sheet.add(measured[name], quantity, share[name][0], ">", target)


@row("S18")
def s18(sheet: Sheet) -> None:
    """Denoising by masking 30 % and 50 % of the pixels: PSNR of the damaged and the restored test images."""
    clean = mnist()[2]
    for fraction in (0.3, 0.5):
        measured = fit(default((256,), 64, epochs=5, corruption=Masking(fraction)), sheet.seed)
        damaged = clean * (np.random.default_rng(1).random(clean.shape) >= fraction)
        after = psnr(clean, measured.model.reconstruct(damaged.astype(np.float32)))
        sheet.add(measured, f"masking {fraction}: PSNR restored, dB", after, ">", psnr(clean, damaged))


@row("S19")
def s19(sheet: Sheet) -> None:
    """The contractive penalty compared with an independent Jacobian, and its effect on the sensitivity of codes."""
    X, X_test = mnist()[0], mnist()[2]
    settings: dict[str, Any] = {"network": (128,), "max_epochs": 5, "random_state": sheet.seed}
    plain = fit_on(Autoencoder(32, **settings), X)
    model = Autoencoder(32, penalty=Contractive(1e-3, method="exact"), **(settings | {"max_epochs": 1}))
    exact = fit_on(model, X[:2000])
    held = fit_on(Autoencoder(32, penalty=Contractive(1e-4), **settings), X)
    sensitivity = [_sensitivity(measured.model, X_test) for measured in (plain, held)]
    sheet.add(exact, "relative difference to torch.func.jacrev", _jacobian_gap(exact.model, X_test[:50]), "≤", 1e-5)
    sheet.add(plain, "sensitivity of the code without penalty", sensitivity[0])
    sheet.add(held, "sensitivity of the code with penalty", sensitivity[1], "<", 0.8 * sensitivity[0])


@row("S19-cost")
def s19_cost(sheet: Sheet) -> None:
    """Time of a contractive step relative to a plain step: medians of interleaved rounds."""
    X = mnist()[0][:12_000]
    cases: dict[str, tuple[dict[str, Any], str, float]] = {
        "closed form, 784-128": ({"network": (), "code": "sigmoid", "batch_size": 32}, "exact", 2.0),
        "estimate, S6's layers": ({"network": (128, 64), "batch_size": 256}, "hutchinson", 3.0),
    }
    for name, (settings, method, target) in cases.items():
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for _ in range(5):
            for contractive, taken in seconds.items():
                penalty = Contractive(method=method) if contractive else None
                size = 128 if method == "exact" else 32
                model = Autoencoder(size, penalty=penalty, max_epochs=2, random_state=sheet.seed, **settings)
                measured = fit_on(model, X)
                taken.append(float(model.history_["seconds"].min()))
        ratio = float(np.median(seconds[True]) / np.median(seconds[False]))
        sheet.add(measured, f"{name}: seconds of a contractive epoch ÷ a plain one", ratio, "≤", target)


def _jacobian_gap(model: Autoencoder, X: np.ndarray) -> float:
    objective, x = model.objective_.as_dtype(torch.float64), torch.from_numpy(X).double()
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: objective.encode(one[None])[0]))(x)
    expected = 1e-3 * float(jacobian.detach().square().sum((1, 2)).mean())
    return abs(float(objective(x, torch.Generator()).penalty.detach()) / expected - 1)


def _sensitivity(model: Autoencoder, X: np.ndarray) -> float:
    """Squared change of the codes for pixel changes of 0.05, as a fraction of the codes' variance."""
    moved = X + np.random.default_rng(0).normal(0, 0.05, X.shape).astype(np.float32)
    codes = model.transform(X)
    return float(np.square(model.transform(moved) - codes).sum(1).mean() / codes.var(0).sum())


@row("S20")
def s20(sheet: Sheet) -> None:
    """The bound and the importance-sampled likelihood of a linear Gaussian model compared with the exact likelihood."""
    draw = np.random.default_rng(sheet.seed)
    X = (draw.normal(size=(4000, 3)) @ draw.normal(size=(3, 8)) + 0.3 * draw.normal(size=(4000, 8))).astype(np.float32)
    model = VariationalAutoencoder(
        3, network=(), loss=Normal(0.4), scaling="none", max_epochs=40, random_state=sheet.seed
    )
    measured = fit_on(model, X)
    weight, bias = (part.detach().double() for part in model.objective_.decoder.parameters())
    covariance = weight @ weight.T + 0.16 * torch.eye(8, dtype=torch.float64)
    exact = torch.distributions.MultivariateNormal(bias, covariance).log_prob(torch.from_numpy(X).double()).numpy()
    bound = -8 * float(model.objective_(torch.from_numpy(X), torch.Generator().manual_seed(0)).total.detach())
    sampled = model.log_likelihood(X, n_importance_samples=500, random_state=0)
    sheet.add(measured, "evidence bound minus exact log-likelihood, nats", bound - exact.mean(), "≤", 0.0)
    sheet.add(
        measured, "importance-sampled minus exact log-likelihood, nats", abs(sampled.mean() - exact.mean()), "≤", 0.01
    )


@row("S21", minutes=6)
def s21(sheet: Sheet) -> None:
    """Convolutional compared with dense at code size 32: squared error on held-out and on shifted images."""
    X, X_test = (rows.reshape(-1, 28, 28) for rows in (mnist()[0][:20_000], mnist()[2]))
    dense = fit_on(Autoencoder(32, max_epochs=8, random_state=sheet.seed), X)
    conv = fit_on(ConvolutionalAutoencoder(32, max_epochs=8, random_state=sheet.seed), X)
    shifted = np.roll(X_test, (2, -2), axis=(1, 2))
    for name, images in (("held-out images", X_test), ("images shifted by two pixels", shifted)):
        theirs, ours = (float(measured.model.reconstruction_error(images).mean()) for measured in (dense, conv))
        sheet.add(dense, f"dense: squared error on {name}", theirs)
        sheet.add(conv, f"convolutional: squared error on {name}", ours, "<", theirs)


@row("S22")
def s22(sheet: Sheet) -> None:
    """Tied weights and an asymmetric decoder."""
    tied = fit(default((128,), 32, epochs=5).set_params(network=Dense((128,), tied=True)), sheet.seed)
    uneven = fit(default((128,), 32, epochs=5).set_params(network=Dense((128,), decoder_sizes=(64, 256))), sheet.seed)
    inner, outer = _weights(tied.model.objective_.encoder)
    back, out = _weights(tied.model.objective_.decoder)
    apart = max(float((one - two).abs().max()) for one, two in ((inner, out), (outer, back)))
    sheet.add(tied, "tied: largest difference between decoder weight and transpose", apart, "≤", 0)
    sheet.add(tied, "tied: parameters, each weight once", tied.model.n_parameters_, "≤", 105_520)
    sheet.add(tied, "tied: test loss", tied.val_loss)
    sheet.add(uneven, "asymmetric 128 | 64-256: test loss", uneven.val_loss)


def _weights(network: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter.detach() for name, parameter in network.named_parameters() if name.endswith("weight")]


@row("S23")
def s23(sheet: Sheet) -> None:
    """Every loss on MNIST for one epoch, and mixed column by column on a table of wines."""
    for name in ("binary-cross-entropy", "mean-squared-error", "mean-absolute-error", "huber", "normal", "observed"):
        measured = fit_on(default((128,), 32, epochs=1, loss=name).set_params(random_state=sheet.seed), mnist()[0])
        error = float(measured.model.reconstruction_error(mnist()[2]).mean())
        sheet.add(measured, f"{name}: root of mean squared error", error**0.5, "≤", 0.25)
    X, kind = load_wine(return_X_y=True)
    table = np.column_stack([X, X[:, 0] > 13, np.eye(3)[kind]])
    loss = ByColumn((("mean-squared-error", 13), ("binary-cross-entropy", 1), ("categorical-cross-entropy", 3)))
    measured = fit_on(Autoencoder(4, loss=loss, max_epochs=100, random_state=sheet.seed), table)
    restored = measured.model.reconstruct(table)
    right = float((restored[:, 14:].argmax(1) == kind).mean())
    sheet.add(measured, "mixed table: share of categories restored", right, "≥", 0.98)


@row("S20-nats", minutes=60)
def s20_nats(sheet: Sheet) -> None:
    """Statically binarised MNIST: log-likelihood by 500 importance samples on all 10,000 test images."""
    data = isthmus.datasets.load_binarized_mnist()
    assert data.X_test is not None
    X, X_test = (images.reshape(-1, 28, 28).astype(np.float32) for images in (data.X, data.X_test))
    model = VariationalAutoencoder(40, network=BINARISED_MNIST, max_epochs=60, batch_size=128, random_state=sheet.seed)
    measured = fit_on(model, X)
    nats = -float(model.log_likelihood(X_test, n_importance_samples=500, random_state=0).mean())
    quantity = "nats a test image (in the literature: VAE 86.8–89.8, importance-weighted 84.8)"
    sheet.add(measured, quantity, nats, "≤", 88.0)
