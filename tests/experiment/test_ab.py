import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.experiment import ArmUnits, Plan, compare, pairs
from mlops.experiment.gates import samples
from mlops.types import Level

SETTINGS = Plan()


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
    assert Level.OK is _gates(matured, Plan(margin=gain / 2))["paired_log_loss"].level
    assert Level.UNKNOWN is _gates(matured, Plan(margin=gain * 1.05))["paired_log_loss"].level


def test_no_rows_yet_is_unknown_everywhere():
    gates = _gates(_matured()[:0])
    assert {Level.UNKNOWN} == {f.level for f in gates.values()}


def test_few_samples_are_unknown_whatever_the_evidence():
    gates = _gates(_matured(bars=90))
    assert (Level.OK, Level.UNKNOWN) == (gates["paired_log_loss"].level, gates["samples"].level)
    assert "900 paired predictions on 90 bars, 1000 needed" == gates["samples"].note


def test_a_plan_that_can_never_have_enough_samples_says_so_with_the_remedy():
    found = samples(60, 60, Plan())
    assert Level.ALERT is found.level
    assert "60 paired predictions on 60 bars, 1000 needed, and 252 bars give 252 at 1 a bar" in found.note
    assert "Lower experiment.min_samples, or raise experiment.horizon_bars" in found.note
    assert [Level.UNKNOWN] * 3 == [samples(4 * n, n, Plan()).level for n in (0, 1, 249)]
    assert Level.OK is samples(1000, 250, Plan()).level


def test_an_arm_that_lost_rows_is_found():
    matured = _matured()
    lost = matured.drop(matured[matured.version == 2].index[:200])
    assert Level.ALERT is _gates(lost)["pairing"].level


def _books(challenger, champion=None, bars=150):
    times = pd.date_range("2007-01-01", periods=bars, tz="UTC")
    market = np.random.default_rng(5).normal(0.0, 0.01, bars) if champion is None else champion
    return {1: pd.Series(market, times), 2: pd.Series(challenger(market), times)}


def test_a_book_that_falls_much_deeper_is_stopped_and_one_that_follows_the_champion_passes():
    assert Level.ALERT is _gates(_matured(), books=_books(lambda r: np.append(r[:-1], -0.3)))["drawdown"].level
    assert Level.OK is _gates(_matured(), books=_books(lambda r: 0.9 * r))["drawdown"].level
    assert Level.OK is _gates(_matured(), books=_books(lambda r: r))["drawdown"].level


@pytest.mark.parametrize(("more", "by_volatility", "by_share"), [(1.0, "ok", "alert"), (2.2, "alert", "alert")])
def test_the_margin_of_a_drawdown_grows_with_the_volatility_of_the_champions_book(more, by_volatility, by_share):
    shared, *own = 0.04 * np.random.default_rng(5).standard_normal((3, 150))
    one, other = (0.95 * shared + 0.3 * x for x in own)
    books = _books(lambda r: more * other, champion=one)
    levels = [_gates(_matured(), Plan(drawdown_volatility=k), books=books)["drawdown"].level.value for k in (0.6, 0.0)]
    assert [by_volatility, by_share] == levels


def test_a_book_of_another_kind_needs_more_bars_to_be_called_no_deeper():
    own = np.random.default_rng(8).normal(0.001, 0.02, 150)
    found = _gates(_matured(), books=_books(lambda r: own))["drawdown"]
    assert (Level.UNKNOWN, 150) == (found.level, found.n)
    assert found.params["upper"] > found.limit >= found.value


def test_waiting_is_priced_by_the_books_and_only_while_there_is_something_to_wait_for():
    equal = _matured(challenger_edge=0.21, champion_edge=0.2)
    found = _gates(equal, books=_books(lambda r: r + 0.001 + np.tile([0.002, -0.002], 75)))
    bars = (found["paired_log_loss"].params["n_needed"] or 252) - 150
    assert (bars, pytest.approx(bars * 0.001)) == (found["waiting"].params["bars"], found["waiting"].value)
    assert found["waiting"].params["low"] < found["waiting"].value < found["waiting"].params["high"]
    decided = _gates(_matured(), books=_books(lambda r: r + 0.001 + np.tile([0.002, -0.002], 75)))
    assert "nothing to wait for" in decided["waiting"].note


def test_several_challengers_share_one_chance_of_being_wrong():
    one, three = (_gates(_matured(challenger_edge=0.02), Plan(arms=n))["paired_log_loss"] for n in (1, 3))
    assert (0.05, pytest.approx(0.05 / 3)) == (pytest.approx(Plan().alpha), Plan(arms=3).alpha)
    assert three.params["nominal"] < one.params["nominal"]
    with pytest.raises(DataError, match="plan's arms must be a whole number, at least 1, got 0"):
        Plan(arms=0)


@pytest.mark.parametrize("evidence", ["planned", "anytime"])
def test_a_look_that_proved_something_proves_it_whoever_joins_later(evidence):
    matured = _matured(challenger_edge=0.08)
    times = sorted(matured.event_time.unique())

    def proof(arms=1, joined=(), bars=None):
        rows = matured if bars is None else matured[matured.event_time <= times[bars - 1]]
        plan = Plan(arms=arms, evidence=evidence)
        found = compare(rows, champion=1, challenger=2, settings=plan, joined=joined)
        return next(f for f in found if f.name == "paired_log_loss")

    alone = proof()
    crossed = alone.params["crossed_at"]
    assert crossed
    assert crossed < len(times)
    at_once, before, after = ((times[0],) * 99, (times[crossed - 1],) * 99, (times[crossed],) * 99)
    assert Level.UNKNOWN is proof(100, at_once, crossed).level  # all hundred were there
    assert Level.UNKNOWN is proof(100, before, crossed).level  # they had joined by the close of its last bar
    assert (Level.OK, crossed) == (proof(100, after).level, proof(100, after).params["crossed_at"])
    assert alone.params["nominal"] == proof(100, after).params["nominal"]
    assert proof(100).params["nominal"] < alone.params["nominal"]  # without times all count at each look
    assert proof(3, after[:2]).params["joined"] == (crossed,) * 2


@pytest.mark.parametrize(
    ("counts", "weights", "level"),
    [
        ([(18, 2)], [(0.9, 0.1)], Level.OK),
        ([(20, 20)], [(0.9, 0.1)], Level.ALERT),
        ([(90, 10), (50, 50)], [(0.9, 0.1), (0.5, 0.5)], Level.OK),  # the weights were changed, and followed
        ([(90, 10), (90, 10)], [(0.9, 0.1), (0.5, 0.5)], Level.ALERT),
        ([], [], Level.OK),
    ],
)
def test_traffic_that_was_assigned_wrongly_is_found(counts, weights, level):
    assigned = ArmUnits((1, 2) if counts else (), tuple(counts), tuple(weights))
    assert level is _gates(_matured(), assigned=assigned)["srm"].level


def test_the_note_of_a_mismatch_counts_and_plans():
    assigned = ArmUnits((1, 2, 3), ((10, 20, 30),), ((0.8, 0.1, 0.1),))
    note = _gates(_matured(), assigned=assigned)["srm"].note
    assert "v1 trades 10 units, 48.0 planned; v2 trades 20 units, 6.0 planned; v3 trades 30 units, 6.0 planned" == note


def test_evidence_without_a_plan_proves_the_same_and_a_little_later():
    planned, anytime = (
        _gates(_matured(challenger_edge=0.03), Plan(evidence=kind))["paired_log_loss"]
        for kind in ("planned", "anytime")
    )
    assert (Level.OK, Level.OK) == (planned.level, anytime.level)
    assert 40 <= anytime.params["crossed_at"] <= 150
    worse = _gates(_matured(challenger_edge=-0.2, champion_edge=0.2), Plan(evidence="anytime"))
    assert Level.ALERT is worse["paired_log_loss"].level
    equal = _gates(_matured(challenger_edge=0.2, champion_edge=0.2), Plan(evidence="anytime"))["paired_log_loss"]
    assert Level.UNKNOWN is equal.level


def test_the_interval_of_the_gain_holds_it_and_says_nothing_early():
    found = _gates(_matured())["gain_interval"]
    assert (Level.OK, True) == (found.level, found.params["lower"] < found.value < found.params["upper"])
    early = _gates(_matured(bars=30))["gain_interval"]
    assert (Level.UNKNOWN, "at least 40 bars needed, 30 so far") == (early.level, early.note)


def test_broken_tables_are_refused():
    with pytest.raises(DataError, match=r"must have the columns \['label'\]"):
        _gates(_matured().drop(columns="label"))
    with pytest.raises(DataError, match="finite"):
        _gates(_matured().assign(label=np.nan))
