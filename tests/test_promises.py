"""Requirements have tested bounds, and former public names still work for one version."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import isthmus

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


@pytest.mark.parametrize(("former", "name"), isthmus.RENAMED.items())
def test_a_former_name_gives_the_new_object_with_a_warning(former: str, name: str) -> None:
    assert name in dir(isthmus)
    assert former not in dir(isthmus)
    with pytest.warns(FutureWarning, match=f"isthmus.{former} is now isthmus.{name}; the former name will be removed"):
        found = getattr(isthmus, former)
    assert found is getattr(isthmus, name)


def test_a_name_that_never_was_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        getattr(isthmus, "nothing")  # noqa: B009  # type checkers know that it is missing
