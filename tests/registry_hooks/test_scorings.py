"""What each arm cost to ask is in the ledger beside what it said, also where it said nothing."""

from datetime import UTC, datetime, timedelta

import numpy as np
import orjson
import pytest

from mlops.errors import BundleError, DataError
from mlops.learn import STRATEGIES
from mlops.settings import BotSettings
from mlops.types import ModelRef, Role
from registry_hooks import apply
from registry_hooks.apply import Act
from registry_hooks.bot import shadows
from registry_hooks.bot.client import Bot
from registry_hooks.bot.courier import LENGTH, Scores, bring

NOW = datetime(2008, 1, 4, 22, tzinfo=UTC)
END = NOW + timedelta(days=99)
MODEL, NAMES = "volatility", STRATEGIES["volatility"].feature_names
ACT = Act("test", NOW, split=0.5)
UNITS = ("AAPL", "GE")  # a trap behaves on three, the size of its probe
VALUES = np.ones((len(UNITS), len(NAMES)), dtype=np.float32)


def score(bot, day=0, units=UNITS, values=VALUES):
    at = NOW + timedelta(days=day)
    return bot.score(units, values, event_time=at, known_at=at, matures_at=at + timedelta(days=5))


def asked(registry):
    """(version, failed) -> how often, and the frame."""
    found = registry.ledger.scorings.between(MODEL, NOW, END)
    return found.groupby(["version", "failed"]).size().to_dict(), found


@pytest.mark.parametrize("background", [True, False])
def test_every_arm_is_asked_once_a_bar_and_that_is_kept(live, background):
    apply.enlist(live, ModelRef(MODEL, 2), ACT)
    apply.enlist(live, ModelRef(MODEL, 3), ACT)
    with Bot(MODEL, live, names=NAMES, poll_s=3600.0, background=background) as bot:
        [score(bot, day) for day in range(4)]
        score(bot, 3, UNITS[:1], VALUES[:1])  # another request of the same bar
        assert bot.flush()

    counts, found = asked(live)
    assert {(version, 0): 5 for version in (1, 2, 3)} == counts
    assert [1, 2] == sorted(set(found.rows))
    assert (found.seconds > 0).all()
    assert set(found.event_time) == {NOW + timedelta(days=day) for day in range(4)}


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("how", ["crash", "nan"])
def test_an_arm_that_fails_is_counted_until_it_is_cut_off(live, add_trap, how, background):
    trap = add_trap(how)
    apply.enlist(live, ModelRef(MODEL, trap), ACT)
    with Bot(MODEL, live, names=NAMES, poll_s=3600.0, background=background) as bot:
        [score(bot, day) for day in range(5)]
        assert bot.flush()

    assert {(1, 0): 5, (trap, 1): 3} == asked(live)[0]


def test_an_arm_that_hangs_failed_after_as_long_as_it_was_waited_for(live, add_trap, eventually, monkeypatch):
    monkeypatch.setattr(shadows, "HANGS_S", 0.5)
    trap = add_trap("hang")
    apply.enlist(live, ModelRef(MODEL, trap), ACT)
    with Bot(MODEL, live, names=NAMES, poll_s=3600.0, settings=BotSettings(shadow_budget_ms=50)) as bot:
        score(bot)
        eventually(lambda: trap in bot.cut_off)
        assert bot.flush()

    counts, found = asked(live)
    assert {(1, 0): 1, (trap, 1): 1} == counts
    assert 0.5 < found.seconds[found.version == trap].item()


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("how", ["crash", "nan"])
def test_a_champion_that_fails_is_counted_before_the_bot_hears_of_it(live, add_trap, how, background):
    trap = add_trap(how)
    apply.promote(live, ModelRef(MODEL, trap), "forced", ACT, expected=1)
    with Bot(MODEL, live, names=NAMES, poll_s=3600.0, background=background) as bot:
        for day in range(2):
            with pytest.raises(BundleError):
                score(bot, day)
        assert bot.flush()

    assert {(trap, 1): 2} == asked(live)[0]


def test_a_row_that_no_model_can_score_is_no_failure_of_the_champion(live):
    bot = Bot(MODEL, live, names=NAMES, background=False)
    with pytest.raises(DataError):
        score(bot, values=np.full_like(VALUES, np.nan))

    assert asked(live)[1].empty


def test_a_record_of_an_older_release_is_carried_and_one_of_this_release_is_read_as_it_was(live):
    said = np.array([[0.25, 0.5]])
    bar = Scores(MODEL, NAMES, UNITS, {1: Role.CHAMPION}, (NOW, NOW, END), "id", np.empty((0, 0)), VALUES)
    mine, failed = bar.of(1, said[0], 0.125), bar.of(1, None, 0.25)
    record = mine.record()
    end = LENGTH + int.from_bytes(record[:LENGTH])
    head = orjson.loads(record[LENGTH:end])
    del head["scorings"]
    old = orjson.dumps(head)

    again = Scores.read(record)
    assert ((1, 0.125, False),) == again.scorings
    assert np.array_equal(said, again.probability)
    bring(live.ledger, [len(old).to_bytes(LENGTH) + old + record[end:]])
    assert 2 == len(live.ledger.telemetry.predictions(MODEL, start=NOW, end=END, as_of=END)[0])
    assert asked(live)[1].empty
    for _ in range(2):  # taken again after a crash
        bring(live.ledger, [failed.record(), record])
    assert {(1, 0): 1, (1, 1): 1} == asked(live)[0]
    assert 2 == len(live.ledger.telemetry.predictions(MODEL, start=NOW, end=END, as_of=END)[0])
