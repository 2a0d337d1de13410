"""Messages of the feed: a whole state, what changed since, and that the service lives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import TypeAdapter

from mlops.web.messages import RiskState


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
