"""Diagnosis and report of models that were fitted with pairs, and of restorers."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import isthmus
from isthmus import Autoencoder, Restorer, diagnose, write_report
from isthmus.cli import main
from isthmus.diagnosis import restoration, worst_rows

CLEAN = (load_digits().data / 16.0)[:400]
NOISY = np.clip(CLEAN + 0.3 * np.random.default_rng(0).normal(size=CLEAN.shape), 0, 1)
LEARN, TEST = slice(300), slice(300, None)
IMAGES = CLEAN.reshape(-1, 8, 8).astype(np.float32)


@functools.cache
def pairs(epochs: int = 60) -> Autoencoder:
    return Autoencoder(16, max_epochs=epochs, random_state=0).fit(NOISY[LEARN], target=CLEAN[LEARN])


@functools.cache
def denoiser() -> Restorer:
    return Restorer("noise:0.3", max_steps=60, random_state=0).fit(IMAGES[LEARN])


@functools.cache
def of_pairs() -> Restorer:
    return Restorer(max_steps=3, random_state=0).fit(IMAGES[LEARN], target=1 - IMAGES[LEARN])


def value_of(diagnosis: Any, name: str) -> float:
    return float(next(finding.value for finding in diagnosis.findings if finding.name == name))


def test_pairs_are_compared_with_their_targets() -> None:
    error = pairs().reconstruction_error(NOISY[TEST], target=CLEAN[TEST]).mean()
    found = diagnose(pairs(), NOISY[TEST], target=CLEAN[TEST])
    gain = 10 * np.log10(np.square(NOISY[TEST] - CLEAN[TEST]).mean() / error)
    assert value_of(found, "damage-not-undone") == pytest.approx(gain, abs=1e-3)
    assert value_of(found, "nothing-learned") == pytest.approx(error / CLEAN[TEST].var(axis=0).mean(), rel=1e-4)
    assert not {"copying", "worse-than-pca"} & {finding.name for finding in found.findings}


def test_training_pairs_tell_over_fitting() -> None:
    found = diagnose(pairs(), NOISY[TEST], target=CLEAN[TEST], X_train=NOISY[LEARN], target_train=CLEAN[LEARN])
    errors = [pairs().reconstruction_error(NOISY[part], target=CLEAN[part]).mean() for part in (TEST, LEARN)]
    assert value_of(found, "over-fitting") == pytest.approx(errors[0] / errors[1], rel=1e-4)


def test_inputs_of_another_unit_are_not_compared_with_their_targets() -> None:
    as_bytes = np.rint(NOISY * 255).astype(np.uint8)
    model = Autoencoder(4, max_epochs=1, random_state=0).fit(as_bytes[LEARN], target=CLEAN[LEARN])
    found = diagnose(model, as_bytes[TEST], target=CLEAN[TEST])
    assert "damage-not-undone" not in {finding.name for finding in found.findings}
    with pytest.raises(ValueError, match="differ in shape, or one has bytes"):
        restoration(model, as_bytes[TEST], target=CLEAN[TEST])


def test_the_worst_rows_of_pairs_are_those_furthest_from_their_targets() -> None:
    errors = pairs().reconstruction_error(NOISY[TEST], target=CLEAN[TEST])
    worst = worst_rows(pairs(), NOISY[TEST], 3, target=CLEAN[TEST])
    assert worst.index.tolist() == np.argsort(errors)[::-1][:3].tolist()
    np.testing.assert_array_equal(worst.X, CLEAN[TEST][worst.index])
    np.testing.assert_array_equal(worst.damaged, NOISY[TEST][worst.index])


def test_a_restorer_is_checked_before_and_after() -> None:
    damaged = denoiser().damage_images(IMAGES[TEST], random_state=1)
    found = diagnose(denoiser(), damaged, target=IMAGES[TEST])
    after = np.square(denoiser().restore(damaged) - IMAGES[TEST]).mean()
    gain = 10 * np.log10(np.square(damaged - IMAGES[TEST]).mean() / after)
    assert value_of(found, "damage-not-undone") == pytest.approx(gain, abs=1e-3)
    assert found.faults == ()


def test_a_restorer_that_makes_images_worse_is_found() -> None:
    found = diagnose(denoiser(), IMAGES[TEST], target=IMAGES[TEST])  # nothing to undo
    assert {"damage-not-undone", "images-made-worse"} <= set(found.faults)
    assert found.unlike_rows == tuple(range(100))


def test_a_restorer_that_lowers_the_error_has_no_fault() -> None:
    damaged = denoiser().damage_images(IMAGES[TEST], random_state=1)
    clear = np.where(np.arange(100)[:, None, None] < 60, 0.98 * IMAGES[TEST] + 0.02, damaged)  # the error of most rises
    loud = np.clip(IMAGES[TEST] + np.random.default_rng(0).normal(size=IMAGES[TEST].shape), 0, 1).astype(np.float32)
    for X, unusual in ((loud, "unlike-training-data"), (damaged, None)):
        found = diagnose(denoiser(), X, target=IMAGES[TEST])
        assert value_of(found, "damage-not-undone") > 1.0
        assert found.faults == ()
        assert unusual is None or unusual in {finding.name for finding in found.findings if finding.notable}
    mixed = diagnose(denoiser(), clear, target=IMAGES[TEST])
    assert value_of(mixed, "images-made-worse") > 0.5
    assert "images-made-worse" in mixed.faults


@pytest.mark.parametrize("use", [diagnose, functools.partial(write_report, path="r.html")], ids=["diagnose", "report"])
@pytest.mark.parametrize(("model", "X"), [(pairs, NOISY), (of_pairs, IMAGES)], ids=["autoencoder", "restorer"])
def test_a_missing_target_is_named(use: Any, model: Callable[[], Any], X: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="target="):
        use(model(), X[TEST])
    assert not Path("r.html").exists()


def test_what_has_no_effect_is_refused() -> None:
    with pytest.raises(ValueError, match="X_train has no effect"):
        diagnose(denoiser(), IMAGES[TEST], X_train=IMAGES[LEARN])
    with pytest.raises(ValueError, match="X_train without target_train"):
        diagnose(pairs(), NOISY[TEST], target=CLEAN[TEST], X_train=NOISY[LEARN])


def test_pages_tell_the_quality_before_and_after(tmp_path: Path) -> None:
    page = write_report(pairs(), NOISY[TEST], tmp_path / "a.html", target=CLEAN[TEST]).read_text()
    seen = restoration(pairs(), NOISY[TEST], target=CLEAN[TEST])
    assert f"{seen.psnr_before:.1f} dB</b><span>PSNR of damaged rows" in page
    assert f"{seen.psnr:.1f} dB</b><span>PSNR of restored rows" in page
    assert "of PCA" not in page
    page = write_report(denoiser(), IMAGES[TEST], tmp_path / "b.html").read_text()
    assert "Before, after and clean" in page
    assert "images-made-worse" in page
    assert re.search(r"From the top: X\[0\] \(\d+\.\d → \d+\.\d dB\), X\[1\] ", page)
    assert "Largest errors after restoration" in page
    few = write_report(denoiser(), IMAGES[:3], tmp_path / "c.html").read_text()
    assert "Measured on 3 images. Training: finished." in few
    assert "Largest errors" not in few  # they would be the same images


def test_a_page_of_pairs_of_other_sizes(tmp_path: Path) -> None:
    small = IMAGES[:, ::2, ::2]
    model = Autoencoder(4, max_epochs=1, random_state=0).fit(small[LEARN], target=IMAGES[LEARN])
    page = write_report(model, small[TEST], tmp_path / "r.html", target=IMAGES[TEST]).read_text()
    assert "Targets above answers" in page
    assert "PSNR" not in page


def _run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return (int(stopped.value.code or 0), *capsys.readouterr())


def test_the_command_line_fits_and_judges_pairs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name, rows in (("x", NOISY), ("t", CLEAN), ("few", CLEAN[:7])):
        np.save(tmp_path / f"{name}.npy", rows)
    x, t, model = tmp_path / "x.npy", tmp_path / "t.npy", tmp_path / "m.safetensors"
    few = ("--epochs", 1, "--code-size", 3, "--seed", 0, "--quiet", "--out", model)
    code, _, err = _run(capsys, "fit", x, "--target", tmp_path / "few.npy", *few)
    assert code
    assert "target has 7 rows, but X has 400" in err
    assert not model.exists()
    assert _run(capsys, "fit", x, "--target", t, *few)[0] == 0
    assert isthmus.load(model).target_.shape == (64,)
    assert "damage-not-undone" in _run(capsys, "diagnose", model, x, "--target", t)[1]
    assert "target=" in _run(capsys, "diagnose", model, x)[2]
    page = tmp_path / "r.html"
    assert _run(capsys, "report", model, x, "--target", t, "--out", page)[0] == 0
    assert "PSNR of damaged rows" in page.read_text()


def test_folders_are_paired_by_name(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for folder, names in (("x", "abc"), ("same", "abc"), ("other", "abd")):
        (tmp_path / folder).mkdir()
        for place, name in enumerate(names):
            Image.fromarray(np.rint(IMAGES[place] * 255).astype(np.uint8)).save(tmp_path / folder / f"{name}.png")
    words = ("fit", tmp_path / "x", "--epochs", 1, "--code-size", 2, "--quiet", "--out", tmp_path / "m.safetensors")
    code, _, err = _run(capsys, *words, "--target", tmp_path / "other")
    assert code
    assert "'c' in the first has 'd' in its place" in err
    assert _run(capsys, *words, "--target", tmp_path / "same")[0] == 0


def test_the_command_line_judges_restorers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", IMAGES[TEST])
    denoiser().save(tmp_path / "r.safetensors")
    code, out, _ = _run(capsys, "diagnose", tmp_path / "r.safetensors", tmp_path / "x.npy")
    assert code == 0
    assert "images-made-worse" in out
