"""Which build of the engine room a CPU gets."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_cy import variants
from llama_cy.cpu import features

ALL = [variant for group in variants.VARIANTS.values() for variant in group]
NEEDS = sorted({need for variant in ALL for need in variant.needs})
NAMES = [variant.name for variant in ALL]


@given(present=st.sets(st.sampled_from(NAMES)), has=st.sets(st.sampled_from(NEEDS)))
def test_what_is_chosen_runs_and_nothing_better_would(present: set[str], has: set[str]) -> None:
    name = variants.choose(present, has)
    able = [variant.name for variant in ALL if variant.name in present and variant.needs <= has]
    assert name == (able[0] if able else variants.BASELINE)


@given(present=st.sets(st.sampled_from(NAMES)), has=st.sets(st.sampled_from(NEEDS)), asked=st.sampled_from(NAMES))
def test_what_is_asked_for_is_given_or_refused(present: set[str], has: set[str], asked: str) -> None:
    needs = next(variant.needs for variant in ALL if variant.name == asked)
    if asked not in present:
        with pytest.raises(ImportError, match=r"there are .*baseline"):
            variants.choose(present, has, asked)
    elif needs <= has:
        assert variants.choose(present, has, asked) == asked
    else:
        with pytest.raises(ImportError, match=f"this CPU has no .*{min(needs - has)}"):
            variants.choose(present, has, asked)
    assert variants.choose(present, has, variants.BASELINE) == variants.BASELINE


def test_the_best_comes_first() -> None:
    for group in variants.VARIANTS.values():
        for better, worse in itertools.pairwise(group):
            assert better.needs > worse.needs


def test_features_are_known_names() -> None:
    assert features() <= set(NEEDS)
