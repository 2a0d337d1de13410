"""Life cycles of alerts: opened once, closed when the fact ends, and what a person closed."""

from datetime import timedelta

import pytest

from mlops.alerts import ALERTS, LABEL, Closes, kind_of
from mlops.errors import DataError
from mlops.types import Alert, Priority


def silent(at, model="volatility", since="20260301T220000", note="no prediction for two bars"):
    return ALERTS["bot_silent"].alert(at, {"model": model, "since": since, "note": note})


def writer(at, account="ada"):
    return ALERTS["mlflow_writer"].alert(at, {"account": account, "time": at.isoformat(), "rights": "MANAGE"})


def crossed(at, measure="var", line="hard"):
    words = {"measure": measure, "scope": "all", "line": line, "note": "VaR is 9 %", "owner": "ada"}
    return ALERTS["risk_limit"].alert(at, words, priority=Priority.CRITICAL)


def missing(at, units):
    words = {"model": "volatility", "time": f"{at:%Y%m%dT%H%M%S}", "note": units}
    return ALERTS["labels_missing"].alert(at, words, details={"units": units})


def keys(alerts):
    return sorted(alert.key for alert in alerts)


def test_what_is_true_is_open_once_and_closes_when_it_ends(ledger, make):
    first = ledger.alerts.settle("bot_silent", [silent(make.at(0)), silent(make.at(0), "direction")], make.at(0))
    again = ledger.alerts.settle("bot_silent", [silent(make.at(1))], make.at(1))

    assert ["bot_silent:direction:20260301T220000", "bot_silent:volatility:20260301T220000"] == keys(first.opened)
    assert ((), ["bot_silent:direction:20260301T220000"]) == (again.opened, keys(again.closed))
    assert [silent(make.at(0))] == ledger.alerts.newest()
    assert make.at(1) == ledger.alerts.get("bot_silent:direction:20260301T220000").closed_at


def test_what_was_not_looked_at_keeps_its_alert_and_so_do_other_kinds(ledger, make):
    ledger.alerts.settle("bot_silent", [silent(make.at(0))], make.at(0))
    ledger.alerts.settle("mlflow_writer", [writer(make.at(0))], make.at(0))

    unseen = ledger.alerts.settle("bot_silent", (), make.at(1), looked_at=lambda alert: alert.model != "volatility")
    assert ((), ()) == (unseen.opened, unseen.closed)
    assert 2 == len(ledger.alerts.newest())
    assert [writer(make.at(0))] == ledger.alerts.newest("mlflow_writer")


def test_what_a_person_closed_stays_closed_where_the_key_says_since_when(ledger, make):
    ledger.alerts.settle("bot_silent", [silent(make.at(0))], make.at(0))
    ledger.alerts.resolve(silent(make.at(0)).key, make.at(1))

    assert () == ledger.alerts.settle("bot_silent", [silent(make.at(2))], make.at(2)).opened
    later = ledger.alerts.settle("bot_silent", [silent(make.at(3), since="20260308T220000")], make.at(3))
    assert ["bot_silent:volatility:20260308T220000"] == keys(later.opened), "another silence is another alert"


def test_what_still_is_wrong_is_raised_again_after_a_person_closed_it(ledger, make):
    ledger.alerts.settle("mlflow_writer", [writer(make.at(0))], make.at(0))
    assert () == ledger.alerts.settle("mlflow_writer", [writer(make.at(1))], make.at(1)).opened
    ledger.alerts.resolve(writer(make.at(0)).key, make.at(1))

    assert [writer(make.at(2))] == [*ledger.alerts.settle("mlflow_writer", [writer(make.at(2))], make.at(2)).opened]


def test_a_kind_whose_key_names_a_day_is_raised_once_a_day(ledger, make):
    def failed(at):
        return ALERTS["var_backtest"].alert(at, {"date": f"{at:%Y-%m-%d}", "note": "too often"})

    at = make.at(0)
    ledger.alerts.settle("var_backtest", [failed(at)], at)
    ledger.alerts.resolve(failed(at).key, at)

    assert () == ledger.alerts.settle("var_backtest", [failed(at)], at + timedelta(minutes=1)).opened
    assert 1 == len(ledger.alerts.settle("var_backtest", [failed(make.at(1))], make.at(1)).opened)


def test_each_crossing_has_a_number_of_its_own(ledger, make):
    for day in range(3):
        ledger.alerts.settle("risk_limit", [crossed(make.at(day)), crossed(make.at(day), line="soft")], make.at(day))
        ledger.alerts.settle("risk_limit", [crossed(make.at(day)), crossed(make.at(day), line="soft")], make.at(day))
        ledger.alerts.settle("risk_limit", (), make.at(day))

    every = keys(ledger.alerts.newest("risk_limit", open_only=False))
    assert [f"risk_limit:var:all:{line}:{n}" for line in ("hard", "soft") for n in (1, 2, 3)] == every


def test_other_units_without_labels_are_another_fact(ledger, make):
    ledger.alerts.settle("labels_missing", [missing(make.at(0), "A, B")], make.at(0))
    assert () == ledger.alerts.settle("labels_missing", [missing(make.at(1), "A, B")], make.at(1)).opened
    changed = ledger.alerts.settle("labels_missing", [missing(make.at(2), "B")], make.at(2))

    assert ([missing(make.at(2), "B")], [missing(make.at(0), "A, B")]) == ([*changed.opened], [*changed.closed])


def test_what_only_a_person_closes_is_left_open_and_evidence_is_closed_as_it_comes(ledger, make):
    at, words = make.at(0), {"model": "m", "seq": 7, "left": "v2", "to": 1, "reason": "it fell"}
    ledger.alerts.add(ALERTS["rollback"].alert(at, words))
    ledger.alerts.add(ALERTS["fill_confirmed"].alert(at, {"fill": "f1", "actor": "ada", "reason": "a crash"}))

    assert () == ledger.alerts.settle(ALERTS, (), make.at(1)).closed
    assert ["rollback:m:7"] == keys(ledger.alerts.newest())
    assert at == ledger.alerts.get("fill_confirmed:f1").closed_at


def test_an_alert_of_no_declared_kind_is_refused(ledger, make):
    with pytest.raises(DataError, match=r"alert must be of a kind in mlops.alerts.ALERTS, got 'drift:m'"):
        ledger.alerts.add(Alert("drift:m", Priority.HIGH, "m", "", make.at(0)))
    with pytest.raises(DataError, match="priority of risk_limit must be of"):
        ALERTS["risk_limit"].alert(make.at(0), {})
    with pytest.raises(DataError, match="words of bot_silent must fill its key and title, got no 'note'"):
        ALERTS["bot_silent"].alert(make.at(0), {"model": "m", "since": ""})


@pytest.mark.parametrize("kind", ALERTS.values(), ids=lambda kind: kind.name)
def test_a_key_is_read_as_of_the_kind_that_wrote_it(kind):
    for word in ("a", "a-b", "x@y.org", "m/live/A"):
        assert kind is kind_of(LABEL.sub(word, kind.key))


def test_the_four_ways_to_close_are_all_in_use():
    assert {*Closes} == {kind.closes for kind in ALERTS.values()}
