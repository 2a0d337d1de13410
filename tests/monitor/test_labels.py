import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.monitor import label_change, label_mixture
from mlops.types import Level


def _scored(bars, rate, *, start="2000-01-01", units=1, seed=0):
    """Predictions that come true with chance `rate`."""
    rng = np.random.default_rng(seed)
    probability = rng.choice([0.3, 0.7], bars * units)
    right = rng.random(bars * units) < rate
    times = np.repeat(pd.date_range(start, periods=bars, tz="UTC"), units)
    label = np.where(right, probability > 0.5, probability < 0.5).astype(float)
    unit = np.tile([f"U{i}" for i in range(units)], bars)
    return pd.DataFrame({"event_time": times, "unit": unit, "probability": probability, "label": label})


NOW = pd.concat([_scored(300, 0.6, seed=8), _scored(600, 0.4, start="2001-06-01", seed=9)])
PANEL = _scored(1500, 0.66, units=20)
LOOKS = (label_change, label_mixture)


def test_one_stream_of_labels_is_charted_and_states_what_its_baseline_is_worth():
    long, short = (label_change(_scored(n, 0.6), NOW, horizon=1) for n in (10_000, 400))
    assert {Level.ALERT} == {long.level, short.level}
    assert "2001" == long.params["alarm_at"][:4]
    assert short.params["rate_high"] > long.params["rate_high"] > 1 > long.params["rate_low"] > short.params["rate_low"]
    assert short.limit > long.limit


def test_labels_that_span_bars_count_for_less():
    baseline, now = _scored(2000, 0.6), _scored(500, 0.6, seed=8)
    assert 400 == label_change(baseline, now, horizon=5).params["baseline_labels"]
    assert Level.UNKNOWN is label_change(baseline, now, horizon=21).level
    with pytest.raises(DataError, match="baseline must have one row a bar"):
        label_change(PANEL, now, horizon=1)


def test_a_baseline_under_ten_thousand_labels_says_that_it_does_not_pin_the_rate():
    long, short = (label_change(_scored(n, 0.6), NOW, horizon=1) for n in (10_000, 400))
    assert "400 labels do not pin it" in short.note
    assert "pin" not in long.note
    assert 1000 > short.params["delay_bars"] > long.params["delay_bars"] > 30


def test_the_mixture_is_held_against_what_a_short_baseline_leaves_possible():
    long, short = (label_mixture(_scored(n, 0.6), NOW, horizon=1) for n in (10_000, 400))
    assert {Level.ALERT} == {long.level, short.level}
    assert short.params["held_against"] < long.params["held_against"] < long.params["baseline"]
    assert long.params["alarm_at"] < short.params["alarm_at"]
    assert np.log(252) == pytest.approx(long.limit)
    assert np.log(2520) == pytest.approx(label_mixture(PANEL, NOW, horizon=1, false_alarms_per_year=0.1, seed=7).limit)


@pytest.mark.parametrize("look", LOOKS)
def test_of_a_panel_one_label_a_bar_is_charted_and_every_look_draws_the_same(look):
    good, bad = (
        _scored(100, 0.66, start="2005-01-01", units=20, seed=3),
        _scored(900, 0.4, start="2005-05-01", units=20, seed=4),
    )
    all_of_it = pd.concat([good, bad])
    early, late = (look(PANEL, rows, horizon=5, seed=7) for rows in (all_of_it[: 20 * 800], all_of_it))
    assert (800, 1000) == (early.n, late.n)
    assert early.params["alarm_at"] == late.params["alarm_at"] > "2005-05-01"
    shuffled = look(PANEL.sample(frac=1, random_state=1), all_of_it.sample(frac=1, random_state=2), horizon=5, seed=7)
    assert late.value == shuffled.value
    assert late != look(PANEL, all_of_it, horizon=5, seed=8)


@pytest.mark.parametrize("look", LOOKS)
def test_a_healthy_panel_is_quiet_and_too_little_of_it_unknown(look):
    now = _scored(120, 0.66, start="2005-01-01", units=20, seed=5)
    assert Level.OK is look(PANEL, now, horizon=5, false_alarms_per_year=0.25, seed=7).level
    for past, rows in ((PANEL[: 20 * 499], now), (PANEL, now[: 20 * 49]), (PANEL[:0], now), (PANEL, now[:0])):
        finding = look(past, rows, horizon=5, seed=7)
        assert Level.UNKNOWN is finding.level
        assert "500 of both kinds and 50 needed" in finding.note


def test_the_draw_takes_every_unit_as_often():
    from mlops.monitor.labels import _stream

    rows = _scored(4000, 1.0, units=4).assign(label=lambda f: ((f.probability > 0.5) == (f.unit != "U2")).astype(float))
    assert 0.75 == pytest.approx(_stream(rows, "rows", 7).right.mean(), abs=3 * np.sqrt(0.75 * 0.25 / 4000))
