"""A real bot's set-up: all parts, killed one after the other, backed up, lost, restored."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import orjson
import psutil
import pytest

from jobs import promote, train, up
from jobs.house import opened
from jobs.parts import credentials
from jobs.servers import free_port
from mlops.learn import STRATEGIES
from mlops.settings import ServiceSettings, Settings, TrainSettings
from mlops.types import ModelRef

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]
PARTS = {"mlflow", "service", "scheduler"}


class Place:
    """A set-up and the shell of its owner."""

    def __init__(self, state, ports=None):
        self.state = state
        self.mlflow, self.service = ports or (free_port(), free_port())
        self.environment = {
            **os.environ,
            "MLOPS_STATE": str(state),
            "MLOPS_TRACKING_URI": f"http://127.0.0.1:{self.mlflow}",
            "MLOPS_SERVICE__PORT": str(self.service),
        }

    @property
    def settings(self):
        training = TrainSettings(trials=1, folds=2, min_bars=100)
        uri = self.environment["MLOPS_TRACKING_URI"]
        return Settings(state=self.state, tracking_uri=uri, service=ServiceSettings(port=self.service), train=training)

    def call(self, *arguments, status=0):
        command = [sys.executable, "-m", "jobs.command", *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=600)
        assert status == done.returncode, done.stdout + done.stderr
        return done.stdout

    def standing(self):
        return {part.name: part for part in up.present(self.state).parts}

    def until_up(self, name, *, after):
        """The part `name`, once it was restarted and is up again."""
        deadline = time.monotonic() + 240
        while (part := self.standing()[name]).state != "up" or part.restarts <= after:
            assert time.monotonic() < deadline, part
            time.sleep(0.2)
        return part


@pytest.fixture
def place(tmp_path):
    found = Place(tmp_path / "live")
    yield found
    found.call("down")


def test_every_part_that_is_killed_comes_back_while_the_rest_keeps_its_pid_and_down_leaves_nothing(place):
    said = place.call("up")
    assert place.environment["MLOPS_TRACKING_URI"] in said
    assert PARTS == set(place.standing())
    assert "up already" in place.call("up")

    for name in ("mlflow", "service", "scheduler"):
        before = place.standing()
        # Of MLflow this is the parent only: its worker goes on serving, and holds the port.
        os.kill(before[name].pid, signal.SIGKILL)
        after = place.until_up(name, after=before[name].restarts)

        assert before[name].pid != after.pid
        others = {other: part.pid for other, part in before.items() if other != name}
        assert others == {other: part.pid for other, part in place.standing().items() if other != name}
    with opened(place.settings) as house:
        _eventually(lambda: not house.ledger.alerts())
        known = house.ledger.alerts(open_only=False)
        assert PARTS == {alert.key.split(":")[1] for alert in known if alert.key.startswith("part_down:")}

    processes = up.leftovers(place.state)
    assert len(processes) >= 5  # the supervisor, MLflow and its worker, service, scheduler
    assert "supervisor, mlflow, service, scheduler" in place.call("down")
    assert not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)
    assert "Nothing runs" in place.call("down")


def test_what_a_killed_supervisor_left_is_ended_by_the_next_one(place):
    place.call("up")
    first = up.present(place.state)
    stray = subprocess.Popen(  # as a job in a session of its own, which nothing ended
        [sys.executable, "-c", "import time; time.sleep(3600)"],
        env={**os.environ, up.MARK: str(place.state)},
        start_new_session=True,
    )
    os.kill(first.pid, signal.SIGKILL)
    _eventually(lambda: not up.present(place.state).running)

    place.call("up")

    assert -signal.SIGTERM == stray.wait(10)
    assert first.pid != up.present(place.state).pid
    assert not any(psutil.pid_exists(part.pid) and _running(part.pid) for part in first.parts)


def test_down_ends_what_a_killed_supervisor_left(place):
    place.call("up")
    os.kill(up.present(place.state).pid, signal.SIGKILL)
    place.call("down")

    assert [] == up.leftovers(place.state)


def test_a_port_that_is_taken_is_named_with_the_remedy_and_nothing_is_started(place):
    with socket.socket() as other:
        other.bind(("127.0.0.1", place.mlflow))
        other.listen()
        said = " ".join(place.call("up", status=1).split())

    assert f"port {place.mlflow} of mlflow must be free" in said
    assert f"process {os.getpid()}" in said
    assert f"MLOPS_TRACKING_URI=http://127.0.0.1:{place.mlflow + 1}" in said
    assert [] == up.leftovers(place.state)


def test_a_set_up_that_was_lost_comes_back_from_its_backup_and_the_doctor_finds_nothing(
    place, bars, tmp_path, monkeypatch
):
    """With accounts in MLflow. Backed up while it runs, with a champion; the folder destroyed; restored elsewhere."""
    place.environment["MLOPS_TRACKING_AUTH"] = "true"
    place.call("up")
    for name, value in credentials(place.settings.model_copy(update={"tracking_auth": True})).items():
        monkeypatch.setenv(name, value)
    with opened(place.settings) as house:
        ref = train.train(house, STRATEGIES["volatility"], bars, as_of=datetime(2006, 1, 1, tzinfo=UTC), start=None)
        promote.promote(house, ref, reason="first", actor="test", at=datetime.now(UTC))
    place.call("trading-state", "set", "reducing", "--reason", "a quiet week", "--actor", "test")
    assert [] == _wrong(place)
    status = _models(place.call("status"))
    place.call("backup", tmp_path / "copy.tar.zst")
    place.call("down")
    shutil.rmtree(place.state)

    new = Place(tmp_path / "elsewhere" / "live", (place.mlflow, place.service))
    new.environment["MLOPS_TRACKING_AUTH"] = "true"
    new.call("restore", tmp_path / "copy.tar.zst")
    try:
        new.call("up")

        assert status == _models(new.call("status"))
        assert "Trading: reducing" in new.call("status")
        with opened(new.settings) as house:
            bundle = house.bundle(ModelRef("volatility", house.ledger.champion("volatility")))
            assert bundle.digest == house.ledger.bundle("volatility", 1).digest
        assert [] == _wrong(new)
    finally:
        new.call("down")


def _wrong(place):
    """What the doctor finds; that nobody made an API key yet is no fault of the platform."""
    return [
        found
        for found in orjson.loads(place.call("doctor", "--json"))
        if found["level"] != "ok" and found["check"] != "api keys"
    ]


def _models(said):
    return [line for line in said.splitlines() if "volatility" in line]


def _running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _eventually(holds, limit_s=30):
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
