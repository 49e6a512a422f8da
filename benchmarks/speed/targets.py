"""Descriptions of the measurements, and their targets."""

from __future__ import annotations

from benchmarks.speed.peers.protocol import Workload
from benchmarks.speed.peers_table import FLOOR

WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("S1", (784, 128, 32, 128, 784), 32),
        Workload("S5", (784, 64, 784), 32, "mse"),
        Workload("S6", (784, 128, 64, 32, 64, 128, 784), 256),
        Workload("S8", (784, 128, 64, 32, 64, 128, 784), 256, noise=0.5),
        Workload("wide", (784, 1024, 1024, 64, 1024, 1024, 784), 256, n_rows=15_360),
        Workload("convolutional", (784, 32, 784), 128, channels=(16, 32), n_rows=12_800),
        Workload("variational", (784, 400, 20, 400, 784), 128, variational=True),
        Workload("contractive", (784, 128, 784), 128, contraction=1e-4),
        Workload("small", (784, 16, 784), 32, n_rows=20_000),
    )
}
LOSS = 0.0868
"""S6's published test loss, after 29 epochs."""
TO_LOSS = f"to a test loss of {LOSS}"
EPOCHS = 10
"""Of a detector: PyOD's own default."""

PARTS = {
    "training": "An epoch",
    "quality": "Time to quality",
    "detector": "A detector's fit",
    "many": "Many models at once",
    "inference": "Inference",
    "start": "Time to start",
    "memory": "Memory",
    "scaling": "How cost grows",
    "device": "On a GPU",
}
"""Title of each part, in order."""

_WORKLOADS = "\n".join(f"* {workload}" for workload in WORKLOADS.values())
TEXTS = {
    "training": f"""
Seconds per epoch on MNIST during training with Adam at 0.001. The first epoch is a warm-up and is not counted. Each
peer trains as its own documentation shows. The loss is that of the last measured epoch and includes penalty and
divergence; it agrees between all that do the same work.

{_WORKLOADS}""",
    "quality": f"""
Seconds of training until S6's loss on the test images is at most {LOSS}, the published figure after 29 epochs. isthmus
runs a whole fit as a user calls it, given only the layers and the smallest sufficient number of epochs. Keras, and
isthmus for comparison, train as published (ReLU, Adam at 0.001, batch 256) and are measured after every epoch; the time
of measuring is not counted. Each round has a different seed.""",
    "detector": f"""
A whole fit of a detector with the network 784–128–32–128–784, {EPOCHS} epochs of 60,000 rows, batch 32, squared error
on standardised rows, scores of the training rows included; no batch normalisation, no dropout.""",
    "many": """
Seconds to fit models that differ in seed and learning rate, for one epoch each: all by `fit_many`, all in sequence by
`fit`, and a single model by `fit`.""",
    "inference": """
Rows per second for 60,000 images in memory, with results in memory. Keras' `predict` as the tutorials call it, and with
larger batches; PyTorch with a DataLoader of batches of 1,000; JAX as one compiled call.""",
    "start": """
Seconds of a whole process that imports, that shows the help, or that imports and trains one step.""",
    "memory": """
Peak resident memory of a fit and of a pass of `stream`, minus the memory of the process before it, which includes
libraries and data loaded in memory. Pages of mapped files count. The mapped file is sparse except for 60,000 rows.""",
    "scaling": """
A network of one hidden layer of 128 at batch size 256. Rows: 784 features in a sparse memory-mapped file, which is read
in chunks if it is large; the time before the second step includes the scan of the data. Features: 1,000 to 20,000 rows.
Code: 784 features. At most 200 steps, and five seconds of steps and of rows.""",
    "device": """
Seconds of one epoch on the GPU, as under *An epoch*. JAX takes TF32 for matrix products unless told otherwise, and
isthmus does with `precision="tf32"`: both are timed in single precision and in TF32.""",
}
"""What each part measures."""

RATIOS: dict[tuple[str, str, str, str], tuple[str, float]] = {
    ("training", "S1", "epoch", "Keras on TensorFlow"): ("≥", 4.0),
    ("training", "S6", "epoch", "Keras on TensorFlow"): ("≥", 3.0),
    ("training", "S1", "epoch", "PyTorch DataLoader"): ("≥", 3.0),
    ("training", "S6", "epoch", "PyTorch DataLoader"): ("≥", 1.8),
    ("training", "S1", "epoch", "JAX scan"): ("≥", 1.0),
    ("training", "S6", "epoch", "JAX scan"): ("≥", 1.3),
    ("training", "S1", "epoch", FLOOR): ("≥", 1 / 1.8),
    ("training", "S6", "epoch", FLOOR): ("≥", 1 / 1.4),
    ("quality", "S6", TO_LOSS, "Keras on TensorFlow"): ("≥", 7.0),
    ("detector", "S1", "fit", "PyOD AutoEncoder"): ("≥", 10.0),
    ("inference", "S1", "transform", "Keras on TensorFlow"): ("≥", 5.0),
    ("inference", "S6", "transform", "Keras on TensorFlow"): ("≥", 5.0),
    ("device", "S1", "epoch", "PyTorch DataLoader"): ("≥", 10.0),
    ("device", "S1", "epoch", "JAX scan"): ("≥", 1.0),
}
"""Target ratios to peers."""

MEASURES: dict[tuple[str, str, str], tuple[str, float]] = {
    ("start", "import", "process"): ("≤", 0.15),
    ("start", "help", "process"): ("≤", 0.5),
    ("memory", "1,000,000 × 784 float32, memory-mapped", "above the data"): ("≤", 1000.0),
}
"""Targets of isthmus's own figures."""
