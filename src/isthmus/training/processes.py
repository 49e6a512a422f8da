"""Training on several processes: who takes which rows of a batch, and what is added up over all of them.

Everything that knows of more than one process is here. The loop and the general engine ask a `Processes`; that of a
single process gives back what it is given.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from isthmus.exceptions import ProcessError
from isthmus.seeds import RandomState, seed_from

_SEEDED = torch.Tag.nondeterministic_seeded
_LAUNCHER = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


class Processes:
    """The processes that train one model together; this class itself is the single one.

    Each process knows the whole order of rows and takes its share of every batch, so that n processes take the same
    steps as one, up to rounding.
    """

    rank, n = 0, 1

    @property
    def alone(self) -> bool:
        """Whether there is one process only."""
        return self.n == 1

    def share(self, batch: Tensor) -> Tensor:
        """The rows of a batch that this process takes: at least one, and all of a batch smaller than the processes."""
        return batch

    def weight(self, n_rows: int) -> float:
        """The weight of the mean over this process's rows in the mean over a batch of so many rows."""
        return 1.0

    def drawing(self, n_rows: int) -> TorchDispatchMode | nullcontext[None]:
        """A block in which random numbers are drawn for a batch of so many rows, and this process's share is used."""
        return nullcontext()

    def add_up(self, tensor: Tensor) -> Tensor:
        """Replace a tensor by its sum over all processes, in place."""
        return tensor

    def first_of(self, reason: str) -> str:
        """The first text over all processes that is not empty."""
        return reason

    def same_seed(self, seed: int, *, drawn: bool) -> int:
        """The seed of the first process, where all have drawn theirs; one that was given stays."""
        return seed

    def compare(self, facts: Callable[[], Mapping[str, object]]) -> None:
        """Raise on all processes where they disagree about facts."""

    def tell(self, error: BaseException) -> None:
        """Let the other processes, which wait in `compare`, raise too."""


class Group(Processes):
    """The processes of ``torch.distributed``'s default group."""

    def __init__(self) -> None:
        self.rank, self.n = dist.get_rank(), dist.get_world_size()

    def share(self, batch: Tensor) -> Tensor:
        return batch[self._rows(len(batch))]

    def _rows(self, n_rows: int) -> slice:
        if n_rows < self.n:
            return slice(0, n_rows)
        return slice(n_rows * self.rank // self.n, n_rows * (self.rank + 1) // self.n)

    def weight(self, n_rows: int) -> float:
        rows = self._rows(n_rows)
        return 1.0 / self.n if n_rows < self.n else (rows.stop - rows.start) / n_rows

    def drawing(self, n_rows: int) -> TorchDispatchMode | nullcontext[None]:
        return DrawsOfShare(self._rows(n_rows), n_rows, self.rank)

    def add_up(self, tensor: Tensor) -> Tensor:
        with _saying_that_one_ended():
            dist.all_reduce(tensor)
        return tensor

    def first_of(self, reason: str) -> str:
        return next((text for text in self._gathered(reason) if text), "")

    def same_seed(self, seed: int, *, drawn: bool) -> int:
        found = self._gathered({"random_state": "None" if drawn else "a seed", "seed": str(seed)})
        _refuse([{name: text for name, text in each.items() if name != "seed"} for each in found])
        return int(found[0]["seed"]) if drawn else seed

    def compare(self, facts: Callable[[], Mapping[str, object]]) -> None:
        _refuse(self._gathered(dict(_texts(facts()))))

    def tell(self, error: BaseException) -> None:
        self._gathered({_FAILED: f"{type(error).__name__}: {error}"})

    def _gathered(self, given: Any) -> list[Any]:
        found: list[Any] = [None] * self.n
        with _saying_that_one_ended():
            dist.all_gather_object(found, given)
        return found


_FAILED = "failed"
_DERIVED = ("code", "context", "loss", "scaling", "weights")
"""Facts that follow from rows and parameters: the first word of their names."""


def _texts(facts: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Facts as text; each member of a mapping is a fact of its own, so that an error names the one that differs."""
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from ((f"{name} {inner}", str(each)) for inner, each in value.items())
        else:
            yield name, str(value)


@contextmanager
def _saying_that_one_ended() -> Iterator[None]:
    """A block of communication; what torch raises where a connection breaks says nothing of the cause."""
    try:
        yield
    except RuntimeError as error:
        raise ProcessError(
            "Another of the processes that train together has ended or cannot be reached, so this one stops too; "
            f"its own error says why. ({str(error).splitlines()[0]})"
        ) from error


def _refuse(found: list[dict[str, str]]) -> None:
    """Raise if one process has failed, or if not all say the same."""
    failed = [(rank, each[_FAILED]) for rank, each in enumerate(found) if _FAILED in each]
    if failed:
        rank, text = failed[0]
        raise ProcessError(f"Process {rank} of {len(found)} cannot train, so no process does: {text}")
    names = [name for name in dict.fromkeys(name for each in found for name in each)]  # noqa: C416  # in order
    differing = [name for name in names if len({each.get(name) for each in found}) > 1]
    if differing:
        causes = [name for name in differing if name.partition(" ")[0] not in _DERIVED] or differing
        shown = "; ".join(f"{name}: {_by_rank([each.get(name) for each in found])}" for name in causes)
        raise ProcessError(
            f"The {len(found)} processes do not train the same model on the same data. They differ in {shown}. Give "
            "every process the same rows, parameters and versions."
        )


def _by_rank(values: Iterable[str | None]) -> str:
    """What each process says, short; the first two that differ."""
    listed = list(values)
    other = next(rank for rank, value in enumerate(listed) if value != listed[0])
    return ", ".join(f"{_short(listed[rank])} on process {rank}" for rank in (0, other))


def _short(value: str | None) -> str:
    return "nothing" if value is None else value if len(value) <= 100 else f"{value[:97]}…"


class DrawsOfShare(TorchDispatchMode):
    """Draws random numbers for a whole batch and gives the share of this process.

    Generators of all processes so stay in step with that of a single one. Numbers whose number of rows is that of the
    share, or a multiple (several samples of each row), are drawn for the batch; others are the same on all processes.
    Operations whose result depends on a tensor besides its shape, such as ``torch.poisson``, draw from a generator of
    the process, which the common one seeds: their distribution is the same, the numbers differ from those of one
    process.
    """

    def __init__(self, rows: slice, n_rows: int, rank: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rows, self._n_rows, self._rank = rows, n_rows, rank
        self._n_mine = rows.stop - rows.start

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if _SEEDED not in func.tags:
            return func(*args, **named)
        schema = [argument.name for argument in func._schema.arguments]  # noqa: SLF001  # torch has no public function
        given = dict(zip(schema, args, strict=False)) | named
        tensors = [name for name, value in given.items() if isinstance(value, Tensor)]
        if not tensors and "size" in given:
            return self._mine(func(**given | {"size": self._whole(given["size"])}), given["size"])
        if tensors == ["self"] and func._schema.name.endswith("_"):  # noqa: SLF001  # fills a tensor in place
            mine = given["self"]
            whole = mine.new_empty(self._whole(mine.shape))
            others = args[1:]
            return mine.copy_(self._mine(func(whole, *others, **named), mine.shape))
        if isinstance(given.get("generator"), torch.Generator):
            return func(**given | {"generator": self._own(given["generator"])})
        return func(*args, **named)

    def _samples(self, size: Iterable[int]) -> int:
        """How many times the rows of the share numbers of this size hold; 0 if they are not of rows."""
        first, *_ = (*size, 0)
        return first // self._n_mine if self._n_mine and first % self._n_mine == 0 else 0

    def _whole(self, size: Iterable[int]) -> list[int]:
        sizes = list(size)
        samples = self._samples(sizes)
        return [samples * self._n_rows, *sizes[1:]] if samples else sizes

    def _mine(self, whole: Tensor, size: Iterable[int]) -> Tensor:
        sizes = list(size)
        samples = self._samples(sizes)
        if not samples:
            return whole
        return whole.view(samples, self._n_rows, *sizes[1:])[:, self._rows].reshape(sizes).clone()

    def _own(self, common: torch.Generator) -> torch.Generator:
        seed = int(torch.randint(2**62, (), generator=common, device=common.device))
        return torch.Generator(common.device).manual_seed(seed + self._rank)


def current_processes() -> Processes:
    """The processes that train together: those of ``torch.distributed``'s default group, if there are several.

    A process that ``torchrun`` started joins the group here, unless the program has done so. Workers that such a
    process starts for itself inherit its environment but do not belong to the group, so they train alone.
    """
    if not dist.is_available():
        return Processes()
    if not dist.is_initialized() and _was_launched():
        _join()
    return Group() if dist.is_initialized() and dist.get_world_size() > 1 else Processes()


def _was_launched() -> bool:
    """Whether a launcher started this process as one of several."""
    several = all(name in os.environ for name in _LAUNCHER) and int(os.environ["WORLD_SIZE"]) > 1
    return several and multiprocessing.parent_process() is None


def _join() -> None:
    """Make the group that the launcher's environment describes; each process of a machine takes a card of its own."""
    from torch.distributed.distributed_c10d import PrefixStore  # noqa: PLC0415  # some builds of torch lack it
    from torch.distributed.rendezvous import rendezvous  # noqa: PLC0415

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    store, rank, n = next(iter(rendezvous("env://")))
    # The launcher keeps one store for all its starts. Without a prefix, a restarted group reads the addresses of the
    # processes that ended ("Connection refused", torch 2.13).
    start = PrefixStore(f"start {os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)
    dist.init_process_group(backend, store=start, rank=rank, world_size=n)
    atexit.register(_leave)


def _leave() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def common_seed(random_state: RandomState) -> int:
    """`seed_from`, with the same seed on all processes for None."""
    return current_processes().same_seed(seed_from(random_state), drawn=random_state is None)


def is_main_process() -> bool:
    """Whether this process writes files and shows progress: the first of those that train together, or a single one.

    Examples
    --------
    >>> is_main_process()
    True
    """
    return current_processes().rank == 0


@contextmanager
def failing_together() -> Iterator[None]:
    """A block before training; an error in one process is raised in all, which wait for each other at its end."""
    processes = current_processes()
    try:
        yield
    except Exception as error:
        if not isinstance(error, ProcessError):  # which all raise already
            processes.tell(error)
        raise
