"""API keys and refused rows."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from mlops.errors import DataError
from mlops.io.storage.schema import api_keys

T0 = datetime(2026, 3, 2, tzinfo=UTC)


def test_a_key_opens_until_it_expires_or_is_revoked_and_its_secret_is_kept_nowhere(ledger):
    token = ledger.api_keys.add("bot-1", ["fills:write", "score"], T0, expires_at=T0 + timedelta(days=1))

    found = ledger.api_keys.of_token(token, T0)

    assert ("bot-1", ("fills:write", "score")) == (found.label, found.scopes)
    assert ledger.api_keys.of_token(token, T0 + timedelta(days=1)) is None
    with ledger.reading() as connection:
        stored = connection.execute(select(api_keys)).one()
    assert not any(token.partition(".")[2] in str(value) for value in stored)

    ledger.api_keys.revoke(found.id, T0)
    assert ledger.api_keys.of_token(token, T0) is None
    assert [T0] == [key.revoked_at for key in ledger.api_keys.all()]


@pytest.mark.parametrize(
    "change", [lambda t: t[:-1], lambda t: t + "A", lambda t: t.swapcase(), lambda t: "", lambda t: "é" * 52]
)
def test_another_token_does_not_open(ledger, change):
    token = ledger.api_keys.add("bot-1", ["score"], T0)

    assert ledger.api_keys.of_token(change(token), T0) is None


def test_unknown_scopes_and_strange_labels_are_refused(ledger):
    for label, scopes in (("bot", []), ("bot", ["root"]), ("two words", ["score"])):
        with pytest.raises(DataError):
            ledger.api_keys.add(label, scopes, T0)
    with pytest.raises(DataError, match="key must exist"):
        ledger.api_keys.revoke("nobody", T0)


def test_a_refused_row_is_kept_once_with_its_reason_whatever_is_in_it(ledger):
    rows = [('{"unit": "A"}', "version is missing"), ("\ud800 \0", "not text")]

    assert [2, 0] == [ledger.rejections.add("fills", "bot-1", rows, T0) for _ in range(2)]

    reasons = {r.reason for r in ledger.rejections.newest("fills")}
    assert {"version is missing", "not text"} == reasons
    assert [] == ledger.rejections.newest("quotes")


def test_a_key_never_looks_like_an_option_of_a_command(sqlite_ledger, monkeypatch):
    monkeypatch.setattr("mlops.io.ledger.api_keys.secrets.token_urlsafe", lambda size: "-" * (8 if size == 6 else 43))

    token = sqlite_ledger.api_keys.add("bot-1", ["score"], T0)

    assert not token.startswith("-")
    assert sqlite_ledger.api_keys.of_token(token, T0).label == "bot-1"
