"""What each version is, why, and how it does live: tags and descriptions in MLflow that follow the ledger.

Whoever looks at a model in MLflow sees at a glance who is champion, challenger or shadow, who was rolled back, and the
evidence; cross-validation, which the worst model may be best at, is not what he sorts by. All of it is a projection: a
crash anywhere is mended by the next `project`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from textwrap import shorten
from typing import Any

import structlog
from mlflow import MlflowClient, MlflowException
from mlflow.entities.model_registry import ModelVersion
from sqlalchemy.exc import SQLAlchemyError

from mlops.io import record
from mlops.io.ledger import BundleRow, ComparisonRow, Ledger, Promotion
from mlops.io.mlflow_views import of_run
from registry_hooks.aliases import ROLES, Registry, standing

log = structlog.get_logger()
EVIDENCE = ("live_monitor", "live_compare")  # kinds of the states in which jobs leave how versions do
MARK = "\n\n---\n*Notes:*"  # what stands below it in a description is a person's, or the training's
MOST, SHORT = 500, 160  # characters of a reason in a tag, and in a table
TAGS = (
    "why",
    "look",
    "evidence",
    "trained_until",
    "live_accuracy",
    "live_gain",
    "live_bars",
    "live_since",
    "undone",
    "status",
)
UNDONE = "by-hand-undone"  # the alert of `reconcile` about a promotion by hand that it undid
UNKNOWN = "unknown"
ORDER = ("champion", "challenger", "shadow", "previous champion", "new", "retired", "rolled back", UNKNOWN)


@dataclass(frozen=True, slots=True)
class Status:
    """What a version is, why, the run that decided it, and how it did live (`accuracy`, `gain`, `bars`, `since`)."""

    status: str
    why: str
    run: str = ""
    live: Mapping[str, Any] = field(default_factory=dict)
    trained_until: str = ""
    undone: str = ""


def keep(ledger: Ledger, kind: str, model: str, live: Mapping[int, Mapping[str, Any]], as_of: datetime) -> None:
    """Leave in the ledger how versions did live by a job's look; of those it did not look at the last look stays."""
    earlier = ledger.risk.state(kind, model, as_of=as_of)
    body = ({} if earlier is None else dict(earlier.body)) | {str(version): dict(row) for version, row in live.items()}
    if live:
        ledger.risk.put_state(kind, model, as_of, body, {})


def statuses(ledger: Ledger, model: str, at: datetime) -> dict[int, Status]:
    """The status of every version that the ledger knows."""
    promotions = [entry for entry in ledger.registry.promotions(model) if entry.state != "undone"]
    comparisons, live = ledger.registry.comparisons(model), _live(ledger, model, at)
    undone = _undone(ledger, model)
    return {
        row.version: _with(_status(row.version, promotions, comparisons, live), row, live, undone)
        for row in ledger.registry.bundles(model)
    }


def project(registry: Registry, model: str, at: datetime) -> bool:
    """Make tags and descriptions say what the ledger says; whether there was anything to do. Safe to repeat.

    What MLflow does not take now is left to the next time: who trades does not depend on it.
    """
    try:
        return _project(registry, model, at)
    except (MlflowException, SQLAlchemyError) as error:
        log.warning("status of versions not shown; reconcile will", model=model, error=str(error))
        return False


def mark_copy(client: MlflowClient, version: ModelVersion, origin: str) -> None:
    """Take from a copy the status of its original."""
    wanted = {"status": "copy", "why": f"a copy of {origin}, made by hand; nothing trades it"}
    for tag in (tag for tag in TAGS if version.tags.get(tag, "") != wanted.get(tag, "")):
        if tag in wanted:
            client.set_model_version_tag(version.name, version.version, tag, wanted[tag])
        else:
            client.delete_model_version_tag(version.name, version.version, tag)


def _project(registry: Registry, model: str, at: datetime) -> bool:
    client, known = registry.client, statuses(registry.ledger, model, at)
    experiment = record.experiment_id(client, model)
    bundles = {row.version: row for row in registry.ledger.registry.bundles(model)}
    changed = False
    for version in client.search_model_versions(f"name = '{model}'"):
        number = int(version.version)
        status = known.get(number, Status(UNKNOWN, "the ledger does not know it: made by hand, it scores nothing"))
        changed |= _tag(registry, version, _tags(status, experiment, client.tracking_uri), bundles.get(number))
        text = _below(_description(status, experiment), version.description, version.tags.get("note", ""))
        if text != (version.description or ""):
            client.update_model_version(model, version.version, text)
            changed = True
    registered = client.get_registered_model(model)
    text = _below(_table(model, known, experiment) if known else "", registered.description)
    if text != (registered.description or ""):
        client.update_registered_model(model, text)
        changed = True
    return changed


def _tag(registry: Registry, version: ModelVersion, wanted: Mapping[str, str], row: BundleRow | None) -> bool:
    """Set what differs; the status last, for the run of the training is renamed with it."""
    client, name, number = registry.client, version.name, version.version
    differs = [tag for tag in TAGS if version.tags.get(tag, "") != wanted.get(tag, "")]
    if row is not None and differs:
        _show_in_runs(registry, row, wanted, renamed=not {"status", "why"}.isdisjoint(differs))
    for tag in differs:
        if tag in wanted:
            client.set_model_version_tag(name, number, tag, wanted[tag])
        else:
            client.delete_model_version_tag(name, number, tag)
    return bool(differs)


def _show_in_runs(registry: Registry, row: BundleRow, wanted: Mapping[str, str], *, renamed: bool) -> None:
    """Say it in the table of trainings and in that of models, too, as far as these still exist."""
    client, shown = (
        registry.client,
        {tag: wanted[tag] for tag in ("status", "live_accuracy", "live_gain") if tag in wanted},
    )
    try:
        if renamed:
            client.update_run(row.run_id, name=f"train v{row.version}: {wanted['status']}")
        client.set_logged_model_tags(row.model_id, shown | {"version": str(row.version)})
    except MlflowException as error:
        log.info("training not renamed", model=row.model, version=row.version, error=str(error))


def _live(ledger: Ledger, model: str, at: datetime) -> dict[int, dict[str, Any]]:
    """How each version did live by the newest look at it."""
    newest: dict[int, dict[str, Any]] = {}
    for kind in EVIDENCE:
        state = ledger.risk.state(kind, model, as_of=at)
        for version, row in ({} if state is None else state.body).items():
            if str(row["at"]) >= str(newest.get(int(version), {}).get("at", "")):
                newest[int(version)] = row
    return newest


def _undone(ledger: Ledger, model: str) -> dict[int, str]:
    """What a person must know of a promotion by hand that was undone, by version; of the newest that is open."""
    texts: dict[int, str] = {}
    for alert in reversed(ledger.alerts.newest(UNDONE)):
        if alert.model == model:
            version, needed = int(alert.key.split(":")[1][1:]), str(alert.details.get("needed", ""))
            texts[version] = f"{alert.as_of:%Y-%m-%d %H:%M} UTC: {alert.title}. {needed}".strip()
    return texts


def _with(status: Status, row: BundleRow, live: Mapping[int, Mapping[str, Any]], undone: Mapping[int, str]) -> Status:
    told = "" if status.status == "champion" else undone.get(row.version, "")
    numbers = live.get(row.version, {})
    return Status(status.status, status.why, status.run, numbers, f"{row.train_end:%Y-%m-%d}", told)


def _status(
    version: int, promotions: list[Promotion], comparisons: list[ComparisonRow], live: Mapping[int, Mapping[str, Any]]
) -> Status:
    """Status by the promotion log first, then by the comparisons."""
    stack = standing(promotions)
    came = next((entry for entry in reversed(promotions) if entry.to_version == version), None)
    left = next((entry for entry in reversed(promotions) if entry.from_version == version), None)
    if stack and version == stack[-1] and came is not None:
        return Status("champion", f"since {came.created_at:%Y-%m-%d}: {came.reason}", came.evidence_run)
    if left is not None and left.kind == "rollback":
        return Status("rolled back", f"on {left.created_at:%Y-%m-%d}: {left.reason}", left.evidence_run)
    champion = stack[-1] if stack else None
    mine = [c for c in comparisons if c.challenger == version]
    compared = [t for t in mine if t.champion == champion and t.ended_at is None and t.kind != "watch"]
    if compared:
        role = ROLES[min(c.kind for c in compared)].value  # `compare` before `shadow`
        since = f"compared with champion v{champion} since {compared[-1].started_at:%Y-%m-%d}"
        return Status(role, since, str(live.get(version, {}).get("run", "")))
    if left is not None:
        word = "previous champion" if version in stack[-2:-1] else "retired"
        return Status(
            word, f"replaced by v{left.to_version} on {left.created_at:%Y-%m-%d}: {left.reason}", left.evidence_run
        )
    ended = [c for c in mine if c.ended_at is not None]
    if ended:
        last = ended[-1]
        why = f"its comparison with v{last.champion} ended on {last.ended_at:%Y-%m-%d}: {last.verdict}"
        return Status("retired", why, str(live.get(version, {}).get("run", "")))
    return Status("new", "compared with nothing yet")


def _tags(status: Status, experiment: str, uri: str) -> dict[str, str]:
    """The tags that a version must have; what is not known has none."""
    live = status.live
    tags = {
        "status": status.status,
        "why": shorten(status.why, MOST, placeholder=" …"),
        "look": str(live.get("headline", "")),
        "evidence": of_run(experiment, status.run, uri if uri.startswith("http") else "") if status.run else "",
        "trained_until": status.trained_until,
        "live_accuracy": _number(live.get("accuracy"), ".4f"),
        "live_gain": _number(live.get("gain"), "+.5f"),
        "live_bars": _number(live.get("bars"), ".0f"),
        "live_since": str(live.get("since", ""))[:10],
        "undone": status.undone,
    }
    return {tag: text for tag, text in tags.items() if text}


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def _description(status: Status, experiment: str) -> str:
    """A version's page: what it is, why, and how it does."""
    link = f" [Evidence]({of_run(experiment, status.run)})" if status.run else ""
    lines = [f"{status.status.capitalize()}: {status.why}{link}"]
    if status.undone:
        lines.insert(0, f"Undone: {status.undone}")
    if status.trained_until:
        lines.append(f"Trained until {status.trained_until}. How it does live is in its tags `live_...`.")
    return "\n\n".join(lines)


def _table(model: str, known: Mapping[int, Status], experiment: str) -> str:
    """The model's page: every version, the ones that matter first and of those the best live evidence first."""
    head = "| version | status | live: right | gain a bar | bars | trained until | why |"
    rows = sorted(known.items(), key=lambda pair: (ORDER.index(pair[1].status), -_gain(pair[1]), -pair[0]))
    return "\n".join((head, "|---" * 7 + "|", *(_line(model, version, status, experiment) for version, status in rows)))


def _line(model: str, version: int, status: Status, experiment: str) -> str:
    live, run = status.live, f" [run]({of_run(experiment, status.run)})" if status.run else ""
    look = f" ({live['headline']})" if live.get("headline") else ""
    cells = (
        f"[v{version}](#/models/{model}/versions/{version})",
        f"**{status.status}**",
        _number(live.get("accuracy"), ".1%"),
        _number(live.get("gain"), "+.4f"),
        _number(live.get("bars"), ".0f"),
        status.trained_until,
        f"{shorten(status.why.replace('|', '/'), SHORT, placeholder=' …')}{look}{run}",
    )
    return f"| {' | '.join(cells)} |"


def _gain(status: Status) -> float:
    gain = status.live.get("gain")
    return float("-inf") if gain is None else float(gain)


def _below(ours: str, present: str | None, note: str = "") -> str:
    """Our text, and below the mark what a person or the training wrote."""
    _, mark, theirs = (present or "").partition(MARK)
    return f"{ours}{MARK} {(theirs if mark else present or note).strip()}".rstrip()
