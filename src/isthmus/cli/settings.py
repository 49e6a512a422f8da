"""From flags, ``--set`` and a TOML file to an estimator, and from an estimator to TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from isthmus.cli.errors import WrongUsageError

Settings = dict[str, Any]


def parse_assignments(assignments: Iterable[str]) -> Settings:
    """Settings from texts such as ``corruption.fraction=0.3``; the last word counts.

    >>> parse_assignments(["network.hidden_sizes=256,64", "corruption=masking", "verbose=true"])
    {'network__hidden_sizes': (256, 64), 'corruption': 'masking', 'verbose': True}
    """
    settings: Settings = {}
    for text in assignments:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise WrongUsageError(f"--set {text!r} is no setting; write NAME=VALUE, such as corruption.fraction=0.3.")
        settings[name.strip().replace(".", "__")] = parse_value(value.strip())
    return settings


def parse_value(text: str) -> Any:
    """A value from text: what TOML reads, numbers joined by commas as a tuple, ``none``, else the text itself.

    >>> parse_value("1e-3"), parse_value("128,64"), parse_value("none"), parse_value("relu")
    (0.001, (128, 64), None, 'relu')
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
    """Settings from a TOML file: a choice is a table with its name and its parameters."""
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WrongUsageError(f"The config file '{path}' cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise WrongUsageError(f"The config file '{path}' is not TOML: {error}.") from None
    settings: Settings = {}
    for name, value in tables.items():
        if isinstance(value, Mapping):
            settings |= {name: value["name"]} if "name" in value else {}
            settings |= {f"{name}__{key}": _from_toml(part) for key, part in value.items() if key != "name"}
        else:
            settings[name] = _from_toml(value)
    return settings


def _from_toml(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(_from_toml(part) for part in value)
    return None if value == "none" else value


def make_estimator(kind: str, settings: Settings) -> Any:
    """The estimator of a kind with settings; choices first, then their parameters."""
    import isthmus  # noqa: PLC0415  # the command line starts without it

    model = isthmus.find_kind(kind)()
    model.set_params(**{name: value for name, value in settings.items() if "__" not in name})
    model.set_params(**{name: value for name, value in settings.items() if "__" in name})
    return model


def to_toml(kind: str, described: Mapping[str, Any]) -> str:
    """An estimator's description as TOML that ``--config`` reads again."""
    plain = {name: value for name, value in described.items() if not _is_choice(value) and name != "callbacks"}
    lines = [f"kind = {_literal(kind)}", *(f"{name} = {_literal(value)}" for name, value in plain.items())]
    for name, value in described.items():
        if _is_choice(value):
            lines += ["", f"[{name}]", f"name = {_literal(value['class'])}"]
            lines += [f"{key} = {_literal(part)}" for key, part in value["params"].items()]
    return "\n".join(lines)


def _is_choice(value: Any) -> bool:
    return isinstance(value, Mapping) and "class" in value


def _literal(value: Any) -> str:
    if isinstance(value, Mapping) and set(value) == {"tuple"}:
        value = value["tuple"]
    if isinstance(value, list | tuple):
        return f"[{', '.join(_literal(part) for part in value)}]"
    if value is None:
        return '"none"'
    if isinstance(value, bool):
        return str(value).lower()
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"' if isinstance(value, str) else repr(value)
