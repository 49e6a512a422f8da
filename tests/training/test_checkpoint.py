"""Checkpoints: of this run and no other, loadable as models, and the start of longer runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import nn

from isthmus import Autoencoder, Callback, Checkpoint, DenoisingAutoencoder, Dense, LinearAutoencoder, load
from isthmus.data import as_source
from isthmus.exceptions import ModelFileError, OutputError
from isthmus.training import checkpoint as module
from isthmus.training.checkpoint import digest_rows

X = np.random.default_rng(0).random((60, 6)).astype(np.float32)
LABELS = (X[:, 0] > 0.5).astype(int)


def make(*callbacks: Callback, **changes: Any) -> Autoencoder:
    usual: dict[str, Any] = {"network": (5,), "max_epochs": 4, "batch_size": 16, "learning_rate": 0.01}
    return Autoencoder(2, **{**usual, "random_state": 0, "callbacks": callbacks, **changes})


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A checkpoint after two of four epochs."""
    make(Checkpoint(tmp_path / "run-{epoch}.safetensors")).fit(X)
    return tmp_path / "run-2.safetensors"


OTHERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "data": ("training rows", lambda path: make().fit(X[::-1].copy(), resume=path)),
    "one cell": ("training rows", lambda path: make().fit(np.where(X[59, 5] == X, 0.5, X), resume=path)),
    "dtype": ("training rows", lambda path: make().fit(X.astype(np.float64), resume=path)),
    "units": ("scaling", lambda path: make().fit(X * 50 + 9, resume=path)),
    "scaling": ("scaling", lambda path: make(scaling="standard").fit(X, resume=path)),
    "activation": (
        "network",
        lambda path: make(network=Dense((5,), activation="tanh")).fit(X, resume=path),
    ),
    "code": ("code", lambda path: make(code="sigmoid").fit(X, resume=path)),
    "corruption": ("corruption", lambda path: make(corruption="masking").fit(X, resume=path)),
    "penalty": ("penalty", lambda path: make(penalty="l1").fit(X, resume=path)),
    "loss": ("loss", lambda path: make(loss="huber").fit(X, resume=path)),
    "rate": ("learning_rate", lambda path: make(learning_rate=0.02).fit(X, resume=path)),
    "batch": ("batch_size", lambda path: make(batch_size=20).fit(X, resume=path)),
    "schedule": ("schedule", lambda path: make(schedule="constant").fit(X, resume=path)),
    "optimizer": ("optimizer", lambda path: make(optimizer="adamw").fit(X, resume=path)),
    "seed": ("seed", lambda path: make(random_state=1).fit(X, resume=path)),
    "patience": ("patience", lambda path: make(early_stopping=3).fit(X, resume=path)),
    "held-out rows": ("validation rows", lambda path: make().fit(X, X_val=X[:9], resume=path)),
    "labels": ("n_parameters", lambda path: make(conditional=True).fit(X, LABELS, resume=path)),
    "fewer epochs": ("max_epochs", lambda path: make(max_epochs=3).fit(X, resume=path)),
    "class": ("model", lambda path: DenoisingAutoencoder(**make().get_params(deep=False)).fit(X, resume=path)),
    "own modules": ("network", lambda path: make(network=(nn.Linear(6, 2), nn.Linear(2, 6))).fit(X, resume=path)),
}


@pytest.mark.parametrize("what", OTHERS)
def test_a_run_that_differs_does_not_take_the_checkpoint_up(what: str, path: Path) -> None:
    name, fit = OTHERS[what]
    with pytest.raises(
        ModelFileError, match=rf"checkpoint of another run: .*its {name} is .*, but now it is "
    ) as error:
        fit(path)
    assert str(path) in str(error.value)
    assert "Resume with the same data and parameters" in str(error.value)


def test_all_differences_are_named_in_one_error(path: Path) -> None:
    with pytest.raises(ModelFileError) as error:
        make(code="sigmoid", loss="huber", learning_rate=0.5).fit(X + 1, resume=path)
    for text in (
        "its code is Plain(activation=null), but now it is Plain(activation=sigmoid)",
        "its learning_rate is 0.01, but now it is 0.5",
        "its loss is BinaryCrossEntropy(), but now it is Huber(",
        "its training rows is 60 rows, SHA-256 ",
    ):
        assert text in str(error.value)


def test_the_same_rows_in_another_container_are_the_same_run(path: Path) -> None:
    whole = make().fit(X)
    resumed = make().fit(np.asfortranarray(X), resume=path)
    assert np.array_equal(resumed.transform(X), whole.transform(X))


def test_a_conditional_model_with_other_labels_is_another_run(tmp_path: Path) -> None:
    file = tmp_path / "c.safetensors"
    make(Checkpoint(file), conditional=True).fit(X, LABELS)
    assert make(conditional=True).fit(X, LABELS, resume=file).n_epochs_ == 4
    with pytest.raises(ModelFileError, match="its training rows is"):
        make(conditional=True).fit(X, 1 - LABELS, resume=file)


def test_a_checkpoint_loads_as_the_model_of_its_epoch(tmp_path: Path) -> None:
    seen: dict[int, np.ndarray] = {}

    class Watch(Callback):
        def on_epoch_end(self, run: Any) -> None:
            import torch  # noqa: PLC0415

            with torch.no_grad():
                seen[run.epoch] = run.objective.encode(torch.from_numpy(X)).numpy().copy()

    make(Checkpoint(tmp_path / "m{epoch:03d}.safetensors"), Watch()).fit(X)
    assert sorted(file.name for file in tmp_path.iterdir()) == [f"m00{n}.safetensors" for n in (1, 2, 3, 4)]
    for epoch, codes in seen.items():
        model = load(tmp_path / f"m{epoch:03d}.safetensors")
        assert (type(model), model.n_epochs_, len(model.history_)) == (Autoencoder, epoch, epoch)
        np.testing.assert_allclose(model.transform(X), codes, rtol=1e-5, atol=1e-6)


def test_a_checkpoint_of_a_variant_and_of_own_modules_loads(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    LinearAutoencoder(2, max_epochs=2, align=False, random_state=0, callbacks=[Checkpoint(file)]).fit(X)
    assert type(load(file)) is LinearAutoencoder
    network = (nn.Linear(6, 2), nn.Linear(2, 6))
    fitted = make(Checkpoint(file), network=network).fit(X)
    assert np.array_equal(load(file, network=network).transform(X), fitted.transform(X))


def test_a_run_is_extended_and_ends_like_a_longer_one(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    make(Checkpoint(file), schedule="constant").fit(X)
    longer = make(schedule="constant", max_epochs=7).fit(X)
    extended = make(schedule="constant", max_epochs=7).fit(X, resume=file)
    assert np.array_equal(extended.transform(X), longer.transform(X))
    assert np.array_equal(extended.history_["loss"], longer.history_["loss"])


def test_an_extended_cycle_is_that_of_the_longer_run(tmp_path: Path) -> None:
    file = tmp_path / "m.safetensors"
    make(Checkpoint(file)).fit(X)
    extended, longer = make(max_epochs=8).fit(X, resume=file), make(max_epochs=8).fit(X)
    np.testing.assert_array_equal(extended.history_["learning_rate"][4:], longer.history_["learning_rate"][4:])
    assert extended.history_["learning_rate"][4] > extended.history_["learning_rate"][3]


def test_a_missing_folder_is_told_before_the_first_epoch(tmp_path: Path) -> None:
    class Count(Callback):
        begun = 0

        def on_epoch_start(self, run: Any) -> None:
            Count.begun += 1

    with pytest.raises(OutputError, match="there is no folder"):
        make(Count(), Checkpoint(tmp_path / "none" / "m.safetensors")).fit(X)
    assert Count.begun == 0


@pytest.mark.parametrize("every", [0, -1, 1.5, "2", None, True])
def test_a_checkpoint_every_nothing_is_refused(every: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"Checkpoint: every=.* must be an integer >= 1"):
        Checkpoint(tmp_path / "m.safetensors", every=every)


def test_a_checkpoint_without_a_model_says_so() -> None:
    old = Path(__file__).parents[1] / "files" / "golden" / "0.1.0" / "checkpoint.safetensors"
    with pytest.raises(ModelFileError, match=r"a checkpoint of isthmus 0\.1\.0, which holds a run but no model; go on"):
        load(old)


def test_a_digest_sees_every_row_of_small_data_and_blocks_of_large(monkeypatch: pytest.MonkeyPatch) -> None:
    source, rows = as_source(X), np.arange(60)
    changed = X.copy()
    changed[33, 3] += 1e-6
    assert digest_rows(source, rows) == digest_rows(as_source(X.copy()), rows)
    assert digest_rows(source, rows) != digest_rows(as_source(changed), rows)
    assert digest_rows(source, rows) != digest_rows(source, rows[:-1])
    assert digest_rows(source, rows) != digest_rows(as_source(X.reshape(60, 2, 3)), rows)
    monkeypatch.setattr(module, "DIGEST_BYTES", 24 * 4)
    monkeypatch.setattr(module, "DIGEST_BLOCKS", 4)
    few = digest_rows(source, rows)
    first, last = X.copy(), X.copy()
    first[0, 0], last[59, 5] = 9.0, 9.0
    assert few not in {digest_rows(as_source(first), rows), digest_rows(as_source(last), rows)}
    assert few == digest_rows(as_source(changed), rows)  # row 33 lies between the blocks
