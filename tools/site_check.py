"""Make a built site work from disk, and check its links.

    python tools/site_check.py FOLDER    # the faults of a site; the exit code is 1 if there are any

Zensical's offline plugin loads a script from another host, without which the search box does nothing on pages that are
opened from disk: browsers start no worker from a file there. Our own script takes its place.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

FOREIGN = "https://unpkg.com/iframe-worker/shim"
FOLDER = 'href="./.."'
"""The link of the logo, of which browsers show a list of files."""
SCRIPTS = Path("assets", "javascripts")
FROM_DISK = """\
// Browsers start no worker from a file on disk, but one from text: the search box needs its worker.
if (location.protocol === "file:") {
  const text = %s;
  window.Worker = class extends window.Worker {
    constructor() {
      super(URL.createObjectURL(new Blob([text], { type: "text/javascript" })));
    }
  };
}
"""


def open_from_disk(site: Path) -> None:
    """Replace the script of the other host by one that holds the search worker as text; the logo links to a file."""
    (worker,) = (site / SCRIPTS / "workers").glob("search.*.js")
    script = site / SCRIPTS / "search-from-disk.js"
    script.write_text(FROM_DISK % json.dumps(worker.read_text(encoding="utf-8")), encoding="utf-8")
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        text = text.replace(FOREIGN, Path(os.path.relpath(script, page.parent)).as_posix())
        page.write_text(text.replace(FOLDER, f'{FOLDER[:-1]}/index.html"'), encoding="utf-8")


class Page(HTMLParser):
    """What a page can be linked by, and what it links to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.links: list[tuple[str, str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and name in ("id", "name"):
                self.names.add(value)
            if value and name in ("href", "src"):
                self.links.append((tag, value))


@cache
def read_page(path: Path) -> Page:
    """A page, read once."""
    return Page(path.read_text(encoding="utf-8"))


def faults(site: Path) -> list[str]:
    """Links that lead nowhere, and files that browsers would load from other hosts, one sentence each."""
    pages = sorted(
        path for path in site.resolve().rglob("*.html") if path.name != "404.html"
    )  # that one is for servers
    return [f"{page.relative_to(site.resolve())}: {fault}" for page in pages for fault in _faults_of(page)]


def _faults_of(page: Path) -> Iterator[str]:
    for tag, link in dict.fromkeys(read_page(page).links):
        parts = urlsplit(link)
        if parts.scheme in ("http", "https") or parts.netloc:
            if tag != "a":
                yield f"<{tag}> loads '{link}' from another host."
        elif not parts.scheme:
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            if not target.is_file():
                yield f"'{link}' leads to no file."
            elif parts.fragment and target.suffix == ".html" and unquote(parts.fragment) not in read_page(target).names:
                yield f"'{link}' leads to no heading of {target.name}."


def main() -> int:
    """Print the faults of a site."""
    found = faults(Path(sys.argv[1]))
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
