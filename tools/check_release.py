"""Check that a release can go out: one version everywhere, and a wheel that works alone in a new environment.

    python tools/check_release.py    # needs the package `build`

The wheel is built from the source distribution, as an installer would do it, and is installed where nothing of the
clone can be seen. There some commands and a short script run.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
SCRIPT = """
import numpy, isthmus
X = isthmus.datasets.load_digits().X
model = isthmus.DenoisingAutoencoder(16, max_epochs=2, random_state=0).fit(X)
again = isthmus.load(model.save("digits.safetensors"))
assert numpy.array_equal(again.transform(X), model.transform(X))
print("isthmus", isthmus.__version__, isthmus.__file__)
"""
COMMANDS = (
    ("isthmus", "--help"),
    ("isthmus", "fit", "digits", "--code-size", "8", "--epochs", "2", "--out", "m.safetensors", "--report"),
    ("isthmus", "score", "m.safetensors", "digits", "--out", "scores.csv"),
    ("python", "-W", "error", "-c", SCRIPT),
)


def main() -> int:
    """Print the faults; gives 1 if there are any."""
    faults = text_faults(ROOT)
    if not faults:
        with tempfile.TemporaryDirectory() as folder:
            faults = package_faults(Path(folder))
    print(*faults or ["The release can go out."], sep="\n")
    return int(bool(faults))


def text_faults(root: Path) -> list[str]:
    """Where the version or the date of the release is not that of the changelog."""
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\] - (\d{4}-\d{2}-\d{2})$", changelog, flags=re.MULTILINE)
    if newest is None:
        return ["CHANGELOG.md names no release as '## [x.y.z] - yyyy-mm-dd'."]
    version, date = newest.groups()
    wanted = {
        "src/isthmus/__init__.py": f'__version__ = "{version}"',
        "CITATION.cff": f"version: {version}\ndate-released: {date}\n",
    }
    return [
        f"{name} does not say {text!r}, as CHANGELOG.md does."
        for name, text in wanted.items()
        if text not in (root / name).read_text(encoding="utf-8")
    ]


def package_faults(folder: Path) -> list[str]:
    """What is wrong with the packages that are built into a folder."""
    _run(sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT))  # the wheel from the source distribution
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    faults = content_faults(wheel, source, _run("git", "-C", str(ROOT), "ls-files").splitlines())
    return faults or environment_faults(wheel, folder)


def content_faults(wheel: Path, source: Path, tracked: list[str]) -> list[str]:
    """Files of the repository, `tracked`, that the packages lack, and files that they have besides."""
    library = {name.removeprefix("src/") for name in tracked if name.startswith("src/")}
    with zipfile.ZipFile(wheel) as opened:
        packed = {name for name in opened.namelist() if ".dist-info/" not in name}
    with tarfile.open(source) as archive:
        sources = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    wanted = {"LICENSE", "README.md", "CHANGELOG.md", "CITATION.cff", "pyproject.toml"}
    return [
        *(f"The wheel has no {name}." for name in sorted(library - packed)),
        *(f"The wheel has {name}, which is not in the repository." for name in sorted(packed - library)),
        *(f"The source distribution has no {name}." for name in sorted(wanted - sources)),
        *(f"The source distribution has {name}, which is not in the repository."
          for name in sorted(sources - {*tracked, "PKG-INFO"})),
    ]  # fmt: skip


def environment_faults(wheel: Path, folder: Path) -> list[str]:
    """Commands that fail where only the wheel is installed."""
    venv.create(folder / "environment", with_pip=True)
    programs = folder / "environment" / "bin"
    pip = (str(programs / "python"), "-m", "pip", "install", "--quiet", "-c", str(ROOT / "constraints.txt"))
    _run(*pip, "torch")
    _run(*pip, str(wheel))
    work = folder / "work"
    work.mkdir()
    faults = []
    for program, *arguments in COMMANDS:
        done = subprocess.run(  # noqa: S603  # of the environment made above
            [str(programs / program), *arguments], cwd=work, capture_output=True, text=True, check=False
        )
        print(program, arguments[0], "failed" if done.returncode else "ran")
        if done.returncode:
            faults.append(f"{program} {' '.join(arguments)} failed: {done.stderr.strip()}")
    return faults


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  # commands of this file
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
