"""Reading pages by Tesseract, the program, and how far two readings are apart."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image


def read(page: np.ndarray) -> str:
    """The text of a page, bytes (h, w), with white space made single."""
    if shutil.which("tesseract") is None:
        raise RuntimeError("The program tesseract is missing; install it (Debian: apt-get install tesseract-ocr).")
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "page.png"
        Image.fromarray(page).save(file, dpi=(150, 150))
        words = ["tesseract", str(file), "stdout", "-l", "eng", "--psm", "6"]
        alone = {**os.environ, "OMP_THREAD_LIMIT": "1"}  # its threads wait for each other on a busy machine
        done = subprocess.run(words, check=True, capture_output=True, text=True, encoding="utf-8", env=alone)
    return " ".join(done.stdout.split())


def error_rate(texts: Sequence[str], wanted: Sequence[str]) -> float:
    """Edits from each text to the wanted one, divided by the characters of all wanted ones."""
    edits = sum(edit_distance(one, other) for one, other in zip(texts, wanted, strict=True))
    return edits / sum(map(len, wanted))


def edit_distance(one: str, other: str) -> int:
    """The fewest insertions, deletions and replacements of characters from one text to another (Levenshtein 1966).

    >>> edit_distance("kitten", "sitting")
    3
    """
    codes = np.array([ord(character) for character in other])
    row = np.arange(len(other) + 1)
    for count, character in enumerate(one, start=1):
        replaced = row[:-1] + (codes != ord(character))
        new = np.concatenate([[count], np.minimum(row[1:] + 1, replaced)])
        row = np.minimum.accumulate(new - np.arange(len(new))) + np.arange(len(new))  # insertions
    return int(row[-1])
