"""Where the money between a book and its twin went: every part, and nothing but the parts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.books.book import SCALE
from mlops.books.rows import replayed
from mlops.books.twin import History, twin_differences, twin_findings
from mlops.books.virtual import Bar, BarScores, Traded, follow, take
from mlops.experiment import Book, Fill, Step, Terms
from mlops.types import Level

T0, DAY = datetime(2026, 1, 2, 21, tzinfo=UTC), timedelta(days=1)
UNITS = ("A", "B", "C")
KINDS = {"filled", "missed", "waiting", "extra", "carried", "funding", "rounding"}
PARTS = ("twin_slippage", "twin_quantity", "twin_fees", "twin_missed", "twin_extra", "twin_carried", "twin_rest")


def bars(n, seed):
    rng = np.random.default_rng(seed)
    walk = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (n, len(UNITS))), axis=0))
    return [Bar(T0 + i * DAY, T0 + i * DAY, dict(zip(UNITS, row.tolist(), strict=True))) for i, row in enumerate(walk)]


def worlds(seed, *, n=12, cut=0, delay=timedelta(0), worse=0.0, lose=0.0, odd=0.0, terms=None):
    """A twin, and a bot that was late, paid more, lost trades and made some of its own; both from bar `cut` on."""
    rng, tape, terms = np.random.default_rng(seed), bars(n, seed), terms or Terms(0.0005)
    said = {bar.at: BarScores(UNITS, rng.random(3), bar.at) for bar in tape}
    twin = [one.step for one in follow(Book.opened(1e5), tape, said, lambda p: 2 * p - 1, terms)]
    fills = []
    for step in twin:
        for fill in step.fills:
            if rng.random() >= lose:
                price = fill.price * (1 + worse * np.sign(fill.quantity))
                fills.append(replace(fill, price=price, slippage=0, at=step.at + delay))
            if rng.random() < odd:
                fills.append(Fill(fill.unit, int(rng.integers(-SCALE, SCALE)) or 1, fill.price, 5, at=step.at + delay))
    real = [one.step for one in take(Book.opened(1e5), tape, fills)]
    return [History(replayed(Book.opened(1e5), done[:cut]), done[cut:]) for done in (real, twin)]


def grown(history):
    return history.closing.equity - history.opening.equity


@settings(max_examples=60)
@given(
    st.integers(0, 1000),
    st.integers(0, 11),
    st.sampled_from([timedelta(0), timedelta(minutes=3), timedelta(hours=30)]),
    st.floats(-0.01, 0.01),
    st.sampled_from([0.0, 0.3, 1.0]),
    st.sampled_from([0.0, 0.5]),
)
def test_the_parts_add_up_to_the_difference_of_the_two_equities(seed, cut, delay, worse, lose, odd):
    terms = Terms(0.0005, 0.0002, 0.0001)
    real, virtual = worlds(seed, cut=cut, delay=delay, worse=worse, lose=lose, odd=odd, terms=terms)
    rows = twin_differences(real, virtual)
    units = (rows.drop(columns=["event_time", "unit", "kind"]) * SCALE).round()

    assert set(rows["kind"]) <= KINDS
    assert grown(real) - grown(virtual) == int(units["effect"].sum())
    by = units[["by_price", "by_quantity", "by_fees", "by_slippage"]].sum(axis=1)
    assert (by == units["effect"])[rows["unit"] != ""].all()
    rest = units.loc[rows["kind"] == "rounding", "effect"].abs().sum()
    assert rest <= 2 * len(rows) + 6  # nothing but rounding is left over


def test_a_book_like_its_twin_differs_in_nothing():
    rows = twin_differences(*worlds(1))

    assert {"filled"} == set(rows["kind"])
    assert 0.0 == rows["effect"].abs().sum()
    found = {f.name: f for f in twin_findings(rows, equity=1e5, limit_bps=10.0, bars=12)}
    assert {"twin_departure", *PARTS} == set(found)
    assert {Level.OK} == {f.level for f in found.values()}


def test_worse_prices_are_slippage_and_nothing_else():
    real, virtual = worlds(2, worse=0.001)
    rows = twin_differences(real, virtual)
    found = {f.name: f for f in twin_findings(rows, equity=1e5, limit_bps=10.0, bars=12)}

    assert [10.0] * len(rows) == pytest.approx(rows["slippage_bps"].tolist())
    assert 10.0 == pytest.approx(found["twin_slippage"].params["mean_bps"])
    assert Level.ALERT == found["twin_departure"].level == found["twin_slippage"].level
    assert found["twin_departure"].value == pytest.approx(found["twin_slippage"].value, abs=1e-6)
    assert found["twin_departure"].value == pytest.approx((grown(real) - grown(virtual)) / SCALE / 1e5 * 1e4)


def test_a_fill_that_never_came_is_missed_and_its_later_profit_is_what_it_cost():
    up = [Step(T0, {}, fills=[Fill("A", 10 * SCALE, 50.0, 2)]), Step(T0 + DAY, {"A": 60.0})]
    none = [Step(T0), Step(T0 + DAY)]
    real, virtual = History(Book.opened(1e5), none), History(Book.opened(1e5), up)
    (row,) = twin_differences(real, virtual).itertuples()

    assert ("missed", "A", 0.0, 10.0, -100.0 + 2 / SCALE) == (
        row.kind,
        row.unit,
        row.quantity,
        row.quantity_virtual,
        row.effect,
    )
    missed = next(
        f
        for f in twin_findings(twin_differences(real, virtual), equity=1e5, limit_bps=5.0, bars=2)
        if f.name == "twin_missed"
    )
    assert (-10.0, Level.ALERT, 1) == (pytest.approx(missed.value), missed.level, missed.n)
    assert "most of it in A" in missed.note


def test_a_trade_of_the_last_bar_still_may_come_and_one_that_nobody_asked_for_is_extra():
    late = [Step(T0), Step(T0 + DAY, {}, fills=[Fill("A", SCALE, 50.0)])]
    own = [Step(T0, {"B": 9.0}, fills=[Fill("B", SCALE, 10.0)]), Step(T0 + DAY, {"B": 11.0})]
    rows = twin_differences(History(Book.opened(1e5), own), History(Book.opened(1e5), late)).set_index("unit")

    assert {"A": "waiting", "B": "extra"} == rows["kind"].to_dict()
    assert (1.0, -1.0, 2.0) == tuple(rows.loc["B", ["effect", "by_price", "by_quantity"]])


def test_fills_that_come_minutes_after_the_bar_belong_to_it():
    rows = twin_differences(*worlds(3, delay=timedelta(minutes=3)))

    assert {"filled", "waiting"} == set(rows["kind"]) - {"rounding"}
    assert {T0 + 11 * DAY} == set(rows.loc[rows["kind"] == "waiting", "event_time"])


def test_nothing_to_compare_is_unknown():
    rows = twin_differences(History(Book.opened(1e5), []), History(Book.opened(1e5), []))
    found = twin_findings(rows, equity=1e5, limit_bps=5.0, bars=0)

    assert rows.empty
    assert Level.UNKNOWN == found[0].level


def test_the_twin_follows_the_version_that_traded_a_unit():
    row = {v: BarScores(["A", "B"], np.array([v / 10, v / 10]), T0) for v in (1, 2)}
    traded = Traded()

    def asked(filled, may, champion=1):
        return traded.asked(row, filled, may, champion).probability.tolist()

    assert [0.1, 0.1] == asked({}, {1, 2})  # nothing known: the champion
    assert [0.1, 0.2] == asked({"B": 2}, {1, 2})
    assert [0.1, 0.2] == asked({}, {1, 2})  # B was traded by 2 last
    assert [0.1, 0.1] == asked({}, {1})  # 2 may not trade any more
    assert [0.2, 0.2] == asked({}, {2}, champion=2)
    assert [0.1, 0.1] == asked({"A": 9, "B": 9}, {1})  # of a version that said nothing
