"""What a registered model is for, which decides its jobs and its gate.

A job says in `jobs/schedule.py` which kinds it looks at. A model of a kind that is not here is left alone by every job,
and a person is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from mlops import policy
from mlops.types import Decision

STRATEGY = "strategy"


@dataclass(frozen=True, slots=True)
class ModelKind:
    """One kind of registered model.

    Parameters
    ----------
    gate : callable
        Report of a comparison, challenger and its place -> whether it becomes champion; see `policy.on_comparison`.
    """

    gate: Callable[..., Decision]


KINDS: Mapping[str, ModelKind] = {STRATEGY: ModelKind(gate=policy.on_comparison)}
