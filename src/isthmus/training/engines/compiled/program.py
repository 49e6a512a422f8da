"""A program: whole training steps of a chain of linear layers, compiled for its sizes.

Threads share a step twice. First each takes some of the rows all the way, forward and back; then each takes some of the
weights, sums up their gradients over all rows and moves them at once, so that a gradient is never written to memory.
Neither changes the order of any sum: results do not depend on the number of threads.

::

    rows      gather ─▶ corrupt ─▶ encode ─▶ decode ─▶ loss ─▶ backward      every thread some rows
              ──────────────────────────── wait ───────────────────────
    weights   gradient of a tile ─▶ optimiser                               every thread some rows of every weight
              ──────────────────────────── wait ───────────────────────

Where a penalty looks at the codes of the whole batch, all wait for each other after `encode`, and one thread looks.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache, partial

from llvmlite import ir

from isthmus.training.engines.compiled.emitter import I64, POINTER, Emitter, Value
from isthmus.training.engines.compiled.passes import Passes
from isthmus.training.engines.compiled.plans import RATES, TABLE, Plan
from isthmus.training.engines.compiled.target import YIELD_CORE, Library, processor
from isthmus.training.engines.compiled.vectors import intrinsic

PATIENCE = 2000
"""How often a thread looks for those it waits for before it gives way to others: about 50 microseconds."""
_NUMBERS = {"n_threads", "n_steps", "n_rows"}


class Writer:
    """Writes a program.

    Parameters
    ----------
    passes
        What it is made of.
    """

    def __init__(self, passes: Passes) -> None:
        self.passes, self.plan, self.processor = passes, passes.plan, passes.processor
        self.module = ir.Module()
        self.module.triple = self.processor.triple

    def text(self) -> str:
        """The module, with the function ``train(table, thread)``."""
        looks = [self._encode, self._look, self._decode] if self.passes.layout.columns else [self._rows]
        parts = [self._part(write.__name__, write) for write in (*looks, self._weights)]
        emitter = Emitter(self.module, "train", [POINTER, I64], self.processor)
        table, thread = emitter.arguments
        n_threads, n_steps, waiting = _told(emitter, table, "n_threads", "n_steps", "waiting")

        def step(index: Value) -> None:
            for turn, part in enumerate(parts, start=1):
                emitter.builder.call(part, [table, thread, index])
                _wait(emitter, waiting, emitter.times(emitter.add(emitter.times(index, len(parts)), turn), n_threads))

        emitter.loop(0, n_steps, 1, step)
        emitter.done()
        return str(self.module)

    def _part(self, name: str, write: Callable[[Emitter], None]) -> ir.Function:
        return self._function(name, [POINTER, I64, I64], write)

    def _function(self, name: str, types: Sequence[ir.Type], write: Callable[[Emitter], None]) -> ir.Function:
        emitter = Emitter(self.module, name, types, self.processor)
        emitter.function.linkage = "internal"
        write(emitter)
        return emitter.done()

    def _call(self, emitter: Emitter, name: str, write: Callable[[Emitter], None], arguments: Sequence[Value]) -> None:
        """Write a separate function and a call to it."""
        values = [emitter.whole(argument) for argument in arguments]
        emitter.builder.call(self._function(name, [value.type for value in values], write), values)

    def _rows(self, emitter: Emitter) -> None:
        """Process the rows of one thread, from the data to the gradients of all layers."""
        self._encode(emitter)
        self._decode(emitter)

    def _mine(self, emitter: Emitter) -> list[Value]:
        """The range of rows of a thread."""
        table, thread, _ = emitter.arguments
        n_rows, n_threads = _told(emitter, table, "n_rows", "n_threads")
        return _share(emitter, n_rows, thread, n_threads, self.processor.rows)

    def _encode(self, emitter: Emitter) -> None:
        """Encode: from the data to the codes."""
        table, _, step = emitter.arguments
        rows, keys, work, values = _told(emitter, table, "rows", "keys", "work", "values")
        passes, mine = self.passes, self._mine(emitter)
        (order, rates), key = _of_step(emitter, table, step), emitter.entry(keys, step)
        self._call(emitter, "gather", passes.gather, [rows, order, work, key, *mine])
        for index in range(self.plan.n_encoder):
            self._call(emitter, f"forward_{index}", partial(passes.forward, index=index), [work, values, *mine])
        if self.plan.drawn is not None:
            self._call(emitter, "draw", passes.draw, [work, rates, key, *mine])

    def _look(self, emitter: Emitter) -> None:
        """Compute batch statistics of all codes, on one thread."""
        table, thread, step = emitter.arguments
        n_rows, work, values = _told(emitter, table, "n_rows", "work", "values")
        _, rates = _of_step(emitter, table, step)
        with self._only(emitter, thread, 0):
            self._call(emitter, "look", self.passes.look, [work, values, rates, n_rows])

    def _decode(self, emitter: Emitter) -> None:
        """Decode, then run backwards: from the codes to the gradients of all layers."""
        table, _, step = emitter.arguments
        targets, work, values = _told(emitter, table, "targets", "work", "values")
        passes, mine, (order, rates) = self.passes, self._mine(emitter), _of_step(emitter, table, step)
        n_layers = len(self.plan.layers)
        for index in range(self.plan.n_encoder, n_layers):
            self._call(emitter, f"forward_{index}", partial(passes.forward, index=index), [work, values, *mine])
        self._call(emitter, "loss", passes.loss, [targets, order, work, values, rates, *mine])
        for index in reversed(range(1, n_layers)):
            arguments = [work, values, rates, *mine]
            self._call(emitter, f"backward_{index}", partial(passes.backward, index=index), arguments)

    def _weights(self, emitter: Emitter) -> None:
        """Update the weights of one thread: their gradients and the optimiser's step."""
        table, thread, step = emitter.arguments
        n_rows, n_threads, losses, *buffers, work = _told(
            emitter, table, "n_rows", "n_threads", "losses", "values", "means", "squares", "work"
        )
        passes, height, (_, rates) = self.passes, self.processor.rows, _of_step(emitter, table, step)
        self._next_rows(emitter)
        arguments = [*buffers, work, rates, n_rows]
        for index, layer in enumerate(self.plan.layers):
            mine = _share(emitter, layer.weight_rows // height * height, thread, n_threads, height)
            self._call(emitter, f"weight_{index}", partial(passes.weight, index=index), [*arguments, *mine])
            with self._only(emitter, thread, emitter.builder.urem(emitter.whole(index), n_threads)):
                self._call(emitter, f"rest_{index}", partial(passes.rest, index=index), arguments)
        with self._only(emitter, thread, 0):
            self._call(emitter, "tell", passes.tell, [losses, work, rates, step, n_rows])

    def _next_rows(self, emitter: Emitter) -> None:
        """Prefetch the rows that this thread takes in the next step, if there is one."""
        table, thread, step = emitter.arguments
        n_rows, n_threads, n_steps, rows = _told(emitter, table, "n_rows", "n_threads", "n_steps", "rows")
        following = emitter.builder.add(step, emitter.whole(1))
        with emitter.builder.if_then(emitter.builder.icmp_signed("<", following, n_steps)):
            mine = _share(emitter, n_rows, thread, n_threads, self.processor.rows)
            order, _ = _of_step(emitter, table, following)
            self._call(emitter, "ahead", self.passes.ahead, [rows, order, *mine])

    @staticmethod
    def _only(emitter: Emitter, thread: Value, wanted: Value) -> ir.IRBuilder:
        """A block that only one thread executes."""
        return emitter.builder.if_then(emitter.builder.icmp_signed("==", thread, emitter.whole(wanted)))


def _told(emitter: Emitter, table: Value, *names: str) -> list[Value]:
    """Entries of the argument table."""
    return [emitter.entry(table, TABLE.index(name), I64 if name in _NUMBERS else POINTER) for name in names]


def _of_step(emitter: Emitter, table: Value, step: Value) -> tuple[Value, Value]:
    """The addresses of a step's row indices and of its rates."""
    n_rows, order, rates = _told(emitter, table, "n_rows", "order", "rates")
    indices = emitter.builder.gep(order, [emitter.times(step, n_rows)], source_etype=I64)
    return indices, emitter.at(rates, emitter.times(step, len(RATES)))


def _share(emitter: Emitter, size: Value, thread: Value, n_threads: Value, unit: int) -> list[Value]:
    """The part of a range that a thread takes, in whole units except for the last one."""
    build, whole = emitter.builder, emitter.whole
    units = build.sdiv(whole(emitter.add(size, unit - 1)), whole(unit))
    ends = [build.sdiv(build.mul(units, number), n_threads) for number in (thread, build.add(thread, whole(1)))]
    return [emitter.least(emitter.times(end, unit), size) for end in ends]


def _wait(emitter: Emitter, place: Value, wanted: Value) -> None:
    """A barrier: wait until so many threads have arrived, and yield the core if that takes long."""
    build, nothing = emitter.builder, ir.FunctionType(ir.VoidType(), [])
    build.atomic_rmw("add", place, emitter.whole(1), "acq_rel")
    begin = build.block
    head, idle, way, again, after = (build.append_basic_block() for _ in range(5))
    build.branch(head)
    build.position_at_end(head)
    looks = build.phi(I64)
    arrived = build.load_atomic(place, "acquire", 8, typ=I64)
    build.cbranch(build.icmp_signed(">=", arrived, wanted), after, idle)
    build.position_at_end(idle)
    if emitter.processor.pause is not None:
        build.call(intrinsic(emitter.module, emitter.processor.pause, ir.VoidType(), []), [])
    more = build.add(looks, emitter.whole(1))
    build.cbranch(build.icmp_signed("<", more, emitter.whole(PATIENCE)), again, way)
    build.position_at_end(way)
    build.call(emitter.module.globals.get(YIELD_CORE) or ir.Function(emitter.module, nothing, YIELD_CORE), [])
    build.branch(again)
    build.position_at_end(again)
    build.branch(head)
    for value, block in ((emitter.whole(0), begin), (more, again)):
        looks.add_incoming(value, block)
    build.position_at_end(after)


class Program:
    """A compiled program.

    Parameters
    ----------
    plan
        What it is written for.

    Attributes
    ----------
    layout
        Where in its working memory everything lies.
    train
        Takes the place of a `plans.TABLE` and the number of the thread; every thread must call it.
    """

    def __init__(self, plan: Plan) -> None:
        passes = Passes(plan, processor())
        self.plan, self.layout = plan, passes.layout
        self._library = Library(Writer(passes).text())
        self.train = self._library.function("train", ctypes.c_void_p, ctypes.c_int64)


@lru_cache(maxsize=64)
def program_for(plan: Plan) -> Program:
    """The program of a plan, compiled when it is first asked for."""
    with _without_collection():
        return Program(plan)


@contextmanager
def _without_collection() -> Iterator[None]:
    """Pause Python's garbage collection: a program's text is thousands of objects, and a collection takes 0.15 s."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
