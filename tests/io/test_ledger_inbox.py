"""Alerts, deliveries, job runs: nothing lost, nothing done twice."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from mlops.errors import DataError
from mlops.types import Alert, Priority


@pytest.fixture
def alert(make):
    def raised(key, day=0, **details):
        return Alert(f"rollback:{key}", Priority.HIGH, "volatility", f"{key} happened", make.at(day), details)

    return raised


def test_the_same_alert_is_kept_once_and_comes_back_as_it_was(ledger, alert):
    first, second = alert("drift", feature="range", p=0.01), alert("decay", day=1)

    assert [True, True, False] == [ledger.alerts.add(a) for a in (first, second, alert("drift", day=2))]
    assert [second, first] == ledger.alerts.newest()


def test_a_resolved_alert_is_out_of_sight_and_does_not_come_back(ledger, alert, make):
    ledger.alerts.add(alert("drift"))
    ledger.alerts.resolve("rollback:drift", make.at(1))
    ledger.alerts.resolve("unknown", make.at(1))

    assert not ledger.alerts.add(alert("drift"))
    assert [] == ledger.alerts.newest()
    assert [replace(alert("drift"), closed_at=make.at(1))] == ledger.alerts.newest(open_only=False)


def test_details_of_an_alert_are_json_or_refused(ledger, alert):
    ledger.alerts.add(alert("numbers", n=np.int64(3), path=np.array([1.0, 2.0])))

    assert {"n": 3, "path": [1.0, 2.0]} == ledger.alerts.newest()[0].details
    with pytest.raises(DataError, match="details of alert 'rollback:odd' must be JSON"):
        ledger.alerts.add(alert("odd", what=object()))


def test_of_fifty_copies_of_a_delivery_one_is_new(ledger, make):
    with ThreadPoolExecutor(10) as pool:
        new = list(pool.map(lambda _: ledger.deliveries.add("id", "mlflow", b'{"a": 1}', make.at(0)), range(50)))

    assert 1 == sum(new)


def test_deliveries_are_read_in_the_order_in_which_they_were_settled(ledger, make):
    for name in ("a", "b", "c", "d"):
        ledger.deliveries.add(name, "mlflow", name.encode(), make.at(0))
    found = {"alias": "champion", "at": make.at(1)}
    ledger.deliveries.settle("c", model="volatility", version=2, **found)
    seen = ledger.deliveries.settled("volatility", after=0)[-1].id
    ledger.deliveries.settle("a", model="volatility", version=None, **found)  # added before c, settled after it
    ledger.deliveries.settle("b", model="direction", version=7, **found)

    late = ledger.deliveries.settled("volatility", after=seen)
    assert [("a", b"a", None)] == [(d.delivery_id, d.body, d.version) for d in late]
    assert ["c", "a"] == [d.delivery_id for d in ledger.deliveries.settled("volatility", after=0)]


def test_a_delivery_is_settled_once(ledger, make):
    ledger.deliveries.add("a", "mlflow", b"", make.at(0))
    for version in (1, 2):
        ledger.deliveries.settle("a", model="volatility", alias="champion", version=version, at=make.at(version))

    assert [(1, make.at(1))] == [(d.version, d.settled_at) for d in ledger.deliveries.settled("volatility", after=0)]
    with pytest.raises(DataError, match="delivery must be in the inbox, got 'b'"):
        ledger.deliveries.settle("b", model="volatility", alias="champion", version=1, at=make.at(1))
