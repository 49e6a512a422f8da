"""An estimator as a state, and back: JSON for what it was told and learned, arrays for its weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isthmus import choices, training
from isthmus.choices.corruptions import Chain
from isthmus.choices.networks import Modules
from isthmus.choices.penalties import Sum
from isthmus.choices.registry import Choice, Context, unknown
from isthmus.exceptions import ModelFileError
from isthmus.files.model_file import State, read_state

REGISTRIES = (
    choices.NETWORKS,
    choices.CODES,
    choices.CORRUPTIONS,
    choices.PENALTIES,
    choices.LOSSES,
    training.SCHEDULES,
    training.OPTIMIZERS,
    training.PRETRAININGS,
)


def encode(value: Any) -> Any:  # noqa: PLR0911  # one line a type
    """A parameter as JSON: choices become their class and parameters, tuples stay tuples."""
    if isinstance(value, Modules | torch.nn.Module):
        return {"class": "Modules", "params": {}}  # code is never written to a file
    if isinstance(value, Choice):
        return {"class": type(value).__name__, "params": encode(value.get_params(deep=False))}
    if isinstance(value, Mapping):
        return {name: encode(part) for name, part in value.items()}
    if isinstance(value, tuple):
        return {"tuple": [encode(part) for part in value]}
    if isinstance(value, list):
        return [encode(part) for part in value]
    if isinstance(value, np.generic):
        return value.item()
    return value if isinstance(value, str | int | float | bool | None) else None


def decode(value: Any) -> Any:
    """The inverse of `encode`."""
    if isinstance(value, list):
        return [decode(part) for part in value]
    if not isinstance(value, Mapping):
        return value
    if set(value) == {"tuple"}:
        return tuple(decode(part) for part in value["tuple"])
    params = {name: decode(part) for name, part in value.items() if name != "class"}
    return _choice(value["class"])(**params["params"]) if "class" in value else params


def _choice(name: str) -> Callable[..., Choice]:
    known: dict[str, Any] = {member.__name__: member for registry in REGISTRIES for member in registry.members.values()}
    known |= {"Chain": Chain, "Sum": Sum, "Modules": _no_modules}
    if name not in known:
        raise ModelFileError(unknown("choice in the model file", name, sorted(known)))
    made: Callable[..., Choice] = known[name]
    return made


def _no_modules(**_: Any) -> Choice:
    raise ModelFileError(
        "The model was built from modules of your own, and their code is not in the file; "
        "give them again: isthmus.load(path, network=(encoder, decoder))."
    )


def context_to_json(context: Context) -> dict[str, Any]:
    """What was known of the data at fit, as JSON."""
    values = {name: value for name, value in vars(context).items() if name != "ranges"}
    return {**values, "feature_shape": list(context.feature_shape)}


def context_from_json(values: Mapping[str, Any]) -> Context:
    """The inverse of `context_to_json`."""
    return Context(**{**values, "feature_shape": tuple(values["feature_shape"])})


def weights(module: torch.nn.Module) -> dict[str, np.ndarray]:
    """All that a module has learned, by name; a weight that two layers share is kept once."""
    kept, seen = dict[str, np.ndarray](), set[int]()
    for name, tensor in module.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            kept[name] = tensor.detach().cpu().numpy()
    return kept


def put_weights(module: torch.nn.Module, arrays: Mapping[str, np.ndarray]) -> None:
    """The inverse of `weights`."""
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    try:
        missing, unexpected = module.load_state_dict(tensors, strict=False)
    except RuntimeError as error:
        raise ModelFileError(f"The weights in the file do not fit its network: {error}") from None
    lost = set(missing) & set(weights(module))
    if lost or unexpected:
        raise ModelFileError(
            f"The weights in the file do not fit its network: missing {sorted(lost)}, unexpected {sorted(unexpected)}."
        )


def load(path: str | Path, *, network: Any = None, device: str = "auto") -> Any:
    """Give back the estimator that `save` wrote.

    Parameters
    ----------
    path
        A model file.
    network
        Only for a model built from modules of your own: the same pair of modules.
    device
        Where the model shall work from now on; a model trained on one device loads on any.

    Returns
    -------
    A fitted estimator of the class that was saved.

    Raises
    ------
    ModelFileError
        The file is missing, truncated, foreign, newer, or holds no model.

    Examples
    --------
    >>> import isthmus, numpy, tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "model.safetensors"
    >>> model = isthmus.Autoencoder(2, max_epochs=1, random_state=0).fit(numpy.random.default_rng(0).random((20, 4)))
    >>> _ = model.save(path)
    >>> isthmus.load(path).code_size
    2
    """
    state = read_state(path)
    return from_state(state, network=network, device=device, path=path)


def from_state(state: State, *, network: Any = None, device: str = "auto", path: str | Path = "the file") -> Any:
    """The object of a state, found by the public name of its class."""
    public = importlib.import_module("isthmus")
    if state.kind not in public.__all__ or not hasattr(getattr(public, state.kind), "_from_state"):
        raise ModelFileError(
            f"'{path}' holds a {state.kind!r}, which this isthmus {public.__version__} cannot load as a model; "
            f"it was written by isthmus {state.library_version}."
        )
    return getattr(public, state.kind)._from_state(  # noqa: SLF001  # the other half of `save`
        state, network=network, device=device
    )
