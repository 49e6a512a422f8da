"""The objective: the one place where the five choices meet."""

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
    """What a batch costs, and why: four scalars, ``total = reconstruction + penalty + prior``."""

    total: Tensor
    reconstruction: Tensor
    """The loss, mean over rows and features."""
    penalty: Tensor
    """The penalty, weight included."""
    prior: Tensor
    """The code's prior, nats a row divided by the number of features, so that the total is in one unit."""


@dataclass(frozen=True)
class Choices:
    """The five choices of one autoencoder."""

    network: Network
    code: Code
    loss: Loss
    corruption: Corruption | None = None
    penalty: Penalty | None = None

    def members(self) -> tuple[Choice, ...]:
        """The choices that were made."""
        made = (self.network, self.code, self.corruption, self.penalty, self.loss)
        return tuple(choice for choice in made if choice is not None)

    def mistakes(self, context: Context) -> list[str]:
        """All that is wrong with them, alone and together, for these data; resolved choices are asked."""
        conflicts = self.penalty.conflicts(self.code) if self.penalty is not None else []
        widths = self.code.width(context.code_size), self.loss.output_width(context.output.n_features)
        conflicts += self.network.conflicts(context, code_width=widths[0], output_width=widths[1])
        own = [text for choice in self.members() if choice is not self.loss for text in choice.mistakes(context)]
        of_loss = self.loss.mistakes(context.output)
        if context.target is not None:
            of_loss = [text.replace("the scaled data", "the scaled target") for text in of_loss]
        return [*own, *of_loss, *conflicts]

    def resolve(self, context: Context) -> Choices:
        """The same choices with every ``"auto"`` replaced by what it means for these data."""
        return Choices(
            network=self.network.resolve(context),
            code=self.code.resolve(context),
            loss=self.loss.resolve(context.output),
            corruption=self.corruption and self.corruption.resolve(context),
            penalty=self.penalty and self.penalty.resolve(context),
        )


class Trainable(Protocol):
    """What the training loop needs of what it trains; `Objective` is one, and tasks derive theirs from it.

    The loop calls it on batches, moves its parameters, keeps and restores its buffers, and switches it between training
    and use. A row of a batch may hold more than the network is given, such as a target or a label: `row_width` counts
    all of it, and `given_and_target` takes it apart.

    The compiled engine asks for more, and only where `follows_choices` is true: ``choices``, ``context``, ``encoder``,
    ``code`` and ``decoder`` must then be all that the loss depends on.
    """

    training: bool
    code: CodeModule
    """Knows whether training changes along the run (`anneals`), and is given how far it is (`progress`)."""

    def __call__(self, x: Tensor, generator: torch.Generator | None = None) -> LossParts:
        """The loss of a batch of rows, (n, row_width), with a graph behind it; random numbers come from `generator`."""

    @property
    def row_width(self) -> int:
        """Numbers in one row of a batch."""

    @property
    def follows_choices(self) -> bool:
        """Whether the loss is what the five choices say and nothing else, so that an engine may compute it itself."""

    def given_and_target(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is given for a batch, before corruption, and what its output is compared with."""

    def draws_unseen(self) -> bool:
        """Whether a call may draw random numbers that do not come from the generator it is given."""

    def waits_for_host(self) -> bool:
        """Whether a call computes on the CPU whatever the device, so that it cannot be captured as a graph."""

    def rate_factors(self) -> Mapping[nn.Parameter, float]:
        """What to multiply the learning rate of some parameters by; only where `follows_choices` is false."""

    def parameters(self, recurse: bool = True) -> Iterator[nn.Parameter]:
        """All that is learned."""

    def named_buffers(self) -> Iterator[tuple[str, Tensor]]:
        """What is not learned and belongs to the best weights all the same, such as running means."""

    def modules(self) -> Iterator[nn.Module]:
        """All layers."""

    def train(self, mode: bool = True) -> Self:
        """Switch to training or use."""

    def eval(self) -> Self:
        """Switch to use."""


class Objective(nn.Module):
    """Encoder, code and decoder with what they are trained for.

    A context with a target trains on pairs: a row of a batch is then ``[x | conditions | target]``. A task whose target
    is made of the input (hidden cells, labels) derives from it, overrides `given_and_target` and `row_width`, and gives
    the networks. It then trains on every engine that takes its choices.

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
        Modules that exist already, to be trained as they are; None: new ones, as the choices say.
    generator
        Where the weights of new networks and of a new code come from.
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
        # a list, so that torch does not take it for a part of the network
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
        """What a batch of scaled rows, (n, row_width), costs."""
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
        """What the network is given for rows with missing entries: zeros there."""
        return x.nan_to_num() if self.choices.loss.admits_missing else x

    def given_and_target(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """What the network is given for a batch, before corruption, and what its output is compared with.

        (n, row_width) → (n, d + conditions), (n, t), where t is d without a target. Holes are filled later, by
        `filled`.
        """
        if self.context.target is None:
            return x, self.split(x)[0]
        return x[:, : self.context.encoder_width], x[:, self.context.encoder_width :]

    @property
    def follows_choices(self) -> bool:
        """Whether the loss is what the choices say and nothing else, so that an engine may compute it itself."""
        return inherits(self, Objective, "forward", "filled", "corrupt", "encode", "decode", "split", "rate_factors")

    def rate_factors(self) -> Mapping[nn.Parameter, float]:
        """What to multiply the learning rate of some parameters by; of all others it is the rate of the run."""
        return {}

    def draws_unseen(self) -> bool:
        """Whether a forward pass may draw random numbers without taking them from the generator it is given."""
        foreign = (choice for choice in _flattened(self.choices.members()) if not _is_ours(choice))
        return next(foreign, None) is not None or may_draw(self.modules())

    def waits_for_host(self) -> bool:
        """Whether a corruption computes on the CPU whatever the device, so that steps are not captured as graphs."""
        return self.choices.corruption is not None and self.choices.corruption.works_on_host

    @property
    def row_width(self) -> int:
        """Numbers in one row of a batch: its features, what it is conditioned on, and its target if it has one."""
        target = self.context.target
        return self.context.encoder_width + (0 if target is None else target.n_features)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Rows and what they are conditioned on: (n, d + conditions) → (n, d), (n, conditions) or None."""
        if not self.context.n_conditions:
            return x, None
        return x[:, : self.context.n_features], x[:, self.context.n_features :]

    @property
    def _differentiates_input(self) -> bool:
        """Whether the penalty can use the codes of the batch for derivatives by the input."""
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
        """Reconstruction, and what the importance-weighted bound adds to it (Burda et al. 2016, eq. 8)."""
        rows, log_weights = self._weigh(output, coded, x)
        bound = (torch.logsumexp(log_weights, 0) - math.log(len(log_weights))).mean() / self.n_terms
        reconstruction = rows.mean() / self.n_terms
        return reconstruction, -bound - reconstruction

    def _weigh(self, output: Tensor, coded: Coded, x: Tensor) -> tuple[Tensor, Tensor]:
        """The summed loss of every sample of every row, and the logarithm of its importance, (samples, n)."""
        n_samples = len(output) // len(x)
        rows = self.choices.loss.per_feature(output, x.repeat(n_samples, 1)).sum(dim=1)
        assert coded.prior is not None  # a code that draws several samples has one
        return rows, -(rows + coded.prior).view(n_samples, len(x))

    @property
    def n_terms(self) -> int:
        """By how many the nats of a row are divided, as the loss of its features is."""
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

        The target t is x itself, or that of a pair.
        """
        given, target = self.given_and_target(x)
        _, conditions = self.split(given)
        assert isinstance(self.code, GaussianModule)
        coded = self.code.draw(self.encoder(self.filled(given)), n_samples, generator)
        return self._weigh(self.decoder(_joined(coded.z, conditions)), coded, target)[1]

    def corrupt(self, x: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What the encoder is given in training: (n, d) → (n, d); what rows are conditioned on stays as it is."""
        if self.choices.corruption is None:
            return x
        target, conditions = self.split(x)
        shaped = target.reshape(len(x), *self.context.feature_shape)
        return _joined(self.choices.corruption.corrupt(shaped, generator).reshape(len(x), -1), conditions)

    def encode(self, x: Tensor) -> Tensor:
        """Codes without randomness: (n, d) → (n, code)."""
        return self.code.deterministic(through(self.encoder, self.filled(x)))

    def decode(self, z: Tensor) -> Tensor:
        """Reconstructions in scaled units: (n, code) → (n, d)."""
        return self.choices.loss.link(through(self.decoder, z))

    def reconstruct(self, x: Tensor) -> Tensor:
        """Rows as they are restored without randomness or corruption: (n, d + conditions) → (n, t)."""
        return self.decode(_joined(self.encode(x), self.split(x)[1]))

    def as_dtype(self, dtype: torch.dtype) -> Objective:
        """The same objective for single or double arithmetic, with the weights as they are now.

        The double one is kept; its numbers are copied again at every call (a tenth of a millisecond for 200,000 of
        them), since a weight that was changed in place through ``.data`` leaves no trace that could be looked at. It is
        made again where a layer or a hook was exchanged.
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
        """Switch to training or use; the copy in double precision is dropped, for it would grow old."""
        self._double = []
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_double": []}

    def row_losses(self, x: Tensor) -> Tensor:
        """The loss of each row as it is reconstructed without corruption, mean over features: (n, row_width) → (n,).

        Infinite for a row outside the support of the loss, where the formula may give less than for any good row.
        """
        given, target = self.given_and_target(x)
        _, conditions = self.split(given)
        losses = self.choices.loss.per_row(through(self.decoder, _joined(self.encode(given), conditions)), target)
        return torch.where(self.supported(x), losses, math.inf)

    def supported(self, x: Tensor) -> Tensor:
        """Whether the target of each row lies in the support of the loss: (n, row_width) → (n,)."""
        return self.choices.loss.supports(self.given_and_target(x)[1]).all(dim=1)


def _flattened(choices: Iterable[Any]) -> Iterator[Choice]:
    """Choices, and those inside them (sums, chains)."""
    for choice in choices:
        if isinstance(choice, Choice):
            yield choice
            yield from _flattened(choice.get_params(deep=False).values())
        elif isinstance(choice, list | tuple):
            yield from _flattened(choice)


def _is_ours(choice: Choice) -> bool:
    return type(choice).__module__.startswith("isthmus.")


def _joined(rows: Tensor, conditions: Tensor | None) -> Tensor:
    """Rows or codes with what they are conditioned on behind them; several samples a row repeat it."""
    if conditions is None:
        return rows
    return torch.cat([rows, conditions.repeat(rows.shape[0] // conditions.shape[0], 1)], dim=1)


def _structure(module: nn.Module) -> list[object]:
    """The layers of a network and what watches them."""
    return [
        each
        for part in module.modules()
        for each in (part, *part._forward_hooks.values(), *part._forward_pre_hooks.values())  # noqa: SLF001  # torch has no public way
    ]


def _tensors(module: nn.Module) -> list[Tensor]:
    return [*module.parameters(), *module.buffers()]


def count_parameters(module: nn.Module) -> int:
    """How many numbers a module learns; shared ones count once."""
    return sum(parameter.numel() for parameter in module.parameters())


@torch.no_grad()
def count_multiplications(objective: Objective) -> int:
    """How many multiplications one row takes on its way to the loss, in layers that have a matrix of weights."""
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
