"""A real bot's set-up: all parts, killed one after the other."""

import json
import os
import signal
from datetime import UTC, datetime

import psutil
import pytest
from place import PARTS, eventually
from websockets.sync.client import connect

from jobs.context import opened
from jobs.stack import up

pytestmark = pytest.mark.e2e


def test_every_part_that_is_killed_comes_back_while_the_rest_keeps_its_pid_and_down_leaves_nothing(place):
    said = place.call("up")
    assert place.environment["MLOPS_TRACKING_URI"] in said
    assert PARTS == set(place.standing())
    assert "up already" in place.call("up")

    first = _told(place)
    assert ("snapshot", "live") == (first["type"], first["state"]["clock"])
    assert "var" in first["state"]["missing"]  # nothing was traded

    for name in ("mlflow", "service", "standby", "scheduler"):
        before = place.standing()
        # Of MLflow this is the parent only: its worker goes on serving, and holds the port.
        os.kill(before[name].pid, signal.SIGKILL)
        after = place.until_up(name, after=before[name].restarts)

        assert before[name].pid != after.pid
        others = {other: part.pid for other, part in before.items() if other != name}
        assert others == {other: part.pid for other, part in place.standing().items() if other != name}
    with opened(place.settings) as context:
        eventually(lambda: not context.ledger.alerts.newest())
        known = context.ledger.alerts.newest(open_only=False)
        assert PARTS == {alert.key.split(":")[1] for alert in known if alert.key.startswith("part_down:")}

    processes = up.leftovers(place.state)
    assert len(processes) >= 6  # the supervisor, MLflow and its worker, service, its standby, scheduler
    assert "supervisor, mlflow, service, standby, scheduler" in place.call("down")
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)
    assert "Nothing runs" in place.call("down")


def _told(place):
    """The first message of the live feed."""
    with opened(place.settings) as context:
        key = context.ledger.api_keys.add("desk", ["risk:read"], datetime.now(UTC))
    service = place.settings.service
    with connect(
        f"ws://{service.host}:{service.port}/feed", additional_headers={"Authorization": f"Bearer {key}"}
    ) as feed:
        return json.loads(feed.recv(timeout=30))
