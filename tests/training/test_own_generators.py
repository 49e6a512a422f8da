"""Random numbers and settings of the process: a fit draws from generators of its own, and leaves the rest alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import torch
from torch import nn

import isthmus
from isthmus import (
    AnomalyDetector,
    Autoencoder,
    ContractiveAutoencoder,
    ConvolutionalAutoencoder,
    DenoisingAutoencoder,
    EncoderClassifier,
    Imputer,
    LinearAutoencoder,
    Recommender,
    SignalDetector,
    SparseAutoencoder,
    VariationalAutoencoder,
    fit_many,
)
from isthmus.choices import Code, Context
from isthmus.choices.codes import CodeModule
from isthmus.choices.draws import DrawnFrom, may_draw
from isthmus.training.devices import use_threads

X = np.random.default_rng(0).random((150, 16)).astype(np.float32)
IMAGES = X.reshape(150, 4, 4)
Y = np.arange(150) % 3
HOLES = np.where(np.random.default_rng(1).random(X.shape) < 0.1, np.nan, X)
LIKED = scipy.sparse.csr_array((X > 0.7).astype(np.float32))
SHORT: dict[str, Any] = {"network": (8,), "max_epochs": 2}


class Custom(nn.Module):
    """A layer of a user's own that draws from whatever torch gives it."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(16, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        noisy = x + 0.1 * torch.randn_like(x) if self.training else x
        output: torch.Tensor = self.linear(nn.functional.dropout(noisy, 0.3, self.training))
        return output


def own_modules() -> tuple[nn.Module, nn.Module]:
    with DrawnFrom(torch.Generator().manual_seed(5)):
        return Custom(), nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Dropout(0.5), nn.Linear(8, 16))


OWN = own_modules()


def codes(model: Any, rows: Any = X) -> Callable[[int], np.ndarray]:
    return lambda seed: np.asarray(model().set_params(random_state=seed).fit(rows).transform(rows))


def many(seed: int) -> np.ndarray:
    models = fit_many(Autoencoder(3, network=(8,), max_epochs=2), X, {"random_state": [seed, seed + 5]})
    return np.stack([model.transform(X) for model in models])


FITS: dict[str, Callable[[int], np.ndarray]] = {
    "plain": codes(lambda: Autoencoder(3, **SHORT)),
    "linear": codes(lambda: LinearAutoencoder(3, max_epochs=2)),
    "sparse": codes(lambda: SparseAutoencoder(3, **SHORT)),
    "denoising": codes(lambda: DenoisingAutoencoder(3, **SHORT)),
    "contractive": codes(lambda: ContractiveAutoencoder(3, **SHORT)),
    "variational": codes(lambda: VariationalAutoencoder(3, **SHORT)),
    "pretrained": codes(lambda: Autoencoder(3, **SHORT, pretraining="layer-wise")),
    "convolutional": codes(lambda: ConvolutionalAutoencoder(3, max_epochs=1), IMAGES),
    "own modules": codes(lambda: Autoencoder(3, network=OWN, max_epochs=2)),
    "early stopping": codes(lambda: Autoencoder(3, **SHORT, early_stopping=2)),
    "many": many,
    "detector": lambda seed: AnomalyDetector(0.1, max_steps=10, random_state=seed).fit(X).score_samples(X),
    "signal": lambda seed: (
        SignalDetector(10, detector=AnomalyDetector(0, max_steps=5, random_state=seed)).fit(X[:, 0]).scores(X[:, 0])
    ),
    "imputer": lambda seed: np.asarray(Imputer(max_epochs=1, random_state=seed).fit_transform(HOLES)),
    "classifier": lambda seed: (
        EncoderClassifier(Autoencoder(3, **SHORT, random_state=seed), dropout=0.2, max_epochs=2, random_state=seed)
        .fit(X, Y)
        .predict_proba(X)
    ),
    "recommender": lambda seed: np.asarray(
        Recommender(code_size=3, network=(8,), max_epochs=2, random_state=seed).fit(LIKED).predict([0, 1], [2, 3])
    ),
}


COMPILED = ("plain", "variational", "many")


def process_state() -> dict[str, Any]:
    """What all threads of the program share."""
    kind, keys, *rest = np.random.get_state()  # noqa: NPY002  # the global one is what must not move
    backends: tuple[Any, ...] = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    with ThreadPoolExecutor(1) as pool:
        n_threads_elsewhere = pool.submit(torch.get_num_threads).result()
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": (kind, np.asarray(keys).tolist(), *rest),
        "threads": (torch.get_num_threads(), n_threads_elsewhere),
        "dtype": torch.get_default_dtype(),
        "device": torch.get_default_device(),
        "grad": torch.is_grad_enabled(),
        "deterministic": torch.are_deterministic_algorithms_enabled(),
        "precision": [backend.fp32_precision for backend in backends],
    }


@pytest.mark.parametrize("kind", FITS)
def test_a_fit_leaves_the_state_of_the_process_alone(kind: str) -> None:
    before = process_state()
    FITS[kind](0)
    assert process_state() == before


@pytest.mark.parametrize(
    ("kind", "compiled", "n_threads"),
    [*((kind, False, 2) for kind in FITS), *((kind, True, 2) for kind in COMPILED), ("plain", False, 1)],
)
def test_fits_in_threads_give_the_same_models_as_alone(
    kind: str, compiled: bool, n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    if compiled:
        monkeypatch.setattr("isthmus.training.engines.compiled.refusals.WORTH", -1.0)
    else:
        monkeypatch.setenv("ISTHMUS_COMPILE", "0")

    def fit(seed: int) -> np.ndarray:
        use_threads(n_threads)
        return FITS[kind](seed)

    with ThreadPoolExecutor(1) as pool:
        alone = [pool.submit(fit, seed).result() for seed in (0, 1)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(fit, [0, 1, 0, 1]))
    for seed, got in zip([0, 1, 0, 1], together, strict=True):
        np.testing.assert_array_equal(got, alone[seed])


def test_layers_of_a_user_that_draw_obey_the_seed() -> None:
    torch.manual_seed(1)
    first = FITS["own modules"](0)
    torch.manual_seed(2)
    np.testing.assert_array_equal(FITS["own modules"](0), first)
    assert np.abs(FITS["own modules"](1) - first).max() > 1e-4


class Shifted(Code):
    """A code with an initial value that torch draws in `build`."""

    def build(self, context: Context) -> CodeModule:
        return ShiftedModule(context.code_size)


class ShiftedModule(CodeModule):
    def __init__(self, code_size: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.randn(code_size))

    def deterministic(self, h: torch.Tensor) -> torch.Tensor:
        return h + self.shift


def test_initial_values_of_a_code_obey_the_seed_and_leave_the_global_generator() -> None:
    made = codes(lambda: Autoencoder(3, code=Shifted(), max_epochs=1, batch_size=64))
    before = torch.get_rng_state()
    first = made(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(5)
    np.testing.assert_array_equal(made(0), first)
    assert not np.array_equal(made(1), first)


def test_the_number_of_threads_changes_for_one_thread_only() -> None:
    before = torch.get_num_threads()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(use_threads, before + 1).result()
        assert pool.submit(torch.get_num_threads).result() == before + 1
    assert torch.get_num_threads() == before
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == before


@pytest.mark.parametrize(
    ("draw", "by_hand"),
    [
        (lambda: torch.rand(5), lambda g: torch.rand(5, generator=g)),
        (lambda: torch.randn(5), lambda g: torch.randn(5, generator=g)),
        (lambda: torch.randint(9, (5,)), lambda g: torch.randint(9, (5,), generator=g)),
        (lambda: torch.randint(3, 9, (5,)), lambda g: torch.randint(3, 9, (5,), generator=g)),
        (lambda: torch.randperm(5), lambda g: torch.randperm(5, generator=g)),
        (lambda: torch.empty(5).normal_(), lambda g: torch.empty(5).normal_(generator=g)),
        (lambda: torch.empty(5).uniform_(2, 3), lambda g: torch.empty(5).uniform_(2, 3, generator=g)),
        (lambda: torch.bernoulli(torch.full((5,), 0.5)), lambda g: torch.bernoulli(torch.full((5,), 0.5), generator=g)),
        (lambda: torch.multinomial(torch.ones(5), 3), lambda g: torch.multinomial(torch.ones(5), 3, generator=g)),
    ],
)
def test_what_is_drawn_comes_from_the_generator(
    draw: Callable[[], torch.Tensor], by_hand: Callable[[torch.Generator], torch.Tensor]
) -> None:
    before = torch.get_rng_state()
    with DrawnFrom(torch.Generator().manual_seed(3)):
        drawn = draw()
    assert torch.equal(drawn, by_hand(torch.Generator().manual_seed(3)))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "layer",
    [nn.Dropout(0.25), nn.AlphaDropout(0.25), nn.Dropout1d(0.25), nn.RReLU(), nn.LSTM(6, 6, 2, dropout=0.5)],
    ids=lambda layer: type(layer).__name__,
)
def test_random_layers_of_torch_are_reproducible_and_leave_the_global_generator(layer: nn.Module) -> None:
    x = torch.randn(4, 8, 6, generator=torch.Generator().manual_seed(0))
    before, results = torch.get_rng_state(), []
    for seed in (0, 0, 1):
        with DrawnFrom(torch.Generator().manual_seed(seed)):
            given = layer.train()(x)
            results.append(given[0] if isinstance(given, tuple) else given)
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    assert torch.equal(before, torch.get_rng_state())
    assert may_draw([layer])


def test_dropout_keeps_the_share_and_the_mean_and_has_its_gradient() -> None:
    x = torch.ones(100_000, requires_grad=True)
    with DrawnFrom(torch.Generator().manual_seed(0)):
        for scaled in (nn.functional.dropout(x, 0.25), torch.native_dropout(x, 0.25, train=True)[0]):
            kept = scaled.detach()
            assert abs(float((kept > 0).float().mean()) - 0.75) < 0.005
            assert float(kept.max()) == pytest.approx(1 / 0.75)
            (slope,) = torch.autograd.grad(scaled.sum(), x)
            assert torch.equal(slope, kept)


def test_what_can_only_draw_globally_is_refused() -> None:
    query = torch.zeros(1, 1, 2, 4)
    attention = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default
    with DrawnFrom(torch.Generator()):
        attention(query, query, query, 0.0)
        with pytest.raises(
            ValueError, match="applies dropout from torch's global generator, which random_state does not control"
        ):
            attention(query, query, query, 0.5)


GLOBAL = re.compile(
    r"torch\.manual_seed|torch\.seed|fork_rng|set_rng_state|torch\.random\.|torch\.set_num_threads|set_default_d"
    r"|np\.random\.(?!default_rng|Generator|RandomState|SeedSequence)|\brandom\.(seed|random|shuffle|choice)\("
    r"|with torch\.device|set_num_interop|use_deterministic"
)
"""Calls that draw from, or change, what all threads share."""


def test_no_line_of_the_source_uses_a_global_generator() -> None:
    source = Path(isthmus.__file__).parent
    found = [
        f"{path.relative_to(source)}:{number}: {line.strip()}"
        for path in sorted(source.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if GLOBAL.search(line) and not line.lstrip().startswith((">>>", "``torch.set_num_threads``"))
    ]
    assert not found
