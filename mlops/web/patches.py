"""The state as JSON has it, and what changed in it (RFC 7386)."""

from __future__ import annotations

from typing import Any

import orjson

from mlops.web.messages import RiskState

Tree = dict[str, Any]


def tree(state: RiskState) -> Tree:
    """The state as JSON has it: instants as text, and no member that is unknown.

    NaN and infinity are unknown too.
    """
    members = orjson.loads(orjson.dumps(state, option=orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_UTC_Z))
    return _known(members)


def _known(node: Tree) -> Tree:
    return {key: _known(value) if type(value) is dict else value for key, value in node.items() if value is not None}


def patch(old: Tree, new: Tree) -> Tree:
    """The merge patch (RFC 7386) that makes `new` of `old`; empty where they are equal.

    >>> patch({"a": {"b": 1, "c": 2}}, {"a": {"b": 1}, "d": 3})
    {'a': {'c': None}, 'd': 3}
    """
    change: Tree = {key: None for key in old if key not in new}
    for key, value in new.items():
        was = old.get(key)
        if was == value:
            continue
        change[key] = patch(was, value) if type(was) is dict and type(value) is dict else value
    return change


def merged(old: Tree, change: Tree) -> Tree:
    """`old` with a merge patch applied; neither is altered.

    >>> merged({"a": {"b": 1, "c": 2}}, {"a": {"c": None}, "d": 3})
    {'a': {'b': 1}, 'd': 3}
    """
    result = dict(old)
    for key, value in change.items():
        if value is None:
            result.pop(key, None)
        elif type(value) is dict:
            was = result.get(key)
            result[key] = merged(was if type(was) is dict else {}, value)
        else:
            result[key] = value
    return result
