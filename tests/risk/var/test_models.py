import json

import numpy as np
import pytest
from scipy.stats import norm
from scipy.stats import t as student

from mlops.errors import DataError
from mlops.risk.measures import CONFIDENCES, Loss, component_loss, marginal_loss, var_es
from mlops.risk.var.distributions import Student
from mlops.risk.var.fitted import Fitted, fit
from mlops.risk.var.forecasts import Forecasts, averaged, walk
from mlops.risk.var.models import MODELS
from mlops.risk.var.selection import COMPARED, DEFAULT, SHORT

CLOSE_ONLY = [name for name, model in MODELS.items() if not model.ranged]


def market(n, seed=0):
    rng = np.random.default_rng(seed)
    variance, out = 1.0, np.empty(n)
    for i, z in enumerate(rng.standard_t(6, n) * np.sqrt(4 / 6)):
        out[i] = np.sqrt(variance) * z
        variance = 0.05 + (0.05 + 0.08 * (out[i] < 0)) * out[i] ** 2 + 0.86 * variance
    return out * 0.01


def bars(returns, seed=1):
    rng = np.random.default_rng(seed)
    close = 100 * np.cumprod(1 + returns)
    opens = np.concatenate([[100.0], close[:-1]]) * (1 + rng.normal(0, 0.001, returns.size))
    spread = np.abs(rng.normal(0, 0.004, (2, returns.size)))
    high, low = np.maximum(opens, close) * (1 + spread[0]), np.minimum(opens, close) * (1 - spread[1])
    return np.column_stack([opens, high, low, close])


@pytest.fixture(scope="module")
def past():
    return market(1200)


def test_what_is_shown_and_what_it_is_held_against_needs_closes_only():
    assert not any(MODELS[name].ranged for name in (*DEFAULT, *SHORT, *COMPARED))


@pytest.mark.parametrize("name", list(MODELS))
def test_right_after_a_fit_the_walk_says_what_the_fitted_model_says(past, name):
    ohlc = bars(past)
    walked = walk([name], past, 1000, ohlc=ohlc, refit=100)[name]
    for at in (1000, 1100):
        fitted = fit(name, past[:at], ohlc=ohlc[:at])
        now = fitted.now(past[:at], ohlc=ohlc[:at])
        tolerance = 1e-12 if at == 1000 else 0.02  # later fits of the walk start from the ones before
        assert walked.var[at - 1000] == pytest.approx(now.var, rel=tolerance)
        assert walked.es[at - 1000] == pytest.approx(now.es, rel=tolerance)


@pytest.mark.parametrize("name", list(MODELS))
def test_no_forecast_sees_its_own_bar_or_a_later_one(past, name):
    ohlc = bars(past)
    changed, changed_ohlc = past.copy(), ohlc.copy()
    changed[1030:] *= -7
    changed_ohlc[1030:] *= 1.2
    before = walk([name], past, 1000, ohlc=ohlc, refit=20)[name]
    after = walk([name], changed, 1000, ohlc=changed_ohlc, refit=20)[name]
    assert np.array_equal(before.var[:31], after.var[:31])
    assert np.array_equal(before.es[:31], after.es[:31])
    assert not np.array_equal(before.var[31:], after.var[31:])


@pytest.mark.parametrize("name", CLOSE_ONLY)
def test_losses_grow_with_confidence_and_with_the_book(past, name):
    fitted = fit(name, past)
    found, thrice = fitted.now(past), fitted.now(3 * past)
    assert (np.diff(found.var) > 0).all()
    assert (np.diff(found.es) > 0).all()
    assert (found.es > found.var).all()
    assert 3 * found.var == pytest.approx(thrice.var, rel=1e-9)
    assert 3 * found.es == pytest.approx(thrice.es, rel=1e-9)


@pytest.mark.parametrize("name", list(MODELS))
def test_what_is_stored_as_json_speaks_as_before(past, name):
    ohlc = bars(past)
    fitted = fit(name, past, ohlc=ohlc)
    again = Fitted.from_dict(json.loads(json.dumps(fitted.as_dict())))
    assert fitted == again
    assert np.array_equal(fitted.now(past, ohlc=ohlc).es, again.now(past, ohlc=ohlc).es)


def test_a_stored_model_that_nobody_knows_is_refused(past):
    kept = fit("historical", past).as_dict()
    kept["members"]["gone"] = kept["members"].pop("historical")
    with pytest.raises(DataError, match="known models, got \\['gone'\\]"):
        Fitted.from_dict(kept)


def test_the_historical_model_is_the_plain_quantile(past):
    found = fit("historical", past).now(past, (0.99,))
    assert var_es(past[-500:]).var == pytest.approx(found.var[0], rel=1e-12)
    assert var_es(past[-500:]).es == pytest.approx(found.es[0], rel=1e-12)


def test_the_normal_model_is_the_textbooks(past):
    found = fit("normal", past).now(past, (0.99,))
    last = past[-500:]
    assert -last.mean() - last.std(ddof=1) * norm.ppf(0.01) == pytest.approx(found.var[0])
    assert -last.mean() + last.std(ddof=1) * norm.pdf(norm.ppf(0.01)) / 0.01 == pytest.approx(found.es[0])


@pytest.mark.parametrize("shape", [(5.0,), (5.0, 0.0), (7.0, -0.2)])
def test_a_fitted_students_losses_are_those_of_a_large_sample(shape):
    found = Student().losses(np.zeros((1, 10)), (0.95, 0.99), shape)
    if len(shape) == 1 or shape[1] == 0.0:
        scale = np.sqrt((shape[0] - 2) / shape[0])
        assert -student.ppf([0.05, 0.01], shape[0]) * scale == pytest.approx(found.var[0])
    from arch.univariate import SkewStudent, StudentsT

    law = SkewStudent(seed=np.random.default_rng(0)) if len(shape) == 2 else StudentsT(seed=np.random.default_rng(0))
    sample = law.simulate(np.array(shape))(400_000)
    for j, confidence in enumerate((0.95, 0.99)):
        loss = var_es(sample, confidence)
        assert loss.var == pytest.approx(found.var[0, j], rel=0.02)
        assert loss.es == pytest.approx(found.es[0, j], rel=0.03)


def test_an_average_is_the_mean_of_its_members(past):
    names = ("fhs_ewma", "evt_gjr_skewt")
    both = fit(names, past).now(past)
    each = [fit(name, past).now(past) for name in names]
    assert np.mean([one.var for one in each], axis=0) == pytest.approx(both.var)
    walked = averaged(list(walk(names, past, 1150).values()))
    assert fit(names, past[:1150]).now(past[:1150]).es == pytest.approx(walked.es[0])


def test_models_that_share_a_filter_forecast_as_each_alone(past):
    together = walk(["fhs_gjr_skewt", "evt_gjr_skewt", "evt_gjr_tgarch"], past, 1150)
    alone = walk(["evt_gjr_tgarch"], past, 1150)["evt_gjr_tgarch"]
    assert np.array_equal(alone.es, together["evt_gjr_tgarch"].es)


def test_after_a_storm_a_filtered_model_fears_more_than_a_historical_one(past):
    storm = np.concatenate([past, [-0.04, 0.05, -0.05, 0.04]])
    calm, wild = (fit("fhs_ewma", past).now(r, (0.99,)).var[0] for r in (past, storm))
    assert wild > 2 * calm
    flat = [fit("historical", past).now(r, (0.99,)).var[0] for r in (past, storm)]
    assert flat[1] < 2 * flat[0]


@pytest.mark.parametrize(
    "names", ["historical", "age_weighted", "fhs_ewma", ("evt_gjr_skewt", "evt_gjr_long", "fhs_ewma")]
)
def test_scenarios_are_the_past_at_todays_volatility_and_components_add_up_to_the_headline(names):
    rng = np.random.default_rng(5)
    positions = market(2500)[:, None] * rng.uniform(0.5, 1.5, 8) + rng.normal(0, 0.005, (2500, 8))
    weights = rng.normal(0.1, 0.1, 8)
    book = positions @ weights
    fitted = fit(names, book)
    scenarios = fitted.scenarios(book)
    assert 1.0 == pytest.approx(scenarios.chances.sum())
    filtered = positions[-scenarios.scale.size :] * scenarios.scale[:, None]
    head = fitted.now(book, (0.99,))
    total = Loss(float(head.var[0]), float(head.es[0]))
    own = var_es(filtered @ weights, weights=scenarios.chances)
    assert total.var == pytest.approx(own.var, rel=0.15)
    found = component_loss(marginal_loss(filtered, weights, chances=scenarios.chances, total=total), weights)
    assert total.var == pytest.approx(found.var.sum())
    assert total.es == pytest.approx(found.es.sum())


def test_the_historical_scenarios_are_the_past_itself(past):
    scenarios = fit("historical", past).scenarios(past)
    assert np.array_equal(np.ones(500), scenarios.scale)


def test_ten_bars_of_independent_returns_are_about_the_root_of_ten():
    r = np.random.default_rng(0).normal(0, 0.01, 3000)
    fitted = fit("historical", r)
    rng = np.random.default_rng(1)
    one, ten = (fitted.over(r, h, rng=rng) for h in (1, 10))
    assert fitted.now(r, (0.99,)).var[0] == one.var
    assert np.sqrt(10) == pytest.approx(ten.var / one.var, rel=0.12)  # less a little: returns compound, losses shrink


def test_over_many_bars_calm_grows_faster_than_a_storm():
    grown = {}
    for size in (0.3, 3.0):
        r = np.concatenate([market(1950, seed=2), size * market(50, seed=3)])
        fitted = fit("fhs_garch", r)
        one, many = (fitted.over(r, h, rng=np.random.default_rng(1)) for h in (1, 60))
        grown[size] = many.es / one.es
    assert grown[0.3] > 1.2 * grown[3.0]


def test_a_horizon_is_whole_bars(past):
    with pytest.raises(DataError, match="horizon must be 1 bar or more"):
        fit("historical", past).over(past, 0, rng=np.random.default_rng(0))


def test_a_book_that_stands_still_loses_nothing_over_any_horizon():
    r = np.zeros(300)
    found = fit("historical", r).over(r, 10, rng=np.random.default_rng(0))
    assert 0.0 == found.var == found.es
    gains = np.linspace(0.001, 0.002, 300)
    assert np.isnan(fit("historical", gains).over(gains, 10, rng=np.random.default_rng(0)).var)


@pytest.mark.parametrize("name", CLOSE_ONLY)
def test_ten_days_of_history_are_refused_with_what_is_needed(name):
    with pytest.raises(DataError, match=f"series of {MODELS[name].least} or more, got shape \\(10,\\)"):
        fit(name, np.linspace(-0.01, 0.01, 10))


@pytest.mark.parametrize("name", CLOSE_ONLY)
@pytest.mark.parametrize("value", [0.0, 0.01, -0.02])
def test_a_series_that_never_moves_loses_what_it_loses(name, value):
    r = np.full(400, value)
    fitted = fit(name, r)
    found = fitted.now(r)
    assert np.isfinite(found.var).all()
    assert np.isfinite(found.es).all()
    if value == 0.0:
        assert np.abs(found.var).max() < 1.0
    if MODELS[name].filters[0].least == 250:
        assert fitted.notes


def test_a_walk_over_a_constant_says_where_nothing_was_fitted():
    walked = walk(["fhs_garch"], np.zeros(300), 280)["fhs_garch"]
    assert [280, 290] == [bar for bar, _ in walked.notes]
    assert np.isfinite(walked.es).all()


@pytest.mark.parametrize(
    ("returns", "match"),
    [(np.full(600, np.nan), "finite"), (np.zeros((600, 2)), "one series")],
)
def test_returns_that_cannot_be_are_refused(returns, match):
    with pytest.raises(DataError, match=match):
        fit("historical", returns)


def test_names_and_dates_are_checked(past):
    with pytest.raises(DataError, match="model must be of"):
        fit("garch", past)
    with pytest.raises(DataError, match="model must be of"):
        fit((), past)
    with pytest.raises(DataError, match="model must be of"):
        walk(["garch"], past, 500)
    with pytest.raises(DataError, match="first must leave 250 bars"):
        walk(["fhs_garch"], past, 100)
    with pytest.raises(DataError, match="first must leave"):
        walk(["historical"], past, past.size)
    with pytest.raises(DataError, match="confidence must be one of"):
        walk(["historical"], past, 1100)["historical"].at(0.9)


def test_ranges_are_asked_for_where_they_are_needed(past):
    with pytest.raises(DataError, match="ohlc must be given"):
        fit("range_ewma", past)
    with pytest.raises(DataError, match="ohlc must have the bars of the 1200 returns"):
        fit("range_ewma", past, ohlc=bars(past)[1:])


def test_forecasts_of_other_bars_are_not_averaged(past):
    one, other = (walk(["historical"], past, first)["historical"] for first in (1100, 1101))
    with pytest.raises(DataError, match="the same bars"):
        averaged([one, other])


def test_confidences_are_kept_in_their_order(past):
    walked = walk(["historical"], past, 1100)["historical"]
    assert CONFIDENCES == walked.confidences
    assert np.array_equal(walked.var[:, 2], walked.at(0.99).var)


@pytest.mark.parametrize("gross", [10.0, 150.0])
def test_a_book_that_loses_more_than_it_has_in_a_bar_has_a_loss_like_any_other(past, gross):
    r = gross * past * 0.2 / np.abs(past).max()  # a fifth in the worst bar of the unit
    assert r.min() < -1
    plain, leveraged = fit("evt_gjr_tgarch", r / gross), fit("evt_gjr_tgarch", r)

    one, many = plain.now(r / gross), leveraged.now(r)

    assert np.allclose(many.var, gross * one.var)
    assert np.allclose(many.es, gross * one.es)
    assert np.isfinite(walk(["fhs_ewma"], r, len(r) - 20)["fhs_ewma"].es).all()


def test_what_lost_all_in_a_horizon_stays_lost():
    r = np.array([-1.5, -1.5, 0.1, -2.0, -0.5, 0.5])
    told = Forecasts((0.99,), 0, np.ones((3, 1)), np.ones((3, 1)), horizon=2).realised(r)

    assert [-1.5, -1.1 - 1.0, -0.25] == pytest.approx(told.tolist())

    bad = np.tile([-1.2, 0.4, 0.4, 0.4], 100)
    over = fit("fhs_ewma", bad).over(bad, 10, 0.95, rng=np.random.default_rng(0))
    assert over.es >= over.var >= fit("fhs_ewma", bad).now(bad, (0.95,)).var[0]
