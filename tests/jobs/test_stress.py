"""The stress job, from fills in a real ledger to a run in a real MLflow and a page in a real browser."""

import re
import shutil
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from mlflow.artifacts import load_dict
from playwright.sync_api import sync_playwright

from jobs import schedule, stress
from jobs.context import opened
from jobs.live.risk import Live
from jobs.portfolio.positions import positions
from mlops.compute import SERIAL
from mlops.io import bar_feed, record
from mlops.io.ledger import Instrument
from mlops.plots import page
from mlops.risk.stress.scenarios import EPISODES, Scenarios
from mlops.risk.stress.table import stress_table
from mlops.settings import BookBalance, BookSettings, RiskLimit, RiskSettings, Settings
from mlops.types import Kind, Level

AT = datetime(2022, 12, 28, 23, tzinfo=UTC)
HELD = {
    "AAPL": 800,
    "BAC": 4000,
    "XOM": 900,
    "KO": -1500,
    "<b>&": 10,
    "OPT": 20,
    "OLD": 5,
}  # a name of a unit is not ours
KNOWN = BookSettings(balances=(BookBalance(amount=1e6),))  # of every account


@pytest.fixture(scope="module")
def bars():
    frame = bar_feed.load_bars("sp500").frame
    return frame[frame.event_time <= AT]


def set_up(folder, **risk):
    state = folder / "live"
    return Settings(
        state=state, tracking_uri=f"sqlite:///{state}/mlflow.db", risk=RiskSettings(paths=1024, **risk), books=KNOWN
    )


def trade(ledger, bars, model, holdings, share=1.0):
    last = bars[bars.event_time == bars.event_time.max()].set_index("symbol")["close"]
    rows = [
        {"fill_id": f"{model}{unit}", "model": model, "version": 1, "book": "live", "unit": unit, "fee": 0.0}
        | {"event_time": AT - timedelta(hours=1), "quantity": share * n, "price": float(last.get(unit, 25.0))}
        for unit, n in holdings.items()
    ]
    ledger.telemetry.add_fills(pd.DataFrame(rows))


@pytest.fixture(scope="module")
def context(tmp_path_factory, bars):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("artifacts"))
        with opened(set_up(tmp_path_factory.mktemp("stress"))) as open_house:
            told = [
                Instrument("OPT", Kind.PUT, underlying="AAPL", strike=150.0, expiry=AT + timedelta(days=60)),
                Instrument("OLD", Kind.CALL, underlying="AAPL", strike=150.0, expiry=AT - timedelta(days=1)),
            ]
            open_house.ledger.instruments.put(told, AT - timedelta(days=1))
            trade(open_house.ledger, bars, "direction", HELD)
            trade(open_house.ledger, bars, "volatility", {"JPM": 1200, "AAPL": 300})
            yield open_house


@pytest.fixture(scope="module")
def written(context, bars):
    return stress.write(context, bars, AT)


class _Outline(HTMLParser):
    VOID = ("meta", "br", "path", "use", "rect")

    def __init__(self, html):
        super().__init__()
        self.open, self.ids, self.addresses, self.tables = [], [], [], 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [v for k, v in attrs if k in ("href", "src", "xlink:href")]
        self.tables += tag == "table"

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert tag == self.open.pop()


def test_the_page_is_one_file_of_its_own_and_well_formed(written):
    outline = _Outline(written.html)

    assert [] == outline.open
    assert len(set(outline.ids)) == len(outline.ids)
    assert all(address.startswith("#") for address in outline.addresses)
    assert {address[1:] for address in outline.addresses} <= set(outline.ids)
    assert not re.search(r"<script|@import|url\((?!#)", written.html)
    assert outline.tables == written.html.count("<caption>") > 6


def test_a_loss_in_the_table_is_value_times_return_by_hand(context, bars, written):
    held, table = positions(context, AT), written.stressed.table
    closes = bars.pivot(index="event_time", columns="symbol", values="close")
    day = closes.index.strftime("%Y-%m-%d")
    move = closes[day == "2020-03-23"].iloc[0] / closes[day == "2020-02-19"].iloc[0] - 1
    mine = held.frame[(held.frame.strategy == "direction") & held.frame.unit.isin(closes.columns)]

    row = table[(table.scenario == "Covid crash 2020") & (table.strategy == "direction")].iloc[0]

    expected = -sum(q * p * move[u] for u, q, p in zip(mine.unit, mine.quantity, mine.price, strict=True))
    s = written.stressed.scenarios
    option = 20 * 25.0 * s.returns[s.names.index("Covid crash 2020"), s.units.index("OPT")]
    assert expected - option == pytest.approx(row.money)
    assert 0.0 == row.proxied
    assert row.missing > 0


def test_units_that_no_scenario_speaks_of_are_named(written):
    said = " ".join(written.stressed.missing)

    assert "OLD" not in said, "an expired option moves as what it pays"
    assert "<b>& has 0 bars of its own" in said
    assert "&lt;b&gt;&amp; has 0 bars" in written.html
    assert "<b>& " not in written.html
    assert Level.UNKNOWN == stress._findings(SimpleNamespace(settings=Settings()), written.stressed)[0].level


def test_an_option_is_priced_anew_under_the_move_of_its_underlying(context, written):
    """A put at 150 on a share that falls to a tenth is worth what it pays, about."""
    s, held = written.stressed.scenarios, positions(context, AT)
    price = held.frame.drop_duplicates("unit").set_index("unit")["price"]
    put, share = s.units.index("OPT"), s.units.index("AAPL")
    moved = price["AAPL"] * (1 + s.returns[:, share])
    worth = price["OPT"] * (1 + s.returns[:, put])
    deep = moved < 75

    assert deep.any()
    assert (150 - moved)[deep] == pytest.approx(worth[deep], rel=0.02)
    assert (np.argsort(moved) == np.argsort(-worth)).all()
    assert s.proxied[:, share].tolist() == s.proxied[:, put].tolist()
    assert 1 == written.stressed.options
    assert "1 options are priced anew" in written.html


def test_shocks_of_price_and_volatility_revalue_the_options(context, written):
    """Far down, a put at 150 is worth what it pays whatever the volatility; up volatility it is worth more."""
    shocks, held = written.stressed.shocks, positions(context, AT)
    linear = held.frame[~held.frame.kind.isin([Kind.PUT.value, Kind.CALL.value])]
    outright = float((linear.quantity * linear.price).sum())
    spot = float(linear.price[linear.unit == "AAPL"].iloc[0])
    put = 20 * ((150 - 0.7 * spot) - 25.0)

    assert (-0.3 * outright + put) / held.equity == pytest.approx(shocks.loc[-0.3, 0.0], abs=1e-5)
    assert 0.0 == pytest.approx(shocks.loc[0.0, 0.0], abs=1e-9)
    assert (shocks.loc[0.0].diff().dropna() > 0).all()
    assert "If all prices and volatilities move" in written.html


def test_in_the_simulation_an_option_is_the_holding_that_moves_like_it(context, written):
    account, held = written.stressed.account, positions(context, AT)
    rows = held.frame[held.frame.unit == "AAPL"]

    outright = float((rows.quantity * rows.price).sum()) / held.equity
    assert account.weights[account.units.index("AAPL")] < outright  # by the delta of the put, which is negative


def test_the_run_has_the_table_the_page_the_pictures_and_the_numbers(context, written):
    run = context.client.get_run(written.run_id)
    artifacts = {a.path for a in context.client.list_artifacts(written.run_id)}
    text = mlflow_text(context, written.run_id, "scenarios.csv")

    assert {"stress.html", "scenarios.csv", "stress.json", "losses.png", "fan.png", "grid.png"} <= artifacts
    assert written.stressed.table["money"].to_numpy() == pytest.approx(pd.read_csv(StringIO(text))["money"].to_numpy())
    assert written.stressed.worst["loss"] == run.data.metrics["stress"]
    assert written.stressed.account.tails["all"][1].value == run.data.metrics["es.all"]
    assert {"expected_drawdown", "worst_window.20"} <= run.data.metrics.keys()
    assert len(run.data.metrics) <= record.PLOTTED
    numbers = load_dict(f"{run.info.artifact_uri}/stress.json")["numbers"]
    assert {"scenario.covid_crash_2020", "dof", "expected_drawdown", "worst_window.20"} <= numbers.keys()
    assert "stress" == run.data.tags["job"]


def mlflow_text(context, run_id, name):
    import mlflow

    mlflow.set_tracking_uri(context.settings.tracking_uri)
    return mlflow.artifacts.load_text(f"runs:/{run_id}/{name}")


def test_the_live_page_gets_the_scenarios_and_comes_to_the_same_numbers(context, written):
    state = context.ledger.risk.state("stress", "all", as_of=AT)
    held, told = positions(context, AT), Scenarios.from_stored(state.body, state.arrays)
    equities = {(key.model, key.book): equity for key, equity in held.equities().items()}

    again = stress_table(held.valued, told, equities)

    assert len(EPISODES) < len(told.names)
    pd.testing.assert_frame_equal(written.stressed.table, again)
    assert list(told.names) == [row["name"] for row in state.body["about"]]


def test_nothing_later_is_seen(context, bars):
    early = datetime(2010, 1, 4, 22, tzinfo=UTC)
    found = stress.compute(context, bars, early)

    assert found.held.frame.empty
    assert found.account is None
    assert "None of the named scenarios would cost the books anything." == stress.stress_page.headline(found)


def test_an_account_for_each_strategy_and_for_all(written):
    account = written.stressed.account

    assert ["all", "direction", "volatility"] == sorted(account.tails)
    assert account.units == ("AAPL", "BAC", "JPM", "KO", "XOM")
    assert account.weights[account.units.index("KO")] < 0


@pytest.fixture
def plain(sqlite_ledger):
    """A set-up without MLflow, for what only computes."""

    def of(**risk):
        settings = Settings(risk=RiskSettings(paths=1024, **risk), books=KNOWN)
        return SimpleNamespace(ledger=sqlite_ledger, settings=settings, compute=SERIAL)

    return of


def shown(found):
    return page.render("stress.html", stress.stress_page.context(found, "USD"))


def test_a_line_that_a_person_drew_is_held(plain, bars):
    context = plain(limits=(RiskLimit(measure="stress", warning=0.001, soft=0.002, hard=0.003),))
    trade(context.ledger, bars, "direction", {"AAPL": 800})
    found = stress.compute(context, bars, AT)

    judged = stress._findings(context, found)

    assert [("stress", Level.ALERT)] == [(f.name, f.level) for f in judged]
    assert "1 units, 3 needed" in shown(found)  # of the vine


def test_ten_days_of_history_give_a_page_that_says_what_is_needed(plain, bars):
    context = plain()
    trade(context.ledger, bars, "direction", {"AAPL": 800})

    few = stress.compute(context, bars[bars.event_time > AT - timedelta(days=14)], AT)
    some = stress.compute(context, bars[bars.event_time > AT - timedelta(days=150)], AT)

    assert few.account is None
    assert few.worst is None
    assert "AAPL has 8 bars of its own, 60 are needed" in shown(few)
    assert "104 bars, 250 needed" in shown(some)
    assert (some.total["missing"] == 1).any()  # no bars of the index beside its own, no beta
    assert [] == _Outline(shown(few)).open == _Outline(shown(some)).open


def test_a_window_before_a_units_first_bar_says_that_something_stood_in(plain, bars):
    late = bars[(bars.symbol != "BAC") | (bars.event_time > datetime(2021, 1, 1, tzinfo=UTC))]
    late = late[late.event_time > datetime(2019, 1, 1, tzinfo=UTC)]
    context = plain()
    trade(context.ledger, late, "direction", {"AAPL": 800, "BAC": 2000, "KO": 900})

    found = stress.compute(context, late, AT)

    worst = found.total.set_index("scenario")["proxied"]
    assert 0 < worst["Worst 20 bars of this book"] < 1
    assert 0.0 == worst["Rates shock 2022"]


def test_books_without_anything_give_a_page_too(plain, bars):
    found = stress.compute(plain(), bars, AT)

    assert "What all books would lose is not known." in shown(found)
    assert [] == _Outline(shown(found)).open


def test_a_book_without_equity_has_losses_in_money_only(plain, bars):
    context = plain()
    trade(context.ledger, bars, "direction", {"AAPL": -400_000})
    later = bars.assign(close=bars["close"])
    context.ledger.confirmed_prices.add("AAPL", 400.0, "desk", "it is what the exchange says", AT)

    found = stress.compute(context, later, AT)

    assert found.held.equity < 0
    assert found.account is None
    assert np.isnan(found.table["loss"]).all()
    assert np.isfinite(found.table["money"]).all()
    assert [] == _Outline(shown(found)).open


def test_it_is_in_the_schedule_once_for_all_models():
    entry = schedule.ENTRIES["stress"]

    assert ["stress"] == entry.names(["a", "b"])


# --- a reader's view ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium was not found; install it to see the page as a reader does")
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.mark.parametrize("width", [1200, 400])
def test_a_reader_without_network_sees_the_answer_and_never_scrolls_the_page_sideways(
    browser, written, tmp_path, width
):
    (tmp_path / "stress.html").write_text(written.html, encoding="utf-8")
    context = browser.new_context(java_script_enabled=False, offline=True, viewport={"width": width, "height": 900})
    sheet, complaints = context.new_page(), []
    sheet.on("console", lambda message: complaints.append(message.text))
    sheet.on("request", lambda request: complaints.append(request.url) if "stress.html" not in request.url else None)
    sheet.goto((tmp_path / "stress.html").as_uri())

    assert stress.stress_page.headline(written.stressed) == sheet.get_by_role("heading", level=1).inner_text()
    assert page.percent(written.stressed.worst["loss"], 1) in sheet.get_by_role("heading", level=1).inner_text()
    assert 3 == sheet.get_by_role("img").count()
    for place in ("section", "header", "footer", "nav a"):
        for one in sheet.locator(place).all():
            box = one.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width
    assert [] == complaints
    context.close()


def test_the_loss_of_the_worst_window_is_that_of_its_row(written):
    account, total = written.stressed.account, written.stressed.total.set_index("scenario")
    worst = max(w.loss for w in account.windows if w.horizon == 20)

    assert worst == pytest.approx(total.loc["Worst 20 bars of this book", "loss"], rel=0.01)  # an option bends
    assert np.isfinite(total["loss"]).all()


def test_the_page_and_the_weekly_look_price_an_american_option_by_one_rule(plain, bars):
    context = plain(interest_rate=0.05, clock="ledger")
    terms = {"underlying": "AAPL", "strike": 140.0, "expiry": AT + timedelta(days=60), "american": True}
    context.ledger.instruments.put([Instrument("PUT", Kind.PUT, **terms)], AT - timedelta(days=1))
    trade(context.ledger, bars, "direction", {"AAPL": 800, "PUT": -300})
    weekly = stress.compute(context, bars, AT)
    body = {"scenarios": weekly.scenarios.names, "units": weekly.scenarios.units, "missing": []}
    body["about"] = stress.stress_page.about(weekly)
    arrays = {"returns": weekly.scenarios.returns, "proxied": weekly.scenarios.proxied}
    context.ledger.risk.put_state("stress", "all", AT, body, arrays)
    looking = Live(context)

    shown_now = [looking.look(AT + timedelta(seconds=n)).state.stress for n in range(2)]

    losses = weekly.total.set_index("scenario")["loss"]
    put = weekly.scenarios.returns[:, weekly.scenarios.units.index("PUT")]
    assert () == weekly.missing
    assert not weekly.table["missing"].any()
    assert put.max() > 3
    assert put.min() >= -1
    for page_now in shown_now:
        assert {name: pytest.approx(loss, rel=1e-5) for name, loss in losses.items()} == {
            name: row.loss for name, row in page_now.items()
        }
