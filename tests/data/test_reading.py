"""Named sets and files: found, checked, downloaded, or refused in one sentence."""

from __future__ import annotations

import functools
import gzip
import hashlib
import http.server
import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import isthmus
from isthmus.data import datasets
from isthmus.data.datasets import File
from isthmus.data.formats import read_idx
from isthmus.exceptions import DataError

HAS_DATA = Path(os.environ.get("ISTHMUS_DATA", "/nowhere")).is_dir()


def idx_bytes(array: np.ndarray) -> bytes:
    return struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape) + array.tobytes()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty data folder and an empty cache."""
    monkeypatch.setenv("ISTHMUS_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("ISTHMUS_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """A web server on this machine that offers a folder with one file."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "rows.npy").write_bytes(b"published")

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def entry_with(file: File) -> datasets._Entry:
    return datasets._Entry("rows", (file,), datasets.Dataset, "1", "free", "http://home")


def test_digits_need_no_file() -> None:
    data = isthmus.read("digits")
    assert data.X.shape == (1797, 8, 8)
    assert (data.X.min(), data.X.max()) == (0.0, 1.0)


def test_a_set_that_is_not_here_says_what_where_from_and_where_to(here: Path) -> None:
    with pytest.raises(DataError, match=r"needs the file olivetti/olivettifaces\.mat.*Get it from https://cs\.nyu"):
        datasets.load_olivetti()
    assert not (here / "cache").exists()


def test_an_unknown_set_names_the_nearest() -> None:
    with pytest.raises(ValueError, match="Unknown dataset 'minst'; did you mean 'mnist'"):
        datasets.load("minst")


def test_a_missing_file_is_downloaded_checked_and_kept(here: Path, served: str) -> None:
    digest = hashlib.sha256(b"published").hexdigest()
    file = File("rows/rows.npy", digest, f"{served}/rows.npy")
    path = datasets._fetch(file, entry_with(file))
    assert path == here / "cache" / "rows" / "rows.npy"
    assert path.read_bytes() == b"published"


def test_a_download_that_is_not_the_published_file_leaves_nothing(here: Path, served: str) -> None:
    file = File("rows/rows.npy", "0" * 64, f"{served}/rows.npy")
    with pytest.raises(DataError, match="is not the published file"):
        datasets._fetch(file, entry_with(file))
    assert not list((here / "cache" / "rows").iterdir())


def test_a_download_that_fails_says_so(here: Path, served: str) -> None:
    file = File("rows/other.npy", "0" * 64, f"{served}/other.npy")
    with pytest.raises(DataError, match=r"the download from .*other\.npy failed.*Get it from http://home"):
        datasets._fetch(file, entry_with(file))


def test_a_spoilt_file_is_refused(here: Path) -> None:
    path = here / "data" / "mnist" / "train-images-idx3-ubyte.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"spoilt")
    with pytest.raises(DataError, match="is not the published file: its sha256 is"):
        datasets.load_mnist()


@pytest.mark.skipif(not HAS_DATA, reason="needs the public data sets: set ISTHMUS_DATA to their folder")
@pytest.mark.parametrize("name", [name for name in datasets.names() if name not in ("digits", "fashion-mnist")])
def test_every_set_that_is_here_has_its_stated_shape(name: str) -> None:
    data = datasets.load(name)
    stated = next(info for info in datasets.available() if info.name == name)
    sizes = stated.shape.replace(",", "").split(" × ")
    assert f"{len(data.X)}" == sizes[0].split(" + ")[0]
    assert "×".join(map(str, data.X.shape[1:])) == sizes[1].removesuffix(" bits")
    assert stated.present


def test_idx_files_are_read_gzipped_or_not(tmp_path: Path) -> None:
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    (tmp_path / "a.idx3-ubyte").write_bytes(idx_bytes(array))
    (tmp_path / "a.gz").write_bytes(gzip.compress(idx_bytes(array)))
    np.testing.assert_array_equal(read_idx(tmp_path / "a.idx3-ubyte"), array)
    np.testing.assert_array_equal(isthmus.read(tmp_path / "a.gz").X, array)


def test_files_are_read_by_their_ending(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": [1.0, 2.0], "b": [3, 4]})
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_parquet(tmp_path / "t.parquet")
    np.save(tmp_path / "t.npy", frame.to_numpy())
    np.savez(tmp_path / "t.npz", X=frame.to_numpy(), y=[0, 1])
    for ending in ("csv", "parquet", "npy", "npz"):
        np.testing.assert_array_equal(np.asarray(isthmus.read(tmp_path / f"t.{ending}").X), frame.to_numpy())
    assert isinstance(isthmus.read(tmp_path / "t.npy").X, np.memmap)
    assert isthmus.read(tmp_path / "t.csv").feature_names == ["a", "b"]


def test_a_folder_is_read_as_images(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png")
    assert isthmus.read(tmp_path).X.feature_shape == (4, 4)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.csv", b"a,b\n1,2\n3\n", "cannot be read as csv"),
        ("a.csv", b"a,b\n", "has 0 samples"),
        ("a.parquet", b"nonsense", "cannot be read as parquet"),
        ("a.npy", b"nonsense", r"cannot be read as a \.npy file"),
        ("a.npz", b"nonsense", r"cannot be read as a \.npz file"),
        ("a.gz", b"nonsense", "cannot be read as an idx file"),
        ("a.doc", b"nonsense", "has the suffix '.doc', but one of"),
    ],
)
def test_spoilt_and_foreign_files_are_one_clear_error(name: str, content: bytes, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=text):
        isthmus.read(tmp_path / name)


def test_an_archive_without_X_lists_what_it_holds(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", one=[1], two=[2])
    with pytest.raises(DataError, match="contains the arrays one, two; name one of them X"):
        isthmus.read(tmp_path / "a.npz")


def test_a_name_that_is_nothing_names_the_nearest_set() -> None:
    with pytest.raises(DataError, match=r"no file, folder or dataset 'digit'.*did you mean 'digits'"):
        isthmus.read("digit")
