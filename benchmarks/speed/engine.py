"""What docs/decisions.md tells of compiled steps: ``python -m benchmarks.speed.engine`` prints each figure.

Products by the compiler and by torch on one core, torch's noise, a network too large to be compiled, the time to
compile, and an epoch beside a process that keeps a core busy. On MNIST, or drawn numbers of its shape.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from collections.abc import Callable
from unittest import mock

import numpy as np
import torch
from llvmlite import ir

from benchmarks.systems.harness import mnist
from isthmus import Adam, Autoencoder, Dense
from isthmus.training.engines import Job
from isthmus.training.engines.compiled import refusals
from isthmus.training.engines.compiled.emitter import I64, POINTER, Emitter
from isthmus.training.engines.compiled.engine import CompiledEngine
from isthmus.training.engines.compiled.matrix_products import Matrix, Span, rows_by_columns, rows_by_rows
from isthmus.training.engines.compiled.program import Program
from isthmus.training.engines.compiled.target import Library, processor

ROUNDS, BUSY = 20, "while True: pass"


def seconds(work: Callable[[], object], times: int = 20) -> float:
    """The least of several rounds, for one."""
    taken = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(times):
            work()
        taken.append((time.perf_counter() - began) / times)
    return min(taken)


def product(n_rows: int, inner: int, outer: int, *, along_columns: bool) -> None:
    """(n_rows, inner) × (inner, outer) by a function written for it, and by torch, in operations a second."""
    module = ir.Module()
    emitter = Emitter(module, "multiply", [POINTER, POINTER, POINTER, I64], processor())
    left, right, out, rows = emitter.arguments
    size = outer if along_columns else inner
    matrices = Matrix(left, inner + 16, inner), Matrix(right, size, size), Matrix(out, outer + 16, outer)
    multiply = rows_by_columns if along_columns else rows_by_rows
    multiply(emitter, *matrices, Span(0, rows, processor().rows))
    emitter.done()
    library = Library(str(module))
    call = library.function("multiply", *[ctypes.c_void_p] * 3, ctypes.c_int64)
    x, weight, result = torch.randn(n_rows, inner + 16), torch.randn(inner * outer), torch.zeros(n_rows, outer + 16)
    theirs = weight.view(inner, outer) if along_columns else weight.view(outer, inner).t()
    places = [tensor.data_ptr() for tensor in (x, weight, result)]
    call(*places, n_rows)
    torch.testing.assert_close(result[:, :outer], x[:, :inner] @ theirs, rtol=1e-4, atol=1e-3)
    work = 2e-9 * n_rows * inner * outer
    mine, other = (seconds(each) for each in (lambda: call(*places, n_rows), lambda: x[:, :inner] @ theirs))
    how = "columns" if along_columns else "dot products"
    print(f"({n_rows}, {inner}) x ({inner}, {outer}) by {how}: {work / mine:.0f} · 10⁹/s, torch {work / other:.0f}")


def epoch(X: np.ndarray, sizes: tuple[int, ...], batch_size: int) -> float:
    """The quickest of three epochs of a whole fit."""
    network = Dense(sizes[:-1], activation="relu")
    model = Autoencoder(sizes[-1], network=network, code="plain", batch_size=batch_size, max_epochs=3, random_state=0)
    return float(min(model.fit(X).history_["seconds"]))


def compiling(X: np.ndarray) -> None:
    """Seconds to write and compile the program of S1's layers, the quickest and the slowest of five."""
    model = Autoencoder(32, network=(128,), max_epochs=1, random_state=0).fit(X)
    plan, taken = CompiledEngine.of(Job(model.objective_.train(), Adam(), n_rows=32)).program.plan, []
    for _ in range(5):
        began = time.perf_counter()
        Program(plan)
        taken.append(time.perf_counter() - began)
    print(f"S1's program: {min(taken):.2f} to {max(taken):.2f} s to write and compile")


def main() -> None:
    """Print all."""
    torch.set_num_threads(1)
    for n_rows in (32, 256):
        for inner, outer, along_columns in ((784, 128, True), (128, 784, True), (784, 128, False)):
            product(n_rows, inner, outer, along_columns=along_columns)
    torch.set_num_threads(os.cpu_count() or 1)
    print(f"torch.randn of (256, 784): {1e3 * seconds(lambda: torch.randn(256, 784)):.2f} ms")
    X = np.random.default_rng(0).random((5_120, 3_000), dtype=np.float32)
    large = (2_000, 500)
    with mock.patch.object(refusals, "MOST_OPERATIONS", 1e12):
        compiled = epoch(X, large, 256)
    print(
        f"3000-2000-500, batches of 256: {compiled:.2f} s an epoch compiled, {epoch(X, large, 256):.2f} s by libraries"
    )
    images = mnist()[0]
    compiling(images[:1_000])
    alone = epoch(images, (128, 32), 32)
    busy = subprocess.Popen([sys.executable, "-c", BUSY])
    try:
        print(f"S1's layers: {alone:.2f} s an epoch, {epoch(images, (128, 32), 32):.2f} s beside a busy process")
    finally:
        busy.kill()


if __name__ == "__main__":
    main()
