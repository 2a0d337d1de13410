"""The service's doors: up, locked with secrets that hold, and the addresses that it tells."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator
from datetime import datetime

import httpx
from sqlalchemy import select

from jobs.doctor import NO_LEDGER, Problem, Setup, nothing
from mlops.errors import SettingsError
from mlops.io.storage.schema import api_keys, dispatches, endpoints
from mlops.types import Level
from registry_hooks.webhooks.guarded_post import inside, target
from registry_hooks.webhooks.outgoing import MIN_SECRET, Sender


def service(setup: Setup) -> Iterator[Problem]:
    """The service answers and is ready."""
    try:
        alive, ready = setup.service.get("/healthz"), setup.service.get("/readyz")
    except httpx.HTTPError as error:
        where = setup.service.base_url
        yield Problem(f"service does not answer at {where} ({type(error).__name__})", "`make up`, then read its log")
        return
    if alive.status_code != 200:
        yield Problem(f"{setup.service.base_url} answers {alive.status_code}", "Is it the service? Read its log")
    elif ready.status_code != 200:
        logs = setup.settings.state / "logs"
        remedy = f"Read {logs / 'serve.jsonl'} and mend what it names; what does not go on within a minute then needs"
        yield Problem(f"service is not ready: {ready.text[:200]}", f"{remedy} a restart: `make down`, `make up`")


def webhook_secret(setup: Setup) -> Iterator[Problem]:
    """The secret shared with MLflow is set and long enough."""
    secret = setup.settings.service.webhook_secret.get_secret_value()
    if not secret:
        text = "service.webhook_secret is not set: no webhook is accepted"
        yield Problem(text, "`make up` makes one; else set MLOPS_SERVICE__WEBHOOK_SECRET")
    elif len(secret.encode()) < MIN_SECRET:
        remedy = "python -c 'import secrets; print(secrets.token_urlsafe(32))', then restart the service"
        yield Problem(f"service.webhook_secret has {len(secret.encode())} bytes, fewer than {MIN_SECRET}", remedy)


def keys(setup: Setup) -> Iterator[Problem]:
    """There are API keys, and they hold."""
    if not setup.current:
        yield NO_LEDGER
        return
    c = api_keys.c
    known = setup.rows(select(c.label, c.expires_at).where(c.revoked_at.is_(None)))
    if not known:
        yield Problem("there is no API key: nothing may write over HTTP", "trader-mlops key add", Level.WARN)
    yield from expired([(row.label, row.expires_at) for row in known], setup.clock())


def expired(known: list[tuple[str, datetime | None]], now: datetime) -> Iterator[Problem]:
    for label, until in known:
        if until is not None and until <= now:
            remedy = "trader-mlops key add, give it to the bot, then revoke this one"
            yield Problem(f"API key {label!r} expired at {until:%Y-%m-%d %H:%M}", remedy)


def outgoing(setup: Setup) -> Iterator[Problem]:
    """Whom we tell can be told: addresses, secrets, what did not get through."""
    settings = setup.settings.outgoing
    for hook in settings.hooks:
        try:
            host = target(hook.url, settings.allow_hosts).host
        except SettingsError as error:
            yield Problem(str(error), f"Correct the URL of hook {hook.name} in mlops.toml")
            continue
        if host not in settings.allow_hosts and (private := _private(host)):
            remedy = f"If it shall be so, name {host} in outgoing.allow_hosts"
            yield Problem(f"hook {hook.name}: {host} is a private address ({private}) and is refused", remedy)
    if not setup.current:
        yield NO_LEDGER
        return
    try:
        Sender(setup.registry.ledger, settings, setup.clock)
    except SettingsError as error:
        yield Problem(str(error), "Make one as docs/webhooks.md shows")
    undelivered = list(_undelivered(setup, {hook.name for hook in settings.hooks}))
    yield from undelivered
    if not settings.hooks and not undelivered:
        yield nothing("outgoing hook is set up, so nobody is told of an alert")


def _undelivered(setup: Setup, names: set[str]) -> Iterator[Problem]:
    dead = [row.endpoint for row in setup.rows(select(dispatches.c.endpoint).where(dispatches.c.state == "dead"))]
    for name in sorted(set(dead)):
        remedy = f"trader-mlops hook dead {name}; when it is mended: trader-mlops hook resend {name} --all"
        yield Problem(f"hook {name} has {dead.count(name)} dead letters", remedy, Level.WARN)
    for row in setup.rows(select(endpoints.c.name, endpoints.c.disabled).where(endpoints.c.disabled != "")):
        if row.name in names:
            yield Problem(f"hook {row.name} is not sent to any more: {row.disabled}", "Give it another URL or secret")


def _private(host: str) -> str:
    try:
        addresses = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    except OSError as error:
        return f"not resolved: {error}"
    return ", ".join(sorted(address for address in addresses if inside(ipaddress.ip_address(address))))
