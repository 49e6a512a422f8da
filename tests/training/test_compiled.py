"""Compiled steps against the general engine, for every activation, loss, optimiser, size and number of threads."""

from __future__ import annotations

import contextlib
import itertools
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from tests.training.comparing import (
    LOSS,
    compare,
    compiled_engine,
    general_engine,
    job,
    objective,
    one_step,
    rows,
    step_chunk,
)
from torch import Tensor

import isthmus
from isthmus import (
    Autoencoder,
    ByColumn,
    Callback,
    Dense,
    DropEntries,
    Gaussian,
    GaussianNoise,
    Masking,
    MeanSquaredError,
    Normal,
    Observed,
    SaltAndPepper,
)
from isthmus.choices import (
    CODES,
    L1,
    PENALTIES,
    Contractive,
    Corruption,
    KLSparsity,
    Plain,
)
from isthmus.choices.layers import ACTIVATIONS
from isthmus.choices.penalties import Encoding
from isthmus.data import as_source
from isthmus.training import SGD, Adam, AdamW, LossParts, Objective
from isthmus.training.batches import ResidentFeed, StreamedFeed
from isthmus.training.engines import Engine, Job, choose_engine
from isthmus.training.engines.compiled import engine, refusals
from isthmus.training.engines.compiled.engine import CompiledEngine

program = pytest.importorskip("isthmus.training.engines.compiled.program", reason="llvmlite is not installed")
passes = pytest.importorskip("isthmus.training.engines.compiled.passes")


class Louder(L1):
    """A member made from another, whose formula is not its own."""

    def penalize(self, encoding: Encoding) -> Tensor:
        return 2.0 * super().penalize(encoding)


class Fainter(GaussianNoise):
    """The same of a corruption."""

    def corrupt(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        return 0.5 * super().corrupt(x, generator)


MACHINES = {"widest": {}, "eight": {"width": 8, "rows": 4}, "four": {"width": 4, "rows": 8}}


@pytest.fixture(params=MACHINES)
def each_processor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs as they are written for processors with narrower registers, too."""
    narrow = program.processor()._replace(**MACHINES[request.param])
    monkeypatch.setattr(program, "processor", lambda: narrow)
    program.program_for.cache_clear()


@pytest.mark.usefixtures("each_processor")
@pytest.mark.parametrize("loss", LOSS)
def test_every_loss(loss: str) -> None:
    compare(objective(loss=loss), rows(11))


@pytest.mark.usefixtures("each_processor")
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS])
def test_every_activation(activation: str | None) -> None:
    compare(objective(activation=activation, code=Plain(activation)), rows(11))


@pytest.mark.usefixtures("each_processor")
@pytest.mark.parametrize(("n_features", "sizes", "code_size"), [(1, (), 1), (16, (40,), 2), (67, (5, 33), 17)])
def test_every_size(n_features: int, sizes: tuple[int, ...], code_size: int) -> None:
    compare(objective(n_features, sizes, code_size), rows(16, n_features))


@pytest.mark.parametrize(
    "loss", [MeanSquaredError(activation=None), "binary-cross-entropy", Normal(), LOSS["by column"]]
)
def test_missing_entries_do_not_count(loss: Any) -> None:
    x = rows(11)
    holes = torch.where(torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.3, torch.nan, x)
    holes[0] = torch.nan  # the last step has nothing to learn from
    compare(objective(loss=Observed(loss)), holes)
    table = ByColumn(((Observed(loss), 20), ("mean-squared-error", 3)))
    if loss is not LOSS["by column"]:
        compare(objective(23, loss=table), torch.cat([holes, rows(11, 3)], dim=1))


def test_a_mean_over_observed_entries_is_taken_step_by_step() -> None:
    made, x = objective(loss="observed"), rows(40)
    x[torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.3] = torch.nan
    one, other = (compiled_engine(made, n_rows=16) for _ in range(2))
    order = torch.arange(40).flip(0)[:32]
    at_once = one.take(step_chunk(x, order, [0.01, 0.02]))
    single = [
        one_step(other, x[part], rate).reconstruction for part, rate in zip(order.split(16), [0.01, 0.02], strict=True)
    ]
    torch.testing.assert_close(at_once[:, 1], torch.stack(single))


@pytest.mark.parametrize("optimizer", [Adam(beta1=0.5, epsilon=1.0), AdamW(0.3, beta2=0.9, epsilon=1.0)])
def test_every_optimiser(optimizer: Any) -> None:
    compare(objective(), rows(6), optimizer)


@pytest.mark.parametrize("penalty", ["l1", "l2", ["l1", "l2"]])
def test_every_penalty_of_single_numbers(penalty: Any) -> None:
    compare(objective(penalty=PENALTIES.resolve(penalty), code=Plain("tanh")), rows(11))
    compare(objective(penalty=PENALTIES.resolve(penalty), code_size=17), rows(11))


@pytest.mark.usefixtures("each_processor")
@pytest.mark.parametrize("activation", ["sigmoid", "tanh", "relu", None])
@pytest.mark.parametrize("code_size", [3, 40])
def test_contraction(activation: str | None, code_size: int) -> None:
    code = Plain(activation)
    compare(objective(sizes=(), code_size=code_size, code=code, penalty=Contractive(0.3)), rows(11))


@pytest.mark.usefixtures("each_processor")
@pytest.mark.parametrize("code_size", [3, 40])
def test_sparsity_of_rates(code_size: int) -> None:
    code = Plain("sigmoid")
    compare(objective(code_size=code_size, code=code, penalty=KLSparsity(0.1, weight=0.7)), rows(11))
    both = PENALTIES.resolve([KLSparsity(0.3, weight=0.2), "l2", Contractive(0.1), "l1"])
    compare(objective(sizes=(), code_size=code_size, code=code, penalty=both), rows(24), n_threads=3)


def test_rows_wider_than_a_logarithm_may_wait() -> None:
    compare(objective(16 * passes.LOGARITHM_EVERY + 5), rows(4, 16 * passes.LOGARITHM_EVERY + 5))


def test_threads_change_nothing() -> None:
    made, ends = objective(300, (120, 40)), []
    x = rows(50, 300)
    for n_threads in (1, 2, 3, 4):
        step = compiled_engine(made, n_rows=16)
        step.operations = 1e9  # so that it is worth the threads
        before = torch.get_num_threads()
        torch.set_num_threads(n_threads)
        losses = step.take(step_chunk(x, torch.arange(48), [0.01] * 3))
        torch.set_num_threads(before)
        ends.append((losses, step.flat.values.detach().clone()))
    for losses, values in ends[1:]:
        assert torch.equal(losses, ends[0][0])
        assert torch.equal(values, ends[0][1])


def test_the_number_of_threads_may_change_between_steps() -> None:
    step, x = compiled_engine(objective(), n_rows=16), rows(16)
    step.operations = 1e9
    before = torch.get_num_threads()
    for n_threads in (1, 2, 5, 3, 9):
        torch.set_num_threads(n_threads)
        assert bool(step.take(step_chunk(x, torch.arange(16), [0.01])).isfinite().all())
    torch.set_num_threads(before)


def test_many_steps_at_once_are_the_same_steps() -> None:
    made, x = objective(), rows(50)
    order, rates = torch.randperm(50, generator=torch.Generator().manual_seed(0))[:48], [0.01, 0.02, 0.03]
    one, other = (compiled_engine(made, AdamW(), 16) for _ in range(2))
    at_once = one.take(step_chunk(x, order, rates))
    single = [other.take(step_chunk(x, part, [rate]))[0] for part, rate in zip(order.split(16), rates, strict=True)]
    assert torch.equal(at_once, torch.stack(single))
    assert torch.equal(one.flat.values, other.flat.values)


def room(step: CompiledEngine, name: Any, n_rows: int) -> Tensor:
    """What lies in the first rows of a room of a program's memory."""
    return step._work.as_strided((n_rows, name.size), (name.stride, 1), name.place).clone()


def layout(step: CompiledEngine) -> Any:
    """Where a program's memory has what."""
    return step.program.layout


def damaged(corruption: Any, x: Tensor, seed: int = 0) -> Tensor:
    """What a program makes of rows."""
    step = compiled_engine(objective(x.shape[1], corruption=corruption), n_rows=len(x))
    one_step(step, x, 0.0, seed)
    return room(step, layout(step).given[0], len(x))


@pytest.mark.usefixtures("each_processor")
def test_noise_is_normal_and_of_its_own_for_every_number() -> None:
    x = torch.full((200, 333), 0.5)
    noise = (damaged(GaussianNoise(0.3, clip=False), x) - x) / 0.3
    assert kstest(noise.flatten().numpy(), "norm").pvalue > 0.001
    for lag in range(1, 70):  # what is drawn together is independent
        assert abs(float((noise[:, lag:] * noise[:, :-lag]).mean())) < 4 / np.sqrt(noise[:, lag:].numel())
    assert abs(float((noise[1:] * noise[:-1]).mean())) < 4 / np.sqrt(noise.numel())
    assert float(noise.square()[:, 1:].flatten().dot(noise.square()[:, :-1].flatten()) / noise[:, 1:].numel()) < 1.05
    assert len(noise.unique()) > 0.99 * noise.numel()
    other = (damaged(GaussianNoise(0.3, clip=False), x, seed=1) - x) / 0.3
    assert abs(float((noise * other).mean())) < 4 / np.sqrt(noise.numel())


def test_every_damage_is_what_the_choice_says() -> None:
    x = torch.rand(300, 400, generator=torch.Generator().manual_seed(3)) * 0.8 + 0.1
    masked = damaged(Masking(0.3), x)
    assert abs(float((masked == 0).double().mean()) - 0.3) < 0.006
    assert torch.equal(masked[masked != 0], x[masked != 0])
    dropped = damaged(DropEntries(0.25), x)
    assert abs(float((dropped == 0).double().mean()) - 0.25) < 0.006
    torch.testing.assert_close(dropped[dropped != 0], x[dropped != 0] / 0.75)
    peppered = damaged(SaltAndPepper(0.2, low=-1.0, high=2.0), x)
    for value in (-1.0, 2.0):
        assert abs(float((peppered == value).double().mean()) - 0.1) < 0.004
    assert bool(((peppered == x) | (peppered == -1) | (peppered == 2)).all())
    clipped = damaged(GaussianNoise(0.5, clip=True), x)
    assert (float(clipped.min()), float(clipped.max())) == (0.0, 1.0)
    both = damaged([GaussianNoise(0.1), Masking(0.5)], x)
    assert abs(float((both == 0).double().mean()) - 0.5) < 0.01
    assert 0.05 < float((both - x)[both != 0].std()) < 0.12


@pytest.mark.usefixtures("each_processor")
@pytest.mark.parametrize("code", [Plain("relu"), Gaussian(), Gaussian(beta=3.0, warm_up=0.5)])
@pytest.mark.parametrize("code_size", [3, 70])
def test_what_is_drawn_is_what_is_learned_from(code: Any, code_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    made, x = objective(40, code_size=code_size, code=code, corruption=GaussianNoise(0.2)), rows(7, 40)
    compiled, general = compiled_engine(made, Adam(epsilon=1.0), 7), general_engine(made, Adam(epsilon=1.0), 7)
    one = one_step(compiled, x, 0.1, seed=0, progress=0.25)
    given = room(compiled, layout(compiled).given[0], 7)
    if isinstance(code, Gaussian):
        noise = room(compiled, layout(compiled).coding["noise"], 7)
        monkeypatch.setattr("isthmus.choices.codes.draw_noise", lambda like, generator: noise)
    monkeypatch.setattr(general.objective, "corrupt", lambda x, generator: given)
    start = general.flat.values.detach().clone()
    other = one_step(general, x, 0.1, progress=0.25)
    torch.testing.assert_close(torch.stack(one), torch.stack(other), rtol=2e-5, atol=1e-6)
    after, wanted = (step.flat.portable(step.flat.values) for step in (compiled, general))
    way = float((wanted - start).abs().max())
    torch.testing.assert_close(after, wanted, rtol=1e-6, atol=3e-5 * way)


def test_what_is_drawn_depends_on_no_thread_and_on_no_callback(digits: np.ndarray, monkeypatch: Any) -> None:
    monkeypatch.setattr(refusals, "WORTH", 0.0)
    monkeypatch.setattr(engine, "OPERATIONS_PER_THREAD", 1e3)
    chosen: dict[str, Any] = {
        "code": Gaussian(warm_up=0.3),
        "corruption": "masking",
        "max_epochs": 2,
        "random_state": 0,
    }
    codes, before = [], torch.get_num_threads()
    for n_threads, callbacks in ((1, []), (3, []), (2, [EveryStep()])):
        torch.set_num_threads(n_threads)
        monkeypatch.setattr("isthmus.training.loop.threads_for", lambda work: contextlib.nullcontext())
        codes.append(Autoencoder(4, callbacks=callbacks, **chosen).fit(digits).transform(digits))
    torch.set_num_threads(before)
    np.testing.assert_allclose(codes[1], codes[0], atol=1e-6)
    np.testing.assert_allclose(codes[2], codes[0], atol=1e-6)


def test_what_is_no_number_is_not_lost() -> None:
    for loss, activation in zip(LOSS, itertools.cycle(ACTIVATIONS), strict=False):
        x = rows(9)
        x[4, 7] = torch.nan
        step = compiled_engine(objective(loss=loss, activation=activation), n_rows=9)
        assert bool(one_step(step, x, 0.01).total.isnan())


def test_silent_units_leave_nothing_denormal() -> None:
    step = compiled_engine(objective(), n_rows=8)
    step.state["exp_avg"].fill_(2e-38)
    step.state["exp_avg_sq"].fill_(2e-38)
    one_step(step, torch.zeros(8, 20), 0.0)
    for name in ("exp_avg", "exp_avg_sq"):
        means = step.state[name].abs()
        assert float(means[means > 0].min()) > 1e-31


def taken_by(asked: Job) -> tuple[Engine, str]:
    """The engine that takes a job, and why the compiled one refused, "" where it did not."""
    taken, choice = choose_engine(asked)
    assert choice.name == taken.name
    return taken, choice.refused.get("compiled", "")


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ({"penalty": Contractive()}, "the penalty Contractive has no formula for this network and code"),
        ({"penalty": Louder()}, "the penalty Louder has no formula for this network and code"),
        ({"penalty": L1(), "code_size": 1}, "a code of one number has a penalty"),
        ({"code": Gaussian(free_bits=0.1)}, "the code Gaussian has no formula with these parameters"),
        ({"code": Gaussian(n_samples=5)}, "the code Gaussian has no formula with these parameters"),
        ({"code": CODES.resolve("top-k")}, "the code TopK has no formula with these parameters"),
        ({"loss": "multinomial"}, "the loss Multinomial has no formula of single numbers"),
        ({"network": Dense((6,), tied=True)}, "the network is not linear layers with a bias"),
    ],
)
def test_the_general_engine_takes_the_rest_and_the_reason_is_said(chosen: dict[str, Any], reason: str) -> None:
    taken, said = taken_by(job(objective(**chosen), n_rows=8))
    assert taken.name == "general"
    assert said.startswith(reason)


def test_the_reason_may_lie_outside_the_choices(monkeypatch: pytest.MonkeyPatch) -> None:
    def said(**changed: Any) -> str:
        return taken_by(job(objective(), n_rows=8)._replace(**changed))[1]

    assert said() == ""
    assert said(optimizer=Adam(clip_norm=1.0)) == "gradients are clipped (clip_norm)"
    assert said(optimizer=SGD()) == "the optimizer is SGD, and Adam and AdamW are compiled"
    assert said(n_steps=10) == "a run of 10 steps gains less than compiling takes"
    assert said(precision="bf16") == "precision='bf16', and compiled steps compute in float32"
    assert said(objective=Another(objective())) == "Another is a custom objective"
    frozen = objective()
    frozen.encoder.requires_grad_(requires_grad=False)
    assert said(objective=frozen) == "some weights are frozen"
    monkeypatch.setenv("ISTHMUS_COMPILE", "0")
    assert said() == "the environment variable ISTHMUS_COMPILE=0 turns it off"


class Another(Objective):
    """What a task trains."""

    def __init__(self, like: Objective) -> None:
        super().__init__(like.choices, like.context)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> LossParts:
        return super().forward(2.0 * x, generator)


def test_forward_hooks_see_every_layer_in_training() -> None:
    made, seen = objective(), []
    made.encoder[0].register_forward_hook(lambda *given: seen.append(given))  # type: ignore[index]
    taken, reason = taken_by(job(made, n_rows=8))
    assert reason == "a layer has a hook, which needs the layer's own call"
    one_step(taken, rows(8), 0.1)
    assert len(seen) == 1


def test_an_llvm_that_does_not_work_is_reported_once_and_done_without(monkeypatch: pytest.MonkeyPatch) -> None:
    engine._works.cache_clear()
    monkeypatch.setattr(engine, "NOTHING", "this is no program")
    with pytest.warns(isthmus.IsthmusWarning, match="Steps are not compiled, .* LLVM does not work here"):
        assert taken_by(job(objective(), n_rows=8))[1] == "LLVM does not work here"
    assert taken_by(job(objective(), n_rows=8))[1] == "LLVM does not work here"
    engine._works.cache_clear()


def test_what_is_made_from_a_member_is_not_taken_for_it() -> None:
    assert engine.draws_compiled(objective(corruption=GaussianNoise()))
    assert not engine.draws_compiled(objective(corruption=Fainter()))
    assert CompiledEngine.refuses(job(objective(penalty=L1()))) is None


def test_an_engine_that_refuses_is_passed_over_in_order() -> None:
    class First(CompiledEngine):
        name = "first"

        @classmethod
        def refuses(cls, job: Job) -> str | None:
            return "it never works"

    _, choice = choose_engine(job(objective(), n_rows=8), (First, CompiledEngine))
    assert (choice.name, choice.refused) == ("compiled", {"first": "it never works"})
    with pytest.raises(RuntimeError, match=r"No engine takes this run: \{'first': 'it never works'\}"):
        choose_engine(job(objective(), n_rows=8), (First,))


def test_compiled_steps_need_no_kernel_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    made, x = objective(), rows(9)
    ends = []
    for kernel in (Adam.kernel, "_no_such_kernel"):
        monkeypatch.setattr(Adam, "kernel", kernel)
        step = compiled_engine(made, n_rows=9)
        one_step(step, x, 0.1)
        ends.append((step.flat.values.detach().clone(), step.state["exp_avg"].clone()))
    assert all(torch.equal(*pair) for pair in zip(*ends, strict=True))


def test_llvm_is_not_loaded_for_what_cannot_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "reason_unavailable", lambda: pytest.fail("asked whether LLVM works"))
    assert CompiledEngine.refuses(job(objective(loss="multinomial"))) is not None
    assert CompiledEngine.refuses(job(objective())._replace(n_steps=10)) is not None


def test_very_large_products_are_left_to_the_libraries() -> None:
    reason = CompiledEngine.refuses(job(objective(2000, (1000,)), n_rows=1000))
    assert reason == "its products are so large that libraries of matrix products are faster"


class EveryStep(Callback):
    """Counts steps, one at a time."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_step_end(self, run: Any) -> None:
        self.steps.append(run.step)


class Halved(Corruption):
    """A damage of which the compiler knows nothing."""

    def corrupt(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        return x * 0.5


@pytest.mark.parametrize("chosen", [{}, {"corruption": Halved()}, {"callbacks": [EveryStep()]}])
def test_a_fit_ends_where_it_does_without(
    digits: np.ndarray, monkeypatch: pytest.MonkeyPatch, chosen: dict[str, Any]
) -> None:
    ends, settings = {}, {"max_epochs": 5, "random_state": 0, "batch_size": 100} | chosen
    for seconds in (0.0, float("inf")):
        monkeypatch.setattr(refusals, "WORTH", seconds)
        ends[seconds] = Autoencoder(4, **settings).fit(digits)
    compiled, general = ends.values()
    np.testing.assert_allclose(compiled.history_["loss"], general.history_["loss"], rtol=1e-4)
    np.testing.assert_allclose(compiled.transform(digits), general.transform(digits), atol=0.02)
    if "callbacks" in chosen:
        assert chosen["callbacks"][0].steps == 2 * list(range(1, 5 * 3 + 1))


@pytest.mark.parametrize("batch_size", [7, 64, 500])
def test_windows_hold_the_batches(digits: np.ndarray, batch_size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isthmus.training.batches.WINDOW_BYTES", 4 * 64 * 100)
    source = as_source(digits)
    feeds = [
        StreamedFeed(source, np.arange(10, 290), torch.from_numpy, batch_size),
        ResidentFeed(torch.from_numpy(digits), batch_size),
    ]
    for feed in feeds:
        batches = [batch.clone() for batch in feed.shuffled(torch.Generator().manual_seed(0))]
        windows = [rows[order] for rows, order in feed.windows(torch.Generator().manual_seed(0))]
        assert torch.equal(torch.cat(batches), torch.cat(windows))
        assert all(len(window) % batch_size == 0 for window in windows[:-1])


def test_streamed_rows_are_learned_from_alike(digits: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "WORTH", 0.0)
    monkeypatch.setattr("isthmus.training.batches.WINDOW_BYTES", 4 * 64 * 100)
    monkeypatch.setattr("isthmus.data.ArraySource.fits_in_memory", False)
    compiled = Autoencoder(4, max_epochs=3, batch_size=30, random_state=0).fit(digits)
    monkeypatch.setattr(refusals, "WORTH", float("inf"))
    general = Autoencoder(4, max_epochs=3, batch_size=30, random_state=0).fit(digits)
    np.testing.assert_allclose(compiled.history_["loss"], general.history_["loss"], rtol=1e-4)
