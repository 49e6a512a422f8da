"""``isthmus restore``: folders of images in, folders of images out, and what is said of bad files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import isthmus
from isthmus.cli import main

FAST = ("--steps", "3", "--seed", "0", "--quiet", "--set", "network.channels=4,4")


@dataclass
class Answer:
    code: int
    out: str
    err: str


Run = Callable[..., Answer]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*words: object) -> Answer:
        with pytest.raises(SystemExit) as stopped:
            main(["restore", *map(str, words)])
        said = capsys.readouterr()
        return Answer(int(stopped.value.code or 0), said.out, said.err)

    return call


def pixels(seed: int, *shape: int) -> np.ndarray:
    smooth: np.ndarray = np.random.default_rng(seed).random(shape).cumsum(0).cumsum(1)
    scaled: np.ndarray = 255 * smooth / smooth.max()
    return scaled.astype(np.uint8)


def fill(folder: Path, n: int = 3) -> Path:
    folder.mkdir()
    for number in range(n):
        Image.fromarray(pixels(number, 20 + number, 24)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module")
def restorer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A restorer of colour images on disk."""
    model = isthmus.Restorer("gaussian-noise", network=isthmus.UNet((4, 4)), max_steps=3, random_state=0)
    images = [pixels(seed, 20, 24, 3) for seed in range(3)]
    return model.fit(images).save(tmp_path_factory.mktemp("model") / "r.safetensors")


def test_a_folder_is_learned_from_and_another_restored(run: Run, tmp_path: Path) -> None:
    fill(tmp_path / "clean")
    learned = run("fit", "clean", "--damage", "noise:0.2", "--out", "r.safetensors", *FAST)
    assert learned.code == 0, learned.err
    assert "images         3" in learned.out
    model = isthmus.load("r.safetensors")
    assert (model.verbose, model.max_steps, model.damage) == (0, 3, "noise:0.2")
    done = run("run", "r.safetensors", "clean", "--out", "restored")
    assert done.code == 0, done.err
    assert "3 of 3 images restored to 'restored'" in done.out
    for number, image in enumerate(model.restore(tmp_path / "clean")):
        np.testing.assert_array_equal(np.asarray(Image.open(f"restored/{number}.png")), image)
    averaged = run("run", "r.safetensors", "clean", "--out", "averaged", "--self-ensemble")
    assert averaged.code == 0, averaged.err
    for number, image in enumerate(model.set_params(self_ensemble=True).restore(tmp_path / "clean")):
        np.testing.assert_array_equal(np.asarray(Image.open(f"averaged/{number}.png")), image)
    again = run("run", "r.safetensors", "clean", "--out", "restored")
    assert again.code == 1
    assert "0.png' exists" in again.err
    assert run("run", "r.safetensors", "clean", "--out", "restored", "--force").code == 0


def test_pairs_are_found_by_their_names(run: Run, tmp_path: Path) -> None:
    clean = fill(tmp_path / "clean")
    (tmp_path / "damaged").mkdir()
    for file in clean.iterdir():
        Image.open(file).save(tmp_path / "damaged" / f"{file.stem}.bmp")
    learned = run("fit", "--pairs", "damaged", "clean", *FAST)
    assert learned.code == 0, learned.err
    assert isthmus.load("restorer.safetensors").n_images_ == 3
    (clean / "2.png").rename(clean / "x.png")
    missing = run("fit", "--pairs", "damaged", "clean", "--force", *FAST)
    assert missing.code == 1
    assert "1 of 3 images in 'damaged' without a partner in 'clean': 2; 1 of 3 images in 'clean'" in missing.err
    Image.fromarray(pixels(0, 9, 9)).save(clean / "2.png")
    (clean / "x.png").unlink()
    sizes = run("fit", "--pairs", "damaged", "clean", "--force", *FAST)
    assert sizes.code == 1
    assert "2.bmp' is 22×24, but '" in sizes.err
    assert "2.png' is 9×9" in sizes.err


def test_noisy_images_alone_are_learned_from(run: Run, tmp_path: Path) -> None:
    fill(tmp_path / "noisy")
    assert run("fit", "noisy", "--damage", "unknown", *FAST).code == 0
    assert not isthmus.load("restorer.safetensors").objective_.choices.corruption


def kinds(folder: Path) -> dict[str, tuple[str, str, tuple[int, int]]]:
    """Images of many kinds; the format, mode and size that each comes out with."""
    (folder / "sub").mkdir(parents=True)
    grey, colour = Image.fromarray(pixels(1, 18, 30)), Image.fromarray(pixels(2, 18, 30, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    colour.save(folder / "photo.jpg", exif=exif, dpi=(300, 300))
    grey.save(folder / "sub" / "grey.png")
    clear = colour.convert("RGBA")
    clear.putalpha(grey)
    clear.save(folder / "alpha.png")
    colour.convert("RGBA").save(folder / "opaque.png")
    colour.quantize(16).save(folder / "palette.png")
    colour.convert("CMYK").save(folder / "print.tif")
    Image.fromarray(pixels(3, 18, 30).astype(np.uint16) * 257).save(folder / "deep.png")
    grey.convert("1").save(folder / "fax.tif")
    grey.convert("LA").save(folder / "la.png")
    grey.save(folder / "pages.tif", save_all=True, append_images=[grey.rotate(180)])
    Image.fromarray(pixels(4, 3, 2, 3)).save(folder / "tiny.bmp")
    return {
        "photo.jpg": ("JPEG", "RGB", (18, 30)),
        "sub/grey.png": ("PNG", "L", (30, 18)),
        "alpha.png": ("PNG", "RGBA", (30, 18)),
        "opaque.png": ("PNG", "RGBA", (30, 18)),
        "palette.png": ("PNG", "RGB", (30, 18)),
        "print.tif": ("TIFF", "RGB", (30, 18)),
        "deep.png": ("PNG", "I;16", (30, 18)),
        "fax.tif": ("TIFF", "L", (30, 18)),
        "la.png": ("PNG", "LA", (30, 18)),
        "pages.tif": ("TIFF", "L", (30, 18)),
        "tiny.bmp": ("BMP", "RGB", (2, 3)),
    }


def test_names_sizes_formats_modes_and_pages_stay(run: Run, tmp_path: Path, restorer: Path) -> None:
    expected = kinds(tmp_path / "in")
    done = run("run", restorer, "in", "--out", "out", "--report", "page.html")
    assert done.code == 0, done.err
    found = {path.relative_to("out").as_posix() for path in Path("out").rglob("*") if path.is_file()}
    assert found == set(expected)
    for name, wanted in expected.items():
        with Image.open(Path("out") / name) as image:
            assert (image.format, image.mode, image.size) == wanted, name
            assert getattr(image, "n_frames", 1) == (2 if name == "pages.tif" else 1)
            assert image.getexif().get(0x0112, 1) == 1
    with Image.open("in/alpha.png") as before, Image.open("out/alpha.png") as after:
        np.testing.assert_array_equal(np.asarray(before)[..., 3], np.asarray(after)[..., 3])
    with Image.open("out/photo.jpg") as photo:
        assert tuple(map(round, photo.info["dpi"])) == (300, 300)
    page = Path("page.html").read_text(encoding="utf-8")
    assert "11 restored images, of which the first 6 are shown" in page
    assert "alpha.png" in page


def test_bad_files_are_told_at_the_end_and_the_others_restored(run: Run, tmp_path: Path, restorer: Path) -> None:
    folder = fill(tmp_path / "in")
    (folder / "0a.png").write_text("no image")
    (folder / "1a.png").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "1b.png")
    n_bad = 3 if hasattr(os, "mkfifo") else 2
    done = run("run", restorer, "in", "--out", "out", "--report", "page.html")
    assert done.code == 1
    assert f"3 of {3 + n_bad} images restored to 'out'" in done.out
    lines = [line for line in done.err.splitlines() if line.startswith("not restored: ")]
    assert len(lines) == n_bad
    assert "0a.png' cannot be read" in lines[0]
    assert all("is not a regular file" in line for line in lines[1:])
    assert sorted(path.name for path in Path("out").iterdir()) == ["0.png", "1.png", "2.png"]
    assert "0a.png" in Path("page.html").read_text(encoding="utf-8")


WRONG = [
    (("fit",), "Exactly one of FOLDER and --pairs"),
    (("fit", "clean", "--pairs", "a", "b"), "Exactly one of FOLDER and --pairs"),
    (("fit", "clean"), "FOLDER needs --damage"),
    (("fit", "clean", "--damage", "noises"), "Unknown corruption 'noises'"),
    (("fit", "clean", "--damage", "masking", "--out", "r.pt"), "suffix '.pt'"),
    (("fit", "clean", "--damage", "masking", "--set", "crop_sise=3"), "crop_sise"),
    (("fit", "nowhere", "--damage", "masking"), "There is no folder 'nowhere'"),
    (("fit", "empty", "--damage", "masking"), "has no images"),
    (("fit", "clean", "--damage", "masking", "--steps", "0"), "max_steps=0 must be an integer >= 1"),
    (("fit", "clean", "--damage", "noise:0.5-0.1"), "range in reverse order; write noise:0.1-0.5"),
    (("fit", "clean", "--damage", "grey"), "images have 1 channel"),
    (("fit", "clean/0.png", "--damage", "masking"), "0.png' is a file, but a folder of images is needed"),
    (("fit", "--pairs", "clean/0.png", "clean"), "0.png' is a file, but a folder of images is needed"),
    (("fit", "text", "--damage", "masking"), "bad.png' cannot be read"),
    (("fit", "folders", "--damage", "masking"), "bad.png' is not a regular file"),
    (("fit", "--pairs", "clean", "text"), "3 of 3 images in 'clean' without a partner in 'text': 0, 1, 2"),
    (("fit", "clean", "--damage", "masking", "--out", "nowhere/r.safetensors"), "there is no folder 'nowhere'"),
    (("run", "nothing.safetensors", "clean"), "nothing.safetensors"),
]


@pytest.mark.parametrize(
    ("words", "message"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, tuple) else ""
)
def test_wrong_commands_are_refused(run: Run, tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    fill(tmp_path / "clean")
    (tmp_path / "empty").mkdir()
    (tmp_path / "folders" / "bad.png").mkdir(parents=True)
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "bad.png").write_text("no image")
    answer = run(*words)
    assert answer.code in (1, 2)
    assert message in answer.err
    assert not list(tmp_path.glob("*.safetensors"))


def test_output_never_goes_where_the_images_are(run: Run, tmp_path: Path, restorer: Path) -> None:
    fill(tmp_path / "in")
    for out in ("in", "in/restored"):
        answer = run("run", restorer, "in", "--out", out)
        assert answer.code == 1
        assert "choose a folder beside it" in answer.err
    (tmp_path / "file").write_text("")
    assert "is a file, but a folder" in run("run", restorer, "in", "--out", "file").err


def test_a_model_of_another_kind_is_refused(run: Run, tmp_path: Path) -> None:
    fill(tmp_path / "in")
    isthmus.Autoencoder(2, max_epochs=1).fit(np.random.default_rng(0).random((20, 4))).save("a.safetensors")
    answer = run("run", "a.safetensors", "in")
    assert answer.code == 1
    assert "of the kind Autoencoder, but `isthmus restore run` needs a restorer" in answer.err


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_a_pipe_among_images_is_named_and_not_waited_for(run: Run, tmp_path: Path) -> None:
    folder = fill(tmp_path / "in")
    os.mkfifo(folder / "1b.png")
    answer = run("fit", "in", "--damage", "masking", *FAST)
    assert answer.code == 1
    assert "1b.png' is not a regular file" in answer.err


def test_clean_images_are_checked_before_the_work_and_may_be_incomplete(
    run: Run, tmp_path: Path, restorer: Path
) -> None:
    clean = fill(tmp_path / "in").rename(tmp_path / "clean")
    fill(tmp_path / "in")
    (clean / "0.png").rename(clean / "0.bmp")
    (clean / "1.png").write_text("no image")
    (clean / "2.png").unlink()
    alone = run("run", restorer, "in", "--clean", "clean")
    assert (alone.code, "give --report FILE too" in alone.err) == (2, True)
    missing = run("run", restorer, "in", "--clean", "nowhere", "--report", "page.html")
    assert (missing.code, "there is no folder 'nowhere'" in missing.err) == (1, True)
    assert not Path("restored").exists()
    assert run("run", restorer, "in", "--clean", "clean", "--report", "page.html").code == 0
    page = Path("page.html").read_text(encoding="utf-8")
    assert "3 restored images" in page
    assert "20×24 pixels, PSNR inf → " in page
    assert "21×24 pixels; large" in page


def test_odd_names_are_printed_and_shown_and_other_files_stay(run: Run, tmp_path: Path, restorer: Path) -> None:
    folder = fill(tmp_path / "in", 1)
    try:
        (folder / os.fsdecode(b"\xff[red]\n<b>.png")).write_text("no image")
    except (OSError, UnicodeError):
        pytest.skip("the file system has no such names")
    (folder / "0.png").rename(folder / os.fsdecode(b"\xfe<i>[bold].png"))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("stays")
    done = run("run", restorer, "in", "--out", "out", "--report", "page.html")
    assert done.code == 1
    assert "not restored: The image 'in/\\udcff[red]" in done.err
    assert sorted(path.suffix for path in Path("out").iterdir()) == [".png", ".txt"]
    page = Path("page.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;" in page
    assert "<i>" not in page
