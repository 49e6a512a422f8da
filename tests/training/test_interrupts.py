"""Signals while a model is trained, and threads that cannot start."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus import Autoencoder, Callback
from isthmus.exceptions import InterruptedWarning
from isthmus.training.engines.compiled.thread_team import Crew

X = np.random.default_rng(0).random((256, 128)).astype(np.float32)
needs_signals = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")


class SignalsAt(Callback):
    """Sends a signal to this process in the middle of an epoch."""

    def __init__(self, number: int, step: int) -> None:
        self.number, self.step = number, step

    def on_step_end(self, run) -> None:  # type: ignore[no-untyped-def]
        if run.step == self.step:
            os.kill(os.getpid(), self.number)


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_its_step_and_keeps_the_best_weights(number: signal.Signals) -> None:
    settings: dict[str, Any] = {"network": (16,), "batch_size": 64, "random_state": 0, "schedule": "constant"}
    handlers = [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)]
    with pytest.warns(InterruptedWarning, match="interrupted in epoch 3; the weights of epoch 2 are kept") as told:
        model = Autoencoder(4, **settings, max_epochs=50, callbacks=[SignalsAt(number, 10)]).fit(X)
    assert len(told) == 1
    assert (model.stop_reason_, model.n_epochs_, len(model.history_)) == ("interrupted", 2, 2)
    whole = Autoencoder(4, **settings, max_epochs=2).fit(X)
    np.testing.assert_array_equal(model.transform(X), whole.transform(X))
    assert [signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)] == handlers


@needs_signals
def test_a_handler_of_the_program_is_left_alone() -> None:
    taken: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: taken.append(number))
    try:
        model = Autoencoder(4, network=(16,), max_epochs=2, callbacks=[SignalsAt(signal.SIGTERM, 1)]).fit(X)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert taken == [signal.SIGTERM]
    assert model.stop_reason_ == "finished"


def test_a_fit_in_a_thread_sets_no_handlers() -> None:
    stopped: list[str] = []

    def fit() -> None:
        stopped.append(Autoencoder(4, network=(16,), max_epochs=1).fit(X).stop_reason_)

    thread = threading.Thread(target=fit)
    thread.start()
    thread.join()
    assert stopped == ["finished"]


class Stuck(Callback):
    """Two interrupts, and then a callback that does not return."""

    def on_epoch_end(self, run) -> None:  # type: ignore[no-untyped-def]
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)


@needs_signals
def test_a_second_interrupt_leaves_a_callback_that_does_not_return() -> None:
    began = time.monotonic()
    with pytest.warns(InterruptedWarning, match="the weights of epoch 1 are kept"):
        model = Autoencoder(4, network=(16,), max_epochs=3, callbacks=[Stuck()]).fit(X)
    assert model.stop_reason_ == "interrupted"
    assert time.monotonic() - began < 50


FITS_UNTIL_KILLED = """
    import os, sys, warnings
    import numpy as np
    import isthmus
    from isthmus.training.engines.compiled import engine, refusals
    from isthmus.training.devices import use_threads

    warnings.simplefilter("ignore")
    refusals.WORTH = -1.0
    engine.OPERATIONS_PER_THREAD = 1.0
    use_threads(2)
    X = np.random.default_rng(0).random((256, 128)).astype("f4")

    class Counts(isthmus.Callback):
        def on_step_end(self, run):  # one step a call: as many hand-overs as there can be
            if run.step == 1:
                print("begun", flush=True)

    for _ in range(int(sys.argv[1])):
        model = isthmus.Autoencoder(16, network=(128,), max_epochs=10**6, batch_size=128, callbacks=[Counts()]).fit(X)
        print(model.stop_reason_, bool(np.isfinite(model.transform(X)).all()), flush=True)
"""


@needs_signals
def test_signals_at_random_moments_of_compiled_steps_on_two_threads(tmp_path: Path) -> None:
    n_signals, moments = 6, random.Random(0)
    script = tmp_path / "fits.py"
    script.write_text(textwrap.dedent(FITS_UNTIL_KILLED), encoding="utf-8")
    with subprocess.Popen([sys.executable, script, str(n_signals)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for index in range(n_signals):
            assert process.stdout.readline() == "begun\n"
            time.sleep(moments.random() * 0.1)
            process.send_signal((signal.SIGINT, signal.SIGTERM)[index % 2])
            assert process.stdout.readline() == "interrupted True\n"
        assert process.wait(60) == 0


def test_shares_run_together_or_not_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    meeting, taken = threading.Barrier(3), list[int]()

    def share(index: int) -> None:
        meeting.wait(30)  # breaks unless all shares run at once
        taken.append(index)

    assert Crew().run(share, 3)
    assert sorted(taken) == [0, 1, 2]
    _allow_threads(monkeypatch, 1)
    assert not Crew().run(share, 3)
    assert sorted(taken) == [0, 1, 2]


def _allow_threads(monkeypatch: pytest.MonkeyPatch, n_threads: int) -> None:
    start: Callable[[threading.Thread], None] = threading.Thread.start
    begun: list[threading.Thread] = []

    def limited(thread: threading.Thread) -> None:
        if len(begun) >= n_threads:
            raise RuntimeError("can't start new thread")
        begun.append(thread)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)


def test_where_threads_cannot_start_one_does_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.training.engines.compiled.refusals.WORTH", -1.0)
    monkeypatch.setattr("isthmus.training.engines.compiled.engine.OPERATIONS_PER_THREAD", 1.0)
    monkeypatch.setattr("torch.get_num_threads", lambda: 3)
    model = Autoencoder(4, network=(16,), max_epochs=2, random_state=0)
    expected = model.fit(X).transform(X)
    _allow_threads(monkeypatch, 1)
    np.testing.assert_array_equal(model.fit(X).transform(X), expected)


def test_what_is_raised_while_shares_run_is_raised_when_they_are_done() -> None:
    done, release = list[int](), threading.Event()

    def share(index: int) -> None:
        release.wait(30)
        done.append(index)

    def interrupt() -> None:
        time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        release.set()

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            Crew().run(share, 2)
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join()
    assert sorted(done) == [0, 1]
