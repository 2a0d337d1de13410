"""The newest rows and the clock of a bot, on both databases."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd

from mlops.io.ledger import latest

T0, DAY, MINUTE = datetime(2026, 3, 2, 21, tzinfo=UTC), timedelta(days=1), timedelta(minutes=1)


def predicted(ledger, days, *, units=("A", "B"), version=1, model="m", role="champion"):
    rows = [
        {
            "model": model, "version": version, "unit": unit, "event_time": T0 + d * DAY, "known_at": T0 + d * DAY + MINUTE,
            "matures_at": T0 + (d + 1) * DAY, "role": role, "probability": 0.6,
        }
        for d in days for unit in units
    ]  # fmt: skip
    ledger.telemetry.add_predictions(pd.DataFrame(rows), np.zeros((len(rows), 1), dtype=np.float32), ["x"])


def test_bars_are_told_once_however_many_rows_they_have(ledger, monkeypatch):
    predicted(ledger, range(10))
    predicted(ledger, range(3), model="other")
    predicted(ledger, range(12, 13), version=2)

    bars = ledger.latest.predicted_bars("m", {1, 2}, start=T0 + 2 * DAY, as_of=T0 + 40 * DAY)

    assert [T0 + d * DAY for d in (*range(2, 10), 12)] == bars
    assert [] == ledger.latest.predicted_bars("nobody", {1}, start=T0, as_of=T0 + DAY)
    assert T0 + 5 * DAY == ledger.latest.predicted_bars("m", {1, 2}, start=T0, as_of=T0 + 5.5 * DAY)[-1]
    monkeypatch.setattr(latest, "MOST", 3)
    assert bars[-3:] == ledger.latest.predicted_bars("m", {1, 2}, start=T0, as_of=T0 + 40 * DAY)


def test_the_last_prediction_says_when_it_came_and_who_had_the_champions_place(ledger):
    assert ledger.latest.last_prediction("m", {1, 2}, as_of=T0) is None
    predicted(ledger, range(2))
    predicted(ledger, [1], version=2, role="challenger")

    last = ledger.latest.last_prediction("m", {1, 2}, as_of=T0 + 9 * DAY)

    assert (T0 + DAY, T0 + DAY + MINUTE, 1) == (last.event_time, last.known_at, last.champion)
    assert T0 == ledger.latest.last_prediction("m", {1, 2}, as_of=T0 + DAY / 2).event_time


def test_rows_of_other_versions_and_roles_and_rows_dated_ahead_are_no_word_of_the_champion(ledger):
    predicted(ledger, range(3))
    predicted(ledger, [5], version=2, role="shadow")
    predicted(ledger, [6], version=1, role="challenger")
    predicted(ledger, [7], version=9)
    as_of = T0 + 8 * DAY

    assert T0 + 2 * DAY == ledger.latest.last_prediction("m", {1, 2}, as_of=as_of).event_time
    assert [T0, T0 + DAY, T0 + 2 * DAY] == ledger.latest.predicted_bars("m", {1, 2}, start=T0, as_of=as_of)
    assert ledger.latest.last_prediction("m", set(), as_of=as_of) is None
    predicted(ledger, [4], units=("C",))
    assert T0 + 2 * DAY == ledger.latest.last_prediction("m", {1}, as_of=T0 + 4 * DAY).event_time, (
        "known a minute later"
    )


def test_the_last_outcome(ledger):
    assert ledger.latest.last_outcome("m", as_of=T0) is None
    row = {"model": "m", "unit": "A", "event_time": T0, "known_at": T0 + DAY, "label": 1.0, "value": 0.01}
    ledger.telemetry.add_outcomes(pd.DataFrame([row]))
    assert T0 == ledger.latest.last_outcome("m", as_of=T0 + DAY)


def test_quotes_are_told_of_a_minute_apart(ledger):
    times = [T0 + timedelta(seconds=s) for s in range(0, 600, 5)]
    frame = pd.DataFrame({"unit": "A", "event_time": times, "known_at": times, "bid": 1.0, "ask": 1.1})
    ledger.quotes.add(frame.assign(bid_size=0.0, ask_size=0.0))
    ledger.quotes.add(frame[:1].assign(unit="B", bid_size=0.0, ask_size=0.0))

    bars = ledger.latest.quoted_times("A", start=T0, as_of=T0 + DAY, every=MINUTE)

    assert times[-1] == bars[-1]
    assert 10 == len(bars)
    assert {"A": times[-1], "B": T0} == ledger.latest.quoted_last(as_of=T0 + DAY)
