"""Books: nothing is lost, not a 1e-8, whatever happens and wherever it is interrupted."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.books.book import SCALE, exact, times, worth
from mlops.books.rows import events, replayed, restored, state, steps
from mlops.books.virtual import Bar, BarScores, follow, take
from mlops.errors import DataError
from mlops.experiment import Book, Fill, Step, Terms
from mlops.types import LARGEST

T0 = datetime(2026, 1, 2, 21, tzinfo=UTC)
DAY = timedelta(days=1)
UNITS = ("A", "B", "C")
PRICES = st.fixed_dictionaries({u: st.floats(0.01, 5_000) for u in UNITS})
MULTIPLIERS = {"A": 1.0, "B": 100.0, "C": 0.1}
FILLS = st.lists(
    st.builds(
        Fill,
        st.sampled_from(UNITS),
        st.integers(-(10**12), 10**12).filter(bool) | st.integers(-(10**23), 10**23).filter(bool),
        st.floats(0.01, 5_000) | st.just(0.0),
        st.integers(-(10**6), 10**9),
        st.integers(0, 10**9),
    ).map(lambda fill: replace(fill, multiplier=MULTIPLIERS[fill.unit])),
    max_size=6,
)
FUNDING = st.dictionaries(st.sampled_from(UNITS), st.integers(-(10**9), 10**9))
STEPS = st.lists(st.tuples(PRICES, FUNDING, FILLS), max_size=8).map(
    lambda rows: [Step(T0 + i * DAY, *row) for i, row in enumerate(rows)]
)


@settings(max_examples=150)
@given(STEPS)
def test_every_1e_8_is_accounted_for_after_every_step(happened):
    book = Book.opened(1_000_000.0)
    for step in happened:
        before, book = book, book.after(step)
        assert book.equity == book.cash + sum(worth(p.quantity, p.mark, p.multiplier) for p in book.positions.values())
        costs = book.fees + book.slippage + book.funding
        assert book.equity == book.start + book.realised + book.unrealised - costs
        moved = sum(worth(p.quantity, step.marks[u], p.multiplier) - p.value for u, p in before.positions.items())
        bought = {u: sum(f.quantity for f in step.fills if f.unit == u) for u in UNITS}
        traded = sum(worth(bought[u], step.marks[u], MULTIPLIERS[u]) for u in UNITS)
        paid = sum(f.value + f.fee + f.slippage for f in step.fills) + sum(step.funding.values())
        assert abs(before.equity + moved + traded - paid - book.equity) <= 2 * len(UNITS)  # sums of rounded products
        assert book.peak >= book.equity
        assert 0 not in {p.quantity for p in book.positions.values()}


@settings(max_examples=100)
@given(STEPS, st.randoms(use_true_random=False))
def test_the_order_of_fills_within_a_bar_moves_nothing_but_what_is_called_realised(happened, random):
    one = other = Book.opened(1_000_000.0)
    for step in happened:
        mixed = random.sample(step.fills, len(step.fills))
        one, other = one.after(step), other.after(replace(step, fills=mixed))
        for name in ("cash", "equity", "fees", "slippage", "funding", "traded", "gross", "net", "peak"):
            assert getattr(one, name) == getattr(other, name), name
        assert one.realised + one.unrealised == other.realised + other.unrealised
        assert {u: p.quantity for u, p in one.positions.items()} == {u: p.quantity for u, p in other.positions.items()}


@settings(max_examples=100)
@given(STEPS)
def test_fills_of_different_units_may_come_in_any_order(happened):
    one = other = Book.opened(1_000_000.0)
    for step in happened:
        by_unit = sorted(step.fills, key=lambda fill: fill.unit)  # stable: those of a unit keep their order
        one, other = one.after(step), other.after(replace(step, fills=by_unit))
        assert state(one) == state(other)


@settings(max_examples=100)
@given(STEPS, st.data())
def test_events_and_states_are_the_book_and_any_interruption_leaves_the_same_one(happened, data):
    whole = replayed(Book.opened(1_000_000.0), happened)
    cut = data.draw(st.integers(0, len(happened)))
    first = restored(state(replayed(Book.opened(1_000_000.0), happened[:cut])))
    rows, told = [], []
    for step in happened[cut:]:
        told = events(step, len(rows))
        rows += told

    assert [e.seq for e in rows] == list(range(1, len(rows) + 1))
    assert state(replayed(first, steps(rows))) == state(whole)


def test_a_trade_at_the_mark_moves_no_equity_whatever_a_unit_stands_for():
    """Ten puts at 5.00 for 100 shares each cost 5,000; a future sold short at the mark is no loss."""
    puts, short = Fill("P", 10 * SCALE, 5.0, multiplier=100.0), Fill("F", -2 * SCALE, 5_000.0, multiplier=50.0)
    book = Book.opened(1e6).after(Step(T0, fills=[puts, short]))
    assert (10**6 * SCALE, (10**6 - 5_000 + 500_000) * SCALE) == (book.equity, book.cash)
    assert (5.0, 5_000.0) == (book.average_price("P"), book.average_price("F"))

    book = book.after(Step(T0 + DAY, {"P": 6.0, "F": 4_990.0}))
    assert (1_000 + 1_000) * SCALE == book.unrealised
    book = book.after(Step(T0 + 2 * DAY, {}, fills=[Fill("P", -10 * SCALE, 0.0, multiplier=100.0)]))
    assert ({"F"}, -5_000 * SCALE) == (set(book.positions), book.realised)


def test_a_fill_by_another_multiplier_than_the_open_position_is_refused():
    book = Book.opened(1e6).after(Step(T0, fills=[Fill("P", SCALE, 5.0, multiplier=100.0)]))
    with pytest.raises(DataError, match=r"multiplier of P must be that of the open position, 100.0, got 1.0"):
        book.after(Step(T0 + DAY, fills=[Fill("P", SCALE, 5.0)]))


def test_a_virtual_book_trades_contracts_and_trades_over_to_another_multiplier():
    book, terms = Book.opened(1e6), Terms(fee=0.001)
    book = book.after(book.rebalanced(T0, {"F": 5_000.0}, {"F": 0.5}, terms, {"F": 50.0}))
    assert (2 * SCALE, 500_000 * SCALE, 500 * SCALE) == (book.positions["F"].quantity, book.gross, book.fees)

    step = book.rebalanced(T0 + DAY, {"F": 5_000.0}, {"F": 0.5}, terms, {"F": 5.0})
    book = book.after(step)
    assert [(-2 * SCALE, 50.0)] == [(f.quantity, f.multiplier) for f in step.fills[:1]]
    assert 0.5 == pytest.approx(book.gross / book.equity, abs=1e-3)
    assert 5.0 == book.positions["F"].multiplier


def test_closing_a_position_leaves_no_average_price_and_realises_what_it_made():
    book = Book.opened(1_000.0).after(Step(T0, {"A": 10.0}, fills=[Fill("A", 3 * SCALE, 10.0)]))
    assert 10.0 == book.average_price("A")
    book = book.after(Step(T0 + DAY, {"A": 12.0}, fills=[Fill("A", 1 * SCALE, 12.0)]))
    assert 10.5 == book.average_price("A")
    book = book.after(Step(T0 + 2 * DAY, {"A": 11.0}, fills=[Fill("A", -4 * SCALE, 11.0)]))

    assert (None, 2 * SCALE, 0, 1_002 * SCALE) == (book.average_price("A"), book.realised, book.unrealised, book.cash)


def test_a_flip_through_zero_realises_only_what_was_closed():
    book = Book.opened(1_000.0).after(Step(T0, {"A": 10.0}, fills=[Fill("A", 3 * SCALE, 10.0)]))
    book = book.after(Step(T0 + DAY, {"A": 12.0}, fills=[Fill("A", -5 * SCALE, 12.0)]))

    assert (6 * SCALE, 12.0, -2 * SCALE) == (book.realised, book.average_price("A"), book.positions["A"].quantity)
    assert 1_006 * SCALE == book.equity
    book = book.after(Step(T0 + 2 * DAY, {"A": 15.0}))
    assert (6 * SCALE, -6 * SCALE) == (book.realised, book.unrealised)
    assert ((2 * 15) * SCALE, (-2 * 15) * SCALE, 0.6e-2) == (
        book.gross,
        book.net,
        pytest.approx(book.drawdown, abs=1e-4),
    )


def test_ten_times_ten_cents_are_a_dollar_and_what_thirds_lose_is_realised():
    book = Book.opened(1.0)
    for i in range(10):
        book = book.after(Step(T0 + i * DAY, {}, fills=[Fill("A", SCALE, 0.1)]))
    assert (0, SCALE) == (book.cash, book.equity)
    for i, part in enumerate((333_333_333, 333_333_333, 333_333_334)):  # each is paid to the nearest 1e-8
        book = book.after(Step(T0 + (10 + i) * DAY, {}, fills=[Fill("A", -part, 0.1)]))
    assert ({}, SCALE - 1, -1) == (book.positions, book.cash, book.realised)


def test_a_rebalance_reaches_the_weights_and_costs_what_the_terms_say():
    terms = Terms(fee=0.001, slippage=0.0005, funding=0.01)
    book = Book.opened(100.0)
    book = book.after(book.rebalanced(T0, {"A": 10.0, "B": 5.0}, {"A": 0.5, "B": -0.2}, terms))
    assert {"A": 5 * SCALE, "B": -4 * SCALE} == {u: p.quantity for u, p in book.positions.items()}
    assert (exact(0.07), exact(0.035), 0) == (book.fees, book.slippage, book.funding)
    step = book.rebalanced(T0 + DAY, {"A": 12.0, "B": 5.0}, {"A": 0.0}, terms)

    assert {"A": exact(0.6), "B": exact(-0.2)} == step.funding  # a long pays, a short gets
    assert [("A", -5 * SCALE)] == [(f.unit, f.quantity) for f in step.fills]  # B has no weight: it is left as it is


def test_slippage_can_lie_in_the_price_instead_and_costs_the_same():
    fill = Fill("A", -4 * SCALE, 10.0, fee=7, slippage=exact(0.02))
    assert 10.0 - 0.005 == pytest.approx(fill.in_price().price)
    ends = [Book.opened(100.0).after(Step(T0, {"A": 10.0}, fills=[f])).equity for f in (fill, fill.in_price())]
    assert abs(ends[0] - ends[1]) <= 1


def test_a_unit_without_a_price_keeps_its_quantity_and_its_mark():
    book = Book.opened(100.0).after(Book.opened(100.0).rebalanced(T0, {"A": 10.0}, {"A": 1.0}, Terms()))
    step = book.rebalanced(T0 + DAY, {"B": 1.0}, {}, Terms())
    assert (Step(T0 + DAY, fills=()), 100 * SCALE) == (step, book.after(step).equity)


def test_a_ruined_book_closes_what_it_holds_and_never_trades_again():
    book = Book.opened(10.0)
    book = book.after(book.rebalanced(T0, {"A": 1.0}, {"A": -1.0}, Terms()))
    step = book.rebalanced(T0 + DAY, {"A": 3.0, "B": 1.0}, {"A": -1.0, "B": 0.5}, Terms())
    ruined = book.after(step)

    assert (-10 * SCALE, {}, 2.0) == (ruined.equity, ruined.positions, ruined.drawdown)
    assert () == ruined.rebalanced(T0 + 2 * DAY, {"A": 3.0}, {"A": 1.0}, Terms()).fills


@pytest.mark.parametrize(
    ("prices", "weights", "rule"),
    [
        ({"A": 0.0}, {}, "price of A must be positive"),
        ({"A": float("nan")}, {}, "price of A must be positive"),
        ({"A": 1.0}, {"B": 0.1}, "target of B must be finite and have a price"),
        ({"A": 1.0}, {"A": float("inf")}, "target of A must be finite"),
        ({"A": 1e-15}, {"A": 1.0}, "amount must be finite and under"),
    ],
)
def test_what_cannot_be_traded_is_refused(prices, weights, rule):
    with pytest.raises(DataError, match=rule):
        Book.opened(1e6).rebalanced(T0, prices, weights, Terms())


@pytest.mark.parametrize("price", [3.0, 0.0, -37.63])
@pytest.mark.parametrize("side", [1, -1])
def test_cash_and_equity_are_exact_through_zero(price, side):
    """Bought at 3, more at the price (below zero the seller pays), closed at -40: what it cost is lost to the cent."""
    fills = [(2, 3.0), (1, price), (-3, -40.0)]
    book = Book.opened(1e6)
    for i, (quantity, paid) in enumerate(fills):
        book = book.after(Step(T0 + i * DAY, fills=(Fill("F", side * quantity * SCALE, paid, multiplier=1000.0),)))
        if i == 1:
            assert book.equity == exact(1e6 + side * 2 * (price - 3.0) * 1000.0)
            assert book.positions["F"].value == exact(side * 3 * price * 1000.0)

    assert {} == book.positions
    assert book.cash == book.equity == book.start + book.realised == exact(1e6 - side * (6.0 + price + 120.0) * 1000.0)


@pytest.mark.parametrize("price", [float("nan"), float("inf"), -float("inf")])
def test_a_fill_at_no_number_is_refused(price):
    with pytest.raises(DataError, match="price of F must be positive and finite"):
        Book.opened(1e6).after(Step(T0, fills=(Fill("F", SCALE, price),)))


def test_terms_are_fractions():
    for wrong in ({"fee": -1.0}, {"slippage": float("nan")}, {"funding": float("inf")}):
        with pytest.raises(DataError, match=f"{next(iter(wrong))} must be"):
            Terms(**wrong)


def test_a_number_is_taken_to_the_nearest_1e_8_half_to_even():
    assert (1, 0, -2, 110_000_000) == (exact(1e-8), exact(4e-9), exact(-1.6e-8), exact(1.1))
    assert (2, 2, -2) == (times(5, 0.5), times(3, 0.5), times(-5, 0.5))


# --- along the bars -------------------------------------------------------------------------------------------------


def world(n=12, seed=0):
    rng = np.random.default_rng(seed)
    walk = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (n, len(UNITS))), axis=0))
    bars = [Bar(T0 + i * DAY, T0 + i * DAY, dict(zip(UNITS, row.tolist(), strict=True))) for i, row in enumerate(walk)]
    said = {bar.at: BarScores(UNITS, rng.random(len(UNITS)), bar.at + timedelta(minutes=1)) for bar in bars}
    return bars, said


@pytest.mark.parametrize("cut", range(0, 13, 3))
def test_a_virtual_book_that_is_taken_up_again_is_the_one_that_was_never_left(cut):
    bars, said = world()
    terms = Terms(0.0005, 0.0001, 0.0002)
    whole = list(follow(Book.opened(1e6), bars, said, np.sign, terms))
    first = list(follow(Book.opened(1e6), bars[:cut], said, np.sign, terms))
    kept = restored(state(first[-1].book)) if first else Book.opened(1e6)

    assert whole == first + list(follow(kept, bars[cut:], said, np.sign, terms))
    assert bars[-1].at + timedelta(minutes=1) == whole[-1].known_at


def test_a_bar_without_scores_only_marks_and_a_unit_without_a_price_is_left():
    bars, said = world(3)
    del said[bars[1].at]
    bars[2] = replace(bars[2], prices={u: p for u, p in bars[2].prices.items() if u != "A"})
    grown = list(follow(Book.opened(1e6), bars, said, lambda p: p, Terms()))

    assert [3, 0, 2] == [len(one.step.fills) for one in grown]
    assert [set(), set(UNITS), set()] == [set(one.step.marks) for one in grown]  # what trades tells its own price
    assert grown[0].book.positions["A"].quantity == grown[2].book.positions["A"].quantity


def test_the_book_that_takes_the_fills_of_another_is_its_equal():
    """What a bot traded, in the floats in which it is stored, makes the book that the bot had."""
    bars, said = world(40, seed=3)
    own = list(follow(Book.opened(1e6), bars, said, lambda p: 2 * p - 1, Terms(0.0005)))
    fills = [
        Fill(f.unit, exact(f.quantity / SCALE), f.price, exact(f.fee / SCALE), 0, one.step.at, 1)
        for one in own
        for f in one.step.fills
    ]
    taken = list(take(Book.opened(1e6), bars, fills))

    assert [one.book for one in own] == [one.book for one in taken]


def test_a_late_fill_is_taken_at_the_next_bar_and_one_after_the_last_bar_waits():
    bars, _ = world(3)
    fills = [Fill("A", SCALE, 50.0, at=T0 + timedelta(hours=1)), Fill("A", SCALE, 50.0, at=T0 + 5 * DAY)]
    grown = list(take(Book.opened(1e6), bars, fills))

    assert [0, 1, 0] == [len(one.step.fills) for one in grown]


@given(STEPS, FILLS)
def test_what_may_only_shrink_opens_nothing_adds_to_nothing_and_goes_through_no_zero(happened, wanted):
    book = Book.opened(1e6)
    for step in happened:
        book = book.after(step)

    after = book.after(Step(T0 + 99 * DAY, {}, {}, book.shrinking(wanted)))

    for unit in UNITS:
        was, is_ = (b.positions[unit].quantity if unit in b.positions else 0 for b in (book, after))
        assert min(0, was) <= is_ <= max(0, was)


def test_a_fill_that_goes_through_zero_shrinks_to_zero_and_costs_its_share():
    book = Book.opened(1e6).after(Step(T0, {}, {}, [Fill("A", 10 * SCALE, 100.0), Fill("B", -4 * SCALE, 50.0)]))
    sell, cover, add, new = (
        Fill("A", -40 * SCALE, 100.0, 80, 8),
        Fill("B", SCALE, 50.0, 5),
        Fill("B", -9, 50.0),
        Fill("C", 9, 1.0),
    )

    assert (Fill("A", -10 * SCALE, 100.0, 20, 2), cover) == book.shrinking([sell, cover, add, new])


def test_the_largest_amount_is_just_under_the_limit():
    largest = float(np.nextafter(LARGEST, 0.0))

    assert (int(largest) * SCALE, -int(largest) * SCALE) == (exact(largest), exact(-largest))
    for refused in (LARGEST, -LARGEST, np.inf, -np.inf, np.nan):
        with pytest.raises(DataError, match=r"amount must be finite and under 1e\+20, got"):
            exact(refused)


def test_slippage_in_the_price_is_a_share_of_each_unit_and_of_its_multiplier():
    fill = Fill("O", -2 * SCALE, 10.0, fee=3, slippage=exact(4.0), multiplier=100.0)

    assert replace(fill, price=9.98, slippage=0) == fill.in_price(), "4 of money on 2 contracts of 100: 0.02 a unit"
    assert fill.value + fill.slippage == fill.in_price().value
    unmoved = replace(fill, slippage=0)
    assert unmoved is unmoved.in_price()
