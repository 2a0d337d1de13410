"""Files of bars that change after they were read: nothing of it is in silence, and a person has the last word."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from jobs import bars as job
from jobs import worker
from jobs.bars import MANY, bars_of
from jobs.cli import main
from jobs.schedule import Entry
from mlops.errors import DataError
from mlops.io import bar_feed
from mlops.io.ledger import Claim, Ledger
from mlops.io.ledger.bar_digests import histories
from mlops.settings import Settings

FLIPS = 300
CLI = CliRunner()
PRICES = ["open", "high", "low", "close"]


def market(symbols=("AAA", "BBB", "CCC"), bars=60, seed=3):
    times = pd.date_range("2024-01-01T21:00", periods=bars, tz="UTC")
    rng, parts = np.random.default_rng(seed), []
    for symbol in symbols:
        close = 100 + rng.normal(size=bars).cumsum()
        whole = {"open": close - 0.2, "high": close + 1, "low": close - 1, "close": close, "volume": 1000.0}
        parts.append(pd.DataFrame({"event_time": times, "symbol": symbol, **whole}))
    return pd.concat(parts, ignore_index=True)


def save(frame, path):
    frame.to_csv(path, index=False) if path.suffix == ".csv" else frame.to_parquet(path, index=False)
    return str(path)


@pytest.fixture
def context(ledger):
    return SimpleNamespace(ledger=ledger, settings=Settings())


@pytest.fixture
def near(sqlite_ledger):
    return SimpleNamespace(ledger=sqlite_ledger, settings=Settings())


@pytest.fixture(params=["csv", "parquet"])
def path(request, tmp_path):
    return tmp_path / f"bars.{request.param}"


def told(context):
    return sorted(alert.key.rpartition("@")[0] for alert in context.ledger.alerts.newest())


def changed(frame, row, column="close", to=None):
    to = frame[column][row] + 0.05 if to is None else to
    return frame.assign(**{column: frame[column].where(frame.index != row, to)})


def by_symbol(frame):
    return {symbol: rows.drop(columns="symbol").reset_index(drop=True) for symbol, rows in frame.groupby("symbol")}


# --- flips ----------------------------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(("wide", "full"), [(False, FLIPS), (True, FLIPS // 5)], ids=["long", "wide"])
def test_no_flipped_bit_changes_anything_that_a_job_reads_in_silence(near, path, wide, full, monkeypatch, often):
    frame, flips = market(), often(full)
    frame = frame.pivot(index="event_time", columns="symbol", values="close").reset_index() if wide else frame
    good = by_symbol(bars_of(near, save(frame, path)))
    raw, load = {}, bar_feed.load_bars
    monkeypatch.setattr(bar_feed, "load_bars", lambda source: raw.setdefault("bars", load(source)))
    whole, rng, differ = path.read_bytes(), np.random.default_rng(11), 0
    for _ in range(flips):
        raw.clear()
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        try:
            read = by_symbol(bars_of(near, str(path)))
        except DataError:
            read = {}
        for symbol in good.keys() & read.keys():
            pd.testing.assert_frame_equal(good[symbol], read[symbol], check_dtype=False, check_exact=True)
        there = by_symbol(raw["bars"].frame) if raw else {}
        differ += any(not rows.equals(there[symbol]) for symbol, rows in good.items() if symbol in there)
        alerts = {alert.details["symbol"] for alert in near.ledger.alerts.newest()}
        assert not raw or good.keys() - read.keys() <= alerts

    assert differ > flips / 20  # it was a test of something
    raw.clear()
    path.write_bytes(whole)
    assert good.keys() == by_symbol(bars_of(near, str(path))).keys()
    assert [] == told(near)


def test_the_price_of_a_single_bar_costs_its_symbol_and_nothing_else(context, path):
    bars_of(context, save(market(), path))
    read = bars_of(context, save(changed(market(), 70), path))

    assert {"AAA", "CCC"} == set(read.symbol)
    assert [f"bars_changed:{path}:BBB"] == told(context)
    assert "must be as they were read before, got others" in context.ledger.alerts.newest()[0].title


@pytest.mark.parametrize(
    ("column", "to"),
    [
        ("volume", 1.0),
        ("event_time", pd.Timestamp("2024-01-11T20:59", tz="UTC")),
        ("known_at", pd.Timestamp("2024-02-01T20:59", tz="UTC")),
    ],
)
def test_volume_and_instants_are_known_bars_too(near, path, column, to):
    frame = market().assign(known_at=lambda f: f.event_time)
    bars_of(near, save(frame, path))

    assert {"BBB", "CCC"} == set(bars_of(near, save(changed(frame, 10, column, to), path)).symbol)


# --- what is in order -----------------------------------------------------------------------------------------------


def test_bars_and_symbols_that_are_appended_are_taken_and_guarded_from_then_on(context, path):
    bars_of(context, save(market(bars=40), path))
    longer = market(symbols=("AAA", "BBB", "CCC"), bars=60)
    first = market(bars=40)
    longer = pd.concat([first, *[rows.iloc[40:] for _, rows in longer.groupby("symbol")]]).sort_values(
        ["symbol", "event_time"], ignore_index=True
    )

    assert len(longer) == len(bars_of(context, save(longer, path)))
    more = pd.concat([longer, market(symbols=("DDD",))], ignore_index=True)
    assert 4 == bars_of(context, save(more, path)).symbol.nunique()
    assert [] == told(context)
    assert [60, 60, 60, 60] == [note.bars for note in context.ledger.bar_digests.notes(str(path))]

    last = more.index[more.symbol == "DDD"][-1]
    assert {"AAA", "BBB", "CCC"} == set(bars_of(context, save(changed(more, last), path)).symbol)


def test_the_same_bars_in_another_order_unit_or_width_are_the_same(near, tmp_path):
    frame = market().astype(dict.fromkeys(PRICES, "float32"))
    source = save(frame, tmp_path / "bars.parquet")
    bars_of(near, source)
    other = frame.sort_values(["event_time", "symbol"], ascending=[True, False]).astype(dict.fromkeys(PRICES, float))
    other["event_time"] = other.event_time.dt.tz_convert("Asia/Tokyo").dt.as_unit("ms")

    assert 3 == bars_of(near, save(other, Path(source))).symbol.nunique()
    assert [] == told(near)


def test_packaged_data_need_no_note(near):
    assert 20 == bars_of(near, "sp500").symbol.nunique()
    assert [] == near.ledger.bar_digests.notes()


def test_a_job_that_looks_at_the_past_compares_and_neither_notes_nor_tells(near, path):
    past = datetime.now(UTC) - timedelta(days=30)
    bars_of(near, save(market(), path), past)
    assert [] == near.ledger.bar_digests.notes()

    bars_of(near, str(path))
    before = near.ledger.bar_digests.notes()
    assert {"AAA", "CCC"} == set(bars_of(near, save(changed(market(), 70), path), past).symbol)
    assert before == near.ledger.bar_digests.notes()
    assert [] == told(near)


def test_a_reader_of_an_older_file_neither_complains_nor_undoes_what_a_newer_one_noted(context, path):
    long = market(bars=60)
    short = long[long.groupby("symbol").cumcount() < 40].reset_index(drop=True)
    source = save(short, path)
    late = job.read(context, source)
    bars_of(context, save(long, path))
    notes = context.ledger.bar_digests.notes()

    job.settle(context, late, datetime.now(UTC))
    context.ledger.bar_digests.note(list(job._new(late, datetime.now(UTC))), late.known)
    assert notes == context.ledger.bar_digests.notes()
    assert [] == told(context)


# --- what is not ----------------------------------------------------------------------------------------------------


def test_a_symbol_that_is_gone_is_told_and_its_damaged_name_is_not_noted(context, path):
    bars_of(context, save(market(), path))
    renamed = market().replace({"symbol": {"BBB": "BBC"}})

    assert "BBB" not in set(bars_of(context, save(renamed, path)).symbol)
    assert [f"bars_changed:{path}:BBB"] == told(context)
    assert ["AAA", "BBB", "CCC"] == [note.symbol for note in context.ledger.bar_digests.notes()]

    bars_of(context, save(market(), path))
    assert [] == told(context)


def test_a_symbol_that_breaks_the_contract_is_told_and_closes_itself(context, path):
    bars_of(context, save(market(), path))

    assert {"AAA", "CCC"} == set(bars_of(context, save(changed(market(), 70, to=-1.0), path)).symbol)
    assert [f"bars_rejected:{path}:BBB"] == told(context)
    assert "prices must be positive" in context.ledger.alerts.newest()[0].title
    bars_of(context, save(market(), path))
    assert [] == told(context)


def test_the_same_change_is_told_once_and_again_when_it_comes_again(near, path):
    whole, other = market(), changed(market(), 3)
    for frame in (whole, other, other, whole, other):
        bars_of(near, save(frame, path))

    assert 2 == len(near.ledger.alerts.newest(open_only=False))
    assert 1 == len(near.ledger.alerts.newest())


def test_very_many_symbols_are_one_alert_and_none_left_is_an_error(near, path):
    symbols = [f"S{i:02}" for i in range(MANY + 1)]
    bars_of(near, save(market(symbols), path))

    with pytest.raises(DataError, match="must have a symbol whose known bars are as they were"):
        bars_of(near, save(market(symbols, seed=4), path))
    assert [f"bars_changed:{path}:*"] == told(near)


@pytest.mark.parametrize("name", ["A\0A", "\N{OX}", "a" * 300, "A@B:C"])
def test_a_name_that_no_database_keeps_costs_itself_only(context, tmp_path, name):
    source = save(market(("AAA", name)), tmp_path / "bars.parquet")

    assert "AAA" in set(bars_of(context, source).symbol)
    assert "AAA" in set(bars_of(context, source).symbol)
    assert len(told(context)) == (name in ("A\0A", "a" * 300))


@pytest.mark.parametrize("year", [1700, 2300, 40_000])
def test_a_bar_outside_of_all_calendars_is_rejected(near, tmp_path, year):
    frame = market()
    times = frame.event_time.dt.as_unit("ms").array.asi8.copy()
    times[100 if year < 2000 else 119] = (year - 1970) * 31_556_952_000
    frame["event_time"] = pd.Series(times).astype("datetime64[ms]").dt.tz_localize("UTC")
    source = save(frame, tmp_path / "bars.parquet")

    assert {"AAA", "CCC"} == set(bars_of(near, source).symbol)
    assert [f"bars_rejected:{source}:BBB"] == told(near)


def test_scheduled_jobs_get_what_is_left(near, path, monkeypatch):
    near.settings = Settings(jobs={"source": save(market(), path)})
    given = []
    monkeypatch.setattr(worker, "record", SimpleNamespace(set_aside=lambda *_: None))
    monkeypatch.setattr(job, "jot", lambda context, bars, at: given.append(set(bars.symbol)) or [], raising=False)
    schedule = (Entry("jot", None, "jobs.bars:jot", per_model=False, needs_bars=True),)
    for frame in (market(), changed(market(), 70)):
        save(frame, path)
        worker.do(near, Claim("jot", datetime(2024, 5, 1, tzinfo=UTC), "w", 1, 1), schedule)

    assert [{"AAA", "BBB", "CCC"}, {"AAA", "CCC"}] == given


# --- a person's word ------------------------------------------------------------------------------------------------


@pytest.fixture
def there(tmp_path, monkeypatch):
    monkeypatch.setenv("MLOPS_STATE", str(tmp_path))
    monkeypatch.setenv("MLOPS_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("COLUMNS", "300")
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        yield SimpleNamespace(ledger=ledger, settings=Settings())


def call(*words):
    return CLI.invoke(main.app, ["bars", *words])


def test_a_correction_of_the_vendor_is_refused_until_a_person_accepts_it(there, path):
    source = save(market(), path)
    bars_of(there, source)
    other = changed(changed(market(), 70), 10)
    other = other[other.symbol != "CCC"]
    with pytest.raises(DataError, match="must have a symbol whose known bars"):
        bars_of(there, save(other, path))
    assert 3 == len(told(there))
    assert "changed" in call("list").output

    done = call("accept", source, "BBB", "--reason", "split of March", "--actor", "ann")
    assert f"{source}: accepted BBB." in done.output.replace("\n", "")
    assert {"BBB"} == set(bars_of(there, source).symbol)
    assert [f"bars_changed:{source}:{symbol}" for symbol in ("AAA", "CCC")] == told(there)

    assert 0 == call("accept", source, "--reason", "CCC is delisted").exit_code
    assert {"AAA", "BBB"} == set(bars_of(there, source).symbol)
    assert [] == told(there)
    logged = [(entry.symbol, entry.reason) for entry in there.ledger.bar_digests.accepted()]
    assert [("BBB", "split of March"), ("AAA", "CCC is delisted"), ("CCC", "CCC is delisted")] == logged
    assert "" == there.ledger.bar_digests.accepted()[-1].after
    assert "split of March" in call("log").output
    assert "changed" not in call("list").output


@pytest.mark.parametrize(
    ("words", "rule"),
    [
        (("BBB", "--reason", "x"), r"must have changed to be accepted \(AAA\), got BBB"),
        (("ZZZ", "--reason", "x"), r"must have changed to be accepted \(AAA\), got ZZZ"),
        (("--reason", " "), "reason must be text"),
    ],
)
def test_only_what_changed_is_accepted_and_with_a_reason(there, path, words, rule):
    bars_of(there, save(market(), path))
    source = save(changed(market(), 3), path)

    done = call("accept", source, *words)
    assert isinstance(done.exception, DataError)
    with pytest.raises(DataError, match=rule):
        raise done.exception
    assert [] == there.ledger.bar_digests.accepted()


def test_a_file_that_cannot_be_read_is_listed_as_such(there, path):
    bars_of(there, save(market(), path))
    path.unlink()

    assert "not read" in call("list").output


def test_digests_are_of_every_column_and_of_the_first_bars_only():
    frame = bar_feed.check(market(), "bars")
    whole = histories(frame.frame)["AAA"]

    assert whole.digest() == whole.digest(60) != whole.digest(59)
    for column in (*PRICES, "volume"):
        rows = frame.frame.assign(**{column: np.nextafter(frame.frame[column], np.inf)})
        assert whole.digest(59) != histories(rows)["AAA"].digest(59)
