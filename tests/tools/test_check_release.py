"""The check of a release: versions that differ are found, and this tree has one version."""

from __future__ import annotations

import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

import check_release

ROOT = Path(__file__).parents[2]


def tree(folder: Path, *, changelog: str = "1.2.3", module: str = "1.2.3", citation: str = "1.2.3") -> Path:
    (folder / "src" / "isthmus").mkdir(parents=True)
    (folder / "CHANGELOG.md").write_text(f"# Changelog\n\n## [{changelog}] - 2026-01-02\n\n## [1.0.0] - 2025-01-02\n")
    (folder / "src" / "isthmus" / "__init__.py").write_text(f'__version__ = "{module}"\n')
    (folder / "CITATION.cff").write_text(f"version: {citation}\ndate-released: 2026-01-02\n")
    return folder


def test_this_tree_has_one_version() -> None:
    assert check_release.text_faults(ROOT) == []


def test_one_version_has_no_fault(tmp_path: Path) -> None:
    assert check_release.text_faults(tree(tmp_path)) == []


@pytest.mark.parametrize(("place", "name"), [("module", "__init__.py"), ("citation", "CITATION.cff")])
def test_another_version_is_a_fault(tmp_path: Path, place: str, name: str) -> None:
    (fault,) = check_release.text_faults(tree(tmp_path, **{place: "1.2.4"}))
    assert name in fault
    assert "1.2.3" in fault


def test_a_changelog_without_a_release_is_a_fault(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## [Unreleased]\n")
    assert check_release.text_faults(tmp_path) == ["CHANGELOG.md names no release as '## [x.y.z] - yyyy-mm-dd'."]


def test_files_that_are_missing_or_not_in_the_repository_are_faults(tmp_path: Path) -> None:
    wheel, source = tmp_path / "w.whl", tmp_path / "s.tar.gz"
    with zipfile.ZipFile(wheel, "w") as opened:
        opened.writestr("isthmus/left_over.py", "")
    with tarfile.open(source, "w:gz") as archive:
        archive.add(wheel, "isthmus-1.2.3/data.npy")
    faults = check_release.content_faults(wheel, source, ["src/isthmus/__init__.py", "LICENSE"])
    assert "The wheel has isthmus/left_over.py, which is not in the repository." in faults
    assert "The wheel has no isthmus/__init__.py." in faults
    assert "The source distribution has no LICENSE." in faults
    assert "The source distribution has data.npy, which is not in the repository." in faults
