"""Sites that open from disk: no other host, a search worker as text, and links that lead somewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import site_check


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Two pages as Zensical writes them."""
    workers = tmp_path / "assets" / "javascripts" / "workers"
    workers.mkdir(parents=True)
    (workers / "search.0a1b.min.js").write_text('self.onmessage = () => "</script>";')
    (tmp_path / "jobs").mkdir()
    script = f'<script src="{site_check.FOREIGN}"></script>'
    (tmp_path / "index.html").write_text(f'{script}<h1 id="start">A</h1><a href="jobs/denoise.html#wrong">B</a>')
    (tmp_path / "jobs" / "denoise.html").write_text(
        f'{script}<a href="./..">A</a><h2 id="wrong">B</h2><a href="../index.html#start">C</a><a href="#wrong">D</a>'
        '<a href="https://example.org/">E</a>'
    )
    return tmp_path


def test_a_site_opens_from_disk(site: Path) -> None:
    assert "index.html: <script> loads 'https://unpkg.com/iframe-worker/shim' from another host." in site_check.faults(
        site
    )
    site_check.read_page.cache_clear()
    site_check.open_from_disk(site)
    assert site_check.faults(site) == []
    page = (site / "jobs" / "denoise.html").read_text()
    assert '<script src="../assets/javascripts/search-from-disk.js">' in page
    assert '<a href="./../index.html">A</a>' in page
    script = (site / "assets" / "javascripts" / "search-from-disk.js").read_text()
    assert r'const text = "self.onmessage = () => \"</script>\";";' in script


def test_dead_links_are_told(site: Path) -> None:
    site_check.open_from_disk(site)
    (site / "more.html").write_text('<a href="none.html">A</a><a href="index.html#end">B</a><img src="a%20b.png">')
    assert site_check.faults(site) == [
        "more.html: 'none.html' leads to no file.",
        "more.html: 'index.html#end' leads to no heading of index.html.",
        "more.html: 'a%20b.png' leads to no file.",
    ]
