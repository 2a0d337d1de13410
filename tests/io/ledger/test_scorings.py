"""How long each arm took and whether it failed: kept once, read by window."""

import pandas as pd
import pytest

from mlops.errors import DataError


def test_scorings_are_kept_once_and_read_by_window(ledger, make):
    frame = make.scorings([(1, 0), (2, 0), (1, 1), (1, 2)])
    failed = make.scorings([(2, 1)], failed=1, seconds=0.5)

    assert [4, 0] == [ledger.scorings.add(frame) for _ in range(2)]
    assert 1 == ledger.scorings.add(failed)
    ledger.scorings.add(make.scorings([(1, 1)], model="direction"))

    read = ledger.scorings.between("volatility", make.at(0), make.at(2))
    expected = pd.concat([frame.iloc[:3], failed], ignore_index=True)
    pd.testing.assert_frame_equal(expected, read, check_dtype=False)
    assert ledger.scorings.between("volatility", make.at(3), make.at(4)).empty


def test_a_request_of_other_units_and_one_that_failed_before_are_rows_of_their_own(ledger, make):
    ledger.scorings.add(make.scorings([(1, 0)], failed=1))
    ledger.scorings.add(make.scorings([(1, 0)]))
    ledger.scorings.add(make.scorings([(1, 0)], batch="c"))

    assert [0, 1, 0] == list(ledger.scorings.between("volatility", make.at(0), make.at(1)).failed)


@pytest.mark.parametrize("wrong", [{"seconds": -0.1}, {"seconds": float("nan")}, {"rows": -1}, {"batch": ""}])
def test_a_scoring_that_cannot_be_is_refused(ledger, make, wrong):
    with pytest.raises(DataError):
        ledger.scorings.add(make.scorings([(1, 0)]).assign(**wrong))
