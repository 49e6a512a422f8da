"""The measures of the restoration benchmark, and how it keeps figures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks.restoration import baselines
from benchmarks.restoration.harness import Figure, Sheet
from benchmarks.restoration.ocr import edit_distance, error_rate


def test_edit_distance_counts_insertions_deletions_and_replacements() -> None:
    pairs = {("kitten", "sitting"): 3, ("", "abc"): 3, ("abc", ""): 3, ("flaw", "lawn"): 2, ("same", "same"): 0}
    for (one, other), expected in pairs.items():
        assert edit_distance(one, other) == edit_distance(other, one) == expected
    assert error_rate(["abcd", "x"], ["abce", "x"]) == pytest.approx(1 / 5)


def test_a_figure_replaces_the_older_one_of_the_same_seed_and_knows_its_target(tmp_path: Path) -> None:
    sheet = Sheet(tmp_path, 1, quick=False)
    sheet.add(Figure("a", "b", 0.5, "≤", 0.4, 1), Figure("a", "b", 0.3, "≤", 0.4, 2))
    assert sheet.missed
    sheet.add(Figure("a", "b", 0.2, "≤", 0.4, 1))
    assert [sheet.value("a", "b", seed) for seed in (1, 2, 3)] == [0.2, 0.3, None]
    assert Sheet(tmp_path, 1, quick=True).value("a", "b", 1) == 0.2
    assert Figure("a", "b", 0.5).met is None
    page = (tmp_path / "restoration-benchmark.md").read_text(encoding="utf-8")
    assert "| a | b | 0.2 | ≤ 0.4 | yes | 1 |  |  |" in page


def test_figures_of_shortened_fits_say_so(tmp_path: Path) -> None:
    sheet = Sheet(tmp_path, 1, quick=False, share=0.4)
    assert sheet.steps(16_000) == 6400
    sheet.add(Figure("a", "ours", 0.2, seed=1, minutes=2.0), Figure("a", "theirs", 0.3))
    page = (tmp_path / "restoration-benchmark.md").read_text(encoding="utf-8")
    assert "| a | ours | 0.2 |  |  | 1 | 2.0 | 40% |" in page
    assert "| a | theirs | 0.3 |  |  |  |  |  |" in page


def test_other_methods_denoise_and_the_strength_is_the_best_of_those_given() -> None:
    y, x = np.mgrid[:40, :40]
    clean: np.ndarray = (127 + 60 * np.sin(x / 6) * np.cos(y / 7)).astype(np.uint8)
    noisy = clean / 255 + 0.1 * np.random.default_rng(0).normal(size=clean.shape)
    before = np.square(noisy - clean / 255).mean()
    for name, (method, strengths) in baselines.DENOISERS.items():
        best = baselines.best_strength(name, [noisy], [clean], 0.1)
        errors = {strength: np.square(method(noisy, 0.1, strength) - clean / 255).mean() for strength in strengths}
        assert errors[best] == min(errors.values()) < before


def test_nearest_patches_give_the_colours_of_equal_patches() -> None:
    grey = np.random.default_rng(0).random((2, 9, 9)).astype(np.float32)
    colour = np.stack([grey, 1 - grey], axis=-1)
    found = baselines.colours_of_neighbours(np.repeat(grey, 30, axis=0), np.repeat(colour, 30, axis=0), grey, 0)
    np.testing.assert_allclose(found, colour, atol=1e-6)
