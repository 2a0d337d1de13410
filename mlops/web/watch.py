"""Whether the loops beside the HTTP service do their work: each says so itself, and what said nothing is not well."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

OK, NOT_YET = "ok", "not looked at yet"


@dataclass(slots=True)
class Part:
    """A loop: how often it should say that it is well, and what it said last."""

    within_s: float
    well_at: float | None = None
    trouble: str = ""


@dataclass(slots=True)
class Watch:
    """The loops of one service. Usable from several threads: each part is written by its own loop alone.

    What was not expected is not watched.

    A part is `ok` for `within_s` seconds after it last said so, unless it said since then what is wrong.
    """

    clock: Callable[[], float] = time.monotonic
    _parts: dict[str, Part] = field(default_factory=dict)

    def expect(self, name: str, within_s: float) -> None:
        """A part that must be well, from now on."""
        self._parts[name] = Part(within_s)

    def well(self, name: str) -> None:
        """A part has done its work."""
        if (part := self._parts.get(name)) is not None:
            part.well_at, part.trouble = self.clock(), ""

    def failed(self, name: str, why: str) -> None:
        """A part could not do its work. `why` is shown to whoever asks, without a key: a class of error, no text."""
        if (part := self._parts.get(name)) is not None:
            part.trouble = why

    def settle(self, name: str, failures: Sequence[str]) -> None:
        """A round is over; what failed in it, if anything."""
        if failures:
            self.failed(name, ", ".join(dict.fromkeys(failures)))
        else:
            self.well(name)

    def within(self, name: str) -> float:
        """For how many seconds a part may say nothing."""
        return self._parts[name].within_s

    def parts(self) -> dict[str, str]:
        """State what is wrong with each part, or OK."""
        return {name: self._told(part) for name, part in list(self._parts.items())}

    def _told(self, part: Part) -> str:
        if part.well_at is None:
            return f"{NOT_YET}{f': {part.trouble}' if part.trouble else ''}"
        ago = self.clock() - part.well_at
        if ago > part.within_s:
            return f"stuck: last well {ago:.0f} s ago, at most {part.within_s:.0f} s is in order"
        return f"failed: {part.trouble}" if part.trouble else OK
