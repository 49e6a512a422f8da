"""Seeding of code that takes no generator: random layers of user modules draw from the generator of the fit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

_SEEDED = torch.Tag.nondeterministic_seeded
_RANDOM_LAYERS = (
    nn.modules.dropout._DropoutNd,  # noqa: SLF001  # the common base of torch's dropout layers
    nn.RReLU,
    nn.FractionalMaxPool2d,
    nn.FractionalMaxPool3d,
    nn.RNNBase,
    nn.MultiheadAttention,
)


class DrawnFrom(TorchDispatchMode):
    """Context manager: every random operation of torch in this thread draws from one generator.

    Operations that are called with a generator keep it. Torch tags every random operation
    (``nondeterministic_seeded``), so dropout, ``torch.rand`` and ``tensor.normal_`` are found wherever a forward pass
    calls them, including compiled TorchScript. Python's ``random`` and numpy's generators are not covered.

    Parameters
    ----------
    generator
        The source of random numbers.

    Examples
    --------
    >>> with DrawnFrom(torch.Generator().manual_seed(0)):
    ...     drawn = torch.rand(3)
    >>> bool((drawn == torch.rand(3, generator=torch.Generator().manual_seed(0))).all())
    True
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._generators = {generator.device.type: generator}
        self._first = generator

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        # A model file is checked by a forward pass of meta tensors, which have shapes but no values.
        shapes_only = any(isinstance(value, Tensor) and value.is_meta for value in args)
        return self._draw(func, args, named) if _SEEDED in func.tags and not shapes_only else func(*args, **named)

    def _draw(self, func: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        generator = self._generator_for(args, named)
        if func is torch.ops.aten.native_dropout.default:
            return _dropout(*args, **named, generator=generator)
        taking = _with_generator(func)
        if taking is None:
            return _refusing_dropout(func, args, named)
        place = [argument.name for argument in taking._schema.arguments].index("generator")  # noqa: SLF001
        if place < len(args):
            return taking(*args[:place], args[place] or generator, *args[place + 1 :], **named)
        return taking(*args, **{**named, "generator": named.get("generator") or generator})

    def _generator_for(self, args: tuple[Any, ...], named: dict[str, Any]) -> torch.Generator:
        """The generator of the device of the operation; each further device gets one seeded from the first."""
        tensors = [value.device for value in (*args, *named.values()) if isinstance(value, Tensor)]
        device = torch.device(named.get("device") or (tensors[0] if tensors else "cpu"))
        if device.type not in self._generators:
            self._generators[device.type] = torch.Generator(device).manual_seed(self._fresh_seed())
        return self._generators[device.type]

    def _fresh_seed(self) -> int:
        return int(torch.randint(2**62, (1,), generator=self._first, device=self._first.device))


def _refusing_dropout(func: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
    """Run fused attention and cuDNN's recurrent layers, which take no generator; refuse them if they use dropout."""
    names = [argument.name for argument in func._schema.arguments]  # noqa: SLF001
    given = dict(zip(names, args, strict=False)) | named
    if any(given.get(name) for name in ("dropout_p", "dropout")):
        raise ValueError(
            f"{func} in a module of the network applies dropout from torch's global generator, which random_state "
            "does not control and other threads share. Set its dropout to 0 and add an nn.Dropout after it, or, for "
            "attention, use "
            "torch.nn.attention.sdpa_kernel(SDPBackend.MATH)."
        )
    return func(*args, **named)


def _with_generator(func: Any) -> Any:
    """The operation itself if it takes a generator, else its overload that does; None if no overload does."""
    names = [argument.name for argument in func._schema.arguments]  # noqa: SLF001  # torch has no public function for this
    if "generator" in names:
        return func
    packet = func.overloadpacket
    for overload in (getattr(packet, name) for name in packet.overloads()):
        others = [argument.name for argument in overload._schema.arguments]  # noqa: SLF001
        if "generator" in others and [name for name in others if name != "generator"] == names:
            return overload
    return None


def _dropout(x: Tensor, p: float, train: bool | None, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """``aten::native_dropout``: the scaled result, and the mask of the kept entries."""
    if train is False or p == 0.0:
        return x.clone(), torch.ones_like(x, dtype=torch.bool)
    kept = torch.empty_like(x, dtype=torch.bool).bernoulli_(1.0 - p, generator=generator)
    return x * kept * (0.0 if p == 1.0 else 1.0 / (1.0 - p)), kept


def may_draw(modules: Iterable[nn.Module]) -> bool:
    """Whether a forward pass may draw random numbers: torch's random layers, hooks, and all layers from elsewhere.

    >>> may_draw([nn.Linear(2, 2), nn.ReLU()]), may_draw([nn.Dropout(0.5)])
    (False, True)
    """
    return any(
        isinstance(module, _RANDOM_LAYERS)
        or not type(module).__module__.startswith(("torch.nn.", "isthmus."))
        or bool(module._forward_hooks or module._forward_pre_hooks)  # noqa: SLF001
        for module in modules
    )


@contextmanager
def drawn_from(generator: torch.Generator | None) -> Iterator[None]:
    """Context manager: torch draws from the generator; None changes nothing."""
    if generator is None:
        yield
    else:
        with DrawnFrom(generator):
            yield
