"""What was compared with what, by which plan."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from mlops.experiment.plan import Plan


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison, as it was fixed beforehand; `verdict` and `ended_at` are None while it runs.

    `kind`: "compare", of a challenger with the champion; or "watch", of a new champion with the one before it, which is
    then the `challenger`.
    """

    id: int
    model: str
    kind: str
    champion: int
    challenger: int
    started_at: datetime
    as_of: datetime
    plan: Plan
    ended_at: datetime | None = None
    verdict: str | None = None

    @property
    def watch(self) -> bool:
        """Whether a new champion is watched."""
        return self.kind == "watch"
