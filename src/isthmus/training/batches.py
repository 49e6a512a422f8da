"""Feeds: a source's rows as shuffled batches on the device, scaled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from isthmus.data import Scaling, Source

WINDOW_BYTES = 32 * 2**20
"""How much of a source that does not fit in memory is shuffled at a time."""
BLOCK_ROWS = 64
"""Neighbouring rows that are read together where reading single rows is slow."""


class Feed:
    """Batches of scaled float32 rows, (n, d), on a device."""

    n_rows: int
    batch_size: int

    def shuffled(self, generator: torch.Generator) -> Iterator[Tensor]:
        """All rows once, in an order drawn from a CPU generator; a batch is valid until the next one is asked for."""
        raise NotImplementedError

    def windows(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """The same rows in the same order, some batches at a time: rows, (k, d), and the order to take them in."""
        for x in self.shuffled(generator):
            yield x.contiguous(), torch.arange(len(x))

    @property
    def n_batches(self) -> int:
        """Batches in one pass; the last may be smaller."""
        return -(-self.n_rows // self.batch_size)


class ResidentFeed(Feed):
    """Rows that lie on the device and are gathered there by index.

    Parameters
    ----------
    rows
        Scaled rows on the device, (n, d) float32.
    batch_size
        Rows a batch.
    """

    def __init__(self, rows: Tensor, batch_size: int) -> None:
        self.rows, self.n_rows, self.batch_size = rows, len(rows), batch_size
        self._buffer = rows.new_empty(min(batch_size, self.n_rows), rows.shape[1])

    def windows(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.rows, torch.randperm(self.n_rows, generator=generator)

    def shuffled(self, generator: torch.Generator) -> Iterator[Tensor]:
        order = torch.randperm(self.n_rows, generator=generator).to(self.rows.device)
        last = self._buffer[: (self.n_rows - 1) % len(self._buffer) + 1]
        for index in order.split(self.batch_size):
            buffer = self._buffer if len(index) == len(self._buffer) else last
            yield torch.index_select(self.rows, 0, index, out=buffer)


class StreamedFeed(Feed):
    """Rows read from a source while training goes on, a window of some megabytes ahead.

    Where single rows are slow to read, blocks of neighbours are read in random order and shuffled within the window.

    Parameters
    ----------
    source
        Where rows come from.
    rows
        The indices of the rows to use, ascending.
    load
        Turns rows as read into scaled rows on the device, and refuses bad ones.
    batch_size
        Rows a batch.
    """

    def __init__(self, source: Source, rows: np.ndarray, load: Callable[[np.ndarray], Tensor], batch_size: int) -> None:
        self.source, self.rows, self.load, self.batch_size = source, rows, load, batch_size
        self.n_rows = len(rows)
        bytes_per_row = 4 * int(np.prod(source.feature_shape))
        self._window = batch_size * max(1, WINDOW_BYTES // (bytes_per_row * batch_size))

    def shuffled(self, generator: torch.Generator) -> Iterator[Tensor]:
        for window, order in self._read_ahead(generator):
            for index in order.split(self.batch_size):
                yield self.load(window[index.numpy()])

    def windows(self, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        for window, order in self._read_ahead(generator):
            yield self.load(window), order

    def _read_ahead(self, generator: torch.Generator) -> Iterator[tuple[np.ndarray, Tensor]]:
        seed = int(torch.randint(2**62, (), generator=generator))
        draw = np.random.default_rng(seed)
        starts = range(0, self.n_rows, self._window)
        order = self._order(draw)
        with ThreadPoolExecutor(max_workers=1) as reader:
            ahead = reader.submit(self._read, order[: self._window])
            for start in starts:
                window = ahead.result()
                following = order[start + self._window : start + 2 * self._window]
                ahead = reader.submit(self._read, following)
                yield window, torch.from_numpy(draw.permutation(len(window))).long()

    def _read(self, order: np.ndarray) -> np.ndarray:
        return self.source.read(np.sort(order))

    def _order(self, draw: np.random.Generator) -> np.ndarray:
        if self.source.random_access:
            return draw.permutation(self.rows)
        blocks = [self.rows[start : start + BLOCK_ROWS] for start in range(0, self.n_rows, BLOCK_ROWS)]
        return np.concatenate([blocks[index] for index in draw.permutation(len(blocks))])


class Loader:
    """Turns rows as a source gives them into scaled rows on a device.

    Parameters
    ----------
    scaling
        What `fit` learned of the data's range.
    device
        Where the rows are wanted.
    dtype
        The floating type they are wanted in.
    check
        Called with every block of raw rows, flat; raises when they cannot be used.
    """

    def __init__(
        self,
        scaling: Scaling,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        check: Callable[[np.ndarray], None] | None = None,
    ) -> None:
        self.scaling, self.device, self.dtype, self._check = scaling, device, dtype, check

    def check(self, flat: np.ndarray) -> None:
        """Raise where raw rows, (k, d), cannot be used."""
        if self._check is not None:
            self._check(flat)

    def leaves(self, array: np.ndarray) -> bool:
        """Whether an array's numbers come out as they are, and may so be used where they lie."""
        same = self.scaling.name == "none" and array.dtype == torch.empty(0, dtype=self.dtype).numpy().dtype
        return same and self.device.type == "cpu" and array.flags.writeable

    def __call__(self, block: np.ndarray) -> Tensor:
        """Scale a block of rows: (k, *feature_shape) → (k, d)."""
        flat = np.ascontiguousarray(block).reshape(len(block), -1)
        self.check(flat)
        if not flat.flags.writeable or (flat.dtype.kind in "bu" and flat.dtype != np.uint8):
            flat = flat.astype(np.float32) if flat.dtype.kind in "bu" else flat.copy()
        rows = torch.from_numpy(flat)
        if self.scaling.shifts:  # centred in double precision first, which not every device has
            return self.scaling.apply(rows, self.dtype).to(self.device)
        return self.scaling.apply(rows.to(self.device), self.dtype)
