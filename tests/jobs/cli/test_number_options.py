"""Numbers on the command line: every one that any command takes is read by one strict parser."""

import importlib
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
from typer.testing import CliRunner

from jobs.cli import main
from jobs.cli.arm_weights import read
from jobs.cli.commands import COMMANDS, load
from mlops.errors import DataError

MODULES = (
    "train",
    "monitor",
    "compare",
    "report",
    "risk",
    "stress",
    "books",
    "promote",
    "worker",
    "demo",
    "serve",
)
BAD = ["1_000", " 5", "5 ", "\uff15", "\u0665", "0x5", "5.0", "1e3", "", "nan", "inf", "5,000", "9" * 19]


def _functions(name):
    command = load(name)
    yield from (one.callback for one in getattr(command, "commands", {name: command}).values())


def _numbers():
    """(command, parameter, what typer was told of it) of each number that a command takes."""
    for function in [
        *(f for name in COMMANDS for f in _functions(name)),
        *(importlib.import_module(f"jobs.{name}").main for name in MODULES),
    ]:
        for name, hint in get_type_hints(function, include_extras=True).items():
            kind, *about = get_args(hint) if get_origin(hint) is Annotated else (hint,)
            if {int, float} & {kind, *get_args(kind)}:
                yield function.__name__, name, about


def test_every_number_of_a_command_is_read_by_our_parser():
    found = {(name, parameter): bool(about and about[0].parser) for name, parameter, about in _numbers()}

    assert {("promote", "version"), ("confirm", "price"), ("resend", "seq"), ("add", "days")} <= found.keys()
    assert [] == [place for place, ours in found.items() if not ours]


@pytest.mark.parametrize("text", BAD)
def test_what_is_no_whole_number_in_plain_digits_is_refused_by_name(text):
    said = CliRunner().invoke(main.app, ["promote", "volatility", text, "--reason", "x"])

    assert 2 == said.exit_code
    assert "it must be a whole number in plain digits" in " ".join(said.output.replace("│", "").split())


@pytest.mark.parametrize("text", ["0", "-1", "2147483648"])
def test_a_version_is_within_what_the_ledger_holds(text):
    said = CliRunner().invoke(main.app, ["promote", "volatility", "--reason", "x", "--", text])

    assert 2 == said.exit_code
    assert "it must be 1 to 2147483647" in " ".join(said.output.replace("│", "").split())


@pytest.mark.parametrize("text", ["1_0.5", " 5", "\uff15", "nan", "inf", "1e999"])
def test_a_price_is_in_plain_digits(text):
    said = CliRunner().invoke(main.app, ["price", "confirm", "A", text, "--reason", "x"])

    assert 2 == said.exit_code
    assert "it must be a number in plain digits" in " ".join(said.output.replace("│", "").split())


@pytest.mark.parametrize("text", ["7=0.0_5", "7_0=0.05", "7= 0.05", "7=nan", "\uff17=0.05", "7", "v=0.1"])
def test_a_weight_is_in_plain_digits(text):
    with pytest.raises(DataError, match="weight must be written as version=share"):
        read([text])
    assert {7: 0.05} == read(["v7=0.05"])
