import numpy as np
import pytest

from mlops.errors import DataError
from mlops.risk.choice import PRIOR, choose, chosen, score_series
from mlops.risk.fitted import fit
from mlops.risk.forecasts import Forecasts, averaged, walk


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    r = rng.normal(0, 0.01, 1400)
    return r, walk(["historical", "normal", "fhs_ewma"], r, 600)


def test_the_leaders_are_those_not_proven_worse_best_first():
    rng = np.random.default_rng(1)
    market = rng.normal(size=1000)
    scores = {name: market + rng.normal(gap, 0.5, 1000) for name, gap in [("bad", 0.5), ("good", 0.0), ("near", 0.01)]}
    found = choose(scores)
    assert {"good", "near"} == set(found.leaders)
    assert found.scores[found.leaders[0]] == min(found.scores.values())
    assert 1000 == found.n
    assert "proven worse than the best: 1" in found.note


def test_no_more_than_five_lead():
    scores = np.random.default_rng(2).normal(size=500)
    assert 5 == len(choose({str(i): scores for i in range(9)}).leaders)


def test_before_a_year_of_scores_a_prior_leads_and_says_so():
    scores = dict.fromkeys([*PRIOR, "historical"], np.zeros(249))
    found = choose(scores)
    assert PRIOR == found.leaders
    assert "249 scored forecasts, 250 needed" in found.note
    assert ("historical",) == choose({"historical": np.zeros(3)}).leaders


def test_equal_models_all_lead():
    scores = np.random.default_rng(0).normal(size=300)
    assert {"a", "b"} == set(choose({"a": scores, "b": scores}).leaders)


def test_a_choice_uses_what_was_before_it_only(world):
    r, forecasts = world
    kept, history = chosen(r, forecasts)
    changed = r.copy()
    changed[1100:] *= -5
    again, _ = chosen(changed, walk(list(forecasts), changed, 600))
    assert np.array_equal(kept.var[:501], again.var[:501])
    assert 600 == history[0][0]
    assert np.isfinite(kept.es).all()


def test_what_was_chosen_is_the_leaders_average(world):
    r, forecasts = world
    kept, history = chosen(r, forecasts)
    bar, leaders = history[-1]
    mean = averaged([forecasts[name] for name in leaders])
    assert np.array_equal(mean.var[bar - 600 :], kept.var[bar - 600 :])


def test_the_leaders_can_be_fitted_as_they_are(world):
    r, forecasts = world
    leaders = choose(score_series(r, forecasts)).leaders
    assert (fit(leaders, r).now(r).es > 0).all()


def test_bars_without_a_score_count_for_no_model(world):
    r, forecasts = world
    hurt = dict(forecasts)
    f = forecasts["normal"]
    es = f.es.copy()
    es[:10] = 0.0
    hurt["normal"] = Forecasts(f.confidences, f.first, f.var, es)
    assert {790} == {s.size for s in score_series(r, hurt).values()}


def test_what_cannot_be_compared_is_refused(world):
    r, forecasts = world
    other = walk(["normal"], r, 700)["normal"]
    with pytest.raises(DataError, match="the same bars"):
        score_series(r, {**forecasts, "normal": other})
    with pytest.raises(DataError, match="scores must be of one model"):
        choose({})
