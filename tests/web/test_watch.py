"""Whether the loops beside the service do their work."""

from mlops.web.watch import Watch


def test_a_part_is_well_only_while_it_says_so():
    now = [0.0]
    watch = Watch(lambda: now[0])
    watch.expect("risk", 10.0)
    assert {"risk": "not looked at yet"} == watch.parts()

    watch.failed("risk", "ZeroDivisionError")
    assert {"risk": "not looked at yet: ZeroDivisionError"} == watch.parts()

    watch.well("risk")
    assert {"risk": "ok"} == watch.parts()

    watch.settle("risk", ["LedgerAway", "LedgerAway"])
    assert {"risk": "failed: LedgerAway"} == watch.parts()

    watch.settle("risk", [])
    now[0] = 11.0
    assert "stuck: last well 11 s ago" in watch.parts()["risk"]


def test_readyz_is_in_order_only_when_every_part_is(sqlite_ledger, tmp_path):
    from datetime import UTC, datetime

    from fastapi.testclient import TestClient

    from mlops.settings import Settings
    from mlops.web import app
    from registry_hooks.aliases import Registry

    watch = Watch()
    watch.expect("risk", 10.0)
    built = app.build(Registry(None, sqlite_ledger, tmp_path), Settings(), lambda: datetime.now(UTC), watch=watch)
    with TestClient(built) as client:
        before = client.get("/readyz")
        watch.well("risk")
        after = client.get("/readyz")

    assert (503, "not looked at yet") == (before.status_code, before.json()["risk"])
    assert (200, {"ledger": "ok", "risk": "ok"}) == (after.status_code, after.json())
