"""What hard lines on risk do: tell people, and tighten what the bot may do. Called by whoever measured.

Act: alerts, each once a breach, closed when the measure is back under its warning line; the trading state, which only
tightens here. A person lifts it, with a reason (`jobs.cli.lift`); what stood then is accepted until it grows by
`policy.WORSE` of its line, or was back under its warning line once. All that is remembered is in the ledger's alerts
and its log of the state, so restarts and a second process change nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise

import structlog

from jobs.context import Context
from mlops import policy
from mlops.io.ledger.trading_state import TradingChange
from mlops.policy import Breach
from mlops.risk.limits import Line, State
from mlops.settings import RiskLimit
from mlops.types import Alert, Finding, Level, Priority, TradingState

log = structlog.get_logger()
ACTOR = "jobs.risk_limits"
STRICTNESS = [*TradingState]  # from loose to tight
OURS = ("risk_limit:", "risk_accepted:", "limit_unknown:", "trading_state:")  # keys of the alerts that this file raises


def lines(limits: Sequence[RiskLimit]) -> tuple[Line, ...]:
    """The lines of the settings (`risk.limits`), as the risk room takes them."""
    return tuple(Line(row.measure, row.warning, row.soft, row.hard, row.owner, row.scope) for row in limits)


def act(
    context: Context, findings: Sequence[Finding], as_of: datetime, *, unknown: Sequence[Finding] = ()
) -> TradingState:
    """Tell of what crossed its lines and tighten the trading state where that asks for it; the state that holds then.

    Parameters
    ----------
    findings : sequence of Finding
        As `mlops.risk.limits.judge` gives them. A line that is not among them is left as it stands.
    unknown : sequence of Finding
        Those of them that a person must hear of because something is missing from what they hold a line against.
    """
    desk = _RiskAlerts(context, as_of)
    for finding in findings:
        desk.settle(finding)
        desk.settle_unknown(finding, wanted=finding in unknown)
    breaches = [breach for finding in findings if (breach := desk.breach(finding)) is not None]
    patience = timedelta(seconds=context.settings.risk.patience_s)
    state, why = policy.on_risk(desk.state, breaches, as_of, patience=patience)
    if why:
        reason = f"{state.value.upper()}: {state.meaning}. Because {why}"
        if context.ledger.trading.set(state, ACTOR, reason, as_of, after=desk.seq):
            log.warning("trading state tightened", state=state.value, why=why)
        desk.read()
    desk.tell()
    return desk.state


class _RiskAlerts:
    """One look: the open alerts about risk, by key, and the log of the trading state."""

    def __init__(self, context: Context, as_of: datetime) -> None:
        self._context, self._as_of = context, as_of
        self.read()

    def read(self) -> None:
        self._changes = self._context.ledger.trading.log()
        self._open = {alert.key: alert for alert in self._context.ledger.alerts.newest() if alert.key.startswith(OURS)}

    @property
    def state(self) -> TradingState:
        return self._changes[-1].state if self._changes else TradingState.ACTIVE

    @property
    def seq(self) -> int:
        return self._changes[-1].seq if self._changes else 0

    def settle(self, finding: Finding) -> None:
        """Close what is over, begin what is new. What is not known is neither; at a warning, what began goes on."""
        if finding.level is Level.OK:
            self._close(finding)
        elif finding.level is Level.ALERT:
            state = State(finding.params["state"])
            if self._alert(finding, State.HARD) is None and self._alert(finding, state) is None:
                self._begin(finding, state)

    def settle_unknown(self, finding: Finding, *, wanted: bool) -> None:
        """Tell, once, that a line cannot be held for certain; what it stood at before stands meanwhile."""
        about = f"limit_unknown:{finding.name}:{finding.subject}:"
        if not (why := finding.params["why"]):
            for key in [key for key in self._open if key.startswith(about)]:
                self._resolve(key)
        elif wanted and not any(key.startswith(about) for key in self._open):
            number = 1 + self._told_of(about)
            bound, crossed = float(finding.params["bound"]), self._crossed(finding)
            counted = f"; it counts as {bound / finding.limit:.0%} of the hard line" if math.isfinite(bound) else ""
            stands = f"; the {crossed.value} line that it crossed before stands" if crossed is not None else ""
            scope = "" if finding.subject == "all" else f" of {finding.subject}"
            title = f"the line on {finding.name}{scope} cannot be held for certain: {why}{counted}{stands}"
            key, details = f"limit_unknown:{finding.name}:{finding.subject}:{number}", {"why": why}
            self._add(Alert(key, Priority.HIGH, "", title, self._as_of, details))

    def _crossed(self, finding: Finding) -> State | None:
        return next((state for state in (State.HARD, State.SOFT) if self._alert(finding, state) is not None), None)

    def breach(self, finding: Finding) -> Breach | None:
        """The hard breach that this is; None where it is none, or one that a person accepted."""
        alert, lifted = self._alert(finding, State.HARD), self._lifted()
        if finding.params["state"] is not State.HARD or alert is None:
            return None
        accepted = any(key.startswith(f"risk_accepted:{finding.name}:{finding.subject}:") for key in self._open)
        first = float(alert.details["value"])
        if lifted is None or (lifted.created_at < alert.as_of and not accepted):
            return Breach(finding, alert.as_of, first)
        if finding.value < self._accepted(finding, lifted, first) + policy.WORSE * finding.limit:
            return None
        self._close(finding)
        self._begin(finding, State.HARD)
        return Breach(finding, self._as_of, finding.value)

    def tell(self) -> None:
        """Raise the alert of a state that this job set, while it holds."""
        last = self._changes[-1] if self._changes else None
        ours = last is not None and last.actor == ACTOR and last.state is not TradingState.ACTIVE
        for key in [
            key for key in self._open if key.startswith("trading_state:") and key != f"trading_state:{self.seq}"
        ]:
            self._resolve(key)
        if last is not None and ours and f"trading_state:{last.seq}" not in self._open:
            self._add(Alert(f"trading_state:{last.seq}", Priority.CRITICAL, "", last.reason, last.created_at))

    def _lifted(self) -> TradingChange | None:
        """When a person last made the state looser."""
        states = [TradingState.ACTIVE, *(change.state for change in self._changes)]
        looser = [STRICTNESS.index(to) < STRICTNESS.index(was) for was, to in pairwise(states)]
        return next((change for change, it in zip(reversed(self._changes), reversed(looser), strict=True) if it), None)

    def _accepted(self, finding: Finding, lifted: TradingChange, first: float) -> float:
        """The value that stood when a person lifted the state, -inf where none did or the person took it back.

        Where it was lifted without a look, only the value at which the line was crossed is known to have been seen.
        """
        key, name = f"risk_accepted:{finding.name}:{finding.subject}:{lifted.seq}", f"{finding.name}:{finding.subject}"
        known = self._open.get(key)
        if known is not None:
            return float(known.details["value"])
        value = first if lifted.accepted is None else lifted.accepted.get(name, -math.inf)
        if not math.isfinite(value) or self._context.ledger.alerts.get(key) is not None:
            return -math.inf
        used, most = f"{value / finding.limit:.0%}", f"{value / finding.limit + policy.WORSE:.0%}"
        stood = f"{name} stood at {used} of its hard line"
        title = f"{lifted.actor} lifted trading to {lifted.state.value} while {stood}; accepted up to {most}"
        return float(self._add(_acceptance(key, title, self._as_of, value, lifted)).details["value"])

    def _alert(self, finding: Finding, state: State) -> Alert | None:
        return next((alert for key, alert in self._open.items() if key.startswith(_about(finding, state))), None)

    def _begin(self, finding: Finding, state: State) -> None:
        """An alert of its own for each time that a line is crossed: they are numbered.

        Two processes that begin the same count the same, for both count before they look at what is open: one alert.
        """
        about = _about(finding, state)
        number = 1 + self._told_of(about)
        self.read()
        if self._alert(finding, state) is not None:
            return
        params = {name: finding.params[name] for name in ("utilisation", "warning", "soft", "owner")}
        self._add(
            Alert(
                f"risk_limit:{finding.name}:{finding.subject}:{state.value}:{number}",
                Priority.CRITICAL if state is State.HARD else Priority.HIGH,
                "",
                f"{finding.note}; {finding.params['owner']} answers for it",
                self._as_of,
                {"value": finding.value, "hard": finding.limit, **params},
            )
        )

    def _told_of(self, about: str) -> int:
        """Number of alerts that were ever told, open or closed, with keys that begin with `about`."""
        return sum(alert.key.startswith(about) for alert in self._context.ledger.alerts.newest(open_only=False))

    def _add(self, alert: Alert) -> Alert:
        """Keep it, or find what was kept under its key before."""
        stored = self._context.ledger.alerts.get(alert.key)
        if stored is None:
            alerts = self._context.ledger.alerts
            stored = alert if alerts.add(alert) else alerts.get(alert.key) or alert
        self._open[alert.key] = stored
        return stored

    def _close(self, finding: Finding) -> None:
        starts = tuple(f"{kind}:{finding.name}:{finding.subject}:" for kind in ("risk_limit", "risk_accepted"))
        for key in [key for key in self._open if key.startswith(starts)]:
            self._resolve(key)

    def _resolve(self, key: str) -> None:
        self._context.ledger.alerts.resolve(key, self._as_of)
        self._open.pop(key)


def _acceptance(key: str, title: str, at: datetime, value: float, lifted: TradingChange) -> Alert:
    return Alert(key, Priority.MEDIUM, "", title, at, {"value": value, "reason": lifted.reason})


def _about(finding: Finding, state: State) -> str:
    return f"risk_limit:{finding.name}:{finding.subject}:{state.value}:"
