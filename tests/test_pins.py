"""One set of versions: pyproject.toml names what we use, constraints.txt and conda.yaml pin it alike."""

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]


def _name(requirement):
    return re.split(r"[\[<>=!~; ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def _pins(rows):
    return {_name(row): row.split("==")[1] for row in rows if "==" in row}


CONSTRAINTS = _pins((ROOT / "constraints.txt").read_text().split())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONDA = yaml.safe_load((ROOT / "conda.yaml").read_text())["dependencies"]


def test_everything_that_we_name_is_pinned():
    named = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]]

    assert {_name(row) for row in named} <= CONSTRAINTS.keys()


def test_the_conda_environment_has_the_same_versions():
    pins = _pins(CONDA[-1]["pip"])

    assert {name: CONSTRAINTS[name] for name in pins} == pins
    assert {_name(row) for row in PROJECT["dependencies"]} <= pins.keys()


def test_pip_carries_everything_because_other_managers_drop_the_rest():
    assert CONDA[:-1] == ["python=3.11", "pip"]
