"""One definition for history and for the live bar."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.learn.features import CHUNK, Features, Stream, in_time, last_row, refuse_late, table
from mlops.learn.strategy import Strategy

SMALL = Strategy(
    name="small",
    features=(
        Features(("sum_4", "last"), 4, lambda r: np.stack([r.sum(axis=-1), r[..., -1]], axis=-1)),
        Features(("market_3",), 3, lambda m: m.mean(axis=-1)[..., None], "market"),
    ),
    label=lambda r: np.append(r[1:] > 0, np.nan),
    horizon=1,
    position=np.sign,
)


def _streamed(strategy, bars):
    stream, rows = Stream(strategy), []
    for time, bar in bars.groupby("event_time", sort=True):
        units, values = stream.update(bar)
        keys = pd.DataFrame({"event_time": [time] * len(units), "unit": units})
        rows.append(keys.join(pd.DataFrame(values, columns=list(strategy.feature_names))))
    return pd.concat([part for part in rows if len(part)], ignore_index=True)


def _alike(one, other):
    """Bit for bit, keys included."""
    pd.testing.assert_frame_equal(one, other, check_dtype=False, check_exact=True)
    return one.iloc[:, 2:].to_numpy().tobytes() == other.iloc[:, 2:].to_numpy().tobytes()


def test_the_table_is_what_the_definition_says_by_hand():
    close = pd.Series([10.0, 11, 12, 9, 10, 12])
    moves = close.pct_change()
    bars = pd.DataFrame({"event_time": pd.date_range("2020", periods=6, tz="UTC"), "symbol": "A", "close": close})

    found = table(SMALL, bars)

    assert ["event_time", "unit", "sum_4", "last", "market_3"] == list(found)
    assert list(bars.event_time[4:]) == list(found.event_time)  # four returns need five bars
    assert [moves[1:5].sum(), moves[2:6].sum()] == pytest.approx(list(found.sum_4), rel=1e-6)
    assert [moves[4], moves[5]] == pytest.approx(list(found["last"]), rel=1e-6)
    assert [moves[2:5].abs().mean(), moves[3:6].abs().mean()] == pytest.approx(list(found.market_3), rel=1e-6)
    assert {np.dtype(np.float32)} == set(found.dtypes[2:])


def test_history_in_several_chunks_is_the_stream_too(walk):
    bars = walk(CHUNK + 100, ("AAA",))
    assert _alike(table(SMALL, bars), _streamed(SMALL, bars))


def test_missing_bars_of_one_symbol_are_handled_alike_by_batch_and_stream(walk):
    """BBB misses single bars and a month, CCC is listed late, and on one day nobody but AAA has a bar."""
    bars = walk(200)
    day = bars.event_time.rank(method="dense").astype(int) - 1
    missing = (bars.symbol == "BBB") & (day.isin([20, 77]) | day.between(100, 130))
    missing |= (bars.symbol == "CCC") & (day < 60)
    missing |= (bars.symbol != "AAA") & (day == 150)
    bars = bars[~missing]

    found = table(SMALL, bars)

    assert _alike(found, _streamed(SMALL, bars))
    assert len(bars) - 3 * 4 == len(found)  # each symbol gives up its first bars, and no bar was filled in


def test_a_missing_bar_makes_one_longer_return_of_the_symbols_own():
    bars = pd.DataFrame(
        {
            "event_time": pd.date_range("2020", periods=8, tz="UTC").repeat(2),
            "symbol": ["A", "B"] * 8,
            "close": np.arange(10.0, 26.0),
        }
    ).drop(index=11)  # B at bar 5
    found = table(SMALL, bars)

    b = found[found.unit == "B"].set_index("event_time")["last"]
    assert pd.Timestamp("2020-01-06", tz="UTC") not in b
    assert 23 / 19 - 1 == pytest.approx(b[pd.Timestamp("2020-01-07", tz="UTC")], rel=1e-6)


def test_the_last_row_is_the_newest_of_the_table(walk):
    bars = walk(50)
    units, values = last_row(SMALL, bars)
    newest = table(SMALL, bars).query("event_time == event_time.max()")
    assert list(newest.unit) == list(units)
    assert np.array_equal(newest.iloc[:, 2:].to_numpy(), values)


def test_without_enough_history_nothing_is_said(walk):
    bars = walk(SMALL.lookback)
    assert 0 == len(table(SMALL, bars))
    units, values = last_row(SMALL, bars)
    assert ((), (0, 3)) == (units, values.shape)
    assert ((), (0, 3)) == (last_row(SMALL, bars.head(0))[0], last_row(SMALL, bars.head(0))[1].shape)


def test_the_order_of_the_rows_does_not_matter(walk):
    bars = walk(60)
    assert _alike(table(SMALL, bars), table(SMALL, bars.sample(frac=1, random_state=1)))
    stirred = bars.sample(frac=1, random_state=1)
    assert np.array_equal(last_row(SMALL, bars)[1], last_row(SMALL, stirred)[1])


def test_the_market_is_summed_in_order_of_names_to_the_last_bit(walk):
    """Sums of floats depend on their order; this feature shows the bits that float32 would hide.

    Small returns are few multiples of 2**-53, whose sums are exact: only a wild market shows the order.
    """
    bits = Features(("bits",), 1, lambda m: np.mod(m, 1e-13) * 1e13, "market")
    strategy = replace(SMALL, features=(bits,))
    bars = walk(60, tuple("LKJIHGFEDCBA")).assign(close=lambda f: f.close**40)
    stirred = bars.sample(frac=1, random_state=1)

    assert _alike(table(strategy, bars), _streamed(strategy, stirred))
    assert _alike(table(strategy, stirred), _streamed(strategy, bars))


def test_the_input_is_left_alone(walk):
    bars = walk(60)
    table(SMALL, bars)
    pd.testing.assert_frame_equal(walk(60), bars)


MINUTE = pd.Timedelta("1min")


def test_no_feature_is_made_of_a_bar_that_came_after_the_decision(walk):
    """BBB's bar 20 arrives three days late: whatever it says, no row of features is another one."""
    bars = walk(40)
    late = (bars.symbol == "BBB") & (bars.event_time == bars.event_time.unique()[20])
    bars.loc[late, "known_at"] += pd.Timedelta("3D")
    other = bars.assign(close=bars.close.where(~late, 7.0))

    found = table(SMALL, in_time(bars, MINUTE))
    assert _alike(found, table(SMALL, in_time(other, MINUTE)))
    assert _alike(found, _streamed(SMALL, in_time(bars, MINUTE)))  # as a bot saw it
    assert not ((found.unit == "BBB") & (found.event_time == bars.event_time[late].iloc[0])).any()
    assert bars is in_time(bars, pd.Timedelta("3D"))


def test_a_feed_that_is_always_later_than_the_bot_decides_is_refused(walk):
    bars = walk(40)
    slow = bars.assign(known_at=bars.known_at + pd.Timedelta("15min"))
    refuse_late(slow, pd.Timedelta("15min"))
    with pytest.raises(DataError, match="known within 0 days 00:01:00 .* got 0 days 00:15:00 .* Set train.bar_delay_s"):
        refuse_late(slow, MINUTE)
