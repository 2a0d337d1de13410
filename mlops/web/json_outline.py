"""The outline of a JSON text: brackets, commas and colons outside of its strings, found without building anything.

Time and memory grow with the length of the text, whatever is in it: a hostile body costs what a good one does.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]
QUOTE, SLASH, LINE, COLON, COMMA = b'"\\\n:,'
BLANK = np.zeros(256, dtype=np.bool_)  # what `bytes.strip` takes away
BLANK[list(b" \t\n\r\x0b\x0c")] = True
MARK = np.zeros(256, dtype=np.bool_)  # the bytes that an outline is made of
MARK[list(b'"\n:,[]{}')] = True
STEP = np.zeros(256, dtype=np.int32)  # what a byte does to the depth
STEP[list(b"[{")], STEP[list(b"]}")] = 1, -1
OPENS = STEP == 1


@dataclass(frozen=True, slots=True)
class Items:
    """The items of a list, or lines of a text: where each stands, and how many marks, members and brackets it has."""

    starts: Positions
    ends: Positions
    marks: Positions
    names: Positions
    opens: Positions

    def __len__(self) -> int:
        return len(self.starts)

    def where(self, chosen: NDArray[np.bool_]) -> Items:
        """Some of them."""
        of = (self.starts, self.ends, self.marks, self.names, self.opens)
        return Items(*(column[chosen] for column in of))

    def texts(self, text: bytes) -> list[bytes]:
        """Each as it stands there."""
        return [text[i:j].strip() for i, j in zip(self.starts.tolist(), self.ends.tolist(), strict=True)]


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

    def items(self) -> Items | None:
        """The items of the list that the text is; None where it is no list that closes."""
        closes = len(self.depths) > 1 and self.depths[-1] == 0 and (self.depths[:-1] > 0).all()
        if not closes or self.text.strip(b" \t\r\n")[:1] != b"[" or self.text.strip(b" \t\r\n")[-1:] != b"]":
            return None
        commas = np.flatnonzero((self.marks == COMMA) & (self.depths == 1))
        cuts = np.concatenate([[0], commas, [len(self.at) - 1]])
        pieces = self._between(cuts, self.at[cuts[:-1]] + 1, self.at[cuts[1:]])
        only = len(pieces) == 1 and not self.text[int(pieces.starts[0]) : int(pieces.ends[0])].strip()
        return pieces.where(np.zeros(1, dtype=np.bool_)) if only else pieces

    def lines(self) -> Items:
        """The lines that are not empty."""
        ends = np.flatnonzero(self.marks == LINE)
        cuts = np.concatenate([[-1], ends, [len(self.at)]])
        starts = np.concatenate([[0], self.at[ends] + 1])
        pieces = self._between(cuts, starts, np.concatenate([self.at[ends], [len(self.text)]]))
        if starts[-1] == len(self.text):
            pieces = pieces.where(np.arange(len(pieces)) < len(pieces) - 1)
        if not len(pieces):
            return pieces
        inked = ~BLANK[np.frombuffer(self.text, dtype=np.uint8)]
        return pieces.where(np.logical_or.reduceat(inked, pieces.starts))

    def rows(self, depth: int) -> Items:
        """What lies between the commas at a depth, of the whole text."""
        commas = np.flatnonzero((self.marks == COMMA) & (self.depths == depth))
        cuts = np.concatenate([[-1], commas, [len(self.at)]])
        starts = np.concatenate([[0], self.at[commas] + 1])
        return self._between(cuts, starts, np.concatenate([self.at[commas], [len(self.text)]]))

    def _between(self, cuts: Positions, starts: Positions, ends: Positions) -> Items:
        """The pieces between marks that cut."""
        begin, end = cuts[:-1] + 1, cuts[1:]
        names, opens = (_counted(chosen, begin, end) for chosen in (self.marks == COLON, OPENS[self.marks]))
        return Items(starts, ends, end - begin, names, opens)


def _counted(chosen: NDArray[np.bool_], begin: Positions, end: Positions) -> Positions:
    """How many are chosen in each piece."""
    count = np.concatenate([[0], np.cumsum(chosen, dtype=np.int64)])
    counts: Positions = count[end] - count[begin]
    return counts


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
    quotes: Positions = behind[raw[behind] == QUOTE]
    return quotes


def _before_line(count: NDArray[np.int32], marks: NDArray[np.uint8], *, lines: bool) -> NDArray[np.int32]:
    """What a running count was at the end of the line before."""
    if not lines or not len(count):
        return np.zeros_like(count)
    last = np.maximum.accumulate(np.where(marks == LINE, np.arange(len(marks)), -1))
    return np.where(last < 0, 0, count[last])
