"""What was measured, held against the lines that a person drew: warning, soft, hard. No statistics, no clock."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from mlops.errors import DataError
from mlops.types import Finding, Level

ALL = "all"  # the scope of every book together; any other is a strategy's name
BEYOND = 1e9  # hard lines: what counts where a ratio has no equity under it
ROUNDING = 1e-9  # of a line: 1 - 0.8 is on a line of 0.2
PLAIN_FROM = 2.0  # a fraction with a hard line from here on is told as a number: 3.00 reads better than 300.0 %


class State(StrEnum):
    """Where a measure stands: at or above the line of that name, and below the next one."""

    OK = "ok"
    WARNING = "warning"
    SOFT = "soft"
    HARD = "hard"
    UNKNOWN = "unknown"  # never OK


LEVELS = {
    State.OK: Level.OK,
    State.WARNING: Level.WARN,
    State.SOFT: Level.ALERT,
    State.HARD: Level.ALERT,
    State.UNKNOWN: Level.UNKNOWN,
}


@dataclass(frozen=True, slots=True)
class Line:
    """The lines of one measure in one scope, in the measure's own unit; 0 < warning <= soft <= hard.

    Raises
    ------
    DataError
        They are not in this order, or not finite.
    """

    measure: str
    warning: float
    soft: float
    hard: float
    owner: str = "desk"
    scope: str = ALL

    def __post_init__(self) -> None:
        if not 0 < self.warning <= self.soft <= self.hard < math.inf:
            got = f"{self.warning:g}, {self.soft:g}, {self.hard:g}"
            raise DataError(f"lines of {self.measure} must rise from warning to hard, got {got}. Put them in order.")


@dataclass(frozen=True, slots=True)
class Measured:
    """The value of a measure; NaN, or a reason in `why`, where it is not known.

    `at_least`: `value` counts although something is missing, so that a line which it crosses is crossed; `words` say
    what it is (known from below, of what is known, or with stand-ins for what is not). `bounded`: whether it is told as
    a bound while it crosses nothing; what is missing may be of any size where it is not. `n` as of a `Finding`.
    `beyond`: why there is no ratio, and every line is crossed all the same: something is held, and no equity under it.
    """

    measure: str
    value: float
    scope: str = ALL
    n: int = 0
    why: str = ""
    at_least: bool = False
    words: str = "at least"
    bounded: bool = True
    beyond: str = ""


def judge(lines: Sequence[Line], measured: Iterable[Measured]) -> tuple[Finding, ...]:
    """Each line against what was measured.

    Parameters
    ----------
    lines : sequence of Line
    measured : iterable of Measured
        At most one for each measure and scope; a gain is a negative loss. Measures without a line are not judged.

    Returns
    -------
    tuple of Finding
        One a line, in their order: `name` the measure, `subject` the scope, `limit` the hard line. `params`: `state` (a
        `State`), `utilisation` = value / hard, `headroom` = hard - value (in the measure's unit; negative beyond it),
        the lines, `owner`, `why`, `bound` (what counts where something is missing, else NaN). A measure that is not
        known is UNKNOWN, with NaN for value, utilisation, headroom. One that is beyond every line counts as `BEYOND`
        times its hard one, and `params` has the reason in `beyond`.

    Raises
    ------
    DataError
        A measure is given twice for one scope.

    Examples
    --------
    >>> line = Line("var", warning=0.02, soft=0.03, hard=0.05)
    >>> [found] = judge([line], [Measured("var", 0.04, n=2000)])
    >>> found.params["state"].value, round(found.params["utilisation"], 2), found.note
    ('soft', 0.8, 'var 4.0 %, at or over the soft line of 3.0 % (hard: 5.0 %)')
    """
    known: dict[tuple[str, str], Measured] = {}
    for measure in measured:
        if known.setdefault((measure.measure, measure.scope), measure) is not measure:
            got = f"{measure.measure} of {measure.scope} twice"
            raise DataError(f"measures must be given once a scope, got {got}. Give the latest.")
    return tuple(_judged(line, known.get((line.measure, line.scope))) for line in lines)


def _judged(line: Line, m: Measured | None) -> Finding:
    state = _state(line, m)
    beyond = m.beyond if m is not None and state is not State.UNKNOWN else ""
    value = m.value if m is not None and state is not State.UNKNOWN else math.nan
    value = BEYOND * line.hard if beyond else value
    counts = m is not None and m.at_least and m.why and (m.bounded or state is not State.UNKNOWN)
    bound = m.value if m is not None and counts and math.isfinite(m.value) else math.nan
    why = "it was not measured" if m is None else m.why or ("" if math.isfinite(value) else "it is not a number")
    params = {
        "state": state,
        "utilisation": value / line.hard,
        "headroom": line.hard - value,
        "warning": line.warning,
        "soft": line.soft,
        "owner": line.owner,
        "why": why,
        "bound": bound,
        "beyond": beyond,
    }
    words = m.words if m is not None and why else ""
    note, n = _note(line, state, value, words, beyond or why), 0 if m is None else m.n
    return Finding(line.measure, value, line.hard, LEVELS[state], n, params, subject=line.scope, note=note)


def _state(line: Line, m: Measured | None) -> State:
    if m is None or not (m.beyond or math.isfinite(m.value)):
        return State.UNKNOWN
    value = math.inf if m.beyond else m.value
    crossed = [s for s in (State.WARNING, State.SOFT, State.HARD) if value >= getattr(line, s.value) * (1 - ROUNDING)]
    if m.why and not (m.at_least and crossed):
        return State.UNKNOWN
    return crossed[-1] if crossed else State.OK


def _note(line: Line, state: State, value: float, words: str, why: str) -> str:
    def told(number: float) -> str:
        return f"{number:.2f}" if line.hard >= PLAIN_FROM else f"{100 * number:.1f} %"

    name = line.measure if line.scope == ALL else f"{line.measure} of {line.scope}"
    if state is State.UNKNOWN:
        return f"{name} is not known: {why}"
    if value >= BEYOND * line.hard:
        return f"{name} is beyond its hard line of {told(line.hard)}: {why}"
    least = f"{words} " if words else ""
    if state is State.OK:
        return f"{name} {told(value)}, under the warning line of {told(line.warning)}"
    hard = "" if state is State.HARD else f" (hard: {told(line.hard)})"
    return f"{name} {least}{told(value)}, at or over the {state.value} line of {told(getattr(line, state.value))}{hard}"
