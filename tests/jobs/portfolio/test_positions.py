"""What is held now: the last bar's book, the fills since, the newest prices."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from jobs import books
from jobs.portfolio.positions import positions
from mlops.io.ledger import Instrument
from mlops.learn import STRATEGIES
from mlops.settings import Settings
from mlops.types import POSITION_COLUMNS, Kind

T0, DAY = datetime(2026, 3, 2, 21, tzinfo=UTC), timedelta(days=1)


@pytest.fixture
def context(ledger):
    return SimpleNamespace(ledger=ledger, settings=Settings(), run_id=None, client=None)


def fill(ledger, unit, quantity, price, at, *, model="direction", book="live", fee=0.0):
    row = {"fill_id": f"{book}{unit}{at}", "model": model, "version": 1, "book": book, "unit": unit}
    numbers = {"event_time": at, "quantity": quantity, "price": price, "fee": fee}
    ledger.telemetry.add_fills(pd.DataFrame([row | numbers]))


def quote(ledger, unit, bid, ask, at):
    row = {"unit": unit, "event_time": at, "known_at": at, "bid": bid, "ask": ask, "bid_size": 0.0, "ask_size": 0.0}
    ledger.quotes.add(pd.DataFrame([row]))


def test_nothing_is_held_where_nothing_was_traded(context):
    held = positions(context, T0)

    assert held.frame.empty
    assert list(POSITION_COLUMNS) == list(held.frame)
    assert 0.0 == held.equity


def test_fills_that_no_book_has_taken_yet_are_held_at_the_newest_price(context):
    fill(context.ledger, "A", 100, 10.0, T0, fee=1.0)
    fill(context.ledger, "B", -50, 20.0, T0)
    quote(context.ledger, "A", 10.04, 10.06, T0 + timedelta(seconds=5))

    held = positions(context, T0 + timedelta(seconds=9))

    rows = held.frame.set_index("unit")
    assert [100.0, -50.0] == list(rows.quantity[["A", "B"]])
    assert [10.05, 20.0] == list(rows.price[["A", "B"]])
    assert [T0 + timedelta(seconds=5), T0] == list(rows.priced_at[["A", "B"]])
    assert 1e6 + 5 - 1 == pytest.approx(held.equity)


def test_what_was_not_known_yet_is_not_seen(context):
    fill(context.ledger, "A", 100, 10.0, T0)
    fill(context.ledger, "A", 900, 10.0, T0 + DAY)
    quote(context.ledger, "A", 20.0, 20.0, T0 + DAY)

    held = positions(context, T0 + timedelta(hours=1))

    assert [100.0] == list(held.frame.quantity)
    assert [10.0] == list(held.frame.price)


def test_a_quote_older_than_the_last_bar_does_not_price_a_position(context):
    fill(context.ledger, "A", 100, 10.0, T0)
    quote(context.ledger, "A", 5.0, 5.0, T0 - DAY)

    assert [10.0] == list(positions(context, T0 + DAY).frame.price)


def test_books_that_were_brought_up_to_a_bar_and_fills_after_it_add_up(context):
    bars = pd.DataFrame(
        {
            "event_time": pd.DatetimeIndex([T0, T0 + DAY]),
            "known_at": pd.DatetimeIndex([T0, T0 + DAY]),
            "symbol": "A",
            "close": [10.0, 12.0],
        }
    )
    fill(context.ledger, "A", 100, 10.0, T0)
    books.advance(context, STRATEGIES["direction"], bars, T0 + DAY)
    fill(context.ledger, "A", -40, 13.0, T0 + DAY + timedelta(hours=1))

    before, after = positions(context, T0 + DAY), positions(context, T0 + 2 * DAY)

    assert (100.0, 12.0) == (before.frame.quantity[0], before.frame.price[0])
    assert 1e6 + 200 == pytest.approx(before.equity)
    assert 60.0 == after.frame.quantity[0]
    assert 600.0 == pytest.approx(after.frame.cost[0])
    assert 1e6 + 40 * 2 + 60 * 2 == pytest.approx(after.equity), "a fill 8 % off the bar of an hour ago is in doubt"


def test_a_model_whose_bot_tells_of_no_fills_is_seen_by_its_champions_virtual_book(context):
    at = pd.Timestamp(T0)
    frame = pd.DataFrame({"model": "direction", "version": 4, "unit": ["A"], "event_time": at, "known_at": at})
    frame = frame.assign(matures_at=at + DAY, role="champion", probability=0.9)
    context.ledger.telemetry.add_predictions(frame, np.zeros((1, 1), np.float32), ("f",))
    context.ledger.registry.append_promotion(
        "direction",
        expected=None,
        to=4,
        kind="promote",
        actor="a",
        reason="",
        evidence_run="",
        correlation_id="",
        at=T0,
    )
    bars = pd.DataFrame({"event_time": [at], "known_at": [at], "symbol": "A", "close": [10.0]})
    books.advance(context, STRATEGIES["direction"], bars, T0 + DAY)

    held = positions(context, T0 + DAY)

    assert ["virtual v4"] == list(held.frame.book)
    assert held.frame.quantity[0] > 0


def test_what_a_unit_is_stands_beside_it_and_an_option_brings_its_underlyings_price(context):
    option = Instrument("C", Kind.CALL, "USD", "tech", 1.0, "A", 10.0, T0 + 30 * DAY, american=True)
    context.ledger.instruments.put([option], T0)
    fill(context.ledger, "C", 100, 0.5, T0)
    fill(context.ledger, "B", 1, 5.0, T0)
    quote(context.ledger, "A", 10.0, 10.2, T0)

    held = positions(context, T0)

    rows = held.frame.set_index("unit")
    assert ["call", "spot"] == list(rows.kind[["C", "B"]])
    assert (10.0, T0 + 30 * DAY, True) == (rows.strike["C"], rows.expiry["C"], rows.american["C"])
    assert pd.isna(rows.expiry["B"])
    assert 10.1 == pytest.approx(held.prices["A"].value)
    assert {"A", "B", "C"} == set(held.prices)
