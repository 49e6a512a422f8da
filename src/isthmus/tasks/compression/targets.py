"""Targets of a codec, and the search for the quantisation step that meets them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass

from isthmus.exceptions import DataError
from isthmus.tasks.compression.steps import MOST_CODE, step_of

UNITS = {"bpp": "bits per pixel", "dB": "decibels of PSNR"}
TRADE = 0.14
"""The squared error, in squared steps, that the encoder trades for one bit; see docs/compression.md for others."""
OCTAVE = 16.0
"""Codes an octave of the step; the rate falls by about this factor."""


@dataclass(frozen=True)
class Outcome:
    """The result of a step on a set of images: bits per pixel, and PSNR in decibels."""

    bpp: float
    psnr: float


@dataclass(frozen=True)
class Target:
    """A rate not to be exceeded, or a PSNR to be reached.

    >>> Target.parse("0.4 bpp"), Target.parse("32dB")
    (Target(value=0.4, unit='bpp'), Target(value=32.0, unit='dB'))
    """

    value: float
    unit: str

    @classmethod
    def parse(cls, text: str) -> Target:
        """Read ``"0.4 bpp"`` or ``"32 dB"``."""
        found = re.fullmatch(r"\s*([0-9]*\.?[0-9]+)\s*(bpp|db)\s*", text, re.IGNORECASE)
        if not found or float(found[1]) <= 0:
            raise ValueError(f"target={text!r} must be a rate such as '0.4 bpp' or a quality such as '32 dB'.")
        return cls(float(found[1]), "bpp" if found[2].casefold() == "bpp" else "dB")

    def met(self, outcome: Outcome) -> bool:
        """Whether an outcome meets the target."""
        return outcome.bpp <= self.value if self.unit == "bpp" else outcome.psnr >= self.value

    def distance(self, outcome: Outcome) -> float:
        """About how many codes larger the step should be for this target: bits fall, and errors grow, with the step."""
        if self.unit == "bpp":
            return OCTAVE * math.log2(max(outcome.bpp, 1e-9) / self.value)
        return OCTAVE * (outcome.psnr - self.value) / 5.0


@dataclass(frozen=True)
class Goal:
    """What images are learned for: a target, or the squared grey levels that a bit is worth."""

    target: Target | None
    lambda_: float | None = None


def code_for_lambda(lambda_: float) -> int:
    """The code whose step is nearest to the one at which a bit is worth `lambda_` of squared error."""
    wanted = math.sqrt(lambda_ / TRADE)
    return min(range(MOST_CODE + 1), key=lambda code: abs(math.log(step_of(code) / 64 / wanted)))


def code_for_target(target: Target, measure: Callable[[int], Outcome], start: int) -> int:
    """The best code that meets a target: the finest for a rate, the coarsest for a PSNR.

    Parameters
    ----------
    target
        What is asked.
    measure
        What a code gives; it is called for a few codes.
    start
        Where to begin.

    Raises
    ------
    DataError
        No code meets it; the message names the range.
    """
    known: dict[int, Outcome] = {}

    def ask(code: int) -> Outcome:
        if code not in known:
            known[code] = measure(code)
        return known[code]

    good: int | None = None
    bad: int | None = None
    code = start
    while good is None or bad is None or abs(good - bad) > 1:
        outcome = ask(code)
        if target.met(outcome):
            good = code
        else:
            bad = code
        end = MOST_CODE if (good is None) == (target.unit == "bpp") else 0
        if (good is None or bad is None) and code == end:
            break
        code = _next(code, target.distance(outcome), good, bad, end)
    if good is None:
        best = ask(MOST_CODE if target.unit == "bpp" else 0)
        reach = f"at least {best.bpp:.3g} bpp" if target.unit == "bpp" else f"at most {best.psnr:.4g} dB"
        raise DataError(f"The target of {target.value:g} {target.unit} cannot be reached: these images need {reach}.")
    return good


def _next(code: int, distance: float, good: int | None, bad: int | None, end: int) -> int:
    """The next code to try: an estimate of the target's code between the codes that were tried."""
    guess = code + (round(distance) or (1 if end > code else -1))
    if good is not None and bad is not None:
        low, high = min(good, bad), max(good, bad)
        return min(max(guess, low + 1), high - 1)
    if end > code:
        return min(max(guess, code + 1), end)
    return max(min(guess, code - 1), end)
