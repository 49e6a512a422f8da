"""What the package promises of its requirements is what `make check-lowest` tests."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def bounds(lines: list[str], sign: str) -> dict[str, str]:
    """The version of each requirement, by name; trailing zeros do not count."""
    found = [re.fullmatch(rf"([\w-]+){sign}([\d.]+)", line) for line in lines]
    return {pair[1].lower(): re.sub(r"(\.0)+$", "", pair[2]) for pair in found if pair is not None}


def test_the_lowest_versions_that_are_tested_are_the_lower_bounds() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    lowest = (ROOT / "constraints-lowest.txt").read_text("utf-8").splitlines()
    tested = bounds([line for line in lowest if line and not line.startswith("#")], "==")
    wanted = bounds(stated, ">=")
    assert len(wanted) == len(stated)
    assert {name: version for name, version in tested.items() if name in wanted} == wanted


def test_every_requirement_is_pinned_for_the_usual_tests() -> None:
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]
    pinned = bounds((ROOT / "constraints.txt").read_text("utf-8").splitlines(), "==")
    names = {name.replace("_", "-") for name in bounds(stated, ">=")}
    assert names <= {name.replace("_", "-") for name in pinned}
