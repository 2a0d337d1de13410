"""The bot as it lives in production: it waits for nobody, loses nothing, and swaps only what it has proven."""

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import psutil
import psycopg
import pytest
from fastapi.testclient import TestClient
from mlflow import MlflowClient

from mlops.errors import DataError, RegistryError, StorageError
from mlops.io.ledger import Ledger
from mlops.learn import STRATEGIES, features
from mlops.settings import BotSettings, Settings
from mlops.types import ModelRef, Role
from mlops.web import app
from registry_hooks import aliases, apply, assignment
from registry_hooks.apply import Act
from registry_hooks.bot.client import Bot
from registry_hooks.bot.hosted import Scorers
from registry_hooks.webhooks import mlflow_events

NOW = datetime(2008, 1, 4, 22, tzinfo=UTC)
END = NOW + timedelta(days=99)
MODEL, STRATEGY = "volatility", STRATEGIES["volatility"]
ACT = Act("test", NOW, split=0.5)
UNITS = ("AAPL", "GE")  # a trap behaves on three, the size of its probe
RNG = np.random.default_rng(3)
VALUES = RNG.uniform(0.5, 1.5, (len(UNITS), len(STRATEGY.feature_names))).astype(np.float32)
NOWHERE = "http://127.0.0.1:9"


def open_bot(registry, **kwargs):
    kwargs = {"poll_s": 3600.0} | kwargs
    code = {"features": lambda bars: features.last_row(STRATEGY, bars), "names": STRATEGY.feature_names}
    return Bot(MODEL, registry, **code, **kwargs)


def score(bot, at=NOW, units=UNITS, values=VALUES, keys=None):
    return bot.score(units, values, event_time=at, known_at=at, matures_at=at + timedelta(days=5), keys=keys)


def rows(registry, version=None):
    return registry.ledger.telemetry.predictions(MODEL, start=NOW, end=END, as_of=END, version=version)[0]


def make_shadow(registry, version):
    registry.client.set_model_version_tag(MODEL, str(version), aliases.ROLE_TAG, Role.SHADOW)


def challenge(registry, version):
    """Nominate a version that trades half of the units."""
    apply.enlist(registry, ModelRef(MODEL, version), ACT)
    assignment.set_weights(registry, MODEL, {version: 0.5}, "as agreed", ACT)


def couriers():
    me = psutil.Process()
    return [p for p in me.children() if p.status() != "zombie" and "registry_hooks.bot.courier" in p.cmdline()]


def alerts(registry, start):
    return [alert.title for alert in registry.ledger.alerts.newest() if alert.key.startswith(start)]


def test_what_is_scored_behind_the_callers_back_is_what_is_scored_in_front(live):
    challenge(live, 2)
    make_shadow(live, 3)
    with open_bot(live) as bot:
        behind = [score(bot, NOW + timedelta(days=i)) for i in range(5)]
        assert bot.flush()
    kept = rows(live)
    front = open_bot(live, background=False)
    before = [score(front, NOW + timedelta(days=i)) for i in range(5)]  # changes no row that is there

    assert 5 * 3 * len(UNITS) == len(kept)
    assert kept.equals(rows(live))
    assert {1: "champion", 2: "challenger", 3: "shadow"} == dict(zip(kept.version, kept.role, strict=True))
    for one, other in zip(behind, before, strict=True):
        assert np.array_equal(other.probability, one.probability)
        assert np.array_equal(other.version, one.version)
        assert {1, 2} == set(one.by_version)
        assert {1, 2, 3} == set(other.by_version)


def test_a_ledger_and_an_mlflow_that_are_away_cost_no_prediction(live, tmp_path):
    away = MlflowClient(NOWHERE, registry_uri=NOWHERE)
    with open_bot(live, poll_s=0.1) as bot:
        bot._prover._registry = replace(live, client=away)
        holder = sqlite3.connect(tmp_path / "state" / "ledger.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")  # nobody else writes, and it is not given back before all is scored
        scored = [score(bot, NOW + timedelta(days=i)) for i in range(50)]
        holder.execute("ROLLBACK")
        holder.close()
        assert bot.flush()

    assert 50 == len(scored)
    assert 50 * len(UNITS) == len(rows(live))


def test_a_database_server_that_is_away_costs_no_prediction(live, cluster, eventually):
    def sql(*statements):
        with psycopg.connect(host=str(cluster), user="ledger", dbname="postgres", autocommit=True) as connection:
            for statement in statements:
                connection.execute(statement)

    sql("CREATE DATABASE away")
    with Ledger(f"postgresql+psycopg://ledger@/away?host={cluster}") as ledger:
        ledger.registry.add_bundle(live.ledger.registry.bundle(MODEL, 1))
        registry = replace(live, ledger=ledger)
        apply.promote(registry, ModelRef(MODEL, 1), "first", ACT, expected=None)
        with open_bot(registry, poll_s=0.1) as bot:
            score(bot)
            assert bot.flush(60)
            sql(
                "ALTER DATABASE away ALLOW_CONNECTIONS false",
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'away'",
            )
            [score(bot, NOW + timedelta(days=i)) for i in range(1, 30)]
            assert not bot.flush(3)
            sql("ALTER DATABASE away ALLOW_CONNECTIONS true")
            assert bot.flush(60)

        assert 30 * len(UNITS) == len(rows(registry))


def test_a_courier_that_is_killed_is_replaced_and_nothing_is_lost_or_doubled(live, eventually):
    with open_bot(live) as bot:
        for i in range(30):
            score(bot, NOW + timedelta(days=i))
            if i % 10 == 5:
                [process.kill() for process in couriers()]
        eventually(lambda: couriers())
        assert bot.flush(60)

    assert 30 * len(UNITS) == len(rows(live))


BOT = """
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
import numpy as np
from mlflow import MlflowClient
from mlops.io.ledger import Ledger
from registry_hooks.aliases import Registry
from registry_hooks.bot.client import Bot
state = Path(sys.argv[1])
uri = f"sqlite:///{state}/mlflow.db"
registry = Registry(MlflowClient(uri, registry_uri=uri), Ledger(f"sqlite:///{state}/ledger.db"), state / "bundles")
bot = Bot("volatility", registry)
at = datetime(2008, 1, 4, 22, tzinfo=UTC)
for i in range(10**6):
    when = at + timedelta(seconds=i)
    bot.score(["A"], np.ones((1, len(bot.names)), dtype=np.float32), event_time=when, known_at=when, matures_at=when)
    print(i, flush=True)
"""


def test_a_bot_that_is_killed_has_lost_no_score_that_it_gave(live, tmp_path, eventually):
    child = subprocess.Popen([sys.executable, "-c", BOT, str(tmp_path / "state")], stdout=subprocess.PIPE, text=True)
    last = 0
    for line in child.stdout:
        last = int(line)
        if last == 200:
            os.kill(child.pid, signal.SIGKILL)
            break
    last = max([last, *(int(line) for line in child.stdout if line.endswith("\n"))])
    child.wait()
    child.stdout.close()
    spool = tmp_path / "state" / "spool"
    eventually(lambda: not [*spool.glob("*.open"), *spool.glob("*.closed")])  # its courier outlives it

    found = sorted((rows(live).event_time - NOW).dt.total_seconds())
    assert list(range(len(found))) == found
    assert len(found) in (last + 1, last + 2)  # the last may have been spooled and not yet told


@pytest.mark.parametrize("how", ["crash", "slow", "hang", "nan", "short"])
def test_a_shadow_that_misbehaves_is_cut_off_and_reported_and_the_champion_never_notices(
    live, add_trap, how, eventually
):
    trap = add_trap(how)
    make_shadow(live, trap)
    make_shadow(live, 3)
    with open_bot(live, settings=BotSettings(shadow_budget_ms=200)) as bot:
        for i in range(12):
            assert {1} == set(score(bot, NOW + timedelta(days=i)).version.tolist())
        reason = eventually(lambda: bot.cut_off.get(trap))
        for i in range(12, 15):
            score(bot, NOW + timedelta(days=i))
        eventually(lambda: alerts(live, f"shadow_cut_off:{MODEL}:{trap}"))
        assert {trap} == set(bot.cut_off)
        assert bot.flush(60)

    assert reason in alerts(live, "shadow_cut_off")[0]
    assert 15 * len(UNITS) == len(rows(live, version=1))
    # What waited behind a hanging one is lost with it: three bars at most were under way.
    assert (14 if how == "hang" else 15) * len(UNITS) <= len(rows(live, version=3))


def test_a_replay_on_a_busy_machine_scores_a_slow_shadow_to_the_end(live, add_trap):
    trap = add_trap("slow")
    make_shadow(live, trap)
    bot = open_bot(live, background=False, settings=BotSettings(shadow_budget_ms=1))
    for i in range(5):
        score(bot, NOW + timedelta(days=i))
    assert {} == bot.cut_off
    assert 5 * len(UNITS) == len(rows(live, version=trap))


@pytest.mark.parametrize("how", ["crash", "hang", "slow", "nan"])
def test_a_challenger_that_misbehaves_leaves_its_units_to_the_champion(live, add_trap, how, eventually):
    trap, keys = add_trap(how), [f"key {i}" for i in range(50)]
    challenge(live, trap)
    with open_bot(live, settings=BotSettings(shadow_budget_ms=100)) as bot:
        assert {1, trap} == set(bot.lineup.assign(keys).tolist())
        units, values = keys, np.tile(VALUES[:1], (len(keys), 1))
        for i in range(4):
            scored = score(bot, NOW + timedelta(days=i), units, values)
            assert {1} == set(scored.version.tolist())
            assert np.isfinite(scored.probability).all()
        eventually(lambda: trap in bot.cut_off)
        eventually(lambda: alerts(live, f"shadow_cut_off:{MODEL}:{trap}"))


def test_a_new_champion_is_taken_up_at_the_next_boundary_though_no_webhook_comes_and_no_poll_is_due(live, eventually):
    with open_bot(live) as bot:
        apply.promote(live, ModelRef(MODEL, 2), "better", ACT, expected=1)
        assert 2 == eventually(lambda: bot.boundary(NOW))
        assert {2} == set(score(bot).version.tolist())
        apply.rollback(live, MODEL, "worse", ACT)
        assert 1 == eventually(lambda: bot.boundary(NOW))


def test_a_hint_has_the_registry_read_though_no_transition_was_applied_since(live, eventually):
    with open_bot(live) as bot:
        live.client.set_model_version_tag(MODEL, "2", "role", "shadow")
        live.ledger.deliveries.add("d1", "mlflow", b"{}", NOW)
        mlflow_events.handle(live, mlflow_events.Hint("d1", MODEL, "champion"), NOW, on_manual_move="adopt")
        eventually(lambda: bot.boundary(NOW) or 2 in bot.lineup.roles)


@pytest.mark.parametrize("how", ["nan", "crash", "short"])
def test_a_champion_that_cannot_score_the_last_real_bar_is_not_taken_up(live, add_trap, how, eventually):
    trap = add_trap(how)
    with open_bot(live, poll_s=0.2) as bot:
        score(bot)
        apply.promote(live, ModelRef(MODEL, trap), "forced", ACT, expected=1)
        said = eventually(lambda: alerts(live, f"swap_rejected:{MODEL}:{trap}"))
        assert bot.boundary(NOW) is None
        assert {1} == set(score(bot).version.tolist())
        apply.rollback(live, MODEL, "as it was", ACT)
        assert bot.boundary(NOW) is None

    assert "the old model trades on" in said[0]


@pytest.fixture
def refused(live, tmp_path, eventually):
    """A bot that was told of v2 and could not take it up, and the file that is in the way of its copy."""
    own = replace(live, cache=tmp_path / "own" / "bundles")
    place = own.cache / MODEL / "2"
    place.parent.mkdir(parents=True)
    place.write_text("in the way of the bundle")
    bot = open_bot(own, poll_s=0.2)
    apply.promote(live, ModelRef(MODEL, 2), "better", ACT, expected=1)
    eventually(lambda: alerts(live, f"swap_rejected:{MODEL}:2"))
    return bot, place


def test_an_alert_of_a_refused_version_is_taken_back_when_it_is_taken_up(live, refused, eventually):
    bot, place = refused
    with bot:
        if place.is_file():  # else the bot has it already
            place.unlink()
        assert 2 == eventually(lambda: bot.boundary(NOW))
        eventually(lambda: not alerts(live, "swap_rejected"))


def test_no_bar_is_scored_half_by_one_version_and_half_by_another(live):
    """Three threads score while versions 1, 2 and 3 take turns: what was traded is what the named version says."""
    loaded = {v: apply.prove_loadable(live, ModelRef(MODEL, v)) for v in (1, 2, 3)}
    bars = [RNG.uniform(0.5, 1.5, VALUES.shape).astype(np.float32) for _ in range(20)]
    expected = {(v, i): loaded[v].score(bars[i], STRATEGY.feature_names) for v in loaded for i in range(20)}
    torn, seen, stop = [], set(), threading.Event()
    with open_bot(live) as bot:

        def trade(offset):
            i = offset
            while not stop.is_set():
                scored = score(bot, NOW + timedelta(seconds=i), values=bars[i % 20])
                version = int(scored.version[0])
                seen.add(version)
                if not np.array_equal(expected[version, i % 20], scored.probability):
                    torn.append((version, i))
                i += 3

        threads = [threading.Thread(target=trade, args=(i,)) for i in range(3)]
        [thread.start() for thread in threads]
        for version, before in ((2, 1), (3, 2), (1, 3), (2, 1)):
            apply.promote(live, ModelRef(MODEL, version), "turn", ACT, expected=before)
            assert version == bot.refresh(NOW)
        stop.set()
        [thread.join() for thread in threads]
        assert bot.flush(60)
    kept, matrix, _ = live.ledger.telemetry.predictions(MODEL, start=NOW, end=END, as_of=END)

    assert [] == torn
    assert {1, 2, 3} == seen
    i = ((kept.event_time - NOW).dt.total_seconds().astype(int) % 20).to_numpy()
    j = kept.unit.map({unit: k for k, unit in enumerate(UNITS)}).to_numpy()
    assert all(np.array_equal(bars[a][b], row) for a, b, row in zip(i, j, matrix, strict=True))
    said = [expected[v, a][b] for v, a, b in zip(kept.version, i, j, strict=True)]
    assert np.array_equal(said, kept.probability)


def test_a_bot_starts_by_ledger_and_bundle_while_mlflow_is_away(live, monkeypatch, tmp_path):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    away = replace(live, client=MlflowClient(NOWHERE, registry_uri=NOWHERE))
    with pytest.raises(RegistryError, match="must be provable"):
        open_bot(replace(away, cache=tmp_path / "nothing here"))
    with open_bot(away) as bot:  # the first start: the ledger names the champion, and its bundle is here
        assert {1} == set(score(bot).version.tolist())
    with open_bot(live):
        pass
    with open_bot(away) as bot:
        assert {1} == set(score(bot).version.tolist())


def test_what_the_spool_has_no_room_for_is_told(live, tmp_path, eventually):
    many = [f"unit {i}" for i in range(2000)]
    values = np.ones((len(many), len(STRATEGY.feature_names)), dtype=np.float32)
    with open_bot(live, settings=BotSettings(spool_mib=1)) as bot:
        holder = sqlite3.connect(tmp_path / "state" / "ledger.db", isolation_level=None)
        holder.execute("BEGIN EXCLUSIVE")
        scored = [score(bot, NOW + timedelta(days=i), many, values) for i in range(40)]
        holder.execute("ROLLBACK")
        holder.close()
        eventually(lambda: alerts(live, "spool_full"))
        assert bot.flush(60)
    said = alerts(live, "spool_full")
    lost = sum(int(title.split()[1]) for title in said)

    assert all(np.isfinite(one.probability).all() for one in scored)
    assert 0 < lost < 40 * len(many)
    assert 40 * len(many) == lost + len(rows(live))


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"values": VALUES.astype(float)}, "must be float32 of shape"),
        ({"values": VALUES[:1]}, "must be float32 of shape"),
        ({"at": NOW.replace(tzinfo=None)}, "must carry their time zone"),
        ({"values": np.where(np.arange(VALUES.size).reshape(VALUES.shape) == 3, np.nan, VALUES)}, "must be finite"),
    ],
)
def test_a_bar_that_could_not_be_kept_or_scored_is_refused_at_the_call(live, change, rule):
    bot = open_bot(live, background=False)
    with pytest.raises(DataError, match=rule):
        score(bot, **change)
    assert rows(live).empty


def test_what_the_ledger_will_not_take_is_kept_aside_and_told(live, eventually):
    with open_bot(live) as bot:
        score(bot, units=("AAPL", "x" * 5000))
        score(bot, NOW + timedelta(days=1))
        said = eventually(lambda: alerts(live, "predictions_refused"))
        assert bot.flush()

    assert "unit of predictions" in said[0]
    assert 1 == len(live.ledger.rejections.newest("predictions", 10))
    assert len(UNITS) == len(rows(live))


def test_the_service_scores_for_bots_without_python_and_follows_the_champion(live, eventually):
    scorers = Scorers(live, lambda: datetime.now(UTC), poll_s=0.2)
    key = live.ledger.api_keys.add("bot", ["score"], NOW)
    with TestClient(
        app.build(live, Settings(), lambda: NOW, scorers), headers={"Authorization": f"Bearer {key}"}
    ) as web:

        def ask(model=MODEL, **change):
            values = {name: float(v) for name, v in zip(STRATEGY.feature_names, VALUES[0], strict=True)} | change
            at = {name: NOW.isoformat() for name in ("event_time", "known_at", "matures_at")}
            return web.post(f"/v1/models/{model}/score", json=at | {"rows": [{"unit": "AAPL", "features": values}]})

        first = ask()
        expected = apply.prove_loadable(live, ModelRef(MODEL, 1)).score(VALUES[:1], STRATEGY.feature_names)
        assert 200 == first.status_code
        assert {"unit": "AAPL", "version": 1, "role": "champion", "probability": expected[0]} == first.json()["scores"][
            0
        ]
        assert 404 == ask("nobody").status_code
        assert 422 == ask(**{STRATEGY.feature_names[0]: None}).status_code
        apply.promote(live, ModelRef(MODEL, 2), "better", ACT, expected=1)
        eventually(lambda: 2 == ask().json()["scores"][0]["version"])
    scorers.close()

    assert {1, 2} == set(rows(live).version)


def test_a_bot_on_a_copy_of_the_state_shares_nothing(live, tmp_path):
    """Two bots of one model on one spool: each score is there once."""
    with open_bot(live) as one, open_bot(live) as other:
        for i in range(20):
            score(one, NOW + timedelta(days=i))
            score(other, NOW + timedelta(days=i), units=("XOM", "GE"))
        assert one.flush(60)
        assert other.flush(60)
    with Ledger(f"sqlite:///{tmp_path / 'state' / 'ledger.db'}") as ledger:
        kept = ledger.telemetry.predictions(MODEL, start=NOW, end=END, as_of=END)[0]

    assert 20 * 3 == len(kept)


def test_a_closed_bot_says_so_and_a_timestamp_of_pandas_is_an_instant(live):
    with open_bot(live) as bot:
        score(bot, pd.Timestamp(NOW))
    assert bot.flush()
    with pytest.raises(StorageError, match="must be open"):
        score(bot)
    assert [NOW] == sorted(set(rows(live).event_time))


def test_a_version_that_was_refused_is_taken_up_also_if_its_alert_cannot_be_closed(live, refused, eventually):
    bot, place = refused
    with bot:
        with live.ledger.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE alerts RENAME TO away")
        if place.is_file():  # else the bot has it already
            place.unlink()
        assert 2 == eventually(lambda: bot.boundary(NOW))
        with live.ledger.writing() as connection:
            connection.exec_driver_sql("ALTER TABLE away RENAME TO alerts")
        eventually(lambda: not alerts(live, "swap_rejected"))
