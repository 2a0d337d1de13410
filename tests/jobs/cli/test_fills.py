"""A fill that cannot be booked costs its own position only; a fill that should not be there is taken back."""

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pandas as pd
import pytest
from sqlalchemy import text
from typer.testing import CliRunner

from jobs import books
from jobs.cli import main
from jobs.live.fields import row_key
from jobs.live.risk import Live
from jobs.portfolio import restatement, unbooked_fills
from jobs.portfolio.positions import positions
from mlops.books.rows import restored
from mlops.errors import DataError
from mlops.io.ledger import BookKey, BookRows, Instrument, Ledger
from mlops.io.storage.checksum import checksums, stored
from mlops.io.storage.insert import fill_rows
from mlops.learn import STRATEGIES
from mlops.settings import BookBalance, BookSettings, Settings
from mlops.types import FILL_COLUMNS, Kind, Priority

CLI = CliRunner()
T0, DAY, STRATEGY, KEY = (
    datetime(2026, 3, 2, 21, tzinfo=UTC),
    timedelta(days=1),
    STRATEGIES["direction"],
    BookKey("direction", "live"),
)
HOUR = timedelta(hours=1)
KNOWN = Settings(books=BookSettings(balances=(BookBalance(amount=1e6),)))  # of every account


@pytest.fixture
def context(ledger):
    return SimpleNamespace(ledger=ledger, settings=KNOWN, run_id=None, client=None)


def row(number, unit, quantity, price, at, fee=0.0):
    about = {"fill_id": f"f{number}", "model": "direction", "version": 1, "book": "live", "unit": unit}
    return pd.DataFrame([about | {"event_time": at, "quantity": quantity, "price": price, "fee": fee}])


def fill(context, *args, **more):
    context.ledger.telemetry.add_fills(row(*args, **more))


def of_old(context, number, unit, quantity, price, at, fee=0.0):
    """A row as an older release stored it, whatever it says."""
    columns = fill_rows(row(number, unit, 1.0, 1.0, at)).columns
    columns |= {"quantity": [quantity], "price": [price], "fee": [fee]}
    columns["checksum"] = stored(checksums("fills", {name: columns[name] for name in FILL_COLUMNS}, 1))
    one = {name: values[0] for name, values in columns.items()}
    with context.ledger.writing() as connection:
        names = ", ".join(one)
        connection.execute(text(f"INSERT INTO fills ({names}) VALUES ({', '.join(':' + n for n in one)})"), one)
        if connection.dialect.name == "sqlite":
            connection.execute(text("UPDATE tallies SET rows = rows + 1 WHERE table_name = 'fills'"))


def bars(closes):
    at = pd.DatetimeIndex([T0 + i * DAY for i in range(len(closes))])
    return pd.concat(
        [pd.DataFrame({"event_time": at, "known_at": at, "symbol": unit, "close": closes}) for unit in "AB"]
    ).sort_values("event_time", kind="stable", ignore_index=True)


def test_what_is_traded_in_billions_is_booked_whole(context):
    fill(context, 1, "SHIB", 1e11, 8.45e-6, T0)
    fill(context, 2, "SHIB", 1e15, 8.45e-6, T0)
    fill(context, 3, "SHIB", -1e15, 8.45e-6, T0 + HOUR)
    books.advance(context, STRATEGY, bars([10.0, 11.0]), T0 + DAY)
    found = positions(context, T0 + DAY)

    assert [1e11] == list(found.frame.quantity)
    assert 1e6 == pytest.approx(found.equity)
    assert 845_000 == pytest.approx(found.value.sum())
    assert [] == context.ledger.audit.verify()


@pytest.mark.parametrize(
    "bad", [(1e300, 1.0, 0.0), (1.0, 5.0, 1e300), (1e18, 1e18, 0.0)], ids=["quantity", "fee", "value"]
)
def test_a_row_that_stands_there_and_cannot_be_booked_costs_its_own_position_only(context, bad):
    """As a ledger of an older release has it: everything else goes on, and a person hears of it."""
    fill(context, 1, "A", 100.0, 10.0, T0)
    fill(context, 2, "B", 100.0, 10.0, T0)
    of_old(context, 3, "B", bad[0], bad[1], T0, fee=bad[2])
    of_old(context, 4, "C", bad[0], bad[1], T0, fee=bad[2])

    live = Live(context)
    look = live.look(T0 + timedelta(seconds=1))
    for _ in range(2):
        unbooked_fills.settle(context, look.lost, T0 + timedelta(seconds=1))

    assert {"direction/live/B", "direction/live/C"} == set(look.lost)
    assert 1e6 == pytest.approx(look.state.kpi.equity)
    rows = look.state.positions
    assert (1000.0, None, None) == tuple(rows[f"direction/live/{unit}"].value for unit in "ABC")
    assert "fill f3 cannot be booked" in look.state.missing["position:direction/live/B"]
    told = context.ledger.alerts.newest()
    assert {"direction/live/B", "direction/live/C"} == {alert.details["row"] for alert in told}
    assert {Priority.CRITICAL} == {alert.priority for alert in told}

    for day in (0, 1):
        books.advance(context, STRATEGY, bars([10.0, 11.0]), T0 + day * DAY + HOUR)
    assert {"A", "B"} == set(context.ledger.books.state(KEY)["positions"])
    assert 2 == len(context.ledger.books.unbooked_fills(*KEY[:2], as_of=T0 + DAY)), (
        "what was set aside is not forgotten"
    )

    for fill_id in ("f3", "f4"):
        context.ledger.voids.void_fill(fill_id, "ann", "a slip", T0 + DAY)
    look = live.look(T0 + DAY + timedelta(seconds=2))
    unbooked_fills.settle(context, look.lost, T0 + DAY)
    assert {} == look.lost
    assert [] == context.ledger.alerts.newest()


def test_an_instrument_that_stands_there_and_cannot_be_read_costs_its_own_unit_only(context):
    context.ledger.instruments.put(
        [Instrument("B", Kind.FUTURE, multiplier=10.0), Instrument("C"), Instrument("D")], T0
    )
    fill(context, 1, "A", 100.0, 10.0, T0)
    fill(context, 2, "B", 1.0, 10.0, T0)
    fill(context, 3, "C", 1.0, 10.0, T0)
    with context.ledger.writing() as connection:
        connection.execute(text(f"UPDATE instruments SET expiry = {253370764800 * 10**6} WHERE unit = 'B'"))  # 9999
        connection.execute(text("UPDATE instruments SET multiplier = 1e300 WHERE unit = 'C'"))
        connection.execute(text(f"UPDATE instruments SET expiry = {2**62} WHERE unit = 'D'"))

    look = Live(context).look(T0)

    assert {"direction/live/B", "direction/live/C"} == set(look.lost)
    assert 1000.0 == look.state.positions["direction/live/A"].value
    assert {"B", "C", "D"} == set(context.ledger.instruments.unusable())
    books.advance(context, STRATEGY, bars([10.0]), T0)
    assert {"A"} == set(context.ledger.books.state(KEY)["positions"])
    context.ledger.instruments.put([Instrument("B", Kind.FUTURE, multiplier=10.0)], T0)
    assert {"direction/live/C"} == set(positions(context, T0 + HOUR).unknown)


def test_a_book_that_a_disk_changed_costs_itself_only(sqlite_ledger):
    context = SimpleNamespace(ledger=sqlite_ledger, settings=KNOWN, run_id=None, client=None)
    fill(context, 1, "A", 100.0, 10.0, T0)
    sqlite_ledger.telemetry.add_fills(row(2, "B", 100.0, 10.0, T0).assign(book="other"))
    books.advance(context, STRATEGY, bars([10.0]), T0)
    with sqlite_ledger.writing() as connection:
        connection.execute(text("UPDATE book_states SET cash = cash + 1 WHERE book = 'other'"))

    look = Live(context).look(T0 + timedelta(seconds=1))

    assert {"direction/other"} == set(look.lost)
    assert 1000.0 == look.state.positions["direction/live/A"].value
    assert look.state.kpi.equity is None, "what a book is worth that cannot be read is not nothing"


def test_no_two_positions_share_a_row():
    names = [("a", "b/c"), ("a/b", "c"), ("a%2Fb", "c")]
    assert 3 == len({row_key("m", *pair) for pair in names})


# --- voids ----------------------------------------------------------------------------------------------------------


def traded(context, *, wrong, days=4):
    """Some days of trading; the wrong fill is bought at a tenth of the price on the second day."""
    closes = [10.0, 11.0, 12.0, 9.0]
    for day in range(days):
        at = T0 + day * DAY - HOUR
        fill(context, f"a{day}", "A", 100.0 if day != 2 else -150.0, closes[day] + 0.01, at, fee=1.0)
        if wrong and day == 1:
            fill(context, "wrong", "A", 50.0, 1.1, at, fee=2.0)
        books.advance(context, STRATEGY, bars(closes[:days]), T0 + day * DAY)


def shelf(ledger):
    states = ledger.books.states(KEY, start=None)
    return [{name: value for name, value in state.items() if name != "seq"} for state in states]


def test_a_book_is_after_a_void_what_it_had_been_if_the_fill_had_never_come(context, tmp_path):
    traded(context, wrong=True)
    with Ledger(f"sqlite:///{tmp_path}/other.db") as other:
        traded(SimpleNamespace(ledger=other, settings=KNOWN, run_id=None, client=None), wrong=False)
        want = shelf(other)
    ledger = context.ledger
    before, fills = restored(ledger.books.state(KEY)), len(ledger.voids.newest_fills())

    assert ledger.voids.void_fill("fwrong", "ann", "a slip", T0 + 4 * DAY)
    assert not ledger.voids.void_fill("fwrong", "bob", "again", T0 + 5 * DAY)
    assert restatement.restate(context, KEY, restatement.units(context))
    assert not restatement.restate(context, KEY, restatement.units(context))

    assert want == shelf(ledger)
    after = restored(ledger.books.state(KEY))
    assert before.peak > after.peak
    assert fills == len(ledger.voids.newest_fills()), "a fill is never deleted"
    assert ["void"] == [event.kind for event in ledger.books.events(KEY) if event.price == 1.1]
    assert [("fwrong", "ann", "a slip")] == [(v.fill_id, v.actor, v.reason) for v in ledger.voids.all()]
    assert [] == ledger.audit.verify()
    books.advance(context, STRATEGY, bars([10.0, 11.0, 12.0, 9.0, 9.5]), T0 + 4 * DAY)
    assert 150.0 == after.positions["A"].quantity / 1e8
    assert {} == ledger.voids.books_with_voids()


def test_a_void_that_was_killed_half_way_is_finished_by_the_service_and_by_the_job(context):
    traded(context, wrong=True)
    live = Live(context)
    before = live.look(T0 + 3 * DAY).state
    context.ledger.voids.void_fill("fwrong", "ann", "a slip", T0 + 4 * DAY)  # and no more than that

    after = live.look(T0 + 3 * DAY + timedelta(seconds=1)).state

    assert 450 - 57 == pytest.approx(
        before.kpi.equity - after.kpi.equity
    )  # 50 x 9 at the last price, less 55 and the fee
    assert (200.0, 150.0) == tuple(state.positions["direction/live/A"].quantity for state in (before, after))
    assert after.kpi.drawdown.now < before.kpi.drawdown.now, "a false peak goes with the fill"
    assert {} == context.ledger.voids.books_with_voids()


def test_a_fill_that_no_book_had_taken_is_void_at_once(context):
    fill(context, 1, "A", 100.0, 10.0, T0)
    fill(context, 2, "A", 900.0, 10.0, T0)
    context.ledger.voids.void_fill("f2", "ann", "sent twice", T0)

    assert [100.0] == list(positions(context, T0).frame.quantity)
    assert [100.0] == list(context.ledger.telemetry.positions("direction", "live")["quantity"])


def meanwhile(context, monkeypatch, act):
    """Let somebody act once, between what the job reads of the books and what it appends."""
    append = context.ledger.books.append

    def late(lots, **more):
        monkeypatch.setattr(context.ledger.books, "append", append)
        act()
        return append(lots, **more)

    monkeypatch.setattr(context.ledger.books, "append", late)


def test_a_void_between_reading_and_appending_of_the_job_stays(context, monkeypatch):
    traded(context, wrong=True, days=3)

    def void():
        context.ledger.voids.void_fill("fwrong", "ann", "a slip", T0 + 3 * DAY)
        assert restatement.restate(context, KEY, restatement.units(context))

    meanwhile(context, monkeypatch, void)
    books.advance(context, STRATEGY, bars([10.0, 11.0, 12.0, 9.0]), T0 + 3 * DAY)

    state = context.ledger.books.state(KEY)
    assert T0 + 3 * DAY == state["event_time"]
    assert 50.0 == state["positions"]["A"][0] / 1e8
    assert not restatement.restate(context, KEY, restatement.units(context))


def test_a_multiplier_between_reading_and_appending_of_the_job_holds(context, monkeypatch):
    closes = [10.0, 11.0, 12.0, 13.0]
    fill(context, 1, "F", 10.0, 10.0, T0)
    market = bars(closes).assign(symbol="F")
    books.advance(context, STRATEGY, market, T0 + DAY)

    def load():
        context.ledger.instruments.put([Instrument("F", Kind.FUTURE, multiplier=50.0)], T0 + 2 * DAY)
        assert restatement.restate(context, KEY, restatement.units(context))

    meanwhile(context, monkeypatch, load)
    books.advance(context, STRATEGY, market, T0 + 2 * DAY)
    assert 1e6 + 10 * 50 * 2 == context.ledger.books.state(KEY)["equity"] / 1e8
    fill(context, 2, "F", 5.0, 12.0, T0 + 2 * DAY + HOUR)

    assert {} == positions(context, T0 + 2 * DAY + HOUR).unknown
    books.advance(context, STRATEGY, market, T0 + 3 * DAY)
    assert 1e6 + 10 * 50 * 3 + 5 * 50 == context.ledger.books.state(KEY)["equity"] / 1e8


@pytest.mark.parametrize("damage", ["void", "multiplier"])
def test_states_that_an_older_release_left_behind_their_events_are_made_right(context, damage):
    """The events are right, the states from the third bar on are not."""
    closes = [10.0, 11.0, 12.0, 13.0]
    fill(context, 1, "A", 10.0, 10.0, T0)
    fill(context, 2, "A", 5.0, 11.0, T0 + DAY)
    books.advance(context, STRATEGY, bars(closes), T0 + 3 * DAY)
    ledger, bad = context.ledger, context.ledger.books.states(KEY, start=T0 + 2 * DAY)
    if damage == "void":
        ledger.voids.void_fill("f2", "ann", "a slip", T0 + 3 * DAY)
    else:
        ledger.instruments.put([Instrument("A", Kind.FUTURE, multiplier=50.0)], T0 + 3 * DAY)
    assert restatement.restate(context, KEY, restatement.units(context))
    right, taken = ledger.books.states(KEY, start=None), ledger.voids.count(KEY)
    assert ledger.voids.rewrite_book(BookRows(KEY, ledger.books.mark(KEY), [], bad), taken)
    assert right != ledger.books.states(KEY, start=None)

    books.advance(context, STRATEGY, bars(closes), T0 + 3 * DAY)

    assert right == ledger.books.states(KEY, start=None)
    assert [] == ledger.audit.verify()


def test_fills_that_stand_in_a_book_of_a_reserved_name_are_told(context):
    of_old(context, 1, "A", 100.0, 10.0, T0)
    with context.ledger.writing() as connection:  # of an older release
        columns = fill_rows(row(1, "A", 1.0, 1.0, T0)).columns | {"quantity": [100.0], "price": [10.0]}
        columns["book"] = ["twin:live"]
        sums = checksums("fills", {name: columns[name] for name in FILL_COLUMNS}, 1)
        change = text("UPDATE fills SET book = 'twin:live', checksum = :sum")
        connection.execute(change, {"sum": stored(sums)[0]})

    unknown = positions(context, T0).unknown
    assert {"direction/twin:live"} == set(unknown)
    assert "1 fills of book twin:live of direction are in no position" in unknown["direction/twin:live"]
    books.advance(context, STRATEGY, bars([10.0]), T0)
    assert ["direction/twin:live"] == [alert.details["row"] for alert in context.ledger.alerts.newest()]
    context.ledger.voids.void_fill("f1", "ann", "a wrong name", T0)
    assert {} == positions(context, T0).unknown


def test_a_book_that_cannot_be_read_stops_no_other_and_the_job_says_so(sqlite_ledger):
    context = SimpleNamespace(ledger=sqlite_ledger, settings=KNOWN, run_id=None, client=None)
    other = KEY._replace(book="other")
    fill(context, 1, "A", 100.0, 10.0, T0)
    sqlite_ledger.telemetry.add_fills(row(2, "A", 100.0, 10.0, T0).assign(book="other"))
    books.advance(context, STRATEGY, bars([10.0]), T0)
    with sqlite_ledger.writing() as connection:
        connection.execute(text("UPDATE book_states SET cash = cash + 1 WHERE book = 'live'"))

    with pytest.raises(DataError, match="book live of direction cannot be read"):
        books.at(context, STRATEGIES["direction"], bars([10.0, 11.0]), T0 + DAY)

    assert T0 + DAY == sqlite_ledger.books.state(other)["event_time"]
    assert ["direction/live"] == [alert.details["row"] for alert in sqlite_ledger.alerts.newest()]


def test_the_command_says_what_it_did_and_a_fill_that_is_not_there_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_STATE", str(tmp_path))
    monkeypatch.setenv("MLOPS_TRACKING_URI", "http://127.0.0.1:1")
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        traded(SimpleNamespace(ledger=ledger, settings=KNOWN, run_id=None, client=None), wrong=True)

    said = [CLI.invoke(main.app, ["fill", "void", "fwrong", "--reason", "a slip", "--actor", "ann"]) for _ in range(2)]
    missing = CLI.invoke(main.app, ["fill", "void", "nosuch", "--reason", "x", "--actor", "ann"])

    assert [
        "fwrong is void and counts nowhere; 1 book was made anew.",
        "fwrong is void already and counts nowhere.",
    ] == [one.output.strip() for one in said]
    assert "fill must be one of the ledger's, got 'nosuch'" in str(missing.exception)
    listed = CLI.invoke(main.app, ["fill", "list", "--model", "direction"]).output
    assert "slip" in listed
    assert "…" not in listed


def test_who_voids_says_who_and_why(context):
    fill(context, 1, "A", 1.0, 10.0, T0)
    for actor, reason in (("", "x"), ("ann", " "), ("ann", "x" * 300)):
        with pytest.raises(DataError, match=r"of a void must be text"):
            context.ledger.voids.void_fill("f1", actor, reason, T0)
    assert [] == context.ledger.voids.all()
