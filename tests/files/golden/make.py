"""Makes golden model files: one small file of each kind, with rows and what the model answers for them.

``python tests/files/golden/make.py FOLDER`` writes ``NAME.safetensors`` (the model), ``NAME.npz`` (rows and answers)
and, for a table, ``NAME.json`` (its columns). The files of a released version are never made again: they are what
people have on their disks, and every later version must load them and answer the same.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

import isthmus
from isthmus import (
    AnomalyDetector,
    Autoencoder,
    Checkpoint,
    EncoderClassifier,
    EncoderRegressor,
    ImageCodec,
    Imputer,
    LinearAutoencoder,
    Recommender,
    Restorer,
    SearchIndex,
    SignalDetector,
    TableSampler,
    choices,
    load,
)

DRAW = np.random.default_rng(0)
ROWS = DRAW.normal(size=(60, 6)) * [1, 10, 100, 0.01, 1, 1] + [0, 5, -200, 1, 0, 0]
UNIT = DRAW.random((60, 6))
IMAGES = DRAW.random((24, 8, 6))
COLOUR = (DRAW.random((20, 8, 8, 3)) * 255).astype(np.uint8)
COUNTS = DRAW.poisson(2.0, size=(60, 6)).astype(float)
HOLES = np.where(DRAW.random(ROWS.shape) < 0.1, np.nan, ROWS)
LABELS = np.where(ROWS[:, 0] > 0, "high", "low")
SIGNAL = np.sin(np.arange(240) / 5.0)[:, None] + 0.05 * DRAW.normal(size=(240, 2))
TABLE = pd.DataFrame(
    {
        "amount": np.round(DRAW.lognormal(3.0, 1.0, 80), 2),
        "items": DRAW.integers(1, 6, 80),
        "country": DRAW.choice(["DE", "FR", "US"], 80),
        "paid": DRAW.random(80) < 0.7,
        "day": pd.date_range("2024-01-01", periods=80, freq="D"),
    }
)
TABLE.loc[::9, "amount"] = np.nan
LOG = pd.DataFrame(
    {
        "user": [f"user {u:02d}" for u in range(24) for _ in range(5)],
        "item": np.concatenate([DRAW.choice(14, 5, replace=False) + 100 for _ in range(24)]),
        "rating": DRAW.integers(1, 6, 120).astype(float),
    }
)
BYTES = (DRAW.random((12, 16, 12)) * 255).astype(np.uint8)
BITS = (DRAW.random((60, 8)) < 0.4).astype(np.float32)
TITLES = {item: f"Title {item} (19{item % 100:02d})" for item in range(100, 114)}

Answers = dict[str, np.ndarray]


@dataclass(frozen=True)
class Golden:
    """One golden file: how it is made, the rows it is asked about, what it is asked, and since when there are such."""

    make: Callable[[Path], object]
    X: Any
    """The rows, or what makes them of the file, such as a stream that it compressed."""
    ask: Callable[[Any, Any], Answers]
    since: str = "0.1.0"
    """The first version with such files."""


def _rows(model: Any, X: Any) -> Answers:
    """What every autoencoder answers."""
    Z = model.transform(X)
    found = {"transform": Z, "reconstruct": model.reconstruct(X), "inverse_transform": model.inverse_transform(Z)}
    return found | {"loss": model.history_["loss"], "unit_means_": model.unit_means_}


def _named(model: Any, X: Any) -> Answers:
    return {name: np.asarray(answer) for name, answer in _rows(model, pd.DataFrame(X, columns=list("abcdef"))).items()}


def _conditional(model: Any, X: Any) -> Answers:
    return {"transform": model.transform(X, LABELS), "reconstruct": model.reconstruct(X, LABELS)}


def _drawn(model: Any, X: Any) -> Answers:
    posterior = model.posterior(X)
    return _rows(model, X) | {"mean": posterior.mean, "deviation": posterior.deviation}


def _linear(model: Any, X: Any) -> Answers:
    learned = ("components_", "explained_variance_", "explained_variance_ratio_")
    return _rows(model, X) | {name: getattr(model, name) for name in learned}


def _odd(model: Any, X: Any) -> Answers:
    found = {name: getattr(model, name)(X) for name in ("score_samples", "predict", "contributions")}
    return found | {"threshold_": np.asarray(model.threshold_), "decision_scores_": model.decision_scores_}


def _calibrated(model: Any, X: Any) -> Answers:
    return _odd(model, X) | {"p_values": model.p_values(X)}


def _signal(model: Any, X: Any) -> Answers:
    return {"scores": np.asarray(model.scores(X))}


def _filled(model: Any, X: Any) -> Answers:
    return {"transform": np.asarray(model.transform(X))}


def _filled_table(model: Any, X: Any) -> Answers:
    return {name: np.asarray(model.transform(X)[name]) for name in ("amount", "items", "paid")}


def _classes(model: Any, X: Any) -> Answers:
    return {"predict_proba": model.predict_proba(X), "predict": model.predict(X), "classes_": model.classes_}


def _recommended(model: Any, X: Any) -> Answers:
    users = [str(name) for name in X]
    found = [model.recommend(user, 4) for user in users]
    items = np.stack([np.asarray(answer.items) for answer in found])
    return {
        "items": items,
        "titles": np.asarray([model.titles_.get(int(item), "") for item in items.ravel()]),
        "similar": np.asarray(model.similar_items(103, 3).items),
        "user_embeddings": model.user_embeddings(users),
        "item_embeddings_": model.item_embeddings_,
    }


def _resumed(path: Any, X: Any) -> Answers:
    """A checkpoint goes on where it was left: after its last epoch there is nothing left to learn."""
    model = _small(max_epochs=3).fit(X, resume=path)
    return {"transform": model.transform(X), "loss": model.history_["loss"]}


def _restored(model: Any, X: Any) -> Answers:
    return {"restore": np.asarray(model.restore(X))}


def _decompressed(codec: Any, X: Any) -> Answers:
    return {"decompress": codec.decompress(X.tobytes()).astype(int)}  # whole numbers are compared exactly


def _decompressed_rows(model: Any, X: Any) -> Answers:
    return {"decompress_lossless": isthmus.decompress_lossless(model, X.tobytes())}


def _predicted(model: Any, X: Any) -> Answers:
    return {"predict": model.predict(X)}


def _found(index: Any, X: Any) -> Answers:
    matches = index.query(X, 3)
    return {"names": matches.names.astype(int), "distances": matches.distances}


def _made(sampler: Any, X: Any) -> Answers:
    made = sampler.sample(12, random_state=0)
    return {name: np.asarray(made[name].astype(str), dtype=str) for name in ("items", "country", "paid")}


def _small(**changes: Any) -> Autoencoder:
    usual: dict[str, Any] = {"code_size": 2, "network": (5,), "max_epochs": 2, "batch_size": 16, "learning_rate": 0.01}
    return Autoencoder(**{**usual, "random_state": 0, "device": "cpu", **changes})


def _of(X: Any, *labels: Any, kind: type[Autoencoder] = Autoencoder, **changes: Any) -> Callable[[Path], object]:
    params = {**_small().get_params(deep=False), **changes}
    if kind is LinearAutoencoder:
        params |= {"network": (), "loss": "mean-squared-error", "scaling": "global"}
    return lambda path: kind(**params).fit(X, *labels).save(path)


def _checkpoint(path: Path) -> object:
    return _small(max_epochs=3, callbacks=[Checkpoint(path)]).fit(ROWS)


def _detector(X: Any, threshold: Any = 0.1, **changes: Any) -> Callable[[Path], object]:
    usual: dict[str, Any] = {
        "n_members": 2,
        "hidden_size": 6,
        "max_steps": 10,
        "memory_size": 40,
        "random_state": 0,
        "device": "cpu",
    }
    return lambda path: AnomalyDetector(threshold, **{**usual, **changes}).fit(X).save(path)


def _recommender(feedback: str) -> Callable[[Path], object]:
    params: dict[str, Any] = {"code_size": 3, "network": (5,), "max_epochs": 2, "random_state": 0, "device": "cpu"}
    return lambda path: Recommender(feedback=feedback, **params).fit(LOG, titles=TITLES).save(path)


def _imputer(X: Any) -> Callable[[Path], object]:
    params: dict[str, Any] = {"n_members": 2, "hidden_sizes": (5,), "code_size": 2, "max_epochs": 1, "random_state": 0}
    return lambda path: Imputer(**params).fit(X).save(path)


def _classifier(path: Path) -> object:
    model = EncoderClassifier(_small(), max_epochs=2, dropout=0.1, random_state=0)
    return model.fit(ROWS, LABELS).save(path)


def _signals(path: Path) -> object:
    detector = AnomalyDetector(0.1, n_members=2, hidden_size=6, max_steps=10, random_state=0, device="cpu")
    return SignalDetector(12, detector=detector).fit([SIGNAL]).save(path)


def _sampler(path: Path) -> object:
    return TableSampler(code_size=2, hidden_sizes=(6,), max_epochs=2, random_state=0).fit(TABLE).save(path)


def _index(path: Path) -> object:
    return SearchIndex(_small().fit(ROWS)).add(ROWS).save(path)


def _regressor(path: Path) -> object:
    return EncoderRegressor(_small(), max_epochs=2, random_state=0).fit(ROWS, ROWS[:, 1]).save(path)


def _restorer(path: Path) -> object:
    made = Restorer("gaussian-noise", network=choices.UNet((4, 6)), max_steps=4, random_state=0, device="cpu")
    return made.fit(BYTES).save(path)


def _codec(path: Path) -> object:
    return ImageCodec("25 dB", n_steps=4, max_images=8, random_state=0).fit(BYTES).save(path)


def _bytes(stream: bytes) -> np.ndarray:
    return np.frombuffer(stream, np.uint8)


NOISY = [choices.Masking(0.2), choices.GaussianNoise(0.1)]
CASES: Mapping[str, Golden] = {
    "dense": Golden(_of(ROWS), ROWS, _rows),
    "dense-frame": Golden(_of(pd.DataFrame(UNIT, columns=list("abcdef"))), UNIT, _named),
    "tied": Golden(_of(UNIT, network=choices.Dense((5,), activation="tanh", tied=True)), UNIT, _rows),
    "denoising": Golden(_of(UNIT, kind=isthmus.DenoisingAutoencoder, corruption=NOISY), UNIT, _rows),
    "sparse": Golden(
        _of(UNIT, kind=isthmus.SparseAutoencoder, code="relu", penalty=[choices.L1(0.01), choices.L2(0.01)]),
        UNIT,
        _rows,
    ),
    "top-k": Golden(_of(ROWS, code_size=4, code=choices.TopK(2), loss="huber"), ROWS, _rows),
    "kl-sparsity": Golden(
        _of(UNIT, code=choices.Plain("sigmoid"), penalty="kl-sparsity", optimizer="adamw"), UNIT, _rows
    ),
    "contractive": Golden(_of(UNIT, kind=isthmus.ContractiveAutoencoder, penalty="contractive"), UNIT, _rows),
    "linear": Golden(_of(ROWS, kind=LinearAutoencoder), ROWS, _linear),
    "variational": Golden(
        _of(UNIT, kind=isthmus.VariationalAutoencoder, code=choices.Gaussian(0.5, warm_up=0.2)), UNIT, _drawn
    ),
    "variational-normal": Golden(_of(ROWS, kind=isthmus.VariationalAutoencoder, code="gaussian"), ROWS, _drawn),
    "conditional": Golden(_of(UNIT, LABELS, conditional=True), UNIT, _conditional),
    "poisson": Golden(_of(COUNTS, loss="poisson", scaling="none"), COUNTS, _rows),
    "observed": Golden(_of(HOLES, loss="observed"), HOLES, _rows),
    "convolutional": Golden(_of(IMAGES, kind=isthmus.ConvolutionalAutoencoder, network="convolutional"), IMAGES, _rows),
    "convolutional-colour": Golden(_of(COLOUR, network=choices.Convolutional()), COLOUR, _rows),
    "sparse-rows": Golden(
        _of(COUNTS, network="sparse-rows", corruption="drop-entries", loss="multinomial", scaling="none"), COUNTS, _rows
    ),
    "detector": Golden(_detector(ROWS), ROWS, _odd),
    "detector-calibrated": Golden(_detector(ROWS, isthmus.FalseAlarmRate(0.2)), ROWS, _calibrated),
    "detector-table": Golden(_detector(TABLE), TABLE, _odd),
    "detector-images": Golden(_detector(IMAGES, autoencoder=_small(network="convolutional")), IMAGES, _odd),
    "signals": Golden(_signals, SIGNAL, _signal),
    "imputer": Golden(_imputer(HOLES), HOLES, _filled),
    "imputer-table": Golden(_imputer(TABLE), TABLE, _filled_table),
    "classifier": Golden(_classifier, ROWS, _classes),
    "recommender": Golden(_recommender("implicit"), np.asarray(sorted(set(LOG["user"]))), _recommended),
    "recommender-ratings": Golden(_recommender("explicit"), np.asarray(sorted(set(LOG["user"]))), _recommended),
    "checkpoint": Golden(_checkpoint, ROWS, _resumed),
    "pairs": Golden(lambda path: _small().fit(UNIT, target=UNIT[:, ::-1]).save(path), UNIT, _rows, "0.2.0"),
    "quantized": Golden(_of(UNIT, code=choices.Quantized(), penalty=choices.Rate(0.01)), UNIT, _rows, "0.2.0"),
    "lossless": Golden(
        _of(BITS, kind=isthmus.VariationalAutoencoder, code="gaussian"),
        lambda path: _bytes(isthmus.compress_lossless(load(path), BITS)),
        _decompressed_rows,
        "0.2.0",
    ),
    "regressor": Golden(_regressor, ROWS, _predicted, "0.2.0"),
    "table-sampler": Golden(_sampler, TABLE, _made, "0.2.0"),
    "search-index": Golden(_index, 1.01 * ROWS, _found, "0.2.0"),
    "restorer": Golden(_restorer, BYTES, _restored, "0.2.0"),
    "codec": Golden(_codec, lambda path: _bytes(load(path).compress(BYTES)), _decompressed, "0.2.0"),
}


def answers(name: str, path: Path, X: Any) -> Answers:
    """What the file of a case answers for rows."""
    case = CASES[name]
    asked = path if name == "checkpoint" else load(path, device="cpu")
    return case.ask(asked, X)


def read_rows(folder: Path, name: str) -> Any:
    """The rows of a case, as they were stored."""
    table = folder / f"{name}.json"
    if not table.exists():
        with np.load(folder / f"{name}.npz") as stored:
            return stored["X"]
    frame = pd.DataFrame(json.loads(table.read_text()))
    return frame.assign(day=pd.to_datetime(frame["day"]))


def main(folder: Path) -> None:
    """Write all golden files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore")  # models of two epochs are useless, and say so
    torch.set_num_threads(1)
    for name, case in CASES.items():
        path = folder / f"{name}.safetensors"
        case.make(path)
        rows: dict[str, Any] = {}
        X = case.X(path) if callable(case.X) else case.X
        if isinstance(X, pd.DataFrame):
            plain = X.assign(day=X["day"].astype(str)).to_dict("list")
            (folder / f"{name}.json").write_text(json.dumps(plain).replace("NaN", "null"))
        else:
            rows["X"] = X
        found = answers(name, path, read_rows(folder, name) if not rows else X)
        stored: dict[str, Any] = {**rows, **{f"answer.{key}": value for key, value in found.items()}}
        np.savez_compressed(folder / f"{name}.npz", **stored)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
