"""Single precision, also where a program has set torch's default type to double."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_MAKERS = frozenset({torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.eye, torch.linspace})
_READERS = frozenset({torch.tensor, torch.full, torch.arange})
"""What makes tensors without naming a type, and what takes the type from its values if these have one."""


class _SinglePrecision(TorchFunctionMode):
    """In this block and thread, tensors whose type is torch's default are of 32 bits."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = dict(kwargs or {})
        if named.get("dtype") is not None or named.get("out") is not None:
            return func(*args, **named)
        if func in _MAKERS:
            named["dtype"] = torch.float32
        made = func(*args, **named)
        typed = any(isinstance(value, Tensor | np.ndarray | np.generic) for value in args)
        return made.float() if func in _READERS and made.is_floating_point() and not typed else made


def single_precision() -> AbstractContextManager[Any]:
    """A block in which torch's default type counts as single precision.

    Setting torch's default dtype would change it for all threads of the program. Where the default is single precision,
    as it usually is, this has no effect and no cost.

    Examples
    --------
    >>> with single_precision():
    ...     torch.zeros(2).dtype
    torch.float32
    """
    return nullcontext() if torch.get_default_dtype() == torch.float32 else _SinglePrecision()
