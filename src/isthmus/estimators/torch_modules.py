"""The fitted encoder and decoder as PyTorch modules; reading and setting their weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import Tensor, nn
from torch.nn import functional

from isthmus.choices import Modules
from isthmus.choices.modules import plain
from isthmus.data import Scaling
from isthmus.estimators.targets import output_scaling
from isthmus.training import Objective

PARTS = ("encoder", "code", "decoder")
PROBED_OUTPUTS = 256
"""Maximum number of outputs in a probe; a file stores one probe."""


class FittedEncoder(nn.Module):
    """Maps rows to codes without randomness: (n, *feature_shape) → (n, code_size); returned by `Autoencoder.encoder_`.

    Takes rows in the units of the training data, flat or in their shape, and scales them. Its parameters are shared
    with the model: training them changes the model.

    Parameters
    ----------
    objective, scaling
        Objective and scaling of the fitted model.
    """

    def __init__(self, objective: Objective, scaling: Scaling) -> None:
        super().__init__()
        self.encoder, self.code, self.scaling = objective.encoder, objective.code, scaling
        self.n_conditions, self.admits_missing = objective.context.n_conditions, objective.choices.loss.admits_missing

    @property
    def network(self) -> nn.Module:
        """The encoder alone, which takes scaled rows; for a user's module, the module itself with trained weights."""
        return plain(self.encoder)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Codes; ``y``, (n,) int64, is the index of each row's label in ``classes_``, for a conditional model."""
        scaled = self.scaling.apply(x.flatten(1).to(_dtype_of(self.encoder)))
        scaled = scaled.nan_to_num() if self.admits_missing else scaled
        codes: Tensor = self.code.deterministic(self.encoder(_with_labels(scaled, y, self.n_conditions)))
        return codes


class FittedDecoder(nn.Module):
    """Maps codes to rows: (n, code_size) → (n, *feature_shape), in the units of the training data, as floats.

    Of a model that was fitted with a target, they are rows of the target. Returned by `Autoencoder.decoder_`; its
    parameters are shared with the model.

    Parameters
    ----------
    objective, scaling
        Objective of the fitted model, and scaling of the rows that it answers with.
    """

    def __init__(self, objective: Objective, scaling: Scaling) -> None:
        super().__init__()
        self.decoder, self.scaling, self.loss = objective.decoder, scaling, objective.choices.loss
        self.n_conditions, self.feature_shape = objective.context.n_conditions, objective.context.output.feature_shape

    @property
    def network(self) -> nn.Module:
        """The decoder alone; for a user's module, the module itself with trained weights."""
        return plain(self.decoder)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Rows; ``y`` as for the encoder."""
        output = self.decoder(_with_labels(z.to(_dtype_of(self.decoder)), y, self.n_conditions))
        rows: Tensor = self.scaling.invert(self.loss.link(output))
        return rows.reshape(len(z), *self.feature_shape)


def _dtype_of(module: nn.Module) -> torch.dtype:
    return next((parameter.dtype for parameter in module.parameters()), torch.float32)


def _with_labels(rows: Tensor, y: Tensor | None, n_conditions: int) -> Tensor:
    if (y is None) == bool(n_conditions):
        needed = "needs the index of each row's label in classes_ as y" if n_conditions else "takes no y"
        raise ValueError(f"The model is {'' if n_conditions else 'not '}conditional and {needed}.")
    return rows if y is None else torch.cat([rows, functional.one_hot(y, n_conditions).to(rows)], dim=1)


# -- weights -----------------------------------------------------------------------------------------------------------


def state_dict(objective: Objective) -> dict[str, Tensor]:
    """A copy of all weights by name; weights of a user's modules keep their names."""
    return {
        f"{part}.{name}": tensor.detach().clone()
        for part in PARTS
        for name, tensor in plain(getattr(objective, part)).state_dict().items()
    }


@torch.no_grad()
def load_state_dict(objective: Objective, state: Mapping[str, Tensor]) -> None:
    """The inverse of `state_dict`; nothing changes unless all names and shapes match.

    Raises
    ------
    ValueError
        Names are missing or unknown, or shapes differ; the message lists the first few.
    """
    own = {
        f"{part}.{name}": tensor
        for part in PARTS
        for name, tensor in plain(getattr(objective, part)).state_dict(keep_vars=True).items()
    }
    wrong = [f"{name} is missing" for name in own if name not in state]
    wrong += [f"{name} is unknown" for name in state if name not in own]
    wrong += [
        f"{name} has shape {tuple(state[name].shape)} instead of {tuple(tensor.shape)}"
        for name, tensor in own.items()
        if name in state and state[name].shape != tensor.shape
    ]
    if wrong:
        more = f", and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise ValueError(
            f"The weights do not fit the model: {'; '.join(wrong[:3])}{more}. Pass the state_dict() of a model with "
            "the same network."
        )
    for name, tensor in own.items():
        tensor.copy_(state[name])


# -- mixin ------------------------------------------------------------------------------------------------------------


class InPyTorch:
    """Access to the fitted networks of a model from PyTorch code."""

    @property
    def encoder_(self: Any) -> FittedEncoder:
        """The fitted encoder as an ``nn.Module``, from rows in original units to codes; shares the model's weights."""
        check_is_fitted(self, "objective_")
        return FittedEncoder(self.objective_, self.scaling_)

    @property
    def decoder_(self: Any) -> FittedDecoder:
        """The fitted decoder as an ``nn.Module``, from codes to rows in original units; shares the model's weights."""
        check_is_fitted(self, "objective_")
        return FittedDecoder(self.objective_, output_scaling(self))

    def state_dict(self: Any) -> dict[str, Tensor]:
        """A copy of the weights by name: ``"encoder.…"``, ``"code.…"`` and ``"decoder.…"``.

        Examples
        --------
        >>> import numpy as np
        >>> from isthmus import Autoencoder
        >>> X = np.random.default_rng(0).random((50, 6))
        >>> model = Autoencoder(2, network=(), max_epochs=1, random_state=0).fit(X)
        >>> {name: tuple(tensor.shape) for name, tensor in model.state_dict().items() if name.startswith("encoder")}
        {'encoder.0.weight': (2, 6), 'encoder.0.bias': (2,)}
        """
        check_is_fitted(self, "objective_")
        return state_dict(self.objective_)

    def load_state_dict(self: Any, state: Mapping[str, Tensor]) -> Any:
        """Set the weights of the fitted model from a `state_dict`; the scaling does not change.

        Raises
        ------
        ValueError
            Names or shapes differ; in this case nothing changes.
        """
        check_is_fitted(self, "objective_")
        load_state_dict(self.objective_, state)
        return self


# -- identity of user modules ------------------------------------------------------------------------------------------


@torch.no_grad()
def probe(objective: Objective) -> np.ndarray | None:
    """The result of a user's modules for one fixed row, stored to recognise them at load; None for other networks.

    It contains the code of a fixed random row and some outputs, because weights may also fit modules with another
    forward.
    """
    if not isinstance(objective.choices.network, Modules):
        return None
    row = np.random.default_rng(0).random((1, objective.context.encoder_width), dtype=np.float32)
    x = torch.from_numpy(row).to(next(objective.parameters()))
    was_training = objective.training
    objective.eval()
    answers: list[Any] = [objective.encode(x)[0], objective.reconstruct(x)[0]]
    objective.train(was_training)
    code, outputs = (answer.double().cpu().numpy() for answer in answers)
    places = np.linspace(0, len(outputs) - 1, min(len(outputs), PROBED_OUTPUTS)).round().astype(int)
    return np.concatenate([code, outputs[places]])


def agrees(found: np.ndarray | None, kept: np.ndarray) -> bool:
    """Whether two probes are of the same network, up to 1e-3 of the largest value to allow for other machines."""
    if found is None or found.shape != kept.shape:
        return False
    return bool(np.allclose(found, kept, atol=1e-3 * max(1.0, float(np.abs(kept).max())), rtol=0.0))
