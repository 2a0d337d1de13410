"""Outgoing hooks: the outbox, sent to each endpoint in order, signed, at least once.

Standard Webhooks: `webhook-id` is the same for every attempt to bring one event to one endpoint, so a receiver that
remembers ids acts once; `webhook-signature` covers id, time and the raw body. A bot needs no more than "look again".

What becomes of a failure. Back-off with full jitter says when an attempt counts; after `max_attempts` that counted, the
event is a dead letter, a person is told, and the next event has its turn. Meanwhile, from the fifth failure in a row
on, the endpoint's circuit is open, and a single small probe every two seconds finds out when it is back; so a receiver
that returns has its news within about two seconds, however long the back-off has grown. Both obey `Retry-After`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import random
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import httpx
import orjson
import structlog
from sqlalchemy.exc import SQLAlchemyError
from standardwebhooks import Webhook

from mlops.alerts import ALERTS
from mlops.errors import DataError, SettingsError, StorageError
from mlops.io import logs
from mlops.io.ledger import Ledger
from mlops.io.ledger.dispatches import Claim, Dispatch, Lease
from mlops.io.ledger.outbox import Event
from mlops.settings import HookSettings, OutgoingSettings
from mlops.types import Alert
from registry_hooks.webhooks.guarded_post import Answer, post, target

log = structlog.get_logger()
MIN_SECRET = 24  # bytes; Standard Webhooks, "Signature scheme"
POLL_S = 0.25  # between two looks at the outbox: two indexed reads an endpoint
PROBE_S = 2.0  # longest wait between two probes of an open circuit
FIRST_WAIT_S, GROWTH = 0.1, 3.0  # twelve attempts: about an hour on average, nearly two at most
SLACK_S = 5.0  # a claim outlives the attempt's own time-out by so much
HOOK = ALERTS["hook"]
GONE = 410  # RFC 9110: the receiver asks to be left alone for good


@dataclass(frozen=True, slots=True)
class Receiver:
    """A configured endpoint, checked."""

    name: str
    url: httpx.URL
    secret: Webhook
    kinds: tuple[str, ...]


class Sender:
    """Sends what the outbox holds. Any number of senders may run on one ledger: an endpoint is one sender's at a time.

    Parameters
    ----------
    clock : callable
        The time, aware.

    Raises
    ------
    SettingsError
        A secret that is too short or not base64, a URL that hooks may not be sent to.
    """

    def __init__(self, ledger: Ledger, settings: OutgoingSettings, clock: Callable[[], datetime]) -> None:
        self._ledger, self._settings, self._clock = ledger, settings, clock
        self._receivers = {hook.name: _receiver(hook, settings.allow_hosts) for hook in settings.hooks}
        self._troubles: dict[str, str] = {}  # endpoint -> the error that its thread met last, until it goes on
        self._trust = httpx.create_ssl_context()
        self._lease = Lease(timedelta(seconds=settings.timeout_s + SLACK_S), timedelta(seconds=settings.max_wait_s))
        for hook in settings.hooks:
            ledger.dispatches.add_endpoint(hook.name, _fingerprint(hook), clock())

    def run(self, stop: threading.Event, say: Callable[[str], object] = lambda why: None) -> None:
        """Send until told to stop: a thread an endpoint, so that none waits for another; one that died is replaced.

        `say` is told every few seconds what kept the threads from their work; an empty text where nothing did.
        """
        threads: dict[str, threading.Thread] = {}
        while not stop.is_set():
            died = [name for name, thread in threads.items() if not thread.is_alive()]
            say(", ".join(sorted({*self._troubles.values(), *(f"thread of {name} died" for name in died)})))
            for name, receiver in self._receivers.items():
                if name not in threads or not threads[name].is_alive():
                    threads[name] = threading.Thread(target=self._follow, args=(receiver, stop), name=name, daemon=True)
                    threads[name].start()
            stop.wait(PROBE_S)
        for thread in threads.values():
            thread.join(self._settings.timeout_s + SLACK_S)

    def once(self) -> int:
        """Make the attempts that are due now, those of an endpoint one after the other; how many were made."""
        if not self._receivers:
            return 0
        with ThreadPoolExecutor(len(self._receivers)) as pool:
            return sum(pool.map(self._drain, self._receivers.values()))

    def test(self, name: str) -> Answer:
        """Send a signed event of type `test` and number 0, past the outbox.

        Raises
        ------
        DataError
            No such hook is configured.
        """
        if name not in self._receivers:
            raise DataError(f"hook must be one of {sorted(self._receivers)}, got {name!r}. Add it to the settings.")
        event = Event(0, uuid.uuid4().hex, "test", "", {}, logs.correlation_id(), self._clock())
        return self._send(self._receivers[name], event)

    def _follow(self, receiver: Receiver, stop: threading.Event) -> None:
        while not stop.is_set():
            try:
                went_on = self._attempt(receiver)
                self._troubles.pop(receiver.name, None)
                if went_on:
                    continue
            except (SQLAlchemyError, StorageError) as error:  # it is away: nothing was settled, so nothing is lost
                log.warning("outbox not read", endpoint=receiver.name, error=type(error).__name__)
                self._troubles[receiver.name] = type(error).__name__
                stop.wait(PROBE_S)
            stop.wait(POLL_S)

    def _drain(self, receiver: Receiver) -> int:
        made = 0
        while self._attempt(receiver):
            made += 1
        return made

    def _attempt(self, receiver: Receiver) -> bool:
        """Claim, send, settle; False where nothing was due."""
        owner = uuid.uuid4().hex
        claim = self._ledger.dispatches.claim(receiver.name, receiver.kinds, owner, self._clock(), self._lease)
        if claim is None:
            return False
        with logs.bind(correlation_id=claim.event.correlation_id):
            answer = self._send(receiver, claim.event)
            self._settle(claim, answer, self._clock())
        return True

    def _send(self, receiver: Receiver, event: Event) -> Answer:
        body, delivery, now = content(event), delivery_id(event, receiver.name), self._clock()
        headers = {
            "content-type": "application/json",
            "user-agent": "trader-mlops",
            "webhook-id": delivery,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": receiver.secret.sign(delivery, now, body.decode()),
        }
        allow, timeout = self._settings.allow_hosts, self._settings.timeout_s
        return post(receiver.url, headers, body, allow_hosts=allow, timeout_s=timeout, trust=self._trust)

    def _settle(self, claim: Claim, answer: Answer, now: datetime) -> None:
        attempts = claim.attempts + claim.counts
        dead = not answer.accepted and answer.status != GONE and attempts >= self._settings.max_attempts
        state = "delivered" if answer.accepted else "dead" if dead else "pending"
        gone = "410 Gone" if answer.status == GONE else ""
        if dead or gone:  # the alert first: a crash in between repeats the attempt, and tells nobody twice
            self._tell(claim, gone or f"no success in {attempts} attempts, last {answer.status}: {answer.text}", now)
        again, probe = now + self._wait(attempts, answer), now + self._probe(answer)
        outcome = Dispatch(
            claim.endpoint,
            claim.event.seq,
            state,
            attempts,
            again if claim.counts else max(claim.not_before, probe),
            answer.status,
            "" if answer.accepted else answer.text,
            None if state == "pending" else now,
        )
        held = self._ledger.dispatches.settle(claim, outcome, probe_at=probe, disabled=gone)
        log.info("hook", endpoint=claim.endpoint, seq=claim.event.seq, state=state, status=answer.status, held=held)
        if answer.accepted:
            self._resolve(claim.endpoint, now)

    def _wait(self, attempts: int, answer: Answer) -> timedelta:
        """Until the next attempt that counts: exponential, with full jitter."""
        longest = self._settings.max_wait_s
        back_off = random.uniform(0, min(FIRST_WAIT_S * GROWTH ** min(attempts - 1, 50), longest))  # noqa: S311
        return timedelta(seconds=max(back_off, self._asked(answer)))

    def _probe(self, answer: Answer) -> timedelta:
        """Until an open circuit is probed."""
        return timedelta(seconds=max(random.uniform(PROBE_S / 2, PROBE_S), self._asked(answer)))  # noqa: S311

    def _asked(self, answer: Answer) -> float:
        return min(answer.retry_after_s or 0.0, self._settings.max_wait_s)

    def _tell(self, claim: Claim, why: str, now: datetime) -> None:
        """One alert an outage; none about an alert like it, or two dead endpoints would tell each other for ever."""
        name = claim.endpoint
        if str(claim.event.body.get("key", "")).startswith(HOOK.prefix):
            return
        details = {"endpoint": name, "seq": claim.event.seq, "kind": claim.event.kind}
        words = {"name": name, "time": now.isoformat(), "why": why}
        alert = HOOK.alert(now, words, details=details, about=claim.event.model)
        self._ledger.alerts.settle(HOOK.name, [alert], now, looked_at=_about(name))

    def _resolve(self, name: str, now: datetime) -> None:
        """An endpoint that answers and has no dead letters left is nothing to see to."""
        reported = any(map(_about(name), self._ledger.alerts.newest(HOOK.name)))
        if reported and not self._ledger.dispatches.all(name, "dead"):
            self._ledger.alerts.settle(HOOK.name, (), now, looked_at=_about(name))


def _about(endpoint: str) -> Callable[[Alert], bool]:
    return lambda alert: alert.details.get("endpoint") == endpoint


def content(event: Event) -> bytes:
    """The body, the same to the byte at each attempt."""
    stamp = event.created_at.isoformat()
    return orjson.dumps({"type": event.kind, "seq": event.seq, "timestamp": stamp, "data": dict(event.body)})


def delivery_id(event: Event, endpoint: str) -> str:
    """The same for every attempt to bring this event to this endpoint."""
    return f"msg_{uuid.uuid5(uuid.UUID(event.event_id), endpoint).hex}"


def _receiver(hook: HookSettings, allow_hosts: tuple[str, ...]) -> Receiver:
    secret = hook.secret.get_secret_value()
    try:
        raw = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise SettingsError(f"secret of hook {hook.name} must be whsec_ and base64, got another. Make one.") from error
    if not secret.startswith("whsec_") or len(raw) < MIN_SECRET:
        rule = f"secret of hook {hook.name} must be whsec_ and base64 of at least {MIN_SECRET} bytes"
        raise SettingsError(f"{rule}, got {len(raw)}. Make one as docs/webhooks.md shows.")
    return Receiver(hook.name, target(hook.url, allow_hosts), Webhook(secret), hook.events)


def _fingerprint(hook: HookSettings) -> str:
    return hashlib.sha256(f"{hook.url}\n{hook.secret.get_secret_value()}".encode()).hexdigest()
