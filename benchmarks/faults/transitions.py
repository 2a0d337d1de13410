"""Processes killed with -9 in the middle of transitions, nominations and repairs; a fresh process then reconciles.

Half of the kills are at steps: the process kills itself before its k-th write to a database, before or after the commit
of it, or beside its k-th request to a server; for every k of every action (150 in all) from 600 kills on. The other
half are at random times, from outside. Actions and rules: `benchmarks.faults.registry_world`.

Two worlds side by side. Each is one warmed process that never opens a store itself: it forks a child for every kill,
and that child first does what a fresh process does (reconcile what the last one left), then acts, and dies.
"""

from __future__ import annotations

import importlib
import json
import logging
import multiprocessing
import os
import random
import select as selecting
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import mlflow.pyfunc
import requests
import structlog
from sqlalchemy import Connection, Engine, event
from sqlalchemy.pool import ConnectionPoolEntry, Pool

from benchmarks.faults import registry_world as world

WORLDS = 2  # cores of the smallest machine that this is run on
PER_MODEL = 25  # trials on one model before the next one is taken: its log and its versions are used up by then
WRITES = ("INSERT", "UPDATE", "DELETE")
LIMIT_S = 120.0  # a child that says nothing for so long hangs, which is wrong as well
WARM = ("mlflow.tracking._model_registry.fluent", "mlflow.store.model_registry.sqlalchemy_store")


@dataclass(frozen=True)
class Kill:
    """Where to kill: at the child's `step`-th event, or `after_s` seconds from its start; neither: not at all."""

    action: str
    step: int = 0
    after_s: float | None = None


@dataclass(frozen=True)
class Course:
    """What one world does: its place, its share of the kills, its seed."""

    place: world.Place
    n: int
    seed: int


def run(
    n: int, seed: int, progress: Callable[[str], None] = print, *, ledger_url: str = "", tracking_uri: str = ""
) -> dict[str, int]:
    """Kill `n` times; how often something did not hold afterwards.

    Parameters
    ----------
    ledger_url : str, optional
        Of an empty ledger, on PostgreSQL say; then there is one world instead of two. Default: SQLite.
    tracking_uri : str, optional
        Of a running MLflow server; default: its stores, opened directly, which is quicker.
    """
    worlds = 1 if ledger_url or tracking_uri or n < 2 else WORLDS
    with TemporaryDirectory(prefix="transitions") as folder:
        courses = []
        for i in range(worlds):
            place = Path(folder) / str(i)
            place.mkdir()
            url = ledger_url or f"sqlite:///{place / 'ledger.db'}"
            where = world.Place(tracking_uri or f"sqlite:///{place / 'mlflow.db'}", url, place)
            courses.append(Course(where, n // worlds + (i < n % worlds), seed * WORLDS + i))
        kills, wrongs = _all(courses, progress)
    return {"transition_kills": kills, "transition_wrong": wrongs}


def _all(courses: list[Course], progress: Callable[[str], None]) -> tuple[int, int]:
    kills = wrongs = 0
    # Spawned: their children are forked, and must inherit no store, thread or lock from whoever calls this.
    with ProcessPoolExecutor(len(courses), mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(course, one) for one in courses]):
            killed, findings = done.result()
            kills, wrongs = kills + killed, wrongs + len(findings)
            for finding in findings:
                progress(finding)
    progress(f"{kills} kills, {wrongs} wrong")
    return kills, wrongs


def course(one: Course) -> tuple[int, list[str]]:
    """One world, to its end: (kills, what was wrong)."""
    _quietly()
    for name in WARM:
        importlib.import_module(name)
    _forked(lambda say: world.found(one.place))
    rng, findings = random.Random(one.seed), list[str]()
    spans, expect, kills = {}, None, 0
    for index, kill in enumerate(_kills(one.n, rng, spans)):
        model, job = f"s{one.seed}m{index // PER_MODEL}", random.Random(rng.random())
        if index % PER_MODEL == 0:
            expect = None  # a model of its own; what was left of the last one is judged below
            _forked(lambda say, m=model: world.add_model(one.place.open(), one.place, m))
        if index == 0:  # MLflow reads what is installed at the first load: once here, not in every child
            with redirect_stderr(StringIO()):
                mlflow.pyfunc.load_model(str(one.place.folder / "bundles" / model / "1"))
        last = (index + 1) % PER_MODEL == 0
        heard, killed, took = _killed(one.place, model, kill, f"{one.seed}-{index}", job, expect)
        where = f"seed {one.seed}, trial {index}, {model}, after {expect and expect['kill']}: "
        findings += [where + rule for rule in heard.get("wrong", ["no verdict: the child died early"])]
        kills += killed
        if not killed and "done" in heard:
            spans[kill.action] = (heard["steps"], took)
        elif not killed:
            findings.append(f"seed {one.seed}, trial {index}, {kill}: {heard.get('error', 'hung')}")
        expect = heard.get("expect")
        if expect is not None:
            expect["kill"] = str(kill)
        if last or kills == one.n:
            findings += [f"seed {one.seed}, trial {index}: {rule}" for rule in _judged(one.place, model, expect)]
            expect = None
        if kills == one.n:
            break
    return kills, findings


def _quietly() -> None:
    """Thousands of processes say the same, and nothing leaves the machine."""
    os.environ |= {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def _kills(n: int, rng: random.Random, spans: dict[str, tuple[int, float]]) -> Iterator[Kill]:
    """First every action once without a kill, to learn its steps and its time; then steps; then times, without end."""
    for action in world.ACTIONS:
        yield Kill(action)
    steps = [Kill(action, step) for action, (last, _) in spans.items() for step in range(1, last + 1)]
    rng.shuffle(steps)
    yield from steps[: max(1, n // 2)]
    while True:
        action = rng.choice(list(world.ACTIONS))
        yield Kill(action, after_s=rng.uniform(0, spans[action][1]))


def _killed(
    place: world.Place, model: str, kill: Kill, mark: str, rng: random.Random, expect: dict[str, Any] | None
) -> tuple[dict[str, Any], bool, float]:
    """(what the child said, whether it was killed, seconds from its start to its end)."""
    reader, pid = _fork(lambda say: _act(place, model, kill, mark, rng, expect, say))
    heard: dict[str, Any] = {}
    began = time.monotonic()
    for line in _lines(reader):
        heard |= line
        if "go" in line:
            began = time.monotonic()
            if kill.after_s is not None:
                time.sleep(kill.after_s)
                os.kill(pid, signal.SIGKILL)
    took = time.monotonic() - began
    if not heard.get("done"):
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return heard, os.WIFSIGNALED(status) and "go" in heard and not heard.get("error"), took


def _judged(place: world.Place, model: str, expect: dict[str, Any] | None) -> list[str]:
    """What the last process of a model left, reconciled and judged."""

    def body(say: Callable[[dict[str, Any]], None]) -> None:
        trial = world.Trial(place.open(), model, "", random.Random(0))
        say({"wrong": world.wrong(trial, expect) if expect else []})

    return list(_forked(body).get("wrong", ["no verdict"]))


def _act(
    place: world.Place,
    model: str,
    kill: Kill,
    mark: str,
    rng: random.Random,
    expect: dict[str, Any] | None,
    say: Callable[[dict[str, Any]], None],
) -> None:
    """The child: mend and judge what the last one left, prepare, say so, act, and die on the way."""
    trial = world.Trial(place.open(), model, mark, rng)
    say({"wrong": world.wrong(trial, expect) if expect else []})
    if trial.champion is None:
        world.apply.promote(trial.registry, world.ModelRef(model, 1), "first", trial.act, expected=None)
    length = len(trial.log)
    what, expected = world.ACTIONS[kill.action](trial)
    expected["length"] = len(trial.log) if expected["adds"] != [1] else length
    steps = _die_at(kill.step)
    say({"expect": expected, "go": True})
    what()
    say({"done": True, "steps": steps()})


def _die_at(step: int) -> Callable[[], int]:
    """Count writes, commits and requests from now on, and kill this process at that count; the count so far."""
    count = 0

    def tick(*_: object) -> None:
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)

    def statement(connection: Connection, cursor: object, text: str, *_: object) -> None:
        if text.lstrip().upper().startswith(WRITES):  # a kill beside a reading leaves what one beside a write leaves
            connection.info["wrote"] = True
            tick()

    def commit(connection: Connection) -> None:
        if connection.info.get("wrote"):
            tick()

    def checkin(_: object, record: ConnectionPoolEntry) -> None:
        if record.info.pop("wrote", False):
            tick()

    event.listen(Engine, "before_cursor_execute", statement)
    event.listen(Engine, "commit", commit)
    event.listen(Pool, "checkin", checkin)
    send = requests.Session.send

    def watched(*given: Any, **named: Any) -> requests.Response:
        tick()
        answer = send(*given, **named)
        tick()
        return answer

    requests.Session.send = watched  # type: ignore[method-assign]
    return lambda: count


def _forked(body: Callable[[Callable[[dict[str, Any]], None]], object]) -> dict[str, Any]:
    """Do it in a child and wait; what it said."""
    reader, pid = _fork(body)
    heard: dict[str, Any] = {}
    for line in _lines(reader):
        heard |= line
    os.waitpid(pid, 0)
    if "error" in heard:
        raise RuntimeError(heard["error"])
    return heard


def _fork(body: Callable[[Callable[[dict[str, Any]], None]], object]) -> tuple[int, int]:
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return reader, pid
    os.close(reader)
    silence = os.open(os.devnull, os.O_WRONLY)  # MLflow prints; what matters goes through the pipe
    os.dup2(silence, 1)
    os.dup2(silence, 2)

    def say(words: dict[str, Any]) -> None:
        os.write(writer, json.dumps(words).encode() + b"\n")

    try:
        body(say)
    except BaseException:  # noqa: BLE001 - it is said, and the child ends
        say({"error": traceback.format_exc()})
    os._exit(0)


def _lines(reader: int) -> Iterator[dict[str, Any]]:
    """What a child says, line by line, until it is gone or silent for too long."""
    rest = b""
    try:
        while selecting.select([reader], [], [], LIMIT_S)[0] and (got := os.read(reader, 65536)):
            *lines, rest = (rest + got).split(b"\n")
            yield from map(json.loads, lines)
    finally:
        os.close(reader)
