"""Feeds: a source's rows as shuffled batches on the device, scaled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from isthmus.data import Scaling, Source

WINDOW_BYTES = 32 * 2**20
"""The size of the window in which rows of a source that does not fit in memory are shuffled."""
BLOCK_ROWS = 64
"""The number of adjacent rows that are read together from sources without random access."""


Share = Callable[[Tensor], Tensor]
"""Gives the part of a batch that this process takes; see `Processes.share`."""


class Feed:
    """Batches of scaled float32 rows, (n, d), on a device."""

    n_rows: int
    batch_size: int

    def shuffled(self, generator: torch.Generator) -> Iterator[Tensor]:
        """All rows once, in an order drawn from a CPU generator; a batch is valid until the next one is requested."""
        raise NotImplementedError

    def windows(self, generator: torch.Generator, share: Share | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The same rows in the same order, several batches at a time: rows, (k, d), and their order.

        With a share, rows outside of it may be missing; their index in the order is -1.
        """
        for x in self.shuffled(generator):
            yield x.contiguous(), torch.arange(len(x))

    def weighed(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every row exactly once, in blocks, with its weight: (k, d) and (k,); the mean weight is 1."""
        for x in self.shuffled(torch.Generator().manual_seed(0)):
            yield x, torch.ones(len(x), dtype=torch.double, device=x.device)

    @property
    def n_batches(self) -> int:
        """Batches in one pass; the last may be smaller."""
        return -(-self.n_rows // self.batch_size)


FIRST_BYTES = 2**25


def first_rows(feed: Feed, most: int) -> Tensor:
    """Some rows of a feed in a random order, (n, d): about `most` rows, rounded up to a batch, or about 32 MB."""
    batches, n_rows = [], 0
    for batch in feed.shuffled(torch.Generator().manual_seed(0)):
        batches.append(batch.clone())
        n_rows += len(batch)
        if n_rows >= most or 4 * n_rows * batch.shape[1] >= FIRST_BYTES:
            break
    return torch.cat(batches)


def resampled(weights: Tensor, start: float) -> Tensor:
    """The number of times that an epoch takes each row, (n,) → (n,), n in total: systematic resampling.

    A row with the share w of all weights is taken n·w times, rounded up or down; the mean over all starts in [0, 1) is
    exact. Rejected: weights in the loss, because compiled steps, batch penalties and batch normalisation do not support
    them; random draws, which leave out a third of the rows of weight 1.

    >>> resampled(torch.tensor([2.0, 1.0, 1.0]), 0.4).tolist()
    [1, 1, 1]
    >>> resampled(torch.tensor([2.0, 1.0, 1.0]), 0.6).tolist()
    [2, 0, 1]
    """
    ends = (weights.double().cumsum(0) * (len(weights) / weights.double().sum()) + start).floor().long()
    ends[-1] = len(weights)  # in spite of the rounding of the sum
    return ends.diff(prepend=ends.new_zeros(1))


class ResidentFeed(Feed):
    """Rows on the device, where batches are gathered by index.

    Parameters
    ----------
    rows
        Scaled rows on the device, (n, d) float32.
    batch_size
        Rows a batch.
    weights
        Relative frequency of each row in an epoch, (n,) > 0 on the CPU; None: each row once.
    """

    def __init__(self, rows: Tensor, batch_size: int, weights: Tensor | None = None) -> None:
        self.rows, self.n_rows, self.batch_size, self.weights = rows, len(rows), batch_size, weights
        self._buffer = rows.new_empty(min(batch_size, self.n_rows), rows.shape[1])

    def windows(self, generator: torch.Generator, share: Share | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        yield self.rows, self._order(generator)

    def shuffled(self, generator: torch.Generator) -> Iterator[Tensor]:
        order = self._order(generator).to(self.rows.device)
        last = self._buffer[: (self.n_rows - 1) % len(self._buffer) + 1]
        for index in order.split(self.batch_size):
            buffer = self._buffer if len(index) == len(self._buffer) else last
            yield torch.index_select(self.rows, 0, index, out=buffer)

    def _order(self, generator: torch.Generator) -> Tensor:
        order = torch.randperm(self.n_rows, generator=generator)
        if self.weights is None:
            return order
        counts = resampled(self.weights[order], float(torch.rand((), generator=generator, dtype=torch.double)))
        taken = order.repeat_interleave(counts)
        return taken[torch.randperm(self.n_rows, generator=generator)]

    def weighed(self) -> Iterator[tuple[Tensor, Tensor]]:
        weights = torch.ones(self.n_rows, dtype=torch.double) if self.weights is None else self.weights
        parts = self.rows.split(self.batch_size), (weights / weights.mean()).split(self.batch_size)
        for x, part in zip(*parts, strict=True):
            yield x, part.to(x.device)


class StreamedFeed(Feed):
    """Rows that a thread reads from a source during training, a window of some megabytes ahead.

    Without random access, blocks of adjacent rows are read in random order and shuffled within the window.

    Parameters
    ----------
    source
        Where rows come from.
    rows
        The indices of the rows to use, ascending.
    load
        Converts rows to scaled rows on the device, and raises an error for invalid ones.
    batch_size
        Rows a batch.
    weights
        As for `ResidentFeed`, of the rows to use.
    """

    def __init__(
        self,
        source: Source,
        rows: np.ndarray,
        load: Callable[[np.ndarray], Tensor],
        batch_size: int,
        weights: Tensor | None = None,
    ) -> None:
        self.source, self.rows, self.load, self.batch_size, self.weights = source, rows, load, batch_size, weights
        self.n_rows = len(rows)
        bytes_per_row = 4 * int(np.prod(source.feature_shape))
        self._window = batch_size * max(1, WINDOW_BYTES // (bytes_per_row * batch_size))

    def shuffled(self, generator: torch.Generator) -> Iterator[Tensor]:
        for window, order in self._read_ahead(generator):
            for index in order.split(self.batch_size):
                yield self.load(window[index.numpy()])

    def windows(self, generator: torch.Generator, share: Share | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        for window, order in self._read_ahead(generator, share):
            yield self.load(window), order

    def _read_ahead(
        self, generator: torch.Generator, share: Share | None = None
    ) -> Iterator[tuple[np.ndarray, Tensor]]:
        """The windows, each read while the one before it is trained on."""
        draw = np.random.default_rng(int(torch.randint(2**62, (), generator=generator)))
        rows = self._order(draw)
        windows = (rows[start : start + self._window] for start in range(0, self.n_rows, self._window))
        ahead: tuple[Future[np.ndarray], Tensor] | None = None
        with ThreadPoolExecutor(max_workers=1) as reader:
            for window in windows:
                wanted, order = self._planned(window, draw, share)
                following = reader.submit(self._read, wanted), order
                if ahead is not None:
                    yield ahead[0].result(), ahead[1]
                ahead = following
            if ahead is not None:
                yield ahead[0].result(), ahead[1]

    def _planned(self, rows: np.ndarray, draw: np.random.Generator, share: Share | None) -> tuple[np.ndarray, Tensor]:
        """Which rows of a window to read, (k,), and the order of all its rows; -1 for those that are not read."""
        order = torch.from_numpy(draw.permutation(len(rows))).long()
        rows = np.sort(rows) if self.weights is None else rows
        if share is None:
            return rows, order
        taken = torch.cat([share(batch) for batch in order.split(self.batch_size)]).sort().values
        index = torch.full((len(rows),), -1)
        index[taken] = torch.arange(len(taken))
        return rows[taken.numpy()], index[order]

    def _read(self, rows: np.ndarray) -> np.ndarray:
        if self.weights is None:
            return self.source.read(rows)
        once, places = np.unique(rows, return_inverse=True)  # a user's source need not support repeated indices
        return self.source.read(once)[places]

    def weighed(self) -> Iterator[tuple[Tensor, Tensor]]:
        weights = torch.ones(self.n_rows, dtype=torch.double) if self.weights is None else self.weights
        weights = weights / weights.mean()
        for start in range(0, self.n_rows, self._window):
            rows = slice(start, start + self._window)
            x = self.load(self.source.read(self.rows[rows]))
            yield x, weights[rows].to(x.device)

    def _order(self, draw: np.random.Generator) -> np.ndarray:
        rows = self.rows
        if self.weights is not None:
            rows = rows.repeat(resampled(self.weights, draw.random()).numpy())
        if self.source.random_access:
            return draw.permutation(rows)
        blocks = [rows[start : start + BLOCK_ROWS] for start in range(0, self.n_rows, BLOCK_ROWS)]
        return np.concatenate([blocks[index] for index in draw.permutation(len(blocks))])


class Loader:
    """Converts rows of a source to scaled rows on a device.

    Parameters
    ----------
    scaling
        The scaling that `fit` learned.
    device
        Where the rows are wanted.
    dtype
        The floating dtype of the scaled rows.
    check
        Called with every block of raw flat rows; raises an error if they are invalid.
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
        """Raise an error if raw rows, (k, d), are invalid."""
        if self._check is not None:
            self._check(flat)

    def leaves(self, array: np.ndarray) -> bool:
        """Whether scaling leaves an array unchanged, so that it can be used without a copy."""
        same = self.scaling.name == "none" and array.dtype == torch.empty(0, dtype=self.dtype).numpy().dtype
        return same and self.device.type == "cpu" and array.flags.writeable

    def __call__(self, block: np.ndarray) -> Tensor:
        """Scale a block of rows: (k, *feature_shape) → (k, d)."""
        flat = np.ascontiguousarray(block).reshape(len(block), -1)
        self.check(flat)
        if not flat.flags.writeable or (flat.dtype.kind in "bu" and flat.dtype != np.uint8):
            flat = flat.astype(np.float32) if flat.dtype.kind in "bu" else flat.copy()
        rows = torch.from_numpy(flat)
        if self.scaling.shifts:  # rows are centred in double precision first, which some devices lack
            return self.scaling.apply(rows, self.dtype).to(self.device)
        return self.scaling.apply(rows.to(self.device), self.dtype)
