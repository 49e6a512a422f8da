"""Members of a user's own are compiled, and learn what autograd says, without a line of the library that knows them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from tests.training import own_members as own
from tests.training.comparing import compare, compiled_engine, general_engine, job, objective, one_step, rows
from torch import Tensor

from isthmus import Autoencoder, Dense, Masking
from isthmus.choices import CODES, PENALTIES, Plain
from isthmus.choices.layers import ACTIVATIONS
from isthmus.training import Adam
from isthmus.training.engines.compiled import engine, refusals
from isthmus.training.engines.compiled.engine import CompiledEngine

pytest.importorskip("isthmus.training.engines.compiled.program", reason="llvmlite is not installed")


@pytest.fixture
def activations(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The activations of one's own under their names, for one test."""
    before = dict(ACTIVATIONS)
    ACTIVATIONS.register("mish")(own.mish)
    ACTIVATIONS.register("hard-swish")(own.hard_swish)
    yield
    ACTIVATIONS.clear()
    ACTIVATIONS.update(before)


@pytest.mark.parametrize("loss", [own.LogCosh(), own.LogCosh(2.0), own.Cauchy()])
def test_losses(loss: Any) -> None:
    compare(objective(loss=loss), rows(11))
    compare(objective(70, loss=loss), rows(11, 70), n_threads=3)


@pytest.mark.usefixtures("activations")
@pytest.mark.parametrize("activation", ["mish", "hard-swish"])
def test_activations(activation: str) -> None:
    compare(objective(activation=activation, code=Plain(activation)), rows(11))


@pytest.mark.parametrize("penalty", [own.LogSparsity(), own.Centred(), [own.LogSparsity(), own.Centred(), "l1"]])
def test_penalties(penalty: Any) -> None:
    compare(objective(penalty=PENALTIES.resolve(penalty), code=Plain("tanh")), rows(11))
    compare(objective(penalty=PENALTIES.resolve(penalty), code_size=17), rows(11))


def test_codes() -> None:
    compare(objective(code=own.Shrunk()), rows(11))
    compare(objective(code=own.Shrunk(0.2), penalty=own.LogSparsity(), loss=own.LogCosh()), rows(11))


@pytest.mark.parametrize("corruption", [own.Inverted(), own.Speckle(), [own.Speckle(), Masking(0.2), own.Inverted()]])
def test_corruptions(corruption: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, x = objective(40, corruption=corruption), rows(7, 40)
    assert engine.draws_compiled(made)
    compiled, general = compiled_engine(made, Adam(epsilon=1.0), 7), general_engine(made, Adam(epsilon=1.0), 7)
    one = one_step(compiled, x, 0.1, seed=0)
    given = damaged(compiled, 7)
    monkeypatch.setattr(general.objective, "corrupt", lambda x, generator: given)
    before = general.flat.values.detach().clone()
    other = one_step(general, x, 0.1)
    torch.testing.assert_close(torch.stack(one), torch.stack(other), rtol=2e-5, atol=1e-6)
    way = float((general.flat.portable(general.flat.values) - general.flat.portable(before)).abs().max())
    ends = [step.flat.portable(step.flat.values) for step in (compiled, general)]
    torch.testing.assert_close(*ends, rtol=1e-6, atol=2e-5 * way)


def damaged(step: CompiledEngine, n_rows: int) -> Tensor:
    """What the encoder was given in the last step."""
    room = step.program.layout.given[0]
    return step._work.as_strided((n_rows, room.size), (room.stride, 1), room.place).clone()


def test_corruptions_do_what_they_say() -> None:
    x = torch.full((200, 333), 0.5)
    for member, wanted in ((own.Inverted(), "exact"), (own.Speckle(0.05), "norm")):
        step = compiled_engine(objective(333, corruption=member), n_rows=200)
        one_step(step, x, 0.0, seed=0)
        found = damaged(step, 200)
        if wanted == "exact":
            assert torch.equal(found, 1.0 - x)
        else:
            assert kstest(((found / x - 1.0) / 0.05).flatten().numpy(), wanted).pvalue > 0.001


OVERRIDING: list[tuple[type[Any], str, Callable[..., Any]]] = [
    (own.LogCosh, "per_feature", lambda self, output, target: (output - target).square()),
    (own.LogCosh, "mean", lambda self, output, target: (output - target).square().mean()),
    (own.LogSparsity, "penalize", lambda self, encoding: encoding.z.sum()),
    (own.Shrunk, "build", lambda self, context: CODES.resolve("plain").build(context)),
]


@pytest.mark.parametrize(("member", "method", "does"), OVERRIDING)
def test_a_formula_does_not_count_where_what_derives_from_it_is_overridden(
    member: type[Any], method: str, does: Callable[..., Any]
) -> None:
    made = type("Other", (member,), {method: does})()
    nouns: dict[type[Any], str] = {own.LogCosh: "loss", own.LogSparsity: "penalty", own.Shrunk: "code"}
    noun = nouns[member]
    assert CompiledEngine.refuses(job(objective(**{noun: member()}))) is None
    assert f"the {noun} Other has no formula" in str(CompiledEngine.refuses(job(objective(**{noun: made}))))


def test_other_parameters_are_another_program() -> None:
    programs = [compiled_engine(objective(loss=own.LogCosh(scale)), n_rows=8).program for scale in (0.5, 0.5, 0.7)]
    assert programs[0] is programs[1]
    assert programs[0] is not programs[2]


@pytest.mark.usefixtures("activations")
def test_a_fit_with_all_of_them_ends_where_it_does_without_the_compiler(
    digits: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: dict[str, Any] = {
        "network": Dense((16,), activation="mish"),
        "loss": own.LogCosh(),
        "penalty": own.LogSparsity(0.01),
        "corruption": own.Inverted(),
        "code": own.Shrunk(),
    }
    ends = []
    for seconds in (0.0, float("inf")):
        monkeypatch.setattr(refusals, "WORTH", seconds)
        ends.append(Autoencoder(4, max_epochs=5, random_state=0, batch_size=100, **chosen).fit(digits))
    np.testing.assert_allclose(ends[0].history_["loss"], ends[1].history_["loss"], rtol=1e-4)
    np.testing.assert_allclose(ends[0].transform(digits), ends[1].transform(digits), atol=0.02)
