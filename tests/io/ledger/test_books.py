"""Books in the ledger: one chain whoever appends, read back as it was written, and damage is an error."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import text

from mlops.books.book import SCALE
from mlops.books.rows import events, replayed, restored, state, steps
from mlops.errors import CorruptionError
from mlops.experiment import Book, Fill, Step
from mlops.io.ledger import BookKey, BookRows, Mark
from mlops.io.ledger.books import state_rows

T0, DAY = datetime(2020, 1, 2, 21, tzinfo=UTC), timedelta(days=1)
KEY = BookKey("m", "virtual", 3)


def lot(n, *, key=KEY, known=timedelta(0), numbers=False):
    """The first n bars of a book that buys one A a day at a price that falls by one."""
    book, rows, states = Book.opened(1_000.0), [], []
    for i in range(n):
        fill = Fill("A", SCALE, 50.0 - i, fee=7, at=T0 + i * DAY, number=i + 1 if numbers else 0)
        step = Step(T0 + i * DAY, {"B": 2.5}, {"A": 3} if i else {}, [fill])
        book, told = book.after(step), events(step, len(rows))
        rows += told
        times = {"event_time": step.at, "known_at": step.at + known, "seq": len(rows)}
        states.append(state(book) | times)
    return BookRows(key, None, rows, states)


def tail(whole, n):
    """What comes after the first n bars."""
    after = whole.states[n - 1]
    checksum = state_rows([replace(whole, states=[after])]).columns["checksum"][0]
    return replace(
        whole,
        after=Mark(after["event_time"], after["seq"], checksum),
        events=[e for e in whole.events if e.seq > after["seq"]],
        states=whole.states[n:],
    )


def test_what_was_appended_is_read_back_and_makes_the_same_book(ledger):
    whole = lot(5)
    assert {KEY} == ledger.books.append([lot(2)]).keys()
    grown = ledger.books.append([tail(whole, 2)])
    assert {KEY: ledger.books.mark(KEY)} == grown

    assert whole.events == ledger.books.events(KEY)
    assert {KEY: T0 + 4 * DAY} == ledger.books.ends("m")
    last = ledger.books.state(KEY)
    found = restored(last)
    assert (whole.states[-1]["seq"], T0 + 4 * DAY) == (last["seq"], last["event_time"])
    for step in steps(ledger.books.events(KEY, start=T0 + 2 * DAY)):
        assert step.at >= T0 + 2 * DAY
    assert state(found) == {name: value for name, value in whole.states[-1].items() if name in state(found)}
    assert restored(ledger.books.state(KEY, before=T0 + DAY)) == restored(whole.states[0])
    assert [T0 + DAY, T0 + 2 * DAY] == [
        s["event_time"] for s in ledger.books.states(KEY, start=T0 + DAY, end=T0 + 3 * DAY)
    ]
    assert ledger.books.state(BookKey("m", "virtual", 4)) is None
    ends = [(whole.states[1]["equity"], whole.states[3]["equity"]), (0, 0)]
    assert ends == ledger.books.growth([KEY, BookKey("m", "none")], start=T0 + DAY, end=T0 + 3 * DAY)
    assert (1000 * SCALE, whole.states[0]["equity"]) == ledger.books.growth([KEY], start=T0 - DAY, end=T0)[0]


def test_who_appends_to_an_end_that_has_moved_appends_nothing(ledger):
    whole, other = lot(4), BookKey("m", "paper")
    ledger.books.append([lot(2), lot(1, key=other)])

    both = ledger.books.append([lot(3), tail(lot(2, key=other), 1)])
    assert {other} == both.keys()  # the first began anew, the other goes on
    assert {} == ledger.books.append([whole, tail(whole, 3)])
    assert {KEY} == ledger.books.append([tail(whole, 2)]).keys()
    assert {} == ledger.books.append([tail(whole, 2)])  # said again
    assert whole.events == ledger.books.events(KEY)
    assert {other: T0 + DAY, KEY: T0 + 3 * DAY} == ledger.books.ends("m")


def test_who_appends_to_a_book_that_was_made_anew_appends_nothing(ledger):
    """Its last state has another content at the same time."""
    whole = lot(4)
    ledger.books.append([lot(2)])
    anew = {**whole.states[1], "cash": whole.states[1]["cash"] + 5}
    assert ledger.voids.rewrite_book(replace(whole, after=ledger.books.mark(KEY), events=[], states=[anew]), 0)
    assert not ledger.voids.rewrite_book(replace(tail(whole, 2), events=[], states=[anew]), 0)

    assert {} == ledger.books.append([tail(whole, 2)])
    assert {KEY} == ledger.books.append([replace(tail(whole, 2), after=ledger.books.mark(KEY))]).keys()


def test_a_curve_is_in_money_and_shows_what_was_known(ledger):
    ledger.books.append([lot(3, known=timedelta(hours=1))])
    curve = ledger.books.curve("m", "virtual", 3, as_of=T0 + 2 * DAY)

    assert [T0, T0 + DAY] == curve["event_time"].tolist()  # the last was known an hour later
    assert [1000 - 7e-8, 999 - 17e-8] == pytest.approx(curve["equity"].tolist(), abs=1e-12)
    assert [950 - 7e-8, 901 - 17e-8] == pytest.approx(curve["cash"].tolist(), abs=1e-12)
    assert [50.0, 98.0] == curve["gross"].tolist() == curve["net"].tolist()
    assert [50.0, 99.0] == curve["traded"].tolist()
    assert [0.0, 3e-8] == curve["funding"].tolist()
    assert [0.0, -1.0] == curve["unrealised"].tolist()
    assert [7e-11, 0.001 + 17e-11] == pytest.approx(curve["drawdown"].tolist(), rel=1e-6)
    assert 3 == len(ledger.books.curve("m", "virtual", 3, as_of=T0 + 3 * DAY))
    assert 2 == len(ledger.books.curve("m", "virtual", 3, start=T0 + DAY, as_of=T0 + 3 * DAY))
    assert ledger.books.curve("m", "virtual", 4, as_of=T0 + 3 * DAY).empty


def test_fills_wait_until_the_book_has_taken_them_and_are_taken_once(ledger, make):
    ledger.telemetry.add_fills(make.fills([("1", "A", 1, 50.0, 0), ("2", "B", 1, 9.0, 0)], model="m"))
    ledger.telemetry.add_fills(make.fills([("3", "A", 1, 49.0, 0)], model="m", book="other"))
    assert ["other", "paper"] == ledger.books.traded_books("m")
    waiting = ledger.books.unbooked_fills("m", "paper", as_of=T0)
    assert ["A", "B"] == waiting["unit"].tolist()
    assert {} == ledger.books.traded_versions("m", "paper")
    assert ledger.books.unbooked_fills("m", "paper", as_of=T0 - DAY).empty

    own = lot(1, key=BookKey("m", "paper"), numbers=True)
    own = replace(own, events=[replace(e, fill=int(waiting["id"][0])) if e.fill else e for e in own.events])
    ledger.books.append([own])

    assert ["B"] == ledger.books.unbooked_fills("m", "paper", as_of=T0)["unit"].tolist()
    assert {"A": 1} == ledger.books.traded_versions("m", "paper")
    late = make.fills([("4", "C", 1, 9.0, 0)], model="m")
    ledger.telemetry.add_fills(late)
    assert "C" in ledger.books.unbooked_fills("m", "paper", as_of=T0)["unit"].tolist()


def test_scores_are_those_known_then(ledger, make):
    frame = make.predictions([(1, "A", 0), (2, "A", 0), (1, "A", 1)], model="m", delay=timedelta(hours=1))
    ledger.telemetry.add_predictions(frame, np.zeros((3, 1), np.float32), ("f",))

    assert 2 == len(ledger.books.scores("m", start=None, as_of=make.at(1)))
    assert [(1, make.at(1))] == [
        (row.version, row.event_time)
        for row in ledger.books.scores("m", start=make.at(1), as_of=make.at(2)).itertuples()
    ]


def test_amounts_past_64_bits_are_read_back_whole(ledger):
    """10^15 coins at 8.45e-6, and a part of them sold."""
    fills = [Fill("SHIB", 10**15 * SCALE + 1, 8.45e-6, 3 * 10**19), Fill("SHIB", -(10**14) * SCALE, 9e-6, number=7)]
    step = Step(T0, {"SHIB": 9.1e-6}, {"SHIB": -(2**63)}, fills)
    book = Book.opened(1e12).after(step)
    told = events(step, 0)
    row = state(book) | {"event_time": T0, "known_at": T0, "seq": len(told)}
    ledger.books.append([BookRows(KEY, None, told, [row]), lot(2, key=BookKey("m", "paper"))])

    assert told == ledger.books.events(KEY)
    assert book == restored(ledger.books.state(KEY)) == replayed(Book.opened(1e12), steps(ledger.books.events(KEY)))
    assert [(book.start, book.equity)] == ledger.books.growth([KEY], start=T0 - DAY, end=T0)
    assert [book.equity / SCALE] == ledger.books.curve("m", "virtual", 3, as_of=T0)["equity"].tolist()
    assert book.positions["SHIB"].quantity > 2**63
    assert [] == ledger.audit.verify()


def test_a_large_amount_that_a_disk_changed_is_an_error(sqlite_ledger):
    step = Step(T0, fills=[Fill("SHIB", 10**23, 1e-6, multiplier=10.0)])
    row = state(Book.opened(1e12).after(step)) | {"event_time": T0, "known_at": T0, "seq": 1}
    sqlite_ledger.books.append([BookRows(KEY, None, events(step, 0), [row])])
    for damage in ("wide = replace(wide, '0', '1')", "multiplier = 1"):
        with sqlite_ledger.writing() as connection:
            connection.execute(text(f"UPDATE book_events SET {damage}"))
        with pytest.raises(CorruptionError):
            sqlite_ledger.books.events(KEY)


LAST = "event_time = (SELECT max(event_time) FROM book_states)"


@pytest.mark.parametrize(
    ("damage", "read"),
    [
        (f"UPDATE book_states SET cash = cash + 1 WHERE {LAST}", "state"),
        (f"UPDATE book_states SET positions = '{{}}' WHERE {LAST}", "state"),
        (f"DELETE FROM book_states WHERE {LAST}", "state"),
        (f"DELETE FROM book_states WHERE {LAST}", "curve"),
        ("UPDATE book_events SET quantity = quantity + 1 WHERE seq = 2", "events"),
        ("DELETE FROM book_events WHERE seq = 2", "events"),
        ("DELETE FROM book_events WHERE seq = (SELECT max(seq) FROM book_events)", "events"),
    ],
)
def test_what_a_disk_changed_is_an_error(sqlite_ledger, damage, read):
    sqlite_ledger.books.append([lot(2)])
    with sqlite_ledger.writing() as connection:
        assert 1 == connection.execute(text(damage)).rowcount
    readers = {
        "state": lambda: sqlite_ledger.books.state(KEY),
        "curve": lambda: sqlite_ledger.books.curve("m", "virtual", 3, as_of=T0 + DAY),
        "events": lambda: sqlite_ledger.books.events(KEY),
    }

    with pytest.raises(CorruptionError):
        readers[read]()
    assert sqlite_ledger.audit.verify()


def test_a_ledger_of_books_is_whole(ledger):
    ledger.books.append([lot(3), lot(2, key=BookKey("m", "paper"), numbers=True)])
    assert [] == ledger.audit.verify()
    assert pd.Timestamp(T0) == ledger.books.curve("m", "paper", as_of=T0 + DAY)["event_time"][0]


def test_where_all_books_stand_is_told_by_one_question_now_and_at_an_instant(ledger):
    other = BookKey("m", "virtual", 12)
    ledger.books.append([lot(3), lot(1, key=other), lot(2, key=BookKey("a", "bot"))])

    told = ledger.books.all_marks()

    assert [("a", "bot", 0), KEY, other] == sorted(told)
    assert {key: ledger.books.mark(key) for key in told} == told
    assert {KEY: told[KEY], other: told[other]} == ledger.books.marks("m")
    before = ledger.books.all_marks(as_of=T0 + DAY)
    assert T0 + DAY == before[KEY].end < told[KEY].end
    assert ledger.books.state(KEY, before=T0 + 2 * DAY)["seq"] == before[KEY].seq
    assert {} == ledger.books.all_marks(as_of=T0 - DAY)


def test_the_newest_fill_of_each_book_is_told(ledger):
    assert {} == ledger.books.last_fills()
    rows = [("m", "b", "1"), ("a", "b", "2"), ("m", "b", "3"), ("m", "a", "4")]
    about = {"version": 1, "unit": "A", "event_time": T0, "quantity": 1.0, "price": 1.0, "fee": 0.0}
    for model, book, name in rows:
        ledger.telemetry.add_fills(pd.DataFrame([{"fill_id": name, "model": model, "book": book, **about}]))

    assert {("a", "b"): 2, ("m", "a"): 4, ("m", "b"): 3} == ledger.books.last_fills()
    assert ["a", "b"] == ledger.books.traded_books("m")
