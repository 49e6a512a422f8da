"""Every snippet of the README and the docs runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from isthmus.choices import ACTIVATIONS, CODES, CORRUPTIONS, LOSSES, NETWORKS, PENALTIES
from isthmus.cli import main

ROOT = Path(__file__).parents[1]
NAMED: list[dict[str, Any]] = [
    ACTIVATIONS,
    *(registry.members for registry in (CODES, CORRUPTIONS, LOSSES, NETWORKS, PENALTIES)),
]
"""Where snippets may leave members of their own."""
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def snippets(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if snippets(page, "python")], ids=lambda page: page.name)
def test_python_snippets_run_one_after_the_other(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    known = [(registry, dict(registry)) for registry in NAMED]
    names: dict[str, object] = {"__name__": __name__}
    try:
        for snippet in snippets(page, "python"):
            exec(compile(snippet, str(page), "exec", dont_inherit=True), names)
    finally:
        for registry, before in known:
            registry.clear()
            registry.update(before)


def test_shell_snippets_of_the_readme_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    lines = "".join(snippets(ROOT / "README.md", "sh")).splitlines()
    commands = [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("isthmus ")]
    assert len(commands) == 6
    for words in commands:
        with pytest.raises(SystemExit) as stopped:
            main(words)
        assert not stopped.value.code, words


def test_links_of_the_docs_lead_somewhere() -> None:
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)[^)]*\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
