"""Arms beside the champion score in threads: who is slow or fails is cut off for a while, and nobody waits for it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import structlog
from numpy.typing import NDArray

from registry_hooks.bot.courier import Scores
from registry_hooks.bot.scoring import Answer, ask
from registry_hooks.bundle import Bundle

log = structlog.get_logger()
STRIKES = 3  # failures or late scores in a row, then it is cut off
PAUSE = 16  # bars until the first other chance: a fault of minutes is over by then where bars are frequent
WAITING = 256  # bars; a shadow that falls further behind misses some, and that counts as being late
HANGS_S = 5.0  # under way for so long: it will not come back


@dataclass(frozen=True, slots=True)
class Task:
    """One bar, and the versions that are to score it: `scores` carries no probabilities yet, `probabilities` will."""

    scores: Scores
    bundles: Mapping[int, Bundle]
    probabilities: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    over: threading.Event = field(default_factory=threading.Event)


@dataclass
class Strikes:
    """Failures and lateness of each version in a row, which was cut off for it, and when it has another chance.

    A version that was cut off is asked again after `PAUSE` bars; each time that it fails then, after twice as many.
    `report` hears of each cut with its reason and the bars, `mended` of the first score that comes after one.
    """

    budget_s: float
    report: Callable[[int, str, int], None]
    mended: Callable[[int], None]
    cut: dict[int, str] = field(default_factory=dict)
    _count: dict[int, int] = field(default_factory=dict)
    _pause: dict[int, int] = field(default_factory=dict)  # bars of the last pause; none: never cut, or well since
    _left: dict[int, int] = field(default_factory=dict)  # bars until it is asked again, or until it counts as well

    def asks(self, version: int) -> bool:
        """Whether a version is asked at this bar; to be called once a bar, which brings its next chance nearer."""
        if version not in self.cut:
            return True
        self._left[version] -= 1
        if self._left[version] > 0:
            return False
        self._count[version], self._left[version] = STRIKES - 1, self._pause[version]  # one more, and it is cut again
        del self.cut[version]
        return True

    def judge(self, version: int, answer: Answer) -> None:
        """Whether it failed, or came late."""
        if answer.error is not None:
            self.strike(version, f"{type(answer.error).__name__}: {answer.error}")
        elif answer.seconds > self.budget_s:
            self.strike(version, f"took {answer.seconds * 1e3:.0f} ms, more than bot.shadow_budget_ms")
        else:
            self._well(version)

    def strike(self, version: int, why: str, *, out: bool = False) -> None:
        """It failed or was late; `out`: cut it off at once."""
        self._count[version] = self._count.get(version, 0) + 1
        if version not in self.cut and (out or self._count[version] >= STRIKES):
            pause = 2 * self._pause[version] if version in self._pause else PAUSE
            self._pause[version] = self._left[version] = pause
            self.cut[version] = why
            self.report(version, why, pause)

    def forget(self, standing: Mapping[int, Bundle]) -> None:
        """A version that left the lineup and comes back begins anew."""
        for version in [v for v in self._pause if v not in standing]:
            for by_version in (self.cut, self._count, self._pause, self._left):
                by_version.pop(version, None)

    def _well(self, version: int) -> None:
        """It scored in time; after as many bars as its last pause had, that is forgotten."""
        self._count[version] = 0
        if version in self.cut or version not in self._pause:
            return
        if self._left[version] == self._pause[version]:
            self.mended(version)
        self._left[version] -= 1
        if self._left[version] <= 0:
            del self._pause[version], self._left[version]


@dataclass(frozen=True, slots=True)
class AnswerSink:
    """Where an arm's answer goes, in whichever thread it was asked: it is kept, and judged."""

    strikes: Strikes
    keep: Callable[[Scores], None]

    def take(self, bar: Scores, version: int, answer: Answer) -> None:
        self.keep(bar.of(version, answer.probability, answer.seconds))
        self.strikes.judge(version, answer)


class Shadows:
    """Scores in a thread of its own; `desk` gets what each version said."""

    def __init__(self, desk: AnswerSink) -> None:
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
            for version, bundle in task.bundles.items():
                if version not in self._strikes.cut and not self._scored(turn, task, version, bundle):
                    return
            task.over.set()
            with self._changed:
                if self._turn == turn:
                    self._busy = None

    def _scored(self, turn: int, task: Task, version: int, bundle: Bundle) -> bool:
        """False where this thread was replaced meanwhile."""
        bar = task.scores
        self._busy = (bar, version, time.monotonic())
        answer = ask(bundle, bar.values, bar.names)
        with self._changed:  # a thread that was replaced keeps nothing: its version is cut off
            if self._turn != turn:
                return False
            if answer.probability is not None:
                task.probabilities[version] = answer.probability
            self._desk.take(bar, version, answer)
        return True
