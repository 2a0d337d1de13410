"""Every entry point names a job that exists and takes the parameters that it is given."""

import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
ENTRIES = yaml.safe_load((ROOT / "MLproject").read_text())["entry_points"]


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_point_runs_a_job_with_its_own_parameters(name):
    entry = ENTRIES[name]
    job = re.match(r"python -m jobs\.(\w+)", entry["command"])

    assert job
    assert (ROOT / "jobs" / f"{job[1]}.py").exists()
    assert set(re.findall(r"{(\w+)}", entry["command"])) == set(entry.get("parameters", {}))
