"""Every error that the doctor can find without MLflow's server, made for real. Those with it: tests/e2e/test_doctor_mlflow.py."""

import http.server
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from pydantic import SecretStr
from sqlalchemy import insert
from typer.testing import CliRunner

from jobs.cli import main
from jobs.doctor import Setup, command, machine, server, work
from jobs.stack import up
from jobs.stack.servers import free_port, own_secret
from jobs.stack.supervisor import Board
from mlops.io.ledger import Ledger
from mlops.io.ledger.dispatches import Dispatch, Lease
from mlops.io.spool import Reader, Spool
from mlops.io.storage import schema
from mlops.settings import HookSettings, OutgoingSettings, ServiceSettings, Settings, StorageSettings
from mlops.types import Alert, Level, Priority, TradingState
from registry_hooks.webhooks.outgoing import Sender

NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
SECRET = SecretStr("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYo=")


@pytest.fixture
def settings(tmp_path):
    """Of a set-up whose ledger is there and current."""
    found = Settings(state=tmp_path / "live", tracking_uri=f"http://127.0.0.1:{free_port()}")
    with Ledger(found.ledger):
        pass
    return found


@contextmanager
def _setup(settings, **changes):
    setup = Setup(settings, **changes)
    try:
        yield setup
    finally:
        setup.close()


def _found(settings, *checks, **changes):
    with _setup(settings, **{"environment": {}, "clock": lambda: NOW, **changes}) as setup:
        return [found for found in command.examine(setup, checks) if found.level in (Level.WARN, Level.ALERT)]


def _one(settings, *checks, **changes):
    (found,) = _found(settings, *checks, **changes)
    assert found.remedy
    return found


def _with(settings, **changes):
    return settings.model_copy(update=changes)


# the machine


def test_this_python_is_right():
    assert [] == list(machine.wrong_python(sys.version_info[:2]))


def test_another_python_is_named():
    (problem,) = machine.wrong_python((3, 12))

    assert "Python is 3.12, not 3.11" == problem.what


def test_what_is_installed_here_is_looked_up():
    assert machine.installed.get("mlflow") is not None
    assert machine.installed.get("no-such-package") is None


def test_every_pin_of_the_constraints_file_is_read():
    pins = machine.pins(machine.PINS.read_text())

    assert set(machine.VITAL) <= set(pins)
    assert pins["pandas"].startswith("2.")


@pytest.mark.parametrize(("have", "said"), [({"pandas": "3.0.1"}, "pandas is 3.0.1"), ({}, "pandas is none")])
def test_a_vital_package_of_another_version_or_missing_is_an_error(have, said):
    (problem,) = machine.wrong_packages({"pandas": "2.3.3"}, have)

    assert (Level.ALERT, True) == (problem.level, problem.what.startswith(said))


def test_other_packages_of_another_version_are_a_warning_together():
    (problem,) = machine.wrong_packages(
        {"rich": "1", "typer": "2", "httpx": "3"}, {"rich": "9", "typer": "9", "httpx": "3"}
    )

    assert (Level.WARN, True) == (problem.level, "rich 9 (tested: 1), typer 9 (tested: 2)" in problem.what)


def test_a_build_of_the_version_that_was_tested_is_that_version():
    assert [] == list(machine.wrong_packages({"torch": "2.13.0"}, {"torch": "2.13.0+cpu"}))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("_MLFLOW_WEBHOOK_ALLOWED_SCHEMES", "http", "ignored by MLflow"),
        ("MLOPS_SERVICE_PORT", "8100", "no setting of ours"),
        ("MLOPS_MONITOR__WINDOWS", "1", "no setting of ours"),
        ("MLFLOW_TRACKING_URI", "http://other:5000", "differs from the setting"),
        ("MLFLOW_REGISTRY_URI", "http://other:5000", "differs from the setting"),
    ],
)
def test_a_variable_that_does_not_mean_what_it_seems_to_is_named(settings, name, value, said):
    found = _one(settings, "variables", environment={name: value})

    assert said in found.what
    assert name in found.what


def test_variables_that_are_right_are_no_problem(settings):
    right = {"MLOPS_SERVICE__PORT": "8100", "MLFLOW_TRACKING_URI": settings.tracking_uri + "/", "MLOPS_STATE": "x"}

    assert [] == _found(settings, "variables", environment=right)
    assert [] == _found(settings, "variables", environment={"_MLFLOW_TELEMETRY_SESSION_ID": "MLflow's own"})


def test_a_state_folder_that_is_a_file_is_named(settings, tmp_path):
    (tmp_path / "file").write_text("")

    assert "cannot be written to" in _one(_with(settings, state=tmp_path / "file" / "live"), "state folder").what


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_state_folder_of_somebody_else_is_named(settings):
    settings.state.chmod(0o500)

    assert "cannot be written to" in _one(settings, "state folder").what


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "fuse.sshfs", "9p"])
def test_a_network_file_system_under_the_state_folder_is_named(tmp_path, kind):
    (problem,) = machine.wrong_disk(tmp_path, {"/": "ext4", str(tmp_path.parent): kind})

    assert kind in problem.what
    assert [] == list(machine.wrong_disk(tmp_path, {"/": kind, str(tmp_path.parent): "ext4"}))


def test_a_disk_with_too_little_room_is_named(settings):
    found = _one(_with(settings, storage=StorageSettings(min_free_mib=10**9)), "disk")

    assert "less than storage.min_free_mib = 1000000000" in found.what


def test_a_secret_that_others_can_read_is_named(settings):
    own_secret(settings.state, "webhook")
    (settings.state / "secrets" / "webhook").chmod(0o644)

    assert "can be read by others (mode 644)" in _one(settings, "secrets").what


def test_a_database_that_is_not_in_wal_mode_is_named(settings):
    with closing(sqlite3.connect(settings.state / "mlflow.db")) as connection:
        connection.execute("CREATE TABLE runs (id)")
    with closing(sqlite3.connect(settings.state / "ledger.db")) as connection:
        connection.execute("PRAGMA journal_mode=DELETE")

    assert {"mlflow.db", "ledger.db"} == {
        f.what.split(" is not")[0].rpartition("/")[2] for f in _found(settings, "journals")
    }


def test_settings_that_cannot_be_read_are_named(monkeypatch):
    monkeypatch.setenv("MLOPS_SERVICE__PORT", "eighty")

    (found,) = command.diagnose()

    assert ("settings", Level.ALERT) == (found.check, found.level)
    assert "service.port" in found.what


# the ledger


def test_a_ledger_that_is_not_there_yet_is_a_warning_and_is_not_made(tmp_path):
    found = _one(Settings(state=tmp_path / "new"), "ledger")

    assert (Level.WARN, True) == (found.level, "no ledger" in found.what)
    assert not (tmp_path / "new").exists()


def test_an_empty_database_is_a_warning(settings):
    (settings.state / "ledger.db").unlink()
    for rest in settings.state.glob("ledger.db-*"):
        rest.unlink()
    (settings.state / "ledger.db").touch()

    assert "no tables yet" in _one(settings, "ledger").what


@pytest.mark.parametrize(("revision", "said"), [("0001", "older release"), ("9999", "newer release")])
def test_a_ledger_of_another_release_is_named_and_not_migrated(settings, revision, said):
    with closing(sqlite3.connect(settings.state / "ledger.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))

    assert said in _one(settings, "ledger", "models", "jobs").what
    with closing(sqlite3.connect(settings.state / "ledger.db")) as connection:
        assert revision == connection.execute("SELECT version_num FROM alembic_version").fetchone()[0]


def test_a_damaged_ledger_is_named(settings):
    content = bytearray((settings.state / "ledger.db").read_bytes())
    content[16384:80000] = b"\xff" * (80000 - 16384)
    (settings.state / "ledger.db").write_bytes(content)

    assert "Restore the last backup" in _one(settings, "ledger").remedy


@pytest.mark.parametrize("wrong", ["postgresql+psycopg2://u@h/d", "mysql://h/d", "nonsense"])
def test_a_ledger_url_that_we_cannot_open_is_named(settings, wrong):
    assert "ledger URL" in _one(_with(settings, ledger_url=wrong), "ledger").what


def test_a_postgresql_that_is_away_is_named(settings):
    url = f"postgresql+psycopg://u@127.0.0.1:{free_port()}/d"

    assert "cannot be read" in _one(_with(settings, ledger_url=url), "ledger", "models", "jobs").what


# clocks


@pytest.mark.parametrize(
    ("off", "level"), [(0, None), (1, None), (10, Level.WARN), (-10, Level.WARN), (400, Level.ALERT)]
)
def test_a_clock_that_is_off_is_named(off, level):
    theirs = NOW + timedelta(seconds=off)
    found = [p.level for p in work.skewed("x", NOW, NOW, theirs, timedelta(seconds=300))]

    assert ([level] if level else []) == found


def test_a_postgresql_with_another_time_is_named(settings, url):
    if not url.startswith("postgresql"):
        pytest.skip("SQLite has our clock")
    with Ledger(url):
        pass
    elsewhere = _with(settings, ledger_url=url)

    assert [] == _found(elsewhere, "ledger", "clock", clock=lambda: datetime.now(UTC))
    slow = _one(elsewhere, "ledger", "clock", clock=lambda: datetime.now(UTC) - timedelta(minutes=10))
    assert (Level.ALERT, True) == (
        slow.level,
        "PostgreSQL is 600 s off" in slow.what or "PostgreSQL is 599" in slow.what,
    )


# MLflow, where it is not there at all


@pytest.mark.parametrize("uri", ["sqlite:///mlflow.db", "./mlruns", "file:///tmp/x"])
def test_a_store_without_a_server_is_named(settings, uri):
    assert "sends no webhooks" in _one(_with(settings, tracking_uri=uri), "mlflow store", "mlflow server").what


def test_a_server_that_is_away_is_named_once(settings):
    checks = ("ledger", "mlflow store", "mlflow server", "mlflow release", "mlflow webhook", "models")

    assert "does not answer" in _one(settings, *checks).what
    with _setup(settings) as setup:
        skipped = [found.check for found in command.examine(setup, checks) if found.level is Level.UNKNOWN]
    assert ["mlflow release", "mlflow webhook", "models"] == skipped


def test_something_else_at_mlflows_address_is_named(settings):
    with _answering(418) as port:
        assert "answers 418" in _one(_with(settings, tracking_uri=f"http://127.0.0.1:{port}"), "mlflow server").what


@pytest.mark.parametrize(
    ("theirs", "level"), [("3.17.2", None), ("3.16.0", Level.WARN), ("2.22.0", Level.ALERT), ("<html>", Level.ALERT)]
)
def test_a_server_of_another_release_is_named(theirs, level):
    assert ([level] if level else []) == [p.level for p in server.wrong_release(theirs, "3.17.2")]


# doors


@contextmanager
def _answering(status, ready=None):
    """A real HTTP server on a free port."""

    class Say(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(ready if ready and self.path == "/readyz" else status)
            self.end_headers()
            self.wfile.write(b'{"ledger":"OperationalError"}')

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Say) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield listening.server_port
        finally:
            listening.shutdown()
            thread.join()


def _at(settings, port):
    return _with(settings, service=ServiceSettings(port=port))


def test_a_service_that_is_away_is_named(settings):
    assert "does not answer" in _one(_at(settings, free_port()), "service").what


def test_a_service_that_is_not_ready_is_named_with_its_reason(settings):
    with _answering(200, ready=503) as port:
        assert "not ready" in (found := _one(_at(settings, port), "service")).what
    assert "OperationalError" in found.what


def test_something_else_at_the_services_address_is_named(settings):
    with _answering(404) as port:
        assert "answers 404" in _one(_at(settings, port), "service").what


def test_a_webhook_secret_that_is_missing_or_short_is_named(settings):
    assert "is not set" in _one(settings, "webhook secret").what
    short = _with(settings, service=ServiceSettings(webhook_secret=SecretStr("x" * 23)))
    assert "has 23 bytes, fewer than 24" in _one(short, "webhook secret").what


def test_the_secret_that_the_set_up_made_for_itself_is_found(settings):
    made = own_secret(settings.state, "webhook")

    assert made == command.with_own_secrets(settings).service.webhook_secret.get_secret_value()
    assert [] == _found(command.with_own_secrets(settings), "webhook secret")


def _key(settings, **changes):
    row = {"id": "a", "label": "bot", "digest": "x", "scopes": "score", "created_at": NOW, **changes}
    with Ledger(settings.ledger) as ledger, ledger.writing() as connection:
        connection.execute(insert(schema.api_keys).values(row))


def test_no_api_key_is_a_warning(settings):
    assert (Level.WARN, "trader-mlops key add") == ((f := _one(settings, "ledger", "api keys")).level, f.remedy)


def test_an_api_key_that_expired_is_named_and_one_that_was_revoked_is_not(settings):
    _key(settings, expires_at=NOW - timedelta(days=1))
    _key(settings, id="b", label="old", expires_at=NOW - timedelta(days=1), revoked_at=NOW)

    assert "API key 'bot' expired" in _one(settings, "ledger", "api keys").what


def _hook(url, secret=SECRET):
    return HookSettings(name="bot", url=url, secret=secret)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://bot.example/hook", "must use https"),
        ("ftp://bot.example/", "must start with https"),
        ("https://127.0.0.1/hook", "is a private address"),
        ("https://localhost/hook", "is a private address"),
    ],
)
def test_a_hook_to_an_address_that_is_refused_is_named(settings, address, said):
    outgoing = OutgoingSettings(hooks=(_hook(address),))

    assert any(said in found.what for found in _found(_with(settings, outgoing=outgoing), "outgoing hooks"))


def test_a_hook_to_a_host_that_does_not_exist_is_named(settings):
    outgoing = OutgoingSettings(hooks=(_hook("https://no-such-host.invalid/"),))

    assert "not resolved" in _one(_with(settings, outgoing=outgoing), "outgoing hooks").what


def test_a_private_address_that_is_allowed_by_name_is_no_problem(settings):
    outgoing = OutgoingSettings(hooks=(_hook("http://localhost:1/"),), allow_hosts=("localhost",))

    assert [] == _found(_with(settings, outgoing=outgoing), "ledger", "outgoing hooks")


def test_a_hook_with_a_weak_secret_is_named(settings):
    hook = _hook("http://localhost:1/", SecretStr("whsec_c2hvcnQ="))
    outgoing = OutgoingSettings(hooks=(hook,), allow_hosts=("localhost",))

    assert "secret of hook bot" in _one(_with(settings, outgoing=outgoing), "ledger", "outgoing hooks").what


@pytest.mark.parametrize(
    ("state", "disabled", "said"), [("dead", "", "1 dead letters"), ("delivered", "410 Gone", "not sent to any more")]
)
def test_dead_letters_and_endpoints_that_gave_up_are_named(settings, state, disabled, said):
    outgoing = OutgoingSettings(hooks=(_hook("http://localhost:1/"),), allow_hosts=("localhost",))
    with Ledger(settings.ledger) as ledger:
        Sender(ledger, outgoing, lambda: NOW)
        ledger.alerts.add(Alert("rollback:a:1", Priority.LOW, "", "x", NOW))
        lease = Lease(timedelta(seconds=1), timedelta(hours=1))
        claim = ledger.dispatches.claim("bot", ("alert",), "me", NOW, lease)
        ledger.dispatches.settle(
            claim, Dispatch("bot", claim.event.seq, state, 1, NOW, 500, "", NOW), probe_at=NOW, disabled=disabled
        )

    assert said in _one(_with(settings, outgoing=outgoing), "ledger", "outgoing hooks").what


# work


def test_a_transition_that_is_pending_for_long_is_named_and_a_fresh_one_is_not(settings):
    with Ledger(settings.ledger) as ledger:
        ledger.registry.append_promotion(
            "volatility",
            expected=None,
            to=1,
            kind="promote",
            actor="me",
            reason="why",
            evidence_run="",
            correlation_id="",
            at=NOW,
        )

    assert [] == _found(settings, "ledger", "transitions")
    late = _one(settings, "ledger", "transitions", clock=lambda: NOW + timedelta(hours=1))
    assert "volatility: transition to v1 is pending" in late.what


def test_a_job_that_is_dead_is_named(settings):
    _run(settings, lambda ledger, claim: ledger.job_runs.fail(claim, "boom", NOW, max_attempts=1, back_off_s=1))

    assert "failed at every attempt: boom" in _one(settings, "ledger", "jobs").what


def test_a_job_that_is_parked_is_named(settings):
    _run(settings, lambda ledger, claim: ledger.job_runs.park(claim, "No module named x", NOW, look_again_s=60))

    assert "cannot be imported: No module named x" in _one(settings, "ledger", "jobs").what


def _run(settings, end):
    with Ledger(settings.ledger) as ledger:
        ledger.job_runs.plan("once", NOW)
        end(ledger, ledger.job_runs.claim("me", NOW, lease_s=30, max_attempts=3))


def test_a_job_that_is_overdue_is_named_and_one_that_was_due_just_now_is_not(settings):
    with Ledger(settings.ledger) as ledger:
        ledger.job_runs.plan("once", NOW)

    assert [] == _found(settings, "ledger", "jobs")
    assert "is overdue" in _one(settings, "ledger", "jobs", clock=lambda: NOW + timedelta(hours=1)).what


def test_a_slot_that_nobody_planned_is_named(settings):
    friday = datetime(2026, 1, 2, 22, tzinfo=UTC)
    with Ledger(settings.ledger) as ledger:
        ledger.job_runs.plan("monitor:volatility", friday, state="skipped")

    assert [] == _found(settings, "ledger", "jobs")
    found = _one(settings, "ledger", "jobs", clock=lambda: friday + timedelta(days=8))
    assert "monitor:volatility should have been planned for 2026-01-09 22:00" in found.what


def test_an_open_critical_alert_is_named(settings):
    with Ledger(settings.ledger) as ledger:
        ledger.alerts.add(Alert("version-deleted:v1:m", Priority.CRITICAL, "", "champion is gone", NOW))
        ledger.alerts.add(Alert("rollback:b:1", Priority.HIGH, "", "something smaller", NOW))

    found = _one(settings, "ledger", "alerts")
    assert (Level.ALERT, "open alert: champion is gone") == (found.level, found.what)
    assert "docs/runbook.md, `version-deleted`" == found.remedy


@pytest.mark.parametrize(("state", "level"), [(TradingState.HALTED, Level.ALERT), (TradingState.REDUCING, Level.WARN)])
def test_trading_that_is_tightened_is_named(settings, state, level):
    with Ledger(settings.ledger) as ledger:
        ledger.trading.set(state, "risk", "look at it first", NOW)

    found = _one(settings, "ledger", "alerts")
    assert (level, f"trading is {state.value}") == (found.level, found.what)


def test_what_is_not_set_up_yet_is_said_to_be_none_and_not_ok(settings):
    with _answering(200) as port, _setup(_with(settings, tracking_uri=f"http://127.0.0.1:{port}")) as setup:
        found = command.examine(setup, ("ledger", "outgoing hooks", "models", "bots", "spool"))

    assert {("ledger", "ok"), *((name, "none") for name in ("outgoing hooks", "models", "bots", "spool"))} == {
        (line.check, line.word) for line in found
    }
    assert ["no price has come yet: nothing to look at"] == [line.what for line in found if "price" in line.what]


def test_a_part_that_is_down_and_a_supervisor_that_died_are_named(settings):
    (settings.state / "run").mkdir()
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom jobs.stack import up\nfrom jobs.stack.supervisor import Board\n"
        f"state = Path({str(settings.state)!r})\nlock = up._lock(state)\nlock.acquire()\n"
        "board = Board(state / 'run' / 'up.json', ['service', 'scheduler'])\n"
        "board.put('service', state='down', why='was ended by SIGKILL', failures=3)\n"
        f"board.put('scheduler', state='up', pid={os.getpid()})\n"
        "print('held', flush=True)\ntime.sleep(600)"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    try:
        assert b"held" in child.stdout.readline()
        assert "service is down" in _one(settings, "parts").what
    finally:
        child.send_signal(signal.SIGKILL)
        child.communicate()

    assert f"supervisor {child.pid} died" in _one(settings, "parts").what


def test_a_set_up_that_was_ended_in_order_is_no_problem(settings):
    (settings.state / "run").mkdir()
    Board(settings.state / "run" / "up.json", ["service"]).put("service", state="stopped")

    assert [] == _found(settings, "parts")


def test_a_part_that_is_frozen_is_named_though_its_supervisor_saw_it_well(settings):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    (settings.state / "run").mkdir()
    board = Board(settings.state / "run" / "up.json", ["scheduler"])
    board.put("scheduler", state="up", pid=child.pid)
    try:
        with up._lock(settings.state):
            assert [] == _found(settings, "parts")
            child.send_signal(signal.SIGSTOP)
            os.waitpid(child.pid, os.WUNTRACED)  # until it has stopped
            found = _one(settings, "parts")
            assert "scheduler is frozen" in found.what
            assert f"kill -CONT {child.pid}" in found.remedy
    finally:
        child.kill()
        child.wait()


def test_what_hangs_or_was_never_started_is_not_said_to_be_well_and_the_report_ends(settings, monkeypatch):
    monkeypatch.setattr(command, "LIMIT_S", 1.0)
    with socket.socket() as silent:  # it accepts, and says nothing
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        hangs = _with(settings, tracking_uri=f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        with _setup(hangs, environment={}) as setup:
            levels = {line.check: line.level for line in command.examine(setup, ("mlflow server", "clock", "parts"))}

    assert dict.fromkeys(("mlflow server", "clock", "parts"), Level.UNKNOWN) == levels
    assert time.monotonic() - began < 10


def test_a_clock_that_could_not_be_compared_is_unknown(settings):
    with _setup(settings, environment={}) as setup:
        lines = command.examine(setup, ("ledger", "clock"))

    assert [Level.OK, Level.UNKNOWN] == [line.level for line in lines]


def test_the_command_ends_with_its_own_status_where_something_was_not_looked_at(settings, monkeypatch):
    monkeypatch.setenv("MLOPS_STATE", str(settings.state))
    for name in set(command.CHECKS) - {"python", "parts"}:
        monkeypatch.delitem(command.CHECKS, name)

    assert command.NOT_SEEN == CliRunner().invoke(main.app, ["doctor"]).exit_code


def test_the_command_fails_when_anything_is_wrong_and_says_it_to_programs_too(settings, monkeypatch):
    monkeypatch.setenv("MLOPS_STATE", str(settings.state))
    monkeypatch.setenv("MLOPS_TRACKING_URI", settings.tracking_uri)
    said = CliRunner().invoke(main.app, ["doctor", "--json"])
    plain = CliRunner().invoke(main.app, ["doctor"])

    assert (1, 1) == (said.exit_code, plain.exit_code)
    rows = {row["check"]: row for row in orjson.loads(said.stdout)}
    assert ("fail", "unknown", "ok") == tuple(rows[name]["level"] for name in ("mlflow server", "models", "ledger"))
    assert "fail    mlflow server" in plain.stdout


def test_every_check_says_in_a_line_what_is_well():
    assert all((check.__doc__ or "").strip().endswith(".") for check in command.CHECKS.values())
    assert all(len(check.__doc__.splitlines()) == 1 for check in command.CHECKS.values())


def test_a_check_that_cannot_be_done_is_a_problem_and_not_a_trace(settings, monkeypatch):
    monkeypatch.setitem(command.CHECKS, "breaks", lambda setup: iter([setup.server.get("/")]))

    assert "cannot be checked: ConnectError" in _one(settings, "breaks").what


def test_scores_that_nobody_brings_and_damaged_ones_are_named(settings):
    folder = settings.state / "spool"
    spool = Spool(folder, 2**20)
    spool.append(b"score")
    assert [] == _found(settings, "spool", clock=lambda: datetime.now(UTC) + timedelta(hours=1))  # its bot lives
    spool.close()
    assert [] == _found(settings, "spool", clock=lambda: datetime.now(UTC))  # its courier may be on the way

    found = _one(settings, "spool", clock=lambda: datetime.now(UTC) + timedelta(hours=1))
    assert (Level.ALERT, True) == (found.level, "of scores wait" in found.what)

    Reader(folder).take(lambda records: None)
    (folder / "1.bad").write_bytes(b"x")
    found = _one(settings, "spool")
    assert (Level.WARN, True) == (found.level, "1.bad" in found.what)
