"""Kinds of alerts, each declared once: its key, priority, title, how it closes, and where the runbook explains it.

To add one, add a line to `ALERTS` and a row to `docs/runbook.md`, then say what is true:

    ledger.alerts.settle("feed_stale", [ALERTS["feed_stale"].alert(at, source=…, since=…, …)], at)
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
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
    name : str
        How code names it.
    key : str
        What makes an alert unique, with a `<label>` for each part that differs; stored keys never change.
    title : str
        What a person reads first, with a `{label}` or `{word}` for each part that differs.
    closes : Closes
        How it ends.
    priorities : Priority or tuple of Priority
        The priorities that it may have; of several, whoever raises it says which.
    facts : tuple of str
        Details that, with the model, say what it is about where the key does not.
    section : str
        Anchor in `docs/runbook.md`; given by the table.
    """

    name: str
    key: str
    title: str
    closes: Closes
    priorities: tuple[Priority, ...] = (Priority.HIGH,)
    facts: tuple[str, ...] = field(default=(), kw_only=True)
    section: str = field(default="", kw_only=True)

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
    same = [kind for kind in SPECIFIC_FIRST if key.startswith(kind.prefix)]
    for kind in (*(kind for kind in same if kind.pattern.fullmatch(key)), *same):
        return kind
    raise DataError(f"alert must be of a kind in mlops.alerts.ALERTS, got {key!r}. Declare its kind there.")


def _section(anchor: str, *kinds: Kind) -> tuple[Kind, ...]:
    return tuple(replace(kind, section=anchor) for kind in kinds)


PERSON, FACT, AGAIN, EVIDENCE = Closes.BY_PERSON, Closes.WITH_FACT, Closes.RAISED_AGAIN, Closes.AT_ONCE
CRITICAL, HIGH, MEDIUM, LOW = ((priority,) for priority in Priority)

TABLE = (
    *_section(
        "the-set-up",
        Kind("part_down", "part_down:<part>:<since>", "{part} {why}; it is being started again", FACT),
        Kind(
            "part_loop",
            "part_down:<part>:<since>:loop",
            "{part} keeps ending ({failures} times in a row); it is tried again, ever later",
            FACT,
            CRITICAL,
        ),
        Kind("disk_low", "disk_low:<since>", "disk of the state folder has too little room", FACT, CRITICAL),
        Kind(
            "loop_failed",
            "loop_failed:<loop>@<time>",
            "loop {loop} of the service does not do its work: {why}",
            AGAIN,
            CRITICAL,
        ),
        Kind(
            "job_dead",
            "job_dead:<job>@<time>:<died>",
            "job {job}@{time} failed at each attempt and is not tried any more",
            FACT,
        ),
        Kind(
            "job_parked",
            "job_parked:<job>@<time>",
            "job {job}@{time} is parked: its code cannot be imported; it runs by itself when it can",
            FACT,
        ),
        Kind("hook", "hook:<name>:<time>", "hook {name}: {why}", AGAIN),
    ),
    *_section(
        "the-bot",
        Kind(
            "bundle_altered",
            "bundle_altered:<model>:v<version>",
            "{ref}: MLflow serves other files than were uploaded; the version is not used: {why}",
            PERSON,
        ),
        Kind(
            "mlflow_writer_revoked",
            "mlflow_writer_revoked:<account>@<time>",
            "account {account} of MLflow owned what is the platform's; taken back: {rights}",
            PERSON,
        ),
        Kind(
            "mlflow_writer",
            "mlflow_writer:<account>@<time>",
            "account {account} of MLflow may write what is the platform's: {rights}",
            AGAIN,
        ),
        Kind(
            "swap_rejected",
            "swap_rejected:<model>:<version>:<day>",
            "swap_rejected: {ref} was not taken up, the old model trades on: {why}",
            FACT,
        ),
        Kind(
            "shadow_cut_off",
            "shadow_cut_off:<model>:<version>:<day>",
            "shadow_cut_off: {model} v{version} is not scored for the next {bars} bars: {why}",
            FACT,
            MEDIUM,
        ),
        Kind(
            "spool_full",
            "spool_full:<model>:<time>",
            "spool_full: {n} scores of {model} were not kept: no room while the ledger was away",
            PERSON,
        ),
        Kind(
            "spool_damaged",
            "spool_damaged:<hour>",
            "{n} damaged records of the spool were put aside in {folder}",
            PERSON,
        ),
        Kind(
            "predictions_refused",
            "predictions_refused:<model>:<day>",
            "predictions_refused: scores of {bot} were not taken into the ledger: {why}",
            PERSON,
        ),
        Kind("bot_silent", "bot_silent:<model>:<since>", "{model}: its bot is silent: {note}", FACT),
        Kind("feed_stale", "feed_stale:<source>:<since>", "No {prices} come: {note}", FACT),
        Kind("bars_changed", "bars_changed:<source>:<symbol>@<time>", "set aside, {why}", AGAIN),
        Kind("bars_rejected", "bars_rejected:<source>:<symbol>@<time>", "set aside, {why}", AGAIN),
    ),
    *_section(
        "models-and-books",
        Kind("alarm_accuracy", "alarm_accuracy:<model>:v<version>:<since>", "{text}", FACT),
        Kind("labels_stopped", "labels_stopped:<model>:<time>", "{model}: {note}", AGAIN),
        Kind(
            "labels_missing",
            "labels_missing:<model>:<time>",
            "{model}: {note}",
            AGAIN,
            MEDIUM,
            facts=("model", "units"),
        ),
        Kind("alarm_unanswered", "alarm_unanswered:<model>:v<version>:<told>", "{model}: {reason}", AGAIN),
        Kind("alarm_inputs", "alarm_inputs:<model>:v<version>:<since>", "{text}", FACT),
        Kind("book_departed", "book_departed:<model>:<book>:<week>", "book_departed: {reason}", PERSON),
        Kind(
            "position_unknown",
            "position_unknown:<row>@<time>",
            "position {row} is not known, and no limit sees it: {why}",
            AGAIN,
            CRITICAL,
        ),
        Kind("model_unknown", "model_unknown:<model>", "{text}", PERSON),
        Kind("model_left_out", "model_left_out:<model>", "{why}", FACT, (Priority.LOW,)),
        Kind(
            "fills_refused",
            "fills_refused:<source>:<hour>",
            "fills_refused: {n} fills from {source} are in no book; the first: {why}",
            PERSON,
        ),
    ),
    *_section(
        "risk",
        Kind(
            "risk_limit",
            "risk_limit:<measure>:<scope>:<line>:<n>",
            "{note}; {owner} answers for it",
            AGAIN,
            CRITICAL + HIGH,
        ),
        Kind(
            "limit_unknown",
            "limit_unknown:<measure>:<scope>:<n>",
            "the line on {of} cannot be held for certain: {why}",
            AGAIN,
        ),
        Kind("clock_back", "clock_back:<instant>", "clock_back: {why}", AGAIN, CRITICAL),
        Kind(
            "clock_accepted",
            "clock_accepted:<instant>",
            "clock_accepted: {actor} said that {now:%F %T} UTC is right after the look of {newest:%F %T} UTC: {reason}",
            EVIDENCE,
            LOW,
        ),
        Kind(
            "balance_unknown",
            "balance_unknown:<digest>@<time>",
            "no balance of {books} is known: no limit in per cent of equity is held against it",
            AGAIN,
        ),
        Kind("balance_less", "balance_departs:<model>:<book>:less:<time>", "{text}", PERSON),
        Kind("balance_unexplained", "balance_unexplained:<model>:<book>:<time>", "{text}", FACT),
        Kind("balance_more", "balance_departs:<model>:<book>:more:<n>", "{text}", AGAIN),
        Kind(
            "balance_confirmed",
            "balance_confirmed:<model>:<book>:<time>",
            "{actor} confirmed {amount:,.2f} as the balance of {model}/{book}: {reason}",
            EVIDENCE,
            LOW,
        ),
        Kind(
            "var_backtest",
            "var_backtest:<date>",
            "var_backtest: the VaR that is shown fails its own backtest: {note}",
            AGAIN,
        ),
        Kind("correlation_breakdown", "correlation_breakdown:<date>", "correlation_breakdown: {note}", AGAIN, MEDIUM),
        Kind("fill_doubtful", "fill_doubtful:<fill>", "{text}", AGAIN, facts=("fill",)),
        Kind("fill_confirmed", "fill_confirmed:<fill>", "{actor} confirmed fill {fill}: {reason}", EVIDENCE, LOW),
        Kind("price_jump", "price_jump:<unit>:<time>", "price_jump: {note}", FACT),
        Kind(
            "risk_accepted",
            "risk_accepted:<measure>:<scope>:<seq>",
            "{actor} lifted trading to {state} while {measure}:{scope} stood at {used:.0%} of its hard line; "
            "accepted up to {most:.0%}",
            FACT,
            MEDIUM,
        ),
        Kind("trading_state", "trading_state:<seq>", "{reason}", FACT, CRITICAL),
    ),
    *_section(
        "the-registry",
        Kind("rollback", "rollback:<model>:<seq>", "{model} rolled back from {left} to v{to}: {reason}", PERSON),
        Kind(
            "transition_undone",
            "transition-undone:<model>:<seq>",
            "{model}: {move} to v{to} was undone: MLflow has no such version any more",
            PERSON,
        ),
        Kind("not_comparable", "not_comparable:<model>:v<version>:v<champion>", "no challenger: {why}", PERSON),
        Kind(
            "comparison_broken",
            "comparison_broken:<model>:<experiment>",
            "{model}: the comparison of {challenger} with {champion} is broken: {why}",
            PERSON,
        ),
        Kind(
            "shadow_unreported",
            "shadow_unreported:<model>:<comparison>",
            "{challenger} cannot leave the shadow stage: {why}",
            PERSON,
            MEDIUM,
        ),
        Kind(
            "challenger_withdrawn",
            "challenger_withdrawn:<model>:v<version>:<comparison>.<weights>",
            "{model}: {reason}",
            PERSON,
        ),
        Kind("limit", "limit:<model>:<seq>", "{model}: a hard limit broke, {then}: {reason}", FACT, CRITICAL),
        Kind("by_hand", "by-hand:<model>:<seq>", "{model}: champion v{to} was adopted (was {left}): {reason}", PERSON),
        Kind("by_hand_undone", "by-hand-undone:v<version>:<model>:<hour>", "{model}: {text}", PERSON),
        Kind("champion_deleted", "alias-deleted:champion:<model>:<hour>", "{model}: {text}", PERSON),
        Kind("previous_undone", "alias-undone:previous_champion:<model>:<hour>", "{model}: {text}", PERSON, MEDIUM),
        Kind("challenger_undone", "alias-undone:challenger:<model>:<hour>", "{model}: {text}", PERSON, MEDIUM),
        Kind(
            "version_copied",
            "version-copied:<model>:v<version>",
            "{text} (Promote model): nothing trades the copy",
            PERSON,
            MEDIUM,
        ),
        Kind("nominated_by_hand", "nominated-by-hand:v<version>:<model>:<hour>", "{model}: {text}", PERSON, MEDIUM),
        Kind("withdrawn_by_hand", "withdrawn-by-hand:v<version>:<model>:<hour>", "{model}: {text}", PERSON, MEDIUM),
        Kind("version_deleted", "version-deleted:v<version>:<model>", "{model}: {text}", PERSON, CRITICAL + HIGH + LOW),
        Kind("none_left", "version-deleted:v<version>:<model>:<day>", "{model}: {text}", PERSON, CRITICAL),
        Kind("model_renamed", "model-renamed:<model>:<hour>", "{model}: {text}", PERSON),
        Kind("model_deleted", "model-deleted:<model>:<day>", "{model}: {text}", PERSON, CRITICAL),
    ),
)
ALERTS: Mapping[str, Kind] = {kind.name: kind for kind in TABLE}
SPECIFIC_FIRST = sorted(TABLE, key=lambda kind: -len(LABEL.sub("", kind.key)))
