"""Two processes that train together: they take the steps of one, agree on every branch, and fail together."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.training import processes_script

from isthmus import Checkpoint, VariationalAutoencoder, is_main_process, load
from isthmus.data import ArraySource
from isthmus.exceptions import ProcessError
from isthmus.training.batches import StreamedFeed
from isthmus.training.processes import DrawsOfShare, Group, _refuse

SCRIPT = Path(processes_script.__file__)


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


def run_together(folder: Path, *parts: str, n: int = 2) -> list[Any]:
    """What each of n processes on loopback found."""
    there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "WORLD_SIZE": str(n), "OMP_NUM_THREADS": "1"}
    started = [
        subprocess.Popen(
            [sys.executable, str(SCRIPT), str(folder), *parts],
            env=os.environ | there | {"RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(n)
    ]
    try:
        ends = [process.communicate(timeout=150)[1] for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
    assert [process.returncode for process in started] == [0] * n, "\n".join(ends)
    return [json.loads((folder / f"found-{n}-{rank}.json").read_text()) for rank in range(n)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the processes find a checkpoint of a single one, and write."""
    made = tmp_path_factory.mktemp("two")
    settings = {**processes_script.FEW, "schedule": "constant", "max_epochs": 2}
    VariationalAutoencoder(3, callbacks=(Checkpoint(made / "known.safetensors"),), **settings).fit(processes_script.X)
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> list[Any]:
    return run_together(folder, "equal", "errors", "stops", "files", "ends")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return processes_script.equal(tmp_path_factory.mktemp("one"))


@pytest.mark.parametrize("name", processes_script.EQUAL)
def test_two_processes_take_the_steps_of_one(name: str, found: list[Any], alone: Any) -> None:
    for each in found:
        for what in ("weights", "losses"):
            np.testing.assert_allclose(each["equal"][name][what], alone[name][what], rtol=0, atol=1e-5)
    assert found[0]["equal"][name] == found[1]["equal"][name]


DIFFER = "ProcessError: The 2 processes do not train the same model on the same data. They differ in "
FAILED = "ProcessError: Process 1 of 2 cannot train, so no process does: "
REMEDY = "Give every process the same rows, parameters and versions."
NO_ROWS = "DataError: Found array with 0 sample(s) (shape=(0, 64)) while a minimum of 2 is required by Autoencoder."
HOLES = "DataError: X has 9664 NaN values, the first at row 0, column 0; fill or drop these cells first"


@pytest.mark.parametrize(
    ("case", "first_says", "second_says"),
    [
        ("data", f"{DIFFER}training rows: 151 rows, SHA-256 ", f"{DIFFER}training rows: "),
        ("model", f"{DIFFER}weights: ", "; context code_size: 2 on process 0, 3 on process 1. "),
        ("rate", f"{DIFFER}learning_rate: 0.1 on process 0, 0.05 on process 1. {REMEDY}", DIFFER),
        ("seed", f"{DIFFER}random_state: a seed on process 0, None on process 1. {REMEDY}", DIFFER),
        ("empty", FAILED + NO_ROWS, NO_ROWS),
        ("nan", FAILED + HOLES, HOLES),
    ],
)
def test_processes_that_disagree_fail_together(
    case: str, first_says: str, second_says: str, found: list[Any], folder: Path
) -> None:
    first, second = (each["errors"][case] for each in found)
    assert first.startswith(first_says)
    assert second_says in second
    assert (second == first) == second.startswith("ProcessError")
    assert [each["errors"]["after"] for each in found] == ["none", "none"]
    assert not list(folder.glob("never*"))  # nothing was written, temporary files included


def test_what_follows_from_other_rows_is_not_named(found: list[Any]) -> None:
    told = found[0]["errors"]["data"]
    assert not [word for word in ("context", "scaling", "loss", "weights") if word in told]


def test_a_process_that_ends_in_mid_run_ends_the_others(found: list[Any]) -> None:
    first, second = (each["ends"] for each in found)
    assert second == "OSError: the disk of process 1 is full"
    assert first.startswith(
        "ProcessError: Another of the processes that train together has ended or cannot be reached, so this one stops "
        "too; its own error says why. ("
    )


def test_processes_stop_in_step(found: list[Any]) -> None:
    assert found[0]["stops"] == found[1]["stops"]
    stops = found[0]["stops"]
    assert stops["early"][1] == "early stopping"
    assert stops["asked"] == [2, "interrupted"]
    assert stops["diverged"].startswith("DivergenceError")


def test_only_the_first_process_writes(found: list[Any], folder: Path) -> None:
    assert [path.name for path in sorted(folder.glob("by-*"))] == ["by-2-rank-0.safetensors"]
    assert load(folder / "by-2-rank-0.safetensors").n_epochs_ == 2


def test_two_processes_go_on_from_a_checkpoint_of_one(found: list[Any]) -> None:
    settings = {**processes_script.FEW, "schedule": "constant"}
    whole = processes_script.numbers_of(VariationalAutoencoder(3, **settings).fit(processes_script.X))
    for each in found:
        np.testing.assert_allclose(each["files"]["resumed"]["weights"], whole["weights"], rtol=0, atol=1e-5)


def test_one_process_goes_on_from_a_checkpoint_of_two(found: list[Any], folder: Path) -> None:
    settings = {**processes_script.FEW, "schedule": "constant"}
    whole, again = VariationalAutoencoder(3, **settings), VariationalAutoencoder(3, **settings)
    whole.fit(processes_script.X)
    again.fit(processes_script.X, resume=folder / "by-2-rank-0.safetensors")
    wanted, got = (processes_script.numbers_of(model)["weights"] for model in (whole, again))
    np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-5)


def test_the_command_line_under_torchrun_writes_one_model_and_is_silent_elsewhere(tmp_path: Path) -> None:
    np.save(tmp_path / "X.npy", processes_script.X)
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    called = ["--no-python", sys.executable, "-c", "from isthmus.cli import main; main()"]
    command = [sys.executable, *launcher, "--redirects", "3", "--log-dir", str(tmp_path / "logs"), *called]
    arguments = ["fit", str(tmp_path / "X.npy"), "--out", str(tmp_path / "model.safetensors"), "--epochs", "2"]
    done = subprocess.run(
        [*command, *arguments],
        capture_output=True,
        text=True,
        timeout=150,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert load(tmp_path / "model.safetensors").n_epochs_ == 2
    written = {path.parent.name + "/" + path.name: path.read_text() for path in (tmp_path / "logs").rglob("std*.log")}
    assert "saved" in written["0/stdout.log"]
    assert "epoch 2/2" in written["0/stderr.log"]
    assert written["1/stdout.log"] == ""
    assert "epoch" not in written["1/stderr.log"]


@pytest.mark.parametrize("size", [(4, 3), (8, 3), (4,), (3,), ()])
def test_shares_of_draws_are_those_of_the_whole_batch(size: tuple[int, ...]) -> None:
    """Of a batch of 7 rows, the last four: also two samples of each, and numbers that are not of rows."""
    samples = size[0] // 4 if size and size[0] % 4 == 0 else 0
    whole = torch.rand([samples * 7, *size[1:]] if samples else size, generator=torch.Generator().manual_seed(0))
    wanted = whole.view(samples, 7, *size[1:])[:, 3:].reshape(size) if samples else whole
    with DrawsOfShare(slice(3, 7), 7, 1):
        assert torch.equal(torch.rand(size, generator=torch.Generator().manual_seed(0)), wanted)
        filled = torch.empty(size).uniform_(generator=torch.Generator().manual_seed(0))
    assert torch.equal(filled, wanted)


def test_draws_that_depend_on_values_leave_the_common_generator_in_step() -> None:
    states, drawn = [], []
    for rank, rows in enumerate((slice(0, 3), slice(3, 7))):
        generator = torch.Generator().manual_seed(0)
        with DrawsOfShare(rows, 7, rank):
            drawn.append(torch.poisson(torch.full((rows.stop - rows.start, 50), 9.0 + rank), generator=generator))
        states.append(generator.get_state())
    assert torch.equal(*states)
    assert not torch.equal(drawn[0], drawn[1][:3])


def groups_of(n: int) -> list[Group]:
    """What each of n processes knows of itself."""
    groups = [Group.__new__(Group) for _ in range(n)]
    for rank, group in enumerate(groups):
        group.rank, group.n = rank, n
    return groups


class Counted(ArraySource):
    """An array that counts the rows it is asked for."""

    n_read = 0

    def read(self, rows: Any) -> np.ndarray:
        self.n_read += len(rows)
        return super().read(rows)


@pytest.mark.parametrize("weights", [None, torch.arange(1.0, 102.0)])
@pytest.mark.parametrize("batch_size", [20, 100])
def test_a_process_reads_its_share_of_streamed_rows_only(
    weights: torch.Tensor | None, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("isthmus.training.batches.WINDOW_BYTES", 4 * 3 * 40)
    array = np.arange(303, dtype=np.float32).reshape(101, 3)

    def batches(share: Any, source: Counted) -> list[torch.Tensor]:
        feed = StreamedFeed(source, np.arange(101), torch.from_numpy, batch_size, weights)
        windows = feed.windows(torch.Generator().manual_seed(0), share)
        return [rows[(share or (lambda x: x))(index)] for rows, order in windows for index in order.split(batch_size)]

    whole = batches(None, Counted(array))
    assert sum(len(batch) for batch in whole) == 101
    for group in groups_of(3):
        source = Counted(array)
        for mine, batch in zip(batches(group.share, source), whole, strict=True):
            assert torch.equal(mine, group.share(batch))
        assert source.n_read <= 101 / 3 + 6  # a batch of one row is read by all


@pytest.mark.parametrize("n_rows", [1, 2, 3, 7, 8])
def test_shares_cover_a_batch_and_their_weights_sum_to_one(n_rows: int) -> None:
    groups = groups_of(3)
    shares = [group.share(torch.arange(n_rows)) for group in groups]
    mean = sum(group.weight(n_rows) * float(share.double().mean()) for group, share in zip(groups, shares, strict=True))
    assert mean == pytest.approx((n_rows - 1) / 2)
    assert sum(group.weight(n_rows) for group in groups) == pytest.approx(1.0)


def test_versions_are_compared() -> None:
    with pytest.raises(ProcessError, match=r"isthmus: 1\.0 on process 0, 1\.1 on process 2"):
        _refuse([{"isthmus": "1.0"}, {"isthmus": "1.0"}, {"isthmus": "1.1"}])


def test_a_process_that_nobody_launched_is_the_main_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert is_main_process()
