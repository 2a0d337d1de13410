import numpy as np
import pytest

from mlops.errors import DataError
from mlops.risk.liquidity import days_to_exit, liquidity
from tests.risk.test_exposure import positions


def test_two_books_that_hold_the_same_sell_into_one_market():
    found = liquidity(
        positions(
            {"unit": "A", "quantity": 30_000, "price": 1.0, "daily_volume": 100_000},
            {"unit": "A", "quantity": -30_000, "price": 1.0, "daily_volume": 100_000, "strategy": "b"},
            {"unit": "B", "quantity": 500, "price": 80.0, "daily_volume": 10_000},
        )
    )

    assert [("A", 60_000, 6.0), ("B", 500, 0.5)] == [*found.frame[["unit", "quantity", "days"]].itertuples(index=False)]
    assert {1: (10_000 + 40_000) / 1e5, 5: (50_000 + 40_000) / 1e5, 20: 1.0} == pytest.approx(found.within)
    assert 0 == found.unknown


def test_where_no_volume_is_known_that_is_said_and_nothing_counts_as_sold():
    found = liquidity(
        positions(
            {"unit": "A", "quantity": 100, "daily_volume": np.nan},
            {"unit": "B", "quantity": 100, "daily_volume": 0.0},
            {"unit": "C", "quantity": 200, "daily_volume": 1e9},
        )
    )

    told = found.frame.set_index("unit")
    assert ["no volume is known", "nothing trades", ""] == told.loc[["A", "B", "C"], "why"].tolist()
    assert np.isnan(told.loc[["A", "B"], "days"]).all()
    assert 0.5 == found.unknown
    assert {1: 0.5, 5: 0.5, 20: 0.5} == found.within


def test_values_are_converted_and_what_cannot_be_is_in_no_sum():
    book = positions({"unit": "A"}, {"unit": "B", "currency": "EUR", "daily_volume": np.nan})

    assert 2 / 3 == pytest.approx(liquidity(book, rates={"EUR": 2.0}).unknown)
    assert 0 == liquidity(book).unknown
    assert np.isnan(liquidity(book).frame.set_index("unit").loc["B", "value"])


def test_an_empty_book_has_nothing_to_sell():
    found = liquidity(positions())

    assert found.frame.empty
    assert np.isnan([*found.within.values(), found.unknown]).all()


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, np.nan])
def test_a_participation_that_is_no_share_is_refused(share):
    with pytest.raises(DataError, match="participation must be in"):
        days_to_exit(np.ones(1), np.ones(1), share)
