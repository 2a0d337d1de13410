"""The front door: what is good comes in, what is not is named with its file, its row, the rule and the remedy."""

import contextlib
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.io.bar_feed import load_bars
from mlops.types import BAR_COLUMNS

PACKAGED = {"sp500": 20, "index:sp500": 1, "index:nasdaq": 1}


def _long(symbols=("AAA", "BBB"), bars=12):
    times = pd.date_range("2024-01-01T21:00", periods=bars, tz="UTC")
    rng = np.random.default_rng(3)
    parts = []
    for symbol in symbols:
        close = 100 + rng.normal(size=bars).cumsum()
        whole = {"open": close - 0.2, "high": close + 1, "low": close - 1, "close": close, "volume": 1000.0}
        parts.append(pd.DataFrame({"event_time": times, "symbol": symbol, **whole}))
    return pd.concat(parts, ignore_index=True)


def _saved(frame, folder, suffix="csv"):
    path = folder / f"bars.{suffix}"
    frame.to_csv(path, index=False) if suffix == "csv" else frame.to_parquet(path, index=False)
    return str(path)


@pytest.mark.parametrize("source", PACKAGED)
def test_the_packaged_sets_load_whole_and_close_at_four_in_new_york(source):
    bars = load_bars(source)

    assert {} == bars.rejected
    assert PACKAGED[source] == bars.frame.symbol.nunique()
    assert list(BAR_COLUMNS) == list(bars.frame)[:4]
    assert "UTC" == str(bars.frame.event_time.dt.tz)
    assert {"16:00"} == set(bars.frame.event_time.dt.tz_convert("America/New_York").dt.strftime("%H:%M"))
    assert {20, 21} == set(bars.frame.event_time.dt.hour)  # summer and winter
    assert bars.frame.event_time.equals(bars.frame.known_at)
    assert bars.frame.set_index(["event_time", "symbol"]).index.is_monotonic_increasing


def test_the_index_sets_carry_open_high_low_and_volume():
    assert {"open", "high", "low", "volume"} <= set(load_bars("index:sp500").frame)


def test_start_is_in_and_end_is_out(tmp_path):
    start, end = (datetime(2024, 1, day, 21, tzinfo=UTC) for day in (3, 6))
    times = load_bars(_saved(_long(), tmp_path), start=start, end=end).frame.event_time

    assert (start, datetime(2024, 1, 5, 21, tzinfo=UTC)) == (times.min(), times.max())


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_long_files_load_with_all_their_columns(tmp_path, suffix):
    expected = _long().sort_values(["event_time", "symbol"], ignore_index=True)

    found = load_bars(_saved(_long(), tmp_path, suffix))

    assert {} == found.rejected
    assert [*BAR_COLUMNS, "open", "high", "low", "volume"] == list(found.frame)
    pd.testing.assert_frame_equal(expected, found.frame[list(expected)], check_dtype=False)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_wide_files_give_the_same_closes_as_long_ones(tmp_path, suffix):
    long = _long()
    wide = long.pivot(index="event_time", columns="symbol", values="close").reset_index()

    found = load_bars(_saved(wide, tmp_path, suffix)).frame

    expected = long.sort_values(["event_time", "symbol"], ignore_index=True)[["event_time", "symbol", "close"]]
    pd.testing.assert_frame_equal(expected, found[["event_time", "symbol", "close"]], check_dtype=False)


def test_any_offset_is_read_and_turned_into_utc(tmp_path):
    frame = _long(("AAA",))
    abroad = frame.assign(event_time=frame.event_time.dt.tz_convert("Asia/Tokyo").map(pd.Timestamp.isoformat))

    assert list(frame.event_time) == list(load_bars(_saved(abroad, tmp_path)).frame.event_time)


def test_a_late_bar_keeps_the_time_at_which_it_was_known(tmp_path):
    late = _long(("AAA",)).assign(known_at=lambda f: f.event_time + pd.Timedelta("2h"))

    found = load_bars(_saved(late, tmp_path)).frame

    assert {pd.Timedelta("2h")} == set(found.known_at - found.event_time)


@pytest.mark.parametrize("symbol", ["NA", "0700", "TRUE", "nan"])
def test_a_symbol_stays_as_it_is_written(tmp_path, symbol):
    assert [symbol] == list(load_bars(_saved(_long((symbol,)), tmp_path)).frame.symbol.unique())


def _at(row, column, value):
    def spoil(frame):
        frame[column] = frame[column].astype(object)
        frame.loc[row, column] = value
        return frame

    return spoil


def _swapped(frame):
    order = np.arange(len(frame))
    order[[13, 14]] = [14, 13]
    return frame.iloc[order]


def _hourly(frame):
    """The last four bars come in hours."""
    times = pd.date_range("2024-01-08T22:00", periods=4, freq="h", tz="UTC")
    return frame.assign(event_time=[*frame.event_time[:20], *times])


def _known_early(frame):
    known = frame.event_time.copy()
    known[15] -= pd.Timedelta("1min")
    return frame.assign(known_at=known)


# What spoils BBB, the row that is named, the rule, the remedy.
SPOILERS = {
    "unsorted": (_swapped, 14, "event_time must ascend", "Sort the file"),
    "duplicate": (lambda f: _at(16, "event_time", f.event_time[15])(f), 16, "event_time must be unique", "Keep one"),
    "NaN": (_at(15, "close", np.nan), 15, "prices must not be NaN", "Drop the bar"),
    "zero": (_at(15, "low", 0.0), 15, "prices must be positive", "Drop the bar"),
    "negative": (_at(15, "close", -1.0), 15, "prices must be positive", "Drop the bar"),
    "infinite": (_at(15, "high", np.inf), 15, "prices must be finite", "Drop the bar"),
    "text": (_at(15, "close", "n. q."), 15, "prices must be numbers", "Clean the column"),
    "volume of text": (_at(15, "volume", "n. q."), 15, "volume must be a number", "leave what is unknown empty"),
    "low over high": (_at(15, "low", 1e6), 15, "low must not exceed", "Check the column order"),
    "close over high": (_at(15, "close", 1e6), 15, "low must not exceed", "Check the column order"),
    "mixed frequencies": (_hourly, 20, "bars must have one frequency", "Resample"),
    "known before it closed": (_known_early, 15, "known_at must not be before event_time", "No bar is known"),
}


@pytest.mark.parametrize(("spoil", "row", "rule", "remedy"), SPOILERS.values(), ids=SPOILERS)
def test_one_bad_symbol_is_set_aside_with_its_reason_and_the_other_loads(tmp_path, spoil, row, rule, remedy):
    good = load_bars(_saved(_long(("AAA",)), tmp_path)).frame
    bars = load_bars(_saved(spoil(_long()), tmp_path))

    assert ["BBB"] == list(bars.rejected)
    why = bars.rejected["BBB"]
    assert all(part in why for part in ("bars.csv", f"row {row}, BBB", rule, remedy)), why
    pd.testing.assert_frame_equal(good, bars.frame[list(good)])


@pytest.mark.parametrize(("spoil", "row", "rule", "remedy"), SPOILERS.values(), ids=SPOILERS)
def test_a_file_without_a_good_symbol_is_refused_with_the_first_fault(tmp_path, spoil, row, rule, remedy):
    bad = spoil(_long())
    path = _saved(bad[bad.symbol == "BBB"], tmp_path)

    with pytest.raises(DataError, match="at least one good symbol") as error:
        load_bars(path)

    assert all(part in str(error.value) for part in ("bars.csv", f"row {row - 12}", rule, remedy))


def test_a_fault_in_a_wide_file_names_the_row_of_the_file(tmp_path):
    wide = _long().pivot(index="event_time", columns="symbol", values="close").reset_index()
    wide.loc[7, "BBB"] = -1.0

    assert "row 7, BBB" in load_bars(_saved(wide, tmp_path)).rejected["BBB"]


def test_a_holiday_and_a_missing_bar_are_not_another_frequency(tmp_path):
    weekdays = pd.bdate_range("2024-01-01T21:00", periods=60, tz="UTC")
    frame = pd.DataFrame({"event_time": weekdays, "symbol": "AAA", "close": 1.0}).drop([10, 30, 31])

    assert {} == load_bars(_saved(frame, tmp_path)).rejected


def test_nights_and_weekends_between_hourly_bars_are_not_another_frequency(tmp_path):
    days = pd.bdate_range("2024-01-01", periods=15, tz="UTC")
    times = [day + pd.Timedelta(hours=h) for day in days for h in range(14, 21)]
    frame = pd.DataFrame({"event_time": times, "symbol": "AAA", "close": 1.0})

    assert {} == load_bars(_saved(frame, tmp_path)).rejected


WHOLE_FILE = {
    "no event_time": (lambda f: f.drop(columns="event_time"), "must have a column event_time", "Rename"),
    "no symbol": (lambda f: f.drop(columns="symbol"), "got none of \\['symbol'\\]", "Add them"),
    "no close": (lambda f: f.drop(columns="close"), "got none of \\['close'\\]", "Add them"),
    "no instant": (
        lambda f: f.assign(event_time="yesterday"),
        "must be an ISO instant, got 'yesterday' in row 0",
        "Wr",
    ),
    "naive": (lambda f: f.assign(event_time="2024-01-02T21:00"), "must carry its time zone.* in row 0", "Append Z"),
    "naive date": (lambda f: f.assign(event_time="2024-01-02"), "must carry its time zone.* in row 0", "Append Z"),
    "naive known_at": (lambda f: f.assign(known_at="2024-01-02T21:00"), "known_at .*must carry its time", "Append Z"),
    "nameless": (_at(3, "symbol", None), "row 3: symbol must have a name", "Name it"),
}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(("spoil", "rule", "remedy"), WHOLE_FILE.values(), ids=WHOLE_FILE)
def test_a_file_that_breaks_the_contract_as_a_whole_is_refused(tmp_path, suffix, spoil, rule, remedy):
    with pytest.raises(DataError, match=rule) as error:
        load_bars(_saved(spoil(_long()), tmp_path, suffix))
    assert f"bars.{suffix}" in str(error.value)
    assert remedy in str(error.value)


def test_a_naive_column_of_parquet_is_refused_too(tmp_path):
    naive = _long().assign(event_time=lambda f: f.event_time.dt.tz_localize(None))
    with pytest.raises(DataError, match="must carry its time zone"):
        load_bars(_saved(naive, tmp_path, "parquet"))


def test_an_empty_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="bars.csv"):
        load_bars(_saved(_long().head(0), tmp_path))


@pytest.mark.parametrize(("name", "rule"), [("nowhere.csv", "must be a file or one of sp500"), ("b.xlsx", "Convert")])
def test_what_is_no_source_is_refused_with_what_would_be(tmp_path, name, rule):
    (tmp_path / "b.xlsx").write_bytes(b"")
    with pytest.raises(DataError, match=rule):
        load_bars(str(tmp_path / name))


JUNK = {"empty": b"", "binary": bytes(range(256)) * 8, "a page": b"<html>not bars</html>", "cut": None}


@pytest.mark.parametrize("how", JUNK)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_file_that_is_none_is_named_and_ends_in_no_trace(tmp_path, suffix, how):
    path = _saved(_long(), tmp_path, suffix)
    with open(path, "r+b") as file:
        content = file.read()
        file.seek(0)
        file.truncate()
        file.write(JUNK[how] if JUNK[how] is not None else content[: len(content) // 2 + 3])

    with pytest.raises(DataError, match=r"bars\.(csv|parquet)"):
        load_bars(path)


def test_no_flip_of_a_bit_in_a_parquet_ends_in_a_trace(tmp_path):
    path = _saved(_long(), tmp_path, "parquet")
    whole, rng = Path(path).read_bytes(), np.random.default_rng(1)
    for _ in range(200):
        changed = bytearray(whole)
        changed[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        Path(path).write_bytes(changed)
        with contextlib.suppress(DataError):
            load_bars(path)
