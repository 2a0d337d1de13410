"""A whole set-up whose services are killed one after the other, before the first is back."""

import signal
from datetime import UTC, datetime

import pytest
from place import eventually

from benchmarks.takeover import AT, Bot, signalled
from jobs.context import opened

pytestmark = pytest.mark.e2e


def test_a_second_kill_before_the_first_service_is_back_refuses_and_loses_no_fill(place):
    place.call("up")
    with opened(place.settings) as context:
        key = context.ledger.api_keys.add("bot", ["fills:write"], datetime.now(UTC))
    with Bot(f"http://127.0.0.1:{place.service}", key) as bot:
        eventually(lambda: bot.waits)
        _, first = signalled(place.state, signal.SIGKILL)
        at, second = signalled(place.state, signal.SIGKILL)
        assert first != second
        assert "up" != place.standing()["service"].state, "it is not back yet: nobody can serve"
        bot.wait(at)  # for an answer after that

        for name in ("service", "standby"):
            assert place.until_up(name, after=0).pid not in (first, second)
    with opened(place.settings) as context:
        assert (0, len(bot.waits)) == (bot.refused, context.ledger.risk.fills_since("m", AT))
