"""Closed hours in Parquet: whole or not at all, never without their rows, readable by anybody."""

from datetime import timedelta

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops.errors import CorruptionError
from mlops.io.ledger import archive as module
from mlops.io.storage.insert import quote_rows

NAMES = ("return", "range", "calm")
HOUR = timedelta(hours=1)


@pytest.fixture
def scored():
    return np.random.default_rng(5).normal(size=(4, 3)).astype(np.float32)


@pytest.fixture
def filled(ledger, make, scored):
    """Four days: predictions of two models (one with other features), outcomes, quotes, fills."""
    ledger.telemetry.add_predictions(make.predictions([(1, "A", d) for d in range(4)]), scored, NAMES, "abc")
    ledger.telemetry.add_predictions(make.predictions([(3, "A", 1)]), scored[:1, :2].copy(), NAMES[:2])
    ledger.telemetry.add_predictions(make.predictions([(1, "A", 1)], model="direction"), scored[:1], NAMES)
    ledger.telemetry.add_outcomes(make.outcomes([("A", d) for d in range(4)]))
    ledger.telemetry.add_fills(make.fills([("1", "A", 10, 5.0, 0.5)]))
    ledger.scorings.add(make.scorings([(1, 0), (1, 3)]))
    at = pd.to_datetime([make.at(0), make.at(1)])
    sides = {"bid": 1.0, "ask": 2.0, "bid_size": 0.0, "ask_size": 3.0}
    ledger.telemetry.store(quote_rows(pd.DataFrame({"unit": "A", "event_time": at, "known_at": at, **sides})))
    return ledger


@pytest.fixture
def window(make):
    return {"start": make.at(0), "end": make.at(9), "as_of": make.at(9)}


def test_closed_hours_are_copied_once_and_come_back_as_they_were(filled, make, scored, tmp_path):
    now = {"before": make.at(2), "at": make.at(9)}

    assert {"predictions": 4, "outcomes": 2, "quotes": 2, "scorings": 1, "fills": 1} == filled.archive.copy_closed(
        tmp_path, **now
    )
    assert {"predictions": 0, "outcomes": 0, "quotes": 0, "scorings": 0, "fills": 0} == filled.archive.copy_closed(
        tmp_path, **now
    )

    found = filled.archive.read(tmp_path, "predictions", start=make.at(0), end=make.at(9))
    assert ["direction", "volatility", "volatility", "volatility"] == list(found["model"])
    np.testing.assert_array_equal(scored[0], found.iloc[1]["features"])
    np.testing.assert_array_equal(scored[0, :2], found.iloc[3]["features"])
    assert '["return","range"]' == found.iloc[3]["feature_names"]
    assert [] == filled.archive.verify(tmp_path)
    assert 1 == len(filled.archive.read(tmp_path, "outcomes", start=make.at(1), end=make.at(2)))
    assert [5.0] == list(filled.archive.read(tmp_path, "fills", start=make.at(0), end=make.at(2))["price"])
    assert [0.01] == list(filled.archive.read(tmp_path, "scorings", start=make.at(0), end=make.at(2))["seconds"])
    assert filled.archive.read(tmp_path, "quotes", start=make.at(3), end=make.at(4)).empty


def test_an_hour_that_is_not_over_stays_out(filled, make, tmp_path):
    assert 0 == filled.archive.copy_closed(tmp_path, before=make.at(0) + HOUR / 2, at=make.at(9))["predictions"]
    assert 1 == filled.archive.copy_closed(tmp_path, before=make.at(0) + HOUR, at=make.at(9))["predictions"]


def test_any_parquet_reader_understands_the_files(filled, make, tmp_path):
    filled.archive.copy_closed(tmp_path, before=make.at(9), at=make.at(9))

    frame = pd.concat([pd.read_parquet(path) for path in sorted((tmp_path / "predictions").glob("*/*.parquet"))])
    assert 6 == len(frame)
    assert "datetime64[us, UTC]" == str(frame["event_time"].dtype)


def test_a_row_that_comes_late_joins_its_hour(filled, make, scored, tmp_path):
    filled.archive.copy_closed(tmp_path, before=make.at(9), at=make.at(9))
    old = filled.archive.manifest("predictions")[1].path
    filled.telemetry.add_predictions(make.predictions([(1, "B", 1)]), scored[:1], NAMES)

    assert 1 == filled.archive.copy_closed(tmp_path, before=make.at(9), at=make.at(9))["predictions"]
    hour = {"start": make.at(1), "end": make.at(2)}
    assert ["A", "A", "B", "A"] == list(filled.archive.read(tmp_path, "predictions", **hour)["unit"])
    assert not (tmp_path / old).exists()
    assert 4 == len(list((tmp_path / "predictions").glob("*/*.parquet")))


def test_retention_takes_only_what_a_verified_file_holds(filled, make, tmp_path, window):
    gone = filled.archive.prune(tmp_path, before=make.at(2), at=make.at(9))

    assert {"predictions": 4, "outcomes": 2, "quotes": 2, "scorings": 1} == gone
    assert [make.at(2), make.at(3)] == list(filled.telemetry.predictions("volatility", **window)[0].event_time)
    assert 2 == len(filled.telemetry.matured("volatility", **window))
    assert 4 == len(
        filled.archive.read(tmp_path, "predictions", start=make.at(0), end=make.at(9))[lambda f: f.index < 4]
    )
    assert 1 == len(filled.telemetry.positions("volatility", "paper"))
    assert {"predictions": 0, "outcomes": 0, "quotes": 0, "scorings": 0} == filled.archive.prune(
        tmp_path, before=make.at(2), at=make.at(9)
    )


def test_retention_stops_where_a_file_is_damaged(filled, make, tmp_path, window):
    filled.archive.copy_closed(tmp_path, before=make.at(9), at=make.at(9))
    path = tmp_path / filled.archive.manifest("predictions")[0].path
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(CorruptionError, match="must have sha256"):
        filled.archive.prune(tmp_path, before=make.at(9), at=make.at(9))
    assert 4 == len(filled.telemetry.predictions("volatility", version=1, **window)[0])


def test_a_row_that_comes_after_its_hour_was_pruned_joins_the_file(filled, make, scored, tmp_path, window):
    filled.archive.prune(tmp_path, before=make.at(9), at=make.at(9))
    late = make.predictions([(1, "B", 0)])
    assert 1 == filled.telemetry.add_predictions(late, scored[:1], NAMES)  # as many as the file of that hour has

    assert 1 == len(filled.telemetry.predictions("volatility", **window)[0])
    filled.archive.prune(tmp_path, before=make.at(9), at=make.at(9))
    filled.archive.prune(tmp_path, before=make.at(9), at=make.at(9))
    hour = {"start": make.at(0), "end": make.at(1)}
    assert ["A", "B"] == list(filled.archive.read(tmp_path, "predictions", **hour)["unit"])
    assert filled.telemetry.predictions("volatility", **window)[0].empty


def test_damage_and_loss_are_named_and_never_read(filled, make, tmp_path):
    filled.archive.copy_closed(tmp_path, before=make.at(9), at=make.at(9))
    first, second = filled.archive.manifest("outcomes")[:2]
    data = bytearray((tmp_path / first.path).read_bytes())
    data[len(data) // 2] ^= 4
    (tmp_path / first.path).write_bytes(data)
    (tmp_path / second.path).unlink()

    assert [first.path, second.path] == [
        p.split(" ")[2].removeprefix(f"{tmp_path}/") for p in filled.archive.verify(tmp_path)
    ]
    with pytest.raises(CorruptionError, match="must have sha256"):
        filled.archive.read(tmp_path, "outcomes", start=make.at(0), end=make.at(9))


@pytest.mark.parametrize("step", ["_written", "added"])
def test_an_end_at_any_step_loses_and_doubles_nothing(filled, make, tmp_path, monkeypatch, step):
    """Before the file is there, and after it is there but not yet in the manifest."""

    def end(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, step, end)
    with pytest.raises(KeyboardInterrupt):
        filled.archive.copy_closed(tmp_path, before=make.at(9), at=make.at(9))
    monkeypatch.undo()
    monkeypatch.setattr(module, "STRAY_S", -1.0)
    (tmp_path / "predictions" / "2020-01-02").mkdir(parents=True, exist_ok=True)
    (tmp_path / "predictions" / "2020-01-02" / "21-1-1.part").write_bytes(b"half")

    assert 6 == filled.archive.copy_closed(tmp_path, before=make.at(9), at=make.at(9))["predictions"]
    assert 6 == len(filled.archive.read(tmp_path, "predictions", start=make.at(0), end=make.at(9)))
    there = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file() and "ledger.db" not in p.name}
    assert {entry.path for entry in filled.archive.manifest()} == there


def test_pages_carry_checksums_for_readers_that_know_no_manifest_and_the_manifest_finds_every_flip(
    filled, make, tmp_path
):
    filled.archive.copy_closed(tmp_path, before=make.at(9), at=make.at(9))
    path = tmp_path / filled.archive.manifest("predictions")[1].path
    raw, pages = path.read_bytes(), 0
    rng = np.random.default_rng(11)
    for place, bit in zip(rng.integers(4, len(raw), 60), rng.integers(0, 8, 60), strict=True):
        data = bytearray(raw)
        data[place] ^= 1 << int(bit)
        path.write_bytes(data)
        with pytest.raises(CorruptionError, match="must have sha256"):
            filled.archive.read(tmp_path, "predictions", start=make.at(0), end=make.at(9))
        try:
            pq.read_table(pa.BufferReader(bytes(data)), page_checksum_verification=True)
        except (OSError, pa.ArrowException) as error:
            pages += "CRC checksum" in str(error)
    assert pages > 0
