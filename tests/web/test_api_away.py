"""The ledger is away, locked or full: nothing is acknowledged that is not stored, and who sends again loses nothing."""

import json
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psycopg
import pytest
from sqlalchemy import event, make_url

from mlops.io.ledger import Ledger
from mlops.io.storage import disk as health
from mlops.io.storage.disk import Disk
from mlops.web import access, api
from registry_hooks.aliases import Registry

KINDS = ("predictions", "outcomes", "fills", "quotes")


@contextmanager
def gone(ledger):
    """Nobody gets through: a server that is stopped, or a file that another program has locked."""
    place = make_url(ledger.url)
    if place.get_backend_name() == "sqlite":
        event.listen(ledger.engine, "checkout", lambda raw, *_: raw.execute("PRAGMA busy_timeout=50"))
        other = sqlite3.connect(place.database, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        yield
        other.close()
        return
    with psycopg.connect(host=place.query["host"], user="ledger", dbname="postgres", autocommit=True) as server:
        server.execute(f"ALTER DATABASE {place.database} WITH ALLOW_CONNECTIONS false")
        server.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", [place.database])
        yield
        server.execute(f"ALTER DATABASE {place.database} WITH ALLOW_CONNECTIONS true")


@contextmanager
def renamed(ledger, table):
    """A table is not there."""
    with ledger.writing() as connection:
        connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO elsewhere")
    yield
    with ledger.writing() as connection:
        connection.exec_driver_sql(f"ALTER TABLE elsewhere RENAME TO {table}")


def held(ledger, kind):
    """How many rows there are."""
    with ledger.reading() as connection:
        return connection.exec_driver_sql(f"SELECT count(*) FROM {kind}").scalar()


def many(bot, kind, n):
    """n rows of a kind."""
    own = (lambda i: {"fill_id": f"f{i}"}) if kind == "fills" else (lambda i: {"unit": f"U{i}"})
    return [bot.row(kind) | own(i) for i in range(n)]


def refused(answer):
    """Whether the sender is told to come again."""
    return 503 == answer.status_code and int(answer.headers["retry-after"]) > 0 and bool(answer.json()["detail"])


@pytest.mark.parametrize("kind", KINDS)
def test_while_the_ledger_is_away_nothing_is_acknowledged_and_a_retry_stores_everything_once(
    client, registry, kind, bot
):
    rows = many(bot, kind, 200)
    assert 0 == bot.post(client, kind, []).json()["stored"]  # the key is known now

    with gone(registry.ledger):
        assert refused(bot.post(client, kind, rows))
        assert refused(bot.post(client, kind, [*rows, "bad"]))
        assert refused(bot.post(client, kind, ["bad"]))
    assert 0 == held(registry.ledger, kind)

    again = [bot.post(client, kind, [*rows, "bad"]).json() for _ in range(2)]
    assert [(200, 0, 1), (0, 200, 1)] == [(a["stored"], a["known"], len(a["rejected"])) for a in again]
    assert (200, 1) == (held(registry.ledger, kind), held(registry.ledger, "rejections"))


def test_health_tells_a_ledger_that_is_away_from_a_service_that_is_not(client, registry, bot):
    reads = "sqlite" in registry.ledger.url  # whoever locks the file keeps nobody from reading
    with gone(registry.ledger):
        assert 200 == client.get("/healthz").status_code
        assert (200 if reads else 503) == client.get("/readyz").status_code
        assert f"mlops_ledger_up {reads:.1f}" in client.get("/metrics").text
        assert reads or refused(bot.post(client, "fills", []))  # whose key it is cannot be read
        assert reads or refused(client.get("/v1/rejections"))
    assert {"ledger": "ok"} == client.get("/readyz").json()
    assert "mlops_ledger_up 1.0" in client.get("/metrics").text


def test_scores_and_assignments_go_on_while_the_ledger_is_away(registry, bot, monkeypatch):
    monkeypatch.setattr(access, "REMEMBERED_S", -1.0)  # a key, and who trades, are read anew each time
    monkeypatch.setattr(api, "FRESH_S", -1.0)
    why = {"actor": "t", "reason": "t", "evidence_run": "", "correlation_id": "", "at": bot.T0}
    registry.ledger.registry.append_promotion("m", expected=None, to=1, kind="promote", **why)
    at, days = bot.T0.isoformat(), [0]
    bar = {"event_time": at, "known_at": at, "matures_at": at, "rows": [{"unit": "A", "features": {"a": 0.5, "b": 1}}]}
    short = {"authorization": f"Bearer {registry.ledger.api_keys.add('short', ['score'], bot.T0, bot.at(1))}"}
    for client in bot.opened(registry, clock=lambda: bot.at(days[0])):

        def asked(client=client, **kwargs):
            return client.get("/v1/models/m/assignment?key=A", **kwargs)

        def scored(client=client):
            return client.post("/v1/models/m/score", content=json.dumps(bar)).json()

        assigned, score = asked().json(), scored()
        assert 200 == asked(headers=short).status_code
        with gone(registry.ledger):
            assert score == scored()
            assert assigned | {"stale": "postgresql" in registry.ledger.url} == asked().json()
            assert 200 == asked(headers=short).status_code
            days[0] = 2
            assert asked(headers=short).status_code in (401, 503)  # it is over, whether or not that can be read
            assert asked(headers={"authorization": f"Bearer {'x' * 8}.{'x' * 43}"}).status_code in (401, 503)


def test_good_rows_whose_bad_neighbours_cannot_be_kept_are_sent_again(client, registry, bot):
    with renamed(registry.ledger, "rejections"):
        assert refused(bot.post(client, "fills", [bot.row("fills"), "bad"]))

    found = bot.post(client, "fills", [bot.row("fills"), "bad"]).json()

    assert (1, [1]) == (found["stored"] + found["known"], [one["row"] for one in found["rejected"]])
    assert (1, 1) == (held(registry.ledger, "fills"), held(registry.ledger, "rejections"))


@pytest.mark.parametrize("kind", ["fills", "predictions"])
def test_a_full_disk_takes_nothing_of_a_batch_and_all_of_it_later(tmp_path, mlflow_client, kind, bot):
    seconds, pages = [0.0], [2**30]
    disk = Disk(tmp_path, clock=lambda: seconds[0])
    rows = many(bot, kind, 3000)
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", disk) as ledger:
        event.listen(ledger.engine, "checkout", lambda raw, *_: raw.execute(f"PRAGMA max_page_count={pages[0]}"))
        for client in bot.opened(Registry(mlflow_client, ledger, tmp_path)):
            assert 1 == bot.post(client, kind, rows[:1]).json()["stored"]
            with ledger.reading() as connection:
                pages[0] = connection.exec_driver_sql("PRAGMA page_count").scalar() + 2

            assert refused(bot.post(client, kind, rows))
            assert 1 == held(ledger, kind)
            assert "full" in client.get("/readyz").json()["ledger"]
            assert "mlops_ledger_degraded 1.0" in client.get("/metrics").text

            pages[0], seconds[0] = 2**30, health.CHECK_S
            found = bot.post(client, kind, rows).json()
            assert (2999, 1, []) == (found["stored"], found["known"], found["rejected"])
            assert {"ledger": "ok"} == client.get("/readyz").json()


def test_a_commit_that_comes_too_late_is_found_by_the_retry(client, registry, bot, monkeypatch):
    rows = many(bot, "fills", 50)
    bot.post(client, "fills", [])
    with monkeypatch.context() as short, registry.ledger._turn:
        short.setattr(api, "COMMIT_LIMIT_S", 0.05)
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(bot.post, client, "fills", rows).result()
            assert refused(late) or "postgresql" in registry.ledger.url  # there, nobody waits for this turn

    found = bot.post(client, "fills", rows).json()

    assert 50 == found["stored"] + found["known"] == held(registry.ledger, "fills")


def test_health_and_metrics_answer_while_many_wait_for_the_ledger(sqlite_ledger, mlflow_client, tmp_path, bot):
    for client in bot.opened(Registry(mlflow_client, sqlite_ledger, tmp_path)):
        bot.post(client, "fills", [])
        with ThreadPoolExecutor(60) as pool:
            with sqlite_ledger._turn:
                posts = [pool.submit(bot.post, client, "fills", [row]) for row in many(bot, "fills", 60)]
                while sum("AnyIO" in thread.name for thread in threading.enumerate()) < 8:
                    time.sleep(0.01)
                statuses = [client.get(path).status_code for path in ("/healthz", "/readyz", "/metrics") * 5]
                assert not any(post.done() for post in posts)
            assert [200] * 15 == statuses
            assert 60 == sum(post.result().json()["stored"] for post in posts)
