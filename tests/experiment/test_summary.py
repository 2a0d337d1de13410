from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.experiment import Plan, compare
from mlops.experiment.arm import arms_of
from mlops.experiment.bands import equity_bands
from mlops.experiment.comparison import Comparison
from mlops.experiment.disagreement import disagreement
from mlops.experiment.metrics import METRICS
from mlops.experiment.multiple_testing import summary_of_tries
from mlops.experiment.numbers import numbers
from mlops.experiment.summary import summarise
from mlops.policy import on_comparison, on_watch
from mlops.stats import deflated_sharpe, expected_max_sharpe, sharpe_moments
from mlops.types import Finding, Level, ModelRef, Report

START, UNITS = datetime(2007, 1, 1, tzinfo=UTC), 10


def _matured(bars, edges, *, seed=0, late=()):
    """Versions 1, 2, ... on the same labels; an edge leans the probability to the label."""
    rng = np.random.default_rng(seed)
    label = (rng.random(bars * UNITS) < 0.45).astype(float)
    days = pd.date_range(START, periods=bars, tz="UTC")
    base = {"unit": np.tile([f"U{i}" for i in range(UNITS)], bars), "event_time": days.repeat(UNITS)}
    base |= {"label": label, "value": 0.01 * (label - 0.45) + rng.normal(0, 0.01, label.size)}
    arms = []
    for version, edge in enumerate(edges, 1):
        probability = np.clip(0.45 + edge * (label - 0.45) + rng.normal(0, 0.08, label.size), 0.02, 0.98)
        arm = pd.DataFrame({**base, "version": version, "probability": probability})
        arms.append(arm[arm.event_time >= days[bars // 2]] if version in late else arm)
    return pd.concat(arms, ignore_index=True)


def _book(scored, cost=5e-4):
    """The book that holds twice the edge of each unit, shared among the units, from one bar to the next."""
    if scored.empty:
        return pd.DataFrame({name: pd.Series(dtype=np.float64) for name in ("equity", "traded", "exposure", "fees")})
    table = scored.assign(weight=2 * scored["probability"] - 1)
    wide = table.pivot(index="event_time", columns="unit", values=["weight", "value"]).fillna(0.0)
    held, earned = wide["weight"].to_numpy() / wide["weight"].shape[1], wide["value"].to_numpy()
    traded = np.abs(np.diff(held, axis=0, prepend=np.zeros((1, held.shape[1])))).sum(axis=1)
    equity = np.cumprod(1 + (held * earned).sum(axis=1) - cost * traded)
    columns = {"equity": equity, "traded": traded, "exposure": np.abs(held).sum(axis=1), "fees": cost * traded}
    return pd.DataFrame(columns, index=wide.index)


def _books(matured, versions=None):
    every = versions or sorted(set(matured["version"]))
    return {v: _book(matured[matured["version"] == v]) for v in every}


def _account(matured, *, kind="compare", plan=None, ended=None, tried=4, versions=None):
    plan = plan or Plan()
    books = _books(matured, versions)
    returns = {v: books[v]["equity"] / books[v]["equity"].shift(fill_value=1.0) - 1 for v in (1, 2)}
    pair = matured[matured["version"].isin((1, 2))]
    findings = compare(pair, champion=1, challenger=2, settings=plan, books=returns)
    findings = (*findings, Finding("trading", 20.0, 20.0, Level.OK, 20, note="20 bars"))
    as_of = START + timedelta(days=int(matured["event_time"].nunique()) + 1)
    report = Report(ModelRef("m", 1), as_of, findings)
    decision = (on_watch if kind == "watch" else on_comparison)(report, ModelRef("m", 2))
    compared = Comparison(7, "m", kind, 1, 2, START, as_of, plan, as_of if ended else None, ended)
    rng = np.random.default_rng(1)
    return summarise(compared, matured, books, findings=findings, decision=decision, tried=tried, rng=rng)


def test_a_better_challenger_is_told_to_be_promoted_and_when_it_was_decided():
    told = _account(_matured(150, (0.0, 0.3)))
    crossed = next(f for f in told.findings if f.name == "paired_log_loss").params["crossed_at"]

    assert "PROMOTE" == told.answer.label
    assert "Challenger v2 is better than champion v1: promote it." == told.answer.sentence
    assert f"It decided at bar {crossed}:" in told.answer.sure[1]
    assert "Every one of the" in told.answer.why[-1]
    assert ("Nothing: the question is answered.",) == told.answer.wait


def test_a_worse_challenger_is_held():
    told = _account(_matured(150, (0.3, 0.0)))

    assert "HOLD" == told.answer.label
    assert "Challenger v2 is worse than champion v1: keep v1." == told.answer.sentence
    assert any("Better predictions (failed): proven worse" in why for why in told.answer.why)


def test_too_little_is_unknown_and_says_what_is_needed():
    told = _account(_matured(11, (0.1, 0.12)))

    assert "UNKNOWN" == told.answer.label
    assert "11 bars have matured; the first look is at bar 40: 29 more are needed." == told.answer.wait[0]
    assert "bars of both, 20 with forecasts that vary and differ needed" in told.answer.sure[1]
    assert {} == told.bands.equity
    assert np.isnan(told.peeking)
    assert (told.tries.overfitting, told.tries.best) == (None, None)


def test_no_row_at_all_is_no_error():
    told = _account(_matured(10, (0.1, 0.1))[:0], versions=(1, 2))

    assert "UNKNOWN" == told.answer.label
    assert "No bar has matured on which both predicted." == told.answer.why[0]
    assert 0 == told.bars
    assert all(not shown.test.known for shown in told.tests)


def test_an_open_question_says_what_it_is_worth_that_nothing_is_proven():
    told = _account(_matured(60, (0.1, 0.12)))
    assert "A challenger two points of accuracy better would have been proven so by now with" in told.answer.sure[1]


def test_an_open_question_says_how_long_and_what_it_costs():
    told = _account(_matured(120, (0.15, 0.15), seed=3))

    assert "INCONCLUSIVE" == told.answer.label
    assert "It is not known yet" in told.answer.sentence
    assert any("proof takes about" in s or "are not enough" in s for s in told.answer.wait)
    assert any("% of equity" in s for s in told.answer.wait)


def test_the_planned_bars_may_end_without_an_answer():
    told = _account(_matured(100, (0.15, 0.15), seed=3), plan=Plan(horizon_bars=80))

    assert "The planned bars are over and nothing shows that challenger v2 is better: keep v1." == told.answer.sentence


def test_a_comparison_that_was_cut_short_says_so():
    told = _account(_matured(60, (0.15, 0.15)), ended="champion changed")

    assert "It ended before it was known" in told.answer.sentence
    assert "champion changed" in told.answer.wait[0]


def test_a_watch_speaks_of_the_champion_before():
    back, stays = (_account(_matured(100, e), kind="watch", plan=Plan(power=1.0)) for e in ((0.0, 0.3), (0.3, 0.0)))

    assert "The new champion v1 is worse than v2 before it: go back to v2." == back.answer.sentence
    assert "ROLLBACK" == back.answer.label
    assert "The new champion v1 is better than v2 before it: keep v1." == stays.answer.sentence


def test_who_scored_the_same_rows_is_in_the_tables_and_who_came_late_is_not():
    told = _account(_matured(100, (0.1, 0.15, 0.12, 0.2, 0.1), late=(5,)))

    assert (1, 2, 3, 4) == tuple(told.arms)
    assert (3, 4) == told.others
    assert {5: 50 * UNITS} == told.late
    assert {2, 3, 4} == {s.challenger for s in told.tests}
    assert told.tries.superiority is not None
    assert told.tries.overfitting is not None


def test_all_arms_are_measured_on_the_rows_that_all_have():
    matured = _matured(60, (0.1, 0.2))
    lost = matured.drop(matured[(matured.version == 2) & (matured.unit == "U3")].index)
    told = _account(lost)

    assert UNITS - 1 == told.units
    assert 60 * (UNITS - 1) == told.rows == len(told.challenger.bar)


@pytest.mark.parametrize("evidence", ["planned", "anytime"])
def test_the_boundary_is_where_the_verdict_is_made(evidence):
    """The drawn line is crossed at the look at which the test decided, and at none before."""
    told = _account(_matured(150, (0.1, 0.2), seed=5), plan=Plan(evidence=evidence))
    crossed = next(f for f in told.findings if f.name == "paired_log_loss").params["crossed_at"]
    over = [
        n
        for n, mean, line in zip(told.boundary.bars, told.boundary.mean, told.boundary.better, strict=True)
        if mean >= line
    ]

    assert crossed == over[0]


def test_the_numbers_are_finite_and_name_every_arm_metric_and_test():
    found = numbers(_account(_matured(120, (0.1, 0.2, 0.15))))

    assert np.isfinite([*found.values()]).all()
    assert {"arm.v1.log_loss", "arm.v3.sharpe", "gain.accuracy.v2", "gain.accuracy.v2.low"} <= found.keys()
    assert {"p.log_loss.ewc.v2", "p_adjusted.accuracy.mcnemar.v3", "rate.log_loss.paired_t.v2"} <= found.keys()
    assert {"tries.deflated", "tries.spa", "peeking", "bars"} <= found.keys()
    assert 120 == found["bars"]


def test_it_is_the_same_twice():
    one, other = (numbers(_account(_matured(80, (0.1, 0.2)))) for _ in range(2))
    assert one == other


def test_a_version_without_a_book_is_refused():
    told = _account(_matured(30, (0.1, 0.2)))
    with pytest.raises(DataError, match=r"books must hold every version compared, got none of \[2\]"):
        summarise(
            told.comparison,
            _matured(30, (0.1, 0.2)),
            {1: _books(_matured(30, (0.1, 0.2)))[1]},
            findings=told.findings,
            decision=told.decision,
            tried=1,
            rng=np.random.default_rng(0),
        )


def test_differences_are_counted_where_they_are():
    """Two units, three bars: they decide differently twice, each is right once."""
    days = pd.to_datetime(["2007-01-30", "2007-01-31", "2007-02-01"], utc=True).repeat(2)
    frame = pd.DataFrame({"event_time": days, "unit": ["A", "B"] * 3, "label": [1.0, 0, 1, 0, 1, 0]})
    one = frame.assign(version=1, probability=[0.9, 0.1, 0.9, 0.1, 0.4, 0.1])
    two = frame.assign(version=2, probability=[0.9, 0.1, 0.3, 0.1, 1.0, 0.1])
    found = disagreement(*arms_of(pd.concat([one, two])).values())

    assert (6, 2, 1, 1) == (found.rows, found.differ, found.champion_right, found.challenger_right)
    assert 1 / 3 == pytest.approx(found.share)
    assert {"A": 2, "B": 0} == found.by_unit["differ"].to_dict()
    assert {"2007-01": 1, "2007-02": 1} == found.by_month["differ"].to_dict()
    assert {"0.70 to 0.80": 1, "0.80 to 1.00": 1} == found.by_confidence["differ"][lambda s: s > 0].to_dict()
    assert 6 == found.by_confidence["rows"].sum()
    assert [days[2], days[4]] == sorted(found.days.index[:2])
    assert np.log(0.3 / 0.9) / 2 == pytest.approx(found.days.loc[days[2], "gain"])


def test_bands_hold_the_luck_and_pairing_takes_out_what_is_shared():
    rng = np.random.default_rng(0)
    days = pd.date_range("2007-01-01", periods=250, tz="UTC")
    market = rng.normal(0, 0.01, 250)
    books = {
        v: pd.DataFrame({"equity": np.cumprod(1 + market + rng.normal(0, 0.001, 250))}, index=days) for v in (1, 2)
    }
    rows = pd.DataFrame({"version": np.repeat([1, 2], 250), "unit": "A", "event_time": [*days, *days]})
    arms = arms_of(rows, books)
    bands = equity_bands(arms[1], {2: arms[2]}, rng=rng)
    alone, apart = bands.equity[2], bands.relative[2]

    assert 249 == len(bands.times) == alone.curve.size
    assert (alone.low <= alone.high).all()
    # 90 % of the end: 2 x 1.645 x 1 % x sqrt(249).
    assert 2 * 1.645 * 0.01 * np.sqrt(249) == pytest.approx(np.log(alone.high[-1] / alone.low[-1]), rel=0.3)
    assert np.log(apart.high[-1] / apart.low[-1]) < np.log(alone.high[-1] / alone.low[-1]) / 4
    assert books[2]["equity"].iloc[-1] / books[2]["equity"].iloc[0] == pytest.approx(alone.curve[-1])


def test_every_try_is_counted_by_hand():
    told = _account(_matured(150, (0.1, 0.12)), tried=9)
    excess = (told.challenger.returns() - told.champion.returns()).to_numpy()
    moments, spread = sharpe_moments(excess), 1 / np.sqrt(excess.size)

    assert np.sqrt(252) * moments.sharpe == pytest.approx(told.tries.ratio)
    assert np.sqrt(252) * expected_max_sharpe(9, spread) == pytest.approx(told.tries.luck)
    assert deflated_sharpe(moments, trials=9, spread=spread) == pytest.approx(told.tries.deflated)
    alone = summary_of_tries(told.champion, [told.challenger], tried=1, rng=np.random.default_rng(0))
    assert alone.deflated == alone.single > told.tries.deflated
    assert "log_loss" in METRICS
