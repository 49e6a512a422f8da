"""The engine: schedules, history, the objective's parts, resuming."""

from __future__ import annotations

import copy
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import isthmus
from isthmus import Autoencoder, Checkpoint, DenoisingAutoencoder, History
from isthmus.choices import L1, BinaryCrossEntropy, Context, Dense, GaussianNoise, Plain
from isthmus.exceptions import ModelFileError
from isthmus.training import SCHEDULES, Choices, Constant, Cosine, Objective, OneCycle
from isthmus.training.devices import threads_for
from isthmus.training.engines.flat_parameters import FlatParameters

CONTEXT = Context((6,), code_size=2, lower=0.0, upper=1.0)


def objective(**more: object) -> Objective:
    torch.manual_seed(0)
    choices = {"network": Dense((4,)), "code": Plain("relu"), "loss": BinaryCrossEntropy()} | more
    return Objective(Choices(**choices), CONTEXT)  # type: ignore[arg-type]


def test_the_total_is_the_sum_of_its_parts() -> None:
    x = torch.rand(10, 6, generator=torch.Generator().manual_seed(0))
    made = objective(penalty=L1(0.3))
    parts = made(x)
    z = made.encode(x)
    torch.testing.assert_close(parts.penalty, 0.3 * z.abs().sum(1).mean())
    torch.testing.assert_close(parts.reconstruction, torch.nn.functional.binary_cross_entropy(made.decode(z), x))
    torch.testing.assert_close(parts.total, parts.reconstruction + parts.penalty)


def test_the_target_is_the_clean_input() -> None:
    x = torch.rand(10, 6, generator=torch.Generator().manual_seed(0))
    made = objective(corruption=GaussianNoise(0.5, clip=True))
    parts = made(x, torch.Generator().manual_seed(5))
    noisy = made.corrupt(x, torch.Generator().manual_seed(5))
    expected = torch.nn.functional.binary_cross_entropy(made.decode(made.encode(noisy)), x)
    torch.testing.assert_close(parts.total, expected)


def test_flat_parameters_share_storage_with_the_module_until_released() -> None:
    layer = torch.nn.Linear(3, 2)
    flat = FlatParameters(layer)
    layer(torch.ones(1, 3)).sum().backward()
    assert torch.equal(flat.gradients, torch.ones(8))
    flat.values.data.zero_()
    assert not layer.weight.any()
    flat.release()
    flat.values.data.fill_(1.0)
    assert not layer.weight.any()


def test_weights_keep_their_layout_and_travel_in_one_that_every_engine_knows() -> None:
    torch.manual_seed(0)
    module = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.Linear(4, 6), torch.nn.Linear(6, 6))
    twin, before = copy.deepcopy(module), [parameter.detach().clone() for parameter in module.parameters()]
    plain = FlatParameters(twin)
    flat = FlatParameters(module, lambda weight: weight.dim() == 2 and weight.shape[0] > weight.shape[1])
    assert not torch.equal(flat.values, plain.values)
    assert torch.equal(flat.portable(flat.values), plain.values)
    assert torch.equal(flat.laid(flat.portable(flat.values)), flat.values)
    for parameter, value in zip(module.parameters(), before, strict=True):
        assert torch.equal(parameter, value)


@pytest.mark.parametrize("name", SCHEDULES.names())
def test_schedules_stay_between_zero_and_one(name: str) -> None:
    factors = [SCHEDULES.resolve(name).factor(step / 100) for step in range(100)]
    assert all(0 <= factor <= 1 for factor in factors)


def test_schedules_have_the_stated_ends() -> None:
    assert OneCycle(warm_up=0.3, start=0.1, end=0.01).factor(0.0) == pytest.approx(0.1)
    assert OneCycle(warm_up=0.3).factor(0.3) == pytest.approx(1.0)
    assert OneCycle(end=0.01).factor(1.0) == pytest.approx(0.01)
    assert Cosine(end=0.2).factor(0.5) == pytest.approx(0.6)
    assert Constant().factor(0.9) == 1.0


def test_small_steps_run_on_one_thread_and_the_number_is_put_back() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads_for(1e6):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with threads_for(3e7):
            assert torch.get_num_threads() == 1
        with threads_for(1e9):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_history_is_columns_of_rows() -> None:
    history = History([{"epoch": 1, "loss": 2.0}, {"epoch": 2, "loss": 1.0, "val_loss": 3.0}])
    assert len(history) == 2
    assert np.isnan(history["val_loss"][0])
    assert repr(history) == "History(2 epochs: epoch, loss, val_loss)"
    with pytest.raises(KeyError, match="no column 'los'; it has epoch, loss, val_loss"):
        history["los"]


def weights(model: Autoencoder) -> np.ndarray:
    return np.concatenate([parameter.detach().numpy().ravel() for parameter in model.objective_.parameters()])


class Halt(isthmus.Callback):
    """Ends a run after some epochs as if the process had died."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs

    def on_epoch_end(self, run: object) -> None:
        if run.epoch == self.epochs:  # type: ignore[attr-defined]
            raise RuntimeError("died")


@pytest.mark.parametrize("worth", [0.0, float("inf")], ids=["compiled", "not compiled"])
def test_a_run_resumed_from_its_checkpoint_ends_bit_for_bit_like_one_that_was_not_stopped(
    digits: np.ndarray, tmp_path: Path, worth: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isthmus.training.engines.compiled.refusals.WORTH", worth)

    def model(*callbacks: isthmus.Callback) -> DenoisingAutoencoder:
        return DenoisingAutoencoder(3, max_epochs=6, random_state=0, validation_fraction=0.1, callbacks=callbacks)

    path = tmp_path / "run.ckpt"
    with pytest.raises(RuntimeError, match="died"):
        model(Checkpoint(path), Halt(4)).fit(digits)
    resumed = model().fit(digits, resume=path)
    whole = model().fit(digits)
    assert np.array_equal(weights(resumed), weights(whole))
    assert np.array_equal(resumed.history_["val_loss"], whole.history_["val_loss"])


KILLED = """
import sys, time, numpy as np, isthmus
from sklearn.datasets import load_digits
class Slow(isthmus.Callback):
    def on_epoch_end(self, run):
        print(run.epoch, flush=True)
        time.sleep(0.05)
isthmus.Autoencoder(3, max_epochs=40, random_state=0, callbacks=[isthmus.Checkpoint(sys.argv[1]), Slow()]).fit(
    load_digits().data[:300] / 16
)
"""


def test_a_run_killed_in_the_middle_resumes_bit_for_bit(digits: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    with subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if int(line) >= 5:
                break
        time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    whole = Autoencoder(3, max_epochs=40, random_state=0).fit(digits)
    resumed = Autoencoder(3, max_epochs=40, random_state=0).fit(digits, resume=path)
    assert np.array_equal(weights(resumed), weights(whole))


def test_a_checkpoint_of_another_run_is_refused(digits: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "run.ckpt"
    Autoencoder(3, max_epochs=2, random_state=0, callbacks=[Checkpoint(path)]).fit(digits)
    with pytest.raises(ModelFileError, match="its max_epochs is 2, but now it is 1, which is fewer"):
        Autoencoder(3, max_epochs=1, random_state=0, batch_size=32).fit(digits, resume=path)
    with pytest.raises(ModelFileError, match="its n_rows is 300, but now it is 200"):
        Autoencoder(3, max_epochs=2, random_state=0).fit(digits[:200], resume=path)
    with pytest.raises(ModelFileError, match="There is no model file at"):
        Autoencoder(3, max_epochs=2, random_state=0).fit(digits, resume=tmp_path / "other.ckpt")
    model = Autoencoder(3, max_epochs=2, random_state=0).fit(digits)
    with pytest.raises(ModelFileError, match="holds a Autoencoder, not a checkpoint"):
        model.fit(digits, resume=model.save(tmp_path / "m.safetensors"))


def test_progress_writes_lines_where_there_is_no_terminal(
    digits: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    Autoencoder(3, max_epochs=2, random_state=0, verbose=1).fit(digits)
    assert "epoch 2/2 · loss 0." in capsys.readouterr().err
    Autoencoder(3, max_epochs=2, random_state=0).fit(digits)
    assert capsys.readouterr() == ("", "")
