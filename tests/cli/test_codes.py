"""Commands that use the codes of a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import isthmus
from isthmus import Autoencoder, TableSampler
from isthmus.cli import main

DRAW = np.random.default_rng(0)
IMAGES = DRAW.random((40, 8, 8))


def run(*words: Any) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("codes")
    model = Autoencoder(3, network=(), max_epochs=2, random_state=0).fit(IMAGES)
    model.fit_sampler(IMAGES, np.arange(40) % 2).save(path / "images.safetensors")
    frame = pd.DataFrame({"a": DRAW.normal(size=40), "b": DRAW.integers(0, 9, 40)})
    Autoencoder(1, network=(), max_epochs=2, random_state=0).fit(frame).save(path / "frame.safetensors")
    mixed = frame.assign(c=np.where(frame["b"] > 4, "yes", "no"))
    TableSampler(hidden_sizes=(4,), max_epochs=1, random_state=0).fit(mixed).save(path / "mixed.safetensors")
    return path


def test_samples_are_written_as_picture_rows_and_mixed_tables(folder: Path, tmp_path: Path) -> None:
    picture = tmp_path / "grid.png"
    assert run("sample", folder / "images.safetensors", "--n", 9, "--out", picture, "--seed", 0) == 0
    with Image.open(picture) as shown:
        assert min(shown.size) > 100
    assert run("sample", folder / "images.safetensors", "-n", 5, "--label", 1, "--out", tmp_path / "rows.npy") == 0
    assert np.load(tmp_path / "rows.npy").shape == (5, 8, 8)
    assert run("sample", folder / "frame.safetensors", "-n", 7, "--out", tmp_path / "rows.csv") == 0
    rows = pd.read_csv(tmp_path / "rows.csv")
    assert list(rows) == ["a", "b"]
    assert rows.dtypes["b"] == np.int64
    assert run("sample", folder / "mixed.safetensors", "-n", 7, "--out", tmp_path / "mixed.parquet") == 0
    assert set(pd.read_parquet(tmp_path / "mixed.parquet")["c"]) <= {"yes", "no"}


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("images.safetensors", "-n", 0, "--out", "a.png"), (2, "--n 0 must be at least 1")),
        (("images.safetensors", "--out", "a.txt"), (1, "suffix '.txt'")),
        (("images.safetensors", "--label", "7", "--out", "a.png"), (2, "not among the labels")),
        (("frame.safetensors", "--out", "a.png"), (2, "are not images")),
        (("frame.safetensors", "--label", "7", "--out", "a.csv"), (2, "knows no labels")),
        (("mixed.safetensors", "--out", "a.png"), (1, "suffix '.png'")),
        (("mixed.safetensors", "--label", "7", "--out", "a.csv"), (2, "sample(n, given={…})")),
    ],
)
def test_wrong_samples_leave_no_file(
    words: tuple[Any, ...], answer: tuple[int, str], folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, *others = words
    others[-1] = tmp_path / str(others[-1])
    assert run("sample", folder / model, *others) == answer[0]
    assert answer[1] in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_maps_are_written_as_page_picture_and_points(folder: Path, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    table = pd.DataFrame({"a": DRAW.normal(size=40), "b": DRAW.integers(0, 9, 40), "kind": ["x", "y"] * 20})
    table.to_csv(data, index=False)
    for name in ("map.html", "map.png", "map.parquet"):
        assert run("map", folder / "frame.safetensors", data, "--labels", "kind", "--out", tmp_path / name) == 0
    assert "accuracy of 5 nearest neighbours" in (tmp_path / "map.html").read_text(encoding="utf-8")
    assert set(pd.read_parquet(tmp_path / "map.parquet")) == {"x", "y", "label", "neighbors"}
    assert run("map", folder / "frame.safetensors", data, "--labels", "knd", "--out", tmp_path / "no.html") == 1
    assert run("map", folder / "frame.safetensors", data, "--out", tmp_path / "no.txt") == 2
    assert not (tmp_path / "no.html").exists()


def test_a_folder_is_indexed_and_asked_for_its_likes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(6):
        Image.fromarray(DRAW.integers(0, 256, (8, 8)).astype(np.uint8)).save(photos / f"{number}.png")
    Image.open(photos / "2.png").save(photos / "copy.png")
    index = tmp_path / "i.isthmus"
    assert run("search", "build", photos, "--out", index, "--quiet", "--seed", 0) == 0
    page = tmp_path / "found.html"
    assert run("search", "query", index, photos / "2.png", "--n", 2, "--html", page, "--json") == 0
    told = capsys.readouterr().out
    assert "2.png" in told
    assert "copy.png" in told
    assert page.exists()
    assert run("search", "duplicates", index) == 0
    assert "2.png  copy.png" in capsys.readouterr().out
    Image.new("L", (5, 9)).save(tmp_path / "other.png")
    assert run("search", "query", index, tmp_path / "other.png") == 1
    assert "5 × 9 pixels, but the images of the index have 8 × 8" in capsys.readouterr().err
    assert run("search", "query", index, tmp_path / "other.png", "--resize") == 0
    assert run("search", "query", folder / "images.safetensors", photos / "2.png") == 1
    assert "needs an index" in capsys.readouterr().err


def test_a_tuned_model_is_saved_with_its_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    low = DRAW.normal(size=(60, 2)) @ DRAW.normal(size=(2, 6))
    pd.DataFrame(low).rename(columns=str).add_prefix("c").to_csv(tmp_path / "t.csv", index=False)
    out, page = tmp_path / "m.safetensors", tmp_path / "m.html"
    words = ("tune", tmp_path / "t.csv", "--budget", "10 min", "--trials", 0, "--out", out, "--report-to", page, "-q")
    assert run(*words) == 0
    told = capsys.readouterr().out
    assert f"code size  {isthmus.load(out).code_size}" in " ".join(told.split()).replace("code size ", "code size  ", 1)
    assert "<img" in page.read_text(encoding="utf-8")
    assert run(*words) == 1  # the files exist
    assert run("tune", tmp_path / "t.csv", "--budget", "soon", "--out", tmp_path / "n.safetensors") == 2
    assert not (tmp_path / "n.safetensors").exists()


def test_features_are_compared_on_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], folder: Path
) -> None:
    data = tmp_path / "data.csv"
    table = pd.DataFrame({"a": DRAW.normal(size=60), "b": DRAW.integers(0, 9, 60)})
    table.assign(kind=np.where(table["a"] > 0, "x", "y")).to_csv(data, index=False)
    assert run("features", folder / "frame.safetensors", data, "--labels", "kind") == 0
    printed = capsys.readouterr().out
    assert "logistic regression" in printed
    assert "PCA of 1" in printed
    out = tmp_path / "f.csv"
    assert run("features", folder / "frame.safetensors", data, "--labels", "kind", "--out", out) == 0
    assert set(pd.read_csv(out)["n_labels"]) == {40}
    assert run("features", folder / "frame.safetensors", data) == 2  # no labels
