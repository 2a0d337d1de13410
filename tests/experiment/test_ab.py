import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.experiment import METRICS, Trial, arm_metrics, compare, pairs
from mlops.types import Level

SETTINGS = Trial()


def _matured(bars=150, *, challenger_edge=0.3, champion_edge=0.0, units=10, seed=0):
    """Two versions on the same labels; an edge is how far the probability leans to the label."""
    rng = np.random.default_rng(seed)
    rows = bars * units
    label = (rng.random(rows) < 0.45).astype(float)
    frame = pd.DataFrame(
        {
            "event_time": np.repeat(pd.date_range("2007-01-01", periods=bars, tz="UTC"), units),
            "unit": np.tile([f"U{i}" for i in range(units)], bars),
            "label": label,
            "value": label - 0.5,
        }
    )
    arms = []
    for version, edge in ((1, champion_edge), (2, challenger_edge)):
        probability = np.clip(0.45 + edge * (label - 0.45) + rng.normal(0, 0.05, rows), 0.02, 0.98)
        arms.append(frame.assign(version=version, role="x", probability=probability))
    return pd.concat(arms).sample(frac=1, random_state=0, ignore_index=True)


def _gates(matured, settings=SETTINGS, **more):
    return {f.name: f for f in compare(matured, champion=1, challenger=2, settings=settings, **more)}


def test_pairs_are_the_mean_difference_of_a_bar():
    matured = _matured(5, units=2)
    one = matured[matured.version == 1].sort_values(["event_time", "unit"]).reset_index()
    two = matured[matured.version == 2].sort_values(["event_time", "unit"]).reset_index()
    loss = [-np.where(v.label == 1, np.log(v.probability), np.log(1 - v.probability)) for v in (one, two)]
    expected = (loss[0] - loss[1]).reshape(5, 2).mean(axis=1)

    found = pairs(matured, champion=1, challenger=2)

    assert expected == pytest.approx(found["difference"].to_numpy())
    assert [2] * 5 == found["n_units"].tolist()
    assert list(one.event_time.unique()) == list(found.index)


def test_a_better_challenger_passes_every_gate():
    gates = _gates(_matured())
    assert {Level.OK} == {f.level for f in gates.values()}
    assert "proven better" in gates["paired_log_loss"].note
    assert 150 == gates["paired_log_loss"].n
    assert gates["paired_log_loss"].params["crossed_at"] == 40


def test_a_worse_challenger_is_proven_worse():
    gates = _gates(_matured(challenger_edge=-0.2, champion_edge=0.2))
    assert Level.ALERT is gates["paired_log_loss"].level
    assert "proven worse" in gates["paired_log_loss"].note


def test_an_equal_challenger_is_not_promoted_and_hears_how_long_it_takes():
    gates = _gates(_matured(challenger_edge=0.2, champion_edge=0.2))
    assert Level.UNKNOWN is gates["paired_log_loss"].level
    assert "needed at this rate" in gates["paired_log_loss"].note
    assert Level.OK is gates["skill"].level


def test_to_be_less_bad_than_the_champion_is_no_skill():
    gates = _gates(_matured(challenger_edge=0.0, champion_edge=-0.3))
    assert Level.OK is gates["paired_log_loss"].level
    assert Level.UNKNOWN is gates["skill"].level


def test_skill_is_held_against_the_training_base_rate_where_it_is_known():
    matured = _matured(challenger_edge=0.0)
    assert Level.OK is _gates(matured, base_rate=0.9)["skill"].level
    assert Level.UNKNOWN is _gates(matured, base_rate=0.45)["skill"].level


def test_a_margin_must_be_won_too():
    matured = _matured()
    gain = _gates(matured)["paired_log_loss"].value
    assert Level.OK is _gates(matured, Trial(margin=gain / 2))["paired_log_loss"].level
    assert Level.UNKNOWN is _gates(matured, Trial(margin=gain * 1.05))["paired_log_loss"].level


def test_no_rows_yet_is_unknown_everywhere():
    gates = _gates(_matured()[:0])
    assert {Level.UNKNOWN} == {f.level for f in gates.values()}


def test_few_samples_are_unknown_whatever_the_evidence():
    gates = _gates(_matured(bars=90))
    assert (Level.OK, Level.UNKNOWN) == (gates["paired_log_loss"].level, gates["samples"].level)
    assert "900 paired predictions on 90 bars, 1000 needed" == gates["samples"].note


def test_an_arm_that_lost_rows_is_found():
    matured = _matured()
    lost = matured.drop(matured[matured.version == 2].index[:200])
    assert Level.ALERT is _gates(lost)["pairing"].level


def test_the_books_guard_the_drawdown():
    calm, wild = np.linspace(1, 1.2, 50), np.concatenate([[1.0, 0.8], np.linspace(0.8, 1.2, 48)])
    assert Level.ALERT is _gates(_matured(), equity_champion=calm, equity_challenger=wild)["drawdown"].level
    assert Level.OK is _gates(_matured(), equity_champion=wild, equity_challenger=calm)["drawdown"].level


def test_traffic_that_was_dealt_wrongly_is_found():
    assert Level.OK is _gates(_matured(), units_traded=(18, 2))["srm"].level
    assert Level.ALERT is _gates(_matured(), units_traded=(10, 10))["srm"].level


def test_every_metric_is_told_of_each_arm():
    matured = _matured()
    told = arm_metrics(matured, 2)
    mine = matured[matured.version == 2]
    assert {n: m(mine.probability.to_numpy(), mine.label.to_numpy()) for n, m in METRICS.items()} == told
    assert all(np.isnan(list(arm_metrics(matured, 99).values())))


def test_broken_tables_are_refused():
    with pytest.raises(DataError, match=r"must have the columns \['label'\]"):
        _gates(_matured().drop(columns="label"))
    with pytest.raises(DataError, match="finite"):
        _gates(_matured().assign(label=np.nan))
