"""`trader-mlops price confirm` believes no typo: neither in the unit nor in the price."""

from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from typer.testing import CliRunner

from jobs.cli import main
from jobs.context import opened
from mlops.errors import DataError
from mlops.settings import Settings


@pytest.fixture
def ledger(tmp_path, monkeypatch):
    """Of a book that holds GE, quoted around 187 a moment ago."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLOPS_STATE", str(tmp_path))
    at = datetime.now(UTC) - timedelta(seconds=30)
    with opened(Settings(state=tmp_path)) as context:
        row = {"fill_id": "f", "model": "direction", "version": 1, "book": "live", "unit": "GE", "event_time": at}
        context.ledger.telemetry.add_fills(pd.DataFrame([row | {"quantity": 10.0, "price": 187.0, "fee": 0.0}]))
        _quote(context.ledger, 187.0, at)
        yield context.ledger


def _quote(ledger, price, at):
    row = {"unit": "GE", "event_time": at, "known_at": at, "bid": price - 0.05, "ask": price + 0.05}
    ledger.quotes.add(pd.DataFrame([row | {"bid_size": 0.0, "ask_size": 0.0}]))


def _confirm(unit, price, *more, answer=""):
    about = ["price", "confirm", unit, price, "--reason", "r", "--actor", "a", *more]
    done = CliRunner().invoke(main.app, about, input=answer)
    return done, " ".join(done.output.split())


def _confirmed(ledger):
    return [(one.unit, one.price) for one in ledger.confirmed_prices.log()]


def test_a_price_far_from_mark_and_quote_is_shown_with_both_and_asked_for(ledger):
    done, said = _confirm("GE", "900", answer="n\n")

    assert 1 == done.exit_code
    assert "GE at 900 is a jump from its mark (187," in said
    assert "the bid (186.95," in said
    assert "No price of it waits to be confirmed" in said
    assert [] == _confirmed(ledger)

    assert 1 == _confirm("GE", "900")[0].exit_code  # a script is asked, too, and says nothing
    assert [] == _confirmed(ledger)

    assert 0 == _confirm("GE", "900", "--yes")[0].exit_code
    assert [("GE", 900.0)] == _confirmed(ledger)


def test_a_price_near_the_mark_or_the_one_that_waits_is_taken_without_a_question(ledger):
    assert 0 == _confirm("GE", "187.02")[0].exit_code

    _quote(ledger, 240.0, datetime.now(UTC))
    assert 0 == _confirm("GE", "240")[0].exit_code
    assert [("GE", 187.02), ("GE", 240.0)] == _confirmed(ledger)


def test_a_unit_that_nobody_told_of_is_refused_with_names_near_it(ledger):
    done, _ = _confirm("GEE", "187", "--yes")

    assert isinstance(done.exception, DataError)
    assert "got 'GEE'. Did you mean GE?" in str(done.exception)
    assert [] == _confirmed(ledger)
