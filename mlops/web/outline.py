"""The outline of a JSON text: brackets, commas and colons outside of its strings, found without building anything.

Time and memory grow with the length of the text, whatever is in it: a hostile body costs what a good one does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]
QUOTE, SLASH, LINE, COLON, COMMA = b'"\\\n:,'
MARK = np.zeros(256, dtype=np.bool_)  # the bytes that an outline is made of
MARK[list(b'"\n:,[]{}')] = True
STEP = np.zeros(256, dtype=np.int32)  # what a byte does to the depth
STEP[list(b"[{")], STEP[list(b"]}")] = 1, -1


@dataclass(frozen=True, slots=True)
class Outline:
    """The marks of a text: where each is, which byte, and how many brackets are open behind it."""

    text: bytes
    at: Positions
    marks: NDArray[np.uint8]
    depths: NDArray[np.int32]

    @property
    def depth(self) -> int:
        """How deep it nests."""
        return int(self.depths.max(initial=0))

    @property
    def names(self) -> int:
        """Members of all its objects, also those that are named twice."""
        return int((self.marks == COLON).sum())

    def items(self) -> list[bytes] | None:
        """The items of the list that the text is, each as it stands there; None where it is no list that closes."""
        whole = self.text.strip(b" \t\r\n")
        closes = len(self.depths) and self.depths[-1] == 0 and (self.depths[:-1] > 0).all()
        if not closes or whole[:1] != b"[" or whole[-1:] != b"]":
            return None
        ends = [*self.at[(self.marks == COMMA) & (self.depths == 1)].tolist(), int(self.at[-1])]
        starts = [int(self.at[0]) + 1, *(end + 1 for end in ends[:-1])]
        found = [self.text[start:end].strip() for start, end in zip(starts, ends, strict=True)]
        return [] if found == [b""] else found


def outline(text: bytes, *, lines: bool = False) -> Outline:
    """The outline of a JSON text, or of one JSON text a line."""
    raw = np.frombuffer(text, dtype=np.uint8)
    marked = MARK[raw]
    marked[_escaped_quotes(raw)] = False
    at = np.flatnonzero(marked)
    marks = raw[at]
    quotes = np.cumsum(marks == QUOTE, dtype=np.int32)
    outside = (marks != QUOTE) & ((quotes - _before_line(quotes, marks, lines=lines)) % 2 == 0)
    at, marks = at[outside], marks[outside]
    depths = np.cumsum(STEP[marks], dtype=np.int32)
    return Outline(text, at, marks, depths - _before_line(depths, marks, lines=lines))


def _escaped_quotes(raw: NDArray[np.uint8]) -> Positions:
    """Quotes behind an odd number of backslashes."""
    slashes = np.flatnonzero(raw == SLASH)
    if not len(slashes):
        return slashes
    run = np.maximum.accumulate(np.where(np.diff(slashes, prepend=-2) > 1, slashes, 0))  # where its run begins
    behind = slashes[(slashes - run) % 2 == 0] + 1
    behind = behind[behind < len(raw)]
    found: Positions = behind[raw[behind] == QUOTE]
    return found


def _before_line(count: NDArray[np.int32], marks: NDArray[np.uint8], *, lines: bool) -> NDArray[np.int32]:
    """What a running count was at the end of the line before."""
    if not lines or not len(count):
        return np.zeros_like(count)
    last = np.maximum.accumulate(np.where(marks == LINE, np.arange(len(marks)), -1))
    return np.where(last < 0, 0, count[last])
