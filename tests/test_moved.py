"""Imports that documents of the release before showed still work, and say where the thing is now."""

import importlib
import subprocess
import sys

import pytest

from mlops.moved import MOVED


@pytest.mark.parametrize(("former", "now"), MOVED.items())
def test_a_documented_import_works_by_its_former_name(former, now):
    sys.modules.pop(former, None)
    with pytest.warns(DeprecationWarning, match=f"{former} is {now} now"):
        module = importlib.import_module(former)

    assert module is importlib.import_module(now)
    assert module.__name__ == module.__spec__.name == now


def test_each_import_that_documents_showed_works():
    shown = """
from jobs.command import app
from mlops.io import feed
from mlops.io.writer import Writer
from mlops.risk.comovement import comovement
from mlops.risk.conditional import conditional_stress, vine_stress
from mlops.risk.default import track_record
from mlops.risk.fitted import fit
from mlops.risk.greeks import greeks
from mlops.risk.joint import fit_joint
from mlops.risk.montecarlo import simulate
from mlops.risk.reverse import reverse_stress
from mlops.risk.sensitivity import shock_table
from mlops.risk.terminal import tail_loss
from mlops.risk.threshold import calibrate
from mlops.risk.views import with_views
import mlops.risk.views as views
assert views.with_views is with_views and with_views.__module__ == "mlops.risk.stress.views"
"""
    assert {name for name in MOVED if name not in shown} == {"mlops.io.feed", "registry_hooks.courier"}
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", shown]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (0, "") == (done.returncode, done.stderr)


def test_a_former_name_is_run_as_a_program():
    command = [sys.executable, "-m", "registry_hooks.courier"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "bot/courier.py" in done.stderr, "it ran, and missed the folder that it needs"


def test_a_module_that_never_was_is_still_missed():
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("mlops.risk.nothing")
