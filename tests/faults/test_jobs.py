"""kill -9 of schedulers and of their jobs. The short form; `make faults` is the long one."""

import secrets
from datetime import UTC, datetime

import pytest

from benchmarks.faults import jobs as campaign


def test_no_kill_of_one_scheduler_or_of_two_that_race_loses_or_doubles_a_job(url):
    seed, said = secrets.randbelow(2**31), []

    found = campaign.run(4, seed, said.append, url=url, jobs=12, schedulers=2)

    assert {"job_kills": 4, "jobs_lost": 0, "jobs_doubled": 0} == found, f"seed {seed}: " + "\n".join(said)


def test_a_job_that_never_comes_to_its_end_is_no_lost_one(sqlite_ledger, monkeypatch):
    sqlite_ledger.job_runs.plan("job", datetime(2026, 1, 1, tzinfo=UTC))
    monkeypatch.setattr(campaign, "DRAIN_S", 0.0)

    with pytest.raises(TimeoutError, match="got 1 that wait"):
        campaign._drain(sqlite_ledger)
