"""Feeds: a source's rows as shuffled batches on the device, scaled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from isthmus.data import Scaling, Source

WINDOW_BYTES = 32 * 2**20
"""How much of a source that does not fit in memory is shuffled at a time."""
BLOCK_ROWS = 64
"""Neighbouring rows that are read together where reading single rows is slow."""


Share = Callable[[Tensor], Tensor]
"""Gives the part of a batch that this process takes; see `Processes.share`."""


class Feed:
    """Batches of scaled float32 rows, (n, d), on a device."""

    n_rows: int
    batch_size: int

    def shuffled(self, generator: torch.Generator) -> Iterator[Tensor]:
        """All rows once, in an order drawn from a CPU generator; a batch is valid until the next one is asked for."""
        raise NotImplementedError

    def windows(self, generator: torch.Generator, share: Share | None = None) -> Iterator[tuple[Tensor, Tensor]]:
        """The same rows in the same order, some batches at a time: rows, (k, d), and the order to take them in.

        With a share, rows of no share may be missing; their index in the order is -1.
        """
        for x in self.shuffled(generator):
            yield x.contiguous(), torch.arange(len(x))

    def weighed(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Every row exactly once, some at a time, with the weight of each: (k, d) and (k,), on average 1."""
        for x in self.shuffled(torch.Generator().manual_seed(0)):
            yield x, torch.ones(len(x), dtype=torch.double, device=x.device)

    @property
    def n_batches(self) -> int:
        """Batches in one pass; the last may be smaller."""
        return -(-self.n_rows // self.batch_size)


FIRST_BYTES = 2**25


def first_rows(feed: Feed, most: int) -> Tensor:
    """The first rows of a feed in an order of its own, (n, d): a batch more than `most` at the most, or about 32 MB."""
    batches, n_rows = [], 0
    for batch in feed.shuffled(torch.Generator().manual_seed(0)):
        batches.append(batch.clone())
        n_rows += len(batch)
        if n_rows >= most or 4 * n_rows * batch.shape[1] >= FIRST_BYTES:
            break
    return torch.cat(batches)


def resampled(weights: Tensor, start: float) -> Tensor:
    """How often an epoch takes each row of these weights, (n,) → (n,), n times in all: systematic resampling.

    Each row is taken its share of n times, rounded up or down, and over all starts in [0, 1) exactly its share on the
    mean. Weights in the loss would be exact within each epoch too, but no compiled step, penalty over a batch or batch
    normalisation knows of them; drawing rows at random instead would leave out a third of those of weight 1.

    >>> resampled(torch.tensor([2.0, 1.0, 1.0]), 0.4).tolist()
    [1, 1, 1]
    >>> resampled(torch.tensor([2.0, 1.0, 1.0]), 0.6).tolist()
    [2, 0, 1]
    """
    ends = (weights.double().cumsum(0) * (len(weights) / weights.double().sum()) + start).floor().long()
    ends[-1] = len(weights)  # whatever the rounding of the sum
    return ends.diff(prepend=ends.new_zeros(1))


class ResidentFeed(Feed):
    """Rows that lie on the device and are gathered there by index.

    Parameters
    ----------
    rows
        Scaled rows on the device, (n, d) float32.
    batch_size
        Rows a batch.
    weights
        How often rows are taken in proportion to others, (n,) > 0 on the CPU; None: all once.
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
        once, places = np.unique(rows, return_inverse=True)  # a source of a user's own may not repeat rows
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
