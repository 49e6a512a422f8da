"""The benchmark of speed: what its figures say, what it keeps, and what it does with peers that fail."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.speed.figures import Figure, lines, merged, missed, read, table, write
from benchmarks.speed.harness import PEERS_FOLDER, Bench, NotAvailableError, Question, in_turn, interleaved, interpreter
from benchmarks.speed.peers.protocol import Workload
from benchmarks.speed.peers_table import DETECTORS, FIRST_STEPS, FLOOR, INFERENCE, MANY, QUALITY, TRAINING, US, Peer
from benchmarks.speed.targets import MEASURES, RATIOS, WORKLOADS

LOADER, KERAS = "PyTorch DataLoader", "Keras on TensorFlow"
RUN = {"command": "python -m benchmarks.speed", "rounds": 3, "versions": {"torch": "2"}, "machine": "m", "threads": "2"}


def epoch(who: str, *values: float, case: str = "S6", **more: str) -> Figure:
    return Figure("training", case, "epoch", who, "s", values, **more)


def ratio(ours: Figure, theirs: Figure) -> float:
    return lines([ours, theirs])[1].ratio


def test_a_peer_that_takes_twice_as_long_has_the_ratio_two() -> None:
    assert ratio(epoch(US, 1.0, 9.0, 0.5), epoch(LOADER, 2.0, 1.0, 3.0)) == 2.0


def test_a_peer_of_half_the_rows_a_second_has_the_ratio_two() -> None:
    ours, theirs = (Figure("inference", "S1", "transform", who, "rows/s", (n,)) for who, n in ((US, 1e6), (KERAS, 5e5)))
    assert ratio(ours, theirs) == 2.0


def test_a_target_that_is_not_reached_is_marked() -> None:
    slow, quick = [epoch(US, 1.0), epoch(LOADER, 1.7)], [epoch(US, 1.0), epoch(LOADER, 1.9)]
    assert "| 1.70 | ≥ 1.80 **missed** |" in table(slow)
    assert "| 1.90 | ≥ 1.80 |" in table(quick)
    assert [len(missed(figures)) for figures in (slow, quick)] == [1, 0]


def test_the_floor_is_told_as_how_many_times_longer_isthmus_takes() -> None:
    figures = [epoch(US, 1.5), epoch(FLOOR, 1.0)]
    assert "| 1/1.50 | ≥ 1/1.40 **missed** |" in table(figures)


def test_what_could_not_be_measured_is_told_and_misses_its_target() -> None:
    figures = [epoch(US, 1.0), epoch(LOADER, missing="cannot be installed: no | such thing")]
    assert "not run: cannot be installed: no / such thing |" in table(figures)
    assert len(missed(figures)) == 1


def test_our_own_figures_have_targets_too() -> None:
    figures = [Figure("start", "import", "process", US, "s", (value,)) for value in (0.1, 0.2)]
    assert [bool(missed([figure])) for figure in figures] == [False, True]


def test_every_target_is_of_something_that_is_measured() -> None:
    peers = {
        "training": TRAINING,
        "device": TRAINING,
        "inference": INFERENCE,
        "quality": QUALITY,
        "detector": DETECTORS,
    }
    assert all(case in WORKLOADS and who in peers[part] for part, case, _, who in RATIOS)
    assert {part for part, _, _ in MEASURES} == {"start", "memory"}


def test_a_run_keeps_the_older_figures_of_other_cases(tmp_path: Path) -> None:
    older = [epoch(US, 1.0, case="S1", run="a"), epoch(US, 1.0, run="a"), epoch(LOADER, 2.0, run="a")]
    write({"a": RUN}, older, tmp_path)
    runs, known = read(tmp_path)
    assert known == older
    new = merged(known, [epoch(US, 0.5, run="b")])
    assert [(figure.case, figure.who, figure.run) for figure in new] == [("S1", US, "a"), ("S6", US, "b")]
    write({**runs, "b": RUN}, new, tmp_path)
    assert set(json.loads((tmp_path / "speed.json").read_text())["runs"]) == {"a", "b"}
    page = (tmp_path / "speed.md").read_text()
    assert "a: `python -m benchmarks.speed`, 3 rounds, on m, 2; with torch 2." in page


def test_workloads_keep_their_order_and_cases_measured_again_their_place() -> None:
    older = [epoch(US, 1.0, case=case) for case in ("S6", "one", "two")]
    new = merged(older, [epoch(US, 0.5, case=case) for case in ("one", "S1")])
    assert [figure.case for figure in new] == ["S1", "S6", "one", "two"]


def test_a_run_of_which_nothing_is_left_is_forgotten(tmp_path: Path) -> None:
    write({"a": RUN, "b": RUN}, [epoch(US, 0.5, run="b")], tmp_path)
    assert set(read(tmp_path)[0]) == {"b"}


def test_one_that_fails_is_asked_no_more_and_the_others_go_on() -> None:
    asked: list[tuple[str, int]] = []

    def ask(name: str, number: int) -> int:
        asked.append((name, number))
        if name == "b":
            raise NotAvailableError("no")
        return number

    reasons: dict[str, str] = {}
    assert in_turn(2, ["a", "b"], ask, reasons, warm_up=True) == {"a": [0, 1], "b": []}
    assert reasons == {"b": "no"}
    assert asked == [("a", -1), ("b", -1), ("a", 0), ("a", 1)]


SCRIPT = f"""
import sys
sys.path.insert(0, {str(PEERS_FOLDER)!r})
from protocol import notes, serve

def prepare(job):
    print("libraries print this")
    def epoch():
        if job.options.get("fails"):
            raise SystemExit("The loss is 0.5.")
        notes["loss"] = float(job.rows.sum())
    return {{"epoch": epoch}}

serve(prepare)
"""


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    np.save(tmp_path / "rows.npy", np.ones((9, 1), np.float32))
    (tmp_path / "peer.py").write_text(SCRIPT)
    return Bench(tmp_path, tmp_path, rounds=2)


def test_workers_answer_in_turn_and_their_failures_are_reported(bench: Bench) -> None:
    script = str(bench.folder / "peer.py")
    peers = {US: Peer(script), "bad": Peer(script, options={"fails": True}), "other": Peer(script, only=("S1",))}
    workload, question = Workload("S6", (1, 1, 1), 4, n_rows=7), Question("training", "S6", "epoch", "epoch")
    ours, bad = interleaved(bench, peers, workload, [question])
    assert (len(ours.values), ours.note) == (2, "loss 7.0000")
    assert (bad.values, bad.missing) == ((), "The loss is 0.5.")
    assert bench.versions[US]["numpy"] == np.__version__


def test_a_peer_whose_environment_cannot_be_made_is_reported(bench: Bench) -> None:
    (bench.environments / "here").write_text("a file, not a folder")
    peers = {"bad": Peer("peer.py", "here", ("nothing",))}
    (figure,) = interleaved(bench, peers, WORKLOADS["S6"], [Question("training", "S6", "epoch", "epoch")])
    assert figure.missing.startswith("cannot be installed: ")


def test_an_environment_that_is_ready_is_not_made_again(bench: Bench) -> None:
    (bench.environments / "ready-made").mkdir()
    (bench.environments / "ready-made" / "ready").write_text("a==1\nb==2")
    python = interpreter(Peer("x.py", "ready-made", ("a==1", "b==2")), bench.environments)
    assert python == str(bench.environments / "ready-made" / "bin" / "python")
    assert interpreter(Peer("x.py"), bench.environments) == sys.executable


def test_every_script_of_a_peer_exists() -> None:
    every = [peer for group in (TRAINING, INFERENCE, QUALITY, DETECTORS, MANY, FIRST_STEPS) for peer in group.values()]
    assert all((PEERS_FOLDER / peer.script).is_file() for peer in every)
