"""kill -9 of schedulers and of their jobs. The short form; `make faults` is the long one."""

import secrets

from benchmarks.faults import jobs as campaign


def test_no_kill_of_one_scheduler_or_of_two_that_race_loses_or_doubles_a_job(url):
    seed, said = secrets.randbelow(2**31), []

    found = campaign.run(4, seed, said.append, url=url, jobs=12, schedulers=2)

    assert {"job_kills": 4, "jobs_lost": 0, "jobs_doubled": 0} == found, f"seed {seed}: " + "\n".join(said)
