"""The nightly risk job on real bars: what it chooses and judges, what it leaves for the page, and whom it wakes."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient
from mlflow.artifacts import load_dict

from jobs import books, risk
from jobs.context import opened
from jobs.live.risk import Live
from jobs.portfolio.positions import positions
from jobs.portfolio.returns import market as market_of
from mlops.io import bar_feed, record
from mlops.io.ledger import Instrument
from mlops.learn import STRATEGIES
from mlops.settings import BookBalance, BookSettings, RiskSettings, Settings
from mlops.types import Finding, Kind, Level, Verdict

AT = datetime(2010, 3, 1, 22, tzinfo=UTC)
HELD = {"AAPL": 3000.0, "JPM": 5000.0, "XOM": -2000.0}


def bars(units=tuple(HELD), start=datetime(2004, 1, 1, tzinfo=UTC), end=datetime(2010, 4, 1, tzinfo=UTC)):
    frame = bar_feed.load_bars("sp500", start=start, end=end).frame
    return frame[frame.symbol.isin(units)]


@pytest.fixture(scope="module")
def market():
    return bars()


@pytest.fixture
def context(tmp_path, monkeypatch):
    monkeypatch.setattr(risk, "JUDGED", 260)  # what is walked costs most; the shortest that a choice can be made of
    monkeypatch.chdir(tmp_path)  # where MLflow without a server keeps artifacts
    settings = Settings(
        state=tmp_path / "live",
        tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
        risk=RiskSettings(history_bars=500),
        books=BookSettings(balances=(BookBalance(amount=1e6),)),
    )
    with opened(settings) as open_house:
        yield open_house


def hold(context, market, at=AT):
    last = market[market.event_time <= at].groupby("symbol").close.last()
    rows = [
        {"fill_id": unit, "model": "direction", "version": 1, "book": "live", "unit": unit, "event_time": at,
         "quantity": quantity, "price": float(last.get(unit, 10.0)), "fee": 0.0}
        for unit, quantity in HELD.items()
    ]  # fmt: skip
    context.ledger.telemetry.add_fills(pd.DataFrame(rows))


def test_nothing_is_logged_while_nothing_is_held(context, market):
    assert [] == risk.at(context, market, AT)
    assert context.ledger.risk.state("var", "all", as_of=AT) is None


def test_the_night_leaves_evidence_a_forecast_and_what_the_live_page_needs(context, market):
    hold(context, market)

    [decision] = risk.at(context, market, AT)

    assert Verdict.HOLD == decision.verdict
    client = MlflowClient(context.settings.tracking_uri)
    experiment = client.get_experiment_by_name("risk")
    [run] = client.search_runs([experiment.experiment_id])
    metrics = run.data.metrics
    numbers = load_dict(f"{run.info.artifact_uri}/risk.json")["numbers"]
    assert len(metrics) <= record.PLOTTED
    assert f"risk {AT:%Y}" in run.info.run_name
    assert 0.001 < metrics["var.all"] < 0.05 < metrics["equity"]
    assert numbers["var_950"] < numbers["var_975"] < numbers["var_990"] < numbers["es_990"]
    assert {"var.png", "models.png", "components.png", "risk.json", "findings.csv"} <= {
        file.path for file in client.list_artifacts(run.info.run_id)
    }
    forecasts = context.ledger.risk.forecasts("all", confidence=0.99, horizon=1, as_of=AT)
    assert [numbers["var_990"]] == pytest.approx(forecasts["var"].tolist())
    assert forecasts.event_time[0] <= AT
    look = Live(context).look(AT)
    assert metrics["var.all"] == pytest.approx(look.state.kpi.var.value, rel=1e-4)
    assert look.state.backtest.n > 250
    assert {} == look.state.history.var, "no forecast has met its bar yet"
    assert ["calm", "shifting", "broken"].count(look.state.correlation.state)
    assert set(HELD) == set(look.state.correlation.units)
    assert look.state.kpi.normal.percentile is not None


def test_strategies_are_held_against_each_other_once_two_of_them_trade(context, market):
    hold(context, market)
    assert () == risk._together(context, positions(context, AT))
    days = sorted(market.event_time[market.event_time <= AT].unique())[-260:]
    first = market[market.event_time == days[0]].set_index("symbol").close
    rows = [
        {"fill_id": f"{model}{unit}", "model": model, "version": 1, "book": "b", "unit": unit, "event_time": days[0],
         "quantity": 100.0, "price": float(first[unit]), "fee": 0.0}
        for model in ("direction", "volatility") for unit in ("AAPL", "JPM")
    ]  # fmt: skip
    context.ledger.telemetry.add_fills(pd.DataFrame(rows))
    for model in ("direction", "volatility"):
        books.advance(context, STRATEGIES[model], market, AT)

    found = {one.name: one for one in risk._together(context, positions(context, AT))}

    assert {"strategy_correlation", "joint_losses"} == set(found)
    assert 0.99 < found["strategy_correlation"].value
    assert Level.ALERT == found["strategy_correlation"].level
    assert "direction:volatility" == found["strategy_correlation"].subject


def _with(told):
    return SimpleNamespace(settings=Settings(risk=told))


def test_beta_is_to_what_is_held_and_factors_are_told_where_the_settings_name_them():
    frame = bars(start=datetime(2018, 1, 1, tzinfo=UTC), end=datetime(2020, 1, 1, tzinfo=UTC))
    table = market_of(frame, tuple(HELD), frame.event_time.max().to_pydatetime(), 400)
    at, equal = frame.event_time.max().to_pydatetime(), np.full(3, 1 / 3)

    alone = risk._drivers(_with(RiskSettings()), frame, table, equal, at)
    told = risk._drivers(_with(RiskSettings(factors="factors")), frame, table, equal, at)

    assert [("beta", 1.0)] == [(one.subject, pytest.approx(one.value)) for one in alone]
    assert ["beta", "MTUM", "QUAL", "SIZE", "USMV", "VLUE"] == [one.subject for one in told]
    assert [250] * 6 == [one.n for one in told]
    assert all(one.params["low"] < one.value < one.params["high"] for one in told[1:])


def test_factors_that_end_before_the_bars_are_not_known_and_say_so(market):
    table = market_of(market, tuple(HELD), AT, 400)

    told = risk._drivers(_with(RiskSettings(factors="factors")), market, table, np.full(3, 1 / 3), AT)

    assert [("factors", Level.UNKNOWN)] == [(one.subject, one.level) for one in told[1:]]
    assert "no bars of the year before 2010-03-01" in told[1].note


def test_the_same_night_again_changes_no_forecast_and_tomorrow_is_not_seen(context, market):
    hold(context, market)
    changed = market.copy()
    later = (changed.event_time > AT).to_numpy()
    changed.loc[later, "close"] *= 0.1

    first = risk.at(context, market, AT)
    told = context.ledger.risk.state("var", "all", as_of=AT).body
    again = risk.at(context, changed, AT + timedelta(seconds=1))

    assert first[0].reason == again[0].reason
    assert told["fitted"] == context.ledger.risk.state("var", "all", as_of=AT + timedelta(seconds=1)).body["fitted"]
    assert 1 == len(context.ledger.risk.forecasts("all", confidence=0.99, horizon=1, as_of=AT + timedelta(days=1)))


def test_a_book_of_options_alone_is_judged_by_their_deltas(context, market):
    spot = float(market[(market.symbol == "AAPL") & (market.event_time <= AT)].close.iloc[-1])
    call = Instrument("C", Kind.CALL, "USD", "", 1.0, "AAPL", spot, AT + timedelta(days=90))
    context.ledger.instruments.put([call], AT)
    row = {"fill_id": "c", "model": "direction", "version": 1, "book": "live", "unit": "C", "event_time": AT}
    context.ledger.telemetry.add_fills(pd.DataFrame([row | {"quantity": 20_000.0, "price": 0.06 * spot, "fee": 0.0}]))
    quote = {
        "unit": "AAPL",
        "event_time": AT,
        "known_at": AT,
        "bid": spot,
        "ask": spot,
        "bid_size": 0.0,
        "ask_size": 0.0,
    }
    context.ledger.quotes.add(pd.DataFrame([quote]))

    risk.at(context, market[market.symbol == "AAPL"], AT)

    [weight] = context.ledger.risk.state("var", "all", as_of=AT).body["weights"]
    assert 0.4 < weight / (20_000 * spot / 1e6) < 0.7, "the delta of a call at the money"
    state = Live(context).look(AT).state
    assert not state.missing.keys() & {"fit", "history:C", "var"}
    assert 0 < state.kpi.var.value == pytest.approx(state.positions["direction/live/C"].component_var)


def test_a_unit_that_the_bars_do_not_know_is_named_and_the_others_go_on(context, market):
    hold(context, market[market.symbol != "XOM"])

    risk.at(context, market[market.symbol != "XOM"], AT)

    body = context.ledger.risk.state("var", "all", as_of=AT).body
    assert ["AAPL", "JPM"] == sorted(body["units"])
    assert "XOM has 0 bars" in body["lacking"]["XOM"]


@pytest.mark.parametrize("days", [10, 80, 200])
def test_a_short_past_gives_what_can_be_known_and_says_the_rest(context, days):
    short = bars(start=AT - timedelta(days=days * 1.45))
    hold(context, short)

    found = risk.at(context, short, AT)

    state = context.ledger.risk.state("var", "all", as_of=AT)
    if days == 10:
        assert ([], None) == (found, state)
    else:
        assert state.body["backtest"]["level"] in ("unknown", "ok", "warn", "alert")
        assert 0 < Live(context).look(AT).state.kpi.var.value < 0.2


def test_what_fails_is_one_alert_until_it_is_over_and_what_is_not_known_changes_nothing(context):
    def found(name, level):
        return Finding(name, 0.01, 0.05, level, 750, note="why")

    def tell(var, moved, day):
        at = AT + timedelta(days=day)
        risk._tell(context, found("var_backtest", var), found("correlation_breakdown", moved), "run", at)
        return sorted(alert.key for alert in context.ledger.alerts.newest())

    assert ["var_backtest:2010-03-01"] == tell(Level.ALERT, Level.OK, 0)
    assert ["correlation_breakdown:2010-03-02", "var_backtest:2010-03-01"] == tell(Level.ALERT, Level.ALERT, 1)
    assert ["correlation_breakdown:2010-03-02", "var_backtest:2010-03-01"] == tell(Level.UNKNOWN, Level.UNKNOWN, 2)
    assert ["correlation_breakdown:2010-03-02"] == tell(Level.OK, Level.ALERT, 3)
    assert [] == tell(Level.OK, Level.WARN, 4)


def test_the_chart_is_what_was_stored_before_each_bar_not_what_would_be_said_today(context, market):
    nights = sorted(
        market.event_time[(market.event_time > AT - timedelta(days=7)) & (market.event_time <= AT)].unique()
    )
    hold(context, market, at=nights[0])
    said = {}
    for night in nights:
        at = night.to_pydatetime() + timedelta(minutes=50)
        books.advance(context, STRATEGIES["direction"], market, at)
        risk.at(context, market, at)
        said[night] = context.ledger.risk.forecasts("all", confidence=0.99, horizon=1, as_of=at)["var"].iloc[-1]

    chart = Live(context).look(at).state.history.var

    assert [night.isoformat() for night in nights[1:]] == list(chart)
    assert [said[night] for night in nights[:-1]] == pytest.approx([var for var, _, _ in chart.values()])
    curve = context.ledger.books.curve("direction", "live", start=AT - timedelta(days=30), as_of=at)
    equity = curve.set_index("event_time")["equity"].pct_change().dropna()
    assert (-equity).tolist()[-len(chart) :] == pytest.approx([loss for _, loss, _ in chart.values()])


def test_a_longer_horizon_is_judged_over_its_own_bars(market, monkeypatch):
    monkeypatch.setattr(risk, "JUDGED", 260)
    wide = market.pivot(index="event_time", columns="symbol", values="close").pct_change().dropna()
    past = wide.mean(axis=1).to_numpy()[-700:]

    one, ten = (risk.judged(past, 0.99, horizon) for horizon in (1, 10))

    assert (1.0, 1.0) == (one.growth.var, one.growth.es)
    assert 1.5 < ten.growth.var < 6
    assert (260, 26) == (one.backtest.n, ten.backtest.n)
    assert Level.UNKNOWN == ten.backtest.level
    assert "26 windows of 10 bars, none overlapping" in risk._headline(ten)
    windows = np.prod(1 + past[-260:].reshape(26, 10), axis=1) - 1
    np.testing.assert_allclose(windows, ten.track.forecasts.realised(past))
    assert 1.8 < (ten.track.forecasts.at(0.99).var / one.track.forecasts.at(0.99).var[::10]).mean() < 5
    assert np.isfinite(list(one.scores.values())).all()


def test_the_page_has_forecast_and_loss_of_one_horizon_and_the_ledger_what_was_said(context, market):
    settings = context.settings.model_copy(
        update={"risk": RiskSettings(history_bars=500, horizon_bars=5, confidence=0.98)}
    )
    five = replace(context, settings=settings)
    hold(five, market)

    risk.at(five, market, AT)

    state = context.ledger.risk.state("var", "all", as_of=AT)
    assert len(state.arrays["times"]) == len(state.arrays["var"]) == len(state.arrays["loss"]) == 52
    ends = pd.to_datetime(state.arrays["times"], unit="us", utc=True)
    past = state.arrays["returns"].astype(float) @ np.array(state.body["weights"])
    assert ends[-1] == market.event_time[market.event_time <= AT].max()
    assert 1 - np.prod(1 + past[-5:]) == pytest.approx(state.arrays["loss"][-1], rel=1e-3)
    said = {h: context.ledger.risk.forecasts("all", confidence=0.98, horizon=h, as_of=AT) for h in (1, 5)}
    assert [1, 1] == [len(one) for one in said.values()]
    assert 1.3 < said[5]["var"][0] / said[1]["var"][0] < 4
    assert said[5]["var"][0] == pytest.approx(Live(five).look(AT).state.kpi.var.value, rel=1e-4)


@pytest.mark.parametrize("balance", [20_000.0, 1_600.0])
def test_a_book_of_many_times_its_equity_has_a_var_at_night_and_live(context, market, balance):
    books = BookSettings(balances=(BookBalance(amount=balance),))
    context = replace(context, settings=context.settings.model_copy(update={"books": books}))
    hold(context, market)

    [decision] = risk.at(context, market, AT)

    state = context.ledger.risk.state("var", "all", as_of=AT)
    assert -state.arrays["returns"].astype(float).dot(state.body["weights"]).min() > 1
    look = Live(context).look(AT).state
    assert look.kpi.gross.value > 200_000 / balance
    assert 0.1 < look.kpi.var.value < look.kpi.es.value
    assert "" == look.kpi.var.why
