"""Group commit: many callers, few commits, and everybody learns of his own rows only."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from sqlalchemy import event

from mlops.errors import DataError, StorageError
from mlops.io.ledger import Ledger
from mlops.io.ledger.group_commit import Writer
from mlops.io.storage.insert import Rows, outcome_rows

NAMES = ("return", "range")


@pytest.fixture
def features():
    return np.ones((1, 2), dtype=np.float32)


@pytest.fixture
def span(make):
    return {"start": make.at(0), "end": make.at(999), "as_of": make.at(999)}


@pytest.fixture
def blocked(sqlite_ledger):
    """A writer that waits for the database until told."""
    with sqlite_ledger._turn, Writer(sqlite_ledger, waiting_rows=3, patience_s=0.05) as writer:
        yield writer
        sqlite_ledger._turn.release()
        writer.close()
        sqlite_ledger._turn.acquire()


def test_every_kind_of_row_is_written_and_counted(ledger, make, features, span):
    at = pd.to_datetime([make.at(0)])
    quote = {"unit": "A", "event_time": at, "known_at": at, "bid": 1.0, "ask": 2.0, "bid_size": 0.0, "ask_size": 0.0}
    with Writer(ledger) as writer:
        told = [
            writer.submit_predictions(make.predictions([(1, "A", 0)]), features, NAMES, "abc"),
            writer.submit_outcomes(make.outcomes([("A", 0)])),
            writer.submit_fills(make.fills([("1", "A", 10, 5.0, 0.5)])),
            writer.submit_quotes(pd.DataFrame(quote)),
        ]
        assert [1, 1, 1, 1] == [future.result(30) for future in told]

    assert 1 == len(ledger.telemetry.matured("volatility", **span))
    assert [10.0] == list(ledger.telemetry.positions("volatility", "paper")["quantity"])


def test_what_is_said_twice_is_counted_once_and_only_for_the_first(ledger, make):
    lots = [[("A", 0)], [("A", 0), ("B", 0)], [], [("B", 0)]]
    rows = [outcome_rows(make.outcomes(keys) if keys else make.outcomes([("A", 0)])[:0]) for keys in lots]

    assert [1, 1, 0, 0] == ledger.telemetry.store_together(rows)
    with Writer(ledger) as writer:
        assert [0, 0, 0, 0] == [writer.submit(lot).result(30) for lot in rows]


def test_many_callers_share_commits_and_nothing_is_lost(ledger, make, span, features):
    commits = []
    event.listen(ledger.engine, "commit", commits.append)

    def work(me):
        for day in range(20):
            assert 1 == writer.submit_outcomes(make.outcomes([(f"U{me}", day)])).result(60)
            assert 1 == writer.submit_predictions(make.predictions([(1, f"U{me}", day)]), features, NAMES).result(60)

    with Writer(ledger) as writer, ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))

    assert 160 == len(ledger.telemetry.matured("volatility", **span))
    assert len(commits) < 320


def test_a_bad_row_is_refused_before_it_waits_for_anybody(ledger, make):
    with Writer(ledger) as writer, pytest.raises(DataError, match="label of outcomes"):
        writer.submit_outcomes(make.outcomes([("A", 0)], label=0.5))


def test_a_lot_that_the_database_refuses_fails_alone(sqlite_ledger, make):
    good = [outcome_rows(make.outcomes([("A", d)])) for d in range(3)]
    bad = Rows(good[0].table, good[0].columns | {"label": [None]})
    with sqlite_ledger._turn, Writer(sqlite_ledger) as writer:
        first = writer.submit(good[0])  # taken at once, and waits for the database
        rest = [writer.submit(lot) for lot in (good[1], bad, good[2])]
        sqlite_ledger._turn.release()
        assert 1 == first.result(30)
        assert [1, 1] == [rest[0].result(30), rest[2].result(30)]
        with pytest.raises(StorageError, match="must take the rows, got .*NOT NULL"):
            rest[1].result(30)
        sqlite_ledger._turn.acquire()


def test_who_submits_more_than_fits_waits_and_is_told(blocked, make):
    def lot(day):
        return make.outcomes([("A", day), ("B", day)])

    taken = blocked.submit_outcomes(lot(0))
    while blocked.waiting():
        threading.Event().wait(0.01)
    waits = blocked.submit_outcomes(lot(1))
    with pytest.raises(StorageError, match=r"room for 2 rows within 0.05 s, got 2 rows waiting"):
        blocked.submit_outcomes(lot(2))
    assert not taken.done()
    assert not waits.done()


def test_closing_writes_what_waits_and_takes_nothing_more(sqlite_ledger, make):
    writer = Writer(sqlite_ledger)
    told = [writer.submit_outcomes(make.outcomes([("A", day)])) for day in range(50)]
    writer.close()
    writer.close()

    assert 50 == sum(future.result(0) for future in told)
    with pytest.raises(StorageError, match="must be open"):
        writer.submit_outcomes(make.outcomes([("A", 99)]))


def test_a_cancelled_submission_is_not_written(sqlite_ledger, make):
    with sqlite_ledger._turn, Writer(sqlite_ledger) as writer:
        writer.submit_outcomes(make.outcomes([("A", 0)]))
        while writer.waiting():
            threading.Event().wait(0.01)
        second = writer.submit_outcomes(make.outcomes([("A", 1)]))
        assert second.cancel()
        sqlite_ledger._turn.release()
        writer.close()
        sqlite_ledger._turn.acquire()

    assert 0 == sqlite_ledger.telemetry.add_outcomes(make.outcomes([("A", 0)]))
    assert 1 == sqlite_ledger.telemetry.add_outcomes(make.outcomes([("A", 1)]))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_nobody_waits_for_ever_for_a_writer_that_died(sqlite_ledger, make, monkeypatch):
    def broken(_):
        raise SystemExit

    monkeypatch.setattr(sqlite_ledger.telemetry, "store", broken)
    writer = Writer(sqlite_ledger)
    with pytest.raises(StorageError, match="writer must run"):
        writer.submit_outcomes(make.outcomes([("A", 0)])).result(30)
    writer.close()


def test_a_ledger_that_is_away_tells_the_caller(tmp_path, make):
    with Ledger(f"sqlite:///{tmp_path / 'l.db'}") as ledger, Writer(ledger) as writer:
        with ledger.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE outcomes RENAME TO gone")
        with pytest.raises(StorageError, match="no such table"):
            writer.submit_outcomes(make.outcomes([("A", 0)])).result(30)
