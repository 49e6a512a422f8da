"""The examples run, show something, and each is on a page of its own."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from isthmus import FitWarning
from isthmus.choices import LOSSES

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import examples

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "jobs").glob("*.md"))
NAMES = [script.stem for script in examples.scripts()]
LONGEST = {"max_epochs": 2, "max_steps": 20, "n_steps": 20}
"""What tests shorten training to. `make docs` runs the scripts as they are."""
HEADINGS = ["What to change", "How well", "What goes wrong"]
LENGTH = re.compile(rf'({"|".join(LONGEST)})("?[=:] ?)(\d+)')


def shortened(script: str) -> str:
    return LENGTH.sub(lambda found: f"{found[1]}{found[2]}{min(int(found[3]), LONGEST[found[1]])}", script)


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder; the registry of losses is as before afterwards."""
    known = dict(LOSSES.members)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    LOSSES.members.clear()
    LOSSES.members.update(known)


@pytest.mark.parametrize("name", NAMES)
def test_every_example_runs_and_shows_a_table_or_its_picture(name: str, scratch: Path) -> None:
    script = scratch / f"{name}.py"
    script.write_text(shortened((examples.EXAMPLES / script.name).read_text(encoding="utf-8")), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FitWarning)  # of training so short
        cells = {cell.title: cell for cell in examples.cells_of(examples.run_cells(script))}
    assert list(cells) in (["data", "job"], ["data", "job", "picture"])
    assert cells["job"].printed.count("\n") >= 2 or cells["picture"].pictures == (f"{name}.png",)
    assert "picture" not in cells or cells["picture"].pictures == (f"{name}.png",)


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_short(name: str) -> None:
    text = (examples.EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    job = text.split("# %% job\n")[1].split("# %%")[0]
    assert sum(bool(line.strip()) for line in job.splitlines()) <= 18
    assert text.startswith("# %% [markdown]\n# # ")


def test_every_example_has_a_page_and_every_page_its_example() -> None:
    assert [page.stem for page in PAGES] == NAMES
    for page in PAGES:
        assert [found[0] for found in examples.LINK.findall(page.read_text(encoding="utf-8"))] == [page.stem]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_has_all_parts(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    found = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    assert [heading for heading in found if heading in HEADINGS] == HEADINGS
    assert "**What you have**: " in text


@pytest.mark.parametrize("word", ["denoise", "anomal", "recommend", "inpaint", "missing", "compress", "cluster"])
def test_words_that_people_search_for_are_in_titles(word: str) -> None:
    titles = [page.read_text(encoding="utf-8").splitlines()[0].lower() for page in PAGES]
    assert any(word in title for title in titles)


def test_the_table_of_jobs_lists_every_page() -> None:
    text = (ROOT / "docs" / "jobs.md").read_text(encoding="utf-8")
    assert set(re.findall(r"\(jobs/(\w+)\.md\)", text)) == set(NAMES)


SCRIPT = """# %% [markdown]
# # A title
# %% data
one = 1
# %% job
print(one + 1)
"""


def test_a_page_shows_code_output_pictures_and_files() -> None:
    cells = [examples.Cell("data", "one = 1", "", ()), examples.Cell("job", "print(one)", "1\n", ("it.png",))]
    page = 'Before.\n\n[The example](../../examples/it.py "A one")\n\nAfter.'
    shown = examples.with_examples(page, {"it": cells})
    assert '??? note "The data"\n\n    ```python\n    one = 1\n    ```' in shown
    assert "```python\nprint(one)\n```\n\n```text\n1\n```\n\n![A one](../pictures/it.png)" in shown
    assert "[it.py](../examples/it.py) · [it.ipynb](../notebooks/it.ipynb)" in shown
    with pytest.raises(examples.ExampleError, match=r"examples/it\.py is shown on a page, but was not run"):
        examples.with_examples(page, {})


def test_notebooks_hold_what_was_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "sum.py").write_text(SCRIPT, encoding="utf-8")
    monkeypatch.setattr(examples, "EXAMPLES", tmp_path / "scripts")
    examples.run_all(tmp_path / "docs")
    cells = examples.read_notebooks(tmp_path / "docs" / "notebooks")
    assert [(cell.title, cell.printed) for cell in cells["sum"]] == [("data", ""), ("job", "2\n")]
    assert (tmp_path / "docs" / "examples" / "sum.py").read_text(encoding="utf-8") == SCRIPT


@pytest.mark.parametrize("line", ["raise ValueError('no such file')", "import warnings; warnings.warn('no such file')"])
def test_an_example_that_fails_or_warns_is_named(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "sum.py").write_text(SCRIPT + line + "\n", encoding="utf-8")
    monkeypatch.setattr(examples, "EXAMPLES", tmp_path / "scripts")
    with pytest.raises(examples.ExampleError, match=r"(?s)examples/sum\.py failed:.*no such file"):
        examples.run_all(tmp_path / "docs")
