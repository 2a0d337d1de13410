import numpy as np
import pandas as pd
import pytest

from mlops.errors import DataError
from mlops.experiment.arm import BOOK, ROW, SCORING, arms_of
from mlops.experiment.metrics import METRICS, measure, needs

DAYS = pd.date_range("2007-01-01", periods=4, tz="UTC")


def _rows(version, probability, label=(1, 0, 1, 1, 0, 0, 1, 0)):
    return pd.DataFrame(
        {
            "version": version,
            "unit": ["A", "B"] * 4,
            "event_time": DAYS.repeat(2),
            "probability": probability,
            "label": np.array(label, dtype=float),
        }
    )


def _book(equity, traded=0.0, exposure=1.0):
    return pd.DataFrame({"equity": equity, "traded": traded, "exposure": exposure}, index=DAYS)


SURE = [0.9, 0.1, 0.9, 0.9, 0.1, 0.1, 0.9, 0.1]


def _value(name, arm):
    return METRICS[name].value(arm)


def test_scores_are_those_by_hand():
    """Six of eight right: 0.9 for what came true, then 0.8 for what did not."""
    arm = arms_of(_rows(1, [0.9, 0.1, 0.9, 0.2, 0.1, 0.8, 0.9, 0.1]))[1]
    right, wrong = -np.log(0.9), -np.log(0.2)

    assert 0.75 == pytest.approx(_value("accuracy", arm))
    assert (6 * right + 2 * wrong) / 8 == pytest.approx(_value("log_loss", arm))
    assert (6 * 0.01 + 2 * 0.64) / 8 == pytest.approx(_value("brier", arm))
    # Positives at .9 .9 .2 .9, negatives at .1 .1 .8 .1: 15 of 16 pairs in order.
    assert 15 / 16 == pytest.approx(_value("auc", arm))


def test_latency_is_what_one_in_a_hundred_scorings_exceeds():
    seconds = np.r_[np.full(99, 0.002), 0.5]
    arm = arms_of(_rows(1, SURE), scorings={1: seconds})[1]

    assert 1e3 * np.quantile(seconds, 0.99) == pytest.approx(_value("latency", arm))
    with pytest.raises(DataError, match="scorings of v1 must be finite"):
        arms_of(_rows(1, SURE), scorings={1: np.array([np.nan])})


def test_a_bar_counts_once_however_many_units_it_has():
    rows = _rows(1, SURE)
    rows.loc[0, "probability"] = 0.1  # one of two wrong on the first day
    alone = rows.drop(index=1)  # ... the only one of that day

    assert 7 / 8 == pytest.approx(_value("accuracy", arms_of(rows)[1]))
    assert 3 / 4 == pytest.approx(_value("accuracy", arms_of(alone)[1]))


def test_what_a_book_made_is_that_by_hand():
    arm = arms_of(_rows(1, SURE), {1: _book([100, 110, 99, 121], [10, 0, 0, 12.1], [0.5, 0.5, 1.0, 0.5])})[1]
    returns = np.array([0.1, -0.1, 22 / 99])

    assert 1e4 * returns.sum() / 2 == pytest.approx(_value("return_per_trade", arm))
    assert returns.mean() / returns.std(ddof=1) * np.sqrt(252) == pytest.approx(_value("sharpe", arm))
    assert 0.1 == pytest.approx(_value("drawdown", arm))
    assert 0.05 * 252 == pytest.approx(_value("turnover", arm))


def test_the_return_of_a_trade_does_not_depend_on_how_much_was_bet():
    full, half = np.array([1.0, 1.1, 1.1 * 1.02]), np.array([1.0, 1.05, 1.05 * 1.01])
    books = [
        pd.DataFrame({"equity": e, "traded": 0.0, "exposure": x}, index=DAYS[:3]) for e, x in ((full, 1), (half, 0.5))
    ]
    made = [_value("return_per_trade", arms_of(_rows(1, SURE), {1: book})[1]) for book in books]

    assert [600.0, 600.0] == pytest.approx(made)


def test_columns_that_are_missing_make_a_metric_absent_and_say_of_whom():
    both = pd.concat([_rows(1, SURE), _rows(2, SURE)])
    table = measure(arms_of(both, {1: _book([1, 1.1, 1.2, 1.1])}))

    assert {"latency": "v1 has no scoring_s", "sharpe": "v2 has no equity"}.items() <= table.absent.items()
    assert {"accuracy", "log_loss", "brier", "auc"} == table.values[1].keys() == table.values[2].keys()


def test_what_is_too_little_says_how_much_it_needs():
    sharpe = measure(arms_of(_rows(1, SURE), {1: _book([1, 1.1, 1.2, 1.1])})).values[1]["sharpe"]

    assert not sharpe.known
    assert "4 bars, 20 needed" == sharpe.note


def test_an_interval_holds_for_bars_that_depend_on_each_other():
    """Ten bars share one fate: the interval is about as wide as that of a tenth of them."""
    rng = np.random.default_rng(3)
    fate = np.repeat(rng.random(40) < 0.6, 10)
    days = pd.date_range("2007-01-01", periods=400, tz="UTC")
    rows = pd.DataFrame(
        {"version": 1, "unit": "A", "event_time": days, "probability": 0.8, "label": fate.astype(float)}
    )
    found = measure(arms_of(rows)).values[1]["accuracy"]
    independent = 2 * 1.96 * np.sqrt(found.value * (1 - found.value) / 400)

    assert found.low < found.value < found.high
    assert 2 * independent < found.high - found.low < 6 * independent


def test_every_column_that_is_read_is_needed_by_some_metric():
    assert {*ROW, *BOOK, SCORING} == needs()


def test_rows_in_any_order_give_the_same_arm():
    rows = _rows(1, [0.9, 0.1, 0.7, 0.2, 0.1, 0.8, 0.6, 0.1])
    one, other = (arms_of(r)[1] for r in (rows, rows.sample(frac=1, random_state=1)))

    assert one["probability"].tolist() == other["probability"].tolist()
    assert one.unit.tolist() == other.unit.tolist()
    assert [*DAYS] == [*one.times]


def test_broken_tables_are_refused():
    with pytest.raises(DataError, match=r"must have the columns \['unit'\]"):
        arms_of(_rows(1, SURE).drop(columns="unit"))
    with pytest.raises(DataError, match="matured must be finite"):
        arms_of(_rows(1, [np.nan, *SURE[1:]]))
    with pytest.raises(DataError, match="book of v1 must be finite"):
        arms_of(_rows(1, SURE), {1: _book([1, np.nan, 1, 1])})
    with pytest.raises(DataError, match="equity of v1 must be positive"):
        arms_of(_rows(1, SURE), {1: _book([1, -0.1, 1, 1])})
