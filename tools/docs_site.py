"""Build the documentation site: copy docs/, run the examples, generate the reference, run zensical, check links.

    python tools/docs_site.py            # build/docs and site/
    python tools/docs_site.py --pages    # build/docs only

The pages of docs/jobs/ show the scripts of examples/ with their output and pictures: see tools/examples.py. The
Python reference has every public name of `isthmus`, `isthmus.plots` and `isthmus.serving`, grouped by room; the
reference of the command line is read from the commands themselves. Both are generated, so that no name can be missing.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import examples
import site_check
import typer

import isthmus.plots
import isthmus.serving
from isthmus.cli import app as commands

ROOT = Path(__file__).parents[1]
PAGES = ROOT / "build" / "docs"
SITE = ROOT / "site"
ROOMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "estimators": ("Autoencoders", ("estimators",)),
    "tasks": ("Tasks", ("tasks",)),
    "choices": ("Choices", ("choices",)),
    "data": ("Data", ("data", "data.tables")),
    "training": ("Training", ("training",)),
    "diagnosis": ("Diagnosis", ("diagnosis",)),
    "plots": ("Pictures", ("plots",)),
    "output": ("Reports, files, export", ("report", "files", "export")),
    "serving": ("Serving", ("serving",)),
    "exceptions": ("Errors and warnings", ("exceptions",)),
}
"""Pages of the reference: title, and the rooms whose public names it has."""
NOT_DOCUMENTED = {"KINDS", "read", "tables", "datasets"}
"""Data and modules, which have pages of their own."""


def public_names() -> dict[str, list[str]]:
    """The public names of each room, as the stub of the package lists them."""
    stub = (ROOT / "src" / "isthmus" / "__init__.pyi").read_text(encoding="utf-8")
    found: dict[str, list[str]] = {
        "plots": list(isthmus.plots.__all__),
        "serving": list(isthmus.serving.__all__),
    }
    for room, name in re.findall(r"^from \.([\w.]+) import (\w+) as \w+$", stub, flags=re.MULTILINE):
        if name not in NOT_DOCUMENTED:
            found.setdefault(room, []).append(name)
    return found


def reference_pages() -> dict[str, str]:
    """The text of every page of the Python reference, by file name."""
    names = public_names()
    pages = {}
    lines = [
        "# Python reference",
        "",
        "Everything is imported from `isthmus`, pictures from `isthmus.plots`, servers from `isthmus.serving`.",
        "",
    ]
    for page, (title, rooms) in ROOMS.items():
        listed = [(room, name) for room in rooms for name in sorted(names[room], key=str.lower)]
        pages[f"{page}.md"] = (
            "\n\n".join([f"# {title}", *(f"::: isthmus.{room}.{name}" for room, name in listed)]) + "\n"
        )
        links = ", ".join(f"[{name}]({page}.md#isthmus.{room}.{name})" for room, name in listed)
        lines += [f"**[{title}]({page}.md)**: {links}", ""]
    return {"index.md": "\n".join(lines), **pages}


def command_page() -> str:
    """The reference of the command line."""
    root = typer.main.get_command(commands.app)
    parts = ["# Command line", "`isthmus COMMAND --help` shows the same texts in a terminal."]
    for path, command in leaves(root, ("isthmus",)):
        parts += [f"## {' '.join(path)}", plain(command.help or ""), usage(path, command), options(command)]
    return "\n\n".join(part for part in parts if part) + "\n"


Command = Any
"""Commands of typer, which brings its own copy of click: their classes are no public names."""


def leaves(command: Command, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Command]]:
    """All commands without subcommands, with the words that call them."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        if not inner.hidden:
            yield from leaves(inner, (*path, name))


def usage(path: tuple[str, ...], command: Command) -> str:
    """The line that shows how a command is called."""
    given = [each for each in command.params if each.param_type_name == "argument"]
    arguments = [each.name.upper() if each.required else f"[{each.name.upper()}]" for each in given]
    return "```text\n" + " ".join([*path, *arguments, "[OPTIONS]"]) + "\n```"


def options(command: Command) -> str:
    """A table of the options of a command."""
    rows = [
        f"| {', '.join(f'`{name}`' for name in (*each.opts, *each.secondary_opts))} | {cell(plain(each.help or ''))} |"
        for each in command.params
        if each.param_type_name == "option" and not each.hidden
    ]
    return "\n".join(["| option | |", "|---|---|", *rows]) if rows else ""


def plain(text: str) -> str:
    """A help text without the terminal's markup."""
    return re.sub(r"\[/?(?:bold|italic|dim|cyan|green|yellow|red)\]", "", text.replace("\b", "")).strip()


def cell(text: str) -> str:
    """A text that fits a cell of a Markdown table."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def write_pages(folder: Path) -> None:
    """Fill a folder: the pages of docs/, the first page from the README, and the generated reference."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(ROOT / "docs", folder)
    for name, copy in {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md"}.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        moved = text.replace("](docs/", "](").replace("](CONTRIBUTING.md)", "](contributing.md)")
        (folder / copy).write_text(moved, encoding="utf-8")
    reference = folder / "reference"
    reference.mkdir()
    for name, text in {**reference_pages(), "cli.md": command_page()}.items():
        (reference / name).write_text(text, encoding="utf-8")


def show_examples(folder: Path) -> None:
    """Run the examples, and show them on the pages of the jobs."""
    examples.run_all(folder)
    ran = examples.read_notebooks(folder / "notebooks")
    for page in sorted((folder / "jobs").glob("*.md")):
        page.write_text(examples.with_examples(page.read_text(encoding="utf-8"), ran), encoding="utf-8")


def main() -> int:
    """Write the pages and, if wanted, build the site; the exit code is 1 if an example or the build has an issue."""
    parser = argparse.ArgumentParser(prog="python tools/docs_site.py", description=__doc__)
    parser.add_argument("--pages", action="store_true", help="write build/docs and stop")
    only_pages = parser.parse_args().pages
    write_pages(PAGES)
    try:
        show_examples(PAGES)
    except examples.ExampleError as error:
        print(error, file=sys.stderr)
        return 1
    if only_pages:
        return 0
    program = Path(sys.executable).with_name("zensical")
    built = subprocess.run([program, "build", "--clean", "-f", ROOT / "zensical.toml"], cwd=ROOT, check=False)  # noqa: S603
    if built.returncode:
        return built.returncode
    site_check.open_from_disk(SITE)
    found = site_check.faults(SITE)
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
