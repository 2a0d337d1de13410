"""Kinds of alerts, each declared once: its key, priority, title, how it closes, and where the runbook explains it.

To add one, add a line to `ALERTS` and a row to `docs/runbook.md`, then say what is true:

    ledger.alerts.settle("feed_stale", [ALERTS["feed_stale"].alert(at, {"source": …, "since": …})], at)
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from mlops.errors import DataError
from mlops.types import Alert, Priority

LABEL = re.compile(r"<(\w+)>")
STAMP = re.compile(r"[@:](?:\d+|\d{8}T\d{6}|\d{4}-\d\d-\d\d(?:T[\d:.+-]+)?)$")  # number or time that ends a key


class Closes(StrEnum):
    """How an alert of a kind closes; a person may close any of them before."""

    BY_PERSON = "by whoever it tells"
    WITH_FACT = "when the fact ends; what a person closed before stays closed"
    RAISED_AGAIN = "when the fact ends; closed by a person before, it is raised again under another time or number"
    AT_ONCE = "as it comes: it is evidence of what a person did"


@dataclass(frozen=True)
class Kind:
    """One kind of alert.

    Parameters
    ----------
    key : str
        What makes an alert unique, with a `<label>` for each part that differs; stored keys never change.
    closes : Closes
        How it ends.
    priorities : tuple of Priority
        The priorities that it may have; of several, whoever raises it says which.
    title : str
        What a person reads first, with a `{label}` or `{word}` for each part that differs.
    facts : tuple of str
        Details that, with the model, say what it is about where the key does not.
    variant : str
        What tells it from another kind whose key has the same constant parts.
    section : str
        Anchor in `docs/runbook.md`; given by the table.
    """

    key: str
    closes: Closes
    priorities: tuple[Priority, ...]
    title: str = "{text}"
    facts: tuple[str, ...] = ()
    variant: str = ""
    section: str = ""

    @property
    def name(self) -> str:
        """The constant parts of its keys: `bot_silent`, `part_down:loop`."""
        constant = [part for part in self.key.split(":") if "<" not in part]
        return ":".join([*constant, self.variant] if self.variant else constant)

    @property
    def prefix(self) -> str:
        """The constant beginning of its keys."""
        return self.key.partition("<")[0]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """What its keys look like."""
        return re.compile(".*".join(map(re.escape, LABEL.split(self.key)[::2])), re.DOTALL)

    @property
    def numbered(self) -> bool:
        """Whether its keys end with a number, which the ledger gives."""
        return self.key.endswith(":<n>")

    def fact(self, alert: Alert) -> Hashable:
        """What an alert is about, however often a person was told of it."""
        if self.facts:
            rest = STAMP.sub("", alert.key).removeprefix(self.prefix)
            return self.name, *(str(alert.details.get(name, getattr(alert, name, rest))) for name in self.facts)
        return STAMP.sub("", alert.key) if self.closes is Closes.RAISED_AGAIN else alert.key

    def alert(
        self,
        at: datetime,
        words: Mapping[str, object],
        *,
        priority: Priority | None = None,
        details: Mapping[str, Any] | None = None,
        about: str | None = None,
    ) -> Alert:
        """One of this kind; `words` fill key and title, `about` is the model where the key names none.

        Raises
        ------
        DataError
            A word of the key or the title is missing, or the priority is not one of this kind's.
        """
        given = priority or self.priorities[0]
        if given not in self.priorities or (priority is None and len(self.priorities) > 1):
            raise DataError(f"priority of {self.name} must be of {[*self.priorities]}, got {priority}. Give one.")
        try:
            labels = {"n": 0, **words} if self.numbered else words
            key = LABEL.sub(lambda label: str(labels[label[1]]), self.key)
            title = self.title.format_map(words)
        except KeyError as error:
            raise DataError(f"words of {self.name} must fill its key and title, got no {error}. Give it.") from error
        model = about if about is not None else str(words["model"]) if "<model>" in self.key else ""
        return Alert(key, given, model, title, at, details or {})


def kind_of(key: str) -> Kind:
    """The kind that a key is of.

    Raises
    ------
    DataError
        No kind has such keys.
    """
    begins = [kind for kind in SPECIFIC_FIRST if key.startswith(kind.prefix)]
    for kind in (*(kind for kind in begins if kind.pattern.fullmatch(key)), *begins):
        return kind
    raise DataError(f"alert must be of a kind in mlops.alerts.ALERTS, got {key!r}. Declare its kind there.")


def _section(anchor: str, *kinds: Kind) -> tuple[Kind, ...]:
    return tuple(replace(kind, section=anchor) for kind in kinds)


PERSON, FACT, AGAIN, EVIDENCE = Closes.BY_PERSON, Closes.WITH_FACT, Closes.RAISED_AGAIN, Closes.AT_ONCE
CRITICAL, HIGH, MEDIUM, LOW = ((priority,) for priority in Priority)

# fmt: off
TABLE = (
    *_section(
        "the-set-up",
        Kind("part_down:<part>:<since>", FACT, HIGH, "{part} {why}; it is being started again"),
        Kind("part_down:<part>:<since>:loop", FACT, CRITICAL,
             "{part} keeps ending ({failures} times in a row); it is tried again, ever later"),
        Kind("disk_low:<since>", FACT, CRITICAL, "disk of the state folder has too little room"),
        Kind("loop_failed:<loop>@<time>", AGAIN, CRITICAL, "loop {loop} of the service does not do its work: {why}"),
        Kind("job_dead:<job>@<time>:<died>", FACT, HIGH,
             "job {job}@{time} failed at each attempt and is not tried any more"),
        Kind("job_parked:<job>@<time>", FACT, HIGH,
             "job {job}@{time} is parked: its code cannot be imported; it runs by itself when it can"),
        Kind("hook:<name>:<time>", AGAIN, HIGH, "hook {name}: {why}"),
    ),
    *_section(
        "the-bot",
        Kind("bundle_altered:<model>:v<version>", PERSON, HIGH,
             "{ref}: MLflow serves other files than were uploaded; the version is not used: {why}"),
        Kind("mlflow_writer_revoked:<account>@<time>", PERSON, HIGH,
             "account {account} of MLflow owned what is the platform's; taken back: {rights}"),
        Kind("mlflow_writer:<account>@<time>", AGAIN, HIGH,
             "account {account} of MLflow may write what is the platform's: {rights}"),
        Kind("swap_rejected:<model>:<version>:<day>", FACT, HIGH,
             "swap_rejected: {ref} was not taken up, the old model trades on: {why}"),
        Kind("shadow_cut_off:<model>:<version>:<day>", FACT, MEDIUM,
             "shadow_cut_off: {model} v{version} is not scored for the next {bars} bars: {why}"),
        Kind("spool_full:<model>:<time>", PERSON, HIGH,
             "spool_full: {n} scores of {model} were not kept: no room while the ledger was away"),
        Kind("spool_damaged:<hour>", PERSON, HIGH, "{n} damaged records of the spool were put aside in {folder}"),
        Kind("predictions_refused:<model>:<day>", PERSON, HIGH,
             "predictions_refused: scores of {bot} were not taken into the ledger: {why}"),
        Kind("bot_silent:<model>:<since>", FACT, HIGH, "{model}: its bot is silent: {note}"),
        Kind("feed_stale:<source>:<since>", FACT, HIGH, "No {prices} come: {note}"),
        Kind("bars_changed:<source>:<symbol>@<time>", AGAIN, HIGH, "set aside, {why}"),
        Kind("bars_rejected:<source>:<symbol>@<time>", AGAIN, HIGH, "set aside, {why}"),
    ),
    *_section(
        "models-and-books",
        Kind("alarm_accuracy:<model>:v<version>:<since>", FACT, HIGH),
        Kind("labels_stopped:<model>:<time>", AGAIN, HIGH, "{model}: {note}"),
        Kind("labels_missing:<model>:<time>", AGAIN, MEDIUM, "{model}: {note}", facts=("model", "units")),
        Kind("alarm_unanswered:<model>:v<version>:<told>", AGAIN, HIGH, "{model}: {reason}"),
        Kind("alarm_inputs:<model>:v<version>:<since>", FACT, HIGH),
        Kind("book_departed:<model>:<book>:<week>", PERSON, HIGH, "book_departed: {reason}"),
        Kind("position_unknown:<row>@<time>", AGAIN, CRITICAL,
             "position {row} is not known, and no limit sees it: {why}"),
        Kind("model_unknown:<model>", PERSON, HIGH),
        Kind("model_left_out:<model>", FACT, LOW, "{why}"),
        Kind("fills_refused:<source>:<hour>", PERSON, HIGH,
             "fills_refused: {n} fills from {source} are in no book; the first: {why}"),
    ),
    *_section(
        "risk",
        Kind("risk_limit:<measure>:<scope>:<line>:<n>", AGAIN, CRITICAL + HIGH, "{note}; {owner} answers for it"),
        Kind("limit_unknown:<measure>:<scope>:<n>", AGAIN, HIGH, "the line on {of} cannot be held for certain: {why}"),
        Kind("clock_back:<instant>", AGAIN, CRITICAL, "clock_back: {why}"),
        Kind("clock_accepted:<instant>", EVIDENCE, LOW,
             "clock_accepted: {actor} said that {now:%F %T} UTC is right after the look of {newest:%F %T} "
             "UTC: {reason}"),
        Kind("balance_unknown:<digest>@<time>", AGAIN, HIGH,
             "no balance of {books} is known: no limit in per cent of equity is held against it"),
        Kind("balance_departs:<model>:<book>:less:<time>", PERSON, HIGH),
        Kind("balance_unexplained:<model>:<book>:<time>", FACT, HIGH),
        Kind("balance_departs:<model>:<book>:more:<n>", AGAIN, HIGH),
        Kind("balance_confirmed:<model>:<book>:<time>", EVIDENCE, LOW,
             "{actor} confirmed {amount:,.2f} as the balance of {model}/{book}: {reason}"),
        Kind("var_backtest:<date>", AGAIN, HIGH, "var_backtest: the VaR that is shown fails its own backtest: {note}"),
        Kind("correlation_breakdown:<date>", AGAIN, MEDIUM, "correlation_breakdown: {note}"),
        Kind("fill_doubtful:<fill>", AGAIN, HIGH, facts=("fill",)),
        Kind("fill_confirmed:<fill>", EVIDENCE, LOW, "{actor} confirmed fill {fill}: {reason}"),
        Kind("price_jump:<unit>:<time>", FACT, HIGH, "price_jump: {note}"),
        Kind("risk_accepted:<measure>:<scope>:<seq>", FACT, MEDIUM,
             "{actor} lifted trading to {state} while {measure}:{scope} stood at {used:.0%} of its hard "
             "line; accepted up to {most:.0%}"),
        Kind("trading_state:<seq>", FACT, CRITICAL, "{reason}"),
    ),
    *_section(
        "the-registry",
        Kind("rollback:<model>:<seq>", PERSON, HIGH, "{model} rolled back from {left} to v{to}: {reason}"),
        Kind("transition-undone:<model>:<seq>", PERSON, HIGH,
             "{model}: {move} to v{to} was undone: MLflow has no such version any more"),
        Kind("not_comparable:<model>:v<version>:v<champion>", PERSON, HIGH, "no challenger: {why}"),
        Kind("comparison_broken:<model>:<experiment>", PERSON, HIGH,
             "{model}: the comparison of {challenger} with {champion} is broken: {why}"),
        Kind("shadow_unreported:<model>:<comparison>", PERSON, MEDIUM,
             "{challenger} cannot leave the shadow stage: {why}"),
        Kind("challenger_withdrawn:<model>:v<version>:<comparison>.<weights>", PERSON, HIGH, "{model}: {reason}"),
        Kind("limit:<model>:<seq>", FACT, CRITICAL, "{model}: a hard limit broke, {then}: {reason}"),
        Kind("by-hand:<model>:<seq>", PERSON, HIGH, "{model}: champion v{to} was adopted (was {left}): {reason}"),
        Kind("by-hand-undone:v<version>:<model>:<hour>", PERSON, HIGH),
        Kind("alias-deleted:champion:<model>:<hour>", PERSON, HIGH),
        Kind("alias-undone:previous_champion:<model>:<hour>", PERSON, MEDIUM),
        Kind("alias-undone:challenger:<model>:<hour>", PERSON, MEDIUM),
        Kind("version-copied:<model>:v<version>", PERSON, MEDIUM, "{text} (Promote model): nothing trades the copy"),
        Kind("nominated-by-hand:v<version>:<model>:<hour>", PERSON, MEDIUM),
        Kind("withdrawn-by-hand:v<version>:<model>:<hour>", PERSON, MEDIUM),
        Kind("version-deleted:v<version>:<model>", PERSON, CRITICAL + HIGH + LOW),
        Kind("version-deleted:v<version>:<model>:<day>", PERSON, CRITICAL, variant="none-left"),
        Kind("model-renamed:<model>:<hour>", PERSON, HIGH),
        Kind("model-deleted:<model>:<day>", PERSON, CRITICAL),
    ),
)
# fmt: on
ALERTS: Mapping[str, Kind] = {kind.name: kind for kind in TABLE}
SPECIFIC_FIRST = sorted(TABLE, key=lambda kind: -len(LABEL.sub("", kind.key)))
