"""Arms beside the champion score in threads: a slow, crashing or hanging one is cut off; the champion never waits."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from registry_hooks.answer import Answer, ask
from registry_hooks.bundle import Bundle
from registry_hooks.courier import Scores

log = structlog.get_logger()
STRIKES = 3  # failures or late scores in a row, then it is cut off
WAITING = 256  # bars; a shadow that falls further behind misses some, and that counts as being late
HANGS_S = 5.0  # under way for so long: it will not come back


@dataclass(frozen=True, slots=True)
class Task:
    """One bar, and the versions that are to score it: `scores` carries no probabilities yet, `found` will."""

    scores: Scores
    bundles: Mapping[int, Bundle]
    found: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)


@dataclass
class Strikes:
    """Who was late or failed how often in a row, and who was cut off for it."""

    budget_s: float
    report: Callable[[int, str], None]
    cut: dict[int, str] = field(default_factory=dict)
    _count: dict[int, int] = field(default_factory=dict)

    def judge(self, version: int, answer: Answer) -> None:
        """Whether it failed, or came late."""
        if answer.error is not None:
            self.strike(version, f"{type(answer.error).__name__}: {answer.error}")
        elif answer.seconds > self.budget_s:
            self.strike(version, f"took {answer.seconds * 1e3:.0f} ms, more than bot.shadow_budget_ms")
        else:
            self._count[version] = 0

    def strike(self, version: int, why: str, *, out: bool = False) -> None:
        """It failed or was late; `out`: cut it off at once."""
        self._count[version] = self._count.get(version, 0) + 1
        if version not in self.cut and (out or self._count[version] >= STRIKES):
            self.cut[version] = why
            self.report(version, why)

    def forget(self, standing: Mapping[int, Bundle]) -> None:
        """A version that left the lineup and comes back has another chance."""
        for version in [v for v in self.cut if v not in standing]:
            del self.cut[version]
            self._count.pop(version, None)


@dataclass(frozen=True, slots=True)
class Desk:
    """Where an arm's answer goes, in whichever thread it was asked: it is kept, and judged."""

    strikes: Strikes
    keep: Callable[[Scores], None]

    def take(self, bar: Scores, version: int, answer: Answer) -> None:
        self.keep(bar.of(version, answer.probability, answer.seconds))
        self.strikes.judge(version, answer)


class Shadows:
    """Scores in a thread of its own; `desk` gets what each version said."""

    def __init__(self, desk: Desk) -> None:
        self._desk, self._strikes = desk, desk.strikes
        self._tasks: deque[Task] = deque()
        self._changed = threading.Condition()
        self._turn = 0  # which thread is the one; an older one that hung finds itself replaced
        self._busy: tuple[Scores, int, float] | None = None  # bar and version under way, since when
        self._closed = False
        self._thread = self._begin()

    def add(self, task: Task) -> None:
        """Have a bar scored; never waits."""
        with self._changed:
            if len(self._tasks) >= WAITING:
                self._tasks.popleft().over.set()
                for version in task.bundles:
                    self._strikes.strike(version, f"fell {WAITING} bars behind")
            self._tasks.append(task)
            self._changed.notify()

    def look(self) -> None:
        """Replace the thread if a version holds it."""
        busy = self._busy
        if busy is not None and (took := time.monotonic() - busy[2]) > HANGS_S:
            bar, version, _ = busy
            self._desk.keep(bar.of(version, None, took))
            self._strikes.strike(version, f"did not come back within {HANGS_S:.0f} s", out=True)
            self._thread = self._begin()

    def idle(self) -> bool:
        """Whether nothing waits and nothing is under way."""
        with self._changed:
            return not self._tasks and self._busy is None

    def close(self, timeout: float) -> None:
        """Score what waits, but no longer than `timeout` seconds; nothing is kept after that."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join(timeout)
        with self._changed:
            self._turn += 1

    def _begin(self) -> threading.Thread:
        with self._changed:
            self._turn, self._busy = self._turn + 1, None
            turn = self._turn
        thread = threading.Thread(target=self._run, args=(turn,), name=f"shadows-{turn}", daemon=True)
        thread.start()
        return thread

    def _run(self, turn: int) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._tasks or self._turn != turn)
                if self._turn != turn or not self._tasks:
                    return
                task = self._tasks.popleft()
                self._busy = (task.scores, 0, time.monotonic())
            for version, one in task.bundles.items():
                if version not in self._strikes.cut and not self._scored(turn, task, version, one):
                    return
            task.over.set()
            with self._changed:
                if self._turn == turn:
                    self._busy = None

    def _scored(self, turn: int, task: Task, version: int, one: Bundle) -> bool:
        """False where this thread was replaced meanwhile."""
        bar = task.scores
        self._busy = (bar, version, time.monotonic())
        answer = ask(one, bar.values, bar.names)
        with self._changed:  # a thread that was replaced keeps nothing: its version is cut off
            if self._turn != turn:
                return False
            if answer.probability is not None:
                task.found[version] = answer.probability
            self._desk.take(bar, version, answer)
        return True
