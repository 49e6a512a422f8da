"""The model file of a restorer."""

from __future__ import annotations

from typing import Any, TypeVar

from isthmus.choices import Loss, UNet
from isthmus.choices.corruptions import Corruption
from isthmus.estimators import params_json, persistence
from isthmus.exceptions import ModelFileError
from isthmus.files.model_file import State
from isthmus.files.records import Json, Losses, Numbers, Real, Record, Size, group, grouped, pack, unpack
from isthmus.tasks.restoration.objective import Restoring
from isthmus.tasks.restoration.pictures import Range
from isthmus.training import History, choose_device

T = TypeVar("T")

DECLARED = {"weights.*": Numbers("f")}


class RestorerValues(Record, frozen=True):
    """The contents of a restorer's file besides arrays; the choices are those of fit."""

    params: Json
    network: Json
    loss: Json
    corruption: Json | None
    residual: bool
    side: Size
    n_images: Size
    n_given: Size
    n_wanted: Size
    scale: Size
    paired: bool
    given_range: list[Real]
    wanted_range: list[Real]
    adds_colour: bool
    history: list[Losses]
    stop_reason: str


def to_state(restorer: Any) -> State:
    """All that is needed to make a fitted restorer again."""
    objective: Restoring = restorer.objective_
    choices, network = objective.choices, objective.pictures.network
    values = RestorerValues(
        params=params_json.params_to_json(restorer.get_params(deep=False)),
        network=params_json.to_json(choices.network),
        loss=params_json.to_json(choices.loss),
        corruption=choices.corruption and params_json.to_json(choices.corruption),
        residual=network.residual,
        side=restorer.side_,
        n_images=restorer.n_images_,
        n_given=restorer.n_channels_in_,
        n_wanted=restorer.n_channels_out_,
        scale=restorer.scale_,
        paired=objective.paired,
        given_range=[restorer.given_range_.low, restorer.given_range_.high],
        wanted_range=[restorer.wanted_range_.low, restorer.wanted_range_.high],
        adds_colour=restorer.adds_colour_,
        history=list(restorer.history_.rows),
        stop_reason=restorer.stop_reason_,
    )
    arrays = grouped(persistence.weights(objective), "weights.")
    return pack(type(restorer).__name__, values, arrays, DECLARED)


def from_state(cls: type[T], state: State, device: str) -> T:
    """The inverse of `to_state`."""
    values = unpack(state, RestorerValues, DECLARED)
    restorer: Any = params_json.make_estimator(cls, values.params, device=device)
    network, loss = _member(values.network, UNet, "network"), _member(values.loss, Loss, "loss")
    corruption = None if values.corruption is None else _member(values.corruption, Corruption, "corruption")
    used = choose_device(device)
    objective = persistence.load_module(
        lambda: Restoring(
            network,
            loss,
            corruption,
            side=values.side,
            n_given=values.n_given,
            n_wanted=values.n_wanted,
            scale=values.scale,
            residual=values.residual,
            paired=values.paired,
        ),
        group(state.arrays, "weights."),
    )
    restorer.objective_ = objective.to(used).eval()
    restorer.given_range_, restorer.wanted_range_ = _range(values.given_range), _range(values.wanted_range)
    restorer.n_channels_in_, restorer.n_channels_out_ = values.n_given, values.n_wanted
    restorer.scale_, restorer.side_, restorer.adds_colour_ = values.scale, values.side, values.adds_colour
    restorer.n_images_ = values.n_images
    restorer.history_, restorer.stop_reason_, restorer.device_ = History(values.history), values.stop_reason, str(used)
    return restorer  # type: ignore[no-any-return]


def _member(stored: Json, base: type[T], kind: str) -> T:
    """A stored choice, checked."""
    member = params_json.decode(stored, kind)
    mistakes = member.mistakes() if isinstance(member, base) else [f"its {kind} is none."]  # type: ignore[attr-defined]
    if mistakes:
        raise ModelFileError(f"its header does not fit: {mistakes[0]}")
    return member  # type: ignore[no-any-return]


def _range(values: list[float]) -> Range:
    if len(values) != 2 or values[0] >= values[1]:
        raise ModelFileError(f"its header does not fit: {values} is not a range of pixels.")
    return Range(*values)
