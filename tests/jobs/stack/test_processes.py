"""What a set-up is made of, by its settings."""

import subprocess
import sys

import pytest

from jobs.stack.processes import MARK, environment, live, parts
from mlops.errors import SettingsError
from mlops.settings import ServiceSettings, Settings
from registry_hooks.account import credentials


def _settings(tmp_path, **changes):
    return live(Settings(state=tmp_path / "live", **changes))


def test_mlflow_is_a_part_where_its_address_is_this_machine(tmp_path):
    mlflow, service, _, scheduler = parts(_settings(tmp_path, tracking_uri="http://127.0.0.1:5123"))

    assert ("mlflow", 5123, "http://127.0.0.1:5123/health") == (mlflow.name, mlflow.port, mlflow.health)
    assert ("service", 8100) == (service.name, service.port)
    assert ("scheduler", None) == (scheduler.name, scheduler.port)


@pytest.mark.parametrize("uri", ["https://mlflow.example", "http://mlflow.example:5000"])
def test_mlflow_is_no_part_where_its_address_is_elsewhere(tmp_path, uri):
    assert ["service", "standby", "scheduler"] == [part.name for part in parts(_settings(tmp_path, tracking_uri=uri))]


def test_a_store_without_a_server_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="must be the address of an MLflow server"):
        _settings(tmp_path, tracking_uri="sqlite:///mlflow.db")


def test_every_part_sees_one_and_the_same_house(tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://somewhere.else:1")
    monkeypatch.setenv("MLOPS_LEDGER_URL", "postgresql+psycopg://u@h/d")
    settings = _settings(tmp_path)
    state = str((tmp_path / "live").absolute())
    for part in parts(settings):
        seen = part.environment
        assert (state, state) == (seen["MLOPS_STATE"], seen[MARK])
        assert settings.tracking_uri == seen["MLFLOW_TRACKING_URI"] == seen["MLOPS_TRACKING_URI"]
        assert "postgresql+psycopg://u@h/d" == seen["MLOPS_LEDGER_URL"]
        assert 24 <= len(seen["MLOPS_SERVICE__WEBHOOK_SECRET"])


def test_a_secret_of_the_settings_wins_over_one_made_here_and_one_made_here_stays(tmp_path):
    own = _settings(tmp_path, service=ServiceSettings(webhook_secret="mine, and long enough for it"))
    assert "mine, and long enough for it" == environment(own)["MLOPS_SERVICE__WEBHOOK_SECRET"]

    made = [environment(_settings(tmp_path))["MLOPS_SERVICE__WEBHOOK_SECRET"] for _ in range(2)]
    assert made[0] == made[1]


def test_the_platform_signs_in_to_an_mlflow_with_accounts_only_if_it_runs_it(tmp_path):
    assert {} == credentials(_settings(tmp_path, tracking_auth=True))  # asking makes no password

    ours = parts(_settings(tmp_path, tracking_auth=True))
    theirs = parts(_settings(tmp_path, tracking_auth=True, tracking_uri="https://mlflow.example"))

    assert "--app-name" in ours[0].command
    assert {"admin"} == {part.environment["MLFLOW_TRACKING_USERNAME"] for part in ours}
    assert not any("MLFLOW_TRACKING_USERNAME" in part.environment for part in theirs)


LATE = {"numba", "matplotlib", "sklearn", "statsmodels", "lightgbm", "optuna", "psycopg"}


@pytest.mark.parametrize(
    ("process", "late"),
    [
        ("jobs.serve", LATE),
        ("jobs.worker", {*LATE, "scipy.stats"}),
        ("registry_hooks.bot.client", {*LATE, "scipy.stats"}),
    ],
)
def test_what_stays_up_starts_without_what_it_does_not_need(process, late):
    """A killed service has no other one beside it until its successor has started, and that was imports for the most."""
    code = f"import sys, {process}; print(sorted({late!r} & set(sys.modules)))"
    assert "[]\n" == subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
