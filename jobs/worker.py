"""The scheduler: plans runs by the clock, claims them by the ledger, and runs each in a process group of its own.

Any number of schedulers may share a ledger. Kill any of them, or a run, at any point: the lease runs out and another
attempt is made; what the killed one wanted to write is refused, and the MLflow runs that it left open are closed.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import psutil
import structlog
import typer
from mlflow import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from jobs import schedule as calendar
from jobs.cli.number_options import whole
from jobs.cli.terminal import start_job
from jobs.context import A_JOB, Context, moment, opened, settings_for, wait_at_most
from jobs.schedule import SCHEDULE, Entry
from jobs.stack.servers import end_group
from jobs.stack.supervisor import die_with_parent, output
from mlops.alerts import ALERTS
from mlops.errors import MlopsError, RegistryError
from mlops.io import logs, private_files, record
from mlops.io.ledger import Ledger
from mlops.io.ledger.job_runs import Claim, JobRun, run_key
from mlops.settings import JobSettings
from mlops.types import Alert

log = structlog.get_logger()
TICK_S = 0.5  # between two looks at clock and children
REPORT_S = 30.0  # between two looks at dead letters and at runs that a kill left open
LOOK_AGAIN_S = 60.0  # until a parked run is tried again
NO_CODE = 78  # exit status: the job's code cannot be imported (EX_CONFIG of sysexits.h)
ERROR_BYTES = 3_000  # of a run's log, its end, kept with the row
Launch = Callable[[Claim], tuple[Sequence[str], Path]]


@dataclass
class Run:
    """A run under way here."""

    claim: Claim
    process: subprocess.Popen[bytes]
    log: Path
    began: float = field(default_factory=time.monotonic)
    renewed: float = field(default_factory=time.monotonic)


class Worker:
    """One scheduler.

    Parameters
    ----------
    models : callable
        Names of the models that jobs look at.
    launch : callable
        Claim -> command of the process that does it, and where its output goes. The process completes the claim itself.
    clock : callable
        The time, aware. Leases and slots go by it; limits and heartbeats by the monotonic clock.
    report : callable, optional
        Called now and then with the time: tell of dead letters, close what kills left open.
    """

    def __init__(
        self,
        ledger: Ledger,
        settings: JobSettings,
        *,
        models: Callable[[], Sequence[str]],
        launch: Launch,
        schedule: Sequence[Entry] = SCHEDULE,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        report: Callable[[datetime], None] | None = None,
    ) -> None:
        self._ledger, self._settings, self._schedule = ledger, settings, schedule
        self._models, self._launch, self._clock, self._report = models, launch, clock, report
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._runs: list[Run] = []
        self._reported = float("-inf")

    def work(self, stop: threading.Event) -> None:
        """Until told to stop; runs under way are then ended and handed back, to be done by whoever is next."""
        while not stop.is_set():
            try:
                self.tick()
            except (SQLAlchemyError, MlopsError) as error:  # the ledger is away: its rows wait
                log.warning("scheduler cannot reach the ledger", error=str(error))
            stop.wait(TICK_S)
        for run in self._runs:
            end_group(run.process.pid)
            run.process.wait()
            self._ledger.job_runs.hand_back(run.claim, self._clock())

    def tick(self) -> None:
        """Plan, look after what runs, start what may run."""
        calendar.plan(self._ledger, self._models(), self._clock(), self._schedule)
        self._runs = [run for run in self._runs if self._goes_on(run)]
        s = self._settings
        while len(self._runs) < s.parallel:
            claim = self._ledger.job_runs.claim(
                self._owner, self._clock(), lease_s=s.lease_s, max_attempts=s.max_attempts
            )
            if claim is None:
                break
            if not self._start(claim):
                break
        if self._report is not None and time.monotonic() - self._reported >= REPORT_S:
            self._reported = time.monotonic()
            self._report(self._clock())

    def _start(self, claim: Claim) -> bool:
        """Start a claimed run; one that cannot be started now is handed back with its attempts."""
        try:
            self._runs.append(self._started(claim))
        except OSError as error:  # no process can be made
            log.error("job cannot be started", run=claim.key, error=str(error))
            self._ledger.job_runs.hand_back(claim, self._clock())
            return False
        return True

    def _started(self, claim: Claim) -> Run:
        command, path = self._launch(claim)
        with output(path) as sink:
            process = subprocess.Popen(  # noqa: S603
                command,
                stdout=sink,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                umask=private_files.MASK,
                preexec_fn=die_with_parent,
            )
        log.info("job started", run=claim.key, attempt=claim.attempts, pid=process.pid)
        return Run(claim, process, path)

    def _goes_on(self, run: Run) -> bool:
        """Whether the run still lives; one that ended, or must end, is seen to."""
        status = run.process.poll()
        if status is not None:
            end_group(run.process.pid)  # what it started and left behind
            self._ended(run, status)
            return False
        why = self._trespass(run)
        if not why and time.monotonic() - run.renewed >= self._settings.lease_s / 3:
            run.renewed = time.monotonic()
            held = self._ledger.job_runs.renew(run.claim, self._clock(), lease_s=self._settings.lease_s)
            if not held and not self._ledger.job_runs.is_done(run.claim):
                why = "its lease was lost"
        if not why:
            return True
        end_group(run.process.pid)
        run.process.wait()
        self._failed(run, f"ended by the scheduler: {why}")
        return False

    def _trespass(self, run: Run) -> str:
        """Which limit it broke; empty while it keeps them."""
        s = self._settings
        if time.monotonic() - run.began > s.time_limit_s:
            return f"it ran for more than {s.time_limit_s:.0f} s (jobs.time_limit_s)"
        used = _memory_mib(run.process.pid)
        return f"it used {used:.0f} MiB, more than jobs.memory_limit_mib" if used > s.memory_limit_mib else ""

    def _ended(self, run: Run, status: int) -> None:
        if status == NO_CODE:
            self._ledger.job_runs.park(run.claim, _tail(run.log), self._clock(), look_again_s=LOOK_AGAIN_S)
        elif status != 0:
            by = f"ended by {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
            self._failed(run, f"{_tail(run.log)}\n{by}")

    def _failed(self, run: Run, error: str) -> None:
        s = self._settings
        state = self._ledger.job_runs.fail(
            run.claim, error, self._clock(), max_attempts=s.max_attempts, back_off_s=s.back_off_s
        )
        log.warning("job failed", run=run.claim.key, attempt=run.claim.attempts, state=state, error=error[-300:])


def report(ledger: Ledger, now: datetime) -> None:
    """Tell a person of each dead letter and each parked run, once; take it back when it is not so any more."""
    wrong = ledger.job_runs.all(states=("dead", "parked"))
    ledger.alerts.settle(("job_dead", "job_parked"), [_alert(run, now) for run in wrong], now)


def tell_left_out(ledger: Ledger, now: datetime) -> None:
    """Tell a person, once, of each registered model that jobs leave out; take it back when they do not any more."""
    reasons = calendar.left_out(ledger.registry.kinds())
    kind = ALERTS["model_left_out"]
    left = [kind.alert(now, {"model": model, "why": reason}) for model, reason in reasons.items()]
    ledger.alerts.settle("model_left_out", left, now)


def _alert(run: JobRun, now: datetime) -> Alert:
    """Alert of a dead or parked run; its key ends with the time of death, so that another death is another alert."""
    job, _, time = run.key.partition("@")
    died = "" if run.ended_at is None else f"{run.ended_at:%Y-%m-%dT%H:%M:%S}"
    _, model = calendar.line_of(run.job) or (None, "")
    return ALERTS[f"job_{run.state}"].alert(
        now, {"job": job, "time": time, "died": died}, details={"error": run.error}, about=model
    )


def do(context: Context, claim: Claim, schedule: Sequence[Entry] = SCHEDULE) -> bool:
    """Run a claimed job in this process, and complete it; False where the claim was void by then.

    Raises
    ------
    ImportError
        The job's code, or its line in the schedule, is not there.
    """
    line = calendar.line_of(claim.job, schedule)
    if line is None:
        raise ModuleNotFoundError(f"job {claim.job} must be in the schedule, got no such line")
    entry, model = line
    with logs.bind(correlation_id=claim.key, job=entry.job, job_run=claim.key, attempt=claim.attempts):
        if claim.attempts > 1:
            record.set_aside(context.client, model, claim.key)
        decisions = calendar.run(entry, context, model, claim.scheduled_for, read_at=datetime.now(UTC))
        follow_ups = [(name, claim.scheduled_for) for name in calendar.follow_ups(decisions)]
        done = context.ledger.job_runs.complete(claim, datetime.now(UTC), follow_ups=follow_ups)
        log.info("job done", run=claim.key, held=done)
        return done


def close_killed(context: Context) -> int:
    """Close the MLflow runs of job runs that nobody is running any more; how many were closed."""
    running = {run_key(run.job, run.scheduled_for) for run in context.ledger.job_runs.all(states=("running",))}
    return record.close_left(context.client, running)


def _launch(state: Path) -> Launch:
    def launch(claim: Claim) -> tuple[Sequence[str], Path]:
        command = [sys.executable, "-m", "jobs.worker", "--job", claim.job, "--at", claim.scheduled_for.isoformat()]
        command += ["--owner", claim.owner, "--fence", str(claim.fence), "--attempt", str(claim.attempts)]
        return command, state / "logs" / "jobs" / f"{claim.job.replace(':', '-')}.log"

    return launch


def _memory_mib(pid: int) -> float:
    """Resident memory of a process and all that it started; shared pages count for each."""
    try:
        leader = psutil.Process(pid)
        family = [leader, *leader.children(recursive=True)]
    except psutil.Error:
        return 0.0
    return sum(_resident(process) for process in family) / 2**20


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def _tail(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - ERROR_BYTES))
        return file.read().decode("utf-8", errors="replace").strip()


def _schedule(context: Context) -> None:
    """Be the scheduler until SIGTERM or Ctrl-C."""
    stop = threading.Event()
    for sign in (signal.SIGTERM, signal.SIGINT):
        signal.signal(sign, lambda *_: stop.set())

    def look(now: datetime) -> None:
        report(context.ledger, now)
        tell_left_out(context.ledger, now)
        try:
            close_killed(context)
        except (MlflowException, RegistryError) as error:
            log.warning("left runs not closed", error=str(error))

    ledger, settings = context.ledger, context.settings
    Worker(ledger, settings.jobs, models=ledger.registry.models, launch=_launch(settings.state), report=look).work(stop)


def _run_claim(context: Context, claim: Claim) -> None:
    try:
        do(context, claim)
    except ImportError as error:
        typer.echo(f"{type(error).__name__}: {error}", err=True)
        raise SystemExit(NO_CODE) from error


def main(
    job: Annotated[str, typer.Option(help="Run this claimed job and end; else schedule.", hidden=True)] = "",
    at: Annotated[str, typer.Option(hidden=True)] = "",
    owner: Annotated[str, typer.Option(hidden=True)] = "",
    fence: Annotated[int, typer.Option(hidden=True, parser=whole(0))] = 0,
    attempt: Annotated[int, typer.Option(hidden=True, parser=whole(0))] = 0,
) -> None:
    """Be the scheduler: plan and run all jobs by the clock, until SIGTERM."""
    settings = settings_for(job or "worker")
    logs.configure(settings.state / "logs" / ("jobs.jsonl" if job else "scheduler.jsonl"))
    wait_at_most(*A_JOB)
    with opened() as context:
        if job:
            _run_claim(context, Claim(job, moment(at), owner, fence, attempt))
        else:
            _schedule(context)


if __name__ == "__main__":
    start_job(main)
