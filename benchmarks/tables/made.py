"""A synthetic mixed table of any length: thirty dependent columns of all kinds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

PART = 500_000
ROW_GROUP = 250_000


def rows(n: int, draw: np.random.Generator) -> pa.Table:
    """Rows of Gaussian and heavy-tailed numbers, counts, categories, booleans, timestamps and missing cells."""
    group, factor = draw.integers(0, 4, n), draw.normal(size=n)

    def near(scale: float) -> np.ndarray:
        return scale * draw.normal(size=n)

    columns = {f"normal{i}": factor * (0.5 + 0.1 * i) + group + near(0.3) for i in range(6)}
    columns |= {f"amount{i}": np.exp(factor * (0.5 + 0.2 * i) + 0.3 * group + near(0.2)).round(2) for i in range(6)}
    columns |= {f"count{i}": draw.poisson(2 + group + i) for i in range(3)}
    columns |= {f"word{i}": _words(3 + 3 * i, group * 7 + draw.geometric(0.4, n)) for i in range(8)}
    columns |= {f"flag{i}": draw.random(n) < 0.1 + 0.2 * group for i in range(3)}
    columns |= {f"moment{i}": _moments(group * 10**12 + draw.integers(0, 8 * 10**13, n)) for i in range(2)}
    columns |= {f"hole{i}": pa.array(factor + near(0.2), mask=draw.random(n) < 0.1) for i in range(2)}
    return pa.table(columns)


def _words(n_words: int, numbers: np.ndarray) -> pa.Array:
    words = pa.array([f"w{place:02}" for place in range(n_words)])
    return pa.DictionaryArray.from_arrays(pa.array(numbers % n_words, pa.int32()), words).dictionary_decode()


def _moments(microseconds: np.ndarray) -> pa.Array:
    return pa.array(microseconds + 1_600_000_000_000_000).cast(pa.timestamp("us"))


def write(path: Path, n_rows: int, seed: int = 0) -> None:
    """Write such a table to a Parquet file in chunks."""
    draw = np.random.default_rng(seed)
    with parquet.ParquetWriter(path, rows(1, np.random.default_rng(0)).schema) as file:
        for start in range(0, n_rows, PART):
            file.write_table(rows(min(PART, n_rows - start), draw), row_group_size=ROW_GROUP)
