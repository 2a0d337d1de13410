import warnings

import numpy as np
import pytest
from arch import arch_model

from mlops.errors import DataError
from mlops.risk.var.filters import Ewma, Flat, Garch, Recursion, range_squares


def garch_world(n, rng, *, omega=0.05, alpha=0.05, gamma=0.08, beta=0.88, nu=6):
    z = rng.standard_t(nu, n + 500) * np.sqrt((nu - 2) / nu)
    variance, out = 1.0, np.empty(n + 500)
    for t in range(n + 500):
        out[t] = np.sqrt(variance) * z[t]
        variance = omega + (alpha + gamma * (out[t] < 0)) * out[t] ** 2 + beta * variance
    return out[500:]


@pytest.fixture(scope="module")
def market():
    r = garch_world(3000, np.random.default_rng(3))
    return r / r.std()


@pytest.mark.parametrize("residuals", ["normal", "t", "skewt"])
@pytest.mark.parametrize(("asymmetric", "power"), [(False, 2.0), (True, 2.0), (True, 1.0)])
def test_a_fitted_garch_filters_as_arch_does(market, residuals, asymmetric, power):
    recursion, note = Garch(asymmetric, power, residuals).fit(market)
    model = arch_model(market, p=1, o=int(asymmetric), q=1, power=power, dist=residuals, rescale=False)
    theirs = model.fit(disp="off")
    assert not note
    assert theirs.params["beta[1]"] == pytest.approx(recursion.beta, abs=1e-6)
    ours = recursion.variances(market)
    assert theirs.conditional_volatility[400:] == pytest.approx(
        np.sqrt(ours[400:-1]), rel=1e-6
    )  # starts differ a little
    ahead = theirs.forecast(horizon=1).variance.to_numpy()[-1, 0]
    assert ahead == pytest.approx(ours[-1], rel=1e-6)


def test_one_step_more_is_what_the_filter_says_next(market):
    for recursion in (Recursion(0.05, 0.05, 0.9, 0.06, 0.02), Recursion(0.05, 0.05, 0.9, 0.06, power=1.0)):
        ahead = recursion.variances(market[:-1])[-1]
        assert recursion.variances(market)[-1] == pytest.approx(recursion.step(np.array([ahead]), market[-1:])[0])


def test_an_ewma_is_the_textbooks(market):
    recursion, _ = Ewma(0.94).fit(market)
    variance = recursion.variances(market)[0]
    for r in market:
        variance = 0.94 * variance + 0.06 * r**2
    assert variance == pytest.approx(recursion.variances(market)[-1])


def test_a_warm_start_ends_where_a_cold_one_does(market):
    cold, _ = Garch(asymmetric=True).fit(market)
    warm, _ = Garch(asymmetric=True).fit(market, Recursion(0.1, 0.02, 0.8, 0.1))
    assert cold.beta == pytest.approx(warm.beta, abs=2e-3)


@pytest.mark.parametrize("start", [None, Recursion(0.1, 0.1, 0.8)])
def test_a_constant_cannot_be_fitted_and_says_so(start):
    recursion, note = Garch(residuals="t").fit(np.full(500, 0.01), start)
    assert note.startswith("all returns are one constant")
    assert (start or Recursion(0.0, pytest.approx(0.06), 0.94, shape=(5.0,))) == recursion


def test_a_fit_warns_nobody(market):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Garch(asymmetric=True, residuals="skewt").fit(market[:250])


def test_stuck_prices_do_not_make_the_next_move_infinite(market):
    quiet = np.concatenate([market, np.zeros(500)])
    assert 0.01 == Ewma().fit(quiet)[0].variances(quiet)[-1]


def test_no_filter_has_one_variance_for_all(market):
    recursion, _ = Flat().fit(market)
    assert np.array_equal(np.ones(market.size + 1), recursion.variances(market))


def test_a_range_is_an_honest_variance():
    rng = np.random.default_rng(0)
    steps = rng.normal(0, 0.01 / np.sqrt(2000), (1000, 2000))
    paths = np.exp(np.cumsum(steps.ravel())).reshape(1000, 2000)
    opens = np.concatenate([[1.0], paths[:-1, -1]])
    ohlc = np.column_stack(
        [opens, np.maximum(paths.max(axis=1), opens), np.minimum(paths.min(axis=1), opens), paths[:, -1]]
    )
    assert 0.01**2 == pytest.approx(range_squares(ohlc).mean(), rel=0.1)  # 2,000 steps miss a little of the true range


@pytest.mark.parametrize(
    "bar", [[1, 1, 1], [1.0, 0.9, 0.8, 1.0], [1.0, 1.2, 1.1, 1.0], [0.0, 1.0, 0.0, 1.0], [1.0, np.nan, 1.0, 1.0]]
)
def test_bars_that_cannot_be_are_refused(bar):
    with pytest.raises(DataError, match="ohlc must"):
        range_squares(np.array([bar]))
