"""Translations of torch operations that ONNX, or onnxruntime in double precision, does not support."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from scipy.special import erfcx

DEGREE = 27
"""Degree of the polynomial for the error function, accurate to 1e-15."""


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The translation of each operation."""
    aten = torch.ops.aten
    return {aten.searchsorted.Tensor: _searchsorted, aten.gelu.default: _gelu}


def _operations() -> Any:
    """The ONNX operations, as functions."""
    from onnxscript import opset18  # noqa: PLC0415  # optional, and needed here alone

    return opset18


def _searchsorted(ordered: Any, values: Any, right: bool = False, **_: Any) -> Any:
    """Number of ordered values <= each value, (m, K), (m, n) → (m, n), by binary search."""
    op = _operations()
    if not right:
        raise NotImplementedError("Only the search from the right is translated.")
    n_ordered = int(ordered.shape[1])
    step = 1 << max(0, n_ordered.bit_length() - 1)
    size = op.CastLike(op.Constant(value_ints=[n_ordered]), op.Shape(values))
    found = op.Expand(op.Constant(value_ints=[0]), op.Shape(values))
    one = op.Constant(value_ints=[1])
    while step:
        tried = op.Add(found, op.Constant(value_ints=[step]))
        place = op.Sub(op.Min(tried, size), one)
        fits = op.And(op.LessOrEqual(op.GatherElements(ordered, place, axis=1), values), op.LessOrEqual(tried, size))
        found = op.Where(fits, tried, found)
        step //= 2
    return found


def _gelu(x: Any, **_: Any) -> Any:
    """``x · Φ(x)`` in the precision of x; the tanh approximation is not used."""
    op = _operations()
    if x.dtype.name != "DOUBLE":
        half, one, root = (op.CastLike(op.Constant(value_float=value), x) for value in (0.5, 1.0, 2.0**0.5))
        return op.Mul(x, op.Mul(half, op.Add(one, op.Erf(op.Div(x, root)))))
    half, one, zero, root = (op.Constant(value=_scalar(value)) for value in (0.5, 1.0, 0.0, 2.0**0.5))
    tail = op.Mul(half, _complementary_error(op, op.Abs(op.Div(x, root))))
    return op.Mul(x, op.Where(op.Less(x, zero), tail, op.Sub(one, tail)))


def _complementary_error(op: Any, z: Any) -> Any:
    """Erfc of values >= 0 in double precision, by Clenshaw's algorithm."""

    def number(value: float) -> Any:
        return op.Constant(value=_scalar(value))

    share = op.Div(number(2.0), op.Add(number(2.0), z))
    twice = op.Sub(op.Mul(number(4.0), share), number(2.0))
    first, *others = coefficients()
    later, last = number(0.0), number(0.0)
    for coefficient in reversed(others):
        later, last = op.Add(op.Sub(op.Mul(twice, later), last), number(coefficient)), later
    exponent = op.Add(op.Sub(op.Mul(op.Div(twice, number(2.0)), later), last), number(first))
    return op.Mul(share, op.Exp(op.Sub(exponent, op.Mul(z, z))))


def _scalar(value: float) -> Any:
    import onnx_ir as ir  # noqa: PLC0415  # comes with onnxscript

    return ir.tensor(np.array(value, dtype=np.float64))


@cache
def coefficients() -> tuple[float, ...]:
    """Chebyshev coefficients in ``2 t - 1`` of ``log(erfc(z) exp(z²) / t)``, with ``t = 2 / (2 + z)``.

    >>> t = np.linspace(0.05, 1.0, 50)
    >>> z = 2.0 / t - 2.0
    >>> fitted = np.polynomial.chebyshev.chebval(2.0 * t - 1.0, coefficients())
    >>> bool(np.abs(t * np.exp(fitted) - erfcx(z)).max() < 1e-14)
    True
    """
    fitted = np.polynomial.Chebyshev.interpolate(lambda t: np.log(erfcx(2.0 / t - 2.0) / t), DEGREE, domain=[0.0, 1.0])
    return tuple(fitted.coef.tolist())
