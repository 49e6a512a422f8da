"""``python -m benchmarks.recommend``: NDCG, recall, time and memory, compared with others on the same users."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.recommend import peers
from benchmarks.recommend.baselines import BASELINES
from benchmarks.recommend.logs import HELD_OUT_USERS
from benchmarks.recommend.table import OURS, Line, markdown, run_seed, write


def main() -> None:
    known = (*BASELINES, OURS, *peers.PEERS)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recommend", description=__doc__)
    parser.add_argument("--log", nargs="+", choices=HELD_OUT_USERS, default=list(HELD_OUT_USERS))
    parser.add_argument("--seed", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--who", nargs="+", choices=known, help="without, all that can be run here")
    parser.add_argument("--out", type=Path, help="folder for recommend.json and recommend-table.md")
    asked = parser.parse_args()
    wanted = asked.who or [who for who in known if who not in peers.PEERS or peers.python()]
    lines: list[Line] = []
    for log in asked.log:
        for seed in asked.seed:
            lines += run_seed(log, seed, wanted)
            if asked.out:
                write(lines, asked.out)
    print(markdown(lines))


if __name__ == "__main__":
    main()
