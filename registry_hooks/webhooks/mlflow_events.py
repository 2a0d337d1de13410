"""MLflow's webhook: a signed hint that an alias moved.

MLflow delivers at best a few times within seconds, may reorder, and forgets on a crash; so a delivery is verified,
kept in the ledger's inbox before it is acknowledged, and then only makes us look: the alias is read anew, and that
reading (never the payload) is what the bot is told. A poll repairs what was lost.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeGuard

import mlflow
import orjson
import structlog
from mlflow import MlflowClient
from mlflow.entities.webhook import WebhookAction, WebhookEntity, WebhookEvent

from mlops.errors import DataError
from mlops.io import logs
from mlops.types import Role
from registry_hooks import aliases
from registry_hooks.aliases import Registry
from registry_hooks.reconcile import reconcile

log = structlog.get_logger()
EVENTS = (
    WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.CREATED),
    WebhookEvent(WebhookEntity.MODEL_VERSION_ALIAS, WebhookAction.DELETED),
)
TOLERANCE_S = 300  # as Standard Webhooks and MLflow's own documentation advise
GRACE = timedelta(seconds=10)  # a younger delivery is still being followed by the request that brought it
MAX_NAME = 256  # MLflow's own limit for the name of a model
MAX_ID = 128  # a delivery id is a UUID; anything long is not one


class HookRefused(DataError):
    """The delivery is not MLflow's, not fresh or not readable."""


@dataclass(frozen=True, slots=True)
class Hint:
    """A verified delivery: look at `alias` of `model`."""

    delivery_id: str
    model: str
    alias: str


def verify(
    headers: Mapping[str, str], body: bytes, *, secret: str | Sequence[str], now: datetime, tolerance_s: int
) -> Hint:
    """Check signature and age over the raw bytes, then read what the delivery is about.

    Parameters
    ----------
    headers : mapping with lower-case keys
    secret : str or sequence of str
        Shared with MLflow, used as it is; several while a new one takes over. Empty ones sign nothing.

    Raises
    ------
    HookRefused
        Missing or wrong signature, a timestamp outside `tolerance_s`, a body that is no alias event.

    References
    ----------
    MLflow webhooks, "Signature verification": `v1,` + base64(HMAC-SHA256(secret, `{id}.{timestamp}.{body}`)).
    """
    delivery, stamp = headers.get("x-mlflow-delivery-id", ""), headers.get("x-mlflow-timestamp", "")
    given = headers.get("x-mlflow-signature", "")
    secrets = [key for key in ([secret] if isinstance(secret, str) else secret) if key]
    if not secrets:
        raise HookRefused("webhook secret must be set, got none. Set MLOPS_SERVICE__WEBHOOK_SECRET.")
    if not (0 < len(delivery) <= MAX_ID and delivery.isascii() and delivery.isprintable()):
        raise HookRefused("delivery id must be MLflow's, got none or a malformed one. Check the sender.")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12):
        raise HookRefused("timestamp must be whole seconds, got none or a malformed one. Check the sender.")
    content = f"{delivery}.{stamp}.".encode() + body
    if not any(hmac.compare_digest(given.encode(errors="replace"), _mac(key, content).encode()) for key in secrets):
        raise HookRefused("signature must match the shared secret, got another. Check the secret on both sides.")
    if abs(now.timestamp() - int(stamp)) > tolerance_s:
        raise HookRefused(f"timestamp must be within {tolerance_s} s of now, got {stamp}. Check the clocks.")
    return _read(delivery, body)


def handle(registry: Registry, hint: Hint, at: datetime, *, on_manual_move: str, split: float = 0.9) -> int | None:
    """Reconcile, read the champion anew and leave it in the inbox for the bot; the version found."""
    entry = registry.ledger.registry.promotions(hint.model)[-1:]
    with logs.bind(correlation_id=entry[0].correlation_id if entry else hint.delivery_id):
        try:
            reconcile(registry, hint.model, at, on_manual_move=on_manual_move, split=split)
            version = aliases.read(registry.client, hint.model).get(Role.CHAMPION)
        except mlflow.MlflowException as error:  # MLflow away, or the model is gone: the poll looks again
            log.warning("alias not read", model=hint.model, error=str(error))
            version = None
        registry.ledger.deliveries.settle(hint.delivery_id, model=hint.model, alias=hint.alias, version=version, at=at)
        log.info("webhook", model=hint.model, alias=hint.alias, champion=version, delivery=hint.delivery_id)
    return version


def catch_up(registry: Registry, at: datetime, *, on_manual_move: str, split: float = 0.9) -> int:
    """Follow the deliveries that a crash left acknowledged but not followed; how many there were. Safe to repeat."""
    left = registry.ledger.deliveries.unsettled("mlflow", before=at - GRACE)
    for delivery in left:
        try:
            hint = _read(delivery.delivery_id, delivery.body)
        except HookRefused:  # kept by a release that asked for less
            registry.ledger.deliveries.settle(delivery.delivery_id, model="", alias="", version=None, at=at)
            continue
        handle(registry, hint, at, on_manual_move=on_manual_move, split=split)
    return len(left)


def subscribe(client: MlflowClient, url: str, secret: str, name: str = "trader-mlops") -> None:
    """Have MLflow call `url`; the webhook of that name is replaced. Do it before the first promotion."""
    for webhook in client.list_webhooks():
        if webhook.name == name:
            client.delete_webhook(webhook.webhook_id)
    client.create_webhook(name, url, [*EVENTS], secret=secret, description="Tells the bot that an alias moved.")


def sign(secret: str, delivery_id: str, stamp: int, body: bytes) -> str:
    """The signature that MLflow puts on a delivery."""
    return _mac(secret, f"{delivery_id}.{stamp}.".encode() + body)


def _mac(secret: str, content: bytes) -> str:
    """Signature as text: base64 has several spellings of the same bytes, and only one of them is MLflow's."""
    return "v1," + base64.b64encode(hmac.new(secret.encode(), content, hashlib.sha256).digest()).decode()


def _read(delivery: str, body: bytes) -> Hint:
    try:
        event = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise HookRefused("body must be JSON, got something else. Check the sender.") from error
    data = event.get("data") if isinstance(event, dict) else None
    if not isinstance(data, dict) or event.get("entity") != "model_version_alias":
        raise HookRefused("event must be about a model version alias, got another. Subscribe to alias events only.")
    model, alias = data.get("name"), data.get("alias")
    if not (_named(model) and _named(alias)):
        raise HookRefused("event must name model and alias, got neither. Check the sender.")
    return Hint(delivery, model, alias)


def _named(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= MAX_NAME and value.isprintable()
