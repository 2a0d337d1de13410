"""Two services on one socket: one serves and the other takes its place when it is killed, before a bot notices."""

import os

from benchmarks import takeover

KILLS = int(os.environ.get("STANDBY_KILLS", "3"))


def test_a_service_that_is_killed_is_replaced_while_fills_come_and_none_is_refused_or_lost():
    found = takeover.measure(KILLS, 0, 1.0, seed=1)  # a second apart: most fall while the killed one starts anew

    assert (KILLS, 0, 0) == (found["kills"], found["refused"], found["lost"])
    assert found["fills"] > KILLS
