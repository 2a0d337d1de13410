"""Which quotes are prices: what a spike, a level, a split and a wide quote do to the mark."""

import math
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops.risk.prices import FILL, Mark, Observation, Trust, assess, price, split_ratio

T0, SECOND = datetime(2026, 3, 2, 15, tzinfo=UTC), timedelta(seconds=1)
MARK, TRUST = Mark(100.0, T0), Trust()
GAPS = st.lists(st.integers(100, 3000), min_size=1, max_size=40)  # milliseconds between quotes
LEVELS = st.floats(1.0, 1e4).filter(lambda x: abs(x / 100 - 1) > 0.02 and math.isnan(split_ratio(100.0, x)))


def quotes(prices, gaps, start=T0):
    at, told = start, []
    for value, gap in zip(prices, gaps, strict=False):
        at += timedelta(milliseconds=gap)
        told.append(Observation(at, value, value))
    return told


def followed(told, mark=MARK, trust=TRUST, every=1):
    """The marks of a reader that looks at each `every`-th quote, and only keeps the mark between looks."""
    marks = []
    for end in range(every, len(told) + 1, every):
        found = assess(mark, [one for one in told[:end] if one.at > mark.at], trust)
        mark = found.mark
        marks.append(found)
    return marks


@given(st.floats(1e-6, 1e9), st.integers(1, 4900), GAPS)
def test_a_spike_of_any_size_that_is_shorter_than_the_time_of_confirmation_moves_no_mark(height, long, gaps):
    spike = [Observation(T0 + timedelta(milliseconds=ms), height, height) for ms in (1, long + 1)]
    rest = quotes([100.0] * len(gaps), gaps, spike[-1].at)

    for found in followed([*spike, *rest]):
        assert abs(found.mark.value / 100 - 1) <= TRUST.floor
    assert found.jump is None


def covered(told):
    """How long quotes have stood, a silence as half of the time of confirmation at most."""
    gaps = (after.at - before.at for before, after in pairwise(told))
    return sum((min(gap, TRUST.confirm / 2) for gap in gaps), timedelta(0))


@given(LEVELS, GAPS, st.integers(1, 3))
def test_a_level_that_stands_for_the_time_of_confirmation_is_the_mark_and_not_before(level, gaps, every):
    told = quotes([level] * len(gaps), gaps)

    for end, found in zip(range(every, len(told) + 1, every), followed(told, every=every), strict=True):
        stood = covered(told[:end]) >= TRUST.confirm
        assert (level if stood else 100.0) == found.mark.value
        assert stood == (found.jump is None)


@given(st.lists(st.floats(1.0, 1000.0), min_size=1, max_size=30), GAPS, st.integers(1, 4))
def test_a_mark_is_a_price_that_was_seen_and_what_is_newer_and_is_not_it_is_told(prices, gaps, every):
    told = quotes(prices, gaps)

    for end, found in zip(range(every, len(told) + 1, every), followed(told, every=every), strict=False):
        seen = told[:end]
        assert found.mark.value in {100.0, *(one.bid for one in seen)}
        newest = found.mark.value if found.jump is None else found.jump.value
        assert newest == seen[-1].bid


@given(st.lists(st.floats(1.0, 1000.0), min_size=1, max_size=30), GAPS)
def test_no_mark_moves_further_at_once_than_the_least_that_stood(prices, gaps):
    mark, told = MARK, quotes(prices, gaps)
    for end in range(1, len(told) + 1):
        seen = told[:end]
        after = assess(mark, [one for one in seen if one.at > mark.at], TRUST).mark
        window = [one.bid for one in seen if seen[-1].at - one.at < TRUST.confirm]
        usual = TRUST.usual(seen[-1].at - mark.at) * mark.value
        low, high = min(mark.value - usual, *window, after.value), max(mark.value + usual, *window, after.value)
        assert low <= after.value <= high
        if seen[-1].at - told[0].at < TRUST.confirm:
            most = TRUST.floor + TRUST.sigmas * TRUST.volatility * math.sqrt(1 / 86_400) * 10
            assert abs(after.value / mark.value - 1) <= most
        mark = after


@pytest.mark.parametrize(
    ("bid", "ask", "expected"),
    [
        (99.0, 101.0, 100.0),
        (0.01, 150.0, math.nan),
        (0.01, 90.0, 90.0),
        (120.0, 400.0, 120.0),
        (0.0, 150.0, math.nan),
        (0.0, 80.0, 80.0),
        (-1.0, -0.5, math.nan),
        (101.0, 99.0, math.nan),
        (math.nan, 100.0, math.nan),
        (100.0, math.inf, math.nan),
    ],
)
def test_a_wide_or_one_sided_quote_is_a_range_and_a_broken_one_is_nothing(bid, ask, expected):
    assert pytest.approx(expected, nan_ok=True) == price(Observation(T0, bid, ask), MARK, TRUST)


def test_a_future_may_be_quoted_below_zero_and_a_share_may_not():
    seen = Observation(T0, -37.7, -37.6)

    assert -37.65 == pytest.approx(price(seen, MARK, Trust(signed=True)))
    assert math.isnan(price(seen, MARK, TRUST))


def test_near_zero_a_share_of_the_level_is_a_usual_move_and_a_usual_spread():
    near = Trust(signed=True, level=20.0)
    path = [0.15, 0.05, -0.04, 0.0, 0.1, -0.02]
    told = [Observation(T0 + i * SECOND, level - 0.02, level + 0.03) for i, level in enumerate(path, 1)]

    mark = Mark(0.2, T0)
    for i, one in enumerate(told):
        found = assess(mark, [one], near)
        assert (path[i] + 0.005, None, None) == (pytest.approx(found.mark.value), found.jump, found.unusable)
        mark = found.mark
    assert assess(mark, [Observation(T0 + 9 * SECOND, -5.0, -4.9)], near).jump is not None
    assert assess(Mark(0.2, T0), told[:3], Trust(signed=True)).mark == Mark(0.2, T0), "by its own share it is a jump"


@pytest.mark.parametrize("level", [3.0, 0.01, 0.0])
def test_a_fall_through_zero_is_a_jump_until_it_stands_and_a_cut_in_half_of_a_future_is_no_split(level):
    near, down = Trust(signed=True, splits=False, level=3.0), quotes([-37.0] * 7, [1000] * 7)

    assert (level, -37.0) == (lambda found: (found.mark.value, found.jump.value))(
        assess(Mark(level, T0), down[:2], near)
    )
    assert -37.0 == assess(Mark(level, T0), down, near).mark.value
    assert -74.0 == assess(Mark(-37.0, T0), quotes([-74.0] * 7, [1000] * 7), near).mark.value


def test_the_first_price_is_taken_as_it_is_and_a_first_quote_that_is_wide_is_none():
    assert 100.0 == assess(None, [Observation(T0, 100.0, 100.0)], TRUST).mark.value
    found = assess(None, [Observation(T0, 1.0, 100.0)], TRUST)
    assert (None, None) == (found.mark, found.jump)
    assert found.unusable.bid == 1.0


def test_quotes_that_say_nothing_neither_confirm_nor_contradict():
    stub = (0.01, 1e5)
    told = [Observation(T0 + i * SECOND, *(stub if i % 2 else (80.0, 80.0))) for i in range(1, 10)]

    assert 100.0 == assess(MARK, told[:5], TRUST).mark.value
    assert 80.0 == assess(MARK, told, TRUST).mark.value


@pytest.mark.parametrize("n", range(2, 21))
@pytest.mark.parametrize("reverse", [False, True])
def test_each_ratio_of_splits_is_seen_either_way_and_is_never_confirmed_by_quotes_or_fills(n, reverse):
    level = 100.0 * n if reverse else 100.0 / n
    told = [*quotes([level] * 100, [1000] * 100), Observation(T0 + 101 * SECOND, level, level, FILL)]

    found = assess(MARK, told, TRUST)

    assert MARK == found.mark
    assert found.jump.sustained
    assert (1 / n if reverse else n) == pytest.approx(found.jump.split)
    assert level == assess(MARK, told, Trust(splits=False)).mark.value


@pytest.mark.parametrize("fall", [0.45, 0.40, 0.30, 0.20, 0.10])
def test_a_crash_is_no_split(fall):
    assert math.isnan(split_ratio(100.0, 100.0 * (1 - fall)))


def test_a_fill_and_a_quote_that_agree_confirm_and_that_do_not_agree_confirm_nothing():
    told = [Observation(T0 + SECOND, 80.0, 80.1), Observation(T0 + 2 * SECOND, 80.2, 80.2, FILL)]
    other = Observation(T0 + 2 * SECOND, 60.0, 60.0, FILL)

    assert 80.2 == assess(MARK, told, TRUST).mark.value
    assert 100.0 == assess(MARK, [told[0], other], TRUST).mark.value
    assert 100.0 == assess(MARK, told[1:], TRUST).mark.value


def test_a_larger_move_is_usual_of_a_wilder_unit_and_after_minutes_but_not_after_a_pause():
    wild = Trust(volatility=0.1)

    assert 0.01 == TRUST.usual(SECOND) == TRUST.usual(timedelta(days=3)) == TRUST.usual(timedelta(days=700))
    assert 0.01 < wild.usual(timedelta(minutes=2)) < wild.usual(timedelta(minutes=5)) < 0.03
    assert wild.usual(timedelta(minutes=5)) == wild.usual(timedelta(days=7))


@pytest.mark.parametrize("level", [86.0, 116.0])
def test_one_quote_after_a_weekend_is_not_believed_and_a_gap_is_once_its_quotes_have_stood(level):
    told = quotes([level] * 6, [1000] * 6, T0 + timedelta(days=3))

    assert 100.0 == assess(MARK, told[:1], TRUST).mark.value
    assert 100.0 == assess(MARK, told[:5], TRUST).mark.value
    assert level == assess(MARK, told, TRUST).mark.value


@pytest.mark.parametrize(("gaps", "stood"), [([6], False), ([60], False), ([0, 6], False), ([6, 6], True)])
def test_quotes_with_silence_between_them_confirm_nothing_until_there_are_three(gaps, stood):
    told = quotes([70.0] * (len(gaps) + 1), [1000, *(1000 * gap for gap in gaps)])

    assert (70.0 if stood else 100.0) == assess(MARK, told, TRUST).mark.value
