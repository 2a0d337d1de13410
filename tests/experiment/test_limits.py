import numpy as np
import pandas as pd
import pytest

from mlops.experiment.limits import Limits, book_limits, previous_limits, scoring_limits
from mlops.types import Level

LIMITS = Limits(drawdown=0.15, loss=0.10, error_rate=0.02, latency_s=1.0, failures=3, least_scorings=50)


def _returns(*values):
    return pd.Series(values, pd.date_range("2007-01-01", periods=len(values), tz="UTC"), dtype=np.float64)


def _scorings(n=100, *, failed=(), seconds=0.01, slow=0):
    frame = pd.DataFrame(
        {"event_time": pd.date_range("2007-01-01", periods=n, tz="UTC"), "seconds": seconds, "failed": False}
    )
    frame.loc[list(failed), "failed"] = True
    frame.loc[: slow - 1, "seconds"] = 5.0
    return frame.sample(frac=1, random_state=1)


def _levels(findings):
    return {f.name: f.level for f in findings}


def test_a_fall_from_the_peak_and_a_fall_from_the_start_are_two_lines():
    up_and_down = book_limits(_returns(0.5, -0.2), LIMITS)
    assert {"limit_drawdown": Level.ALERT, "limit_loss": Level.OK} == _levels(up_and_down)
    assert [pytest.approx(0.2), pytest.approx(-0.2)] == [f.value for f in up_and_down]
    assert {"limit_drawdown": Level.OK, "limit_loss": Level.ALERT} == _levels(book_limits(_returns(-0.101), LIMITS))


def test_a_line_is_crossed_over_it_and_not_on_it():
    exact = Limits(drawdown=0.25, loss=0.25)
    assert {Level.OK} == set(_levels(book_limits(_returns(-0.25), exact)).values())
    assert {Level.ALERT} == set(_levels(book_limits(_returns(-0.2500001), exact)).values())


def test_no_bar_yet_is_unknown():
    assert {Level.UNKNOWN} == set(_levels(book_limits(_returns(), LIMITS)).values())
    assert {Level.UNKNOWN} == set(_levels(scoring_limits(_scorings(0), LIMITS)).values())


def test_failures_in_a_row_count_up_to_now_only():
    assert Level.ALERT is _levels(scoring_limits(_scorings(failed=[97, 98, 99]), LIMITS))["limit_failures"]
    assert Level.OK is _levels(scoring_limits(_scorings(failed=[96, 97, 98]), LIMITS))["limit_failures"]
    few = scoring_limits(_scorings(3, failed=[0, 1, 2]), LIMITS)
    assert Level.ALERT is _levels(few)["limit_failures"]


def test_rates_and_latency_wait_for_enough_bars_and_a_failed_bar_has_no_latency():
    assert {"limit_failures": Level.OK, "limit_error_rate": Level.UNKNOWN, "limit_latency": Level.UNKNOWN} == _levels(
        scoring_limits(_scorings(49, failed=range(20)), LIMITS)
    )
    assert Level.ALERT is _levels(scoring_limits(_scorings(failed=[1, 20, 40]), LIMITS))["limit_error_rate"]
    assert Level.OK is _levels(scoring_limits(_scorings(failed=[1, 20]), LIMITS))["limit_error_rate"]
    assert Level.ALERT is _levels(scoring_limits(_scorings(slow=2), LIMITS))["limit_latency"]
    assert Level.OK is _levels(scoring_limits(_scorings(slow=2, failed=[0, 1]), LIMITS))["limit_latency"]


def test_the_champion_before_is_held_against_half_of_the_fall_on_the_bars_that_both_have():
    champion = _returns(0.1, -0.2, -0.1)
    found = previous_limits(champion, _returns(0.0, -0.11), subject="before")
    assert [("limit_drawdown", Level.ALERT), ("limit_loss", Level.ALERT)] == [(f.name, f.level) for f in found]
    assert [pytest.approx(0.1), pytest.approx(0.06)] == [f.limit for f in found]
    better = previous_limits(champion, _returns(0.0, -0.05), subject="before")
    assert {Level.OK} == set(_levels(better).values())
    assert () == previous_limits(_returns(0.1, 0.1), _returns(-0.5, -0.5), subject="before")
    assert () == previous_limits(champion, _returns(), subject="before")
