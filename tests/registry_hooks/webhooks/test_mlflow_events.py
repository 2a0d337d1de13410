"""What a delivery must be before anything is believed of it."""

from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_hooks.webhooks.mlflow_events import Hint, HookRefused, sign, verify

NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
SECRET = "shared"
# As captured from a real MLflow 3.17 server.
BODY = orjson.dumps(
    {
        "entity": "model_version_alias",
        "action": "created",
        "timestamp": "2026-03-02T12:00:00+00:00",
        "data": {"name": "volatility", "alias": "champion", "version": "2"},
    }
)


def _headers(body=BODY, at=NOW, secret=SECRET, delivery="b97b01c8-cef2-450f-8cfc-e3de5ea55d14"):
    stamp = int(at.timestamp())
    return {
        "x-mlflow-delivery-id": delivery,
        "x-mlflow-timestamp": str(stamp),
        "x-mlflow-signature": sign(secret, delivery, stamp, body),
    }


def _verify(headers, body=BODY, secret=SECRET):
    return verify(headers, body, secret=secret, now=NOW, tolerance_s=300)


def test_a_signed_fresh_delivery_is_a_hint_to_look():
    assert Hint("b97b01c8-cef2-450f-8cfc-e3de5ea55d14", "volatility", "champion") == _verify(_headers())


@pytest.mark.parametrize(
    ("headers", "rule"),
    [
        ({}, "delivery id"),
        (_headers(secret="other"), "signature"),
        ({**_headers(), "x-mlflow-signature": "v1,???"}, "signature"),
        ({**_headers(), "x-mlflow-signature": "v1,\u00fc"}, "signature"),
        ({**_headers(), "x-mlflow-timestamp": "12e3"}, "timestamp"),
        ({**_headers(), "x-mlflow-delivery-id": "x" * 129}, "delivery id"),
        ({**_headers(), "x-mlflow-delivery-id": "caf\u00e9"}, "delivery id"),
        ({**_headers(), "x-mlflow-timestamp": "\u0663"}, "timestamp"),
        (_headers(at=NOW - timedelta(seconds=301)), "timestamp"),
        (_headers(at=NOW + timedelta(seconds=301)), "timestamp"),
    ],
)
def test_anything_else_is_refused_by_name(headers, rule):
    with pytest.raises(HookRefused, match=rule):
        _verify(headers)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"entity": "model_version"}', b'{"entity": "model_version_alias", "data": {"name": 1}}'],
)
def test_a_signed_body_that_is_no_alias_event_is_refused(body):
    with pytest.raises(HookRefused):
        _verify(_headers(body), body)


def test_without_a_secret_nothing_is_believed():
    with pytest.raises(HookRefused, match="MLOPS_SERVICE__WEBHOOK_SECRET"):
        _verify(_headers(secret=""), secret="")


@given(st.integers(0, len(BODY) - 1), st.integers(1, 255))
def test_one_changed_byte_breaks_the_signature(index, change):
    altered = bytearray(BODY)
    altered[index] ^= change

    with pytest.raises(HookRefused, match="signature"):
        _verify(_headers(), bytes(altered))
