"""`trader-mlops doctor`: what is wrong with a set-up, and how to mend it. Looking changes nothing.

To add a check: one function that yields what it found wrong, and one line in CHECKS.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterable
from dataclasses import dataclass

import mlflow
import typer
from pydantic import SecretStr

from jobs.cli.tables import AsJson, print_json
from jobs.cli.terminal import console, working
from jobs.doctor import Check, Problem, Setup, endpoints, machine, own_file, server, work
from mlops import settings as settings_room
from mlops.errors import SettingsError
from mlops.settings import Settings
from mlops.types import Level
from registry_hooks.account import credentials

WORDS = {Level.OK: "ok", Level.WARN: "warn", Level.ALERT: "fail", Level.UNKNOWN: "unknown"}
NONE = "none"  # there is nothing yet to look at: not ok, and nothing to mend
COLOURS = {Level.OK: "green", Level.WARN: "yellow", Level.ALERT: "red", Level.UNKNOWN: "magenta"}
LIMIT_S = 10.0  # of one check: then it was not looked at
WRONG, NOT_SEEN = 1, 3  # exit statuses
CHECKS: dict[str, Check] = {  # in this order: what comes later may rest on what came before
    "python": machine.python,
    "packages": machine.packages,
    "variables": machine.variables,
    "state folder": machine.folder,
    "disk": machine.room,
    "secrets": machine.secrets,
    "modes": machine.modes,
    "journals": machine.journals,
    "ledger": work.ledger,
    "mlflow store": server.store,
    "mlflow server": server.reachable,
    "mlflow release": server.release,
    "mlflow accounts": server.accounts,
    "clock": work.clock,
    "service": endpoints.service,
    "webhook secret": endpoints.webhook_secret,
    "mlflow webhook": server.hooks,
    "api keys": endpoints.keys,
    "outgoing hooks": endpoints.outgoing,
    "models": work.models,
    "bots": work.bots,
    "transitions": work.transitions,
    "jobs": work.jobs,
    "parts": work.parts,
    "spool": work.spool,
    "alerts": work.critical,
}
# A retry in MLflow's client would make an answer of half a minute out of every error.
IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "8"}


@dataclass(frozen=True, slots=True)
class ReportLine:
    """A line of the report. `level` is OK, WARN, ALERT, or UNKNOWN where it could not be looked at.

    `none`: there is nothing yet to look at.
    """

    check: str
    level: Level
    what: str
    remedy: str = ""
    none: bool = False

    @property
    def word(self) -> str:
        """What the report says: ok, warn, fail, unknown or none."""
        return NONE if self.none else WORDS[self.level]


def examine(setup: Setup, checks: Iterable[str] | None = None) -> list[ReportLine]:
    """Do the checks, in their order; each gives one line when all is well, else one a problem."""
    lines: list[ReportLine] = []
    for name in list(CHECKS) if checks is None else checks:
        check = CHECKS[name]
        problems = _asked(check, setup)
        lines += [ReportLine(name, problem.level, problem.what, problem.remedy, problem.none) for problem in problems]
        if not problems:
            lines.append(ReportLine(name, Level.OK, (check.__doc__ or "").strip()))
    return lines


def diagnose() -> list[ReportLine]:
    """Examine the set-up of this process."""
    try:
        settings = settings_room.read()
    except SettingsError as error:
        return [ReportLine("settings", Level.ALERT, str(error), "Correct mlops.toml or the variable")]
    setup = Setup(with_own_secrets(settings))
    for name, value in {**IMPATIENT, **credentials(settings)}.items():
        os.environ.setdefault(name, value)
    mlflow.set_tracking_uri(settings.tracking_uri)
    try:
        return [ReportLine("settings", Level.OK, "Settings are valid."), *examine(setup)]
    finally:
        setup.close()


def report(as_json: AsJson = False) -> None:
    """Tell what is wrong with this set-up, and how to mend it. Status 1 if anything is, 3 if something was not seen."""
    with working("checking"):
        lines = diagnose()
    if as_json:
        rows = [{"check": f.check, "level": f.word, "what": f.what, "remedy": f.remedy} for f in lines]
        print_json(rows)
    else:
        for line in lines:
            _say(line)
    levels = {line.level for line in lines}
    if levels & {Level.ALERT, Level.UNKNOWN}:
        raise typer.Exit(WRONG if Level.ALERT in levels else NOT_SEEN)


def _say(line: ReportLine) -> None:
    colour = "dim" if line.none else COLOURS[line.level]
    console.print(f"[{colour}]{line.word:<8}[/]{line.check:<16}", end="")
    console.print(line.what, markup=False, highlight=False, soft_wrap=True)
    if line.remedy:
        console.print(f"{'':24}→ {line.remedy}", markup=False, highlight=False, soft_wrap=True)


def with_own_secrets(settings: Settings) -> Settings:
    """The settings with the webhook secret that the set-up made for itself, if it made one."""
    if settings.service.webhook_secret.get_secret_value():
        return settings
    secret = SecretStr(own_file(settings.state, "webhook"))
    return settings.model_copy(update={"service": settings.service.model_copy(update={"webhook_secret": secret})})


def _asked(check: Check, setup: Setup) -> list[Problem]:
    """What a check found within its time; one that cannot be done is a problem too."""
    answers: queue.SimpleQueue[list[Problem]] = queue.SimpleQueue()
    threading.Thread(target=lambda: answers.put(_done(check, setup)), daemon=True).start()
    try:
        return answers.get(timeout=LIMIT_S)
    except queue.Empty:
        text = f"not looked at: no answer within {LIMIT_S:.0f} s"
        return [Problem(text, "What it asks hangs, or the machine is busy", Level.UNKNOWN)]


def _done(check: Check, setup: Setup) -> list[Problem]:
    try:
        return list(check(setup))
    except Exception as error:  # noqa: BLE001 (the edge of a thread)
        return [Problem(f"cannot be checked: {type(error).__name__}: {error}", "Mend what is named above first")]
