"""Checks of a restorer: whether it undoes the damage, of all images, and whether its training went well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from isthmus.choices import MeanSquaredError
from isthmus.diagnosis import Diagnosis, Finding, psnr
from isthmus.tasks.restoration.damages import UNKNOWN

MANY_WORSE = 0.1
"""Share of images with a larger error after restoration from which a note is given; half of them are a fault if the
mean PSNR of all falls too. Photographs measured 0.13 after a short training that gained 3.8 dB."""
UNLIKE, FAR_UNLIKE = 2.0, 4.0
"""Squared error, in multiples of the loss at the end of training, from which a note is given, and a fault found if
restoration also fails to lower the error: twice the noise of training measured 7.3, and 7 dB less error than before."""
LAST_LOSSES = 5
"""Entries of the history, of 100 steps each, whose mean is the loss at the end: single ones vary with their crops."""


@dataclass(frozen=True)
class Compared:
    """Images in [0, 1], (h, w, c) each: damaged, in the size and channels of the clean ones; restored; and clean; with
    their names.
    """

    before: Sequence[np.ndarray]
    after: Sequence[np.ndarray]
    clean: Sequence[np.ndarray]
    names: Sequence[str]

    def errors(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """Mean squared error of each image, (n,)."""
        pairs = zip(images, self.clean, strict=True)
        return np.array([np.square(one.astype(np.float64) - other).mean() for one, other in pairs])


@dataclass(frozen=True)
class Seen:
    """What the checks look at: a fitted restorer, and the squared errors of images before and after."""

    restorer: Any
    before: np.ndarray
    after: np.ndarray


def diagnosis_of(restorer: Any, compared: Compared) -> Diagnosis:
    """All checks; `Diagnosis.unlike_rows` has the images that restoration made worse."""
    seen = Seen(restorer, compared.errors(compared.before), compared.errors(compared.after))
    findings = tuple(finding for check in CHECKS for finding in [check(seen)] if finding is not None)
    return Diagnosis(findings, tuple(map(int, np.flatnonzero(seen.after > seen.before))))


def _damage_not_undone(seen: Seen) -> Finding:
    before, after = (psnr(float(errors.mean()), 1.0) for errors in (seen.before, seen.after))
    found = bool(seen.after.mean() >= seen.before.mean())
    gain = 0.0 if before == after else after - before  # both may be infinite
    text = f"Damaged images have a PSNR of {before:.1f} dB, restored images of {after:.1f} dB."
    remedy = "train longer (max_steps), or fit on the damage that these images have."
    return Finding("damage-not-undone", found, gain, text, remedy if found else "")


def _images_made_worse(seen: Seen) -> Finding:
    worse = float((seen.after > seen.before).mean())
    before, after = (np.mean([psnr(error, 1.0) for error in errors.tolist()]) for errors in (seen.before, seen.after))
    text = (
        f"{worse:.0%} of {len(seen.after):,} images have a larger error after restoration than before; the mean of the "
        f"PSNR of all goes from {before:.1f} to {after:.1f} dB."
    )
    remedy = "restore damaged images only, or train with weaker damage too, such as a range of strengths from 0."
    found = worse > 0.5 and bool(after < before)
    return Finding("images-made-worse", found, worse, text, remedy if found else "", worse > MANY_WORSE)


def _unlike_training_data(seen: Seen) -> Finding | None:
    """Only where the training loss is the squared error of a restored image against its clean one."""
    restorer = seen.restorer
    squared = isinstance(restorer.objective_.choices.loss, MeanSquaredError)
    if not squared or restorer.damage == UNKNOWN or not len(restorer.history_):
        return None
    learned = float(restorer.history_["loss"][-LAST_LOSSES:].mean())
    ratio = float(seen.after.mean()) / max(learned, 1e-12)
    text = f"The squared error is {ratio:.2f} times the loss at the end of training ({learned:.3g})."
    remedy = "fit on images and damage of this kind, or on more images; it learned from others."
    found = ratio > FAR_UNLIKE and bool(seen.after.mean() >= seen.before.mean())
    return Finding("unlike-training-data", found, ratio, text, remedy if found else "", ratio > UNLIKE)


def _stopped_too_early(seen: Seen) -> Finding:
    reason = seen.restorer.stop_reason_
    found = reason in ("interrupted", "diverged", "stopped by a callback")
    text = f"Training ended as {reason!r}."
    remedy = "fit again; a lower learning_rate if it diverged."
    return Finding("stopped-too-early", found, float(found), text, remedy if found else "")


CHECKS: tuple[Callable[[Seen], Finding | None], ...] = (
    _damage_not_undone,
    _images_made_worse,
    _unlike_training_data,
    _stopped_too_early,
)
