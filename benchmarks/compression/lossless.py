"""Lossless: statically binarised MNIST by bits back, a real stream, decoded and compared."""

from __future__ import annotations

import lzma
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.sheet import Sheet
from benchmarks.systems.harness import BINARISED_MNIST
from isthmus import VariationalAutoencoder, compress_lossless, datasets, decompress_lossless, load

EPOCHS = 30


def run(sheet: Sheet, folder: Path, docs: Path | None) -> None:  # noqa: ARG001  # as all parts
    """Train a model if there is none, and compress the 10,000 test images."""
    data = datasets.load_binarized_mnist()
    assert data.X_test is not None
    X, X_test = (images.reshape(-1, 28, 28).astype(np.float32) for images in (data.X, data.X_test))
    path = folder / "lossless.safetensors"
    if not path.exists():
        began = time.process_time()
        model = VariationalAutoencoder(40, network=BINARISED_MNIST, max_epochs=EPOCHS, batch_size=128, random_state=0)
        model.fit(X).save(path)
        sheet.add("lossless", "training, CPU seconds", time.process_time() - began)
    model = load(path, device="cpu")
    bound = _bound(model, X_test.reshape(len(X_test), -1))
    began = time.process_time()
    blob = compress_lossless(model, X_test)
    middle = time.process_time()
    restored = decompress_lossless(model, blob)
    end = time.process_time()
    rate = 8 * len(blob) / X_test.size
    sheet.add("lossless", "bits a pixel of the whole stream", rate, "≤ 0.17", rate <= 0.17)
    sheet.add("lossless", "evidence bound of the model, bits a pixel", bound)
    sheet.add("lossless", "stream over bound", rate / bound, "≤ 1.01", rate <= 1.01 * bound)
    sheet.add("lossless", "images that differ after decoding", float((restored != X_test).any(axis=(1, 2)).sum()), "0",
              bool((restored == X_test).all()))  # fmt: skip
    packed = np.packbits(X_test.astype(np.uint8)).tobytes()
    sheet.add("lossless", "bits a pixel of LZMA on packed bits", 8 * len(lzma.compress(packed, preset=9)) / X_test.size)
    sheet.add("lossless", "compress, images a CPU second", len(X_test) / (middle - began))
    sheet.add("lossless", "decompress, images a CPU second", len(X_test) / (end - middle))
    sheet.add("lossless", "size of the model, bytes", path.stat().st_size)


@torch.inference_mode()
def _bound(model: VariationalAutoencoder, rows: np.ndarray) -> float:
    """The negative evidence bound of rows, bits a pixel, with one draw of each code."""
    noise = torch.Generator().manual_seed(0)
    parts = [model.objective_(x, noise).total * len(x) for x in torch.from_numpy(rows).split(1000)]
    nats: float = float(sum(parts)) / len(rows)
    return nats / float(np.log(2))
