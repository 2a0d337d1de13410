"""What hard lines on risk do: tell people, and tighten what the bot may do. Called by whoever measured.

Act: alerts, each once a breach, closed when the measure is back under its warning line; the trading state, which only
tightens here. A person lifts it, with a reason (`jobs.live.trading_state`); what stood then is accepted until it grows
by `policy.WORSE` of its line, or was back under its warning line once. All that is remembered is in the ledger's alerts
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
from mlops.alerts import ALERTS
from mlops.io.ledger.trading_state import TradingChange
from mlops.policy import Breach
from mlops.risk.limits import Line, State
from mlops.settings import RiskLimit
from mlops.types import Alert, Finding, Level, Priority, TradingState

log = structlog.get_logger()
ACTOR = "jobs.risk_limits"
STRICTNESS = [*TradingState]  # from loose to tight
KINDS = ("risk_limit", "risk_accepted", "limit_unknown", "trading_state")
LINES = KINDS[:2]


def lines(limits: Sequence[RiskLimit]) -> tuple[Line, ...]:
    """The lines of the settings (`risk.limits`), as `mlops.risk` takes them."""
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
    desk.settle(findings)
    desk.settle_unknown(findings, unknown)
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
        self._context, self._as_of, self._alerts = context, as_of, context.ledger.alerts
        self.read()

    def read(self) -> None:
        self._changes = self._context.ledger.trading.log()
        self._open = {alert.key: alert for alert in self._alerts.newest(*KINDS)}

    @property
    def state(self) -> TradingState:
        return self._changes[-1].state if self._changes else TradingState.ACTIVE

    @property
    def seq(self) -> int:
        return self._changes[-1].seq if self._changes else 0

    def settle(self, findings: Sequence[Finding]) -> None:
        """Close what is over, begin what is new. What is not known is neither; at a warning, what began goes on."""
        over = tuple(about for finding in findings if finding.level is Level.OK for about in _lines(finding))
        crossed = ((finding, State(finding.params["state"])) for finding in findings if finding.level is Level.ALERT)
        new = [
            self._breach(finding, state)
            for finding, state in crossed
            if self._alert(finding, State.HARD) is None and self._alert(finding, state) is None
        ]
        self._alerts.settle(LINES, new, self._as_of, looked_at=lambda alert: alert.key.startswith(over))
        self.read()

    def settle_unknown(self, findings: Sequence[Finding], unknown: Sequence[Finding]) -> None:
        """Tell, once, that a line cannot be held for certain; what it stood at before stands meanwhile."""
        uncertain = [finding for finding in findings if finding in unknown and finding.params["why"]]
        about = {f"limit_unknown:{f.name}:{f.subject}" for f in findings if f in uncertain or not f.params["why"]}
        kind = ALERTS["limit_unknown"]
        self._alerts.settle(
            kind.name, map(self._uncertain, uncertain), self._as_of, looked_at=lambda a: kind.fact(a) in about
        )

    def _uncertain(self, finding: Finding) -> Alert:
        why, bound, crossed = finding.params["why"], float(finding.params["bound"]), self._crossed(finding)
        counted = f"; it counts as {bound / finding.limit:.0%} of the hard line" if math.isfinite(bound) else ""
        stands = f"; the {crossed.value} line that it crossed before stands" if crossed is not None else ""
        scope = "" if finding.subject == "all" else f" of {finding.subject}"
        words = {"measure": finding.name, "scope": finding.subject, "of": f"{finding.name}{scope}"}
        return ALERTS["limit_unknown"].alert(
            self._as_of, words | {"why": f"{why}{counted}{stands}"}, details={"why": why}
        )

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
        for wanted in ((), [self._breach(finding, State.HARD)]):  # the one that was accepted ends, and another begins
            self._alerts.settle(
                LINES, wanted, self._as_of, looked_at=lambda alert: alert.key.startswith(_lines(finding))
            )
        self.read()
        return Breach(finding, self._as_of, finding.value)

    def tell(self) -> None:
        """Raise the alert of a state that this job set, while it holds."""
        last = self._changes[-1] if self._changes else None
        ours = last is not None and last.actor == ACTOR and last.state is not TradingState.ACTIVE
        wanted = []
        if last is not None and ours:
            wanted = [ALERTS["trading_state"].alert(last.created_at, {"seq": last.seq, "reason": last.reason})]
        self._alerts.settle("trading_state", wanted, self._as_of)

    def _lifted(self) -> TradingChange | None:
        """When a person last made the state looser."""
        states = [TradingState.ACTIVE, *(change.state for change in self._changes)]
        looser = [STRICTNESS.index(to) < STRICTNESS.index(was) for was, to in pairwise(states)]
        return next((change for change, it in zip(reversed(self._changes), reversed(looser), strict=True) if it), None)

    def _accepted(self, finding: Finding, lifted: TradingChange, first: float) -> float:
        """The value that stood when a person lifted the state, -inf where none did or the person took it back.

        Where it was lifted without a look, only the value at which the line was crossed is known to have been seen.
        """
        name = f"{finding.name}:{finding.subject}"
        key = f"risk_accepted:{name}:{lifted.seq}"
        known = self._open.get(key)
        if known is not None:
            return float(known.details["value"])
        value = first if lifted.accepted is None else lifted.accepted.get(name, -math.inf)
        if not math.isfinite(value) or self._alerts.get(key) is not None:
            return -math.inf
        alert = ALERTS["risk_accepted"].alert(
            self._as_of,
            {
                "measure": finding.name,
                "scope": finding.subject,
                "seq": lifted.seq,
                "actor": lifted.actor,
                "state": lifted.state.value,
                "used": value / finding.limit,
                "most": value / finding.limit + policy.WORSE,
            },
            details={"value": value, "reason": lifted.reason},
        )
        stored = alert if self._alerts.add(alert) else self._alerts.get(key) or alert
        self._open[key] = stored
        return float(stored.details["value"])

    def _alert(self, finding: Finding, state: State) -> Alert | None:
        return next((alert for key, alert in self._open.items() if key.startswith(_about(finding, state))), None)

    def _breach(self, finding: Finding, state: State) -> Alert:
        """An alert of its own for each time that a line is crossed: they are numbered."""
        values = {name: finding.params[name] for name in ("utilisation", "warning", "soft", "owner")}
        return ALERTS["risk_limit"].alert(
            self._as_of,
            {
                "measure": finding.name,
                "scope": finding.subject,
                "line": state.value,
                "note": finding.note,
                "owner": finding.params["owner"],
            },
            priority=Priority.CRITICAL if state is State.HARD else Priority.HIGH,
            details={"value": finding.value, "hard": finding.limit, **values},
        )


def _lines(finding: Finding) -> tuple[str, str]:
    """What keys of the alerts about its lines begin with."""
    return f"risk_limit:{finding.name}:{finding.subject}:", f"risk_accepted:{finding.name}:{finding.subject}:"


def _about(finding: Finding, state: State) -> str:
    return f"risk_limit:{finding.name}:{finding.subject}:{state.value}:"
