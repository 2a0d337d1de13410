from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from mlops.experiment.stages import ScoringRecord, shadow_bars, shadow_failures, shadow_latency, trading
from mlops.types import Level

START = datetime(2007, 1, 1, 21, tzinfo=UTC)
DAYS = [START + timedelta(days=i) for i in range(60)]


def record(n, *, missing=(), failed=(), seconds=0.01, slow=(), first=0, reported=True):
    """Bars 0 to n - 1 of the champion; the version scores from bar `first` on."""
    scored = [DAYS[i] for i in range(first, n) if i not in missing and i not in failed]
    rows = [(at, 9.0 if DAYS.index(at) in slow else seconds, 0) for at in scored]
    rows += [(DAYS[i], 1.0, 1) for i in failed]
    frame = pd.DataFrame(rows if reported else [], columns=["event_time", "seconds", "failed"])
    frame["event_time"] = pd.to_datetime(frame["event_time"], utc=True)
    return ScoringRecord(DAYS[:n], scored, frame)


@pytest.mark.parametrize(("n", "level"), [(0, Level.UNKNOWN), (19, Level.UNKNOWN), (20, Level.OK)])
def test_so_many_bars_must_be_scored(n, level):
    found = shadow_bars(record(n), 20)
    assert (level, n, f"{n} bars scored in shadow, 20 needed") == (found.level, found.n, found.note)


@pytest.mark.parametrize(
    ("bars", "level", "count"),
    [
        (record(0), Level.UNKNOWN, 0),
        (record(40, first=40), Level.UNKNOWN, 0),
        (record(40), Level.OK, 0),
        (record(40, first=30), Level.OK, 0),  # before its first bar it was being loaded
        (record(40, failed=[19]), Level.OK, 0),
        (record(40, failed=[20]), Level.WARN, 1),
        (record(40, missing=[20]), Level.WARN, 1),  # cut off, say: nobody reports that
        (record(40, missing=[38, 39]), Level.WARN, 2),
        (record(40, missing=[37], failed=[38, 39]), Level.ALERT, 3),
        (record(40, missing=[37], failed=[38, 39], reported=False), Level.ALERT, 3),
        (record(40, missing=[30, 31, 32]), Level.WARN, 3),
    ],
)
def test_a_bar_that_the_champion_scored_and_it_did_not_is_a_failure(bars, level, count):
    found = shadow_failures(bars, 20, 3)
    assert (level, count) == (found.level, found.value)


def latency(bars, *, accepted=False):
    return shadow_latency(bars, 1.0, needed=20, window=500, accepted=accepted)


def test_a_scoring_is_within_the_line_but_for_one_bar_of_a_hundred():
    assert Level.OK is latency(record(40)).level
    assert Level.OK is latency(record(40, slow=[7])).level
    assert (Level.ALERT, 9.0) == (latency(record(40, slow=[7, 9])).level, latency(record(40, slow=[7, 9])).value)
    assert Level.UNKNOWN is latency(record(19)).level
    assert Level.ALERT is latency(record(5, seconds=2.0)).level
    assert Level.OK is shadow_latency(record(60, slow=[3, 4]), 1.0, needed=20, window=50, accepted=False).level


def test_what_nobody_reports_is_not_known_to_be_quick():
    unseen = latency(record(40, reported=False))
    assert Level.UNKNOWN is unseen.level
    assert "not looked at: of 40 bars scored, how long it takes is known of 0 bars, 20 needed" in unseen.note
    assert "how long it takes is known of 19 bars, 20 needed" == latency(record(19), accepted=True).note
    assert "experiment.shadow_unreported" in unseen.note
    accepted = latency(record(40, reported=False), accepted=True)
    assert (Level.OK, True) == (accepted.level, "a person accepts that" in accepted.note)
    assert Level.ALERT is latency(record(40, seconds=2.0), accepted=True).level


def test_bars_count_from_when_it_was_given_its_share():
    assert (Level.UNKNOWN, 0) == (
        trading(record(40), None, 20, units=0).level,
        trading(record(40), None, 20, units=0).n,
    )
    for since, level, n in ((DAYS[20], Level.UNKNOWN, 19), (DAYS[19], Level.OK, 20)):
        found = trading(record(40), since, 20, units=2)
        assert (level, n) == (found.level, found.n)
    assert 10 == trading(record(40, missing=range(30, 40)), DAYS[19], 20, units=2).n
    assert "2 units were assigned to it" in trading(record(40), DAYS[1], 20, units=2).note
    few = trading(record(40), DAYS[1], 20, units=1, least=2)
    assert (Level.UNKNOWN, True) == (
        few.level,
        few.note.endswith("1 units were assigned to it, 2 needed (experiment.ab_units)"),
    )
    assert "no unit is assigned to it yet" in trading(record(40), DAYS[1], 20, units=0).note
