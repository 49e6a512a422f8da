"""The processor, and LLVM's settings for it."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from llvmlite import binding

YIELD_CORE = "isthmus_yield_core"
"""The function that compiled code calls to yield the core to another thread."""


class Processor(NamedTuple):
    """Properties of the processor that kernels depend on.

    Attributes
    ----------
    width
        Single-precision numbers in a vector register.
    rows
        Rows of a tile: with three vectors a row, and what is read, a tile fills the registers.
    triple
        LLVM's name of the processor and its system.
    """

    width: int
    rows: int
    triple: str

    @property
    def pause(self) -> str | None:
        """LLVM's name of the processor's pause instruction for spin loops, if there is one."""
        return "x86.sse2.pause" if self.triple.startswith(("x86_64", "i686")) else None


@cache
def processor() -> Processor:
    """The processor of this machine."""
    _initialise_llvm()
    features, triple = binding.get_host_cpu_features(), str(binding.get_process_triple())
    if features.get("avx512f"):
        return Processor(16, 8, triple)
    if features.get("avx2"):
        return Processor(8, 4, triple)
    return Processor(4, 8 if triple.startswith(("aarch64", "arm64")) else 4, triple)


@cache
def _initialise_llvm() -> None:
    """Initialise LLVM for this processor."""
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    system = _yield_core()
    binding.add_symbol(YIELD_CORE, ctypes.cast(system, ctypes.c_void_p).value)


def _yield_core() -> Any:
    """The system's function that yields the core."""
    if sys.platform == "win32":
        return ctypes.WinDLL("kernel32").SwitchToThread
    return ctypes.CDLL(None).sched_yield


class Library:
    """Compiled functions; their memory is freed with this object.

    No optimisation pass runs over the text: instructions are already written in order, and passes would take longer
    than everything else, while the steps would not be faster.

    Parameters
    ----------
    text
        A module in LLVM's language.
    """

    def __init__(self, text: str) -> None:
        _initialise_llvm()
        target = binding.Target.from_default_triple().create_target_machine(
            cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=3, jit=True
        )
        module = binding.parse_assembly(text)
        module.verify()
        self._engine = binding.create_mcjit_compiler(module, target)  # which owns both from now on
        self._engine.finalize_object()

    def function(self, name: str, *types: Any) -> Callable[..., None]:
        """A function of the library; it runs without Python's lock."""
        return ctypes.CFUNCTYPE(None, *types)(self._engine.get_function_address(name))
