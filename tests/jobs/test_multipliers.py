"""Equity = cash + sum of value, for whatever is traded: through the ledger, the books job, the live positions, a restart."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jobs import books
from jobs.live.risk import Live
from jobs.portfolio.positions import positions
from mlops.io.ledger import BookKey, Instrument, Ledger
from mlops.learn import STRATEGIES
from mlops.settings import BookBalance, BookSettings, Settings
from mlops.types import Kind

T0, DAY, STRATEGY = datetime(2026, 3, 2, 21, tzinfo=UTC), timedelta(days=1), STRATEGIES["direction"]
KEY = BookKey("direction", "live")
KNOWN = Settings(books=BookSettings(balances=(BookBalance(amount=1e6),)))
ABOUT = {"underlying": "S0", "strike": 100.0, "expiry": T0 + 90 * DAY}
SCALES = [0.1, 1.0, 5.0, 50.0, 100.0, 1000.0]
UNITS = st.lists(st.tuples(st.sampled_from(list(Kind)), st.sampled_from(SCALES)), min_size=1, max_size=4)


def world(url):
    ledger = Ledger(url)
    return SimpleNamespace(ledger=ledger, settings=KNOWN, run_id=None, client=None)


def trade(context, number, unit, quantity, price, fee, at):
    row = {"fill_id": f"f{number}", "model": "direction", "version": 1, "book": "live", "unit": unit}
    context.ledger.telemetry.add_fills(
        pd.DataFrame([row | {"event_time": at, "quantity": quantity, "price": price, "fee": fee}])
    )


def bars(units, prices):
    """One bar a day."""
    rows = [
        {"event_time": T0 + day * DAY, "known_at": T0 + day * DAY, "symbol": unit, "close": float(price)}
        for day, row in enumerate(prices)
        for unit, price in zip(units, row, strict=True)
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(**{name: pd.to_datetime(frame[name], utc=True) for name in ("event_time", "known_at")})


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(UNITS, st.integers(0, 2**32 - 1), st.booleans())
def test_equity_is_cash_and_value_whatever_is_traded(tmp_path_factory, kinds, seed, late):
    """Flips through zero, partial closes, shorts and fees; `late`: the instruments are told after the first day."""
    rng, url = np.random.default_rng(seed), f"sqlite:///{tmp_path_factory.mktemp('m')}/ledger.db"
    names = [f"S{i}" for i in range(len(kinds))]
    told = [
        Instrument(u, k, multiplier=m, **(ABOUT if k in ("call", "put") else {}))
        for u, (k, m) in zip(names, kinds, strict=True)
    ]
    scale = {u: m for u, (_, m) in zip(names, kinds, strict=True)}
    walk = np.round(50 * np.exp(np.cumsum(rng.normal(0, 0.05, (4, len(names))), axis=0)), 4)
    feed, cash, held, number = bars(names, walk), 1e6, dict.fromkeys(names, 0.0), 0
    for day in range(4):
        context = world(url)
        if day == (1 if late else 0):
            context.ledger.instruments.put(told, T0)
        for unit in rng.choice(names, 3).tolist():
            quantity, fee = float(rng.choice([-1, 1]) * rng.integers(1, 40) / 4), float(rng.integers(0, 200) / 100)
            price = float(np.round(walk[day][names.index(unit)] * rng.uniform(0.97, 1.03), 4))
            trade(context, number, unit, quantity, price, fee, T0 + day * DAY - timedelta(hours=1))
            cash, number = cash - quantity * price * scale[unit] - fee, number + 1
            held[unit] += quantity
        if late and day == 0:
            books.advance(context, STRATEGY, feed, T0)
            continue  # by multipliers that nobody has told yet
        last = {u: walk[day][i] for i, u in enumerate(names)}
        before = positions(context, T0 + day * DAY - timedelta(minutes=30))
        books.advance(context, STRATEGY, feed, T0 + day * DAY)
        state = context.ledger.books.state(KEY)
        want = cash + sum(held[u] * last[u] * scale[u] for u in names)
        context.ledger.close()

        context = world(url)  # a restart
        found, page = positions(context, T0 + day * DAY), Live(context).look(T0 + day * DAY).state
        assert cash == pytest.approx(state["cash"] / 1e8, abs=1e-4)
        assert want == pytest.approx(state["equity"] / 1e8, abs=1e-4)
        assert want == pytest.approx(found.equity, abs=1e-4) == pytest.approx(page.kpi.equity, abs=1e-4)
        assert state["equity"] == state["start"] + state["realised"] + state["unrealised"] - state["fees"]
        assert found.equity == pytest.approx(sum(found.cash.values()) + found.value.sum())
        assert before.equity == pytest.approx(sum(before.cash.values()) + before.value.sum())
        assert {u: q for u, q in held.items() if q} == pytest.approx(
            dict(zip(found.frame.unit, found.frame.quantity, strict=True))
        )
        shown = {row.unit: (row.value, row.pnl) for row in page.positions.values()}
        for unit, quantity, price, each in found.frame[["unit", "quantity", "price", "multiplier"]].itertuples(
            index=False
        ):
            assert scale[unit] == each
            assert quantity * price * each == pytest.approx(shown[unit][0])
        costs = found.frame.set_index("unit").cost
        assert {u: v - costs[u] for u, (v, _) in shown.items()} == pytest.approx(
            {u: p for u, (_, p) in shown.items()}, abs=1e-4
        )
        context.ledger.close()


@pytest.fixture
def context(sqlite_ledger):
    return SimpleNamespace(ledger=sqlite_ledger, settings=KNOWN, run_id=None, client=None)


@pytest.mark.parametrize("booked", [False, True])
def test_a_multiplier_that_is_told_late_or_changed_is_no_profit(context, booked):
    """The fill was booked by 1; then the instrument says 100, then 50: cost and cash follow, also what was realised."""
    feed = bars(["P", "Q"], [[5.0, 9.0], [6.0, 9.0]])
    trade(context, 1, "P", 10.0, 5.0, 1.0, T0)
    trade(context, 2, "P", -4.0, 5.5, 0.0, T0 + timedelta(seconds=1))
    trade(context, 3, "Q", 1.0, 9.0, 0.0, T0)
    if booked:
        books.advance(context, STRATEGY, feed, T0 + timedelta(hours=1))
        books.advance(context, STRATEGY, feed, T0 + DAY)
    for multiplier in (100.0, 50.0):
        put = Instrument("P", Kind.PUT, multiplier=multiplier, underlying="Q", strike=100.0, expiry=T0 + 30 * DAY)
        context.ledger.instruments.put([put], T0)

        found = positions(context, T0 + 2 * DAY)

        row, mark = found.frame.set_index("unit").loc["P"], 6.0 if booked else 5.5
        assert (6.0, multiplier, 30.0 * multiplier) == (row.quantity, row.multiplier, row.cost)
        gain = multiplier * (4 * 0.5 + 6 * (mark - 5.0))
        assert 1e6 - 1.0 + gain == pytest.approx(found.equity)
    if booked:
        books.advance(context, STRATEGY, feed, T0 + DAY)
        assert 50.0 * 4 * 0.5 == context.ledger.books.state(KEY)["realised"] / 1e8
        assert [] == context.ledger.audit.verify()


def test_an_option_that_ended_worthless_leaves_the_book_at_a_price_of_0(context):
    put = Instrument("P", Kind.PUT, multiplier=100.0, underlying="Q", strike=100.0, expiry=T0 + timedelta(hours=2))
    context.ledger.instruments.put([put], T0)
    trade(context, 1, "P", 10.0, 5.0, 0.0, T0)
    trade(context, 2, "P", -10.0, 0.0, 0.0, T0 + timedelta(hours=3))

    found = positions(context, T0 + timedelta(hours=4))
    books.advance(context, STRATEGY, bars(["Q"], [[9.0], [9.0]]), T0 + DAY)

    assert found.frame.empty
    assert 1e6 - 5_000 == pytest.approx(found.equity)
    assert -5_000 == context.ledger.books.state(KEY)["realised"] / 1e8


def test_a_fill_that_waits_for_its_bar_is_not_lost_when_a_later_one_is_booked_first(context):
    trade(context, 1, "A", 1.0, 100.0, 0.0, T0 + timedelta(hours=2))  # after the bar
    trade(context, 2, "A", 5.0, 100.0, 0.0, T0 - timedelta(hours=2))  # came later, happened before
    feed = bars(["A"], [[100.0], [100.0]])
    books.advance(context, STRATEGY, feed, T0 + timedelta(minutes=1))
    assert 1 == len(context.ledger.books.unbooked_fills(*KEY[:2], as_of=T0 + DAY))
    books.advance(context, STRATEGY, feed, T0 + DAY)

    assert [6.0] == [q / 1e8 for q, *_ in context.ledger.books.state(KEY)["positions"].values()]
