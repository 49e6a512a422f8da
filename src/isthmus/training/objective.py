"""The objective combines the five choices: it turns a batch into a loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, Self

import torch
from torch import Tensor, nn

from isthmus.choices.codes import Code, Coded, CodeModule, GaussianModule, Plain
from isthmus.choices.corruptions import Corruption
from isthmus.choices.draws import drawn_from, may_draw
from isthmus.choices.formulas import inherits
from isthmus.choices.losses import Loss
from isthmus.choices.modules import copied
from isthmus.choices.networks import Network, Pair
from isthmus.choices.penalties import Encoding, Penalty
from isthmus.choices.registry import Choice, Context
from isthmus.training.onednn import through


class LossParts(NamedTuple):
    """The loss of a batch and its parts, four scalars: ``total = reconstruction + penalty + prior``."""

    total: Tensor
    reconstruction: Tensor
    """The loss, mean over rows and features."""
    penalty: Tensor
    """The penalty times its weight."""
    prior: Tensor
    """The divergence of the code from its prior, in nats per row, divided by the number of features as the loss is."""


@dataclass(frozen=True)
class Choices:
    """The five choices of one autoencoder."""

    network: Network
    code: Code
    loss: Loss
    corruption: Corruption | None = None
    penalty: Penalty | None = None

    def members(self) -> tuple[Choice, ...]:
        """The choices that are not None."""
        made = (self.network, self.code, self.corruption, self.penalty, self.loss)
        return tuple(choice for choice in made if choice is not None)

    def mistakes(self, context: Context) -> list[str]:
        """All faults of the resolved choices for these data, of each alone and of their combination."""
        conflicts = self.penalty.conflicts(self.code) if self.penalty is not None else []
        widths = self.code.width(context.code_size), self.loss.output_width(context.output.n_features)
        conflicts += self.network.conflicts(context, code_width=widths[0], output_width=widths[1])
        own = [text for choice in self.members() if choice is not self.loss for text in choice.mistakes(context)]
        of_loss = self.loss.mistakes(context.output)
        if context.target is not None:
            of_loss = [text.replace("the scaled data", "the scaled target") for text in of_loss]
        return [*own, *of_loss, *conflicts]

    def resolve(self, context: Context) -> Choices:
        """The same choices with every ``"auto"`` replaced by its value for these data."""
        return Choices(
            network=self.network.resolve(context),
            code=self.code.resolve(context),
            loss=self.loss.resolve(context.output),
            corruption=self.corruption and self.corruption.resolve(context),
            penalty=self.penalty and self.penalty.resolve(context),
        )


class Trainable(Protocol):
    """The interface between the training loop and the model; `Objective` implements it, and tasks derive from that.

    The loop calls it on batches, updates its parameters, saves and restores its buffers, and switches it between
    training and inference mode. A row of a batch may contain more than the input of the network, such as a target or a
    label: `row_width` counts all of it, and `given_and_target` splits it.

    The compiled engine also needs ``choices``, ``context``, ``encoder``, ``code`` and ``decoder``. It is used only if
    `follows_choices` is true, which states that the loss depends on nothing else.
    """

    training: bool
    code: CodeModule
    """It states whether training changes during the run (`anneals`), and receives the run's `progress`."""

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> LossParts:
        """The loss of a batch of rows, (n, row_width), differentiable; random numbers come from `generator`."""

    @property
    def row_width(self) -> int:
        """The number of values in one row of a batch."""

    @property
    def follows_choices(self) -> bool:
        """Whether the five choices define the loss completely, so that an engine may compute it itself."""

    def given_and_target(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The input of the network before corruption, and the target of its output."""

    def draws_unseen(self) -> bool:
        """Whether a call may draw random numbers from another generator than its argument."""

    def waits_for_host(self) -> bool:
        """Whether a call computes on the CPU on every device, so that it cannot be captured as a CUDA graph."""

    def rate_factors(self) -> Mapping[nn.Parameter, float]:
        """What to multiply the learning rate of some parameters by; only where `follows_choices` is false."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """The parameters that are trained."""

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """Tensors that are not trained but are saved with the best weights, such as running means."""

    def modules(self) -> Iterator[nn.Module]:
        """All layers."""

    def train(self, mode: bool = True) -> Self:
        """Switch to training or inference mode."""

    def eval(self) -> Self:
        """Switch to inference mode."""


class Objective(nn.Module):
    """Encoder, code and decoder with their loss.

    If the context has a target, the model is trained on pairs: a row of a batch is ``[x | conditions | target]``. A
    task that makes its target from the input (hidden cells, labels) derives from this class, overrides
    `given_and_target` and `row_width`, and passes the networks. Every engine that supports its choices can train it.

    ::

        x ─▶ corruption ─▶ encoder ─▶ code ─▶ decoder ─▶ output ◀── loss ──▶ x, or its target
                                       └─ penalty, prior

    Parameters
    ----------
    choices
        The five choices, resolved.
    context
        Shapes and range of the data.
    networks, code
        Existing modules to train; None: new ones according to the choices.
    generator
        The random generator for the weights of new networks and of a new code.
    """

    def __init__(
        self,
        choices: Choices,
        context: Context,
        *,
        networks: Pair | None = None,
        code: CodeModule | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.choices, self.context = choices, context
        # in a list, so that torch does not register it as a submodule
        self._double: list[tuple[list[object], Objective]] = []
        self.encoder, self.decoder = networks or choices.network.suit(
            choices.network.build(
                context,
                code_width=choices.code.width(context.code_size),
                output_width=choices.loss.output_width(context.output.n_features),
                generator=generator,
            ),
            choices.loss,
            context.output,
        )
        with drawn_from(generator):  # `Code.build` takes no generator
            self.code = code or choices.code.build(context)

    def forward(self, x: Tensor, generator: torch.Generator | None = None) -> LossParts:
        """The loss of a batch of scaled rows, (n, row_width)."""
        given, target = self.given_and_target(x)
        _, conditions = self.split(given)
        given = self.corrupt(self.filled(given), generator)
        if self._differentiates_input:
            given = given.detach().requires_grad_()
        coded: Coded = self.code(self.encoder(given), generator)
        output = through(self.decoder, _joined(coded.z, conditions))
        penalty = self._penalty(given, coded.z[: len(x)], generator)
        if len(coded.z) > len(x):
            reconstruction, prior = self._importance_weighted(output, coded, target)
        else:
            reconstruction = self.choices.loss.mean(output, target)
            prior = self._zero(x) if coded.prior is None else coded.prior.mean() / self.n_terms
        return LossParts(reconstruction + penalty + prior, reconstruction, penalty, prior)

    def filled(self, x: Tensor) -> Tensor:
        """The rows with zeros instead of missing entries, if the loss admits missing entries."""
        return x.nan_to_num() if self.choices.loss.admits_missing else x

    def given_and_target(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The input of the network before corruption, and the target of its output.

        (n, row_width) → (n, d + conditions), (n, t), where t is d without a target. `filled` fills missing entries
        later.
        """
        if self.context.target is None:
            return x, self.split(x)[0]
        return x[:, : self.context.encoder_width], x[:, self.context.encoder_width :]

    @property
    def follows_choices(self) -> bool:
        """Whether the choices define the loss completely, so that an engine may compute it itself."""
        return inherits(self, Objective, "forward", "filled", "corrupt", "encode", "decode", "split", "rate_factors")

    def rate_factors(self) -> Mapping[nn.Parameter, float]:
        """What to multiply the learning rate of some parameters by; of all others it is the rate of the run."""
        return {}

    def draws_unseen(self) -> bool:
        """Whether a forward pass may draw random numbers from another generator than its argument."""
        foreign = (choice for choice in _flattened(self.choices.members()) if not _is_ours(choice))
        return next(foreign, None) is not None or may_draw(self.modules())

    def waits_for_host(self) -> bool:
        """Whether a corruption computes on the CPU on every device, so that steps cannot be captured as CUDA graphs."""
        return self.choices.corruption is not None and self.choices.corruption.works_on_host

    @property
    def row_width(self) -> int:
        """The number of values in one row of a batch: features, conditions, and the target if there is one."""
        target = self.context.target
        return self.context.encoder_width + (0 if target is None else target.n_features)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rows and their conditions: (n, d + conditions) → (n, d), (n, conditions) or None."""
        if not self.context.n_conditions:
            return x, None
        return x[:, : self.context.n_features], x[:, self.context.n_features :]

    @property
    def _differentiates_input(self) -> bool:
        """Whether the penalty can differentiate the codes of the batch with respect to the input."""
        penalty, code = self.choices.penalty, self.choices.code
        alone = not self.context.n_conditions and isinstance(code, Plain)
        return (
            torch.is_grad_enabled() and alone and penalty is not None and penalty.needs_derivative(self.encoder, code)
        )

    def _penalty(self, given: Tensor, z: Tensor, generator: torch.Generator | None) -> Tensor:
        if self.choices.penalty is None:
            return self._zero(given)
        x, conditions = self.split(given)

        def encode(rows: Tensor) -> Tensor:
            return self.encode(_joined(rows, conditions))

        activation = getattr(self.choices.code, "activation", None)
        known = self._differentiates_input
        return self.choices.penalty.penalize(Encoding(x, z, encode, self.encoder, activation, generator, known))

    def _importance_weighted(self, output: Tensor, coded: Coded, x: Tensor) -> tuple[Tensor, Tensor]:
        """The reconstruction loss, and the rest of the importance-weighted bound (Burda et al. 2016, eq. 8)."""
        rows, log_weights = self._weigh(output, coded, x)
        bound = (torch.logsumexp(log_weights, 0) - math.log(len(log_weights))).mean() / self.n_terms
        reconstruction = rows.mean() / self.n_terms
        return reconstruction, -bound - reconstruction

    def _weigh(self, output: Tensor, coded: Coded, x: Tensor) -> tuple[Tensor, Tensor]:
        """The loss of every sample of every row, summed over features, and its log importance weight, (samples, n)."""
        n_samples = len(output) // len(x)
        rows = self.choices.loss.per_feature(output, x.repeat(n_samples, 1)).sum(dim=1)
        assert coded.prior is not None  # a code that draws several samples has one
        return rows, -(rows + coded.prior).view(n_samples, len(x))

    @property
    def n_terms(self) -> int:
        """The number by which the nats of a row are divided; the loss of its features is divided by the same."""
        return self.choices.loss.n_terms(self.context.output.n_features)

    @staticmethod
    def _zero(x: Tensor) -> Tensor:
        return x.new_zeros(())

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Means and log-variances of a Gaussian code: (n, d) → (n, code) each."""
        assert isinstance(self.code, GaussianModule)
        return self.code.posterior(self.encoder(self.filled(x)))

    def log_weights(self, x: Tensor, n_samples: int, generator: torch.Generator | None) -> Tensor:
        """``log p(t, z) / q(z | x)`` for codes drawn from a Gaussian code's posterior: (n, row_width) → (n_samples, n).

        The target t is x itself, or the target of a pair.
        """
        given, target = self.given_and_target(x)
        _, conditions = self.split(given)
        assert isinstance(self.code, GaussianModule)
        coded = self.code.draw(self.encoder(self.filled(given)), n_samples, generator)
        return self._weigh(self.decoder(_joined(coded.z, conditions)), coded, target)[1]

    def corrupt(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """The encoder's input in training: (n, d) → (n, d); conditions are not corrupted."""
        if self.choices.corruption is None:
            return x
        target, conditions = self.split(x)
        shaped = target.reshape(len(x), *self.context.feature_shape)
        return _joined(self.choices.corruption.corrupt(shaped, generator).reshape(len(x), -1), conditions)

    def encode(self, x: Tensor) -> Tensor:
        """Deterministic codes: (n, d) → (n, code)."""
        return self.code.deterministic(through(self.encoder, self.filled(x)))

    def decode(self, z: Tensor) -> Tensor:
        """Reconstructions in scaled units: (n, code) → (n, d)."""
        return self.choices.loss.link(through(self.decoder, z))

    def reconstruct(self, x: Tensor) -> Tensor:
        """Deterministic reconstructions of uncorrupted rows: (n, d + conditions) → (n, t)."""
        return self.decode(_joined(self.encode(x), self.split(x)[1]))

    def as_dtype(self, dtype: torch.dtype) -> Objective:
        """The objective in single or double precision, with the current weights.

        The copy in double precision is cached. Its numbers are copied again at every call (0.1 ms for 200,000 numbers),
        because changes of weights through ``.data`` cannot be detected. A new copy is made if a layer or a hook was
        replaced.
        """
        if dtype != torch.float64:
            return self
        structure = _structure(self)
        if not self._double or self._double[0][0] != structure:
            with torch.inference_mode(mode=False):
                (double,) = copied(self)
                self._double = [(structure, double.double().requires_grad_(requires_grad=False))]  # type: ignore[list-item]
        made = self._double[0][1]
        with torch.no_grad():
            for mine, theirs in zip(_tensors(self), _tensors(made), strict=True):
                theirs.copy_(mine)
        return made

    def train(self, mode: bool = True) -> Self:
        """Switch to training or inference mode; the cached copy in double precision becomes outdated and is dropped."""
        self._double = []
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_double": []}

    def row_losses(self, x: Tensor) -> Tensor:
        """The loss of each row without corruption, mean over features: (n, row_width) → (n,).

        It is infinite for rows outside the support of the loss, where the formula may give lower values than inside.
        """
        given, target = self.given_and_target(x)
        _, conditions = self.split(given)
        losses = self.choices.loss.per_row(through(self.decoder, _joined(self.encode(given), conditions)), target)
        return torch.where(self.supported(x), losses, math.inf)

    def supported(self, x: Tensor) -> Tensor:
        """Whether the target of each row lies in the support of the loss: (n, row_width) → (n,)."""
        return self.choices.loss.supports(self.given_and_target(x)[1]).all(dim=1)


def _flattened(choices: Iterable[Any]) -> Iterator[Choice]:
    """Choices and their nested choices (sums, chains)."""
    for choice in choices:
        if isinstance(choice, Choice):
            yield choice
            yield from _flattened(choice.get_params(deep=False).values())
        elif isinstance(choice, list | tuple):
            yield from _flattened(choice)


def _is_ours(choice: Choice) -> bool:
    return type(choice).__module__.startswith("isthmus.")


def _joined(rows: Tensor, conditions: Tensor | None) -> Tensor:
    """Rows or codes followed by their conditions, which are repeated if a row has several samples."""
    if conditions is None:
        return rows
    return torch.cat([rows, conditions.repeat(rows.shape[0] // conditions.shape[0], 1)], dim=1)


def _structure(module: nn.Module) -> list[object]:
    """The layers of a network and their hooks."""
    return [
        each
        for part in module.modules()
        for each in (part, *part._forward_hooks.values(), *part._forward_pre_hooks.values())  # noqa: SLF001  # torch has no public way
    ]


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def count_parameters(module: nn.Module) -> int:
    """The number of parameters of a module; shared ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def count_multiplications(objective: Objective) -> int:
    """The number of multiplications per row in the layers that have a weight matrix."""
    counts: list[int] = []

    def note(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        transposed = isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d)
        counts.append((given[0] if transposed else output).numel() * weight.numel() // len(weight))

    weighty = [
        layer
        for layer in objective.modules()
        if getattr(getattr(layer, "weight", None), "dim", int)() >= 2 and not isinstance(layer, torch.jit.ScriptModule)
    ]  # scripted layers take no hooks
    hooks = [layer.register_forward_hook(note) for layer in weighty]
    parameter = next(objective.parameters())
    was_training = objective.training
    objective.eval()(parameter.new_zeros(1, objective.row_width), torch.Generator(parameter.device).manual_seed(0))
    objective.train(was_training)
    for hook in hooks:
        hook.remove()
    return sum(counts)
