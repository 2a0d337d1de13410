"""What is read only where it is new is what a look that reads everything tells, to the last bit."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from jobs import books
from jobs.accounts.peak import ALL
from jobs.live.history import Pasts
from jobs.live.risk import Live, clock
from jobs.portfolio import splits
from jobs.portfolio.book_cache import Memo, Readings
from jobs.portfolio.positions import positions
from mlops.io.ledger import Instrument, Ledger
from mlops.learn import STRATEGIES
from mlops.settings import BookBalance, BookSettings, RiskLimit, RiskSettings, Settings
from mlops.types import Kind
from tests.jobs.live.test_risk import night

T0, DAY, SECOND = datetime(2026, 3, 2, 15, tzinfo=UTC), timedelta(days=1), timedelta(seconds=1)
UNITS = ("A", "B", "C")
SPLIT, TOLD = 8, 25  # steps at which a person tells of a split, and of an instrument
LINES = (
    RiskLimit(measure="var", warning=0.02, soft=0.05, hard=0.2),
    RiskLimit(measure="drawdown", warning=0.01, soft=0.05, hard=0.2, scope="direction"),
)


def opened(path, amount=None, **risk):
    """A set-up of its own, which reads whatever is slow at each look."""
    told = () if amount is None else (BookBalance(amount=amount),)
    settings = Settings(risk=RiskSettings(limits=LINES, **risk), books=BookSettings(balances=told))
    context = SimpleNamespace(ledger=Ledger(f"sqlite:///{path}"), settings=settings, run_id=None, client=None)
    seconds = iter(range(0, 1_000_000, 60))
    return context, Live(context, clock=lambda: float(next(seconds)))


def forget(live):
    """Have it read everything anew."""
    live._holdings._booked = live._holdings._counted_at = None
    live._holdings._readings, live._holdings._accounts = Readings(live._context), Memo()
    live._pasts = Pasts(live._context, live._peaks[ALL])


def fill(context, name, book, unit, quantity, price, at, model="direction"):
    row = {"fill_id": name, "model": model, "version": 1, "book": book, "unit": unit, "event_time": at}
    context.ledger.telemetry.add_fills(pd.DataFrame([row | {"quantity": quantity, "price": price, "fee": 0.01}]))


def quote(context, unit, price, at):
    row = {"unit": unit, "event_time": at, "known_at": at, "bid": price, "ask": price, "bid_size": 0.0, "ask_size": 0.0}
    context.ledger.quotes.add(pd.DataFrame([row]))


def balance(context, book, amount, at, flow=0.0):
    row = {"model": "direction", "book": book, "event_time": at, "known_at": at, "amount": amount, "flow": flow}
    context.ledger.balances.add(pd.DataFrame([row]))


def bars(context, prices, at):
    rows = {"event_time": at, "known_at": at, "symbol": list(prices), "close": list(prices.values())}
    for model in ("direction", "volatility"):
        books.advance(context, STRATEGIES[model], pd.DataFrame(rows), at)


def split(context, unit, price, at):
    quote(context, unit, price, at)
    held = positions(context, at)
    told = splits.plan(context, held, unit, splits.ratio("2:1"), at - SECOND / 2, "ann", "notice")
    assert splits.book(context, told)


def instrument(context, at):
    context.ledger.instruments.put([Instrument("C", kind=Kind.FUTURE, multiplier=5.0)], at)


def happen(rng, prices, i, at):
    """One thing that happens in a set-up at an instant, drawn once so that it can happen in two."""
    unit, book = str(rng.choice(UNITS)), f"bot{rng.integers(3)}"
    prices[unit] *= float(np.exp(rng.normal(0, 0.002)))
    now, quantity, flow = dict(prices), float(rng.integers(1, 50)) * float(rng.choice([-1, 1])), float(rng.normal())
    model = str(rng.choice(["direction", "volatility"]))
    ahead = ["ahead"] if i > SPLIT else []  # a fill that is told ahead of a split contradicts it
    what = str(rng.choice(["quote", "fill", "late", "void", "bars", "balance", "flow", "none", *ahead]))
    if what == "fill":
        return lambda context: fill(context, f"f{i}", book, unit, quantity, now[unit], at, model)
    if what in ("late", "ahead"):
        other = at + (-30 if what == "late" else 25) * SECOND
        return lambda context: fill(context, f"f{i}", book, unit, quantity, now[unit], other, model)
    if what == "void":
        name = f"f{rng.integers(max(i, 1))}"
        known = lambda context: context.ledger.voids.newest_fills()["fill_id"].tolist()  # noqa: E731
        return lambda context: name in known(context) and context.ledger.voids.void_fill(name, "ann", "a mistake", at)
    if what == "bars":
        return lambda context: bars(context, now, at)
    if what in ("balance", "flow"):
        paid = 100.0 * flow if what == "flow" else 0.0
        return lambda context: balance(context, book, 1e6 + 50 * flow + paid, at, paid)
    return lambda context: what == "quote" and quote(context, unit, now[unit], at)


@pytest.mark.parametrize(("seed", "amount"), [(0, 1e6), pytest.param(1, 1e6, marks=pytest.mark.rare), (2, None)])
def test_whatever_happens_a_look_tells_what_one_that_reads_everything_tells(tmp_path, seed, amount):
    rng, prices, at = np.random.default_rng(seed), dict.fromkeys(UNITS, 100.0), T0
    both = [opened(tmp_path / f"{name}.db", amount) for name in ("kept", "anew")]
    for context, _ in both:
        night(context)
        for i, unit in enumerate(UNITS):
            fill(context, f"s{i}", f"bot{i}", unit, 100.0, 100.0, T0 - 2 * DAY)
        bars(context, prices, T0 - DAY)
    for i in range(40):
        at += int(rng.integers(1, 15)) * SECOND
        thing = happen(rng, prices, i, at - SECOND)
        prices["A"] = prices["A"] / 2 if i == SPLIT else prices["A"]
        for context, _ in both:
            thing(context)
            if i == SPLIT:
                split(context, "A", prices["A"], at)
            if i == TOLD:
                instrument(context, at)
        if i == TOLD:
            at += 10 * SECOND  # what an instrument is is looked for so often while nothing else is new

        forget(both[1][1])
        mine, theirs = (live.look(at) for _, live in both)

        assert theirs.state == mine.state, f"step {i}"
        assert repr(theirs.findings) == repr(mine.findings), f"step {i}"
    fresh = Live(both[0][0], records=False).look(at).state
    assert (mine.state.positions, mine.state.balances) == (fresh.positions, fresh.balances)
    assert mine.state.kpi == fresh.kpi
    for context, _ in both:
        context.ledger.close()


def test_a_replay_whose_clock_stands_is_looked_at_anew_when_a_book_moves_and_after_ten_seconds(sqlite_ledger):
    seconds = [0.0]
    context = SimpleNamespace(ledger=sqlite_ledger, run_id=None, client=None)
    context.settings = Settings(
        risk=RiskSettings(clock="ledger"), books=BookSettings(balances=(BookBalance(amount=1e6),))
    )
    fill(context, "f0", "bot0", "A", 100.0, 100.0, T0 - 2 * DAY)
    bars(context, {"A": 100.0}, T0)
    live = Live(context, clock=lambda: seconds[0])

    first = live.look(clock(context, T0 + DAY))

    assert live.look(clock(context, T0 + DAY)) is first
    context.ledger.trading.set("reducing", "ann", "a look at it", T0)
    assert live.look(clock(context, T0 + DAY)) is first
    seconds[0] = 10.0
    assert "reducing" == live.look(clock(context, T0 + DAY)).state.kpi.trading.state
    fill(context, "f1", "bot0", "A", 50.0, 101.0, T0)
    assert 150 == live.look(clock(context, T0 + DAY)).state.positions["direction/bot0/A"].quantity
