"""Lossless streams: the same rows come back, whatever computes them, at the model's own bound."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

import isthmus
from isthmus import Autoencoder, VariationalAutoencoder, compress_lossless, datasets, decompress_lossless
from isthmus.exceptions import DataError, StreamError
from isthmus.tasks.compression import normal_tables
from isthmus.tasks.compression.lossless import MARGIN, Rounding

ROWS = (datasets.load_digits().X[:1200].reshape(-1, 64) > 0.5).astype(np.float32)


@pytest.fixture(scope="module")
def model() -> VariationalAutoencoder:
    return VariationalAutoencoder(6, network=(32,), max_epochs=30, random_state=0).fit(ROWS)


@pytest.fixture(scope="module")
def blob(model: VariationalAutoencoder) -> bytes:
    return compress_lossless(model, ROWS)


def test_the_rows_come_back_at_the_bound_of_the_model(model: VariationalAutoencoder, blob: bytes) -> None:
    restored = decompress_lossless(model, blob)
    np.testing.assert_array_equal(restored, ROWS)
    assert restored.dtype == ROWS.dtype
    parts = model.objective_(torch.from_numpy(ROWS), torch.Generator().manual_seed(0))
    bound = float(parts.total.detach()) * ROWS.size / np.log(2)
    assert 0.98 * bound < 8 * len(blob) < 1.03 * bound
    assert len(blob) < 0.8 * ROWS.size / 8  # packed bits


@pytest.mark.parametrize("n_rows", [1, 2, 3, 7, 64, 65])
def test_any_number_of_rows(model: VariationalAutoencoder, n_rows: int) -> None:
    rows = ROWS[:n_rows]
    np.testing.assert_array_equal(decompress_lossless(model, compress_lossless(model, rows)), rows)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_rows_that_the_model_did_not_expect(model: VariationalAutoencoder, value: float) -> None:
    for rows in (np.full((40, 64), value), (np.random.default_rng(0).random((40, 64)) < 0.5).astype(float)):
        np.testing.assert_array_equal(decompress_lossless(model, compress_lossless(model, rows)), rows)


def test_rows_of_almost_no_bits_leave_none_for_the_codes() -> None:
    rows = np.repeat(np.array([[0.0] * 20 + [1.0] * 20]), 700, axis=0).astype(np.float32)
    mixed = rows.copy()
    mixed[::50] = 1.0 - mixed[::50]
    model = VariationalAutoencoder(4, network=(8,), max_epochs=60, random_state=0).fit(mixed)
    blob = compress_lossless(model, rows)
    np.testing.assert_array_equal(decompress_lossless(model, blob), rows)
    assert len(blob) < rows.size / 8 / 2


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float64"])
def test_dtype_and_shape_are_kept(dtype: str) -> None:
    images = ROWS.reshape(-1, 8, 8).astype(dtype)
    model = VariationalAutoencoder(3, network=(8,), max_epochs=1, loss="bce", scaling="none", random_state=0).fit(
        images
    )
    restored = decompress_lossless(model, compress_lossless(model, images[:50]))
    assert restored.dtype == images.dtype
    np.testing.assert_array_equal(restored, images[:50])


def test_images_of_bytes_are_black_and_white() -> None:
    images = (ROWS.reshape(-1, 8, 8) * 255).astype(np.uint8)
    model = VariationalAutoencoder(3, network=(8,), max_epochs=1, random_state=0).fit(images)
    np.testing.assert_array_equal(decompress_lossless(model, compress_lossless(model, images)), images)


SCRIPT = """
import sys, numpy as np, torch, isthmus
torch.set_num_threads(int(sys.argv[4]))
model = isthmus.load(sys.argv[1], device="cpu")
np.save(sys.argv[3], isthmus.decompress_lossless(model, open(sys.argv[2], "rb").read()))
"""


def test_equal_in_a_fresh_process_with_other_threads(
    model: VariationalAutoencoder, blob: bytes, tmp_path: Path
) -> None:
    model.save(tmp_path / "m.safetensors")
    (tmp_path / "x.isth").write_bytes(blob)
    for threads in ("1", "2"):
        paths = [str(tmp_path / name) for name in ("m.safetensors", "x.isth", "rows.npy")]
        subprocess.run(
            [sys.executable, "-c", SCRIPT, *paths, threads],
            check=True,
            env={"OMP_NUM_THREADS": threads, "PYTHONPATH": ":".join(sys.path)},
        )
        np.testing.assert_array_equal(np.load(tmp_path / "rows.npy"), ROWS)


def test_numbers_next_to_a_middle_are_written_down() -> None:
    draw = np.random.default_rng(0)
    near = draw.integers(-5, 5, 200) + 0.5 + draw.choice([-1, 1], 200) * MARGIN / 30
    x = np.concatenate([near, draw.normal(size=500) * 5])
    writes = Rounding()
    whole = writes.whole(x, 100)
    reads, rest = Rounding.of_bytes(writes.to_bytes() + b"rest")
    other_machine = x + draw.normal(size=len(x)) * MARGIN / 10
    np.testing.assert_array_equal(reads.whole(other_machine, 100), whole)
    assert rest == b"rest"
    assert not np.array_equal(np.floor(other_machine + 0.5), whole)  # what the notes are for
    assert 200 <= len(writes.notes) < 210


def test_tables_are_those_of_the_distributions() -> None:
    prior = normal_tables.prior_table()
    z = np.arange(-normal_tables.REACH, normal_tables.REACH + 1) * normal_tables.GRID
    np.testing.assert_allclose(prior[np.abs(z) < 3], norm.pdf(z[np.abs(z) < 3]) * normal_tables.GRID, rtol=2e-2)
    for level, deviation in ((0, 1.0), (16, 0.25), (4, 2**-0.5)):
        assert normal_tables.deviations()[level] == pytest.approx(deviation, rel=1e-12)
        table = normal_tables.posterior_tables()[level]
        spread = np.arange(-normal_tables.WIDTH, normal_tables.WIDTH + 1) * normal_tables.GRID
        assert np.sqrt((table * spread**2).sum()) == pytest.approx(deviation, rel=0.02)
    logits = np.arange(-normal_tables.MOST_LOGIT, normal_tables.MOST_LOGIT + 1) * normal_tables.LOGIT_GRID
    np.testing.assert_allclose(normal_tables.bernoulli_table(), 1 / (1 + np.exp(-logits)), atol=1e-6)
    for table in (prior, *normal_tables.posterior_tables()):
        assert table.sum() == 1.0
        assert (table > 0).all()


def test_damaged_and_foreign_streams_are_refused(model: VariationalAutoencoder, blob: bytes) -> None:
    for place in range(0, len(blob), len(blob) // 25):
        damaged = bytearray(blob)
        damaged[place] ^= 16
        for bad in (bytes(damaged), blob[:place], blob + b"x"):
            with pytest.raises(StreamError):
                decompress_lossless(model, bad)
    other = VariationalAutoencoder(6, network=(32,), max_epochs=1, random_state=1).fit(ROWS)
    with pytest.raises(StreamError, match="of another model"):
        decompress_lossless(other, blob)


def test_what_cannot_be_kept_is_refused_with_a_remedy(model: VariationalAutoencoder) -> None:
    grey = ROWS.copy()
    grey[3, 5] = 0.5
    with pytest.raises(DataError, match=r"1 values that are neither 0 nor 1 .* the first 0.5 in row 3, column 5"):
        compress_lossless(model, grey)
    for estimator, text in (
        (Autoencoder(2, max_epochs=1), "needs a variational model, but the code is Plain"),
        (VariationalAutoencoder(2, max_epochs=1, loss="mse"), "needs a discrete likelihood.*make the data binary"),
        (VariationalAutoencoder(2, max_epochs=1, loss="normal"), "needs a discrete likelihood"),
    ):
        fitted: Any = estimator.fit(ROWS[:100])
        with pytest.raises(ValueError, match=text):
            compress_lossless(fitted, ROWS[:10])
    labelled = VariationalAutoencoder(2, max_epochs=1, conditional=True).fit(ROWS[:100], np.arange(100) % 2)
    with pytest.raises(ValueError, match="takes no labels"):
        compress_lossless(labelled, ROWS[:10])
    with pytest.raises(isthmus.DataError, match="63 features"):
        compress_lossless(model, ROWS[:5, :63])
