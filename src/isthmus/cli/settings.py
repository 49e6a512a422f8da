"""Conversion of flags, ``--set`` and TOML files to an estimator, and of an estimator to TOML."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from isthmus.cli.errors import WrongUsageError, noting, refuse
from isthmus.cli.terminal import UNSAFE

Settings = dict[str, Any]
ALIASES = {"epochs": "max_epochs", "seed": "random_state"}
"""Flag names of parameters, which ``--set`` and TOML files also accept."""
NOT_SETTABLE = ("callbacks", "verbose")
"""Parameters that other flags control."""


def parse_assignments(assignments: Iterable[str]) -> Settings:
    """Parse settings such as ``corruption.fraction=0.3``; later ones override earlier ones.

    >>> parse_assignments(["network.hidden_sizes=256,64", "corruption=masking", "seed=1"])
    {'network__hidden_sizes': (256, 64), 'corruption': 'masking', 'random_state': 1}
    """
    pairs = [(text, *text.partition("=")) for text in assignments]
    refuse(
        f"--set {text!r} is not a setting; write NAME=VALUE, such as corruption.fraction=0.3."
        for text, name, equals, _ in pairs
        if not equals or not name.strip()
    )
    return {_parameter(name.strip()): parse_value(value.strip()) for _, name, _, value in pairs}


def _parameter(name: str) -> str:
    return ALIASES.get(name, name).replace(".", "__").replace("-", "_")


def parse_value(text: str) -> Any:
    """Parse a value: TOML syntax, comma-separated values as a tuple, ``none``, else the text itself.

    >>> parse_value("1e-3"), parse_value("128,64"), parse_value("64,"), parse_value("none"), parse_value("relu")
    (0.001, (128, 64), (64,), None, 'relu')
    """
    if text.lower() in ("none", "null", ""):
        return None
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    if "," in text and not text.startswith(("[", "{", '"')):
        return tuple(parse_value(part.strip()) for part in text.split(",") if part.strip())
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
    return tuple(value) if isinstance(value, list) else value


def read_config(path: Path) -> Settings:
    """Read settings from a TOML file: a choice is a table with its name and parameters, a list of choices several."""
    if path.exists() and not path.is_file():  # opening a pipe blocks until it has a writer; a device may never end
        raise WrongUsageError(f"The config file '{path}' is not a regular file; write the settings to a file.")
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongUsageError(f"The config file '{path}' cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUsageError(f"The config file '{path}' is not TOML: {error}.") from None
    settings: Settings = {}
    for key, value in tables.items():
        name = _parameter(key)
        if isinstance(value, Mapping):
            settings |= {name: value["name"]} if "name" in value else {}
            settings |= {f"{name}__{inner}": _from_toml(part) for inner, part in value.items() if inner != "name"}
        else:
            settings[name] = _from_toml(value)
    return settings


def _from_toml(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_toml(part) for part in value)
    if isinstance(value, Mapping):
        return {name: _from_toml(part) for name, part in value.items()}
    return None if value == "none" else value


def layered(*layers: Settings) -> Settings:
    """Merge settings; later layers override earlier ones, and a new choice drops the parameters of the old one.

    >>> layered({"corruption": "gaussian-noise", "corruption__scale": 0.3}, {"corruption": "masking"})
    {'corruption': 'masking'}
    """
    together: Settings = {}
    for layer in layers:
        kept = {name: value for name, value in together.items() if name.partition("__")[0] not in layer}
        together = kept | layer
    return together


def make_estimator(kind: str, settings: Settings) -> Any:
    """Build the estimator of a kind with settings; one error lists all invalid names and choices."""
    import isthmus  # noqa: PLC0415  # the command line starts without it

    mistakes: list[str] = []
    model = isthmus.Autoencoder()
    with noting(mistakes):
        model = isthmus.find_kind(kind)()
    for name in sorted(settings, key=lambda name: "__" in name):  # a choice before its parameters
        with noting(mistakes):
            _refuse_not_settable(name)
            model.set_params(**{name: _members(name, settings[name])})
    refuse([*mistakes, *_wrong_choices(model)])
    return model


def _refuse_not_settable(name: str) -> None:
    if name in NOT_SETTABLE:
        raise WrongUsageError(f"{name} cannot be set here; use --quiet or --checkpoint, or use Python.")


def _members(name: str, value: Any) -> Any:
    """Convert a tuple of tables to members; other values are returned as is."""
    import isthmus  # noqa: PLC0415  # the command line starts without it

    if not (isinstance(value, tuple) and value and all(isinstance(part, Mapping) for part in value)):
        return value
    registry = isthmus.choices_by_parameter().get(name)
    if registry is None or not all("name" in part for part in value):
        raise WrongUsageError(
            f"[[{name}]] must be a list of choices, each with a name; add name=…, or use another parameter."
        )
    members = [registry.resolve(part["name"]) for part in value]
    for member, part in zip(members, value, strict=True):
        member.set_params(**{key: inner for key, inner in part.items() if key != "name"})
    return tuple(members)


def _wrong_choices(model: Any) -> list[str]:
    """One sentence for each unknown choice and for each invalid parameter of a choice."""
    import isthmus  # noqa: PLC0415  # the command line starts without it

    mistakes: list[str] = []
    for name, registry in isthmus.choices_by_parameter().items():
        value = getattr(model, name)
        if value is not None and not (name in {"code", "loss"} and value == "auto"):
            with noting(mistakes):
                mistakes += registry.resolve(value).mistakes()
    return mistakes


def to_toml(kind: str, described: Mapping[str, Any]) -> str:
    """An estimator's description as TOML, which ``--config`` can read."""
    lines = [f"kind = {_literal(kind)}"]
    choices = {name: value for name, value in described.items() if _is_choice(value)}
    plain = {name: value for name, value in described.items() if name not in (*choices, *NOT_SETTABLE, "engine")}
    lines += [f"{name} = {_literal(value)}" for name, value in plain.items()]
    for name, value in choices.items():
        members = _listed(value["params"].get("members"))
        for member in members or [value]:
            lines += ["", f"[[{name}]]" if members else f"[{name}]", f"name = {_literal(member['class'])}"]
            lines += [f"{key} = {_literal(part)}" for key, part in member["params"].items()]
    return "\n".join(lines)


def _is_choice(value: Any) -> bool:
    return isinstance(value, Mapping) and "class" in value


def _listed(value: Any) -> Any:
    """A described tuple as a list; other values unchanged."""
    return value["tuple"] if isinstance(value, Mapping) and set(value) == {"tuple"} else value


def _literal(value: Any) -> str:
    value = _listed(value)
    if isinstance(value, list | tuple):
        return f"[{', '.join(_literal(part) for part in value)}]"
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, str):
        return repr(value)
    # JSON's escapes are valid TOML, except for surrogate pairs: hence ensure_ascii=False.
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
