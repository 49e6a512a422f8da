"""Finding members by name, and the errors of a wrong one."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from sklearn.base import clone

from isthmus import choices
from isthmus.choices import CORRUPTIONS, PENALTIES, Dense, GaussianNoise, Masking, Plain, Registry
from isthmus.choices.corruptions import Chain
from isthmus.choices.penalties import L1, L2, Encoding, Sum
from isthmus.choices.spelling import edit_distance, folded

REGISTRIES: list[Registry[Any]] = [
    choices.NETWORKS,
    choices.CODES,
    choices.CORRUPTIONS,
    choices.PENALTIES,
    choices.LOSSES,
]
MEMBERS = [member for registry in REGISTRIES for member in registry.members.values()]


@pytest.mark.parametrize("member", MEMBERS)
def test_every_member_is_made_without_arguments_clones_and_documents_itself(member: Any) -> None:
    copy = clone(member())
    assert copy.get_params() == member().get_params()
    assert copy.mistakes() == []
    assert member.__doc__


@pytest.mark.parametrize("registry", REGISTRIES)
def test_every_name_resolves_to_its_class_and_so_does_the_class_name(registry: Registry[Any]) -> None:
    for name in registry.names():
        member = registry.resolve(name)
        assert type(registry.resolve(type(member).__name__)) is type(member)


def test_a_wrong_name_lists_the_right_ones_and_the_nearest() -> None:
    names = ", ".join(sorted(CORRUPTIONS.members))
    assert names.startswith("block-mask, blur, downsample, drop-entries, gaussian-noise")
    text = f"Unknown corruption 'maskin'; did you mean 'masking'? Known: {names}"
    with pytest.raises(ValueError, match=re.escape(text)):
        CORRUPTIONS.resolve("maskin")


@pytest.mark.parametrize("registry", REGISTRIES)
def test_a_name_with_one_letter_missing_suggests_that_name_itself(registry: Registry[Any]) -> None:
    accepted = [*registry.names(), *registry.abbreviations()]
    for name in accepted:
        wrong = name[:-1]
        if len(wrong) < 3 or folded(wrong) in map(folded, accepted):
            continue
        with pytest.raises(ValueError, match=rf"did you mean '{name}'"):
            registry.resolve(wrong)


def test_abbreviations_and_class_names_are_suggested_too() -> None:
    with pytest.raises(ValueError, match="Unknown loss 'msee'; did you mean 'mse'"):
        choices.LOSSES.resolve("msee")
    with pytest.raises(ValueError, match="Unknown corruption 'GausianNoise'; did you mean 'gaussian-noise'"):
        CORRUPTIONS.resolve("GausianNoise")


@pytest.mark.parametrize(
    ("typed", "known", "cost"),
    [("kitten", "sitting", 5), ("sitting", "kitten", 6), ("", "ab", 2), ("ab", "", 4), ("abc", "abc", 0)],
)
def test_missing_characters_cost_half_of_wrong_ones(typed: str, known: str, cost: int) -> None:
    assert edit_distance(typed, known) == cost


def test_a_value_that_stands_for_nothing_is_refused() -> None:
    with pytest.raises(TypeError, match="3 is not a corruption; use one of block-mask, blur, downsample, drop-entries"):
        CORRUPTIONS.resolve(3)


def test_a_name_can_be_taken_only_once() -> None:
    with pytest.raises(ValueError, match="The corruption name 'masking' is taken by Masking"):
        CORRUPTIONS.register("masking")(GaussianNoise)


def test_sizes_stand_for_a_dense_network_and_an_activation_for_a_plain_code() -> None:
    network, code = choices.NETWORKS.resolve((128, 64)), choices.CODES.resolve("relu")
    assert isinstance(network, Dense)
    assert network.hidden_sizes == (128, 64)
    assert isinstance(code, Plain)
    assert code.activation == "relu"


def test_a_list_of_corruptions_is_done_in_order() -> None:
    chain = CORRUPTIONS.resolve([GaussianNoise(1.0, clip=False), Masking(1.0)])
    assert isinstance(chain, Chain)
    assert not chain.corrupt(torch.ones(4, 4), None).any()


def test_a_list_of_penalties_is_added() -> None:
    total = PENALTIES.resolve([L1(1.0), L2(1.0)])
    assert isinstance(total, Sum)
    z = torch.tensor([[2.0, -3.0]])
    assert total.penalize(Encoding(z, z, lambda x: x)).item() == 5 + 13


def test_mistakes_inside_a_list_are_found() -> None:
    assert "fraction=2 must be a number in [0, 1]" in CORRUPTIONS.resolve([Masking(2)]).mistakes()[0]
    assert "weight=-1 must be" in PENALTIES.resolve([L1(-1)]).mistakes()[0]
