"""Model files with 10,000 kinds of damage: each must raise a `ModelFileError`, or load the exact model.

There are two kinds of damage. A file that was only damaged has the old digest: the model that comes back has to be the
exact one. In files that were edited and signed again (and in those of format 1, which have no digest), a
number may be another one; those must be refused or load, without another error, a hang, or memory that is asked for
before it is known that the file holds the numbers.
"""

from __future__ import annotations

import copy
import json
import random
import signal
import struct
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

import isthmus
from benchmarks.reliability.results import Row
from isthmus.exceptions import ModelFileError
from isthmus.files import State, read_state, write_state
from isthmus.files.model_file import DIGEST_KEY, HEADER_KEY, digest

INTENT = (
    "Model files of all kinds, in the present format and in format 1, are damaged: bits, lengths, values of the "
    "header, arrays. A damaged file is refused with a `ModelFileError` (*refused*), or gives the exact model "
    "(*exact*). Files that were edited and signed again, and files of format 1, which have no digest, may also load "
    "as what was written into them (*loads*). Loading takes at most twice the memory of a clean load (and 32 MB), and "
    "20 s."
)
GOLDEN = Path(__file__).parents[2] / "tests" / "files" / "golden" / "0.1.0"
N_FILES, SEED = 10_000, 0
LONGEST_SECONDS = 20
SLACK_BYTES = 32 * 2**20
"""Memory that loading a small file may take in addition: parts of torch that are loaded on first use."""
STRANGE: tuple[Any, ...] = (
    None, True, -1, 0, 1, 7, 2**31, 2**70, -0.5, 1e308, float("nan"), float("inf"), "", "x", "Ünicode\u0000", "9" * 400,
    [], [[]], [1, "a", None], {}, {"class": ["a"], "params": {}},
    {"class": "Dense", "params": {"hidden_sizes": [9**9]}},
    {"tuple": 5}, {"mapping": [[1]]}, {"number": "NaN"}, [10**12], [1] * 1000,
)  # fmt: skip


@dataclass(frozen=True)
class Damaged:
    """A damaged file.

    Attributes
    ----------
    how
        What was done.
    content
        The bytes.
    signed_again
        Whether its digest is right again, or it never had one.
    """

    how: str
    content: bytes
    signed_again: bool


@dataclass(frozen=True)
class Parts:
    """The parts of a file."""

    header: Any
    arrays: dict[str, np.ndarray]
    digest: str | None

    @classmethod
    def of(cls, path: Path) -> Parts:
        content = path.read_bytes()
        (length,) = struct.unpack("<Q", content[:8])
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        return cls(json.loads(metadata[HEADER_KEY]), dict(read_state(path).arrays), metadata.get(DIGEST_KEY))

    def content(self, *, sign: bool) -> bytes:
        """The bytes of the file, with the old or a new digest."""
        text = json.dumps(self.header, separators=(",", ":"))
        arrays = {name: np.ascontiguousarray(array).reshape(array.shape) for name, array in self.arrays.items()}
        signature = digest(text, arrays) if sign and self.digest else self.digest
        return save(arrays, {HEADER_KEY: text, **({DIGEST_KEY: signature} if signature else {})})


def damaged(path: Path, draw: random.Random) -> Damaged:
    """The file at a path with one kind of damage."""
    how = draw.choice([*BYTES, *EDITS, *EDITS])
    if how in BYTES:
        return Damaged(how, BYTES[how](bytearray(path.read_bytes()), draw), Parts.of(path).digest is None)
    parts, sign = Parts.of(path), draw.random() < 0.6
    edited = EDITS[how](copy.deepcopy(parts), draw)
    return Damaged(how, edited.content(sign=sign), sign or parts.digest is None)


# -- bytes -------------------------------------------------------------------------------------------------------------


def _flip(content: bytearray, draw: random.Random) -> bytes:
    for _ in range(draw.randint(1, 3)):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return bytes(content)


def _flip_header(content: bytearray, draw: random.Random) -> bytes:
    (length,) = struct.unpack("<Q", content[:8])
    content[draw.randrange(8 + length)] ^= 1 << draw.randrange(8)
    return bytes(content)


def _truncate(content: bytearray, draw: random.Random) -> bytes:
    return bytes(content[: draw.randrange(len(content))])


def _cut(content: bytearray, draw: random.Random) -> bytes:
    start = draw.randrange(len(content))
    del content[start : start + draw.randint(1, 64)]
    return bytes(content)


def _insert(content: bytearray, draw: random.Random) -> bytes:
    start = draw.randrange(len(content))
    return bytes(content[:start]) + draw.randbytes(draw.randint(1, 64)) + bytes(content[start:])


def _blank(content: bytearray, draw: random.Random) -> bytes:
    start, length = draw.randrange(len(content)), draw.randint(1, 512)
    content[start : start + length] = bytes(len(content[start : start + length]))
    return bytes(content)


BYTES: Mapping[str, Callable[[bytearray, random.Random], bytes]] = {
    "bits flipped": _flip,
    "bit of the header flipped": _flip_header,
    "truncated": _truncate,
    "bytes cut out": _cut,
    "bytes put in": _insert,
    "bytes zeroed": _blank,
}

# -- edits -------------------------------------------------------------------------------------------------------------


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in a JSON value with each of its keys."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield value, key
        yield from _places(part)


def _replace_value(parts: Parts, draw: random.Random) -> Parts:
    place, key = draw.choice(list(_places(parts.header)))
    place[key] = copy.deepcopy(draw.choice(STRANGE))
    return parts


def _change_number(parts: Parts, draw: random.Random) -> Parts:
    numbers = [(p, k) for p, k in _places(parts.header) if isinstance(p[k], int | float) and not isinstance(p[k], bool)]
    place, key = draw.choice(numbers)
    place[key] = draw.choice([place[key] + 1, place[key] * 1000, -place[key], 2**40, 10**12])
    return parts


def _remove_value(parts: Parts, draw: random.Random) -> Parts:
    place, key = draw.choice(list(_places(parts.header)))
    del place[key]
    return parts


def _swap_values(parts: Parts, draw: random.Random) -> Parts:
    places = list(_places(parts.header["values"]))
    (one, first), (other, second) = draw.choice(places), draw.choice(places)
    one[first] = copy.deepcopy(other[second])
    return parts


def _nest(parts: Parts, draw: random.Random) -> Parts:
    deep: Any = 0
    for _ in range(draw.choice([50, 90, 400])):
        deep = [deep]
    parts.header["values"][draw.choice([*parts.header["values"], "new"])] = deep
    return parts


def _remove_array(parts: Parts, draw: random.Random) -> Parts:
    del parts.arrays[draw.choice(sorted(parts.arrays))]
    return parts


def _rename_array(parts: Parts, draw: random.Random) -> Parts:
    name = draw.choice(sorted(parts.arrays))
    parts.arrays[draw.choice([f"{name}x", "learned.fit", "learned.transform", "x"])] = parts.arrays.pop(name)
    return parts


def _swap_arrays(parts: Parts, draw: random.Random) -> Parts:
    one, other = draw.choice(sorted(parts.arrays)), draw.choice(sorted(parts.arrays))
    parts.arrays[one], parts.arrays[other] = parts.arrays[other], parts.arrays[one]
    return parts


def _change_entry(parts: Parts, draw: random.Random) -> Parts:
    name = draw.choice(sorted(parts.arrays))
    array = np.array(parts.arrays[name])
    if array.size:
        integers: list[Any] = [-1, 2**31 - 1, 127] if array.dtype != np.uint8 else [0, 255]
        choices: list[Any] = [np.nan, np.inf, -np.inf, 1e30, 0.0] if array.dtype.kind == "f" else integers
        with np.errstate(over="ignore"):
            array.reshape(-1)[draw.randrange(array.size)] = draw.choice(choices)
    parts.arrays[name] = array
    return parts


def _change_shape(parts: Parts, draw: random.Random) -> Parts:
    name = draw.choice(sorted(parts.arrays))
    array = parts.arrays[name]
    tried = [
        array.T,
        array.reshape(-1),
        array[None],
        array[:0] if array.ndim else array[None],
        np.zeros(3),
        array[..., None],
    ]
    parts.arrays[name] = draw.choice(tried)
    return parts


def _change_type(parts: Parts, draw: random.Random) -> Parts:
    name = draw.choice(sorted(parts.arrays))
    with np.errstate(invalid="ignore", over="ignore"):
        parts.arrays[name] = parts.arrays[name].astype(draw.choice(["f2", "f4", "f8", "i1", "u1", "i8", "u8", "?"]))
    return parts


EDITS: Mapping[str, Callable[[Parts, random.Random], Parts]] = {
    "value replaced": _replace_value,
    "number changed": _change_number,
    "value removed": _remove_value,
    "values swapped": _swap_values,
    "nested deep": _nest,
    "array removed": _remove_array,
    "array renamed": _rename_array,
    "arrays swapped": _swap_arrays,
    "entry changed": _change_entry,
    "shape changed": _change_shape,
    "type changed": _change_type,
}

# -- judging -----------------------------------------------------------------------------------------------------------


@contextmanager
def _no_longer_than(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise TimeoutError(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _memory(name: str) -> int:
    """VmRSS or VmHWM of this process in bytes; 0 if the system does not report it."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)


def load_measured(path: Path) -> tuple[Any, int]:
    """The model of a file, and the peak memory while loading it."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")  # the greatest size so far becomes the present one
    before = _memory("VmRSS")
    try:
        return isthmus.load(path, device="cpu"), max(0, _memory("VmHWM") - before)
    except ModelFileError:
        if max(0, _memory("VmHWM") - before) > 2 * SLACK_BYTES:
            raise MemoryError(
                f"{(_memory('VmHWM') - before) / 2**20:.0f} MB were taken before it was refused"
            ) from None
        raise


def outcome(path: Path, original: State, signed_again: bool, most: int) -> str:
    """``"refused"``, ``"exact"``, ``"loads"``, or what went wrong, after the word ``"wrong"``."""
    try:
        with _no_longer_than(LONGEST_SECONDS), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _, memory = load_measured(path)
            found = read_state(path)
    except ModelFileError:
        return "refused"
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # noqa: BLE001  # every other error, Rust's panics too, is what is looked for
        return f"wrong: {type(error).__name__}: {str(error)[:100]}"
    if memory > most:
        return f"wrong: {memory / 2**20:.0f} MB were taken"
    if same(found, original):
        return "exact"
    return "loads" if signed_again else "wrong: another model without an error"


def same(one: State, other: State) -> bool:
    """Whether two states have the same values and, bit for bit, the same arrays."""
    equal = json.dumps(one.values) == json.dumps(other.values) and one.arrays.keys() == other.arrays.keys()
    pairs = [(array, other.arrays[name]) for name, array in one.arrays.items()] if equal else []
    return equal and all(a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in pairs)


def originals(folder: Path) -> list[Path]:
    """One file of every kind in the current format and in format 1."""
    made = []
    for path in sorted(GOLDEN.glob("*.safetensors")):
        (folder / f"{path.stem}-1.safetensors").write_bytes(path.read_bytes())
        state = _checkpoint(folder) if path.stem == "checkpoint" else isthmus.load(path, device="cpu")
        new = folder / f"{path.stem}.safetensors"
        write_state(new, state) if isinstance(state, State) else state.save(new)
        made += [new, folder / f"{path.stem}-1.safetensors"]
    return [path for path in made if path.stem != "checkpoint-1"]  # it holds no model


def _checkpoint(folder: Path) -> State:
    path = folder / "made.ckpt"
    rows = np.random.default_rng(0).random((40, 6))
    checkpoint = isthmus.Checkpoint(path)
    isthmus.Autoencoder(2, network=(5,), max_epochs=2, batch_size=16, callbacks=[checkpoint], random_state=0).fit(rows)
    state = read_state(path)
    path.unlink()
    return state


def try_files(path: Path, n_files: int, seed: int, folder: Path) -> Counter[str]:
    """Damage one file repeatedly and count the outcomes; failures are printed with the seed that reproduces them."""
    isthmus.load(path, device="cpu")  # what is loaded at first use is no part of it
    most = 2 * load_measured(path)[1] + SLACK_BYTES
    original, counted = read_state(path), Counter[str]()
    for number in range(n_files):
        draw = random.Random(f"{seed}-{path.stem}-{number}")  # no secret
        made = damaged(path, draw)
        target = folder / "damaged.safetensors"
        target.write_bytes(made.content)
        found = outcome(target, original, made.signed_again, most)
        counted[found.partition(":")[0]] += 1
        if found.startswith("wrong"):
            print(f"{path.stem}, seed {seed}, number {number}, {made.how}: {found}", file=sys.stderr)
    return counted


def measure(scale: float, seed: int) -> list[Row]:
    """Damage files of all kinds, the same number of each."""
    n_files = max(1, round(N_FILES * scale))
    with tempfile.TemporaryDirectory() as name, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(name)
        paths = originals(folder)
        shares = [n_files * (i + 1) // len(paths) - n_files * i // len(paths) for i in range(len(paths))]
        return [_row(path.stem, try_files(path, n, seed, folder)) for path, n in zip(paths, shares, strict=True)]


def _row(name: str, counted: Counter[str]) -> Row:
    note = ", ".join(f"{counted[key]} {key}" for key in ("refused", "exact", "loads") if counted[key])
    return Row(name, sum(counted.values()), counted["wrong"], note)
