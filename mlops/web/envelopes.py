"""Messages of the feed: the state as JSON has it, what changed since (RFC 7386), and that the service lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import orjson
from pydantic import TypeAdapter

from mlops.web.messages import RiskState

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The whole state. It is the first message, and the next one where deltas were lost."""

    type: Literal["snapshot"]
    seq: int
    at: datetime
    state: RiskState


@dataclass(frozen=True, slots=True)
class Delta:
    """What changed from `prev` to `seq`, as a merge patch (RFC 7386). Apply it only to the state of `prev`."""

    type: Literal["delta"]
    seq: int
    prev: int
    at: datetime
    patch: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The service lives, and `seq` is still the last state."""

    type: Literal["heartbeat"]
    seq: int
    at: datetime


Message = Snapshot | Delta | Heartbeat


def schema() -> dict[str, Any]:
    """JSON schema of every message."""
    return TypeAdapter(Message).json_schema(mode="serialization")


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
