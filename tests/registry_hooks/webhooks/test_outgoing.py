"""Hooks to the bot: in order, signed, at least once, and never to an address inside."""

import os
import random
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from pydantic import SecretStr
from receivers import SECRET, receiving, wait_until
from standardwebhooks import Webhook

from mlops.errors import DataError, SettingsError
from mlops.io.ledger import Ledger
from mlops.settings import HookSettings, OutgoingSettings
from mlops.types import Alert, Priority
from registry_hooks.webhooks.outgoing import Sender

T0 = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOME = ("127.0.0.1",)


class Clock:
    """A clock that a test turns."""

    def __init__(self):
        self.now = T0

    def __call__(self):
        return self.now

    def turn(self, seconds):
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock():
    return Clock()


def _hook(url, name="bot", secret=SECRET, **more):
    return HookSettings(name=name, url=url, secret=SecretStr(secret), **more)


def _settings(*hooks, timeout_s=5.0, allow_hosts=HOME, **more):
    return OutgoingSettings(hooks=hooks, allow_hosts=allow_hosts, timeout_s=timeout_s, **more)


def _sender(ledger, clock, *hooks, **more):
    return Sender(ledger, _settings(*hooks, **more), clock)


def _alert(key, at=T0):
    return Alert(f"rollback:{key}", Priority.HIGH, "volatility", f"{key} happened", at, {"n": 1})


def _happen(ledger, n):
    for i in range(n):
        assert ledger.alerts.add(_alert(f"a{i}"))


def _states(ledger, endpoint="bot"):
    return [d.state for d in ledger.dispatches.all(endpoint)]


def test_an_event_arrives_signed_numbered_and_as_it_was_announced(sqlite_ledger):
    with receiving() as bot:
        sender = _sender(sqlite_ledger, lambda: datetime.now(UTC), _hook(bot.url))
        sqlite_ledger.trading.set("halted", "ada", "storm", T0)

        assert 1 == sender.once()

    headers, body = bot.seen[0]
    told = Webhook(SECRET).verify(body, headers)
    assert ("trading_state", 1, T0.isoformat()) == (told["type"], told["seq"], told["timestamp"])
    assert ("halted", "ada", "storm") == tuple(told["data"][k] for k in ("state", "actor", "reason"))
    assert ("application/json", f"127.0.0.1:{bot.server_port}") == (headers["content-type"], headers["host"])
    assert ["delivered"] == _states(sqlite_ledger)


@pytest.mark.parametrize("fault", [500, 404, 429, 302, "hang", "reset", "drip", "nonsense"])
def test_what_a_bad_receiver_missed_it_gets_later_in_order_under_the_same_id_and_nobody_else_waits(
    sqlite_ledger, clock, fault
):
    step = (fault, {"location": "http://127.0.0.1:1/"}) if fault == 302 else fault
    with receiving(step, step) as bad, receiving() as good:
        hooks = _hook(bad.url, "bad"), _hook(good.url, "good")
        sender = _sender(sqlite_ledger, clock, *hooks, timeout_s=2)
        _happen(sqlite_ledger, 3)
        sender.once()

        assert ([1], [1, 2, 3]) == (bad.seqs, good.seqs)
        assert [("pending", 1)] == [(d.state, d.attempts) for d in sqlite_ledger.dispatches.all("bad")]
        for _ in range(2):
            clock.turn(1)
            sender.once()

        assert [1, 1, 1, 2, 3] == bad.seqs
        assert 3 == len(set(bad.ids))
        assert not set(bad.ids) & set(good.ids)
        assert ["delivered"] * 3 == _states(sqlite_ledger, "bad")


def test_retry_after_is_obeyed_within_bounds(sqlite_ledger, clock):
    asked = [(429, {"retry-after": "120"}), (503, {"retry-after": "999999999"}), (503, {"retry-after": "soon"})]
    with receiving(*asked) as bot:
        sender = _sender(sqlite_ledger, clock, _hook(bot.url), max_wait_s=600.0)
        _happen(sqlite_ledger, 1)
        for wait, requests in ((0, 1), (119, 1), (2, 2), (599, 2), (2, 3), (2, 4)):
            clock.turn(wait)
            sender.once()
            assert requests == len(bot.seen), wait


def test_a_date_in_retry_after_is_read_too(sqlite_ledger):
    with receiving((503, {"retry-after": "Fri, 31 Dec 2100 23:59:59 GMT"})) as bot:
        sender = _sender(sqlite_ledger, lambda: datetime.now(UTC), _hook(bot.url))
        _happen(sqlite_ledger, 1)
        sender.once()

    (dispatch,) = sqlite_ledger.dispatches.all("bot")
    assert dispatch.not_before - datetime.now(UTC) > timedelta(minutes=50)  # the bound, an hour


def test_after_the_last_attempt_it_is_a_dead_letter_a_person_is_told_once_and_can_send_it_again(sqlite_ledger, clock):
    with receiving(*[500] * 8) as bot:
        sender = _sender(sqlite_ledger, clock, _hook(bot.url, events=("trading_state",)), max_attempts=4)
        for state in ("halted", "active"):
            sqlite_ledger.trading.set(state, "ada", "storm", T0)
        for _ in range(20):
            clock.turn(60)
            sender.once()
        assert ["dead", "dead"] == _states(sqlite_ledger)
        (alert,) = sqlite_ledger.alerts.newest()
        assert "hook bot: no success in 4 attempts, last 500" in alert.title
        assert 1 == alert.details["seq"]

        sqlite_ledger.dispatches.redeliver("bot", 2, clock())
        sender.once()
        assert [alert] == sqlite_ledger.alerts.newest(), "one dead letter is left"
        sqlite_ledger.dispatches.redeliver("bot", 1, clock())
        sender.once()

        assert (["delivered"] * 2, []) == (_states(sqlite_ledger), sqlite_ledger.alerts.newest())
        assert 2 == len(set(bot.ids))


def test_two_dead_endpoints_do_not_tell_each_other_of_it_for_ever(sqlite_ledger, clock):
    with receiving(*[500] * 500) as one, receiving(*[500] * 500) as two:
        hooks = _hook(one.url, "one"), _hook(two.url, "two")
        sender = _sender(sqlite_ledger, clock, *hooks, max_attempts=2, max_wait_s=60.0)
        _happen(sqlite_ledger, 1)
        for _ in range(40):
            clock.turn(61)
            sender.once()
            for alert in sqlite_ledger.alerts.newest():  # somebody closes it each time
                sqlite_ledger.alerts.resolve(alert.key, clock())

    assert 3 == len(sqlite_ledger.outbox.events(0))  # what happened, and one alert an endpoint
    assert 6 == len(sqlite_ledger.dispatches.all(state="dead"))


def test_gone_means_gone_until_it_is_configured_anew(sqlite_ledger, clock):
    with receiving(410) as bot, receiving() as moved:
        sender = _sender(sqlite_ledger, clock, _hook(bot.url, events=("trading_state",)))
        for state in ("halted", "active"):
            sqlite_ledger.trading.set(state, "ada", "storm", T0)
        for _ in range(3):
            clock.turn(3600)
            sender.once()
            sender = _sender(sqlite_ledger, clock, _hook(bot.url, events=("trading_state",)))  # restarts change nothing
        assert 1 == len(bot.seen)
        assert ["hook bot: 410 Gone"] == [alert.title for alert in sqlite_ledger.alerts.newest()]

        _sender(sqlite_ledger, clock, _hook(moved.url, events=("trading_state",))).once()

        assert [1, 2] == moved.seqs
        assert [] == sqlite_ledger.alerts.newest()


def test_a_receiver_that_returns_is_found_by_a_probe_long_before_its_back_off_is_over(sqlite_ledger, clock):
    with receiving(*[500] * 60) as bot:
        sender = _sender(sqlite_ledger, clock, _hook(bot.url))
        _happen(sqlite_ledger, 2)
        while len(bot.seen) < 60:
            clock.turn(1)
            sender.once()
        (dispatch,) = sqlite_ledger.dispatches.all("bot")
        assert "pending" == dispatch.state
        assert dispatch.attempts < 12, "probes did not use the attempts up"
        for _ in range(2):
            clock.turn(1)
            sender.once()

    assert ["delivered", "delivered"] == _states(sqlite_ledger)


@pytest.mark.parametrize(
    ("hooks", "rule"),
    [
        ([_hook("https://bot.example/", secret="whsec_c2hvcnQ=")], "at least 24 bytes, got 5"),
        ([_hook("https://bot.example/", secret=SECRET.removeprefix("whsec_"))], "must be whsec_"),
        ([_hook("https://bot.example/", secret="whsec_!!!")], "must be whsec_ and base64"),
        ([_hook("http://bot.example/")], "must use https"),
        ([_hook("ftp://bot.example/")], "must start with https://"),
        ([_hook("https://")], "name a host"),
        ([_hook("https://user:word@bot.example/")], "no credentials"),
        ([_hook("https://bot.example:port/")], "must be a URL"),
    ],
)
def test_a_hook_that_could_not_be_safe_is_refused_at_the_start(sqlite_ledger, clock, hooks, rule):
    with pytest.raises(SettingsError, match=rule):
        _sender(sqlite_ledger, clock, *hooks)


def test_a_test_event_goes_past_the_outbox(sqlite_ledger):
    with receiving(204, 500) as bot:
        sender = _sender(sqlite_ledger, lambda: datetime.now(UTC), _hook(bot.url))
        assert [204, 500] == [sender.test("bot").status for _ in range(2)]
        assert "test" == Webhook(SECRET).verify(bot.seen[0][1], bot.seen[0][0])["type"]
        with pytest.raises(DataError, match="must be one of"):
            sender.test("nobody")

    assert ([], []) == (sqlite_ledger.outbox.events(0), sqlite_ledger.dispatches.all())


def test_two_senders_on_one_ledger_send_each_event_once_and_in_order(url):
    with receiving() as bot, Ledger(url) as one, Ledger(url) as other:
        stop, hook = threading.Event(), _hook(bot.url)
        senders = [_sender(ledger, lambda: datetime.now(UTC), hook) for ledger in (one, other)]
        threads = [threading.Thread(target=sender.run, args=(stop,)) for sender in senders]
        for thread in threads:
            thread.start()
        _happen(one, 30)
        wait_until(lambda: len(one.dispatches.all("bot", "delivered")) == 30)
        stop.set()
        for thread in threads:
            thread.join()

    assert [*range(1, 31)] == bot.seqs


RUN = """
import signal, sys, threading
from datetime import UTC, datetime
from mlops.io.ledger import Ledger
from mlops.settings import OutgoingSettings
from registry_hooks.webhooks.outgoing import Sender

with Ledger(sys.argv[1]) as ledger:
    sender = Sender(ledger, OutgoingSettings.model_validate_json(sys.argv[2]), lambda: datetime.now(UTC))
    print("ready", flush=True)
    sender.run(threading.Event())
"""


def _process(url, settings):
    raw = settings.model_dump(mode="json")
    for hook, original in zip(raw["hooks"], settings.hooks, strict=True):
        hook["secret"] = original.secret.get_secret_value()
    said = [sys.executable, "-c", RUN, url, orjson.dumps(raw).decode()]
    process = subprocess.Popen(said, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert b"ready\n" == process.stdout.readline()
    return process


def _kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_killed_between_sending_and_settling_it_sends_the_same_delivery_again(url):
    with receiving("hang") as bot, Ledger(url) as ledger:
        settings = _settings(_hook(bot.url), timeout_s=1.0)
        first = _process(url, settings)
        _happen(ledger, 2)
        wait_until(lambda: bot.seen)
        _kill(first)
        assert ["pending"] == _states(ledger)
        second = _process(url, settings)
        wait_until(lambda: _states(ledger) == ["delivered", "delivered"])
        _kill(second)

    assert [1, 1, 2] == bot.seqs
    assert 2 == len(set(bot.ids))


def test_killed_at_random_it_loses_nothing_and_keeps_the_order(sqlite_ledger, tmp_path):
    rng, n = random.Random(3), 40
    with receiving(*[rng.choice([204, 204, 500]) for _ in range(30)]) as bot:
        settings = _settings(_hook(bot.url), timeout_s=1.0)
        process = _process(f"sqlite:///{tmp_path / 'ledger.db'}", settings)
        for i in range(n):
            sqlite_ledger.alerts.add(_alert(f"a{i}"))
            if i % 20 == 10:
                enough = rng.randrange(i)
                wait_until(lambda seen=enough: len(bot.seen) >= seen)
                _kill(process)
                process = _process(f"sqlite:///{tmp_path / 'ledger.db'}", settings)
        wait_until(lambda: len(sqlite_ledger.dispatches.all("bot", "delivered")) == n, 120)
        _kill(process)

    assert [*range(1, n + 1)] == [*dict.fromkeys(bot.seqs)], "the first arrivals are in order and complete"
    assert n == len(set(bot.ids))


def test_the_ledger_away_is_waited_for(url, clock, tmp_path):
    stop = threading.Event()
    with receiving() as bot, Ledger(url) as ledger:
        sender = _sender(ledger, lambda: datetime.now(UTC), _hook(bot.url))
        with ledger.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE endpoints RENAME TO away")
        thread = threading.Thread(target=sender.run, args=(stop,))
        thread.start()
        stop.wait(0.5)
        with ledger.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO endpoints")
        _happen(ledger, 1)
        wait_until(lambda: bot.seqs == [1])
        stop.set()
        thread.join()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_row_that_nobody_foresaw_stops_its_endpoint_only_until_it_is_mended(sqlite_ledger):
    stop = threading.Event()
    with receiving() as bot:
        sender = _sender(sqlite_ledger, lambda: datetime.now(UTC), _hook(bot.url))
        _happen(sqlite_ledger, 1)
        with sqlite_ledger.writing() as connection:
            (body,) = connection.exec_driver_sql("SELECT body FROM events").one()
            connection.exec_driver_sql("UPDATE events SET body = '{'")
        thread = threading.Thread(target=sender.run, args=(stop,))
        thread.start()
        stop.wait(0.5)
        with sqlite_ledger.writing() as connection:
            connection.exec_driver_sql("UPDATE events SET body = ?", (body,))
        wait_until(lambda: bot.seqs == [1])
        stop.set()
        thread.join()
