"""The pages of the documentation site: nothing public is missing, and every page is in the navigation."""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import isthmus

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import docs_site
import examples

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("pages") / "docs"
    docs_site.write_pages(folder)
    return folder


def test_every_public_name_has_a_place_in_the_reference() -> None:
    text = "".join(docs_site.reference_pages().values())
    documented = set(re.findall(r"^::: isthmus\.[\w.]*?(\w+)$", text, flags=re.MULTILINE))
    modules = {"choices", "data", "diagnosis", "estimators", "export", "files", "plots", "report", "tasks", "training"}
    modules |= {"serving"}
    missing = set(dir(isthmus)) - documented - modules - docs_site.NOT_DOCUMENTED
    assert {name for name in missing if not name.startswith("_")} == set()


def test_names_that_are_gone_are_not_in_the_reference() -> None:
    for name in re.findall(
        r"^::: isthmus\.(?:\w+\.)+(\w+)$", "".join(docs_site.reference_pages().values()), flags=re.MULTILINE
    ):
        assert hasattr(isthmus, name) or name in (*isthmus.plots.__all__, *isthmus.serving.__all__)


def test_the_reference_of_the_command_line_has_every_command_with_its_options() -> None:
    text = docs_site.command_page()
    for command in (
        "isthmus fit",
        "isthmus detect score",
        "isthmus restore run",
        "isthmus compress run",
        "isthmus tune",
    ):
        assert f"## {command}\n" in text
    assert "| `--code-size` | Number of latent dimensions. |" in text


def named(nav: Any) -> Iterator[str]:
    """The files of a navigation, however deep."""
    if isinstance(nav, str):
        yield nav
    else:
        for part in nav.values() if isinstance(nav, dict) else nav:
            yield from named(part)


def test_the_navigation_has_every_page_once(pages: Path) -> None:
    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    listed = list(named(config["project"]["nav"]))
    there = {path.relative_to(pages).as_posix() for path in pages.rglob("*.md")}
    assert len(listed) == len(set(listed))
    assert set(listed) == there


def test_links_of_the_generated_pages_lead_somewhere(pages: Path) -> None:
    for page in pages.rglob("*.md"):
        text = examples.LINK.sub("", page.read_text(encoding="utf-8"))  # the scripts are beside the pages of the site
        for target in re.findall(r"\]\((?!https?:)([^)#]+)[^)]*\)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
