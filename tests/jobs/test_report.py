"""The report of a comparison, from a real ledger and real bundles to a page in a real browser."""

import re
import shutil
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from mlflow.artifacts import load_dict
from playwright.sync_api import sync_playwright

from jobs import books, report, train
from jobs.context import opened
from mlops.errors import DataError
from mlops.experiment.metrics import METRICS
from mlops.io import bar_feed, record
from mlops.learn import STRATEGIES
from mlops.plots import page
from mlops.settings import Settings, TrainSettings
from mlops.types import ModelRef
from registry_hooks import apply

AT, NOW = datetime(2006, 1, 1, tzinfo=UTC), datetime(2007, 1, 1, tzinfo=UTC)
BARS, UNITS = 60, ("AAPL", "GE", "<b>&")  # a unit's name is not ours


@pytest.fixture(scope="module")
def context(tmp_path_factory):
    """Two versions of `volatility`, compared on 60 bars on which the second knows more; a third came halfway."""
    state = tmp_path_factory.mktemp("report") / "live"
    settings = Settings(
        state=state, tracking_uri=f"sqlite:///{state}/mlflow.db", train=TrainSettings(trials=1, folds=2, min_bars=50)
    )
    bars = bar_feed.load_bars("sp500", start=datetime(2004, 1, 1, tzinfo=UTC), end=AT).frame
    bars = bars[bars.symbol.isin(["AAPL", "GE"])]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("artifacts"))  # where MLflow without a server keeps them
        with opened(settings) as open_house:
            refs = [train.train(open_house, STRATEGIES["volatility"], bars, as_of=AT, start=None) for _ in range(2)]
            act = open_house.act("test", AT)
            first, second = (ModelRef(ref.name, ref.version) for ref in refs)
            apply.promote(open_house.registry, first, "first", act, expected=None)
            apply.nominate(open_house.registry, second, act)
            _predict(open_house.ledger)
            books.at(open_house, STRATEGIES["volatility"], _market(), NOW)
            yield open_house


def _market():
    """Closes on the days of the predictions."""
    days = pd.date_range(AT + timedelta(days=1), periods=BARS, tz="UTC")
    walk = 50 * np.exp(np.random.default_rng(1).normal(0, 0.01, (BARS, len(UNITS))).cumsum(axis=0))
    at = days.repeat(len(UNITS))
    return pd.DataFrame({"event_time": at, "known_at": at, "symbol": list(UNITS) * BARS, "close": walk.ravel()})


def _predict(ledger):
    rng = np.random.default_rng(0)
    days = pd.date_range(AT + timedelta(days=1), periods=BARS, tz="UTC").repeat(len(UNITS))
    label = (rng.random(days.size) < 0.5).astype(float)
    keys = {"model": "volatility", "unit": list(UNITS) * BARS, "event_time": days}
    outcomes = pd.DataFrame(
        {**keys, "known_at": days + pd.Timedelta(days=5), "label": label, "value": label / 100 - 0.005}
    )
    for version, edge, since in ((1, 0.1, 0), (2, 0.5, 0), (3, 0.2, BARS // 2)):
        p = np.clip(0.5 + edge * (label - 0.5) + rng.normal(0, 0.1, label.size), 0.02, 0.98)
        made = {
            "version": version,
            "known_at": days,
            "matures_at": days + pd.Timedelta(days=5),
            "role": "x",
            "probability": p,
        }
        frame = pd.DataFrame({**keys, **made}).iloc[since * len(UNITS) :]
        ledger.telemetry.add_predictions(frame, np.zeros((len(frame), 1), dtype=np.float32), ("f",))
    ledger.telemetry.add_outcomes(outcomes)
    asked = {"model": "volatility", "event_time": days[:: len(UNITS)], "batch": "b", "failed": 0, "rows": len(UNITS)}
    ledger.scorings.add(pd.concat([pd.DataFrame({**asked, "version": v, "seconds": v / 1000}) for v in (1, 2)]))


@pytest.fixture(scope="module")
def written(context):
    return report.at(context, "volatility", NOW)


class _Outline(HTMLParser):
    """What a page is made of: tags that are open, ids, addresses, tables."""

    VOID = ("meta", "br", "path", "use", "rect")

    def __init__(self, html):
        super().__init__()
        self.open, self.ids, self.addresses, self.headers, self.tables = [], [], [], [], 0
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        if tag not in self.VOID:
            self.open.append(tag)
        self.ids += [given["id"]] if "id" in given else []
        self.addresses += [v for k, v in attrs if k in ("href", "src", "xlink:href")]
        self.headers += [given.get("scope")] if tag == "th" else []
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
    assert len(written.html.encode()) < 2_000_000


def test_every_table_has_a_caption_and_headers_that_say_of_what(written):
    outline = _Outline(written.html)

    assert outline.tables == written.html.count("<caption>") > 10
    assert {"col", "row", "rowgroup"} == set(outline.headers)


def test_names_from_outside_are_text(written):
    assert "&lt;b&gt;&amp;" in written.html
    assert "<b>&<" not in written.html


def test_the_page_says_what_the_account_says(written):
    told, html = written.account, written.html
    mine = told.table.values[2]

    assert told.answer.sentence in html
    assert f">{told.answer.label}</span>" in html
    for name, estimate in mine.items():
        assert page.measure(estimate.value, METRICS[name].unit) in html, name
    for shown in told.tests:
        assert shown.here in html
    assert "2.0" == page.measure(mine["latency"].value, "milliseconds")
    assert "v3 (90 of these predictions): in no table here" in html


def test_the_run_has_the_page_and_the_same_numbers(context, written):
    run = context.client.get_run(written.run_id)
    artifacts = {a.path for a in context.client.list_artifacts(written.run_id)}

    known = load_dict(f"{run.info.artifact_uri}/report.json")["numbers"]
    assert 4 <= len(run.data.metrics) <= record.PLOTTED
    assert run.info.run_name.startswith("report v1 → v2: ")
    assert {"report.html", "report.json"} <= artifacts
    assert ("report", "1", str(written.account.comparison.id)) == tuple(
        run.data.tags[t] for t in ("job", "version", "trial")
    )
    for version, values in written.account.table.values.items():
        for name, estimate in values.items():
            assert estimate.value == pytest.approx(known[f"arm.v{version}.{name}"])
    for shown in (s for s in written.account.tests if s.test.known):
        assert shown.test.p_value == known[f"p.{shown.metric}.{shown.method}.v{shown.challenger}"]


def test_it_changes_nothing(context, written):
    ledger = context.ledger

    assert (1, 1) == (ledger.registry.champion("volatility"), len(ledger.registry.promotions("volatility")))
    assert [None] == [e.verdict for e in ledger.registry.comparisons("volatility")]


def test_nothing_is_seen_that_was_not_known_then(context):
    early = report.at(context, "volatility", AT + timedelta(days=20))

    assert 15 == early.account.bars
    assert "UNKNOWN" == early.account.answer.label
    assert "the first look is at bar 40: 25 more are needed" in early.html


def test_before_the_first_outcome_there_is_a_page_too(context):
    first = report.at(context, "volatility", AT + timedelta(days=2))

    assert 0 == first.account.bars
    assert "No bar has matured on which both predicted." in first.html
    assert [] == _Outline(first.html).open


def test_a_comparison_that_is_not_there_is_named(context):
    with pytest.raises(DataError, match=r"must be one of its comparisons \(1\), got 99"):
        report.at(context, "volatility", NOW, 99)
    with pytest.raises(DataError, match="report of direction must have a comparison to be about"):
        report.at(context, "direction", NOW)


@pytest.fixture(scope="module")
def browser():
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("chromium was not found; install it to see the page as a reader does")
    with sync_playwright() as play:
        started = play.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened_page(browser, written, tmp_path):
    """Without JavaScript and without a network, as from a mail; collects what the browser complains about."""
    (tmp_path / "report.html").write_text(written.html, encoding="utf-8")
    context = browser.new_context(java_script_enabled=False, offline=True, viewport={"width": 1200, "height": 900})
    sheet, complaints = context.new_page(), []
    sheet.on("console", lambda message: complaints.append(message.text))
    sheet.on("request", lambda request: complaints.append(request.url) if "report.html" not in request.url else None)
    sheet.goto((tmp_path / "report.html").as_uri())
    yield sheet, complaints
    context.close()


def test_a_reader_finds_the_answer_first_and_every_picture_has_words(opened_page, written):
    sheet, complaints = opened_page

    assert written.account.answer.sentence == sheet.get_by_role("heading", level=1).inner_text()
    assert 3 == sheet.get_by_role("img").count()
    for name in ("Evidence over time", "Equity", "Calibration"):
        box = sheet.get_by_role("img", name=re.compile(f"^{name}")).bounding_box()
        assert box["width"] > 300
        assert box["height"] > 200
    assert sheet.get_by_role("row", name=re.compile("Welch t")).first.is_visible()
    assert [] == complaints


@pytest.mark.parametrize("width", [1200, 400])
def test_the_page_never_scrolls_sideways(opened_page, width):
    sheet, _ = opened_page
    sheet.set_viewport_size({"width": width, "height": 900})
    for place in ("section", "header", "footer"):
        for one in sheet.locator(place).all():
            box = one.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= width


def test_it_prints_all_of_its_tests(opened_page, written):
    sheet, _ = opened_page
    folded = sheet.locator("details:not([open])").first
    assert not folded.locator("table").first.is_visible()

    sheet.emulate_media(media="print")

    assert sheet.pdf(format="A4").startswith(b"%PDF")
    assert folded.locator("table").first.is_visible()
