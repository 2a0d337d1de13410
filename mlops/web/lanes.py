"""Threads for what a request has to wait for, so many for each kind of work: who waits in one lane delays no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from anyio import CapacityLimiter, to_thread

Answer = TypeVar("Answer")


class Lane:
    """Threads of one kind of work.

    Parameters
    ----------
    workers : int
        How many requests are worked on at once; others wait their turn.
    """

    def __init__(self, workers: int) -> None:
        self._limiter = CapacityLimiter(workers)

    async def run(self, work: Callable[..., Answer], *arguments: object) -> Answer:
        """What `work` returns, or raises, in a thread."""
        return await to_thread.run_sync(work, *arguments, limiter=self._limiter)


@dataclass(frozen=True, slots=True)
class Lanes:
    """The lanes of an application: a bot's fills, what it may do, and health come before all else."""

    keys: Lane = field(default_factory=lambda: Lane(4))
    fills: Lane = field(default_factory=lambda: Lane(8))
    rows: Lane = field(default_factory=lambda: Lane(8))  # predictions, outcomes, quotes, and what was refused
    large: Lane = field(default_factory=lambda: Lane(1))  # bodies of megabytes: each takes its length thirty times
    trading: Lane = field(default_factory=lambda: Lane(4))
    assignments: Lane = field(default_factory=lambda: Lane(8))
    scores: Lane = field(default_factory=lambda: Lane(8))
    hooks: Lane = field(default_factory=lambda: Lane(4))
    registry: Lane = field(default_factory=lambda: Lane(1))  # it alone asks MLflow: nobody waits for it
    health: Lane = field(default_factory=lambda: Lane(2))
    meters: Lane = field(default_factory=lambda: Lane(1))  # asked by whoever likes: health does not wait behind it
