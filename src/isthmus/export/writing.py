"""Export of a model as an ONNX graph that takes raw input."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn

from isthmus.atomic import atomic, check_writable
from isthmus.choices.registry import unknown
from isthmus.estimators import Autoencoder
from isthmus.exceptions import DataError, OutputError
from isthmus.export.graph_modules import VERBS, Detect, Restore, Verb, example_rows
from isthmus.export.table_columns import Words, takes_text
from isthmus.export.translations import translations
from isthmus.tasks.anomaly import AnomalyDetector
from isthmus.tasks.restoration import Restorer

OPSET, IR_VERSION = 18, 10
"""Versions of the graph; old ones, so that old runtimes can run it."""
CORE = "model/"
"""Prefix of internal names in the graph."""
DETECTED = ("score_samples", "predict")
PACKAGES = ("onnx", "onnxscript")


def export_onnx(model: Any, path: str | Path, *, what: str = "auto", overwrite: bool = True) -> Path:
    """Export a model as an ONNX graph that takes raw input; scaling and threshold are part of the graph.

    Rows are the first axis of all inputs and outputs, of any length. The graph of a detector computes in double
    precision, that of an autoencoder in single precision. `onnx_inputs` converts data to its inputs. An export takes
    ten to thirty seconds.

    Parameters
    ----------
    model
        A fitted `AnomalyDetector`, a `Restorer`, or any `Autoencoder`.
    path
        A path with the suffix .onnx.
    what
        For a detector ``"auto"``: the outputs are ``score_samples``, (n,), and ``predict``, (n,), 1 or -1. The input is
        ``X``, or for a table one input per column, (n,), by column name. For an autoencoder ``"transform"`` (the
        meaning of ``"auto"``), ``"reconstruct"``, ``"inverse_transform"`` or ``"score_samples"``, which is also the
        name of the output; the input is ``X``, or ``Z`` for codes. A conditional model has the additional input ``y``,
        (n,): the index of each label in ``classes_``. A model that was fitted with a target answers in its shape and
        units, and its ``"score_samples"`` has the additional input ``target``. For a restorer ``"auto"``: ``restore``,
        from ``X``, images (n, h, w, c) of any height and width, float32 in the unit of fit ([0, 1] for bytes).
    overwrite
        Whether to replace an existing file.

    Returns
    -------
    Path of the file.

    Raises
    ------
    ImportError
        onnx is not installed: ``pip install 'isthmus[onnx]'``.
    TypeError, ValueError
        The model or the method cannot be exported.
    OutputError
        The file cannot be written; an existing file is not changed.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from isthmus import Autoencoder
    >>> X = np.random.default_rng(0).random((50, 6))
    >>> model = Autoencoder(2, network=(5,), max_epochs=1, random_state=0).fit(X)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     export_onnx(model, f"{folder}/codes.onnx", what="transform").name
    'codes.onnx'
    """
    path = Path(path)
    if path.suffix != ".onnx":
        raise OutputError(f"'{path}' has the suffix {path.suffix!r}; a graph needs the suffix .onnx.")
    check_writable(path, overwrite=overwrite)
    if not isinstance(model, AnomalyDetector | Autoencoder | Restorer):
        raise TypeError(
            f"A {type(model).__name__} cannot be exported; pass an AnomalyDetector or an Autoencoder (for a "
            "SignalDetector its detector_, which takes windows), or a Restorer."
        )
    check_is_fitted(model)
    job = _job_of(model, what)
    _require_packages()
    made = job.finish(_traced(job))
    with atomic(path, overwrite=overwrite) as temporary:
        temporary.write_bytes(made.SerializeToString())
    return path


def _require_packages() -> None:
    for name in PACKAGES:
        try:
            importlib.import_module(name)
        except ImportError:
            raise ImportError(
                f"Writing ONNX needs the package {name}, which is not installed; pip install 'isthmus[onnx]'."
            ) from None


@dataclass(frozen=True)
class Job:
    """The module to trace, the names of its inputs and outputs, and the lookup tables of text inputs."""

    module: nn.Module
    example: tuple[Tensor, ...]
    inputs: Sequence[str]
    outputs: Sequence[str]
    words: dict[str, Words]
    any_length: Sequence[int] = (0,)
    """The axes of the inputs that may have any length."""

    def finish(self, core: Any) -> Any:
        """Add names and text lookups to the traced graph."""
        from onnx import checker, compose  # noqa: PLC0415  # optional, and needed here alone

        made = compose.add_prefix(core, CORE)
        made.producer_name, made.ir_version = "isthmus", IR_VERSION
        _rename(made.graph, self)
        for name, words in self.words.items():
            _look_up(made, name, words)
        checker.check_model(made)
        return made


def _job_of(model: Any, what: str) -> Job:
    if isinstance(model, AnomalyDetector):
        return _detector_job(model, what)
    return _restorer_job(model, what) if isinstance(model, Restorer) else _verb_job(model, what)


def _restorer_job(restorer: Restorer, what: str) -> Job:
    if what not in ("auto", "restore"):
        raise ValueError(f"what={what!r} must be 'auto' for a restorer, whose output is restore.")
    module = Restore(restorer).eval()
    return Job(module, (torch.rand(2, 22, 27, restorer.n_channels_in_),), ("X",), ("restore",), {}, (0, 1, 2))


def _detector_job(detector: Any, what: str) -> Job:
    if what != "auto":
        raise ValueError(f"what={what!r} must be 'auto' for a detector, whose outputs are {' and '.join(DETECTED)}.")
    module = Detect(detector).eval()
    if not hasattr(detector, "schema_"):
        return Job(module, (example_rows(detector.feature_shape_),), ("X",), DETECTED, {})
    schema = detector.schema_
    if not schema.used:
        raise DataError(
            "All columns of the detector's table are constant, so there is nothing to export; fit it on a table whose "
            "columns vary."
        )
    taken = [name for name in schema.used if name in DETECTED or name.startswith(CORE)]
    if taken:
        raise DataError(f"Column {taken[0]!r} has the name of an output; rename it before fitting.")
    words = {name: Words.of(schema[name]) for name in schema.used if takes_text(schema[name])}
    example = tuple(torch.zeros(2, dtype=torch.int64 if name in words else torch.float64) for name in schema.used)
    return Job(module, example, tuple(schema.used), DETECTED, words)


def _verb_job(model: Any, what: str) -> Job:
    verb = "transform" if what == "auto" else what
    if verb not in VERBS:
        raise ValueError(unknown("what", what, VERBS))
    module = Verb(model, verb).eval()
    inputs = module.inputs()
    return Job(module, tuple(inputs.values()), tuple(inputs), (verb,), {})


def _traced(job: Job) -> Any:
    one_each: Any = tuple(dict.fromkeys(job.any_length, torch.export.Dim.DYNAMIC) for _ in job.example)
    with torch.no_grad(), _quiet():
        program = torch.onnx.export(
            job.module,
            job.example,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=(one_each,),  # one variadic argument
            custom_translation_table=translations(),
            optimize=False,  # the optimiser replaces values below 1e-8 by zeros
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch's exporter gave no graph.")
    return program.model_proto


@contextmanager
def _quiet() -> Iterator[None]:
    """Context manager: suppress messages of torch's exporter about optional packages and deprecations."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _rename(graph: Any, job: Job) -> None:
    """Give inputs and outputs their public names; text inputs keep an internal name until their lookup is added."""
    names = {
        old.name: CORE + new if new in job.words else new for old, new in zip(graph.input, job.inputs, strict=True)
    }
    names |= {old.name: new for old, new in zip(graph.output, job.outputs, strict=True)}
    for value in (*graph.input, *graph.output, *graph.value_info):
        value.name = names.get(value.name, value.name)
    for node in graph.node:
        for places in (node.input, node.output):
            places[:] = [names.get(name, name) for name in places]
    _name_rows([*graph.input, *graph.output])


def _name_rows(values: Sequence[Any]) -> None:
    for value in values:
        value.type.tensor_type.shape.dim[0].dim_param = "n"


def _look_up(made: Any, name: str, words: Words) -> None:
    """Add the lookup that converts text to level indices."""
    from onnx import TensorProto, helper  # noqa: PLC0415  # as above

    place = next(place for place, value in enumerate(made.graph.input) if value.name == CORE + name)
    made.graph.input[place].CopyFrom(helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]))
    node = helper.make_node(
        "LabelEncoder",
        [name],
        [CORE + name],
        domain="ai.onnx.ml",
        keys_strings=list(words.known),
        values_int64s=list(words.known.values()),
        default_int64=words.other,
    )
    made.graph.node.insert(0, node)
    if all(known.domain != "ai.onnx.ml" for known in made.opset_import):
        made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
