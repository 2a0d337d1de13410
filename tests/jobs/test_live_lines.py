"""Lines held against what is not known in part: none is disarmed by it, and none that was crossed is forgotten."""

from datetime import timedelta
from types import SimpleNamespace

import pytest

from jobs.live.risk import Live
from jobs.live.risk_limits import act
from mlops.io.ledger import Instrument
from mlops.settings import RiskLimit
from mlops.types import Alert, Kind, Priority, TradingState
from tests.jobs.live.test_risk import LINES, T0, fill, night, with_balances


@pytest.fixture
def context(sqlite_ledger):
    return SimpleNamespace(ledger=sqlite_ledger, settings=with_balances(limits=LINES), run_id=None)


def hard(context, line=0.05):
    limits = (RiskLimit(measure="var", warning=line / 3, soft=line / 2, hard=line),)
    context.settings = with_balances(limits=limits)


def test_a_share_without_history_does_not_disarm_the_line_on_var(context):
    hard(context)
    night(context)
    fill(context, "A", 20_000, 100.0)
    assert "hard" == Live(context).look(T0).state.limits["var:all"].state
    fill(context, "D", 1, 100.0)

    look = Live(context).look(T0)

    assert "hard" == look.state.limits["var:all"].state
    assert "var with stand-ins for D" in look.findings[0].note
    assert TradingState.REDUCING is act(context, look.findings, T0)


def test_an_expired_option_does_not_disarm_it_either(context):
    hard(context)
    context.ledger.instruments.put([Instrument("P", Kind.PUT, "USD", "", 1.0, "A", 100.0, T0 - timedelta(days=1))], T0)
    night(context)
    fill(context, "A", 20_000, 100.0)
    fill(context, "P", 1, 4.0)

    assert "hard" == Live(context).look(T0).state.limits["var:all"].state


def test_a_book_of_nothing_that_is_known_counts_by_its_stand_ins_alone(context):
    hard(context)
    night(context)
    fill(context, "D", 9000, 100.0)

    look = Live(context).look(T0)

    assert look.state.kpi.var.value is None
    assert 0.9 * 0.06 < look.state.kpi.var.bound < 0.9 * 0.2
    assert "hard" == look.state.limits["var:all"].state


@pytest.mark.parametrize("quantity", [1, 3000, -3000])
def test_a_position_that_is_not_known_never_lowers_what_counts_against_a_line(context, quantity):
    limits = tuple(
        RiskLimit(measure=one, warning=1e-6, soft=2e-6, hard=3e-6)
        for one in ("var", "es", "gross", "net", "leverage", "concentration")
    )
    context.settings = with_balances(limits=limits)
    put = Instrument(
        "P", Kind.PUT, "USD", "", 1.0, "Z", 101.0, T0 - timedelta(days=1)
    )  # Z has no price: it has expired
    context.ledger.instruments.put([put], T0)
    night(context)
    fill(context, "A", 1000, 100.0)
    before = {f.name: f.value for f in Live(context).look(T0).findings}
    fill(context, "P", quantity, 1.0)
    fill(context, "D", abs(quantity), 1.0)

    after = Live(context).look(T0).findings

    assert ["hard"] * 6 == [f.params["state"].value for f in after]
    assert all(f.value >= before[f.name] - 1e-12 for f in after)


def test_a_line_that_cannot_be_held_is_told_after_ten_seconds_and_stands_where_it_stood(context):
    hard(context)
    night(context)
    fill(context, "A", 20_000, 100.0)
    live = Live(context)
    act(context, (look := live.look(T0)).findings, T0, unknown=look.unknown)
    fill(context, "A", -19_000, 100.0, T0 + timedelta(seconds=1))
    fill(context, "D", 10, 100.0, T0 + timedelta(seconds=1))

    told = []
    for second in (2, 11, 12, 13):
        at = T0 + timedelta(seconds=second)
        look = live.look(at)
        act(context, look.findings, at, unknown=look.unknown)
        told.append(sorted(alert.key for alert in context.ledger.alerts.newest() if alert.key.startswith("limit")))

    assert [[], [], *[["limit_unknown:var:all:1"]] * 2] == told
    assert "unknown" == look.state.limits["var:all"].state
    title = context.ledger.alerts.get("limit_unknown:var:all:1").title
    assert "the line on var cannot be held for certain: 1 position is in no model: D; it counts as" in title
    assert "the hard line that it crossed before stands" in title
    assert "risk_limit:var:all:hard:1" in {alert.key for alert in context.ledger.alerts.newest()}
    assert "hard" == Live(context).look(T0 + timedelta(seconds=14)).state.limits["var:all"].stands

    fill(context, "D", -10, 100.0, T0 + timedelta(seconds=20))
    at = T0 + timedelta(seconds=21)
    look = live.look(at)
    act(context, look.findings, at, unknown=look.unknown)
    assert "limit_unknown:var:all:1" not in {alert.key for alert in context.ledger.alerts.newest()}


def test_an_alert_about_a_line_leads_to_the_position_that_adds_most_to_it(context):
    night(context)
    fill(context, "A", 5000, 100.0)
    fill(context, "B", -6000, 100.0)
    fill(context, "C", 1000, 100.0, model="volatility")
    context.ledger.confirmed_prices.add("C", 50.0, "ada", "it fell", T0 + timedelta(seconds=1))
    for key in ("risk_limit:var:all:soft:1", "risk_limit:gross:all:hard:1", "risk_limit:drawdown:all:soft:2",
                "risk_limit:var:volatility:soft:1", "job_dead:x"):  # fmt: skip
        context.ledger.alerts.add(Alert(key, Priority.HIGH, "", key, T0))

    state = Live(context).look(T0 + timedelta(seconds=1)).state

    led = {key.split(":", 1)[1]: alert.position for key, alert in state.alerts.items()}
    most = max(state.positions, key=lambda row: state.positions[row].component_var)
    assert most == led["var:all:soft:1"]
    assert "direction/live/B" == led["gross:all:hard:1"]
    assert "volatility/live/C" == led["drawdown:all:soft:2"] == led["var:volatility:soft:1"]
    assert "" == led["x"]


def test_a_line_that_known_positions_cross_is_crossed_whatever_another_currency_adds(context):
    context.ledger.instruments.put([Instrument("A", currency="EUR")], T0)
    fill(context, "A", 1000, 100.0)
    fill(context, "B", 11_000, 100.0)

    assert "hard" == Live(context).look(T0).state.limits["gross:all"].state


def test_before_the_first_night_stand_ins_are_an_estimate_and_no_bound_and_the_alert_says_what_to_run(context):
    hard(context)
    fill(context, "A", 5_000, 100.0)
    live, state = Live(context), TradingState.ACTIVE
    for second in (0, 5, 11):
        at = T0 + timedelta(seconds=second)
        look = live.look(at)
        state = act(context, look.findings, at, unknown=look.unknown)

    var = look.state.kpi.var
    assert (None, None, None) == (var.value, var.bound, var.bound_money)
    assert 0.5 * 0.05 < var.estimate < 0.5 * 0.2
    assert 1e6 * var.estimate == pytest.approx(var.estimate_money)
    assert look.state.kpi.es.estimate > var.estimate
    assert ("unknown", None) == (look.state.limits["var:all"].state, look.state.limits["var:all"].value)
    assert TradingState.ACTIVE is state
    alert = context.ledger.alerts.get("limit_unknown:var:all:1")
    assert Priority.HIGH == alert.priority
    assert "`trader-mlops job run risk`" in alert.title


def test_a_unit_without_a_past_makes_the_var_unknown_with_a_bound_and_the_limit_is_not_called_kept(context):
    night(context)
    fill(context, "A", 1000, 100.0)
    alone = Live(context).look(T0).state
    fill(context, "D", 10, 100.0)

    state = Live(context).look(T0).state

    row = state.positions["direction/live/D"]
    assert row.component_var is None
    assert 0.001 * 0.05 < row.stand_in < 0.001 * 0.2
    assert "3 bars" in state.missing["history:D"]
    assert "unknown" == state.limits["var:direction"].state
    assert state.kpi.var.value is state.kpi.var.money is None
    assert alone.kpi.var.value + row.stand_in == pytest.approx(state.kpi.var.bound)
    assert state.kpi.es.bound > state.kpi.var.bound
    assert "1 position is in no model: D" in state.kpi.var.why
    assert state.kpi.normal.percentile is None
    assert "unusually low" not in state.kpi.normal.sentence
    assert None in [row.component_var for row in state.exposure["underlying"].values()]
