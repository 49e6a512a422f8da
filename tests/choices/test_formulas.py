"""The functions of formulas and their rules of differentiation, on tensors and as compiled vectors."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from isthmus.choices import formulas
from isthmus.choices.formulas import Dual, Formula, Function, Numbers, differentiated, settled, summed
from isthmus.choices.layers import ACTIVATIONS, activation_of

FUNCTIONS = {name: each for name, each in vars(formulas).items() if isinstance(each, Function)}
X = torch.cat([torch.linspace(-9, 9, 301), torch.tensor([-80.0, -30.0, -1e-3, 1e-3, 30.0, 80.0])])
POSITIVE = {"log", "sqrt"}


def numbers_for(name: str) -> Tensor:
    """Numbers at which a function is defined."""
    if name == "log_gamma":
        return torch.cat([torch.arange(1.0, 300.0), torch.linspace(1, 4, 100), torch.tensor([1e4, 1e8])])
    return X.abs() + 1e-3 if name in POSITIVE else X


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_rule_of_differentiation_agrees_with_autograd(name: str) -> None:
    function, x = FUNCTIONS[name], numbers_for(name).double().requires_grad_()
    if function.slope is None:
        with pytest.raises(TypeError, match=f"{name} has no derivative here; use it on targets"):
            differentiated(function, x)
        return
    (wanted,) = torch.autograd.grad(function.of_tensor(x).sum(), x)
    found = differentiated(function, x.detach())
    torch.testing.assert_close(formulas.as_numbers(found.slopes[0], x).double(), wanted, rtol=1e-9, atol=1e-12)


def quotient(a: Numbers, b: Numbers) -> Numbers:
    return (2.0 - a * b) / (a - 3.0 / (b * b + 1.0)) - -a + (1.0 + b) * a / 2.0


def bent(a: Numbers, b: Numbers) -> Numbers:
    return formulas.where((a < b) & ~(b > 1.0), formulas.maximum(a, 0.1) * b, formulas.minimum(b, a) - 1.0)


@pytest.mark.parametrize("formula", [quotient, bent])
def test_operators_of_two_variables_agree_with_autograd(formula: Callable[..., Any]) -> None:
    draw = torch.Generator().manual_seed(0)
    a, b = (torch.randn(200, generator=draw, dtype=torch.float64).requires_grad_() for _ in range(2))
    wanted = torch.autograd.grad(formula(a, b).sum(), [a, b])
    found = differentiated(formula, a.detach(), b.detach())
    torch.testing.assert_close(found.value, formula(a, b).detach())
    for one, other in zip(found.slopes, wanted, strict=True):
        torch.testing.assert_close(one, other)


def test_a_tensor_may_stand_on_the_left_of_a_number_with_derivatives() -> None:
    t, x = torch.tensor([2.0, 3.0]), Dual(torch.tensor([1.0, 4.0]), [1.0])
    assert torch.equal((t - x).value, torch.tensor([1.0, -1.0]))
    assert (t * x).slopes[0].tolist() == [2.0, 3.0]
    torch.testing.assert_close((t / x).slopes[0], torch.tensor([-2.0, -3.0 / 16.0]))
    assert (t > x).tolist() == [True, False]


def test_what_is_constant_costs_nothing() -> None:
    assert differentiated(lambda x: x + 3.0, X).slopes == (1.0,)
    assert differentiated(lambda x: 3.0, X).slopes == (0.0,)
    assert differentiated(lambda x, y: x * 2.0 + formulas.exp(y), X, X).slopes[0] == 2.0


@pytest.mark.parametrize("size", [1, 15, 16, 1000])
def test_a_logarithm_may_wait_for_the_sum(size: int) -> None:
    output = torch.randn(3, size, generator=torch.Generator().manual_seed(0)) * 10
    target = torch.rand(3, size, generator=torch.Generator().manual_seed(1))

    def bernoulli(output: Numbers, target: Numbers) -> Numbers:
        return formulas.softplus(output) - target * output

    found = summed(bernoulli, output, given=[target])
    assert isinstance(found.value, formulas.Deferred)
    wanted = bernoulli(output.double(), target.double())
    torch.testing.assert_close(settled(found.value).double().sum(1), wanted.sum(1), rtol=1e-6, atol=1e-5)
    torch.testing.assert_close(settled(found.value).double(), wanted, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.slopes[0], output.sigmoid() - target)

    def twice(output: Numbers, target: Numbers) -> Numbers:
        return 1.0 - (bernoulli(output, target) + formulas.softplus(output * 2.0)) * 3.0

    both = summed(twice, output, given=[target])
    torch.testing.assert_close(
        settled(both.value).double().sum(1), twice(output.double(), target.double()).sum(1), rtol=1e-5, atol=1e-4
    )


def compiled(formula: Callable[..., Any], x: Tensor) -> tuple[Tensor, Tensor]:
    """The value and the slope of a formula as a program works them out."""
    pytest.importorskip("llvmlite")
    from llvmlite import ir  # noqa: PLC0415  # optional

    from isthmus.training.engines.compiled.emitter import POINTER, Emitter  # noqa: PLC0415
    from isthmus.training.engines.compiled.target import Library, processor  # noqa: PLC0415

    module = ir.Module()
    module.triple = processor().triple
    emitter = Emitter(module, "f", [POINTER] * 3, processor())
    given, value, slope = emitter.arguments

    def each(place: Any, count: Any) -> None:
        result = differentiated(formula, emitter.load(emitter.at(given, place), count))
        emitter.store(emitter.vector(result.value), emitter.at(value, place), count)
        emitter.store(emitter.vector(result.slopes[0]), emitter.at(slope, place), count)

    emitter.vectors_of(len(x), each)
    emitter.done()
    library, out = Library(str(module)), torch.empty(2, len(x))
    library.function("f", *[ctypes.c_void_p] * 3)(x.data_ptr(), out[0].data_ptr(), out[1].data_ptr())
    return out[0], out[1]


@pytest.mark.parametrize("name", [name for name, each in FUNCTIONS.items() if each.slope is not None])
def test_every_function_is_compiled_to_the_same_numbers(name: str) -> None:
    x, function = numbers_for(name), FUNCTIONS[name]
    leaf = x.double().requires_grad_()
    wanted = function.of_tensor(leaf)
    (slope,) = torch.autograd.grad(wanted.sum(), leaf)
    found = compiled(function, x)
    torch.testing.assert_close(found[0].double(), wanted.detach(), rtol=2e-6, atol=5e-7)
    torch.testing.assert_close(found[1].double(), slope, rtol=5e-6, atol=1e-6)


def test_the_logarithm_of_the_gamma_function_is_compiled() -> None:
    x = numbers_for("log_gamma")
    found, _ = compiled(lambda z: formulas.log_gamma(z.value), x)
    torch.testing.assert_close(found.double(), torch.lgamma(x.double()), rtol=1e-6, atol=2e-6)


def test_logarithms_at_the_edges_are_what_torch_says() -> None:
    x = torch.tensor([0.0, -1.0, math.nan, math.inf, 1e-40, 1.2e-38, 3e38, 1.0])
    torch.testing.assert_close(compiled(formulas.log, x)[0], x.log(), equal_nan=True, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name not in {"sign", "log_gamma"}])
def test_nan_stays_nan(name: str) -> None:
    assert bool(compiled(FUNCTIONS[name], torch.full((3,), math.nan))[0].isnan().all())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_is_the_layer_of_torch(name: str) -> None:
    activation, x = ACTIVATIONS[name], X.double().requires_grad_()
    layer = activation()
    assert activation_of(layer) == activation
    wanted = layer(x)
    torch.testing.assert_close(activation.function(x), wanted, rtol=1e-7, atol=1e-8)
    (slope,) = torch.autograd.grad(wanted.sum(), x)
    found = differentiated(activation.function, x.detach())
    torch.testing.assert_close(formulas.as_numbers(found.slopes[0], x).double(), slope, rtol=1e-7, atol=1e-8)
    if activation.slope_by_value is not None:
        torch.testing.assert_close(activation.slope_by_value(wanted.detach()), slope, check_dtype=False)


def test_activations_with_other_settings_are_not_taken_for_the_usual_ones() -> None:
    nn = torch.nn
    for layer in (nn.GELU(approximate="tanh"), nn.LeakyReLU(0.3), nn.ELU(2.0), nn.Softplus(beta=2.0), nn.Linear(2, 2)):
        assert activation_of(layer) is None
    assert activation_of(nn.ReLU(inplace=True)) == ACTIVATIONS["relu"]


def test_formulas_are_equal_where_class_and_parameters_are() -> None:
    from isthmus import Huber, MeanSquaredError, Observed  # noqa: PLC0415

    def of(member: Any) -> object:
        return member.formulas(3)

    assert of(Huber(0.5, activation=None)) == of(Huber(0.5, activation=None))
    assert of(Huber(0.5, activation=None)) != of(Huber(0.6, activation=None))
    assert of(Huber(0.5, activation=None)) != of(Huber(0.5, activation="tanh"))
    assert of(Observed(Huber(activation=None))) != of(Observed(MeanSquaredError(activation=None)))
    assert Formula(formulas.key_of(FUNCTIONS), math.sin) != Formula(formulas.key_of(dict(FUNCTIONS)), math.sin)


def test_a_name_of_an_activation_can_be_taken_only_once() -> None:
    with pytest.raises(ValueError, match="The activation name 'relu' is taken; use another"):
        ACTIVATIONS.register("relu")(lambda x: x)
