"""The model that is shown: one average for all books, judged as it would have been."""

import numpy as np
import pytest

from mlops.compute import Compute
from mlops.errors import DataError
from mlops.risk.var.backtest import judge
from mlops.risk.var.fitted import fit
from mlops.risk.var.forecasts import averaged, walk, walk_over
from mlops.risk.var.selection import COMPARED, DEFAULT, SHORT, names_for, track_record
from mlops.types import Level


def garch(n, seed=0):
    rng = np.random.default_rng(seed)
    variance, out = 1.0, np.empty(n)
    for i, z in enumerate(rng.standard_t(6, n) * np.sqrt(4 / 6)):
        out[i] = np.sqrt(variance) * z
        variance = 0.06 + 0.09 * out[i] ** 2 + 0.85 * variance
    return 0.01 * out


@pytest.fixture(scope="module")
def past():
    return garch(900)


def test_the_record_is_the_average_walked_beside_the_others(past):
    track = track_record(past, 260)

    walked = walk(DEFAULT, past, 640)
    assert DEFAULT == track.names
    np.testing.assert_allclose(averaged([walked[name] for name in DEFAULT]).var, track.forecasts.var, rtol=1e-12)
    assert set(COMPARED) == set(track.others)
    assert {"default", *COMPARED} == set(track.scores(past))
    assert track.scores(past)["default"] < track.scores(past)["historical"]


def test_more_history_than_a_model_looks_at_changes_no_forecast():
    long = garch(3200, seed=3)
    job, all_bars = track_record(long[-2260:], 260, refit=130), track_record(long, 260, refit=130)

    np.testing.assert_allclose(job.forecasts.var, all_bars.forecasts.var, rtol=1e-6)


@pytest.mark.parametrize(
    ("bars", "names"), [(2000, DEFAULT), (250, DEFAULT), (249, SHORT[:1]), (80, SHORT[1:2]), (40, SHORT[2:])]
)
def test_a_short_past_is_shown_by_the_first_model_that_it_suffices_for(bars, names):
    assert names == names_for(bars)
    assert np.isfinite(fit(names_for(bars), garch(bars)).now(garch(bars)).es).all()


def test_what_is_judged_is_the_second_half_at_most_and_nothing_of_too_few():
    assert 100 == len(track_record(garch(200)).forecasts.var)
    assert SHORT[:1] == track_record(garch(200)).names
    assert track_record(garch(58)) is None
    assert 700 == len(track_record(garch(2700), 700, compared=(), refit=700).forecasts.var)
    with pytest.raises(DataError):
        track_record([0.1, np.nan])


def test_several_bars_are_forecast_from_before_them_and_judged_against_their_own(past):
    track = track_record(past, 300, horizon=20)

    forecasts = track.forecasts
    assert (15, 20, {}) == (len(forecasts.var), forecasts.horizon, dict(track.others))
    expected = [np.prod(1 + past[600 + 20 * k : 620 + 20 * k]) - 1 for k in range(15)]
    np.testing.assert_allclose(expected, forecasts.realised(past))
    assert 15 == judge(past, forecasts).n
    assert Level.UNKNOWN == judge(past, forecasts).level
    changed = past.copy()
    changed[700:] *= -3
    np.testing.assert_array_equal(forecasts.var[:5], track_record(changed, 300, horizon=20).forecasts.var[:5])


def test_bars_that_fill_no_window_are_left_out(past):
    forecasts = walk_over(["fhs_ewma"], past[:650], 600, 20, (0.99,), rng=np.random.default_rng(0), paths=500)

    assert (2, 2) == (len(forecasts.var), len(forecasts.realised(past[:650])))
    assert (forecasts.es >= forecasts.var).all()


def test_ten_bars_are_covered_as_often_as_they_should():
    long = garch(6000, seed=5)
    forecasts = walk_over(["fhs_ewma"], long, 1000, 10, (0.95,), rng=np.random.default_rng(0), refit=500, paths=1000)

    beyond = (forecasts.realised(long) < -forecasts.var[:, 0]).sum()
    assert 12 <= beyond <= 40  # 25 of 500 due


def test_a_book_that_stands_still_is_judged_by_nothing_and_costs_no_job():
    track = track_record(np.zeros(400), 100, horizon=5)

    assert Level.UNKNOWN == judge(np.zeros(400), track.forecasts).level
    assert {} == track_record(np.zeros(400), 100).scores(np.zeros(400))


def test_workers_do_not_change_a_track_record(past):
    one, two = (track_record(past[-700:], 40, refit=20, compute=Compute(n)) for n in (1, 2))
    assert one.forecasts.var.tobytes() == two.forecasts.var.tobytes()
    assert all(one.others[name].es.tobytes() == two.others[name].es.tobytes() for name in one.others)
