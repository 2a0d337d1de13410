"""The books job: every book of a model from scores, bars and fills, in one go or day by day, and the look at twins."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from mlflow import MlflowClient

from jobs import books
from jobs.context import Context
from jobs.portfolio import twins
from mlops.books.book import SCALE
from mlops.books.rows import restored, state
from mlops.experiment import Book, Terms
from mlops.io.ledger import BookKey, Ledger
from mlops.learn import STRATEGIES
from mlops.settings import BookSettings, Settings
from registry_hooks.aliases import Registry

UNITS, STRATEGY = ["A", "B", "C"], STRATEGIES["direction"]
T0, DAY = datetime(2026, 3, 2, 21, tzinfo=UTC), timedelta(days=1)  # a Monday
BARS = 30


@pytest.fixture
def context(sqlite_ledger):
    return home(sqlite_ledger)


def home(ledger, client=None, **settings):
    return Context(Settings(books=BookSettings(**settings)), Registry(client, ledger, Path("no bundles")))


def market(n=BARS, seed=0):
    rng = np.random.default_rng(seed)
    walk = 50 * np.exp(np.cumsum(rng.normal(0, 0.02, (n, len(UNITS))), axis=0))
    at = pd.DatetimeIndex(np.repeat([T0 + i * DAY for i in range(n)], len(UNITS)))
    return pd.DataFrame({"event_time": at, "known_at": at, "symbol": UNITS * n, "close": walk.ravel()})


def score(ledger, day, roles, seed=0):
    """Scores of one bar, a minute late."""
    for version, role in roles.items():
        at = pd.Timestamp(T0 + day * DAY)
        probability = np.random.default_rng([seed, day, version]).random(len(UNITS))
        frame = pd.DataFrame({"model": "direction", "version": version, "unit": UNITS, "event_time": at})
        times = {"known_at": at + pd.Timedelta(minutes=1), "matures_at": at + pd.Timedelta(days=1)}
        frame = frame.assign(role=role, probability=probability, **times)
        ledger.telemetry.add_predictions(frame, np.zeros((len(UNITS), 1), np.float32), ("f",))


def roles_at(day):
    """A challenger that is promoted on day 15; a shadow that comes on day 5 and goes on day 20."""
    found = {1: "champion", 2: "challenger"} if day < 15 else {1: "shadow", 2: "champion"}
    return found | ({3: "shadow"} if 5 <= day < 20 else {})


def trade(ledger, bot, bars, day, *, worse=0.0, lose=()):
    """What a bot does that trades C by version 2 and the rest by the champion; its book after it."""
    row = bars[bars.event_time == T0 + day * DAY]
    scores = ledger.books.scores("direction", start=T0 + day * DAY, as_of=T0 + (day + 1) * DAY)
    scores = scores[scores.event_time == T0 + day * DAY]
    version = {u: 2 if u == "C" or day >= 15 else 1 for u in UNITS}
    mine = [scores[(scores.unit == u) & (scores.version == version[u])].probability.iloc[0] for u in UNITS]
    weights = dict(zip(UNITS, (STRATEGY.position(np.array(mine)) / len(UNITS)).tolist(), strict=True))
    step = bot.rebalanced(T0 + day * DAY, dict(zip(row.symbol, row.close, strict=True)), weights, Terms(5e-4))
    rows = [
        {
            "fill_id": f"{f.unit}{day}",
            "model": "direction",
            "version": version[f.unit],
            "book": "paper",
            "unit": f.unit,
            "event_time": step.at,
            "quantity": f.quantity / SCALE,
            "fee": f.fee / SCALE,
            "price": f.price * (1 + worse * np.sign(f.quantity)),
        }
        for f in step.fills
        if (day, f.unit) not in lose
    ]
    if rows:
        ledger.telemetry.add_fills(pd.DataFrame(rows))
    return bot.after(step)


def life(context, bars, days, *, every=1, **how):
    """Bars, scores and trades, and the job after every so many bars; the bot's own book."""
    bot = Book.opened(context.settings.books.cash)
    for day in range(days):
        score(context.ledger, day, roles_at(day))
        bot = trade(context.ledger, bot, bars, day, **how)
        if every and day % every == every - 1:
            books.advance(context, STRATEGY, bars, T0 + day * DAY + timedelta(minutes=30))
    if every is not None:
        books.advance(context, STRATEGY, bars, T0 + (days - 1) * DAY + timedelta(minutes=30))
    return bot


def shelf(ledger):
    """All that the ledger has of books."""
    keys = ledger.books.ends("direction")
    return {key: (ledger.books.events(key), ledger.books.states(key, start=None)) for key in keys}


@pytest.fixture(scope="module")
def one_go(tmp_path_factory):
    """The bot's book, and all books made at once."""
    with Ledger(f"sqlite:///{tmp_path_factory.mktemp('books') / 'ledger.db'}") as ledger:
        bot = life(home(ledger), market(), BARS, every=0)
        yield bot, shelf(ledger)


def test_every_version_that_scores_has_a_book_and_so_has_the_bot_and_its_twin(one_go):
    _, made = one_go
    lengths = {(key.book, key.version): len(states) for key, (_, states) in made.items()}

    assert {
        ("virtual", 1): 30,
        ("virtual", 2): 30,
        ("virtual", 3): 15,
        ("paper", 0): 30,
        ("twin:paper", 0): 30,
    } == lengths
    for events, states in made.values():
        assert list(range(1, len(events) + 1)) == [event.seq for event in events]
        assert len(events) == states[-1]["seq"]


def test_the_book_from_its_fills_is_the_bots_own_to_the_last_digit_and_so_is_its_twin(one_go):
    bot, made = one_go

    for book in ("paper", "twin:paper"):
        assert state(bot) == state(restored(made[BookKey("direction", book)][1][-1])), book


@pytest.mark.parametrize("every", [1, 4])
def test_books_that_were_brought_up_day_by_day_are_those_made_in_one_go(context, one_go, every):
    life(context, market(), BARS, every=every)

    assert one_go[1] == shelf(context.ledger)


def test_doing_it_again_changes_nothing(context, one_go):
    life(context, market(), 10)
    before = shelf(context.ledger)
    for _ in range(2):
        books.advance(context, STRATEGY, market(), T0 + 9 * DAY + timedelta(minutes=30))

    assert before == shelf(context.ledger)


def test_two_jobs_at_once_leave_one_chain(context, one_go, monkeypatch):
    """The other one appends between our reading and our writing."""
    life(context, market(), 10, every=None)
    append, at = context.ledger.books.append, T0 + 9 * DAY + timedelta(minutes=30)

    def late(lots, **more):
        monkeypatch.setattr(context.ledger.books, "append", append)
        books.advance(context, STRATEGY, market(), at - 4 * DAY)
        return append(lots, **more)

    monkeypatch.setattr(context.ledger.books, "append", late)
    books.advance(context, STRATEGY, market(), at)
    books.advance(context, STRATEGY, market(), at)

    until = {key: [s for s in states if s["event_time"] < at] for key, (_, states) in one_go[1].items()}
    assert until == {key: states for key, (_, states) in shelf(context.ledger).items()}


def test_a_book_does_not_see_what_was_not_known(context):
    bars = market()
    bars.loc[bars.event_time == T0 + 3 * DAY, "known_at"] += pd.Timedelta(hours=2)
    for day in range(5):
        score(context.ledger, day, {1: "champion"})
    ends = []
    for minutes in (0, 1, 119, 121):
        books.advance(context, STRATEGY, bars, T0 + 3 * DAY + timedelta(minutes=minutes))
        ends += [*context.ledger.books.ends("direction").values()]

    assert [T0 + 2 * DAY] * 3 + [T0 + 3 * DAY] == ends
    curve = context.ledger.books.curve("direction", "virtual", 1, as_of=T0 + 3 * DAY + timedelta(minutes=119))
    assert 3 == len(curve)


def test_bars_that_no_version_scored_are_marked_and_a_late_fill_is_not_lost(context):
    bars, ledger = market(), context.ledger
    for day in (0, 1, 4):
        score(ledger, day, {1: "champion", 2: "challenger"})
    bot = trade(ledger, Book.opened(1e6), bars, 0)
    books.advance(context, STRATEGY, bars, T0 + 2 * DAY)
    trade(ledger, bot, bars, 1)  # told three days later
    books.advance(context, STRATEGY, bars, T0 + 4 * DAY + timedelta(minutes=5))
    own = ledger.books.events(BookKey("direction", "paper"))

    assert {T0, T0 + 3 * DAY} == {e.event_time for e in own if e.kind == "fill"}
    assert {T0 + DAY} == {e.happened_at for e in own if e.kind == "fill" and e.event_time > T0}
    assert 5 == len(ledger.books.curve("direction", "virtual", 1, as_of=T0 + 5 * DAY))
    assert ledger.books.unbooked_fills("direction", "paper", as_of=T0 + 5 * DAY).empty


def test_a_twin_begins_with_the_first_scores_where_they_come_after_the_fills(context):
    bars, ledger, twin = market(), context.ledger, BookKey("direction", "twin:paper")
    fill = {"fill_id": "1", "model": "direction", "version": 1, "book": "paper", "unit": "A", "event_time": T0}
    ledger.telemetry.add_fills(pd.DataFrame([fill | {"quantity": 1.0, "price": 50.0, "fee": 0.0}]))
    books.advance(context, STRATEGY, bars, T0 + timedelta(minutes=30))
    assert [BookKey("direction", "paper")] == list(ledger.books.ends("direction"))
    for day in (0, 1):
        score(ledger, day, {1: "champion"})
    books.advance(context, STRATEGY, bars, T0 + DAY + timedelta(minutes=30))

    assert [T0, T0 + DAY] == [s["event_time"] for s in ledger.books.states(twin, start=None)]


def test_costs_are_those_of_the_strategy_and_the_settings(sqlite_ledger):
    context = home(sqlite_ledger, slippage_bps=2.0, funding_bps=1.0, cash=5e5)
    life(context, market(), 5)
    curve = sqlite_ledger.books.curve("direction", "virtual", 1, as_of=T0 + 6 * DAY)
    last = curve.iloc[-1]

    assert last.fees == pytest.approx(STRATEGY.cost_bps / 1e4 * last.traded)
    assert last.slippage == pytest.approx(2e-4 * last.traded)
    assert last.funding != 0.0
    costs = last.fees + last.slippage + last.funding
    assert last.equity == pytest.approx(5e5 + last.realised + last.unrealised - costs, abs=1e-7)


# --- twins ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tracked(sqlite_ledger, tmp_path):
    return home(sqlite_ledger, MlflowClient(f"sqlite:///{tmp_path}/mlflow.db"), twin_limit_bps=20.0)


def runs(context, job):
    experiment = context.client.get_experiment_by_name("direction")
    return [] if experiment is None else context.client.search_runs([experiment.experiment_id], f"tags.job = '{job}'")


def test_a_book_like_its_twin_is_quiet_and_once_a_month_a_point(tracked):
    life(tracked, market(), BARS)
    for day in range(BARS):
        assert [] == twins.look(tracked, "direction", T0 + day * DAY + timedelta(minutes=30))

    assert [] == tracked.ledger.alerts.newest() == runs(tracked, "books")
    (live,) = runs(tracked, "twin")  # 6 March
    assert {"twin_departure", "twin_slippage", "twin_missed"} <= set(live.data.metrics)
    assert 0.0 == live.data.metrics["twin_departure"]


def test_a_book_that_pays_too_much_is_an_alert_with_its_evidence_once_a_week(tracked):
    life(tracked, market(), BARS, worse=0.002)
    at = T0 + 29 * DAY + timedelta(minutes=30)
    (decision,) = twins.look(tracked, "direction", at)
    assert [] == twins.look(tracked, "direction", at + timedelta(hours=1))

    (alert,) = tracked.ledger.alerts.newest()
    assert f"book_departed:direction:paper:{at:%G-W%V}" == alert.key
    (run,) = runs(tracked, "books")
    assert alert.details["evidence_run"] == run.info.run_id
    departure = run.data.metrics["twin_departure"]
    assert departure < -20.0
    assert run.data.metrics["twin_slippage"] < -20.0
    parts = ("slippage", "quantity", "fees", "missed", "extra", "carried", "rest")
    assert departure == pytest.approx(sum(run.data.metrics[f"twin_{part}"] for part in parts), abs=1e-6)
    assert {"books.json", "findings.csv", "twin.csv"} == {
        f.path for f in tracked.client.list_artifacts(run.info.run_id)
    }
    assert "departure" in decision.because[0].name
    ends = [tracked.ledger.books.curve("direction", b, as_of=at).equity.iloc[-1] for b in ("paper", "twin:paper")]
    assert departure == pytest.approx((ends[0] - ends[1]) / 1e6 * 1e4)


def test_two_bots_of_a_model_each_have_their_own_run(tracked):
    bars = market()
    life(tracked, bars, BARS)
    fills = {
        "fill_id": ["x"],
        "model": "direction",
        "version": 1,
        "book": "spot",
        "unit": "B",
        "event_time": T0 + 5 * DAY,
    }
    tracked.ledger.telemetry.add_fills(pd.DataFrame(fills | {"quantity": 1.0, "price": 50.0, "fee": 0.0}))
    at = T0 + 29 * DAY + timedelta(minutes=30)
    books.advance(tracked, STRATEGY, bars, at)
    run = tracked.client.create_run(tracked.client.create_experiment("direction")).info.run_id
    tracked = replace(tracked, run_id=run)

    assert 2 == len(twins.look(tracked, "direction", at))
    assert {"paper", "spot"} == {run.data.tags["book"] for run in runs(tracked, "books")}


def test_trades_that_never_reached_the_bot_are_missed(tracked):
    life(tracked, market(), BARS, lose={(day, "A") for day in range(2, 30)})
    run = tracked.client.create_run(tracked.client.create_experiment("direction")).info.run_id
    tracked = replace(tracked, run_id=run)
    (decision,) = twins.look(tracked, "direction", T0 + 29 * DAY + timedelta(minutes=30))
    found = {finding.name: finding for finding in decision.because}

    assert found["twin_missed"].n > 20
    assert "A" in found["twin_missed"].note
    assert found["twin_departure"].value == pytest.approx(
        found["twin_missed"].value + found["twin_carried"].value, abs=2.0
    )
