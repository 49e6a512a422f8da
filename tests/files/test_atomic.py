"""Files are replaced whole, with their permissions, through links, and nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isthmus import atomic as module
from isthmus.atomic import atomic, check_writable
from isthmus.exceptions import OutputError
from isthmus.files import State, read_state, write_rows, write_state

STATE = State("Autoencoder", {}, {"a": np.arange(4.0)})


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("wanted", [0o600, 0o640, 0o664, 0o444])
def test_a_replaced_file_keeps_its_mode(wanted: int, tmp_path: Path) -> None:
    path = write_state(tmp_path / "m.safetensors", STATE)
    path.chmod(wanted)
    write_state(path, STATE)
    assert mode(path) == wanted
    assert read_state(path).arrays["a"].tolist() == [0.0, 1.0, 2.0, 3.0]


@pytest.mark.parametrize("umask", ["022", "077"])
def test_a_new_file_has_the_mode_that_the_umask_leaves(umask: str, tmp_path: Path) -> None:
    code = "import sys; from isthmus.atomic import atomic\nwith atomic(sys.argv[1]) as path: path.write_text('x')"
    command = ["sh", "-c", f'umask {umask}; exec "$0" "$@"', sys.executable, "-c", code, str(tmp_path / "new.txt")]
    subprocess.run(command, check=True)
    assert mode(tmp_path / "new.txt") == 0o666 & ~int(umask, 8)


def test_the_umask_of_the_process_is_never_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def changed(_: int) -> int:
        raise AssertionError("os.umask was called")

    monkeypatch.setattr(os, "umask", changed)
    write_state(tmp_path / "m.safetensors", STATE)


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    real = tmp_path / "store" / "v1.safetensors"
    real.write_bytes(b"old")
    link = tmp_path / "latest.safetensors"
    link.symlink_to(Path("store") / "v1.safetensors")
    write_state(link, STATE)
    assert link.is_symlink()
    assert read_state(real).kind == "Autoencoder"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["latest.safetensors", "store", "v1.safetensors"]


def test_a_link_to_nothing_yet_is_written_through(tmp_path: Path) -> None:
    link = tmp_path / "latest.txt"
    link.symlink_to(tmp_path / "new.txt")
    with atomic(link) as path:
        path.write_text("x")
    assert link.is_symlink()
    assert (tmp_path / "new.txt").read_text() == "x"


def test_a_link_to_itself_and_a_pipe_are_refused(tmp_path: Path) -> None:
    link, pipe = tmp_path / "link.txt", tmp_path / "pipe.txt"
    link.symlink_to(link)
    os.mkfifo(pipe)
    with pytest.raises(OutputError, match="a link that leads to itself"):
        check_writable(link)
    with pytest.raises(OutputError, match="a device or pipe, but a regular file"):
        check_writable(pipe)
    with pytest.raises(OutputError, match="a device or pipe, but a regular file"):
        write_state("/dev/null", STATE)


FILE_SIZE = """
import resource, sys, numpy as np
from isthmus.exceptions import OutputError
from isthmus.files import State, write_rows, write_state, write_tables
import pyarrow as pa
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
rows = np.random.default_rng(0).random((50_000, 2))
table = pa.table({"a": rows[:, 0]})
for name, write in {
    "m.safetensors": lambda path: write_state(path, State("Autoencoder", {}, {"a": rows}), overwrite=True),
    "r.npy": lambda path: write_rows(path, [rows], overwrite=True),
    "r.csv": lambda path: write_rows(path, [rows], overwrite=True),
    "r.parquet": lambda path: write_rows(path, [rows], overwrite=True),
    "t.csv": lambda path: write_tables(path, [table], overwrite=True),
}.items():
    try:
        write(f"{sys.argv[1]}/{name}")
    except OutputError as error:
        assert "the file exceeds the size limit of this process; raise the limit (ulimit -f)" in str(error), error
    else:
        raise SystemExit(f"{name} was written")
"""


def test_a_file_size_limit_is_one_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    names = ["m.safetensors", "r.csv", "r.npy", "r.parquet", "t.csv"]
    for name in names:
        (tmp_path / name).write_bytes(b"old")
    done = subprocess.run([sys.executable, "-c", FILE_SIZE, str(tmp_path)], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"old"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
def test_a_full_disk_is_told_by_the_systems_own_words(tmp_path: Path) -> None:
    def write_to_full_device() -> None:
        with atomic(tmp_path / "a.txt") as path:
            path.unlink()
            path.symlink_to("/dev/full")
            path.write_text("x" * 100_000)

    with pytest.raises(OutputError, match="the disk is full; free some space"):
        write_to_full_device()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, signal, sys
from isthmus.atomic import atomic
with atomic(sys.argv[1]) as path:
    path.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_process_left_is_swept_by_the_next_save(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "m.txt")], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list(tmp_path.iterdir())) == 1
    with atomic(tmp_path / "other.txt") as path:
        path.write_text("whole")
    assert [path.name for path in tmp_path.iterdir()] == ["other.txt"]


def test_temporaries_of_living_processes_other_hosts_and_other_programs_stay(tmp_path: Path) -> None:
    kept = [
        f".m.isthmus-{module._host()}-{os.getppid()}-00000000.safetensors",
        ".m.isthmus-elsewhere-999999999-00000000.safetensors",
        ".m.isthmus-notes.txt",
        ".m.abc123.safetensors",
    ]
    for name in kept:
        (tmp_path / name).write_bytes(b"x")
    with atomic(tmp_path / "m.txt") as path:
        path.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "m.txt"])


def test_threads_that_save_to_one_path_leave_one_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "r.npy"
    errors: list[Exception] = []

    def save(number: int) -> None:
        try:
            for _ in range(10):
                write_rows(path, [np.full((500, 4), float(number))], overwrite=True)
        except Exception as error:  # noqa: BLE001  # whatever it is fails the test below
            errors.append(error)

    threads = [threading.Thread(target=save, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rows = np.load(path)
    assert not errors
    assert rows.shape == (500, 4)
    assert len(np.unique(rows)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["r.npy"]


def test_an_error_of_the_block_passes_through(tmp_path: Path) -> None:
    def breaks() -> Any:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"), atomic(tmp_path / "a.txt"):
        breaks()
    assert list(tmp_path.iterdir()) == []
