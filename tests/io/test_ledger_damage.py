"""What a disk changed is an error that names the row, and never data; what an older release wrote is still read."""

import random

import numpy as np
import pandas as pd
import pytest
from alembic.runtime.environment import EnvironmentContext
from sqlalchemy import text

from mlops.errors import CorruptionError
from mlops.io.ledger import BundleRow, Ledger
from mlops.io.storage.arrow import copied
from mlops.io.storage.database import revisions
from mlops.io.storage.insert import quote_rows
from mlops.io.storage.schema import quotes
from mlops.io.storage.windows import microseconds

NAMES = ("return", "range")
CHANGES = {
    "predictions": {
        "version": "7",
        "unit": "'Z'",
        "event_time": "event_time + 1",
        "known_at": "known_at - 1",
        "matures_at": "matures_at + 1",
        "role": "'shadow'",
        "probability": "0.75",
        "checksum": "checksum + 1",
        "features_checksum": "features_checksum + 1",
    },
    "outcomes": {"unit": "'Z'", "event_time": "event_time + 1", "known_at": "known_at - 1", "label": "0", "value": "9"},
    "fills": {"fill_id": "'x'", "unit": "'Z'", "quantity": "-quantity", "price": "9", "fee": "9", "version": "2"},
    "bundles": {"digest": "'x'", "run_id": "'x'", "train_end": "train_end + 1", "horizon_bars": "6", "version": "9"},
    "promotions": {"from_version": "8", "to_version": "9", "actor": "'x'", "state": "'undone'", "id": "id + 7"},
    "quotes": {"bid": "1.25", "event_time": "event_time + 1"},
    "scorings": {"seconds": "9", "failed": "1 - failed", "rows": "9", "batch": "'x'", "version": "9"},
}


@pytest.fixture
def span(make):
    return {"start": make.at(0), "end": make.at(9), "as_of": make.at(9)}


@pytest.fixture
def filled(ledger, make):
    _fill(ledger, make)
    return ledger


def _fill(ledger, make):
    ones = np.ones((3, 2), dtype=np.float32)
    ledger.telemetry.add_predictions(make.predictions([(1, "A", d) for d in range(3)]), ones, NAMES, "abc")
    ledger.telemetry.add_outcomes(make.outcomes([("A", d) for d in range(3)]))
    ledger.telemetry.add_fills(make.fills([("1", "A", 10, 5.0, 0.5), ("2", "A", 3, 5.0, 0.5)]))
    ledger.scorings.add(make.scorings([(1, 0), (1, 1)]))
    at = pd.to_datetime([make.at(0), make.at(1)])
    sides = {"bid": 1.0, "ask": 2.0, "bid_size": 0.0, "ask_size": 0.0}
    ledger.telemetry.store(quote_rows(pd.DataFrame({"unit": "A", "event_time": at, "known_at": at, **sides})))
    spans = {"train_start": make.at(0), "train_end": make.at(1), "registered_at": make.at(2)}
    for version in (1, 2):
        ledger.registry.add_bundle(BundleRow("volatility", version, "d", "r", "m", horizon_bars=5, **spans))
        why = {"kind": "promote", "actor": "a", "reason": "", "evidence_run": "", "correlation_id": ""}
        ledger.registry.append_promotion("volatility", expected=version - 1 or None, to=version, at=make.at(0), **why)


def _run(ledger, statement):
    with ledger.writing() as connection:
        return connection.execute(text(statement)).rowcount


def _read(ledger, table, span, make):
    if table in ("predictions", "outcomes"):
        if table == "predictions":
            ledger.telemetry.predictions("volatility", **span)
        ledger.telemetry.matured("volatility", **span)
    elif table == "scorings":
        ledger.scorings.between("volatility", span["start"], span["end"])
    elif table == "fills":
        ledger.telemetry.positions("volatility", "paper")
    elif table == "quotes":
        with ledger.reading() as connection:
            copied(connection, quotes, microseconds(make.at(0)), ["A"], end=microseconds(make.at(9)))
    else:
        getattr(ledger.registry, table)("volatility")


def _newest(table):
    last = {"fills": "fill_id = '2'", "bundles": "version = 2", "promotions": "seq = 2"}
    return last.get(table, f"event_time = (SELECT max(event_time) FROM {table})")


@pytest.mark.parametrize(("table", "column"), [(table, column) for table in CHANGES for column in CHANGES[table]])
def test_a_changed_value_is_an_error_that_names_the_table(filled, table, column, span, make):
    _read(filled, table, span, make)
    assert 1 == _run(filled, f"UPDATE {table} SET {column} = {CHANGES[table][column]} WHERE {_newest(table)}")

    with pytest.raises(CorruptionError, match=table):
        _read(filled, table, span, make)
    assert any(table in problem for problem in filled.audit.verify())


def test_every_bit_of_the_features_is_held_against_the_checksum(filled, span):
    rng = random.Random(3)
    with filled.reading() as connection:
        blob = connection.execute(text("SELECT features FROM predictions ORDER BY event_time")).scalar()
    for _ in range(8):
        data = bytearray(blob)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        with filled.writing() as connection:
            first = "event_time = (SELECT min(event_time) FROM predictions)"
            connection.execute(text(f"UPDATE predictions SET features = :x WHERE {first}"), {"x": bytes(data)})
        with pytest.raises(CorruptionError, match="predictions with event_time"):
            filled.telemetry.predictions("volatility", **span)


def test_other_feature_names_are_an_error(filled, span):
    _run(filled, """UPDATE feature_sets SET names = '["range","return"]'""")

    with pytest.raises(CorruptionError, match="feature_sets"):
        filled.telemetry.predictions("volatility", **span)


@pytest.mark.parametrize("table", ["predictions", "outcomes", "scorings", "fills", "bundles", "promotions"])
def test_a_row_that_vanished_is_missed(sqlite_ledger, make, table, span):
    _fill(sqlite_ledger, make)
    assert 1 == _run(sqlite_ledger, f"DELETE FROM {table} WHERE {_newest(table)}")

    with pytest.raises(CorruptionError, match=f"rows of {table} with .* must be"):
        _read(sqlite_ledger, table, span, make)


def test_a_window_within_an_hour_knows_its_rows(sqlite_ledger, make, span):
    """The hour has rows before and after the window, and rows of another version."""
    keys = [(version, unit, 0) for version in (1, 2) for unit in "ABCD"]
    frame = make.predictions(keys)
    frame["event_time"] += pd.to_timedelta([0, 1, 2, 3] * 2, unit="min")
    frame["known_at"] = frame["event_time"] + pd.to_timedelta([0, 0, 9, 0] * 2, unit="min")
    sqlite_ledger.telemetry.add_predictions(frame, np.ones((8, 2), dtype=np.float32), NAMES)
    inner = {"start": frame.event_time[1], "end": frame.event_time[3], "as_of": frame.event_time[3]}

    assert ["B"] == list(sqlite_ledger.telemetry.predictions("volatility", version=2, **inner)[0].unit)
    assert 2 == len(sqlite_ledger.telemetry.predictions("volatility", **inner)[0])
    _run(sqlite_ledger, "DELETE FROM predictions WHERE version = 2 AND unit = 'A'")
    with pytest.raises(CorruptionError, match="must be 4, got 3"):
        sqlite_ledger.telemetry.predictions("volatility", version=2, **inner)
    assert 2 == len(sqlite_ledger.telemetry.predictions("volatility", version=1, **inner)[0]) + 1


def test_a_newest_hour_that_vanished_is_missed(sqlite_ledger, make):
    _fill(sqlite_ledger, make)
    _run(sqlite_ledger, "DELETE FROM predictions WHERE event_time = (SELECT max(event_time) FROM predictions)")

    with pytest.raises(CorruptionError, match="must be there, got none after"):
        sqlite_ledger.telemetry.latest_event_time("volatility")


def test_a_fill_that_is_there_twice_is_never_a_position(sqlite_ledger, make):
    _fill(sqlite_ledger, make)
    with sqlite_ledger.writing() as connection:  # as a damaged index would let it happen
        connection.execute(text("PRAGMA writable_schema = ON"))
        connection.execute(text("CREATE TABLE copy AS SELECT * FROM fills"))
        connection.execute(text("DROP TABLE fills"))
        connection.execute(text("ALTER TABLE copy RENAME TO fills"))
        connection.execute(text("INSERT INTO fills SELECT * FROM fills WHERE fill_id = '2'"))

    with pytest.raises(CorruptionError, match="2 .there twice"):
        sqlite_ledger.telemetry.positions("volatility", "paper")


def test_what_a_release_without_checksums_wrote_is_read_as_it_is(url, make, span, tmp_path):
    with Ledger(url) as ledger:
        _fill(ledger, make)
        truth = [ledger.telemetry.predictions("volatility", **span)[0], ledger.telemetry.matured("volatility", **span)]
        config, script = revisions()
        with ledger.writing() as connection:
            down = EnvironmentContext(config, script, fn=lambda now, _: script._downgrade_revs("0001", now))
            with down as environment:
                environment.configure(connection=connection)
                environment.run_migrations()

    with Ledger(url) as ledger:
        pd.testing.assert_frame_equal(truth[0], ledger.telemetry.predictions("volatility", **span)[0])
        pd.testing.assert_frame_equal(truth[1], ledger.telemetry.matured("volatility", **span))
        assert [13.0] == list(ledger.telemetry.positions("volatility", "paper")["quantity"])
        assert 2 == ledger.registry.champion("volatility")
        ledger.registry.settle_promotion(ledger.registry.promotions("volatility")[-1].id, "applied", make.at(1))
        assert [1, 2] == [bundle.version for bundle in ledger.registry.bundles("volatility")]
        ledger.telemetry.add_predictions(make.predictions([(1, "B", 1)]), np.ones((1, 2), dtype=np.float32), NAMES)
        ledger.registry.append_promotion(
            "volatility",
            expected=2,
            to=1,
            kind="rollback",
            actor="a",
            reason="",
            evidence_run="",
            correlation_id="",
            at=make.at(2),
        )
        assert 1 == ledger.registry.champion("volatility")
        assert 4 == len(ledger.telemetry.predictions("volatility", **span)[0])
        assert 4 == ledger.archive.copy_closed(tmp_path, before=make.at(9), at=make.at(9))["predictions"]
        assert [] == ledger.audit.verify()


def test_an_undamaged_ledger_has_no_problems(filled):
    assert [] == filled.audit.verify()


def test_a_file_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "ledger.db").write_bytes(b"not a database at all" * 1000)

    with pytest.raises(CorruptionError, match="file is not a database"):
        Ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
