"""Walk-forward folds: nobody learns from what was not yet known."""

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from mlops.errors import DataError, LeakError
from mlops.learn.splits import Scheme, refuse_overlap, walk_forward


def _rows(bars=100, units=3, horizon=5, gap=()):
    """`units` rows a bar; unit 0 misses the bars in `gap`, so that its labels are known later."""
    times = pd.date_range("2020-01-01", periods=bars + horizon, tz="UTC")
    parts = []
    for unit in range(units):
        own = times.delete(list(gap)) if unit == 0 else times
        parts.append(pd.DataFrame({"event_time": own, "unit": unit, "known_at": pd.Series(own).shift(-horizon)}))
    return pd.concat(parts).dropna().sort_values(["event_time", "unit"], ignore_index=True)


def test_each_fold_learns_from_the_past_and_tests_on_what_follows():
    rows = _rows()
    folds = walk_forward(rows, folds=4, horizon=5, embargo=3)

    assert 4 == len(folds)
    for fold in folds:
        train, test = rows.iloc[fold.train], rows.iloc[fold.test]
        left_out = rows[(rows.event_time > train.event_time.max()) & (rows.event_time < test.event_time.min())]
        assert 8 == left_out.event_time.nunique()
        assert train.known_at.max() < test.event_time.min()
        assert rows.event_time.min() == train.event_time.min()
    assert len(rows) - 1 == folds[-1].test[-1]
    assert all(a.test[-1] + 1 == b.test[0] for a, b in zip(folds, folds[1:], strict=False))


def test_all_units_of_a_bar_are_on_the_same_side():
    rows = _rows()
    for fold in walk_forward(rows, folds=3, horizon=5, embargo=0):
        for part in (fold.train, fold.test):
            assert {3} == set(rows.iloc[part].groupby("event_time").size())


@settings(max_examples=60, deadline=None)
@given(some.integers(2, 6), some.integers(1, 10), some.integers(0, 10), some.integers(154, 220), some.integers(0, 30))
def test_no_label_of_a_training_row_is_known_after_its_test_began(folds, horizon, embargo, bars, missing):
    """Also where a symbol pauses: its last label before the pause is known only after it."""
    rows = _rows(bars, 2, horizon, gap=range(bars // 2 - missing // 2, bars // 2 - missing // 2 + missing))
    for fold in walk_forward(rows, folds=folds, horizon=horizon, embargo=embargo):
        assert len(fold.train)
        assert rows.known_at.iloc[fold.train].max() < rows.event_time.iloc[fold.test].min()
        assert not set(fold.train) & set(fold.test)


def test_a_symbol_that_pauses_costs_its_own_rows_only():
    """One of three has no bars 45 to 74. The third of four folds tests from bar 60 and learns from bars to 49.

    Its last labels, of bars 40 to 44, are known from bar 75 on: too late for the third, in time for the fourth.
    """
    rows = _rows(gap=range(45, 75))
    paused, whole = (
        walk_forward(rows, folds=4, horizon=5, embargo=5),
        walk_forward(_rows(), folds=4, horizon=5, embargo=5),
    )

    assert 4 == len(paused)
    counts = [[rows.iloc[fold.train].unit.value_counts()[unit] for unit in range(3)] for fold in paused]
    expected = [len(fold.train) // 3 for fold in whole]
    assert expected == [count[1] for count in counts] == [count[2] for count in counts]
    assert [10, 30, 40, 45] == [count[0] for count in counts]


def test_an_overlapping_split_is_refused():
    days = pd.Series(pd.date_range("2020-01-01", periods=10, tz="UTC"))
    refuse_overlap(days[:5], days[5:])
    with pytest.raises(LeakError, match=r"must be known before the test begins \(2020-01-05.*got 2020-01-05.*Purge"):
        refuse_overlap(days[:5], days[4:])


def test_too_few_bars_for_so_many_folds_is_refused_with_what_is_needed():
    least = (5 + 1) * (5 + 5 + 2)
    assert 5 == len(walk_forward(_rows(least), folds=5, horizon=5, embargo=5))
    with pytest.raises(DataError, match=f"at least {least} bars for 5 folds, got {least - 1}. Take fewer folds"):
        walk_forward(_rows(least - 1), folds=5, horizon=5, embargo=5)


def test_a_horizon_that_is_too_short_for_the_labels_is_purged_by_when_they_were_known():
    rows = _rows(horizon=20)
    for fold in walk_forward(rows, folds=3, horizon=1, embargo=0):
        assert rows.known_at.iloc[fold.train].max() < rows.event_time.iloc[fold.test].min()


def test_labels_that_are_all_known_too_late_are_refused():
    rows = _rows().assign(known_at=lambda f: f.event_time.max())
    with pytest.raises(DataError, match="must be known before the test begins .* got none"):
        walk_forward(rows, folds=3, horizon=1, embargo=0)


SCHEME = Scheme(folds=4, horizon=5, embargo=3, share=0.2, least=40, most=400, remain=80)


@pytest.mark.parametrize(("bars", "length"), [(200, 40), (300, 60), (3000, 400)])
def test_the_newest_bars_are_held_out_from_the_search(bars, length):
    rows = _rows(bars)
    split = SCHEME.split(rows)

    block = rows.iloc[split.held_out[0].test[0] :]
    assert length == block.event_time.nunique()
    assert [len(rows) - len(block) + i for i in range(len(block))] == [i for f in split.held_out for i in f.test]
    for fold in split.search:
        for part in (fold.train, fold.test):
            assert rows.known_at.iloc[part].max() < block.event_time.min()
        left_out = rows[
            (rows.event_time > rows.event_time.iloc[fold.test[-1]])
            & (rows.event_time < block.event_time[block.index[0]])
        ]
        assert left_out.event_time.nunique() >= 8
    for fold in split.held_out:  # each is a model of all that was known before it
        assert rows.known_at.iloc[fold.train].max() < rows.event_time.iloc[fold.test].min()
    assert split.held_out[-1].train[-1] >= block.index[0]


def test_a_label_that_came_late_is_not_searched_on():
    """The label of bar 100 came 90 bars later, within the block."""
    rows = _rows(300, units=1)
    rows.loc[100, "known_at"] = rows.event_time[290]
    split = SCHEME.split(rows)
    assert not any(100 in part for fold in split.search for part in (fold.train, fold.test))
    assert not any(100 in fold.train for fold in split.held_out)


def test_too_short_a_history_holds_nothing_out_and_says_what_it_takes():
    needed = SCHEME.bars_needed
    short, enough = SCHEME.split(_rows(needed - 1)), SCHEME.split(_rows(needed))

    assert 40 + 8 + 80 == needed
    assert [] == short.held_out
    assert SCHEME.folds == len(short.search) == len(enough.held_out) == len(enough.search)
    assert len(_rows(needed - 1)) - 1 == short.search[-1].test[-1]
    assert 48 + 12 + 100 == Scheme(4, 7, 5, 0.3, 30, 400, 100).bars_needed  # three tenths are more than the least
