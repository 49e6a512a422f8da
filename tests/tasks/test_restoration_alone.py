"""Restorers that learn from noisy images alone: targets that a first network corrects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from isthmus import Restorer, UNet
from isthmus.tasks.restoration import restorer_fit
from isthmus.tasks.restoration.crops import Lesson, noisy_pair, two_of_four
from isthmus.tasks.restoration.pictures import Range

SMALL: dict[str, Any] = {"network": UNet((8,)), "batch_size": 8, "random_state": 0}


def weave(n: int) -> np.ndarray:
    """Images whose left third is a fine texture and whose rest is nearly flat, (n, 64, 96)."""
    draw = np.random.default_rng(n)
    y, x = np.mgrid[:64, :96]
    speed, phase = draw.uniform(1.6, 2.4, (n, 1, 1)), draw.uniform(0, 6, (n, 1, 1))
    texture = 0.15 * np.sin(speed * x + 0.7 * y + phase) * (x < 32)
    images: np.ndarray = 0.5 + texture + 0.002 * (x + y - 79) * draw.uniform(-1, 1, (n, 1, 1))
    return images.astype(np.float32)


CLEAN = weave(24)
NOISY = (CLEAN + 0.05 * np.random.default_rng(3).normal(size=CLEAN.shape)).astype(np.float32)


def test_a_target_is_moved_by_half_the_difference_between_its_place_and_that_of_the_input() -> None:
    noisy, denoised = torch.rand(2, 3, 8, 8, 2, generator=torch.Generator().manual_seed(0))
    one, other = two_of_four(noisy, torch.Generator().manual_seed(1))
    clean_one, clean_other = two_of_four(denoised, torch.Generator().manual_seed(1))  # the same places
    given, target = noisy_pair(noisy, denoised, torch.Generator().manual_seed(1))
    assert torch.equal(given, one)
    torch.testing.assert_close(target, other + 0.5 * (clean_one - clean_other))
    given, target = noisy_pair(noisy, None, torch.Generator().manual_seed(1))
    assert torch.equal(given, one)
    assert torch.equal(target, other)


def test_corrected_targets_leave_more_detail_and_have_rows_in_the_history(monkeypatch: pytest.MonkeyPatch) -> None:
    made = {**SMALL, "max_steps": 500, "loss": "log-mean-squared-error"}
    corrected = Restorer("unknown", **made).fit(NOISY)
    assert [row["epoch"] for row in corrected.history_] == [1, 2, 3, 4, 5]
    monkeypatch.setattr(restorer_fit, "CORRECTED_STEPS", 0.0)
    blurred = Restorer("unknown", **made).fit(NOISY)
    assert corrected.score(NOISY, target=CLEAN).psnr > blurred.score(NOISY, target=CLEAN).psnr + 0.1


def test_no_more_images_are_denoised_for_corrected_targets_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restorer_fit, "MOST_DENOISED", 5 * CLEAN[0].size)
    restorer = Restorer("unknown", **SMALL, max_steps=60).fit(NOISY)
    lesson = Lesson([image[..., None] for image in NOISY], Range(0.0, 1.0), alone=True)
    corrected = restorer_fit.denoised_lesson(lesson, restorer.objective_, 0)
    assert len(corrected.given) == 5
    assert corrected.wanted is not None
    for image, restored in zip(corrected.given, corrected.wanted, strict=True):
        np.testing.assert_allclose(restored[..., 0], restorer.restore([image[..., 0]])[0], atol=1e-6)
