"""`trader-mlops status`: what trades and why, what is compared and how far, what is open, what came last."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from textwrap import shorten, wrap
from typing import Any

import httpx
import orjson
from rich.console import Group, RenderableType
from rich.text import Text

from jobs.cli import alerts
from jobs.cli.tables import AsJson, print_json, text
from jobs.cli.terminal import Watch, put, watch, width
from jobs.context import Store, store
from jobs.doctor import part_health
from jobs.live.freshness import Fresh, Freshness
from jobs.stack import up
from jobs.stack.status_board import Standing
from mlops.io.ledger import ComparisonRow
from mlops.settings import Settings
from mlops.types import Level, Stage, TradingState
from mlops.web.watch import OK
from registry_hooks import aliases, stages
from registry_hooks.account import ADMIN, PASSWORD_FILE, credentials

READY_S = 5.0  # for the answer of the service
MOST_ALERTS = 8  # of one screen
LABEL = 12  # columns before what a line says
WRONG = "bold red"
Look = Mapping[str, Any]


def status(as_json: AsJson = False, again: Watch = False) -> None:
    """Show what trades, since when and why; what is compared, and how far; what is open; what came last. In one screen.

    What is not known is `unknown`, with the reason. --json: an object, null for what is not known.
    """
    with store() as opened:
        if as_json:
            print_json(look(opened, datetime.now(UTC)))
        elif again:
            watch(lambda: view(look(opened, datetime.now(UTC))))
        else:
            put(view(look(opened, datetime.now(UTC))))


def look(opened: Store, now: datetime) -> Look:
    """What stands at `now`, as `--json` prints it."""
    ledger, fresh = opened.ledger, Freshness(opened)
    changes = ledger.trading.log()
    last = changes[-1] if changes else None
    return {
        "as_of": now,
        "trading": {
            "state": ledger.trading.state(),
            "since": last and last.created_at,
            "by": last and last.actor,
            "why": last and last.reason,
        },
        "set_up": _set_up(opened.settings),
        "degraded": ledger.degraded(),
        "models": [_model(opened, model, known, now) for model, known in fresh.models(now).items()],
        "feeds": [{"source": source, "level": f.level, "note": f.note} for source, f in fresh.feeds(now).items()],
        "alerts": alerts.rows(ledger.alerts.newest()),
        "dead_jobs": [
            {"job": run.job, "scheduled_for": run.scheduled_for} for run in ledger.job_runs.all(states=("dead",))
        ],
        "dead_letters": len(ledger.dispatches.all(state="dead")),
    }


def _set_up(settings: Settings) -> Look:
    """Supervisor, parts and service. `ready` is None where the service does not say."""
    now = up.present(settings.state.absolute())
    troubles = list[str]()
    if now.running and not now.parts:
        troubles.append(f"{settings.state / 'run' / 'up.json'} cannot be read: parts are not known")
    if now.running and part_health.frozen(now.pid):
        troubles.append(f"supervisor {now.pid} is frozen: nothing restarts what ends")
    if now.died:
        troubles.append(f"supervisor {now.pid} died: nothing restarts what ends. `make up`")
    ready, why = _readiness(settings)
    password = settings.state / "secrets" / PASSWORD_FILE
    return {
        "running": now.running,
        "trouble": "; ".join(troubles),
        "parts": [asdict(part) for part in part_health.looked(now.parts, settings)] if now.running else [],
        "ready": ready,
        "not_ready_because": why,
        "mlflow": settings.tracking_uri,
        "account": f"{ADMIN}, password in {password}" if credentials(settings) else None,
    }


def _readiness(settings: Settings) -> tuple[bool | None, str]:
    """Whether the service can do its work, and why not: that it answers is not that."""
    address = f"http://{settings.service.host}:{settings.service.port}/readyz"
    try:
        answer = httpx.get(address, timeout=READY_S, trust_env=False)
        parts = {str(part): str(state) for part, state in dict(answer.json()).items()}
    except (httpx.HTTPError, ValueError, TypeError) as error:
        return None, f"{address} does not tell ({type(error).__name__})"
    wrong = ", ".join(f"{part} ({state})" for part, state in parts.items() if state != OK)
    if answer.status_code == httpx.codes.OK and not wrong:
        return True, ""
    return False, wrong or str(answer.status_code)


def _model(opened: Store, model: str, fresh: Fresh, now: datetime) -> Look:
    ledger = opened.ledger
    entries = [entry for entry in ledger.registry.promotions(model) if entry.state != "undone"]
    stack = aliases.standing(entries)
    latest = ledger.telemetry.latest_event_time(model)
    return {
        "model": model,
        "champion": stack[-1] if stack else None,
        "since": entries[-1].created_at if entries else None,
        "by": entries[-1].actor if entries else None,
        "why": entries[-1].reason if entries else None,
        "previous": stack[-2] if len(stack) > 1 else None,
        "compared": [_comparison(opened, c, fresh.outcome, now) for c in ledger.registry.open_comparisons(model)],
        "last_bar": fresh.bar,
        "last_prediction": fresh.prediction,
        "last_outcome": fresh.outcome,
        "silence": {"level": fresh.silence.level, "note": fresh.silence.note},
        "pending_labels": ledger.telemetry.pending(model, as_of=latest, version=stack[-1])
        if latest and stack
        else None,
    }


def _comparison(opened: Store, comparison: ComparisonRow, outcome: datetime | None, now: datetime) -> Look:
    """How far a comparison is, in bars that the challenger scored and whose outcome is known; the plan's, if stored."""
    ledger, settings = opened.ledger, opened.settings.experiment
    scored = ledger.latest.scored_bars(comparison.model, comparison.challenger, start=comparison.started_at, as_of=now)
    plan = orjson.loads(comparison.plan) if comparison.plan else {}
    stage = None if comparison.kind == "watch" else stages.stages(ledger, comparison.model).get(comparison.challenger)
    return {
        "challenger": comparison.challenger,
        "champion": comparison.champion,
        "kind": comparison.kind,
        "stage": stage,
        "since": comparison.started_at,
        "scored_bars": len(scored),
        "judged_bars": sum(outcome is not None and bar <= outcome for bar in scored),
        "first_look": plan.get("min_bars"),
        "last_look": plan.get("horizon_bars"),
        "shadow_bars": settings.shadow_bars if stage is Stage.SHADOW else None,
    }


def view(facts: Look) -> RenderableType:
    """The same for a person."""
    lines = [*_health(facts), Text()]
    for model in facts["models"]:
        lines += [*_model_lines(model), Text()]
    if not facts["models"]:
        lines += [_line("models", "none yet: train one (docs/install.md)"), Text()]
    for feed in facts["feeds"]:
        stale = feed["level"] is Level.ALERT
        lines.append(_line(feed["source"], f"{'STALE: ' if stale else ''}{feed['note']}", WRONG if stale else ""))
    return Group(*lines, *_open(facts))


def _line(label: str, words: str, style: str = "") -> Text:
    """A label, and words that go on below themselves; a path or a link is never broken."""
    lines = wrap(words, max(width() - LABEL, LABEL), break_long_words=False, break_on_hyphens=False)
    text = f"\n{'':<{LABEL}}".join(lines)
    return Text(f"{label:<{LABEL}}", style="dim").append(text, style=style or "not dim")


def _health(facts: Look) -> Iterator[Text]:
    trading, set_up = facts["trading"], facts["set_up"]
    state = trading["state"]
    words = state.value
    if trading["since"]:
        words += f" since {text(trading['since'])}, by {trading['by']}: {trading['why']}"
    yield _line("trading", words, "green" if state is TradingState.ACTIVE else WRONG)
    parts = ", ".join(part["name"] for part in set_up["parts"] if part["state"] == "up")
    yield _line("parts", f"up: {parts}" if set_up["running"] else "not run by `make up`")
    for part in set_up["parts"]:
        if part["state"] != "up" or part["restarts"]:
            again = f", restarted {part['restarts']} times" if part["restarts"] else ""
            words = f"{part_health.told(Standing(**part))}{again}"
            yield _line("", words, "" if part["state"] == "up" else WRONG)
    if set_up["trouble"]:
        yield _line("", set_up["trouble"], WRONG)
    if set_up["ready"]:
        yield _line("service", "ready", "green")
    else:
        lead = "readiness unknown" if set_up["ready"] is None else "NOT READY"
        yield _line("service", f"{lead}: {set_up['not_ready_because']}", WRONG)
    account = f", account {set_up['account']}" if set_up["account"] else ""
    yield _line("mlflow", f"{set_up['mlflow']}{account}")
    if facts["degraded"]:
        yield _line("DEGRADED", facts["degraded"], WRONG)


def _model_lines(model: Look) -> Iterator[Text]:
    yield Text(model["model"], style="bold")
    if model["champion"] is None:
        yield _line("  trades", "nothing: no version was promoted yet", "yellow")
    else:
        why = f"v{model['champion']} since {text(model['since'])}, by {model['by']}: {model['why']}"
        yield _line("  trades", _short(why))
        before = "nothing to go back to" if model["previous"] is None else f"v{model['previous']}"
        yield _line("  before", before)
    waiting = [comparison for comparison in model["compared"] if comparison["kind"] == "shadow"]
    for comparison in model["compared"]:
        if comparison not in waiting:
            yield _line("  compared", _progress(comparison))
    if waiting:
        bars = ", ".join(f"v{comparison['challenger']} {_judged(comparison)}" for comparison in waiting)
        yield _line("  waiting", f"in shadow: {bars}")
    if not model["compared"]:
        yield _line("  compared", "nothing: no challenger waits")
    names = {"prediction": model["last_prediction"], "outcome": model["last_outcome"], "bar": model["last_bar"]}
    pending = model["pending_labels"]
    came = "; ".join(f"{name} {text(at)}" if at else f"{name} unknown: none came yet" for name, at in names.items())
    yield _line("  last", came + ("" if pending is None else f"; {pending} labels pending"))
    level, note = model["silence"]["level"], model["silence"]["note"]
    if level is Level.ALERT:
        yield _line("  SILENT", note, WRONG)
    elif level is Level.UNKNOWN:
        yield _line("  silence", f"unknown: {note}")


def _progress(comparison: Look) -> str:
    at, version = text(comparison["since"]), f"v{comparison['challenger']}"
    if comparison["kind"] == "watch":
        return f"v{comparison['champion']} is watched against {version} since {at}: {_judged(comparison)}"
    does = "trades a share (A/B)" if comparison["stage"] is Stage.AB else "is in shadow"
    return f"{version} {does} since {at}: {_judged(comparison)}"


def _judged(comparison: Look) -> str:
    """How far a comparison is, in words."""
    bars, least, shadow = comparison["judged_bars"], comparison["first_look"], comparison["shadow_bars"]
    if comparison["last_look"] is None:
        words = f"{bars} bars judged, of how many is unknown until the first look"
    else:
        words = f"{bars} of {comparison['last_look']} bars judged"
        words += f", first look at {least}" if bars < least else ""
    early = shadow is not None and comparison["scored_bars"] < shadow
    return words + (f", {comparison['scored_bars']} of {shadow} bars scored in shadow" if early else "")


def _short(words: str) -> str:
    """Two lines of it; lists and `explain` have all of it."""
    return shorten(words, max(2 * (width() - LABEL) - LABEL, LABEL), placeholder=" …")


def _open(facts: Look) -> Iterator[RenderableType]:
    open_alerts: Sequence[Look] = facts["alerts"]
    yield Text(f"{len(open_alerts)} open alerts" if open_alerts else "no open alerts", style="bold")
    for alert in open_alerts[:MOST_ALERTS]:
        line = _line(alert["priority"].value.upper(), f"{text(alert['as_of'])}  {_short(alert['title'])}")
        line.stylize(alerts.STYLES.get(alert["priority"], ""), 0, LABEL)
        yield line.append(f"\n{'':<{LABEL}}{alert['key']}", style="dim")
    if len(open_alerts) > MOST_ALERTS:
        yield Text(f"and {len(open_alerts) - MOST_ALERTS} more: trader-mlops alert list")
    if facts["dead_jobs"]:
        yield Text(f"{len(facts['dead_jobs'])} jobs failed at every attempt: trader-mlops job list", style=WRONG)
    if facts["dead_letters"]:
        yield Text(f"{facts['dead_letters']} dead letters of outgoing hooks: trader-mlops hook dead", style=WRONG)
