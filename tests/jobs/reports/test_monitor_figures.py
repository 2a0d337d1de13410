"""What a look draws: what moved, or all of it when asked; and what the pictures say."""

from datetime import UTC, datetime
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from jobs import monitor
from jobs.reports import monitor_figures
from jobs.reports.evidently import When
from mlops import monitor as room
from mlops.plots import evidence, svg
from mlops.settings import Settings
from mlops.types import Decision, Finding, Level, ModelRef, Report, Verdict

CHAMPION, AT = ModelRef("volatility", 1), datetime(2008, 10, 10, 22, tzinfo=UTC)


def _rows(bars, start, seed, truth=1.0):
    rng = np.random.default_rng(seed)
    n = bars * 10
    logit = rng.normal(0, 0.8, n)
    times = pd.date_range(start, periods=bars, tz="UTC").repeat(10)
    label = (rng.random(n) < 1 / (1 + np.exp(-truth * logit))).astype(float)
    return pd.DataFrame({"event_time": times, "probability": 1 / (1 + np.exp(-logit)), "label": label})


PAST, NOW = _rows(800, "2004-01-01", 0), _rows(120, "2008-06-01", 1)
SEEN = monitor_figures.Windows(PAST, NOW, 1000, 0.55)
QUIET = (
    *(Finding(name, 0.05, 0.1, Level.OK, 50, {"p_adjusted": 0.9}, subject="trend") for name in ("ks", "psi")),
    Finding("chi_square", 0.0, 0.3, Level.UNKNOWN, 5, subject="flag"),
    room.ageing(NOW),
    Finding("calibration_ece", 0.02, 0.05, Level.OK, 50),
)


def _with(*loud):
    names = {(f.name, f.subject) for f in loud}
    return Report(CHAMPION, AT, (*(f for f in QUIET if (f.name, f.subject) not in names), *loud))


def _alert(name, subject="", value=0.3):
    return Finding(name, value, 0.1, Level.ALERT, 50, {"p_adjusted": 0.01} if subject else {}, subject)


@pytest.mark.parametrize(
    ("loud", "drawn"),
    [
        ((), set()),
        ((_alert("ks", "trend"),), {"feature_drift"}),
        ((_alert("calibration_ece"),), {"calibration"}),
        ((_alert("decay_log_loss"),), {"age"}),
        ((_alert("error_segment", "unit JPM"),), {"error_segments"}),
    ],
)
def test_only_what_moved_is_drawn(loud, drawn):
    assert drawn == monitor_figures.figures(_with(*loud), SEEN).keys()


def test_all_of_it_is_drawn_when_asked_and_nothing_where_there_is_nothing():
    assert {"feature_drift", "calibration", "age"} == monitor_figures.figures(_with(), SEEN, everything=True).keys()
    empty = monitor_figures.Windows(PAST, NOW[:0], 1000, 0.55)
    unknown = Report(CHAMPION, AT, (QUIET[2], Finding("ageing", 0.0, 0.0, Level.UNKNOWN, 0)))
    assert {} == monitor_figures.figures(unknown, empty, everything=True)
    assert {"calibration"} == monitor_figures.figures(unknown, SEEN, everything=True).keys()


def test_the_map_of_drift_has_every_detector_and_marks_what_chance_does_not_explain():
    found = [*QUIET[:2], _alert("ks", "noise", 0.15), _alert("psi", "noise", 0.4)]
    axes = evidence.drift(found, "drift").axes[0]
    assert ["noise", "trend"] == [label.get_text() for label in axes.get_yticklabels()]
    assert ["ks", "psi"] == [label.get_text() for label in axes.get_xticklabels()]
    texts = {text.get_text(): text.get_weight() for text in axes.texts}
    assert {"0.15": "bold", "0.40": "bold", "0.05": "normal"} == texts
    shade = axes.images[0].get_array()
    assert [1.5, 2.0] == pytest.approx(shade[0].tolist())
    assert shade[1].mask.all()


def test_the_reliability_curve_is_that_of_the_rows():
    figure = monitor_figures._calibration(SEEN, "title")
    lines = {line.get_label(): line.get_xydata() for line in figure.axes[0].lines}
    expected = room.reliability(NOW.tail(1000))[["probability", "label"]].to_numpy()
    assert np.array_equal(expected, lines["last 1,000 matured"])
    assert "validation" in lines


def test_the_age_has_a_line_for_each_quarter_and_the_validation():
    ageing = QUIET[3]
    axes = monitor_figures._age(SEEN, ageing, "title").axes[0]
    heights = sorted(round(float(c.get_segments()[0][0][1]), 4) for c in axes.collections)
    assert sorted(ageing.params["curve"]) == heights
    assert 120 == len(axes.lines[0].get_xdata())


@pytest.mark.parametrize(
    ("page", "week", "verdict", "drawn"),
    [
        (When.DRIFTED, 41, Verdict.HOLD, True),
        (When.NEVER, 41, Verdict.HOLD, False),
        (When.NEVER, 40, Verdict.HOLD, True),
        (When.NEVER, 41, Verdict.RETRAIN, True),
    ],
)
def test_a_replay_draws_every_fourth_week_and_each_verdict(page, week, verdict, drawn):
    context = SimpleNamespace(settings=Settings())
    at = datetime.fromisocalendar(2008, week, 5).replace(tzinfo=UTC)
    report = Report(CHAMPION, at, _with(_alert("ks", "trend")).findings)
    made = monitor._drawn(context, page, report, Decision(verdict, CHAMPION), PAST, NOW)
    assert drawn == bool(made)


def test_a_name_is_text_in_every_picture():
    hostile = "$\\frac{</script><img src=x onerror=alert(1)>"
    curve = pd.DataFrame({"probability": [0.2, 0.8], "label": [0.3, 0.7]})

    picture = svg.reliability({hostile: curve})

    assert "<img" not in picture
    assert "&lt;img src=x" in picture
