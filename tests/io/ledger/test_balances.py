"""Balances: kept once, as they were known, and held against their checksums."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from mlops.errors import CorruptionError, DataError

T0, HOUR = datetime(2026, 3, 2, 15, tzinfo=UTC), timedelta(hours=1)


def frame(*rows):
    names = ["model", "book", "event_time", "known_at", "amount", "flow"]
    return pd.DataFrame([("m", "b", at, known, amount, flow) for at, known, amount, flow in rows], columns=names)


def test_a_balance_is_kept_once_and_told_as_it_was_known(ledger):
    rows = frame(
        (T0, T0, 1000.0, 0.0), (T0 + HOUR, T0 + 3 * HOUR, 1500.0, 500.0), (T0 + 2 * HOUR, T0 + 2 * HOUR, 1.0, 0.0)
    )

    assert [3, 0] == [ledger.balances.add(rows) for _ in range(2)]

    told = ledger.balances.of("m", "b", as_of=T0 + 2 * HOUR)
    assert [(T0, 1000.0), (T0 + 2 * HOUR, 1.0)] == [(one.at, one.amount) for one in told]
    later = ledger.balances.of("m", "b", as_of=T0 + 3 * HOUR, last=2)
    assert [(1500.0, 500.0, "bot"), (1.0, 0.0, "bot")] == [(one.amount, one.flow, one.source) for one in later]
    assert [1500.0, 1.0] == [one.amount for one in ledger.balances.of("m", "b", as_of=T0 + 9 * HOUR, since=T0 + HOUR)]
    assert [] == ledger.balances.of("m", "other", as_of=T0 + HOUR)


def test_an_account_may_owe_more_than_it_has(ledger):
    ledger.balances.add(frame((T0, T0, -5.0, 0.0), (T0 + HOUR, T0 + HOUR, 0.0, 5.0)))

    assert [-5.0, 0.0] == [one.amount for one in ledger.balances.of("m", "b", as_of=T0 + HOUR)]


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), 1e21])
def test_an_amount_that_is_no_number_of_money_is_refused(ledger, amount):
    with pytest.raises(DataError, match="amount of balances"):
        ledger.balances.add(frame((T0, T0, amount, 0.0)))


def test_a_balance_that_changed_on_the_disk_is_an_error(sqlite_ledger):
    sqlite_ledger.balances.add(frame((T0, T0, 1000.0, 0.0)))
    with sqlite_ledger.writing() as connection:
        connection.exec_driver_sql("UPDATE balances SET amount = 1001")

    with pytest.raises(CorruptionError):
        sqlite_ledger.balances.of("m", "b", as_of=T0)


def test_the_newest_balance_of_each_book_and_how_many_there_are(ledger):
    assert {} == ledger.balances.last(as_of=T0)
    for hours, book in ((0, "a"), (5, "a"), (3, "a"), (1, "b"), (9, "b")):
        at = T0 + hours * HOUR
        ledger.balances.add(frame((at, at, 1.0, 0.0)).assign(book=book))

    now = T0 + 8 * HOUR

    assert {("m", "a"): T0 + 5 * HOUR, ("m", "b"): T0 + HOUR} == ledger.balances.last(as_of=now)
    assert {("m", "a"): 3, ("m", "b"): 1} == ledger.balances.count(as_of=now)


def test_what_is_dated_after_an_instant_is_counted_without_what_was_taken_back(ledger):
    for hours in (0, 5, 6):
        at = T0 + hours * HOUR
        ledger.balances.add(frame((at, at, 1.0, 0.0)))
        row = {"fill_id": f"f{hours}", "model": "m", "version": 1, "book": "b", "unit": "A", "event_time": at}
        ledger.telemetry.add_fills(pd.DataFrame([row | {"quantity": 1.0, "price": 1.0, "fee": 0.0}]))

    assert {"fills": 2, "balances": 2} == ledger.balances.dated_after(T0 + HOUR)
    ledger.balances.void("m", "b", T0 + 5 * HOUR, "ann", "wrong", T0)
    ledger.voids.void_fill("f6", "ann", "wrong", T0)
    assert {"fills": 1, "balances": 1} == ledger.balances.dated_after(T0 + HOUR)
    assert {"fills": 0, "balances": 0} == ledger.balances.dated_after(T0 + 6 * HOUR)
