"""Lossless compression with variational models: bits back with asymmetric numeral systems (Townsend et al. 2019).

A row costs ``-log p(x | z) - log p(z) + log q(z | x)`` nats on average, the negative evidence bound of the model: the
code z is drawn with bits that are in the stream already, and the decoder gets these bits back::

    encode   z  <- stream, by q(z | x)      decode   z  <- stream, by p(z)
             x  -> stream, by p(x | z)               x  <- stream, by p(x | z)
             z  -> stream, by p(z)                   z  -> stream, by q(z | x)

The decoder must have the encoder's tables to the last bit. Networks are computed in double precision, and their outputs
are rounded to coarse grids, so that differences between machines and numbers of threads (about 1e-13) vanish, unless a
number lies next to the middle between two grid points. The encoder finds those, and writes down which way it rounded.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from isthmus.choices import BinaryCrossEntropy, Gaussian
from isthmus.estimators import Autoencoder
from isthmus.estimators.validation import take
from isthmus.exceptions import DataError, StreamError
from isthmus.tasks.compression import container
from isthmus.tasks.compression.coding import constriction
from isthmus.tasks.compression.container import Container, Entry
from isthmus.tasks.compression.normal_tables import (
    DEVIATIONS,
    GRID,
    LOGIT_GRID,
    MOST_LOGIT,
    REACH,
    WIDTH,
    bernoulli_table,
    posterior_tables,
    prior_table,
)
from isthmus.training.batches import Loader

MARGIN = 2.0**-22
"""A number that lies this near the middle between two grid points, in steps of the grid, is written down."""
MOST_ROWS = 64
"""Rows of a block, which are coded together."""
ROWS_AT_ONCE = 1 << 16
"""Rows of a record."""
DTYPES = ("bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64", "uint16", "uint32", "uint64")
SEED_WORDS = 2
"""Words of 32 bits for each latent dimension of the first row, which are drawn before there are others."""


def compress_lossless(model: Autoencoder, X: Any) -> bytes:
    """Rows as bytes, from which `decompress_lossless` gives exactly these rows.

    Parameters
    ----------
    model
        A fitted variational autoencoder with a Bernoulli likelihood (``loss="binary-cross-entropy"``).
    X
        Rows or images of two values, those that the model's scaling makes 0 and 1.

    Returns
    -------
    A stream. A row costs about the negative of its evidence lower bound.

    Raises
    ------
    ValueError
        The model has no Gaussian code, or no discrete likelihood.
    DataError
        X holds other numbers, or cannot be used.

    Examples
    --------
    >>> from isthmus import VariationalAutoencoder
    >>> rows = np.repeat(np.eye(8, dtype="float32"), 20, axis=0)
    >>> model = VariationalAutoencoder(2, max_epochs=100, random_state=0).fit(rows)
    >>> blob = compress_lossless(model, rows)
    >>> len(blob) < 300, bool((decompress_lossless(model, blob) == rows).all())
    (True, True)
    """
    check_is_fitted(model, "objective_")
    refuse_model(model)
    given = take(model, X)
    dtype = np.dtype(given.source.dtype)
    if dtype.name not in DTYPES:
        raise DataError(f"X is of the dtype {dtype}, but a lossless stream holds {', '.join(DTYPES)}; convert it.")
    coder = RowCoder(model)
    entries = []
    for rows in given.source.chunks(ROWS_AT_ONCE):
        bits = coder.bits_of(rows, dtype)
        payload = coder.encode(bits)
        check = zlib.crc32(np.packbits(bits).tobytes())
        entries.append(Entry(len(bits), 1, bits.shape[1], 1, DTYPES.index(dtype.name), check, payload))
    return container.write(Container("rows", fingerprint(model), entries))


def decompress_lossless(model: Autoencoder, blob: bytes, *, max_values: int = container.MOST_PIXELS) -> np.ndarray:
    """The rows of a lossless stream, (n, *feature_shape), in the dtype in which they were given.

    Parameters
    ----------
    model
        The model that compressed them, or a copy from its file.
    blob
        What `compress_lossless` returned.
    max_values
        Most numbers of a record, to limit the memory that a foreign stream can ask for.

    Raises
    ------
    StreamError
        The stream is of another model, damaged, cut, extended, or not a stream.
    """
    check_is_fitted(model, "objective_")
    refuse_model(model)
    stream = container.read(blob, max_pixels=max_values)
    if stream.mode != "rows" or stream.fingerprint != fingerprint(model):
        raise StreamError("The stream is of another model, or holds images; use the model that compressed it.")
    coder = RowCoder(model)
    found = []
    for entry in stream.entries:
        if entry.width != model.n_features_in_ or entry.code >= len(DTYPES):
            raise StreamError("The index of the stream does not fit the model. Copy the file again.")
        bits = coder.decode(entry.payload, entry.n_images)
        if zlib.crc32(np.packbits(bits).tobytes()) != entry.data_check:
            raise StreamError("A record of the stream gives other rows than were compressed. Copy the file again.")
        found.append(coder.rows_of(bits, np.dtype(DTYPES[entry.code])))
    rows = np.concatenate(found) if found else np.empty((0, model.n_features_in_), np.float32)
    return rows.reshape(len(rows), *model.feature_shape_)


def refuse_model(model: Autoencoder) -> None:
    """Raise if a model cannot compress without loss."""
    choices = model.objective_.choices
    if not isinstance(choices.code, Gaussian):
        raise ValueError(  # noqa: TRY004  # the type is right, its parameter is not
            f"Lossless compression needs a variational model, but the code is {choices.code!r}; use "
            "VariationalAutoencoder."
        )
    if type(choices.loss) is not BinaryCrossEntropy:
        raise ValueError(
            f"Lossless compression needs a discrete likelihood, but the loss is {choices.loss!r}; make the data binary "
            "(0 and 1, such as (X > 127).astype('float32')) and fit with loss='binary-cross-entropy'."
        )
    if model.objective_.context.n_conditions:
        raise ValueError("Lossless compression takes no labels; fit the model without y.")


def fingerprint(model: Autoencoder) -> bytes:
    """Eight bytes that differ between models: of the weights, and of the scaling."""
    arrays = {f"weights.{name}": tensor.cpu().numpy() for name, tensor in model.objective_.state_dict().items()}
    arrays |= {f"scaling.{name}": np.asarray(array) for name, array in model.scaling_.to_arrays().items()}
    hashed = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        hashed.update(json.dumps([name, array.dtype.str, list(array.shape)]).encode())
        hashed.update(np.ascontiguousarray(array).tobytes())
    return hashed.digest()[:8]


@dataclass
class Rounding:
    """Numbers to whole numbers, the same for encoder and decoder.

    Attributes
    ----------
    notes
        What numbers near a middle were rounded to, by their number in the record.
    reads
        Whether notes are read; else they are written.
    """

    notes: dict[int, int] = field(default_factory=dict)
    reads: bool = False

    def whole(self, x: np.ndarray, first: int) -> np.ndarray:
        """The nearest whole numbers of x, which are counted from `first` in the record."""
        flat = x.ravel()
        nearest = np.floor(flat + 0.5)
        if self.reads:
            for number, value in self.notes.items():
                if first <= number < first + flat.size:
                    nearest[number - first] = value
        else:
            for place in np.flatnonzero(np.abs(flat - np.floor(flat) - 0.5) < MARGIN).tolist():
                self.notes[first + place] = int(nearest[place])
        return nearest.astype(np.int64).reshape(x.shape)

    def to_bytes(self) -> bytes:
        """The notes, after their count."""
        pairs = [NOTE.pack(number, value) for number, value in sorted(self.notes.items())]
        return struct.pack("<I", len(pairs)) + b"".join(pairs)

    @classmethod
    def of_bytes(cls, payload: bytes) -> tuple[Rounding, bytes]:
        """Notes to be read, and what follows them."""
        if len(payload) < 4 or len(payload) < 4 + struct.unpack_from("<I", payload)[0] * NOTE.size:
            raise StreamError("A record of the stream is shorter than its notes. Copy the file again.")
        end = 4 + struct.unpack_from("<I", payload)[0] * NOTE.size
        return cls(dict(NOTE.iter_unpack(payload[4:end])), reads=True), payload[end:]


NOTE = struct.Struct("<Qi")


class RowCoder:
    """Codes rows of zeros and ones with a variational model.

    Parameters
    ----------
    model
        A model that `refuse_model` lets pass.
    """

    def __init__(self, model: Autoencoder) -> None:
        self.model = model
        self.objective = model.objective_.as_dtype(torch.float64)
        self.objective.eval()
        self.loader = Loader(model.scaling_, torch.device(model.device_), torch.float64)
        self.code_size = model.objective_.context.code_size
        models = constriction().stream.model
        self.prior = models.Categorical(prior_table(), perfect=False)
        self.tables, self.bernoulli = models.Categorical(perfect=False), models.Bernoulli(perfect=False)
        self.numbers_of_row = 2 * self.code_size + model.n_features_in_

    def bits_of(self, rows: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """Rows as zeros and ones, (n, d) uint8; raises if that loses something."""
        scaled = self.loader(rows).cpu().numpy()
        bits: np.ndarray = (scaled == 1.0).astype(np.uint8)
        flat = rows.reshape(len(rows), -1)
        wrong = np.argwhere(((scaled != 0.0) & (scaled != 1.0)) | (self.rows_of(bits, dtype) != flat))
        if len(wrong):
            row, column = wrong[0].tolist()
            raise DataError(
                f"X has {len(wrong)} values that are neither 0 nor 1 for the model, the first {flat[row, column]} in "
                f"row {row}, column {column}; a Bernoulli likelihood needs binary data, such as "
                "(X > 127).astype('float32'), in training and here."
            )
        return bits

    def rows_of(self, bits: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
        """Zeros and ones in the units and dtype of the rows."""
        rows = self.model.scaling_.invert(torch.from_numpy(bits.astype(np.float64))).numpy()
        exact: np.ndarray = rows if dtype.kind == "f" else np.rint(rows)
        return exact.astype(dtype)

    def encode(self, bits: np.ndarray) -> bytes:
        """The payload of rows, (n, d) uint8."""
        rounding, stack = Rounding(), constriction().stream.stack.AnsCoder(self._seed_words())
        for block in _blocks(len(bits)):
            rows = bits[block]
            mean, tables = self._posterior(rows, block, rounding)
            z = mean + stack.decode(self.tables, tables).reshape(mean.shape) - WIDTH
            stack.encode_reverse(rows.ravel().astype(np.int32), self.bernoulli, self._likelihood(z, block, rounding))
            stack.encode_reverse((z + REACH).ravel().astype(np.int32), self.prior)
        words: np.ndarray = stack.get_compressed()
        return rounding.to_bytes() + words.astype("<u4").tobytes()

    def decode(self, payload: bytes, n_rows: int) -> np.ndarray:
        """The inverse of `encode`."""
        rounding, words = Rounding.of_bytes(payload)
        if len(words) % 4 or not any(words[-4:]):
            raise StreamError("A record of the stream does not end in a whole number. Copy the file again.")
        stack = constriction().stream.stack.AnsCoder(np.frombuffer(words, "<u4").astype(np.uint32))
        bits = np.empty((n_rows, self.model.n_features_in_), np.uint8)
        for block in reversed(_blocks(n_rows)):
            shape = block.stop - block.start, self.code_size
            z = stack.decode(self.prior, shape[0] * shape[1]).astype(np.int64).reshape(shape) - REACH
            found = stack.decode(self.bernoulli, self._likelihood(z, block, rounding))
            bits[block] = found.reshape(shape[0], -1)
            mean, tables = self._posterior(bits[block], block, rounding)
            distance = z - mean + WIDTH
            if distance.min() < 0 or distance.max() > 2 * WIDTH:
                raise StreamError("A record of the stream gives codes that no row has. Copy the file again.")
            stack.encode_reverse(distance.ravel().astype(np.int32), self.tables, tables)
        if not np.array_equal(stack.get_compressed(), self._seed_words()):
            raise StreamError("A record of the stream does not end where it began. Copy the file again.")
        return bits

    def _seed_words(self) -> np.ndarray:
        """The bits that the first row is drawn with: a fixed sequence that ends in a word that is not 0."""
        words = np.arange(1, SEED_WORDS * self.code_size + 3, dtype=np.uint64) * np.uint64(2_654_435_769)
        return ((words ^ (words >> np.uint64(15))) & np.uint64(0xFFFFFFFF)).astype(np.uint32) | np.uint32(1)

    @torch.inference_mode()
    def _posterior(self, bits: np.ndarray, block: slice, rounding: Rounding) -> tuple[np.ndarray, np.ndarray]:
        """Means on the grid, (n, code), and the table of distances from it for each of them, (n · code, …)."""
        rows = torch.from_numpy(bits.astype(np.float64)).to(self.model.device_)
        mean, log_var = (part.cpu().numpy() for part in self.objective.posterior(rows))
        limit = REACH - WIDTH
        both = np.stack([np.clip(mean / GRID, -limit, limit), np.clip(log_var * (-4 / np.log(2)), 0, DEVIATIONS - 1)])
        whole, level = rounding.whole(both, block.start * self.numbers_of_row)
        return whole, posterior_tables()[level.ravel()]

    @torch.inference_mode()
    def _likelihood(self, z: np.ndarray, block: slice, rounding: Rounding) -> np.ndarray:
        """Probability of a one for each feature of each row, (n · d,)."""
        codes = torch.from_numpy(z * GRID).to(self.model.device_)
        logits = self.objective.decoder(codes).cpu().numpy() / LOGIT_GRID
        first = block.start * self.numbers_of_row + 2 * z.size
        whole = rounding.whole(np.clip(logits, -MOST_LOGIT, MOST_LOGIT), first)
        chances: np.ndarray = bernoulli_table()[(whole + MOST_LOGIT).ravel()]
        return chances


def _blocks(n_rows: int) -> list[slice]:
    """Rows that are coded together: a quarter of those before, from one to `MOST_ROWS`.

    The codes of a block are drawn before its rows are written, with bits that earlier rows have left. A draw takes
    about 2.4 times the bits that a row of MNIST leaves; with blocks that double in size, the stream runs out of bits,
    and a row of a file of 2,000 costs 12 nats more.

    >>> [block.stop - block.start for block in _blocks(20)]
    [1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 3, 3, 2]
    """
    found, start = list[slice](), 0
    while start < n_rows:
        size = min(max(1, start // 4), MOST_ROWS, n_rows - start)
        found.append(slice(start, start + size))
        start += size
    return found
