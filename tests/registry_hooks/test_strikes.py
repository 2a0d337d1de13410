"""A version that was cut off comes again, after pauses that grow while it fails."""

import numpy as np

from registry_hooks.bot.scoring import Answer
from registry_hooks.bot.shadows import PAUSE, STRIKES, Strikes

GOOD, LATE = Answer(np.array([0.5]), 0.01), Answer(np.array([0.5]), 9.0)


class Scoring:
    """Bars of one version, and what was told of it."""

    def __init__(self):
        self.told, self.well = [], 0
        self.strikes = Strikes(1.0, lambda version, why, bars: self.told.append(bars), lambda version: self._mended())

    def _mended(self):
        self.well += 1

    def bars(self, n, answer):
        """How many of `n` bars it was asked for."""
        asked = 0
        for _ in range(n):
            if self.strikes.asks(7):
                asked += 1
                self.strikes.judge(7, answer)
        return asked


def test_it_is_asked_again_after_a_pause_which_doubles_as_long_as_it_is_late():
    one = Scoring()
    assert STRIKES == one.bars(STRIKES, LATE)
    assert 0 == one.bars(PAUSE - 1, LATE)
    assert 1 == one.bars(1, LATE)
    assert 0 == one.bars(2 * PAUSE - 1, LATE)
    assert 1 == one.bars(1, LATE)
    assert ([PAUSE, 2 * PAUSE, 4 * PAUSE], 0) == (one.told, one.well)


def test_it_is_told_once_that_it_scores_again_and_the_pause_is_forgotten_after_as_many_good_bars():
    one = Scoring()
    one.bars(STRIKES + PAUSE - 1, LATE)
    assert PAUSE == one.bars(PAUSE, GOOD)
    assert ({}, 1) == (one.strikes.cut, one.well)
    assert STRIKES == one.bars(STRIKES, LATE)
    assert [PAUSE, PAUSE] == one.told


def test_one_that_is_well_for_too_short_a_while_has_the_longer_pause():
    one = Scoring()
    one.bars(STRIKES + PAUSE - 1, LATE)
    one.bars(PAUSE - 1, GOOD)
    assert STRIKES == one.bars(STRIKES, LATE)
    assert [PAUSE, 2 * PAUSE] == one.told


def test_one_that_hangs_is_cut_at_once_and_one_that_left_begins_anew():
    one = Scoring()
    one.strikes.strike(7, "did not come back", out=True)
    assert {7: "did not come back"} == one.strikes.cut
    one.strikes.forget({})
    assert STRIKES == one.bars(STRIKES + 5, LATE)
    assert [PAUSE, PAUSE] == one.told
