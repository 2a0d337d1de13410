"""`trader-mlops` at a terminal: what starts it, what it prints for people and programs, and how it says an error."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import tables
from jobs.cli.commands import COMMANDS, load
from jobs.cli.main import app
from mlops.io.ledger import BundleRow, Ledger
from mlops.types import Alert, Priority

ROOT = Path(__file__).parents[3]
NOW = datetime(2026, 1, 5, 12, tzinfo=UTC)
SLOW = (
    "mlflow",
    "pandas",
    "scipy",
    "sqlalchemy",
    "alembic",
    "numpy",
    "pyarrow",
    "pydantic_settings",
    "structlog",
    "httpx",
)
PROGRAM = "import sys; sys.argv[0] = 'trader-mlops'; from jobs.cli.main import main; main()"
MODULES = "import atexit, sys; atexit.register(lambda: print('\\nMODULES', *sys.modules)); "
LISTS = (
    "alert list",
    "job list",
    "key list",
    "hook list",
    "hook dead",
    "fill list",
    "instrument list",
    "price list",
    "price log",
    "balance list",
    "balance told m",
    "bars list",
    "bars log",
    "trading-state show",
    "verify",
)


def start(*words, program=PROGRAM, **environment):
    return subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


def modules(done):
    """What a program had imported when it ended."""
    return done.stdout.rpartition("\nMODULES ")[2].split()


@pytest.fixture
def state(tmp_path, monkeypatch):
    """A set-up with a model and two alerts, and an MLflow that nobody started."""
    monkeypatch.setenv("MLOPS_STATE", str(tmp_path))
    monkeypatch.setenv("MLOPS_TRACKING_URI", "http://127.0.0.1:9")
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}") as ledger:
        ledger.registry.add_bundle(BundleRow("m", 1, "d" * 64, "run", "id", NOW, NOW, 5, NOW))
        ledger.alerts.add(Alert("bot_silent:m:1", Priority.HIGH, "m", "its bot is silent", NOW))
        ledger.alerts.add(Alert("part_down:x:1", Priority.CRITICAL, "", "a part is down", NOW + timedelta(days=1)))
    return tmp_path


@pytest.mark.parametrize("words", [["--help"], []])
def test_help_imports_nothing_that_is_slow(words):
    done = start(*words, program=MODULES + PROGRAM)

    assert "trading-state" in done.stdout + done.stderr
    assert [] == [name for name in SLOW if name in modules(done)]


def test_the_names_of_commands_are_completed_without_importing_them():
    about = {"_TRADER_MLOPS_COMPLETE": "complete_bash", "COMP_WORDS": "trader-mlops tr", "COMP_CWORD": "1"}
    done = start(program=MODULES + PROGRAM, **about)

    assert "trading-state" in done.stdout.split()
    assert [] == [name for name in SLOW if name in modules(done)]


def test_a_subcommand_is_completed():
    about = {"_TRADER_MLOPS_COMPLETE": "complete_bash", "COMP_WORDS": "trader-mlops alert cl", "COMP_CWORD": "2"}

    assert ["close"] == start(**about).stdout.split()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_about_a_command_is_how_its_own_help_begins(name):
    assert " ".join(load(name).help.split()).startswith(COMMANDS[name][1].rstrip("."))


def test_a_command_that_asks_the_ledger_alone_imports_no_mlflow(state):
    for words in ("alert list", "job list", "key list", "status"):
        done = start(*words.split(), program=MODULES + PROGRAM)

        assert 0 == done.returncode, done.stderr
        assert not {"mlflow", "scipy.stats", "alembic"} & {*modules(done)}, words


@pytest.mark.parametrize("words", LISTS)
def test_whatever_lists_prints_an_array_of_objects_for_programs(state, words):
    done = CliRunner().invoke(app, [*words.split(), "--json"])

    assert 0 == done.exit_code, done.output
    rows = json.loads(done.output)
    assert isinstance(rows, list)
    assert all(isinstance(row, dict) for row in rows)
    assert all(row.keys() == rows[0].keys() for row in rows)


def test_every_command_that_lists_takes_json():
    for name in COMMANDS:
        for sub, command in getattr(load(name), "commands", {}).items():
            if sub in ("list", "log", "show", "dead", "told"):
                assert f"{name} {sub}" in [" ".join(words.split()[:2]) for words in LISTS]
                assert "--json" in {option for parameter in command.params for option in parameter.opts}


def test_times_have_their_offset_and_what_is_not_known_is_null(state):
    (first, second) = json.loads(CliRunner().invoke(app, ["alert", "list", "--json"]).output)

    assert {
        "key": "part_down:x:1",
        "priority": "critical",
        "as_of": "2026-01-06T12:00:00+00:00",
        "title": "a part is down",
        "model": "",
        "closed_at": None,
    } == first
    assert "high" == second["priority"]


@pytest.mark.parametrize("words", ["alert list", "status"])
def test_a_critical_alert_comes_first_and_is_red_at_a_terminal(state, words):
    shown = CliRunner().invoke(app, words.split(), env={"COLUMNS": "80"}).output
    assert shown.index("a part is down") < shown.index("its bot is silent")

    seen = at_terminal(words.split(), until="bot_silent:m:1")
    assert re.search(r"\x1b\[1;(2;)?31m", seen[: seen.index("a part is down")])


@pytest.mark.parametrize("columns", [40, 80])
def test_a_list_too_wide_for_the_terminal_is_blocks_and_nothing_of_it_is_cut(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    link = "http://127.0.0.1:5000/#/experiments/1/runs/" + "f" * 60
    rows = [{"key": "a:b", "evidence": link, "price": 1.25, "at": NOW, "gone": None}]

    tables.show(rows, ("key", "evidence", "price", "at", "gone"))

    shown = capsys.readouterr().out
    assert link in shown
    assert all(word in shown for word in ("a:b", "1.25", "2026-01-05 12:00"))
    assert "…" not in shown


def test_a_pipe_gets_a_row_a_line_however_long(monkeypatch, capsys):
    monkeypatch.delenv("COLUMNS", raising=False)
    tables.show([{"key": "k" * 200, "why": "w" * 200}], ("key", "why"))

    assert [line for line in capsys.readouterr().out.splitlines() if "k" * 200 in line and "w" * 200 in line]


def test_an_error_is_a_line_on_standard_error_and_debug_shows_where(state):
    plain, debug = start("explain", "nosuch"), start("explain", "nosuch", "--debug")

    assert [1, 1] == [plain.returncode, debug.returncode]
    assert "" == plain.stdout
    (line,) = plain.stderr.strip().splitlines()
    assert line.startswith("DataError: model must be one that was trained here (m), got 'nosuch'. Check the name")
    assert line.endswith(f"this is {state}.")
    assert "Traceback" in debug.stderr


def test_a_job_says_its_error_in_a_line_too(state):
    program = "import runpy, sys; sys.argv[0] = 'x'; runpy.run_module('jobs.compare', run_name='__main__')"
    plain = start("--model", "nosuch", program=program)
    debug = start("--model", "nosuch", "--debug", program=program)

    assert [1, 1] == [plain.returncode, debug.returncode]
    assert plain.stderr.strip().startswith("compare failed: model must be one that was trained here (m)")
    assert 1 == len(plain.stderr.strip().splitlines())
    assert "Traceback" in debug.stderr


def test_a_watch_without_a_terminal_is_refused(state):
    done = CliRunner().invoke(app, ["alert", "list", "--watch"])

    assert 2 == done.exit_code
    assert "must have a terminal" in " ".join(done.output.replace("│", "").split())


def test_a_watch_shows_what_comes_until_it_is_ended(state):
    def come():
        with Ledger(f"sqlite:///{state / 'ledger.db'}") as ledger:
            ledger.alerts.add(Alert("loop_failed:risk:1", Priority.HIGH, "", "a loop ended", NOW))

    seen = at_terminal(["alert", "list", "--watch"], until="bot_silent:m:1", then=come, finally_until="loop_failed")

    assert "loop_failed:risk:1" in seen


def at_terminal(words, *, until, then=None, finally_until=None):
    """What a person sees who runs a command at a terminal of 80 columns, and ends it with Ctrl-C where it goes on."""
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests may ignore it
        environment = {k: v for k, v in os.environ.items() if k not in ("COLUMNS", "NO_COLOR", "TERM")}
        environment |= {"TERM": "xterm", "COLUMNS": "80", "LINES": "24"}
        os.chdir(ROOT)
        os.execve(sys.executable, [sys.executable, "-c", PROGRAM, *words], environment)
    seen = _read(terminal, until)
    if then is not None:
        then()
        seen += _read(terminal, finally_until)
        os.write(terminal, b"\x03")
    seen += _read(terminal, None)
    os.waitpid(pid, 0)
    os.close(terminal)
    return seen


def _read(terminal, until):
    """What comes until a text is there; all of it where that is None."""
    seen, deadline = "", time.monotonic() + 120
    while (until is None or until not in seen) and time.monotonic() < deadline:
        if select.select([terminal], [], [], 1)[0]:
            try:
                seen += os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # its program ended
                break
    assert until is None or until in seen, seen
    return seen
