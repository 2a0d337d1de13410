"""A bot or a feed that is silent is told of, once, and closed when it speaks; a model says why it stands as it does."""

import threading
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from jobs import books, serve
from jobs.context import Context
from jobs.doctor import Setup, work
from jobs.live import freshness, model_status
from jobs.live.freshness import Freshness
from jobs.live.model_status import Standing
from mlops.io.ledger import BookKey, Ledger
from mlops.learn import STRATEGIES
from mlops.settings import BotSettings, LimitSettings, RiskSettings, Settings
from mlops.types import Alert, Decision, Finding, Level, ModelRef, Priority, Report, Verdict
from mlops.web.messages import ModelNow
from mlops.web.watch import Watch
from registry_hooks.aliases import Registry

T0, DAY = datetime(2026, 1, 5, 21, tzinfo=UTC), timedelta(days=1)  # a Monday
MODEL = "direction"


@pytest.fixture
def context(sqlite_ledger):
    return SimpleNamespace(ledger=sqlite_ledger, settings=Settings(), run_id=None, client=None)


def promoted(context, at=T0, to=1, expected=None, model=MODEL):
    log = {"kind": "promote", "actor": "ann", "evidence_run": "", "correlation_id": ""}
    context.ledger.registry.append_promotion(model, expected=expected, to=to, reason="tested", at=at, **log)


def weekdays(n, start=T0):
    return [day for i in range(2 * n) if (day := start + i * DAY).weekday() < 5][:n]


def predicted(context, days, version=1, model=MODEL, role="champion"):
    rows = [
        {"model": model, "version": version, "unit": "A", "event_time": day, "known_at": day, "matures_at": day + DAY,
         "role": role, "probability": 0.6}
        for day in days
    ]  # fmt: skip
    context.ledger.telemetry.add_predictions(pd.DataFrame(rows), np.zeros((len(rows), 1), dtype=np.float32), ["x"])


def look(context, at, seen=None):
    seen = seen or Freshness(context)
    freshness.act(context, seen.models(at), seen.feeds(at), at)
    return [alert.key for alert in context.ledger.alerts.newest()]


def judged(context, at):
    return Standing(context, at, Freshness(context)).judged(MODEL, ModelNow())


# --- alerts ---------------------------------------------------------------------------------------------------------


def test_a_daily_bot_is_silent_on_the_second_session_that_it_misses_and_on_no_weekend(context):
    promoted(context)
    days = weekdays(30)
    predicted(context, days)
    seen, friday = Freshness(context), days[-1]
    assert 4 == friday.weekday()

    for hours in range(0, 76, 4):
        assert [] == look(context, friday + timedelta(hours=hours), seen)
    tuesday = friday + 4 * DAY + timedelta(minutes=6)

    assert [f"bot_silent:direction:{friday:%Y%m%dT%H%M%S}"] == look(context, tuesday, seen)
    assert "2 bars are missing" in context.ledger.alerts.newest()[0].title
    assert 1 == len(look(context, tuesday + DAY, seen)), "it is told once"
    predicted(context, [friday + 5 * DAY])
    assert [] == look(context, friday + 5 * DAY + timedelta(minutes=1), seen)
    assert 2 == len(
        {*look(context, friday + 9 * DAY, seen), *(a.key for a in context.ledger.alerts.newest(open_only=False))}
    )


def test_a_dead_bot_is_not_kept_alive_by_rows_of_other_versions(context):
    days = weekdays(30)
    promoted(context, days[0])
    predicted(context, days)
    dead = days[-1] + 4 * DAY + timedelta(minutes=6)
    alerts = look(context, dead)
    assert 1 == len(alerts)

    predicted(context, [dead - timedelta(minutes=1)], version=77)  # never a champion
    predicted(context, [dead - timedelta(minutes=1)], version=78, role="shadow")

    assert alerts == look(context, dead), "also by a new look at all"
    assert days[-1] == Freshness(context).model(MODEL, dead).prediction


def test_a_bot_that_never_spoke_is_silent_from_its_promotion_on(context):
    promoted(context)

    assert [] == look(context, T0 + 3 * DAY)
    assert [f"bot_silent:direction:{T0:%Y%m%dT%H%M%S}"] == look(context, T0 + 4 * DAY)


def test_nobody_waits_for_a_model_without_a_champion(context):
    predicted(context, weekdays(30))
    assert [] == look(context, T0 + 100 * DAY)


def test_the_setting_says_how_long_a_bot_without_a_clock_may_be_silent(context):
    context.settings = Settings(bot=BotSettings(silent_s=600))
    promoted(context)
    assert 1 == len(look(context, T0 + timedelta(minutes=10)))


def test_quotes_that_stop_are_a_stale_feed_but_not_at_night(context):
    times = [day + timedelta(minutes=m) for day in weekdays(15, T0.replace(hour=14)) for m in range(0, 400, 1)]
    frame = pd.DataFrame({"unit": "A", "event_time": times, "known_at": times, "bid": 1.0, "ask": 1.1})
    context.ledger.quotes.add(frame.assign(bid_size=0.0, ask_size=0.0)[:-200])
    last = times[-201]
    seen = Freshness(context)

    assert [] == look(context, times[-201] + timedelta(minutes=5), seen)
    assert [f"feed_stale:quotes:{last:%Y%m%dT%H%M%S}"] == look(context, last + timedelta(minutes=8), seen)
    context.ledger.quotes.add(frame.assign(bid_size=0.0, ask_size=0.0)[-200:])
    for hours in (0.1, 5, 12):
        assert [] == look(context, times[-1] + timedelta(hours=hours), seen)


def grown(context, days, start=100.0, step=0.0):
    bars = pd.DataFrame({"event_time": pd.DatetimeIndex(days), "known_at": pd.DatetimeIndex(days), "symbol": "A"})
    closes = [start + step * i for i in range(len(days))]
    fill = {"fill_id": "f", "model": MODEL, "version": 1, "book": "live", "unit": "A", "event_time": days[0]}
    context.ledger.telemetry.add_fills(pd.DataFrame([fill | {"quantity": 1.0, "price": 100.0, "fee": 0.0}]))
    books.advance(context, STRATEGIES[MODEL], bars.assign(close=closes), days[-1])


def test_bars_that_stop_are_a_stale_feed(context):
    days = weekdays(30)
    promoted(context)
    predicted(context, [*days, *weekdays(8, days[-1] + DAY)])
    grown(context, days)

    assert [] == look(context, days[-1] + 3 * DAY)
    assert [f"feed_stale:bars:{days[-1]:%Y%m%dT%H%M%S}"] == look(context, days[-1] + 6 * DAY)


def estimated(context, days, at):
    """What the risk job of a night leaves of its bars."""
    ends = np.array([day.replace(tzinfo=None) for day in days], dtype="datetime64[us]").astype(np.int64)
    context.ledger.risk.put_state("var", "all", at, {}, {"bars": ends})


def test_bars_of_the_var_that_stop_are_told_whatever_the_night_of_the_job(context):
    days = weekdays(300)
    estimated(context, days, days[-1] + timedelta(hours=2))
    assert [] == look(context, days[-1] + 3 * DAY)

    night = days[-1] + 1461 * DAY
    estimated(context, days, night)
    assert [f"feed_stale:var_bars:{days[-1]:%Y%m%dT%H%M%S}"] == look(context, night + timedelta(hours=1))
    (alert,) = context.ledger.alerts.newest()
    assert alert.title.startswith("No bars that the VaR is estimated from come: the last came at ")

    more = weekdays(6, night - 7 * DAY)
    estimated(context, [*days, *more], more[-1] + timedelta(hours=2))
    assert [] == look(context, night + 2 * DAY)


def refitted(context, days, closes=100.0):
    """A new version each day, whose book has that day's bar only."""
    for version, day in enumerate(days, start=1):
        predicted(context, [day], version=version)
        bar = {"event_time": [day], "known_at": [day], "symbol": ["A"], "close": [closes]}
        books.advance(context, STRATEGIES[MODEL], pd.DataFrame(bar), day)


def test_bars_that_stop_are_a_stale_feed_where_a_model_is_refitted_every_night(context):
    days = weekdays(30)
    promoted(context)
    refitted(context, days)
    assert 1 == len(context.ledger.books.states(BookKey(MODEL, "virtual", 30), start=None)), "no book has a clock"
    late = weekdays(8, days[-1] + DAY)
    for version, day in enumerate(late, start=31):
        predicted(context, [day], version=version)

    assert [] == [key for key in look(context, days[-1] + 3 * DAY) if key.startswith("feed")]
    assert f"feed_stale:bars:{days[-1]:%Y%m%dT%H%M%S}" in look(context, days[-1] + 6 * DAY)
    reason = judged(context, days[-1] + 6 * DAY).reasons["bars"]
    assert Level.WARN == reason.level
    assert "No new bars" in reason.text


def test_bars_of_another_model_stand_for_none_of_ones_own(context):
    days, other = weekdays(30), "volatility"
    for model in (MODEL, other):
        promoted(context, model=model)
    grown(context, days)
    more = weekdays(40)
    fill = {"fill_id": "g", "model": other, "version": 1, "book": "live", "unit": "A", "event_time": days[0]}
    context.ledger.telemetry.add_fills(pd.DataFrame([fill | {"quantity": 1.0, "price": 100.0, "fee": 0.0}]))
    bars = pd.DataFrame({"event_time": pd.DatetimeIndex(more), "known_at": pd.DatetimeIndex(more), "symbol": "A"})
    books.advance(context, STRATEGIES[other], bars.assign(close=100.0), more[-1])

    assert f"feed_stale:bars:{days[-1]:%Y%m%dT%H%M%S}" in look(context, more[-1] + timedelta(hours=1))
    (alert,) = (one for one in context.ledger.alerts.newest() if one.key.startswith("feed_stale"))
    assert "(direction; others have bars)" in alert.title
    assert Level.WARN == judged(context, more[-1] + timedelta(hours=1)).reasons["bars"].level


def test_the_service_tells_of_silence_while_mlflow_is_away_and_never_in_a_replay(sqlite_ledger, monkeypatch):
    monkeypatch.setattr(serve, "_now", lambda: T0 + 10 * DAY)

    def run(clock):
        settings = Settings(limits=LimitSettings(every_s=0.01), risk=RiskSettings(clock=clock))
        context, stop = SimpleNamespace(ledger=sqlite_ledger, settings=settings), threading.Event()
        watch = Watch()
        watch.expect("freshness", 30.0)
        loop = threading.Thread(target=serve._freshness, args=(context, stop, watch), daemon=True)
        loop.start()
        stop.wait(0.5)
        stop.set()
        loop.join(timeout=60)
        return [alert.key for alert in sqlite_ledger.alerts.newest()]

    promoted(SimpleNamespace(ledger=sqlite_ledger))
    assert [] == run("ledger")
    assert [f"bot_silent:direction:{T0:%Y%m%dT%H%M%S}"] == run("now")


def test_a_model_that_cannot_be_looked_at_keeps_its_alert_and_stops_no_other(context, monkeypatch):
    promoted(context)
    promoted(context, model="other")
    at, seen, real = T0 + 10 * DAY, Freshness(context), Freshness.model
    assert 2 == len(look(context, at, seen))

    def broken(self, model, as_of):
        if model == MODEL:
            raise ValueError("one bad row")
        return real(self, model, as_of)

    monkeypatch.setattr(Freshness, "model", broken)
    predicted(context, [at], model="other")
    assert [f"bot_silent:direction:{T0:%Y%m%dT%H%M%S}"] == look(context, at, seen)
    assert (Level.UNKNOWN, "ValueError") == (seen.models(at)[MODEL].silence.level, seen.models(at)[MODEL].failure)


def test_a_look_that_fails_never_says_that_it_is_well(sqlite_ledger, monkeypatch):
    """A slow look that fails each time opened and closed a critical alert every few seconds."""
    settings = Settings(limits=LimitSettings(every_s=0.01))
    context, stop, words = SimpleNamespace(ledger=sqlite_ledger, settings=settings), threading.Event(), []

    class Heard(Watch):
        def well(self, name):
            words.append("well")

        def failed(self, name, why):
            words.append(why)
            if len(words) >= 5:
                stop.set()

    def bad(*_):
        raise ValueError("one bad row")

    for name in ("models", "model"):
        words.clear()
        stop.clear()
        with monkeypatch.context() as patched:
            patched.setattr(Freshness, name, bad)
            promoted(
                context,
                at=T0,
                to=len(sqlite_ledger.registry.promotions(MODEL)) + 1,
                expected=sqlite_ledger.registry.champion(MODEL),
            )
            serve._freshness(context, stop, Heard())
        assert {"ValueError"} == set(words)


# --- how a model stands ---------------------------------------------------------------------------------------------


def test_a_model_that_never_predicted_is_not_in_order(context):
    promoted(context)
    model = judged(context, T0 + DAY)

    assert Level.UNKNOWN is model.level
    assert Level.UNKNOWN is model.reasons["predictions"].level
    assert "It never predicted" in model.reasons["predictions"].text
    assert {Level.UNKNOWN, Level.OK} == {reason.level for reason in model.reasons.values()}
    assert Level.ALERT is judged(context, T0 + 5 * DAY).level


def test_a_model_is_as_bad_as_its_worst_alert(context):
    promoted(context)
    for key, priority, level in (
        ("a", Priority.LOW, Level.OK), ("b", Priority.MEDIUM, Level.WARN), ("c", Priority.CRITICAL, Level.ALERT)
    ):  # fmt: skip
        context.ledger.alerts.add(Alert(f"rollback:{key}", priority, MODEL, f"title {key}", T0))
        assert level is judged(context, T0 + DAY).reasons["alerts"].level
    assert "Critical: title c. And 2 more." == judged(context, T0 + DAY).reasons["alerts"].text
    assert Level.ALERT is judged(context, T0 + DAY).level
    context.ledger.alerts.add(Alert("rollback:d", Priority.CRITICAL, "other", "of another", T0))
    assert "And 2 more." in judged(context, T0 + DAY).reasons["alerts"].text


def test_a_line_on_its_own_books_is_an_alert_of_the_model(context):
    promoted(context)
    context.ledger.alerts.add(Alert("risk_limit:var:direction:hard:1", Priority.CRITICAL, "", "VaR", T0))
    context.ledger.alerts.add(Alert("risk_limit:var:all:hard:1", Priority.CRITICAL, "", "of all", T0))
    assert "Critical: VaR." == judged(context, T0 + DAY).reasons["alerts"].text


def kept(context, level, at, version=1):
    finding = Finding("layer_verdict", 0.0, 0.0, level, 100, note="nothing has changed")
    report = Report(ModelRef(MODEL, version), at, (finding,))
    model_status.keep(context, report, Decision(Verdict.HOLD, report.model, reason="as it is"))


def test_evidence_is_of_the_champion_and_gets_old(context):
    promoted(context)
    assert Level.UNKNOWN is judged(context, T0).reasons["evidence"].level
    for level in (Level.OK, Level.ALERT, Level.UNKNOWN):
        at = T0 + DAY * (1 + list(Level).index(level))
        kept(context, level, at)
        assert level is judged(context, at).reasons["evidence"].level
    kept(context, Level.OK, T0 + 8 * DAY)
    assert Level.OK is judged(context, T0 + 9 * DAY).reasons["evidence"].level
    assert Level.UNKNOWN is judged(context, T0 + 24 * DAY).reasons["evidence"].level
    promoted(context, T0 + 9 * DAY, to=2, expected=1)
    assert Level.UNKNOWN is judged(context, T0 + 9.5 * DAY).reasons["evidence"].level


def test_a_model_of_which_all_is_known_is_in_order(context):
    days = weekdays(30)
    promoted(context, days[0])
    predicted(context, days)
    grown(context, days)
    end = days[-1]
    context.ledger.telemetry.add_outcomes(
        pd.DataFrame(
            [{"model": MODEL, "unit": "A", "event_time": days[-2], "known_at": end, "label": 1.0, "value": 0.0}]
        )
    )
    virtual(context, days)
    kept(context, Level.OK, end)
    model = judged(context, end + timedelta(hours=1))

    assert {Level.OK} == {reason.level for reason in model.reasons.values()}, model.reasons
    assert Level.OK is model.level
    assert (end, days[-2], end) == (model.last_prediction, model.last_outcome, model.last_bar)
    assert Level.WARN is judged(context, end + 6 * DAY).reasons["bars"].level


def virtual(context, days):
    """What the nightly job keeps of the champion's own book is there already: `books.advance` made it."""
    assert any(key.version for key in context.ledger.books.ends(MODEL))


def test_a_bot_that_trades_another_version_than_the_champion_says_so(context):
    promoted(context)
    promoted(context, T0 + DAY, to=2, expected=1)
    predicted(context, [T0 + 2 * DAY], version=1)
    reason = judged(context, T0 + 2.1 * DAY).reasons["predictions"]
    assert (Level.WARN, True) == (reason.level, "trades by v1 still; v2" in reason.text)


def test_a_broken_limit_is_red_also_before_its_alert(context):
    days = weekdays(30)
    promoted(context, days[0])
    predicted(context, days)
    grown(context, days, step=-2.0)
    reason = judged(context, days[-1]).reasons["limits"]
    assert Level.ALERT is reason.level
    assert "Broken: its book fell" in reason.text


# --- the doctor -----------------------------------------------------------------------------------------------------


def test_the_doctor_says_what_came_last_and_who_is_silent(tmp_path):
    settings = Settings(state=tmp_path)
    with Ledger(settings.ledger) as ledger:
        context = SimpleNamespace(ledger=ledger, settings=settings)
        promoted(context)
        promoted(context, model="mute")
        predicted(context, weekdays(30))
    setup = Setup(settings, clock=lambda: weekdays(30)[-1] + timedelta(hours=1))
    setup.current = True
    setup.__dict__["registry"] = Registry(None, Ledger(settings.ledger), tmp_path)
    try:
        direction, mute, price = work.bots(setup)
        setup.clock = lambda: T0 + DAY
        assert [Level.OK, Level.UNKNOWN] == [problem.level for problem in work.bots(setup)][:2]
    finally:
        setup.close()
    assert (Level.OK, Level.ALERT) == (direction.level, mute.level)
    assert f"last prediction {weekdays(30)[-1]:%Y-%m-%d %H:%M} UTC, no outcome yet, no bar yet" in direction.what
    assert mute.remedy
    assert "no price has come" in price.what


def test_the_doctor_names_bars_of_the_var_that_ended(tmp_path):
    settings = Settings(state=tmp_path)
    setup = Setup(settings, clock=lambda: T0 + 500 * DAY)
    with Ledger(settings.ledger) as ledger:
        estimated(SimpleNamespace(ledger=ledger), weekdays(30), T0 + 499 * DAY)
        setup.current = True
        setup.__dict__["registry"] = Registry(None, ledger, tmp_path)
        *_, problem = work.bots(setup)
    assert Level.ALERT == problem.level
    assert "feed_stale" in problem.remedy
    assert f"var_bars: the last came at {weekdays(30)[-1]:%Y-%m-%d}" in problem.what


def test_a_house_is_enough_to_look(sqlite_ledger, tmp_path):
    context = Context(Settings(), Registry(None, sqlite_ledger, tmp_path))
    assert {} == Freshness(context).models(T0)
    assert {} == Freshness(context).feeds(T0)
