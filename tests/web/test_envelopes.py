"""What changed is said by a merge patch, and nothing unknown is said as a number."""

from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as some
from serving import AT, state

from mlops.types import Kind
from mlops.web.envelopes import merged, patch, tree
from mlops.web.messages import Kpi, PositionNow

LEAVES = (
    some.integers() | some.text(max_size=3) | some.booleans() | some.lists(some.integers() | some.none(), max_size=3)
)
NAMES = some.sampled_from("abcd")
TREES = some.dictionaries(
    NAMES, some.recursive(LEAVES, lambda inner: some.dictionaries(NAMES, inner, max_size=4), max_leaves=12), max_size=4
)
EXAMPLES = (  # RFC 7386, appendix A: those whose target and result are objects
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
)


def test_a_patch_is_applied_as_the_standard_says():
    assert [result for *_, result in EXAMPLES] == [merged(target, change) for target, change, _ in EXAMPLES]


@given(TREES, TREES)
def test_a_patch_makes_the_new_of_the_old_and_is_empty_only_where_they_are_equal(old, new):
    change = patch(old, new)

    assert new == merged(old, change)
    assert (old == new) == (not change)


def test_what_is_not_a_number_is_unknown_and_not_zero():
    row = PositionNow("A", "s", "b", Kind.SPOT, 1.0, price=float("nan"), value=np.float64("inf"), pnl=np.float64(2))

    found = tree(replace(state(), kpi=Kpi(equity=float("nan")), positions={"s/b/A": row}))

    assert "equity" not in found["kpi"]
    assert {"price", "value"}.isdisjoint(found["positions"]["s/b/A"])
    assert 2.0 == found["positions"]["s/b/A"]["pnl"]
    assert "2026-03-02T21:00:00Z" == found["as_of"] == AT.isoformat().replace("+00:00", "Z")
