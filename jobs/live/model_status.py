"""How a model stands, and why: the worst of its open alerts, its limits, the last evidence, and how fresh that is."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from jobs import limits
from jobs.context import Context
from jobs.live.freshness import Fresh, Freshness
from mlops.errors import CorruptionError
from mlops.io.ledger import Promotion
from mlops.types import Alert, Decision, Level, Priority, Report
from mlops.web.messages import ModelNow, Reason

EVIDENCE = "monitor"  # kind of the state that the monitor job leaves in the ledger
STALE = timedelta(days=15)  # evidence comes weekly: two looks that did not happen
WEIGHTS = {Priority.CRITICAL: Level.ALERT, Priority.HIGH: Level.ALERT, Priority.MEDIUM: Level.WARN}
ORDER = [Level.OK, Level.UNKNOWN, Level.WARN, Level.ALERT]  # what is not known is never in order


def keep(context: Context, report: Report, decision: Decision) -> None:
    """Leave what the monitor job found in the ledger, where the page finds it while MLflow is down."""
    verdict = next(f for f in report.findings if f.name == "layer_verdict")
    body = {
        "version": report.model.version,
        "level": verdict.level.value,
        "note": verdict.note,
        "n": verdict.n,
        "verdict": decision.verdict.value,
        "reason": decision.reason,
    }
    context.ledger.risk.put_state(EVIDENCE, report.model.name, report.as_of, body, {})


class Standing:
    """One look at all models: their alerts and feeds are read once."""

    def __init__(self, context: Context, as_of: datetime, freshness: Freshness) -> None:
        self._context, self._as_of, self._freshness = context, as_of, freshness
        self._alerts = [alert for alert in context.ledger.alerts.newest() if alert.as_of <= as_of]
        self._bars = freshness.bars(as_of)

    def judged(self, model: str, now: ModelNow) -> ModelNow:
        """The model with its level, the reasons for it, and what came last."""
        fresh = self._freshness.model(model, self._as_of)
        log = [
            entry
            for entry in self._context.ledger.registry.promotions(model)
            if entry.state != "undone" and entry.created_at <= self._as_of
        ]
        reasons = {
            "alerts": self._open(model),
            "limits": self._limits(log),
            "evidence": self._evidence(model, log),
            "predictions": _predictions(fresh, log),
            "bars": self._newest(model, fresh),
        }
        level = max((reason.level for reason in reasons.values()), key=ORDER.index)
        return replace(
            now,
            level=level,
            reasons=reasons,
            last_prediction=fresh.prediction,
            last_outcome=fresh.outcome,
            last_bar=fresh.bar,
        )

    def _open(self, model: str) -> Reason:
        alerts = [alert for alert in self._alerts if _about(alert, model)]
        worst = max((WEIGHTS.get(alert.priority, Level.OK) for alert in alerts), key=ORDER.index, default=Level.OK)
        if not alerts:
            return Reason(Level.OK, "No alert is open.")
        first = min(alerts, key=lambda alert: [*Priority].index(alert.priority))
        more = f" And {len(alerts) - 1} more." if len(alerts) > 1 else ""
        return Reason(worst, f"{first.priority.value.capitalize()}: {first.title.rstrip('.')}.{more}")

    def _limits(self, log: list[Promotion]) -> Reason:
        if not log:
            return Reason(Level.UNKNOWN, "It has no champion: nothing is held against a limit.")
        try:
            report, _ = limits.held(self._context, log, self._as_of)
        except CorruptionError as error:
            return Reason(Level.UNKNOWN, f"Not looked at: {error}")
        findings = [f for f in report.findings if not f.subject]
        broken = [f for f in findings if f.level is Level.ALERT]
        unknown = [f for f in findings if f.level is Level.UNKNOWN]
        if broken:
            return Reason(Level.ALERT, f"Broken: {'; '.join(f.note for f in broken)}.")
        if len(unknown) == len(findings):
            return Reason(Level.UNKNOWN, "Held against no hard limit yet: it has neither bars nor scores.")
        book = next(f for f in findings if f.name == "limit_drawdown")
        if book.level is Level.UNKNOWN:
            return Reason(Level.UNKNOWN, "Its book has no bars as champion yet: what it lost is not known.")
        return Reason(Level.OK, f"Hard limits are kept: {book.note}.")

    def _evidence(self, model: str, log: list[Promotion]) -> Reason:
        """What the monitor job said last, of the version that is champion now."""
        state = self._context.ledger.risk.state(EVIDENCE, model, as_of=self._as_of)
        if state is None:
            return Reason(Level.UNKNOWN, "It was not looked at yet: the weekly monitor job has not run on it.")
        body, day = state.body, f"{state.as_of:%Y-%m-%d}"
        if not log or body["version"] != log[-1].to_version:
            return Reason(Level.UNKNOWN, f"The last look, on {day}, was at v{body['version']}, not at the champion.")
        if self._as_of - state.as_of > STALE:
            return Reason(Level.UNKNOWN, f"The last look was on {day}: the monitor job has not run since.")
        return Reason(Level(body["level"]), f"On {day}: {body['note']}.")

    def _newest(self, model: str, fresh: Fresh) -> Reason:
        """Freshness of its own books' bars; those of other models stand for none of its own."""
        if fresh.bar is None:
            return Reason(Level.UNKNOWN, "Its books have no bars yet.")
        bars = self._bars.get(model)
        if bars is not None and bars.level is Level.ALERT:
            return Reason(Level.WARN, f"No new bars: {bars.note}.")
        return Reason(Level.OK, f"The last bar is of {fresh.bar:%Y-%m-%d %H:%M} UTC.")


def _predictions(fresh: Fresh, log: list[Promotion]) -> Reason:
    if fresh.silence.level is not Level.OK:
        lead = "Silent" if fresh.silence.level is Level.ALERT else "It never predicted"
        return Reason(fresh.silence.level, f"{lead}: {fresh.silence.note}.")
    champion = log[-1].to_version if log else None
    last = fresh.prediction
    if last is not None and log and log[-1].created_at < last and fresh.champion not in (None, champion):
        return Reason(Level.WARN, f"Its bot trades by v{fresh.champion} still; v{champion} is the champion.")
    return Reason(Level.OK, f"Predictions: {fresh.silence.note}.")


def _about(alert: Alert, model: str) -> bool:
    """Its own, and those about a line on the risk of its books."""
    kind, _, rest = alert.key.partition(":")
    return alert.model == model or (kind == "risk_limit" and rest.partition(":")[2].startswith(f"{model}:"))


def told(fresh: Fresh) -> str:
    """Last prediction, outcome and bar."""
    names = {"prediction": fresh.prediction, "outcome": fresh.outcome, "bar": fresh.bar}
    return ", ".join(f"last {name} {at:%Y-%m-%d %H:%M} UTC" if at else f"no {name} yet" for name, at in names.items())
