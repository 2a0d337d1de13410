"""A set-up and the shell of its owner, for the tests of `make up`."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from jobs.stack import up
from jobs.stack.servers import free_port
from mlops.settings import ServiceSettings, Settings, TrainSettings

ROOT = Path(__file__).parents[2]
PARTS = {"mlflow", "service", "standby", "scheduler"}


class Place:
    """A set-up and the shell of its owner."""

    def __init__(self, state, ports=None):
        self.state = state
        self.mlflow, self.service = ports or (free_port(), free_port())
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_TRACKING")},
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
        command = [sys.executable, "-m", "jobs.cli.main", *map(str, arguments)]
        done = subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=600)
        assert status == done.returncode, done.stdout + done.stderr
        return done.stdout + (done.stderr if status else "")

    def standing(self):
        return {part.name: part for part in up.present(self.state).parts}

    def until_up(self, name, *, after):
        """The part `name`, once it was restarted and is up again."""
        deadline = time.monotonic() + 240
        while (part := self.standing()[name]).state != "up" or part.restarts <= after:
            assert time.monotonic() < deadline, part
            time.sleep(0.2)
        return part


def running(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def eventually(holds, limit_s=30):
    deadline = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)
