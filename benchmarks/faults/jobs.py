"""kill -9 of schedulers, with 50 jobs to do: is one lost, is an effect doubled?

Real schedulers (`jobs.worker.Worker`) in processes of their own, two of them in every second round, on SQLite and on
PostgreSQL where a URL is given; each job is a process that writes one row together with its "done". At random moments a
scheduler is killed, sometimes with its jobs, sometimes without, and another one is started.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from sqlalchemy import text

from mlops.io.ledger import Ledger
from mlops.io.ledger.job_runs import Claim
from mlops.settings import JobSettings

JOBS = 50
ALIVE_S = (0.2, 3.0)  # how long a scheduler lives; its imports take about a second of it
ROUND = 25  # kills, then a fresh ledger and 50 new jobs
DRAIN_S = 300.0  # without one more job done
SETTINGS = JobSettings(lease_s=2.0, max_attempts=10_000, back_off_s=0.1, parallel=3)
BEGAN = datetime(2026, 1, 1, tzinfo=UTC)


def run(
    n: int,
    seed: int,
    progress: Callable[[str], None] = lambda text: None,
    *,
    url: str = "",
    jobs: int = JOBS,
    schedulers: int = 0,
) -> dict[str, int]:
    """`n` kills; what became of the jobs.

    `url`: a database of their own; SQLite in a temporary folder when not given. `schedulers`: one and two in turn, by
    rounds of kills, when 0.
    """
    rng, found = random.Random(seed), {"job_kills": 0, "jobs_lost": 0, "jobs_doubled": 0}
    while found["job_kills"] < n:
        kills = min(ROUND, n - found["job_kills"])
        with tempfile.TemporaryDirectory() as folder:
            place = url or f"sqlite:///{folder}/ledger.db"
            many = schedulers or 1 + (found["job_kills"] // ROUND) % 2
            lost, doubled = _round(place, kills, rng, schedulers=many, jobs=jobs)
        found["job_kills"] += kills
        found["jobs_lost"] += lost
        found["jobs_doubled"] += doubled
        progress(f"{found['job_kills']} kills, {found['jobs_lost']} lost, {found['jobs_doubled']} doubled")
    return found


def _round(url: str, kills: int, rng: random.Random, *, schedulers: int, jobs: int) -> tuple[int, int]:
    with Ledger(url) as ledger:
        with ledger.writing() as connection:
            connection.execute(text("DROP TABLE IF EXISTS effects"))
            connection.execute(text("DELETE FROM job_runs"))
            connection.execute(text("CREATE TABLE effects (job TEXT NOT NULL)"))
        for i in range(jobs):
            ledger.job_runs.plan(f"job{i}", BEGAN + timedelta(seconds=i))
        alive = [_scheduler(url) for _ in range(schedulers)]
        try:
            for _ in range(kills):
                time.sleep(rng.uniform(*ALIVE_S) / schedulers)
                victim = rng.randrange(schedulers)
                _kill(alive[victim], with_jobs=rng.random() < 0.5)
                alive[victim] = _scheduler(url)
            _drain(ledger)
        finally:
            for process in alive:
                _kill(process, with_jobs=True)
        with ledger.reading() as connection:
            found = connection.execute(text("SELECT job, COUNT(*) FROM effects GROUP BY job"))
            counts = {str(job): int(n) for job, n in found.all()}
    return sum(f"job{i}" not in counts for i in range(jobs)), sum(count - 1 for count in counts.values())


def _drain(ledger: Ledger) -> None:
    """Wait for the jobs that are left. Those of a machine that only just goes on are not lost.

    Raises
    ------
    TimeoutError
        Nothing was done for `DRAIN_S`.
    """
    before, deadline = -1, 0.0
    while left := len(ledger.job_runs.all(states=("due", "running", "failed", "parked"))):
        if left != before:
            before, deadline = left, time.monotonic() + DRAIN_S
        elif time.monotonic() > deadline:
            raise TimeoutError(f"jobs must come to their end, got {left} that wait and none done for {DRAIN_S:g} s.")
        time.sleep(0.2)


def _scheduler(url: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.faults.jobs", "schedule", url]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def _kill(scheduler: subprocess.Popen[bytes], *, with_jobs: bool) -> None:
    family = [scheduler.pid]
    if with_jobs:
        with suppress(psutil.NoSuchProcess):
            family += [child.pid for child in psutil.Process(scheduler.pid).children(recursive=True)]
    for pid in family:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    scheduler.wait()


def _schedule(url: str) -> None:
    from jobs.worker import Worker

    def launch(claim: Claim) -> tuple[list[str], Path]:
        words = [claim.job, claim.scheduled_for.isoformat(), claim.owner, str(claim.fence), str(claim.attempts)]
        return [sys.executable, "-m", "benchmarks.faults.jobs", "do", url, *words], Path(os.devnull)

    with Ledger(url) as ledger:
        Worker(ledger, SETTINGS, models=list, launch=launch, schedule=()).work(threading.Event())


def _do(url: str, job: str, scheduled_for: str, owner: str, fence: str, attempts: str) -> None:
    claim = Claim(job, datetime.fromisoformat(scheduled_for), owner, int(fence), int(attempts))
    write = text("INSERT INTO effects (job) VALUES (:job)").bindparams(job=job)
    with Ledger(url) as ledger:
        time.sleep(random.uniform(0, 0.3))
        ledger.job_runs.complete(claim, datetime.now(UTC), effect=lambda connection: connection.execute(write))


if __name__ == "__main__":
    {"schedule": _schedule, "do": _do}[sys.argv[1]](*sys.argv[2:])
