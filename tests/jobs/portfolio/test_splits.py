"""A split changes quantities in every book and nothing of what they are worth, when it is told in time and when late."""

from datetime import UTC, datetime, timedelta
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from jobs import books
from jobs.cli import main
from jobs.live import risk as rooms
from jobs.live.risk import Live
from jobs.portfolio import splits, twins
from jobs.portfolio.positions import positions
from mlops.books.rows import restored, steps
from mlops.books.twin import History, twin_differences
from mlops.errors import DataError
from mlops.io.ledger import BookKey, Instrument, Ledger
from mlops.learn import STRATEGIES
from mlops.settings import BookBalance, BookSettings, Settings
from mlops.types import Kind

CLI = CliRunner()
T0, DAY, HOUR, SECOND = (
    datetime(2026, 3, 2, 21, tzinfo=UTC),
    timedelta(days=1),
    timedelta(hours=1),
    timedelta(seconds=1),
)
OPEN = T0 + DAY - timedelta(hours=6, minutes=30)  # of the day of the split
KNOWN = Settings(books=BookSettings(balances=(BookBalance(amount=1e6),)))
STRATEGY, KEY, VIRTUAL = STRATEGIES["direction"], BookKey("direction", "live"), BookKey("direction", "virtual", 3)


@pytest.fixture
def context(sqlite_ledger, monkeypatch):
    monkeypatch.setattr(rooms, "SLOW_S", 0.0)
    return SimpleNamespace(ledger=sqlite_ledger, settings=KNOWN, run_id=None, client=None)


@pytest.fixture
def anywhere(ledger):
    return SimpleNamespace(ledger=ledger, settings=KNOWN, run_id=None, client=None)


def fill(context, unit, quantity, price, at, book="live", model="direction", name=""):
    about = {"fill_id": name or f"{model}{book}{unit}{at}{price}", "model": model, "version": 3, "book": book}
    row = about | {"unit": unit, "event_time": at, "quantity": quantity, "price": price, "fee": 0.0}
    context.ledger.telemetry.add_fills(pd.DataFrame([row]))


def quote(context, unit, price, at):
    row = {"unit": unit, "event_time": at, "known_at": at, "bid": 0.9995 * price, "ask": 1.0005 * price}
    context.ledger.quotes.add(pd.DataFrame([row | {"bid_size": 0.0, "ask_size": 0.0}]))


def score(context, units="AB", days=range(4)):
    at = [T0 + i * DAY for i in days]
    for unit in units:
        frame = pd.DataFrame({"event_time": at, "known_at": at, "matures_at": [one + DAY for one in at]})
        frame = frame.assign(model="direction", version=3, unit=unit, role="champion", probability=0.9)
        context.ledger.telemetry.add_predictions(frame, np.zeros((len(at), 1), np.float32), ["x"])


def bars(**closes):
    """A bar a day from T0 on of each unit."""
    each = []
    for unit, prices in closes.items():
        at = pd.DatetimeIndex([T0 + i * DAY for i in range(len(prices))])
        each.append(pd.DataFrame({"event_time": at, "known_at": at, "symbol": unit, "close": prices}))
    return pd.concat(each).sort_values("event_time", kind="stable", ignore_index=True)


def book(context, unit="A", ratio="2:1", *, at=None, now=None, actor="ann", reason="notice of the exchange"):
    by, held = splits.ratio(ratio), positions(context, now)
    when = at or splits.instant(context, held, unit, by)
    plan = splits.plan(context, held, unit, by, when, actor, reason)
    assert splits.book(context, plan)
    return plan


@pytest.mark.parametrize(
    ("text", "new", "old"),
    [("2:1", 2, 1), ("1:10", 1, 10), ("3", 3, 1), ("0.1", 1, 10), ("1.05", 21, 20), ("4:2", 2, 1)],
)
def test_a_ratio_is_new_for_old_or_a_number(text, new, old):
    assert Fraction(new, old) == splits.ratio(text)


@pytest.mark.parametrize("text", ["", "0", "1", "2:2", "-2", "nan", "inf", "1:0", "2:1:1", "1_0", "2/1", "1e9", "x:y"])
def test_what_is_no_ratio_is_refused(text):
    with pytest.raises(DataError, match="ratio must be new:old"):
        splits.ratio(text)


@pytest.mark.parametrize("seed", range(8))
def test_a_split_moves_no_money_of_any_book(context, seed):
    """Random ratios, long and short, multipliers; equity, cash, cost, realised, today's gain and the peak stay."""
    rng = np.random.default_rng(seed)
    new, old = (int(n) for n in rng.integers(1, 21, 2))
    new += new == old
    multiplier, price = float(rng.choice([1.0, 0.1, 50.0])), float(np.round(rng.uniform(5, 500), 2))
    context.ledger.instruments.put([Instrument("A", multiplier=multiplier)], T0)
    for name, quantity in (("long", rng.uniform(1, 100)), ("short", -rng.uniform(1, 100))):
        fill(context, "A", float(np.round(quantity, 4)), price, T0, book=name)
        fill(context, "B", 10.0, 20.0, T0, book=name)
    live = Live(context)
    for i in range(8):
        quote(context, "A", price * 1.002, OPEN - HOUR + i * SECOND)
        before = live.look(OPEN - HOUR + i * SECOND)
    quote(context, "A", price * 1.002 * old / new, OPEN)
    live.look(OPEN)
    held = positions(context, OPEN)
    plan = book(context, ratio=f"{new}:{old}", at=OPEN, now=OPEN + SECOND)
    for _, one in zip(range(2), (live, Live(context)), strict=True):  # also over a restart
        after, then = one.look(OPEN + 2 * SECOND), positions(context, OPEN + 2 * SECOND)
        kpi, was = after.state.kpi, before.state.kpi
        assert was.equity == pytest.approx(kpi.equity, rel=1e-9)
        assert was.drawdown.now == pytest.approx(kpi.drawdown.now, abs=1e-9)
        for row in ("direction/long/A", "direction/short/A"):
            mine, theirs = after.state.positions[row], before.state.positions[row]
            assert theirs.quantity * new / old == pytest.approx(mine.quantity, abs=1e-8)
            assert theirs.value == pytest.approx(mine.value, rel=1e-6)
            assert theirs.pnl_today == pytest.approx(mine.pnl_today, abs=1e-2)
        for key, mine in then.books.items():
            theirs = held.books[key]
            assert (theirs.cash, theirs.realised, theirs.traded) == (mine.cash, mine.realised, mine.traded)
            assert theirs.positions["A"].cost == mine.positions["A"].cost
            assert theirs.positions["B"] == mine.positions["B"]
    assert {"long", "short"} == {one.book for one in plan.changes}


@pytest.fixture
def jumped(context):
    """A book that holds A through a 2 for 1 split, quoted at half since the open, and the service's loop."""
    fill(context, "A", 1000.0, 100.0, T0)
    fill(context, "B", 10.0, 20.0, T0)
    live = Live(context)
    for i in range(3):
        quote(context, "A", 100.0, OPEN - HOUR + i * SECOND)
        live.look(OPEN - HOUR + i * SECOND)
    for i in range(20):
        quote(context, "A", 50.0, OPEN + i * SECOND)
        look = live.look(OPEN + i * SECOND)
    assert "looks like a 2 for 1 split" in look.state.missing["price:A"]
    return SimpleNamespace(context=context, live=live, now=OPEN + 20 * SECOND, equity=look.state.kpi.equity)


def alerts(context, kind="price_jump:"):
    return [alert.key for alert in context.ledger.alerts.newest() if alert.key.startswith(kind)]


def test_a_split_that_nobody_tells_for_days_is_no_loss_when_the_share_moves_on(jumped):
    """53 is no ratio of splits to 100, and still the same split."""
    for day, price in ((1, 51.0), (2, 53.0), (3, 55.0)):
        for i in range(12):
            at = jumped.now + day * DAY + i * SECOND
            quote(jumped.context, "A", price, at)
            look = jumped.live.look(at)
        row = look.state.positions["direction/live/A"]
        assert (100.0, price) == (pytest.approx(row.price), pytest.approx(row.unconfirmed))
    assert 1 == len(alerts(jumped.context))
    assert 50.0 == pytest.approx(book(jumped.context, now=at).split.price)


def test_a_crash_that_rests_at_half_and_goes_on_counts(jumped):
    for i in range(15):
        at = jumped.now + i * SECOND
        quote(jumped.context, "A", 44.0, at)
        look = jumped.live.look(at)
    assert 44.0 == pytest.approx(look.state.positions["direction/live/A"].price)


def test_a_split_ends_what_was_asked_about_its_price(jumped):
    assert 1 == len(alerts(jumped.context))
    plan = book(jumped.context, now=jumped.now)
    assert OPEN == plan.split.event_time, "the instant at which prices jumped"
    assert (1000.0, 2000.0, 100.0, 50.0) == tuple(
        pytest.approx(getattr(plan.changes[0], name), rel=1e-3) for name in ("before", "after", "price", "new_price")
    )
    assert [] == alerts(jumped.context)
    look = jumped.live.look(jumped.now + SECOND)
    assert "price:A" not in look.state.missing
    assert jumped.equity == pytest.approx(look.state.kpi.equity, rel=1e-3)
    assert {"ann"} == {one.actor for one in jumped.context.ledger.confirmed_prices.log()}
    assert [] == jumped.context.ledger.audit.verify()


def test_a_split_told_twice_is_one_and_another_like_it_within_days_is_refused(jumped):
    plan, context = book(jumped.context, now=jumped.now), jumped.context
    by, now = Fraction(2), jumped.now + HOUR
    assert plan.split == splits.told(context, "A", by, plan.split.event_time, now)
    assert plan.split == splits.told(context, "A", by, None, now)
    assert splits.told(context, "A", Fraction(3), None, now) is None
    assert splits.told(context, "A", by, None, now + 300 * DAY) is None, "a year later it is another one"
    with pytest.raises(DataError, match="only one like it"):
        splits.told(context, "A", by, OPEN + HOUR, now)


def test_a_split_is_taken_back_with_its_price(jumped):
    plan, context = book(jumped.context, now=jumped.now), jumped.context
    jumped.live.look(jumped.now + SECOND)
    assert splits.take_back(context, plan.split.name, "bob", "a crash after all", jumped.now + 2 * SECOND)
    assert not splits.take_back(context, plan.split.name, "bob", "a crash after all", jumped.now + 3 * SECOND)

    look = jumped.live.look(jumped.now + 3 * SECOND)
    assert jumped.equity == pytest.approx(look.state.kpi.equity, rel=1e-3)
    assert 0.0 == pytest.approx(look.state.kpi.drawdown.now, abs=2e-3)
    assert 1000.0 == look.state.positions["direction/live/A"].quantity
    with pytest.raises(DataError, match="taken back"):
        splits.told(context, "A", Fraction(2), plan.split.event_time, jumped.now)
    with pytest.raises(DataError, match="split must be one that was told"):
        splits.take_back(context, "split:nosuch", "bob", "x", jumped.now)


def test_a_look_that_began_before_a_split_was_told_is_of_before_or_of_after_it(jumped, monkeypatch):
    """The split comes between what a look reads of books and what it reads of prices."""
    context, live = jumped.context, jumped.live
    read = type(context.ledger.confirmed_prices).last

    def meanwhile(prices, *, as_of):
        monkeypatch.setattr(type(prices), "last", read)
        book(context, now=jumped.now)
        return read(prices, as_of=as_of)

    monkeypatch.setattr(type(context.ledger.confirmed_prices), "last", meanwhile)
    look = live.look(jumped.now)
    assert jumped.equity == pytest.approx(look.state.kpi.equity, rel=1e-3)
    assert 2000.0 == look.state.positions["direction/live/A"].quantity


@pytest.mark.parametrize("late", [False, True], ids=["in time", "after its bars were booked"])
def test_a_split_is_the_same_told_in_time_and_late(anywhere, late):
    """Bots' books to the last digit, with fills of before and after it; virtual ones lose nothing by it."""
    context = anywhere
    score(context)
    fill(context, "A", 30.0, 100.0, T0 - HOUR)
    fill(context, "A", 10.0, 101.0, OPEN - HOUR)
    fill(context, "A", 5.0, 50.5, OPEN + HOUR)
    fill(context, "A", -4.0, 52.5, T0 + 2 * DAY - HOUR)
    days = bars(A=[100.0, 51.0, 52.0, 53.0], B=[20.0] * 4)
    if late:
        books.advance(context, STRATEGY, days, T0 + 2 * DAY)
        dip = context.ledger.books.curve(*VIRTUAL, as_of=T0 + 2 * DAY).equity
        assert dip.iloc[1] < 0.9 * dip.iloc[0], "half of A seems lost"
    else:
        books.advance(context, STRATEGY, days[days.event_time <= T0], T0)
    now = T0 + 2 * DAY + HOUR if late else OPEN + 2 * HOUR
    plan = book(context, at=OPEN, now=now)
    assert {"live", "virtual v3"} <= {one.book for one in plan.changes}
    books.advance(context, STRATEGY, days, T0 + 3 * DAY)

    mine = context.ledger.books.state(KEY)
    assert 81.0 == mine["positions"]["A"][0] / 1e8
    curve = context.ledger.books.curve(*KEY, as_of=T0 + 3 * DAY)
    cash = 1e6 - 30 * 100 - 10 * 101
    wanted = [1e6, cash - 5 * 50.5 + 85 * 51.0]
    wanted += [cash - 5 * 50.5 + 4 * 52.5 + 81 * price for price in (52.0, 53.0)]
    assert wanted == pytest.approx(curve.equity.tolist())
    virtual = context.ledger.books.curve(*VIRTUAL, as_of=T0 + 3 * DAY)
    assert virtual.equity.iloc[1] == pytest.approx(virtual.equity.iloc[0], rel=0.02)
    assert (virtual.drawdown < 0.02).all()
    assert [] == context.ledger.audit.verify()
    for key in (KEY, VIRTUAL, BookKey("direction", "twin:live")):
        row = context.ledger.books.state(key)
        assert restored(row).equity == row["equity"]

    assert splits.take_back(context, plan.split.name, "bob", "wrong", T0 + 3 * DAY + HOUR)
    assert 41.0 == context.ledger.books.state(KEY)["positions"]["A"][0] / 1e8
    assert [] == context.ledger.audit.verify()
    books.advance(context, STRATEGY, days, T0 + 3 * DAY + HOUR)


def test_a_split_is_no_departure_of_a_book_from_its_twin(context):
    score(context)
    fill(context, "A", 30.0, 100.0, T0)
    fill(context, "A", 5.0, 50.0, OPEN + HOUR)
    days = bars(A=[100.0, 50.0, 51.0, 53.0], B=[20.0] * 4)
    quote(context, "A", 50.0, OPEN)
    books.advance(context, STRATEGY, days[days.event_time <= T0], T0)
    book(context, at=OPEN, now=OPEN + 2 * HOUR)
    books.advance(context, STRATEGY, days, T0 + 3 * DAY)
    end = T0 + 4 * DAY
    real, virtual = (
        History(twins._book(context, key, T0), steps(context.ledger.books.events(key, start=T0, end=end)))
        for key in (KEY, BookKey("direction", "twin:live"))
    )
    assert any(fill.split for step in real.steps for fill in step.fills)
    assert any(fill.split for step in virtual.steps for fill in step.fills)
    rows = twin_differences(real, virtual)
    assert real.closing.equity - virtual.closing.equity == pytest.approx(1e8 * rows.effect.sum(), abs=10)
    assert 1e-4 > rows[rows.kind == "rounding"].effect.abs().sum()
    first = rows[(rows.unit == "A") & (rows.event_time == T0)].iloc[0]
    assert (65.0, 50.0) == (first.quantity, pytest.approx(first.price)), "a fill of before the next bar is of this one"


def test_a_fill_of_before_a_split_that_comes_after_it_counts_in_new_units(context):
    fill(context, "A", 30.0, 100.0, T0 - HOUR)
    days = bars(A=[100.0, 50.0, 50.0])
    books.advance(context, STRATEGY, days[days.event_time <= T0], T0)
    quote(context, "A", 50.0, OPEN)
    book(context, at=OPEN, now=OPEN + HOUR)
    books.advance(context, STRATEGY, days, T0 + DAY)
    fill(context, "A", 10.0, 100.0, T0 + HOUR)

    assert 80.0 == positions(context, T0 + DAY + HOUR).frame.quantity.sum()
    books.advance(context, STRATEGY, days, T0 + 2 * DAY)
    held = context.ledger.books.state(KEY)
    assert (80.0, 1e6) == (held["positions"]["A"][0] / 1e8, held["equity"] / 1e8)


def test_a_void_of_a_fill_of_before_a_split_takes_its_share_of_it_too(context):
    fill(context, "A", 30.0, 100.0, T0 - HOUR)
    fill(context, "A", 7.0, 100.0, T0 - HOUR, name="slip")
    days = bars(A=[100.0, 50.0])
    books.advance(context, STRATEGY, days[days.event_time <= T0], T0)
    quote(context, "A", 50.0, OPEN)
    book(context, at=OPEN, now=OPEN + HOUR)
    books.advance(context, STRATEGY, days, T0 + DAY)
    context.ledger.voids.void_fill("slip", "ann", "twice", T0 + DAY)
    assert 60.0 == positions(context, T0 + DAY + HOUR).frame.quantity.sum()


def test_a_books_job_that_does_not_know_of_a_split_books_nothing_past_it(context, monkeypatch):
    """The job reads, the split is told, the job appends: it must read again."""
    fill(context, "A", 30.0, 100.0, T0 - HOUR)
    days = bars(A=[100.0, 50.0])
    books.advance(context, STRATEGY, days[days.event_time <= T0], T0)
    quote(context, "A", 50.0, OPEN)
    append = type(context.ledger.books).append

    def meanwhile(stored, lots, **more):
        monkeypatch.setattr(type(stored), "append", append)
        book(context, at=OPEN, now=OPEN + HOUR)
        return append(stored, lots, **more)

    monkeypatch.setattr(type(context.ledger.books), "append", meanwhile)
    books.advance(context, STRATEGY, days, T0 + DAY)
    assert 60.0 == context.ledger.books.state(KEY)["positions"]["A"][0] / 1e8


def test_a_split_that_a_job_came_before_is_planned_again(context):
    fill(context, "A", 30.0, 100.0, T0 - HOUR)
    days = bars(A=[100.0, 50.0])
    books.advance(context, STRATEGY, days[days.event_time <= T0], T0)
    held = positions(context, OPEN + HOUR)
    plan = splits.plan(context, held, "A", Fraction(2), OPEN, "ann", "notice")
    books.advance(context, STRATEGY, days, T0 + DAY)
    assert not splits.book(context, plan)
    assert [] == context.ledger.splits.all()
    assert 30.0 == context.ledger.books.state(KEY)["positions"]["A"][0] / 1e8


def test_an_instant_that_prices_contradict_is_refused(jumped):
    context = jumped.context
    fill(context, "A", 1.0, 50.0, OPEN + SECOND)
    held = positions(context, jumped.now)
    with pytest.raises(DataError, match=r"fills of A must be near 100.* got 50 at 2026-03-03 14:30:01 UTC"):
        splits.plan(context, held, "A", Fraction(2), OPEN + 10 * SECOND, "ann", "x")
    with pytest.raises(DataError, match="price of A must be near 200"):
        splits.plan(context, held, "A", Fraction(1, 2), OPEN, "ann", "x")
    with pytest.raises(DataError, match="must not be to come"):
        splits.plan(context, held, "A", Fraction(2), jumped.now + DAY, "ann", "x")
    with pytest.raises(DataError, match="unit must be one that a book holds"):
        splits.plan(context, held, "NOSUCH", Fraction(2), OPEN, "ann", "x")


def test_a_price_that_was_believed_already_is_not_halved_again(jumped):
    """Somebody confirmed the new price first: only the quantity is wrong still."""
    context = jumped.context
    context.ledger.confirmed_prices.add("A", 50.0, "ann", "split", jumped.now)
    assert 0.95e6 == pytest.approx(jumped.live.look(jumped.now + SECOND).state.kpi.equity, rel=1e-2)
    book(context, at=OPEN, now=jumped.now + 2 * SECOND)
    assert jumped.equity == pytest.approx(jumped.live.look(jumped.now + 3 * SECOND).state.kpi.equity, rel=1e-3)


def test_options_are_left_alone_and_named(context):
    expiry = T0 + 30 * DAY
    about = {"multiplier": 100.0, "underlying": "A", "strike": 100.0, "expiry": expiry}
    context.ledger.instruments.put([Instrument("A C100", Kind.CALL, **about)], T0)
    fill(context, "A", 10.0, 100.0, T0)
    fill(context, "A C100", 2.0, 5.0, T0)
    quote(context, "A", 50.0, OPEN)
    held = positions(context, OPEN + SECOND)
    assert ["A C100"] == splits.options(held, "A")
    with pytest.raises(DataError, match="must not be an option"):
        splits.plan(context, held, "A C100", Fraction(2), OPEN, "ann", "x")
    book(context, at=OPEN, now=OPEN + SECOND)
    frame = positions(context, OPEN + 2 * SECOND).frame.set_index("unit")
    assert (20.0, 2.0) == (frame.quantity["A"], frame.quantity["A C100"])


def test_the_command_shows_each_book_asks_and_is_safe_to_repeat(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_STATE", str(tmp_path))
    monkeypatch.setenv("MLOPS_TRACKING_URI", "http://127.0.0.1:1")
    now = datetime.now(UTC)
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        context = SimpleNamespace(ledger=ledger)
        fill(context, "AAPL", 7.0, 100.0, now - 2 * HOUR)
        quote(context, "AAPL", 100.0, now - HOUR)
    words = ["price", "split", "AAPL", "1:2", "--reason", "notice", "--actor", "ann"]
    refused = CLI.invoke(main.app, words, input="n\n")
    assert 1 == refused.exit_code
    for text in ("live", "7", "100", "700.00", "3.5", "200", "pays them in cash", "Book it?"):
        assert text in refused.output
    done, again = (CLI.invoke(main.app, [*words, "--yes"]) for _ in range(2))
    assert 0 == done.exit_code, done.output
    name = done.output.split()[-1]
    assert name.startswith("split:AAPL:1:2:")
    assert f"{name} is booked already; nothing was changed." in again.output
    assert "notice" in CLI.invoke(main.app, ["price", "log"]).output
    for said in ("is taken back.", "is taken back already."):
        back = CLI.invoke(main.app, ["fill", "void", name, "--reason", "a slip", "--actor", "bob"])
        assert said in back.output
    for bad in (["A", "x"], ["NOSUCH", "2:1"]):
        wrong = CLI.invoke(main.app, ["price", "split", *bad, "--reason", "x", "--yes"])
        assert 1 <= wrong.exit_code
        assert "must be" in str(wrong.exception)
