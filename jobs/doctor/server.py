"""MLflow's server: there, of our version, open to us, and telling us when an alias moves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import mlflow
from mlflow import MlflowClient

from jobs.doctor import NO_LEDGER, NO_SERVER, Problem, Setup, mlflow_writers, part_health
from mlops.types import Level
from registry_hooks import grants
from registry_hooks.account import tracking_port
from registry_hooks.webhooks.mlflow_events import EVENTS

OLDEST, TOO_NEW = (3, 11), (4,)  # releases before 3.11 have known holes (CVE-2026-4137 among others)
WEBHOOKS = "/api/2.0/mlflow/webhooks"
NAME = "trader-mlops"
EXAMPLE = "example_model"  # what MLflow's test delivery is about
SEEN_S = 5.0  # until a delivery that was accepted must be in the ledger
KEY = "MLFLOW_WEBHOOK_SECRET_ENCRYPTION_KEY"
ADMIN = "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD to the admin's"
REVOKED_BY = "The service takes that back within a minute: `make up`"
TAKE_BACK = "Take it back as MLflow's admin, or name the account in MLOPS_TRACKING_WRITERS"
WHY_NOT = (  # what MLflow says of a URL that it may not call, and the setting of its server that allows it
    ("scheme", "Start MLflow's server with MLFLOW_WEBHOOK_ALLOWED_SCHEMES=http,https (`make up` does)"),
    ("non-public", "Start MLflow's server with MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS=true (`make up` does)"),
    ("resolve", "service.host must be a name that MLflow's machine can resolve"),
)


def store(setup: Setup) -> Iterator[Problem]:
    """MLflow is reached through its server."""
    uri = setup.settings.tracking_uri
    if urlsplit(uri).scheme not in ("http", "https"):
        text = f"tracking_uri is {uri}: a store without a server sends no webhooks"
        yield Problem(text, "Set MLOPS_TRACKING_URI to a server's address (`make up` runs one)")


def reachable(setup: Setup) -> Iterator[Problem]:
    """MLflow's server answers, and lets us in."""
    uri = setup.settings.tracking_uri
    if urlsplit(uri).scheme not in ("http", "https"):
        yield Problem(f"not looked at: {uri} is no server", "Mend that first", Level.UNKNOWN)
    elif setup.answer is None:
        remedy = "If it is of this set-up, the line `parts` says what to do, else correct MLOPS_TRACKING_URI"
        yield Problem(f"MLflow does not answer at {uri}{_listener(setup)}", f"{remedy}. {part_health.ROW}")
    elif setup.answer.status_code == 403 and "host" in setup.answer.text.lower():
        host = urlsplit(uri).netloc
        remedy = f"Start MLflow's server with MLFLOW_SERVER_ALLOWED_HOSTS={host} (the name and port that clients use)"
        yield Problem(f"MLflow refuses the name {host} (403: {setup.answer.text.strip()[:100]})", remedy)
    elif setup.answer.status_code == 401:
        remedy = f"{ADMIN}, or MLOPS_TRACKING_AUTH=true if `make up` runs it"
        yield Problem("MLflow does not know us (401)", remedy)
    elif setup.answer.status_code != 200:
        yield Problem(
            f"{uri} answers {setup.answer.status_code}{_listener(setup)}", "Is it MLflow's server? Read its log"
        )


def _listener(setup: Setup) -> str:
    """Which program of this machine has MLflow's port."""
    port = tracking_port(setup.settings)
    who = "" if port is None else part_health.occupant(port)
    return f"; its port is that of {who}" if who else ""


def release(setup: Setup) -> Iterator[Problem]:
    """MLflow's server is of a version that we know."""
    if not setup.answers:
        yield NO_SERVER
        return
    yield from wrong_release(setup.server.get("/version").text.strip(), mlflow.__version__)


def wrong_release(theirs: str, ours: str) -> Iterator[Problem]:
    numbers = tuple(int(part) for part in theirs.split(".")[:3] if part.isdigit())
    remedy = f"Run the server with mlflow=={ours}"
    if not numbers or not OLDEST <= numbers < TOO_NEW:
        yield Problem(f"MLflow's server is {theirs[:40]!r}, not of 3.11 or a later 3.x", remedy)
    elif theirs != ours:
        yield Problem(f"MLflow's server is {theirs}, its client here {ours}", remedy, Level.WARN)


def accounts(setup: Setup) -> Iterator[Problem]:
    """Only the platform's account may write its models and experiments in MLflow."""
    client = MlflowClient(setup.settings.tracking_uri)
    if not setup.answers:
        yield NO_SERVER
    elif not setup.current:
        yield NO_LEDGER
    elif not grants.has_accounts(client):
        text = "MLflow asks nobody for an account: whoever reaches it may move aliases and delete models"
        yield Problem(text, "MLOPS_TRACKING_AUTH=true where `make up` runs it; else docs/registry.md", Level.WARN)
    else:
        names = mlflow_writers.names(setup.registry.ledger)
        for right in grants.excess(client, names, setup.settings.tracking_writers):
            text = f"account {right.account} of MLflow has {right}, which is the platform's"
            yield Problem(text, REVOKED_BY if right.revocable else TAKE_BACK)


def hooks(setup: Setup) -> Iterator[Problem]:
    """MLflow tells us when an alias moves: our webhook is there, right, and a test delivery arrives in the ledger."""
    if not setup.answers:
        yield NO_SERVER
        return
    listed = setup.server.get(WEBHOOKS)
    if listed.status_code == 403:
        who = "account is a reader: the platform must be MLflow's admin"
        yield Problem(f"{who} (403)", ADMIN)
    elif listed.status_code >= 500:
        remedy = (
            f"Start it with its old {KEY}. If it had none: set one, delete the rows of its table `webhooks`, restart"
        )
        yield Problem(f"MLflow cannot read its webhooks ({listed.status_code}): {KEY} is missing or another", remedy)
    elif listed.status_code != 200:
        yield Problem(f"MLflow answers {listed.status_code} when asked for its webhooks", "Read its log")
    else:
        ours = [hook for hook in listed.json().get("webhooks", ()) if hook["name"] == NAME]
        yield from _mine(setup, ours) if ours else _missing(setup)


def _mine(setup: Setup, ours: list[dict[str, Any]]) -> Iterator[Problem]:
    hook, again = ours[0], "Restart the service (`make down up`): it subscribes anew"
    have = {(event["entity"].lower(), event["action"].lower()) for event in hook.get("events", ())}
    wanted = {(event.entity.value, event.action.value) for event in EVENTS}
    faults = list(_faults(setup, hook, wanted - have))
    for fault in faults:
        yield Problem(fault, again)
    if len(ours) > 1:
        yield Problem(f"MLflow has {len(ours)} webhooks of the name {NAME}", again, Level.WARN)
    if not faults:
        yield from _round_trip(setup, hook["webhook_id"])


def _faults(setup: Setup, hook: dict[str, Any], missing: set[tuple[str, str]]) -> Iterator[str]:
    if hook["url"] != callback(setup):
        yield f"MLflow's webhook calls {hook['url']}, the service is at {callback(setup)}"
    if hook.get("status", "ACTIVE") != "ACTIVE":
        yield f"MLflow's webhook is {hook['status']}"
    if missing:
        yield f"MLflow's webhook does not tell of {', '.join(sorted('.'.join(pair) for pair in missing))}"


def callback(setup: Setup) -> str:
    """Where MLflow calls us."""
    service = setup.settings.service
    return f"http://{service.host}:{service.port}/hooks/mlflow"


def _missing(setup: Setup) -> Iterator[Problem]:
    """Would MLflow take our webhook? Tried with one that is off, and removed."""
    events = [{"entity": event.entity.value.upper(), "action": event.action.value.upper()} for event in EVENTS]
    body = {"name": f"{NAME}-doctor", "url": callback(setup), "events": events, "status": "DISABLED"}
    tried = setup.server.post(WEBHOOKS, json=body)
    if tried.status_code == 200:
        setup.server.request("DELETE", f"{WEBHOOKS}/{tried.json()['webhook']['webhook_id']}", json={})
        yield Problem("MLflow has no webhook of ours: champions reach the bot by polling only", "Start the service")
        return
    text = str(_json(tried).get("message", tried.text))[:200]
    yield Problem(f"MLflow refuses to call {callback(setup)}: {text}", _remedy(text))


def _round_trip(setup: Setup, hook: str) -> Iterator[Problem]:
    started = setup.clock()
    tested = setup.server.post(f"{WEBHOOKS}/{hook}/test", json={}, timeout=60)
    result = _json(tested).get("result", {})
    if result.get("success"):
        if not setup.current:
            yield replace(NO_LEDGER, what="not looked at: whether a test delivery arrives in the ledger")
        elif not _arrived(setup, started):
            text = "the service accepted a test delivery that is not in this ledger"
            yield Problem(text, "Give the service and this command the same MLOPS_STATE and MLOPS_LEDGER_URL")
        return
    body = str(result.get("response_body") or result.get("error_message") or tested.text)[:200]
    status = result.get("response_status")
    if status == 401 and "timestamp" in body:
        yield Problem(f"the service refuses MLflow's webhook: {body}", "Set both machines' clocks by NTP")
    elif status == 401:
        remedy = "Give the service its MLOPS_SERVICE__WEBHOOK_SECRET back, or restart it: it subscribes anew"
        yield Problem(f"webhook secrets differ on both sides: {body}", remedy)
    else:
        yield Problem(f"a test delivery of MLflow's webhook failed ({status or 'no answer'}): {body}", _remedy(body))


def _arrived(setup: Setup, since: datetime) -> bool:
    ledger, deadline = setup.registry.ledger, time.monotonic() + SEEN_S
    ahead = since + timedelta(days=1)
    while time.monotonic() < deadline:
        came = [delivery.received_at for delivery in ledger.deliveries.unsettled("mlflow", before=ahead)]
        came += [delivery.received_at for delivery in ledger.deliveries.settled(EXAMPLE, after=0)]
        if any(at >= since for at in came):
            return True
        time.sleep(0.1)
    return False


def _remedy(text: str) -> str:
    return next((remedy for sign, remedy in WHY_NOT if sign in text), "Is the service up? `make up`, then read its log")


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        body = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}
