"""What a person takes back, corrects or tells late leaves the equity and the drawdown that it had made in order."""

import contextlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from jobs.accounts import doubtful_fills, peak
from jobs.live.risk import Live
from mlops.errors import StorageError
from mlops.settings import BookSettings, RiskSettings, Settings

T0, SECOND = datetime(2026, 3, 2, 21, tzinfo=UTC), timedelta(seconds=1)
NAME = {"model": "direction", "book": "live"}
EXACT = Settings(books=BookSettings(balance_tolerance_bps=0.001), risk=RiskSettings(price_jump_floor=0.2))
CENT = 0.01 / 1e6


class PartAlerts:
    """The loop of the service, and what bots and people tell it."""

    def __init__(self, ledger):
        self.context, self.now = SimpleNamespace(ledger=ledger, settings=EXACT, run_id=None), T0
        self.live, self.n = Live(self.context), 0

    def fill(self, at, unit, quantity, price):
        self.n += 1
        row = NAME | {"fill_id": f"f{self.n}", "version": 1, "unit": unit, "fee": 0.0, "event_time": at}
        self.context.ledger.telemetry.add_fills(pd.DataFrame([row | {"quantity": quantity, "price": price}]))
        return f"f{self.n}"

    def void(self, name):
        self.context.ledger.voids.void_fill(name, "ada", "a typo", self.now)

    def balance(self, at, amount, flow=0.0):
        row = NAME | {"event_time": at, "known_at": max(at, self.now), "amount": amount, "flow": flow}
        self.context.ledger.balances.add(pd.DataFrame([row]))

    def look(self, **prices):
        self.now += SECOND
        self.quote(self.now, **prices)
        self.state = self.live.look(self.now).state
        return self.state.kpi.drawdown.now

    def quote(self, at, **prices):
        if not prices:
            return
        row = {"event_time": at, "known_at": at, "bid_size": 0.0, "ask_size": 0.0}
        rows = [row | {"unit": unit, "bid": price, "ask": price} for unit, price in prices.items()]
        self.context.ledger.quotes.add(pd.DataFrame(rows))

    def restart(self):
        self.live = Live(self.context)


@pytest.fixture
def teller(sqlite_ledger):
    """An account of a million that holds nothing."""
    found = PartAlerts(sqlite_ledger)
    found.balance(T0, 1e6)
    return found


@pytest.mark.parametrize("away", [False, True])
@pytest.mark.parametrize(("quantity", "price"), [(40_000.0, 100.0), (60_000.0, 100.4)])
def test_a_fill_that_is_told_anew_has_the_peak_that_it_had_made(teller, quantity, price, away):
    wrong = teller.fill(T0 + SECOND / 2, "A", quantity, price)
    for a in (100.0, 102.0, 104.0, 105.0, 104.0, 102.0, 100.0):
        teller.look(A=a)
    teller.void(wrong)
    teller.look(A=100.0)
    teller.fill(T0 + SECOND / 2, "A", 40_000.0, 100.4)
    if away:
        teller.restart()

    assert 5.0 * 40_000 / (1e6 + 4.6 * 40_000) == pytest.approx(teller.look(A=100.0))


def test_a_late_fill_has_a_peak_of_its_own(teller):
    """Without it equity was highest at 103, with it at 102."""
    first = T0 + SECOND / 2
    teller.fill(first, "A", 1000.0, 100.0)
    for a in (100.0, 103.0, 100.0, 102.0, 100.0):
        teller.look(A=a)
    assert 3e3 / 1.003e6 == pytest.approx(teller.state.kpi.drawdown.now)
    teller.fill(first + 2 * SECOND, "A", 9000.0, 100.0)

    assert 2e4 / 1.02e6 == pytest.approx(teller.look(A=100.0))


def test_a_late_fill_has_its_peak_also_where_no_look_of_then_is_kept(teller, monkeypatch):
    monkeypatch.setattr(peak, "MOST", 8)
    teller.fill(T0 + SECOND / 2, "B", 1.0, 100.0)
    for n in range(120):
        teller.look(A=109.0 if 40 <= n < 48 else 100.0, B=100.0)
    teller.fill(T0 + 30.5 * SECOND, "A", 10_000.0, 100.0)

    assert 9e4 / 1.09e6 == pytest.approx(teller.look(A=100.0), rel=1e-3)


def test_a_late_fill_that_had_lost_makes_no_peak_lower_and_leaves_nothing_once_it_is_void(teller):
    teller.fill(T0, "A", 1000.0, 100.0)
    for a in (100.0, 103.0, 100.0):
        teller.look(A=a)
    late = teller.fill(T0 + SECOND / 2, "A", -1000.0, 100.0)
    assert 3e3 / 1.003e6 == pytest.approx(teller.look(A=100.0))
    teller.void(late)

    assert 3e3 / 1.003e6 == pytest.approx(teller.look(A=100.0))


def test_a_doubtful_fill_has_its_gain_at_the_peak_once_a_person_confirms_it(teller):
    teller.fill(T0, "A", 1000.0, 100.0)
    for a in (100.0, 103.0, 103.0, 100.0):
        teller.look(A=a)
    late = teller.fill(T0 + SECOND / 2, "A", 1000.0, 50.0)
    assert 3e3 / 1.003e6 < teller.look(A=100.0) < 0.01, "what it would gain does not count"
    doubtful_fills.confirm(teller.context.ledger, late, "ada", "a block trade", teller.now)

    assert 6e3 / 1.056e6 == pytest.approx(teller.look(A=100.0))


def test_a_correction_that_fails_half_way_is_made_once(teller, monkeypatch):
    teller.fill(T0, "A", 1000.0, 100.0)
    for a in (100.0, 103.0, 102.0, 100.0):
        teller.look(A=a)
    teller.fill(T0 + SECOND / 2, "A", 1000.0, 100.0)
    events, calls = type(teller.context.ledger.books).unit_events, []

    def fails(self, *about, **until):
        calls.append(about)
        if len(calls) == 3:
            raise StorageError("the disk was away for a moment")
        return events(self, *about, **until)

    monkeypatch.setattr(type(teller.context.ledger.books), "unit_events", fails)
    with pytest.raises(StorageError):
        teller.look(A=100.0)

    assert 6e3 / 1.006e6 == pytest.approx(teller.look(A=100.0))
    teller.restart()
    assert 6e3 / 1.006e6 == pytest.approx(teller.look(A=100.0))


class Killed(Exception):
    """The process ended before this write."""


@pytest.mark.parametrize("more", [False, True])
@pytest.mark.parametrize("writes", [0, 1, 2, 3, 4])
def test_a_void_leaves_no_mark_of_its_fill_whichever_write_a_kill_came_before(teller, monkeypatch, writes, more):
    """A unit that nothing else is held of has no mark, and the next fill of it is the first."""
    teller.look()
    wrong = teller.fill(teller.now, "B", 100.0, 1000.0)
    teller.balance(teller.now + SECOND / 4, 1e6)
    for _ in range(12):
        teller.look()
    if more:
        teller.fill(teller.now, "B", 5000.0, 100.0)
        teller.look()
    teller.void(wrong)
    put, made = type(teller.context.ledger.risk).put_state, []

    def kills(self, *about):
        made.append(about[0])
        if len(made) > writes:
            raise Killed
        put(self, *about)

    with monkeypatch.context() as patched:
        patched.setattr(type(teller.context.ledger.risk), "put_state", kills)
        with contextlib.suppress(Killed):
            teller.look()
    teller.restart()
    teller.look()
    if not more:
        teller.fill(teller.now, "B", 5000.0, 100.0)
    for _ in range(3):
        teller.look()

    assert {"B": (100.0, None)} == {row.unit: (row.price, row.unconfirmed) for row in teller.state.positions.values()}
    assert (1e6, 0.0) == (pytest.approx(teller.state.kpi.equity), pytest.approx(teller.state.kpi.drawdown.now))


def test_a_peak_that_was_made_while_a_balance_was_wrong_counts_once_that_is_void(teller):
    teller.fill(T0, "A", 10_000.0, 100.0)
    teller.look(A=100.0)
    teller.balance(wrong := teller.now, 1e5)
    for a in (100.0, *[103.0] * 11, 100.0):
        teller.look(A=a)
    teller.context.ledger.balances.void("direction", "live", wrong, "ada", "a typo", teller.now)
    for _ in range(11):
        teller.look(A=100.0)

    assert 3e4 / 1.03e6 == pytest.approx(teller.state.kpi.drawdown.now)
    assert 1e6 == pytest.approx(teller.state.kpi.equity)


@pytest.mark.parametrize("lost", [0.0, 5e4])
def test_a_late_fill_in_a_balance_is_valued_at_the_price_of_then_of_a_unit_that_was_not_held(teller, lost):
    """B was sold at 110 and bought again at 100, which is told after the balance."""
    for quantity in (10.0, -10.0):
        teller.fill(teller.now + SECOND / 4, "B", quantity, 110.0)
        for _ in range(6):
            teller.look(B=110.0)
    for step in range(120):
        teller.now += 10 * SECOND
        teller.quote(teller.now, B=110.0 - (step + 1) / 12)
    teller.balance(teller.now + SECOND, 1e6 - lost)
    teller.restart()
    teller.look()
    assert lost / 1e6 == pytest.approx(teller.look(B=100.0))
    teller.fill(teller.now - 9 * SECOND / 4, "B", 8000.0, 100.0)
    for _ in range(3):
        teller.look(B=100.0)

    assert 1e6 - lost == pytest.approx(teller.state.kpi.equity)
    assert lost / 1e6 == pytest.approx(teller.state.kpi.drawdown.now)


@dataclass
class Story:
    """What truly happened: prices at each second, fills and flows between them; and how it comes to be told."""

    rng: np.random.Generator
    n: int = 9
    prices: dict = field(default_factory=dict)
    fills: list = field(default_factory=list)
    flows: dict = field(default_factory=dict)

    def __post_init__(self):
        walk = np.exp(np.cumsum(self.rng.normal(0, 0.01, (2, self.n + 1)), axis=1))
        self.prices = {unit: np.round(100 * walk[i], 2) for i, unit in enumerate("AB")}
        for _ in range(6):
            unit, second = str(self.rng.choice(["A", "B"])), int(self.rng.integers(self.n - 1))
            self.fills.append((second, unit, float(self.rng.integers(-3000, 3001)), float(self.prices[unit][second])))
        for second in self.rng.choice(self.n - 1, 2, replace=False).tolist():
            self.flows[second] = float(self.rng.choice([-3e5, 4e5]))

    def worth(self, second, price_at=None):
        """Of the account just after what happened in that second, at the prices of another one."""
        price_at = second if price_at is None else price_at
        made = sum(q * (self.prices[unit][price_at] - price) for at, unit, q, price in self.fills if at <= second)
        return 1e6 + made + sum(flow for at, flow in self.flows.items() if at <= second)

    def drawdown(self):
        """The fall at the last look from the highest one, flows moving both by the same share once it traded."""
        top = equity = 1e6
        for second in range(self.n):
            flow, equity = self.flows.get(second, 0.0), self.worth(second, second + 1)
            top = top * equity / (equity - flow) if second > min(self.fills)[0] else top + flow
            top = max(equity, top)
        return 1 - equity / top

    def told(self, teller):
        """What is told after each second: at once, late, or wrong first."""
        events = [[] for _ in range(self.n)]
        balances = {int(self.rng.integers(self.n)): 0.0} | self.flows
        for second, flow in balances.items():
            amount = self.worth(second)
            late = int(self.rng.integers(second, self.n))
            events[late].append(lambda s=second, a=amount, f=flow: teller.balance(at(s), a, flow=f))
        for second, unit, quantity, price in self.fills:
            first, last = sorted(self.rng.integers(second, self.n, 2).tolist())
            if self.rng.random() < 0.4:
                factor = float(self.rng.choice([0.5, -1.0, 3.0]))
                wrong = []
                events[first].append(
                    lambda s=second, u=unit, q=quantity * factor, p=price, w=wrong: w.append(
                        teller.fill(at(s), u, q, p)
                    )
                )
                events[last].append(lambda w=wrong: teller.void(w[0]))
            events[last].append(lambda s=second, u=unit, q=quantity, p=price: teller.fill(at(s), u, q, p))
        return events


def at(second):
    return T0 + (second + 0.5) * SECOND


@pytest.mark.parametrize("seed", [0, 1, 4, 17, 41])
def test_no_order_of_telling_makes_a_drawdown_less(teller, seed, monkeypatch):
    monkeypatch.setattr(peak, "SAVED", timedelta(0))
    story = Story(np.random.default_rng(seed))
    for second, events in enumerate(story.told(teller)):
        teller.quote(at(second) - SECOND / 4, **{unit: float(each[second]) for unit, each in story.prices.items()})
        for tell in events:
            tell()
        teller.look(**{unit: float(each[second + 1]) for unit, each in story.prices.items()})
        if story.rng.random() < 0.2:
            teller.restart()
    teller.now += 11 * SECOND
    found = teller.look(**{unit: float(each[-1]) for unit, each in story.prices.items()})

    assert story.worth(story.n - 1, story.n) == pytest.approx(teller.state.kpi.equity, abs=0.01)
    assert found >= story.drawdown() - 2 * CENT
