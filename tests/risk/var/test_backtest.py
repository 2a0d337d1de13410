import json
from dataclasses import asdict

import numpy as np
import pytest

from mlops.errors import DataError
from mlops.risk.measures import Losses
from mlops.risk.var.backtest import basel_zone, findings, judge, judge_losses
from mlops.risk.var.forecasts import walk
from mlops.risk.var.scores import fz_losses, quantile_losses
from mlops.types import Level


def normal(n, scale=1.0):
    return Losses(np.full(n, 2.3263 * scale), np.full(n, 2.6652 * scale))


@pytest.fixture(scope="module")
def returns():
    return np.random.default_rng(11).normal(size=1000)


def test_a_right_model_passes_and_says_what_it_did(returns):
    found = judge_losses(returns, normal(1000), model="mine")
    assert Level.OK is found.level
    assert (returns < -2.3263).sum() == found.exceedances
    assert 10.0 == pytest.approx(found.expected)
    assert quantile_losses(returns, normal(1000).var, 0.99).mean() == found.quantile_loss
    assert fz_losses(returns, normal(1000), 0.99).mean() == found.fz
    assert all(found.adjusted[name] >= p for name, p in found.p_values.items())
    json.dumps(asdict(found))


@pytest.mark.parametrize("scale", [0.6, 2.0])
def test_a_model_that_is_too_low_or_too_high_is_red_and_says_why(returns, scale):
    found = judge_losses(returns, normal(1000, scale))
    assert Level.ALERT is found.level
    assert "kupiec" in found.note


def test_an_es_that_is_too_low_is_red_though_its_var_is_right():
    r = np.random.default_rng(1).standard_t(2.5, size=5000)
    var = np.full(5000, -np.quantile(r, 0.01))
    found = judge_losses(r, Losses(var, var * 1.02))
    assert "fails: shortfall" == found.note


def test_clusters_are_red_though_their_number_is_right():
    rng = np.random.default_rng(2)
    r = np.concatenate([rng.normal(0, 0.7, 900), rng.normal(0, 2.0, 100)])
    share = (r < -2.3263).mean()
    assert judge_losses(r, normal(1000, share**0 * np.quantile(-r, 0.99) / 2.3263)).level is Level.ALERT


@pytest.mark.parametrize(("confidence", "needed"), [(0.99, 250), (0.975, 100), (0.95, 50), (0.999, 2500)])
def test_too_few_forecasts_are_unknown_and_say_how_many_are_needed(confidence, needed):
    n = needed - 1
    found = judge_losses(np.zeros(n), normal(n), confidence)
    assert Level.UNKNOWN is found.level
    assert needed == found.n_needed
    assert f"{n} forecasts, {needed} needed" == found.note
    assert judge_losses(np.zeros(needed), normal(needed), confidence).level is not Level.UNKNOWN


def test_no_forecast_at_all_is_unknown_too():
    found = judge_losses([], normal(0))
    assert Level.UNKNOWN is found.level
    assert np.isnan(found.fz)
    assert "unknown" == found.zone


def test_the_zones_are_basels():
    assert ["green"] * 5 + ["yellow"] * 5 + ["red"] * 2 == [basel_zone(x, 250) for x in range(12)]


def test_a_yellow_year_warns_after_long_success():
    r = np.concatenate([np.random.default_rng(11).normal(size=1500), np.tile([0.1] * 49 + [-3.0], 5)])
    found = judge_losses(r, normal(r.size))
    assert "yellow" == found.zone
    assert 5 == found.recent
    assert Level.WARN is found.level


def test_the_better_of_two_gains(returns):
    found = judge_losses(returns, normal(1000), against=normal(1000, 1.5))
    assert found.gain > 0
    assert found.gain_p < 0.05
    assert 0.0 == judge_losses(returns, normal(1000), against=normal(1000)).gain


def test_bars_without_a_position_say_nothing(returns):
    found = judge_losses(np.zeros(300), Losses(np.zeros(300), np.zeros(300)))
    assert Level.UNKNOWN is found.level
    assert 0 == found.n
    flat = Losses(np.append(np.zeros(500), normal(1000).var), np.append(np.zeros(500), normal(1000).es))
    assert (
        judge_losses(returns, normal(1000)).p_values == judge_losses(np.append(np.zeros(500), returns), flat).p_values
    )


def test_walked_forecasts_are_judged_on_their_own_bars():
    r = np.random.default_rng(3).normal(0, 0.01, 900)
    walked = walk(["historical", "normal"], r, 600)
    found = judge(r, walked["historical"], 0.95, against=walked["normal"])
    assert 300 == found.n
    assert (r[600:] < -walked["historical"].at(0.95).var).sum() == found.exceedances
    assert np.isfinite(found.gain_p)


def test_the_same_forecasts_get_the_same_p_values(returns):
    assert judge_losses(returns, normal(1000), against=normal(1000, 2)) == judge_losses(
        returns, normal(1000), against=normal(1000, 2)
    )


def test_findings_tell_verdict_zone_and_every_test(returns):
    found = findings(judge_losses(returns, normal(1000, 0.6), model="mine"))
    names = ["var_backtest", "var_zone", "var_kupiec", "var_independence", "var_dynamic_quantile", "var_shortfall"]
    assert names == [f.name for f in found]
    assert {"mine 99 %"} == {f.subject for f in found}
    assert Level.ALERT is found[0].level
    assert 4.0 == found[1].limit
    assert Level.ALERT is found[2].level
    unknown = findings(judge_losses(returns[:100], normal(100)))
    assert {Level.UNKNOWN} == {f.level for f in unknown}


@pytest.mark.parametrize(
    ("losses", "match"),
    [
        (Losses(np.ones(9), np.ones(9)), "var must be 10 finite"),
        (Losses(np.ones(10), np.full(10, np.nan)), "es must be 10 finite"),
        (Losses(np.full(10, 2.0), np.ones(10)), "es must be at least the var"),
    ],
)
def test_forecasts_that_cannot_be_are_refused(losses, match):
    with pytest.raises(DataError, match=match):
        judge_losses(np.zeros(10), losses)


def test_an_outcome_that_is_not_known_is_refused():
    with pytest.raises(DataError, match="realised must be finite"):
        judge_losses([np.nan] * 10, normal(10))


def test_the_true_var_and_es_score_best():
    r = np.random.default_rng(5).normal(size=200_000)
    true = fz_losses(r, normal(r.size), 0.99).mean()
    for var, es in ((2.1, 2.6652), (2.55, 2.6652), (2.3263, 2.4), (2.3263, 3.0)):
        assert true < fz_losses(r, Losses(np.full(r.size, var), np.full(r.size, es)), 0.99).mean()


def test_the_unit_of_returns_moves_every_models_score_alike(returns):
    one, other = normal(1000), normal(1000, 1.2)
    plain = fz_losses(returns, one, 0.99) - fz_losses(returns, other, 0.99)
    percent = [fz_losses(100 * returns, Losses(100 * m.var, 100 * m.es), 0.99) for m in (one, other)]
    assert plain == pytest.approx(percent[0] - percent[1])
