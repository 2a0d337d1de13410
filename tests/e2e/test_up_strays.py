"""What a killed supervisor left, and a port that somebody else has."""

import os
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from place import eventually, running

from jobs.stack import up

pytestmark = pytest.mark.e2e


def test_what_a_killed_supervisor_left_is_ended_by_the_next_one(place):
    place.call("up")
    first = up.present(place.state)
    stray = subprocess.Popen(  # as a job in a session of its own, which nothing ended
        [sys.executable, "-c", "import time; time.sleep(3600)"],
        env={**os.environ, up.MARK: str(place.state)},
        start_new_session=True,
    )
    os.kill(first.pid, signal.SIGKILL)
    eventually(lambda: not up.present(place.state).running)

    place.call("up")

    assert -signal.SIGTERM == stray.wait(10)
    assert first.pid != up.present(place.state).pid
    assert not any(psutil.pid_exists(part.pid) and running(part.pid) for part in first.parts)


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


def test_a_set_up_whose_mlflow_is_frozen_or_lost_its_port_is_not_called_up(place):
    place.call("up")
    mlflow = place.standing()["mlflow"]
    os.kill(mlflow.pid, signal.SIGSTOP)
    eventually(lambda: psutil.Process(mlflow.pid).status() == psutil.STATUS_STOPPED)
    for command, status in (("up", 1), ("status", 0), ("doctor", 1)):
        assert "mlflow is frozen" in " ".join(place.call(command, status=status).split())

    os.killpg(mlflow.pid, signal.SIGKILL)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        eventually(lambda: _bound(other, place.mlflow))
        other.listen()
        eventually(lambda: "is taken by" in place.standing()["mlflow"].why, 120)
        for command, status in (("up", 1), ("status", 0), ("doctor", 1)):
            said = " ".join(place.call(command, status=status).split())
            assert "mlflow is down since" in said
            assert f"port {place.mlflow} is taken by" in said
            assert f"process {os.getpid()}" in said
    place.until_up("mlflow", after=mlflow.restarts)

    assert "It is up already" in place.call("up")


def _bound(probe, port):
    try:
        probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True
