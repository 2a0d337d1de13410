"""The pages in a real browser: what is published is what is shown, and what is old or unknown says so."""

import csv
import io
import re
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from urllib.parse import urlsplit

import pytest
from PIL import Image
from playwright.sync_api import expect, sync_playwright
from serving import now, serving, state

from benchmarks.states import World, crowd
from mlops.io.ledger import Ledger
from mlops.types import Kind
from mlops.web.messages import Drawdown, Kpi, LimitNow, Loss, PositionNow, StressOf

CONTRAST = 4.5  # WCAG 2.2, 1.4.3
WIDTHS = {390: 844, 1280: 800, 2560: 1440}
STALE_S = 1.5
WORLD = World()
KEY = "quiet/live/AAPL"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    with (
        Ledger(f"sqlite:///{folder / 'ledger.db'}") as ledger,
        serving(ledger, folder, stale_s=STALE_S) as it,
    ):
        yield it


@pytest.fixture(scope="module")
def chromium():
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium was not found; install it to test the pages")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def enter(page, service, key):
    page.goto(f"{service.url}/login")
    page.fill("#key", key)
    page.click("button[type=submit]")
    page.wait_for_url("**/risk")


@pytest.fixture(scope="module")
def session(chromium, service):
    """What a browser keeps of who has logged in."""
    context = chromium.new_context()
    enter(context.new_page(), service, service.key)
    yield context.storage_state()
    context.close()


@pytest.fixture
def opened(chromium, service, session):
    """Open a page as who has logged in; at the end nothing was complained of and nothing came from elsewhere."""
    made = []

    def open_page(width=1280, path="/risk", scheme="light", *, loud=False, key=None):
        context = chromium.new_context(
            viewport={"width": width, "height": WIDTHS.get(width, 800)}, color_scheme=scheme,
            storage_state=None if key else session,
        )  # fmt: skip
        context.set_default_timeout(10_000)
        page = context.new_page()
        said, asked = [], set()
        page.on("console", lambda message: said.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.add(urlsplit(request.url).netloc))
        if key is None:
            page.goto(service.url + path)
        else:
            enter(page, service, key)
        made.append(SimpleNamespace(context=context, said=said, asked=asked, loud=loud))
        return page

    yield open_page
    for one in made:
        one.context.close()
        assert {f"127.0.0.1:{service.port}"} == one.asked
        assert one.loud or not one.said


def shown(page, seq):
    """Wait until the page has drawn a state."""
    page.wait_for_function("seq => window.drawn >= seq", arg=seq)


def watched(page):
    page.evaluate("document.addEventListener('shown', (event) => { window.drawn = event.detail.seq; })")
    return page


def number(text):
    """What a person reads off a cell."""
    found = float(re.sub(r"[^0-9.\-]", "", text.replace("−", "-")))
    return found / 100 if "%" in text else found


def same(expected, text, digits):
    return abs(expected - number(text)) <= 0.51 * 10.0**-digits


# --- what is shown is what was published ----------------------------------------------------------------------------


def test_the_strip_and_every_position_say_what_was_published(service, opened):
    page = watched(opened())
    published = WORLD.state(now(), 0.001)
    shown(page, service.hub.publish(published))
    kpi = published.kpi
    tiles = page.locator(".tile .value").all_inner_texts()
    rows = page.evaluate(
        "[...document.querySelectorAll('#positions tbody tr')].map(r => [r.dataset.key, ...[...r.children].map(c => c.innerText)])"
    )

    assert same(kpi.equity, tiles[0], 0)
    assert same(kpi.pnl_today_money, tiles[1].replace("▼", ""), 0)
    assert [True] * 4 == [
        same(value, text, digits)
        for value, text, digits in zip(
            (kpi.var.value, kpi.es.value, kpi.gross.value, kpi.drawdown.now), tiles[2:6], (4, 4, 2, 4), strict=True
        )
    ]
    assert "REDUCING" in tiles[6]
    assert published.positions.keys() == {row[0] for row in rows}
    for key, unit, strategy, share, var, value, weight, today, pnl, price, _, _, es, *_ in rows:
        position = published.positions[key]
        noted = [position.unit, *([position.note] if position.note else [])]
        assert (noted, position.strategy) == (unit.split("\n"), strategy), "a note stands under its row"
        assert same(position.share_of_var, share, 4)
        assert same(position.component_var, var, 4)
        assert same(position.component_es, es, 4)
        assert same(position.value, value, 0)
        assert same(position.weight, weight, 4)
        assert same(position.pnl, pnl, 0 if abs(position.pnl) >= 100 else 2)
        assert same(position.pnl_today, today, 0 if abs(position.pnl_today) >= 100 else 2)
        assert same(position.price, price, 2)


def test_three_questions_are_answered_in_words(service, opened):
    page = watched(opened())
    published = WORLD.state(now())
    shown(page, service.hub.publish(published))
    what, where, normal = page.locator("#answer dd").all_inner_texts()

    var = published.kpi.var
    assert what.startswith(f"${var.money:,.0f} ({var.value:.2%} of equity) by tomorrow's close, worse one day in 100; ")
    shared = ", all strategies together" if len({row.unit for row in published.positions.values()}) < 60 else ""
    ranks = f"{ranked(published, 'sector')}; {ranked(published, 'underlying')}"
    assert where == f"{ranks} of the VaR of 60 positions{shared}."
    assert normal == f"{published.kpi.normal.sentence} ▲ over its soft limit"


def ranked(state, name):
    """The three names with most of the VaR, as the page says them."""
    rows = sorted(state.exposure[name].items(), key=lambda one: -one[1].component_var)[:3]
    share = [f"{100 * row.component_var / state.kpi.var.value:.0f} %" for _, row in rows]
    return ", ".join(
        f"{part} {key}" if name == "sector" else f"{key} {part}" for (key, _), part in zip(rows, share, strict=True)
    )


def test_the_tables_beside_say_what_was_published(service, opened):
    page = watched(opened())
    published = WORLD.state(now())
    shown(page, service.hub.publish(published))
    losses = page.locator("#stress tbody tr").evaluate_all("rows => rows.map(r => r.children[1].innerText)")
    limits = dict(
        page.locator("#limits li").evaluate_all("rows => rows.map(r => [r.dataset.key, r.innerText])")
    )  # fmt: skip
    backtest = page.locator("#backtest").inner_text()
    crosses = page.locator("#var .exceeded").count()

    assert sorted(-s.loss for s in published.stress.values()) == [
        pytest.approx(number(text), abs=5.1e-4) for text in losses
    ]
    assert published.limits.keys() == limits.keys()
    assert "hard limit" in limits["stress:all"]
    assert "owner cro" in limits["stress:all"]
    assert f"{published.backtest.exceedances_250} of the last 250 days" in backtest
    assert sum(hit for *_, hit in published.history.var.values()) == crosses
    assert 2 * 190 == page.locator("#correlation .cell").count()


@pytest.mark.parametrize(("line", "sign"), [("warning", "▲"), ("soft", "▲"), ("hard", "✕"), ("unknown", "?")])
def test_a_tile_and_the_list_of_limits_say_the_same_of_a_line(service, opened, line, sign):
    page = watched(opened())
    state = WORLD.state(now())
    lines = {key: replace(row, state=line) if key == "es:all" else row for key, row in state.limits.items()}
    shown(page, service.hub.publish(replace(state, limits=lines)))
    tile = page.locator(".tile").nth(3)  # expected shortfall

    assert page.locator("#limits li[data-key='es:all']").inner_text().count(sign)
    assert tile.locator(".of").inner_text().startswith(sign)


def test_a_replay_says_that_a_crossed_line_changes_nothing_there(service, opened):
    page = watched(opened())
    shown(page, service.hub.publish(replace(WORLD.state(now()), clock="replay")))

    assert "A replay: lines that are crossed are shown" in page.locator(".tile.trading").inner_text()


def test_a_change_arrives_and_what_is_gone_goes(service, opened):
    page = watched(opened())
    first = WORLD.state(now())
    shown(page, service.hub.publish(first))
    less = {key: row for key, row in first.positions.items() if row.strategy != "quiet"}
    seq = service.hub.publish(replace(first, positions=less, kpi=replace(first.kpi, equity=1_234_567.0), alerts={}))
    shown(page, seq)

    assert "$1,234,567" == page.locator(".tile .value").first.inner_text()
    assert len(less) == page.locator("#positions tbody tr").count()
    assert "No open alert." == page.locator("#alerts .empty").inner_text()


def test_models_are_shown_with_champion_challenger_and_verdict(service, opened):
    published = WORLD.state(now())
    service.hub.publish(published)
    page = opened(path="/models")
    cards = page.locator(".models > li")
    expect(cards).to_have_count(3)
    text = page.locator('.models > li[data-key="momentum"]').inner_text()

    assert "Champion v3" in text
    assert "challenged by v4" in text
    assert f"${published.models['momentum'].equity:,.0f}" in text
    assert "hold" in text
    assert "✓ in order" in text
    assert "2022-12-28 21:00 UTC" in text


def test_a_model_says_first_what_is_worst_and_why(service, opened):
    published = WORLD.state(now())
    service.hub.publish(published)
    page = opened(path="/models")
    for name, word, first in (
        ("quiet", "✕ alert", "✕ limits Broken: its book fell 27.0% from its peak"),
        ("reversal", "? not known", "? predictions It never predicted: nothing has come since"),
    ):
        card = page.locator(f'.models > li[data-key="{name}"]')
        expect(card.locator("header")).to_contain_text(word)
        expect(card.locator(".reasons li").first).to_contain_text(first)


# --- what is old or unknown -----------------------------------------------------------------------------------------


def test_what_is_not_known_is_a_dash_and_a_reason_and_never_nought(service, opened):
    page = watched(opened())
    shown(page, service.hub.publish(state(None, missing={"var": "No VaR yet: ten days of history are too few."})))
    tiles = page.locator(".tile").all_inner_texts()
    empty = page.locator(".cards .card, aside .card").evaluate_all(
        "cards => cards.map(c => c.querySelector('.body').innerText)"
    )

    assert ["–"] * 6 == page.locator(".tile .value").all_inner_texts()[:6]
    assert "ten days of history" in tiles[2]
    assert "NOT KNOWN" in tiles[6]
    assert "ten days of history" in page.locator("#answer dd").first.inner_text()
    assert all(text.strip() for text in empty)
    assert "1 thing is not known" in page.locator("#answer summary").inner_text()


def test_an_old_price_is_marked_beside_its_age(service, opened):
    page = watched(opened())
    shown(page, service.hub.publish(WORLD.state(now())))
    row = page.locator('#positions tr[data-key="quiet/live/RRC"]')

    assert "◷" in row.locator("td.old").inner_text()
    assert "47 min" == row.locator("td.age").inner_text()


def test_a_page_without_news_says_that_it_is_stale_and_then_that_it_is_not(service, opened):
    page = opened()
    service.hub.publish(WORLD.state(now()))
    connection = page.locator("#connection")

    expect(connection).to_have_text("● Live")
    expect(connection).to_have_text("▲ Stale")
    expect(page.locator("#banner")).to_contain_text("nothing new")
    service.hub.publish(WORLD.state(now()))
    expect(connection).to_have_text("● Live")
    expect(page.locator("#banner")).to_be_hidden()


def test_a_page_comes_back_by_itself_after_the_service_restarts(service, opened):
    page = opened(loud=True)  # Chromium itself complains of a connection that is refused
    service.hub.publish(state(1.0))
    expect(page.locator(".tile .value").first).to_have_text("$1.00")
    page.evaluate("window.same = true")
    service.stop()
    expect(page.locator("#connection")).to_have_text("✕ Not connected")
    expect(page.locator("#banner")).to_contain_text("tries again")
    service.start()
    service.hub.publish(state(2.0))

    expect(page.locator(".tile .value").first).to_have_text("$2.00")
    expect(page.locator("#connection")).to_have_text("● Live")
    assert page.evaluate("window.same")  # it was not loaded anew


def test_a_replay_is_told_from_the_present(service, opened):
    page = opened()
    service.hub.publish(WORLD.state())

    expect(page.locator("#connection")).to_have_text("▶ Replay")
    expect(page.locator("#asof")).to_contain_text("2022-12-28 21:00:00 UTC")


def test_the_badge_says_what_lives_and_how_old_each_is(service, opened):
    page = watched(opened())
    published = WORLD.state(now() - timedelta(seconds=95))
    shown(page, service.hub.publish(published))
    ages = page.locator("#ages")

    expect(ages).to_contain_text(
        re.compile(r"^connection [01] s · computed 2 min · prices 0 s to 47 min, 3 of 60 old$")
    )
    expect(page.locator("#asof")).to_contain_text(re.compile(r"\d\d:\d\d:\d\d UTC"))
    old = {key: replace(row, stale=True) for key, row in published.positions.items()}
    shown(page, service.hub.publish(replace(published, positions=old)))
    expect(page.locator("#connection")).to_have_text("▲ Prices old")


def test_a_bound_a_notional_book_and_an_unconfirmed_price_are_told_as_what_they_are(service, opened):
    page = watched(opened())
    why = "2 positions without history are in it by a stand-in."
    var = Loss(bound=0.031, bound_money=31_000.0, why=why, until="by tomorrow's close", odds="worse one day in 100")
    row = replace(WORLD.state(now()).positions[KEY], price=100.0, unconfirmed=300.0, notional=True, weight=None)
    line = LimitNow("var", "all", 0.031, 0.02, 0.03, 0.05, 0.62, "soft", stands="hard", why=why)
    part = {"kpi": Kpi(equity=1e6, notional=1e6, var=var), "positions": {KEY: row}, "limits": {"var:all": line}}
    shown(page, service.hub.publish(replace(state(), **part)))
    tile = page.locator(".tile").nth(2).inner_text()
    answer = page.locator("#answer dd").first.inner_text()
    cells = page.locator("#positions tbody tr").inner_text()
    limit = page.locator("#limits li").inner_text()

    assert answer.startswith(
        "At least $31,000 (3.10% of an equity that is notional) by tomorrow's close, worse one day"
    )
    assert answer.endswith(why)
    assert "≥ 3.10%" in tile
    assert "see the answer above" in tile, "once is enough"
    assert "notional" in cells
    assert "100.00 ? 300.00" in cells
    assert "at least 3.10% of 5.00% (62%); stands at hard limit; 2 positions" in limit
    assert "notional" in page.locator(".tile").first.inner_text()


def test_before_the_first_night_the_var_is_about_and_never_at_least(service, opened):
    page = watched(opened())
    var = Loss(estimate=0.495, estimate_money=51_963.0, why="No VaR yet.", limit=0.05, odds="worse one day in 100")
    shown(page, service.hub.publish(replace(state(), kpi=Kpi(equity=1e5, var=var))))
    answer, tile = page.locator("#answer dd").first.inner_text(), page.locator(".tile").nth(2).inner_text()

    assert answer.startswith("About $51,963 (49.5% of equity) by stand-ins; no nightly model yet")
    assert "least" not in answer
    assert "≈ 49.5%" in tile
    assert "not known, limit 5.00%" in tile


def test_a_loss_has_one_sign_and_a_small_price_its_digits(service, opened):
    page = watched(opened())
    published = WORLD.state(now())
    rows = {
        "crash": StressOf("crash", 0.08, 88_984.0),
        "boom": StressOf("boom", -0.1, -106_122.0),
        "none": StressOf("none", 0.0, 0.0),
    }
    row = replace(published.positions[KEY], price=8.455e-6, unconfirmed=0.000123456)
    shown(page, service.hub.publish(replace(published, stress=rows, positions={KEY: row})))
    cells = page.locator("#stress tbody tr").evaluate_all(
        "rows => rows.map(r => [...r.children].slice(0, 3).map(c => c.innerText))"
    )
    with page.expect_download() as saved:
        page.locator("#stress .save").click()

    assert [["crash", "−8.00%", "−$88,984"], ["none", "0.00%", "$0.00"], ["boom", "10.0%", "+$106,122"]] == cells
    assert "descending" not in page.locator("#stress thead").inner_html()
    table = Path(saved.value.path()).read_text().splitlines()
    assert "Scenario,P&L,Money" == ",".join(table[0].split(",")[:3])
    assert "crash,-0.08,-88984" == ",".join(table[1].split(",")[:3])
    assert "0.000008455 ? 0.0001235" in page.locator("#positions tbody tr").inner_text()


# --- a range, a zoom, a file ------------------------------------------------------------------------------------------


def read_points(page):
    page.locator("#equity .stage").focus()
    page.keyboard.press("Home")
    return page.locator("#equity .read").inner_text()[:10]


def test_a_chart_is_cut_to_a_range_and_zoomed_by_dragging_and_set_back(service, opened):
    page = watched(opened())
    published = WORLD.state(now())
    shown(page, service.hub.publish(published))
    first = min(published.history.equity)[:10]
    assert first == read_points(page)
    page.locator("#equity button", has_text="1M").click()
    assert "2022-11-27" <= read_points(page) <= "2022-11-29"
    page.locator("#equity button", has_text="All").click()
    assert first == read_points(page)
    box = page.locator("#equity .stage").bounding_box()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 50)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 50)
    page.mouse.up()
    assert first < read_points(page)
    shown(page, service.hub.publish(WORLD.state(now(), 0.002)))
    assert first < read_points(page), "the next second does not undo it"
    page.locator("#equity .stage").dblclick()
    assert first == read_points(page)


def saved(page, card, word):
    with page.expect_download() as found:
        page.locator(f"#{card} button", has_text=word).click()
    return found.value.suggested_filename, Path(found.value.path()).read_bytes()


def test_what_is_shown_can_be_saved_as_rows_and_as_a_picture(service, opened):
    page = watched(opened())
    published = WORLD.state(now())
    rows = {"s/b/x": PositionNow("=1+1", "s,t", "b", Kind.SPOT, 2.0, share_of_var=1.0), KEY: published.positions[KEY]}
    shown(page, service.hub.publish(replace(published, positions=rows)))

    name, text = saved(page, "positions", "CSV")
    table = list(csv.DictReader(text.decode().splitlines()))
    assert ("positions.csv", ["'=1+1", "AAPL"]) == (name, [row["Unit"] for row in table])
    assert ("s,t", rows[KEY].value) == (table[0]["Strategy"], float(table[1]["Value"]))
    points = list(csv.reader(saved(page, "equity", "CSV")[1].decode().splitlines()))
    assert ["time (UTC)", "equity", "drawdown"] == points[0]
    assert len(published.history.equity) == len(points) - 1
    for card in ("equity", "correlation"):
        name, picture = saved(page, card, "PNG")
        with Image.open(io.BytesIO(picture)) as image:
            assert name == f"{card}.png"
            assert min(image.size) > 300
            assert len(image.convert("RGB").getcolors(1 << 20)) > 5


def test_positions_are_above_the_fold_of_a_desk_and_nothing_is_scrolled_away_on_a_wall(service, opened):
    for width, rows, height in ((1280, 8, 800), (2560, 19, 1440)):
        service.hub.publish(WORLD.state(now()))
        page = opened(width)
        page.locator("#positions tbody tr").first.wait_for()
        bottoms = page.locator("#positions tbody tr").evaluate_all("r => r.map(e => e.getBoundingClientRect().bottom)")
        assert rows <= sum(bottom <= height for bottom in bottoms)
        hidden = page.locator("#positions .scroll").evaluate("e => e.scrollWidth - e.clientWidth")
        assert hidden <= (0 if width == 2560 else 400)


def test_the_page_is_light(service, opened):
    sizes = []
    page = opened()
    page.on("response", lambda response: sizes.append(len(response.body())))
    page.reload()
    page.locator("#connection").wait_for()
    page.wait_for_load_state("networkidle")
    assert sum(sizes) <= 150_000
    paint = "performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? 0"
    assert page.evaluate(paint) > 0


# --- how it is used -------------------------------------------------------------------------------------------------


def test_five_hundred_positions_are_sorted_and_filtered(service, opened):
    page = watched(opened())
    shown(page, service.hub.publish(crowd(500)))
    head = page.locator("#positions thead button", has_text=re.compile("^Value"))
    values = "[...document.querySelectorAll('#positions tbody tr')].map(r => r.children[5].innerText)"
    head.click()
    down = [number(text) for text in page.evaluate(values)]
    head.click()
    up = [number(text) for text in page.evaluate(values)]
    page.fill("#positions input", "model3")

    assert (500, sorted(down, reverse=True), sorted(up)) == (len(down), down, up)
    assert 50 == page.locator("#positions tbody tr:visible").count()
    assert "50 of 500 rows" == page.locator("#positions .count").inner_text()


def test_an_alert_leads_to_its_position_by_keyboard_even_where_a_filter_hides_it(service, opened):
    page = watched(opened())
    shown(page, service.hub.publish(WORLD.state(now())))
    page.fill("#positions input", "JPM")
    page.locator('#alerts li[data-key="price:RRC"] a').focus()
    page.keyboard.press("Enter")
    row = page.locator('#positions tr[data-key="momentum/live/RRC"]')

    expect(row).to_be_focused()
    expect(row).to_be_in_viewport()
    assert "hit" in row.get_attribute("class")


def test_an_alert_on_another_page_leads_there_too(service, opened):
    service.hub.publish(WORLD.state(now()))
    page = opened(path="/models")
    page.locator('#alerts li[data-key="price:RRC"] a').click()

    expect(page.locator('#positions tr[data-key="momentum/live/RRC"]')).to_be_focused()


def test_everything_is_reached_by_keyboard(service, opened):
    page = watched(opened())
    shown(page, service.hub.publish(WORLD.state(now())))
    reached, seen = set(), page.evaluate(
        "[...document.querySelectorAll('a, button, input, summary, [tabindex=\"0\"]')].filter(e => e.offsetParent || e.ownerSVGElement || e.tagName === 'svg').map((e, i) => { e.dataset.nth = i; return String(i); })"
    )  # fmt: skip
    for _ in range(len(seen) + 5):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.dataset.nth"))
    page.locator("#var .stage").focus()
    page.keyboard.press("Home")
    first = page.locator("#var .read").inner_text()
    page.keyboard.press("ArrowRight")

    assert set(seen) <= reached
    assert first != page.locator("#var .read").inner_text()


def test_a_name_is_text_whatever_it_says(service, opened):
    page = watched(opened())
    name = "<img src=x onerror=alert(1)>"
    row = PositionNow(name, "s", "b", Kind.SPOT, 1.0, share_of_var=1.0)
    shown(page, service.hub.publish(state(positions={"s/b/x": row}, missing={"a": name})))

    assert name == page.locator("#positions tbody th").inner_text()
    assert 0 == page.locator("main img").count()


def test_the_theme_follows_the_system_and_what_is_chosen_stays(service, opened):
    service.hub.publish(state())
    page = opened(scheme="dark")
    back = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(back)
    page.click("#theme")
    light = page.evaluate(back)
    page.reload()

    assert dark != light == page.evaluate(back)
    assert "Theme: light" == page.locator("#theme").inner_text()


FAINT = """limit => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgb = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const light = (c) => c.slice(0, 3).map(v => v / 255).map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((s, v, i) => s + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => { for (; node; node = node.parentElement) { const c = rgb(getComputedStyle(node).backgroundColor); if (c[3] === 255) return c; } return [255, 255, 255, 255]; };
  return [...document.querySelectorAll('body *')].filter(e => e.offsetParent && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
    .map(e => { const [a, b] = [light(rgb(getComputedStyle(e).color)), light(behind(e))]; return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.className, e.innerText.slice(0, 30)]; })
    .filter(([ratio]) => ratio < limit);
}"""
CUT = """() => [...document.querySelectorAll('.tile *, #answer *, #alerts *, #limits *, #backtest *, #bar *, h2, figcaption, .legend, .read')]
  .filter(e => e.offsetParent && !e.closest('.hidden, .track') && e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).display !== 'inline')
  .map(e => [e.className, e.innerText.slice(0, 40), e.scrollWidth, e.clientWidth])"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_cut_off_or_faint_from_a_phone_to_a_wall(service, opened, width, scheme, tmp_path):
    service.hub.publish(WORLD.state(now()))
    page = opened(width, scheme=scheme)
    expect(page.locator("#positions tbody tr").first).to_be_visible()
    page.screenshot(path=tmp_path / "page.png", full_page=True)

    assert width == page.evaluate("document.documentElement.scrollWidth")
    assert [] == page.evaluate(CUT)
    assert [] == page.evaluate(FAINT, CONTRAST)
    assert (tmp_path / "page.png").stat().st_size > 50_000


def test_a_viewer_whose_session_ends_is_sent_to_log_in(service, opened, monkeypatch):
    monkeypatch.setattr("mlops.web.feed.VOUCH_S", 0.0)
    monkeypatch.setattr("mlops.web.access.REMEMBERED_S", -1.0)
    guest = service.ledger.api_keys.add("guest", ["risk:read"], datetime(2026, 1, 1, tzinfo=UTC))
    service.hub.publish(state(1.0))
    page = opened(key=guest)
    expect(page.locator("#connection")).to_have_text("● Live")
    service.ledger.api_keys.revoke(guest.partition(".")[0], now() - timedelta(seconds=1))
    service.hub.publish(state(2.0))
    service.hub.publish(state(3.0))
    page.wait_for_url("**/login")


def test_profit_that_is_not_of_today_says_since_when(service, opened):
    page = watched(opened())
    kpi = Kpi(pnl_today_money=4_500.0, pnl_today=0.0045, pnl_since=datetime(2026, 11, 24, 21, tzinfo=UTC))
    shown(page, service.hub.publish(replace(state(), kpi=kpi)))
    head, value = page.locator(".tile").nth(1).locator("h2, .value").all_inner_texts()

    assert ("P&L since 24 Nov", "▲ +$4,500") == (head, value)


def test_figures_of_an_equity_that_is_not_whole_do_not_stand_bare(service, opened):
    page = watched(opened())
    kpi = Kpi(equity=2e5, pnl_today_money=0.0, pnl_today=0.0, drawdown=Drawdown(now=0.0, limit=0.2, utilisation=0.0))
    shown(page, service.hub.publish(replace(state(missing={"equity": "It is without J."}), kpi=kpi)))
    tiles = page.locator(".tile").all_inner_texts()

    assert ["–", "–", "≥ 0.00%"] == [page.locator(".tile .value").nth(i).inner_text() for i in (0, 1, 5)]
    assert "$200,000 of what is known. It is without J." in tiles[0]
    assert "It is without J." in tiles[1]
    assert "It is without J." in tiles[5]
