"""kill -9, races and outages in the middle of transitions. The short form; `make faults` is the long one."""

import multiprocessing
import secrets
import time
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest
from mlflow import MlflowClient
from sqlalchemy import make_url

from benchmarks.faults import registry_world as world
from benchmarks.faults import transitions
from mlops.io.ledger import Ledger
from mlops.types import ModelRef
from registry_hooks import aliases, apply
from registry_hooks.apply import RegistryAway, TransitionUnfinished
from registry_hooks.reconcile import reconcile

AT, MODEL = world.AT, "tiny"


def test_no_kill_in_a_transition_leaves_anything_half(url):
    seed, said = secrets.randbelow(2**31), []

    found = transitions.run(8, seed, said.append, ledger_url=url)

    assert {"transition_kills": 8, "transition_wrong": 0} == found, f"seed {seed}: " + "\n".join(said)


@pytest.fixture
def place(url, tmp_path):
    """A registry on either ledger; MLflow's stores are files."""
    spot = world.Place(f"sqlite:///{tmp_path / 'mlflow.db'}", url, tmp_path)
    world.found(spot)
    return spot


def _opened(place, models=(MODEL,)):
    registry = place.open()
    for model in models:
        world.add_model(registry, place, model)
        apply.promote(registry, ModelRef(model, 1), "first", apply.Act("test", AT), expected=None)
    return registry


def test_of_two_processes_that_promote_at_once_one_wins_each_time(place):
    models = [f"race{i}" for i in range(3)]
    registry = _opened(place, models)
    spawn = multiprocessing.get_context("spawn")
    barrier, told = spawn.Barrier(2, timeout=120), spawn.Queue()
    racers = [spawn.Process(target=world.race, args=(place, models, v, barrier, told)) for v in (2, 3)]
    [racer.start() for racer in racers]
    went = [told.get(timeout=120) for _ in racers]
    [racer.join() for racer in racers]

    assert [["AliasMoved", "won"]] * 3 == [sorted(pair) for pair in zip(*went, strict=True)]
    for model in models:
        last = registry.ledger.registry.promotions(model)[-1]
        assert {"champion": last.to_version, "previous_champion": 1} == aliases.read(registry.client, model)
        assert "agreed" == reconcile(registry, model, AT)
    registry.ledger.close()


@contextmanager
def _closed(url):
    """The PostgreSQL database refuses everybody, and throws out who is in."""
    place = make_url(url)
    with psycopg.connect(host=place.query["host"], user="ledger", dbname="postgres", autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {place.database} ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (place.database,))
        yield
        admin.execute(f"ALTER DATABASE {place.database} ALLOW_CONNECTIONS true")


@pytest.mark.parametrize("moment", ["before", "middle"])
def test_a_ledger_that_goes_away_in_the_middle_is_caught_up_with(place, moment):
    if place.ledger_url.startswith("sqlite"):
        pytest.skip("a SQLite ledger is a file of this machine: it goes away only together with the process")
    registry = _opened(place)
    act = apply.Act("test", AT)
    outage = _closed(place.ledger_url)

    class Cutting(MlflowClient):
        def get_model_version(self, name, version):
            if moment == "before":
                outage.__enter__()
            return super().get_model_version(name, version)

        def set_registered_model_alias(self, name, alias, version):
            super().set_registered_model_alias(name, alias, version)
            if alias == "champion":
                outage.__enter__()

    cut = replace(registry, client=Cutting(place.tracking_uri, registry_uri=place.tracking_uri))
    error = RegistryAway if moment == "before" else TransitionUnfinished
    with pytest.raises(error, match=r"Nothing was changed|do not repeat it"):
        apply.promote(cut, ModelRef(MODEL, 2), "now", act, expected=1)
    outage.__exit__(None, None, None)

    assert ("agreed" if moment == "before" else "finished") == reconcile(registry, MODEL, AT)
    assert "agreed" == reconcile(registry, MODEL, AT)
    wanted = {"champion": 1} if moment == "before" else {"champion": 2, "previous_champion": 1}
    assert wanted == aliases.read(registry.client, MODEL)
    registry.ledger.close()


def test_a_turn_ends_with_its_process(url):
    """Whoever is killed while it is alone leaves the place free at once."""
    spawn = multiprocessing.get_context("spawn")
    holding = spawn.Event()
    holder = spawn.Process(target=world.hold_turn, args=(url, "registry:tiny", holding))
    holder.start()
    assert holding.wait(120)
    with Ledger(url) as ledger:
        with pytest.raises(apply.RegistryError, match="must be free"), ledger.locks.turn("registry:tiny", 0.2):
            pass
        holder.kill()
        holder.join()
        began = time.monotonic()
        with ledger.locks.turn("registry:tiny", 30):
            assert time.monotonic() - began < 30
