"""Input series of a signal detector: on an even time grid, with gaps as missing values, cut into windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from isthmus.exceptions import DataError

MOST_MISSING = 0.1
"""Share of the values of a window that may be missing; they are filled by straight lines."""
LONGEST_GRID = 100
"""An index whose gaps would make a series so many times as long is not laid on a grid."""


@dataclass(frozen=True)
class Series:
    """One series, ascending in time.

    Attributes
    ----------
    values
        On the grid, NaN where missing, (time, channels).
    places
        Where on the grid each row that was given lies, in the order given, (n,).
    stamps
        The time stamp of each place of the grid.
    channels
        Names or numbers of the channels.
    """

    values: np.ndarray
    places: np.ndarray
    stamps: Sequence[Any]
    channels: Sequence[Any]

    @property
    def missing(self) -> np.ndarray:
        """Time stamps at which no channel has a value, (time,) bool."""
        return np.asarray(np.isnan(self.values).all(axis=1))


def is_list(X: Any) -> bool:
    """Whether this is a list of several series, not of numbers."""
    return isinstance(X, list | tuple) and not (len(X) > 0 and all(np.ndim(each) == 0 for each in X))


def read_series(X: Any, n_channels: int | None = None) -> list[Series]:
    """Read one series or a list of series.

    Parameters
    ----------
    X
        As for `SignalDetector.fit`.
    n_channels
        How many are needed; None: as many as the first has.

    Raises
    ------
    DataError
        They are no series of numbers, or differ in their channels.
    """
    found = [_read(series, place) for place, series in enumerate(X if is_list(X) else [X])]
    if not found:
        raise DataError("The list holds no series; give at least one.")
    wanted = n_channels or found[0].values.shape[1]
    for place, series in enumerate(found):
        if series.values.shape[1] != wanted:
            raise DataError(f"Series {place} has {series.values.shape[1]} channels, but {wanted} are needed.")
    return found


def _read(series: Any, place: int) -> Series:
    if hasattr(series, "iloc"):
        return _read_frame(series, place)
    values = np.asarray(series)
    if values.ndim not in (1, 2) or values.dtype.kind not in "buif":
        raise DataError(
            f"Series {place} has shape {values.shape} and dtype {values.dtype}, but numbers of shape (time,) or "
            "(time, channels) are needed."
        )
    values = _finite(np.asarray(values.reshape(len(values), -1), dtype=np.float64), place)
    return Series(values, np.arange(len(values)), range(len(values)), range(values.shape[1]))


def _read_frame(series: Any, place: int) -> Series:
    """A pandas Series or DataFrame; a single column of dates is its time."""
    frame = series.to_frame() if series.ndim == 1 else series
    index, columns = frame.index, frame.columns
    dates = [number for number, dtype in enumerate(frame.dtypes) if dtype.kind == "M"]
    if len(dates) == 1 and len(columns) > 1:
        index, frame = _index_of(frame.iloc[:, dates[0]]), frame.drop(columns=columns[dates[0]])
    wrong = [f"{name!r} ({dtype})" for name, dtype in frame.dtypes.items() if dtype.kind not in "buif"]
    if wrong:
        raise DataError(f"Series {place} has columns that are no numbers: {', '.join(wrong)}; drop or convert them.")
    values = _finite(frame.to_numpy(dtype=np.float64, na_value=np.nan), place)
    channels = list(frame.columns) if series.ndim == 2 else range(1)
    return _on_grid(values, index, channels, place)


def _index_of(column: Any) -> Any:
    import pandas as pd  # noqa: PLC0415  # it loads slowly, and there is a frame of it

    return pd.DatetimeIndex(column)


def _finite(values: np.ndarray, place: int) -> np.ndarray:
    if np.isinf(values).any():
        row, channel = np.argwhere(np.isinf(values))[0]
        raise DataError(f"Series {place} has infinite values, the first at row {row}, channel {channel}.")
    return values


def _on_grid(values: np.ndarray, index: Any, channels: Sequence[Any], place: int) -> Series:
    """Rows in order of time, with a missing row for each step that the index leaves out.

    The step is the least difference of time stamps. An index that does not keep to it counts as evenly spaced.
    """
    if index.hasnans:
        raise DataError(f"Series {place} has rows without a time stamp; drop them.")
    timed = index.dtype.kind == "M"
    if not index.is_unique and timed:
        raise DataError(f"Series {place} has two rows for {index[index.duplicated()][0]}; drop or average them.")
    if index.dtype.kind not in "iufM" or not index.is_unique:  # numbers that repeat are those of joined tables
        return Series(values, np.arange(len(values)), index, channels)
    order, rank = np.asarray(index.argsort()), np.empty(len(index), dtype=int)
    ordered, rank[order] = index[order], np.arange(len(index))
    if index.dtype.kind == "f" or len(index) < 3:  # no step to be seen
        return Series(values[order], rank, ordered, channels)
    times = ordered.asi8 if timed else np.asarray(ordered, dtype=np.int64)
    steps = np.diff(times)
    step = int(steps.min())
    length = int((times[-1] - times[0]) // step) + 1
    if (steps % step != 0).any() or length > LONGEST_GRID * len(times) or length == len(times):
        return Series(values[order], rank, ordered, channels)
    on_grid = (times - times[0]) // step
    grid = np.full((length, values.shape[1]), np.nan)
    grid[on_grid] = values[order]
    all_times = times[0] + step * np.arange(length)
    return Series(grid, on_grid[rank], _stamps(ordered, all_times), channels)


def _stamps(index: Any, times: np.ndarray) -> Any:
    """Time stamps like those of an index, from whole numbers in its unit."""
    import pandas as pd  # noqa: PLC0415  # as above

    if index.dtype.kind != "M":
        return pd.Index(times)
    return pd.DatetimeIndex(times.view(f"M8[{index.unit}]")).tz_localize("UTC").tz_convert(index.tz)


# -- windows -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Windows:
    """Windows of equal length, evenly spaced, and a last one that ends with the series.

    Attributes
    ----------
    length, step
        Time stamps in a window, and from one to the next.
    as_images
        Whether a window stays (time, channels), for a convolutional autoencoder.
    """

    length: int
    step: int
    as_images: bool = False

    def starts(self, n_stamps: int) -> np.ndarray:
        """The starts of windows, ascending."""
        last = n_stamps - self.length
        return np.unique(np.append(np.arange(0, last + 1, self.step), last))

    def cut(self, series: Series, place: int) -> tuple[np.ndarray, np.ndarray]:
        """Windows with few missing values, which are interpolated, and their starts.

        (time, channels) → (n, length · channels), or (n, length, channels) for images; (n,).

        Raises
        ------
        DataError
            The series is shorter than a window, or no window has enough values; `place` is its number, for the text.
        """
        values = series.values
        if len(values) < self.length:
            raise DataError(
                f"Series {place} has {len(values)} time stamps, but a window takes {self.length}; give longer "
                "series or a shorter window."
            )
        empty = np.isnan(values).all(axis=0)
        if empty.any():
            raise DataError(f"Series {place} has no value in channel {series.channels[int(empty.argmax())]!r}.")
        starts = self.starts(len(values))
        holes = sliding_window_view(np.isnan(values).mean(axis=1), self.length)[starts].mean(axis=1)
        starts = starts[holes <= MOST_MISSING]
        if not len(starts):
            raise DataError(
                f"Series {place} has no window of {self.length} time stamps in which at most {MOST_MISSING:.0%} of the "
                "values are missing; fill its gaps, or take a shorter window."
            )
        windows = sliding_window_view(_filled(values), self.length, axis=0)[starts].swapaxes(1, 2)
        return np.ascontiguousarray(windows if self.as_images else windows.reshape(len(windows), -1)), starts

    def averaged(self, scores: np.ndarray, starts: np.ndarray, series: Series) -> np.ndarray:
        """From windows to time stamps: the mean score of the windows that contain each, (time,).

        NaN where there is none, and where no channel has a value.
        """
        total, count = np.zeros(len(series.values) + 1), np.zeros(len(series.values) + 1)
        for ends, sign in ((0, 1.0), (self.length, -1.0)):
            np.add.at(total, starts + ends, sign * scores)
            np.add.at(count, starts + ends, sign)
        sums, counts = np.cumsum(total)[:-1], np.cumsum(count)[:-1]
        known = (counts > 0.5) & ~series.missing  # sums of ±1
        return np.where(known, sums / np.maximum(counts, 1.0), np.nan)


def _filled(values: np.ndarray) -> np.ndarray:
    """Linear interpolation across the gaps of each channel, and its first and last value at the ends."""
    if not np.isnan(values).any():
        return values
    filled, times = values.copy(), np.arange(len(values))
    for channel in range(values.shape[1]):
        known = ~np.isnan(values[:, channel])
        if known.any():
            filled[:, channel] = np.interp(times, times[known], values[known, channel])
    return filled
