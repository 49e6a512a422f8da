"""``isthmus compress`` and ``isthmus decompress``: a folder to one file and back, names kept, mistakes in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_image

import isthmus
from isthmus.cli import main
from isthmus.cli.compress_work import paths_of
from isthmus.exceptions import StreamError
from isthmus.tasks.compression.container import Container, Entry
from isthmus.tasks.compression.curves import codec_curve, format_curve


def call(arguments: list[str]) -> int:
    """Run a command; its exit code."""
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images of two sizes, a codec and a compressed file."""
    path = tmp_path_factory.mktemp("compress")
    photo = load_sample_image("china.jpg")
    (path / "in" / "sub").mkdir(parents=True)
    Image.fromarray(photo[200:232, 100:140]).save(path / "in" / "a.png")
    Image.fromarray(photo[100:132, 100:140]).save(path / "in" / "a.bmp")
    Image.fromarray(photo[:20, :30]).convert("L").save(path / "in" / "sub" / "b.png")
    isthmus.ImageCodec("32 dB", n_steps=10, random_state=0).fit(path / "in").save(path / "c.safetensors")
    assert (
        call(["compress", "run", str(path / "c.safetensors"), str(path / "in"), "--out", str(path / "x.isth"), "-q"])
        == 0
    )
    return path


def test_a_folder_comes_back_under_its_names(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [str(work / "x.isth"), str(work / "c.safetensors")]
    assert call(["decompress", *arguments, "--out", str(work / "back"), "-q"]) == 0
    found = sorted(path.relative_to(work / "back").as_posix() for path in (work / "back").rglob("*.png"))
    assert found == ["a.bmp.png", "a.png.png", "sub/b.png"]
    codec = isthmus.load(work / "c.safetensors")
    for image, name in zip(
        codec.decompress((work / "x.isth").read_bytes()), ("a.bmp.png", "a.png.png", "sub/b.png"), strict=True
    ):
        np.testing.assert_array_equal(np.asarray(Image.open(work / "back" / name)), image.squeeze())
    assert call(["decompress", *arguments, "--out", str(work / "one"), "--image", "sub/b.png", "-q"]) == 0
    assert [path.name for path in (work / "one").rglob("*.png")] == ["b.png"]
    capsys.readouterr()
    assert call(["decompress", *arguments, "--out", str(work / "back")]) == 1
    assert "allow files to be replaced (--force)" in capsys.readouterr().err
    assert call(["decompress", *arguments, "--out", str(work / "two"), "--image", "c.png"]) == 2
    assert "There is no image 'c.png' in the file; it holds 3" in capsys.readouterr().err
    assert not (work / "two").exists()


def test_run_and_info_tell_sizes(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = work / "y.isth"
    run = ["compress", "run", str(work / "c.safetensors"), str(work / "in"), "--out", str(out), "-q", "--json"]
    assert call([*run, "--target", "25 dB"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["bytes after"] == out.stat().st_size
    assert facts["bytes before"] == sum(path.stat().st_size for path in (work / "in").rglob("*.*"))
    assert facts["bits per pixel"] == pytest.approx(8 * out.stat().st_size / (2 * 32 * 40 + 600))
    assert facts["PSNR, dB"] >= 25
    assert call(["compress", "info", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["images"], told["sizes"], told["bytes"]) == (3, "20×30, 32×40", out.stat().st_size)
    assert told["names"] == "a.bmp, a.png, sub/b.png"


def test_mistakes_are_one_line_and_write_nothing(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = work / "damaged.isth"
    damaged.write_bytes((work / "x.isth").read_bytes()[:-3])
    out = str(work / "z.isth")
    model = str(work / "c.safetensors")
    wrong: list[tuple[list[str], int, str]] = [
        (["decompress", str(damaged), model, "--out", str(work / "no")], 1, "it is truncated"),
        (["compress", "info", str(work / "in" / "a.png")], 1, "not a compressed stream"),
        (["compress", "info", str(work / "nothing.isth")], 1, "There is no compressed file"),
        (["compress", "run", model, str(work / "in"), "--out", out, "--target", "0.4"], 2, "must be a rate such as"),
        (["compress", "run", model, str(work / "empty"), "--out", out], 1, "empty"),
        (["compress", "fit", str(work / "in"), "--out", str(work / "c.pt")], 2, "a model file needs .safetensors"),
    ]
    for arguments, code, text in wrong:
        assert call(arguments) == code
        told = capsys.readouterr().err
        assert text in told
        assert told.count("error:") == 1, told
    assert not (work / "no").exists()
    assert not Path(out).exists()
    assert not [path for path in work.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "a/../../b", "a\\b", ""])
def test_names_that_lead_out_of_the_folder_are_refused(name: str) -> None:
    with pytest.raises(StreamError, match="leads out of the folder"):
        paths_of(Container("images", b"12345678", [Entry(1, 8, 8, 1, 3, 0, b"")], [name]))


def test_the_report_has_the_curve_beside_other_formats(work: Path) -> None:
    codec = isthmus.load(work / "c.safetensors")
    page = isthmus.write_compression_report(codec, [np.asarray(Image.open(work / "in" / "a.png"))], work / "page.html")
    text = page.read_text(encoding="utf-8")
    assert all(f"<td>{name}</td>" in text.replace("\n", "") or name in text for name in ("isthmus", "JPEG", "WebP"))


def test_a_curve_interpolates_over_the_logarithm_of_the_rate() -> None:
    image = (np.add.outer(np.arange(64), np.arange(64)) * 2).astype(np.uint8)
    curve = format_curve("JPEG", [image])
    assert curve is not None
    assert curve.at(float(curve.bpp[2])) == pytest.approx(curve.psnr[2])
    assert np.isnan(curve.at(1e-4))
    codec = isthmus.ImageCodec("30 dB", n_steps=2, random_state=0).fit([image])
    ours = codec_curve(codec, [image], (60, 80))
    blob = codec.compress([image], code=60)
    assert ours.bpp[0] == 8 * len(blob) / image.size


def test_alike_images_take_the_dense_transform(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    digits = (isthmus.datasets.load_digits().X[:40].reshape(-1, 8, 8) * 255).astype(np.uint8)
    (tmp_path / "in").mkdir()
    for place, digit in enumerate(digits):
        Image.fromarray(digit).save(tmp_path / "in" / f"{place:02d}.png")
    model, stream = str(tmp_path / "c.safetensors"), str(tmp_path / "x.isth")
    page = tmp_path / "page.html"
    fit = [
        "compress",
        "fit",
        str(tmp_path / "in"),
        "--transform",
        "dense",
        "--target",
        "9 dB",
        "--seed",
        "0",
        "--steps",
        "40",
    ]
    assert call([*fit, "--report", str(page), "--out", model, "-q"]) == 0
    assert "AVIF" in page.read_text(encoding="utf-8")
    assert "many small images together take" in page.read_text(encoding="utf-8")
    assert call(["compress", "run", model, str(tmp_path / "in"), "--out", stream, "-q"]) == 0
    assert call(["decompress", stream, model, "--out", str(tmp_path / "back"), "-q"]) == 0
    wanted = isthmus.load(model).reconstruct(digits)
    found = [np.asarray(Image.open(tmp_path / "back" / f"{place:02d}.png")) for place in range(40)]
    np.testing.assert_array_equal(np.stack(found), wanted)
    Image.fromarray(np.zeros((9, 8), np.uint8)).save(tmp_path / "in" / "other.png")
    capsys.readouterr()
    assert call(["compress", "run", model, str(tmp_path / "in"), "--out", str(tmp_path / "y.isth"), "-q"]) == 1
    assert "'other.png' has 9 × 8 × 1 values, but the codec was fitted to 8 × 8 × 1" in capsys.readouterr().err
    assert not (tmp_path / "y.isth").exists()
