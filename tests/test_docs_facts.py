"""What the docs state as fact about the code is so: members, defaults, compiled choices, the tree of exceptions."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from sklearn.base import BaseEstimator

import isthmus
from isthmus import exceptions
from isthmus.choices import CODES, CORRUPTIONS, LOSSES, NETWORKS, PENALTIES, Penalty
from isthmus.choices.registry import Choice, Context, Registry
from isthmus.estimators import defaults
from isthmus.tasks.recommendation import recommender_fit
from isthmus.training import OPTIMIZERS, SCHEDULES

CHOICES = (Path(__file__).parents[1] / "docs" / "choices.md").read_text(encoding="utf-8")
REGISTRIES: dict[str, Registry[Any]] = {
    "network": NETWORKS,
    "code": CODES,
    "corruption": CORRUPTIONS,
    "penalty": PENALTIES,
    "loss": LOSSES,
}


def members(registry: Registry[Any]) -> dict[str, type[Choice]]:
    """The library's own members by class name; other tests leave members of their own."""
    own = (member for member in registry.members.values() if member.__module__.startswith("isthmus."))
    return {member.__name__: member for member in own}


def class_names(text: str) -> set[str]:
    """Names in backticks that begin with a capital."""
    return set(re.findall(r"`([A-Z]\w*)`", text))


def table_rows(heading: str) -> dict[str, str]:
    """The rows of the table of choices.md with these column names: first cell → last cell."""
    body = CHOICES[CHOICES.index(heading) :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in row.strip("|").split(" | ")] for row in body]
    return {row[0]: row[-1] for row in cells}


def bullet(start: str) -> str:
    """The text of a list item, or of a sentence, of choices.md."""
    return CHOICES[CHOICES.index(start) :].split("\n\n")[0].split("\n* ")[0]


def linked_sections(cell: str) -> str:
    """The sections of the page that a cell links to."""
    names = re.findall(r"\]\(#([\w-]+)\)", cell)
    sections = CHOICES.split("\n## ")[1:]
    return "".join(text for text in sections if text.splitlines()[0].lower().replace(" ", "-") in names)


def test_the_table_of_members_lists_the_registries() -> None:
    listed = table_rows("| choice | what it decides | members |")
    assert listed.keys() == REGISTRIES.keys()
    without_names = {"network": {"Modules"}}  # a pair of modules has no short name
    for noun, registry in REGISTRIES.items():
        named = class_names(listed[noun] + linked_sections(listed[noun]))
        assert named & members(registry).keys() == members(registry).keys(), noun
        assert class_names(listed[noun]) - without_names.get(noun, set()) <= members(registry).keys(), noun


def test_the_table_of_variants_names_every_changed_default() -> None:
    listed = table_rows("| name | changed defaults |")
    assert {name.strip("`") for name in listed} == {kind.__name__ for kind in isthmus.KINDS.values()}
    usual = {each.name: each.default for each in fields(isthmus.Autoencoder)}
    for name, text in listed.items():
        kind = getattr(isthmus, name.strip("`"))
        own = {each.name: each.default for each in fields(kind)}
        changed = {key: value for key, value in own.items() if key in usual and value != usual[key]}
        stated = dict(re.findall(r"`(\w+)=([^`]+)`", text))
        assert {key: eval(value) for key, value in stated.items()} == changed, name


def test_the_compiled_members_are_those_that_have_formulas() -> None:
    context = Context((4,), 2)
    compiled = {name for name, loss in members(LOSSES).items() if _formulas(loss, context)}
    assert class_names(bullet("* losses:")) == compiled
    codes = {name for name, code in members(CODES).items() if code().elementwise() or code().drawn()}
    assert class_names(bullet("* codes:")) == codes
    penalties = {name for name, penalty in members(PENALTIES).items() if _has_terms(penalty)}
    assert class_names(bullet("* penalties:")) == penalties
    others = class_names(bullet("`CategoricalCrossEntropy` and"))
    left = (members(LOSSES).keys() - compiled) | (members(CODES).keys() - codes)
    assert others == left | (members(PENALTIES).keys() - penalties)


def _has_terms(penalty: type[Any]) -> bool:
    """Whether a penalty has a formula, or a closed form of its own."""
    own_form = penalty.terms is not Penalty.terms
    return own_form or penalty.formula is not None or penalty.rate_formula is not None


def _formulas(loss: type[Any], context: Context) -> bool:
    """Whether a loss has formulas for each feature; mixed ones have those of their parts."""
    made = loss(((("mean-squared-error"), 4),)) if loss is isthmus.ByColumn else loss()
    return made.resolve(context).formulas(4) is not None


def test_the_numbers_of_auto_are_those_of_the_code() -> None:
    text = CHOICES[CHOICES.index('## The meaning of "auto"') :]
    assert f"about {defaults.STEPS_WANTED:,} steps" in text
    assert (defaults.SMALLEST_BATCH, defaults.LARGEST_BATCH) == (16, 128)
    assert "powers of two from 16 to 128" in text
    assert f"{defaults.learning_rate_for(32):g} at batch size 32" in text
    assert f"up to {defaults.LARGEST_RATE:g}" in " ".join(text.split())
    assert f"wider than {defaults.WIDE:.0f}" in text
    stated = inspect.getdoc(isthmus.Recommender) or ""
    logits, ratings = recommender_fit.PATH_BESIDE_LOGITS, recommender_fit.PATH_BESIDE_RATINGS
    assert f'``"auto"``: {logits:g} for logits, {ratings:g} for ratings' in stated


def test_the_tree_of_exceptions_is_the_one_there_is() -> None:
    text = exceptions.__doc__ or ""
    lines = re.findall(r"^    ((?:│   |    )*(?:├── |└── )?)(\w+)(?: \((\w+)\))?  +\S", text, re.MULTILINE)
    above: list[str] = []
    listed = {}
    for branch, name, other in lines:
        above = above[: len(branch) // 4]
        listed[name] = {above[-1], *([other] if other else [])} if above else {other or "Exception"}
        above.append(name)
    found = {
        name: {base.__name__ for base in each.__bases__}
        for name, each in vars(exceptions).items()
        if inspect.isclass(each) and each.__module__ == exceptions.__name__
    }
    assert listed == found
    public = {name for name in dir(isthmus) if inspect.isclass(getattr(isthmus, name))}
    assert found.keys() <= public


ESTIMATORS = sorted(
    name
    for name in dir(isthmus)
    if inspect.isclass(getattr(isthmus, name)) and issubclass(getattr(isthmus, name), BaseEstimator)
)
OWN = {
    f"{name}": member
    for registry in (*REGISTRIES.values(), OPTIMIZERS, SCHEDULES)
    for name, member in members(registry).items()
}


@pytest.mark.parametrize("name", sorted({*ESTIMATORS, *OWN}))
def test_every_parameter_is_documented_and_no_other(name: str) -> None:
    cls: Any = OWN.get(name) or getattr(isthmus, name)
    wanted = set(cls._get_param_names())
    documented = parameters_of(cls)
    inherited = set().union(
        *(parameters_of(base) for base in cls.__mro__[1:] if base.__module__.startswith("isthmus."))
    )
    assert documented <= wanted
    assert wanted <= documented | inherited | keyword_names(cls)


def parameters_of(cls: Any) -> set[str]:
    """The parameters that a docstring describes."""
    text = inspect.cleandoc(cls.__doc__ or "")
    found = re.search(r"^Parameters\n-+\n(.*?)(?=^\w[\w ]*\n-+$|\Z)", text, re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^(\w[\w, ]*?)(?: : .*)?$", found[1], re.MULTILINE) if found else []
    return {name.strip() for head in heads for name in head.split(",")}


def keyword_names(cls: Any) -> set[str]:
    """Parameters that the summary of a class names as keywords, such as ``penalty="l1"``."""
    return set(re.findall(r"``(\w+)=", cls.__doc__ or ""))
