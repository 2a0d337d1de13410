"""A made-up market that is quick to compute."""

import numpy as np
import pandas as pd
import pytest


def _walk(bars=700, units=("AAA", "BBB", "CCC"), seed=0):
    """Bars of a random walk with nothing to know."""
    rng = np.random.default_rng(seed)
    closes = 100 * np.exp((0.01 * rng.standard_t(5, size=(bars, len(units)))).cumsum(axis=0))
    times = pd.date_range("2010-01-01T21:00", periods=bars, tz="UTC")
    wide = pd.DataFrame(closes, index=times.rename("event_time"), columns=list(units))
    long = wide.reset_index().melt(id_vars="event_time", var_name="symbol", value_name="close")
    return long.assign(known_at=long.event_time).sort_values(["event_time", "symbol"], ignore_index=True)


@pytest.fixture
def walk():
    return _walk
