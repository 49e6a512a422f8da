"""Quantisation steps: a code is one byte that says how coarsely numbers are rounded."""

from __future__ import annotations

STEPS = tuple(round(65536 * 2 ** (i / 16)) for i in range(16))
"""A sixteenth of an octave each, in 1/65536."""
MOST_CODE = 16 * 9


def step_of(code: int) -> int:
    """Quantisation step of a code, in 1/64: 1/2 to 256 grey levels for wavelets.

    >>> step_of(16) / 64, step_of(56) / 64, step_of(144) / 64
    (1.0, 5.65625, 256.0)
    """
    return (STEPS[code % 16] << (code // 16)) >> 11
