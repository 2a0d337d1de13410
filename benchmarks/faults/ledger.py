"""The ledger under kill -9 and under flipped bits.

Kills: a writer process with four producers hands rows to `mlops.io.ledger.group_commit.Writer` and says through a pipe
which batches were acknowledged; it is killed at a random moment, the next one begins with the batches that were not. In
the end every acknowledged row must be there, every row once. One campaign a durability grade (`FULL`: fills, `NORMAL`:
outcomes).

Flips: one random bit of a checkpointed ledger file, or of an archived Parquet file, then everything is read. An error
or the truth is fine; anything else is silent, also a row that is missing. What carries no checksum (experiments,
alerts, deliveries, job runs, trading states, keys) is counted too and told in the log, not in the result.
"""

from __future__ import annotations

import multiprocessing
import pickle
import random
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from mlops.errors import MlopsError
from mlops.io.ledger import BundleRow, Ledger
from mlops.io.ledger.group_commit import Writer
from mlops.io.storage.arrow import copied
from mlops.io.storage.insert import Rows, fill_rows, outcome_rows, quote_rows
from mlops.io.storage.row_counts import HOUR_US
from mlops.io.storage.schema import quotes
from mlops.io.storage.windows import microseconds
from mlops.types import Alert, Priority

PRODUCERS = 4
BATCH_ROWS = 3
LATEST_S = 0.4  # a kill comes at most so long after the first acknowledgement
FLIPS_A_KILL = 10  # 100 kills: 1,000 flips of the ledger, and a tenth of it of the archive
T0 = datetime(2024, 1, 2, tzinfo=UTC)
END = datetime(2030, 1, 1, tzinfo=UTC)
ACKNOWLEDGED = struct.Struct("<ii")
NAMES = ("return", "range", "calm")
WARM = ("mlops.io.ledger.group_commit", "mlops.io.ledger")


def run(n: int, seed: int, progress: Callable[[str], None] = lambda _: None) -> dict[str, int]:
    """n kills, half of them for each grade, and 10 n flips.

    Returns
    -------
    dict
        `ledger_kills`, `rows_lost`, `rows_doubled`, `bitflips_silent`.
    """
    lost = doubled = 0
    with TemporaryDirectory() as folder:
        for grade, kills in (("FULL", n - n // 2), ("NORMAL", n // 2)):
            url = f"sqlite:///{Path(folder) / grade}.db"
            found = killed(url, kills, random.Random(f"{seed} {grade}"), durable=grade == "FULL")
            progress(f"{grade}: {found}")
            lost, doubled = lost + found["lost"], doubled + found["doubled"]
    with TemporaryDirectory() as folder:
        silent = flipped(Path(folder), FLIPS_A_KILL * n, random.Random(f"{seed} flips"), progress)
    return {"ledger_kills": n, "rows_lost": lost, "rows_doubled": doubled, "bitflips_silent": silent}


def killed(url: str, kills: int, rng: random.Random, *, durable: bool) -> dict[str, int]:
    """Kill a writer so many times, then count. Each resends what the one before had not acknowledged."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(WARM))
    done = [0] * PRODUCERS  # batches acknowledged, by producer
    for left in reversed(range(kills)):  # the last one gets to acknowledge something in any case
        after_s = rng.random() * LATEST_S if left else LATEST_S
        _one_kill(context, url, done, after_s, durable=durable)
    with Ledger(url) as ledger:
        return {"kills": kills, "acknowledged": sum(done) * BATCH_ROWS} | _counted(ledger, done, durable=durable)


def _one_kill(context: Any, url: str, done: list[int], after_s: float, *, durable: bool) -> None:
    """Start, wait for the first acknowledgement (a quarter: not even for it), kill, read what was said before."""
    receiver, sender = context.Pipe(duplex=False)
    writer = context.Process(target=produce, args=(url, list(done), sender, durable))
    writer.start()
    sender.close()
    if after_s > LATEST_S / 4:  # the others die while they open and recover
        receiver.poll(30)
    end = time.monotonic() + after_s
    with suppress(EOFError, OSError):
        while (left := end - time.monotonic()) > 0:
            if receiver.poll(left):
                _acknowledge(receiver, done)
    writer.kill()
    writer.join()
    with suppress(EOFError, OSError):
        while True:
            _acknowledge(receiver, done)


def _acknowledge(receiver: Connection, done: list[int]) -> None:
    producer, batch = ACKNOWLEDGED.unpack(receiver.recv_bytes())
    if batch != done[producer]:
        raise AssertionError(f"batches must be acknowledged in order, got {batch} after {done[producer]} of {producer}")
    done[producer] += 1


def produce(url: str, done: list[int], sender: Connection, durable: bool) -> None:
    """The process that is killed: four producers, one writer."""
    turn = threading.Lock()

    def work(producer: int) -> None:
        batch = done[producer]
        while True:
            writer.submit(rows(producer, batch, durable=durable)).result()
            with turn:
                sender.send_bytes(ACKNOWLEDGED.pack(producer, batch))
            batch += 1

    with Ledger(url) as ledger, Writer(ledger) as writer:
        threads = [threading.Thread(target=work, args=(producer,), daemon=True) for producer in range(PRODUCERS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def rows(producer: int, batch: int, *, durable: bool) -> Rows:
    """The same rows for the same batch, whoever makes them."""
    ids = [f"{producer}-{batch}-{i}" for i in range(BATCH_ROWS)]
    at = pd.Timestamp(T0 + timedelta(minutes=batch))
    if durable:
        frame = pd.DataFrame({"fill_id": ids, "model": "kill", "version": 1, "book": "b", "unit": f"U{producer}"})
        return fill_rows(frame.assign(event_time=at, quantity=1.0, price=1.0, fee=0.0))
    frame = pd.DataFrame({"model": "kill", "unit": ids, "event_time": at, "known_at": at})
    return outcome_rows(frame.assign(label=1.0, value=float(batch)))


def _counted(ledger: Ledger, done: list[int], *, durable: bool) -> dict[str, int]:
    """Acknowledged rows that are gone, rows that are there twice, and what the ledger's own check says."""
    problems = ledger.audit.verify()
    if problems:
        raise AssertionError(f"ledger must be whole after the kills, got {problems}")
    table, key = ("fills", "fill_id") if durable else ("outcomes", "unit")
    with ledger.reading() as connection:
        there = [str(row[0]) for row in connection.execute(text(f"SELECT {key} FROM {table}"))]
    promised = {f"{p}-{b}-{i}" for p, n in enumerate(done) for b in range(n) for i in range(BATCH_ROWS)}
    found = {"lost": len(promised - set(there)), "doubled": len(there) - len(set(there))}
    if durable:  # what matters of a doubled fill is the position
        found["doubled"] += abs(int(ledger.telemetry.positions("kill", "b")["quantity"].sum()) - len(set(there)))
    return found


def flipped(folder: Path, n: int, rng: random.Random, progress: Callable[[str], None] = lambda _: None) -> int:
    """Flip n bits of a ledger and n / 10 of its archive, one at a time; how many were read as data."""
    path, archive = folder / "truth.db", folder / "archive"
    with Ledger(f"sqlite:///{path}") as ledger:
        fill(ledger)
        ledger.archive.copy_closed(archive, before=END, at=END)
        truth = [_read(guarded(ledger), []), _read(unguarded(ledger), [])]
        files = _read(archived(ledger, archive), [])
    _checkpoint(path)
    counts = {"error": 0, "same": 0, "silent": 0, "silent without checksum": 0}
    raw, confused = path.read_bytes(), list[str]()
    for _ in range(n):
        bit = rng.randrange(len(raw) * 8)
        counts[_flip(raw, bit, folder / "flipped.db", truth, confused)] += 1
    progress(f"ledger of {len(raw)} bytes, {n} flips: {counts}; unclear errors: {confused}")
    return counts["silent"] + _flip_archive(path, archive, n // 10, rng, files, progress)


def _flip(raw: bytes, bit: int, path: Path, truth: list[dict[str, bytes]], confused: list[str]) -> str:
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    data = bytearray(raw)
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    try:
        with Ledger(f"sqlite:///{path}") as ledger:
            found, other = _read(guarded(ledger), confused), _read(unguarded(ledger), [])
    except (MlopsError, SQLAlchemyError):
        return "error"
    if any(found[name] not in (b"", truth[0][name]) for name in found):
        return "silent"
    if any(other[name] not in (b"", truth[1][name]) for name in other):
        return "silent without checksum"
    return "error" if b"" in [*found.values(), *other.values()] else "same"


def _flip_archive(
    path: Path, archive: Path, n: int, rng: random.Random, truth: dict[str, bytes], progress: Callable[[str], None]
) -> int:
    files = sorted(archive.rglob("*.parquet"))
    counts = {"error": 0, "same": 0, "silent": 0}
    with Ledger(f"sqlite:///{path}") as ledger:
        for _ in range(n):
            file = rng.choice(files)
            raw = file.read_bytes()
            data = bytearray(raw)
            bit = rng.randrange(len(raw) * 8)
            data[bit // 8] ^= 1 << bit % 8
            file.write_bytes(data)
            found = _read(archived(ledger, archive), [])
            wrong = any(found[name] not in (b"", truth[name]) for name in truth)
            counts["silent" if wrong else "error" if b"" in found.values() else "same"] += 1
            file.write_bytes(raw)
    progress(f"archive of {len(files)} files, {n} flips: {counts}")
    return counts["silent"]


def _checkpoint(path: Path) -> None:
    """One file, as a backup would copy it."""
    with Ledger(f"sqlite:///{path}") as ledger, ledger.engine.connect() as connection:
        raw: Any = connection.connection.driver_connection
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def fill(ledger: Ledger) -> None:
    """Rows in every table that is read below: two versions of a model, 20 units, 60 bars a minute apart."""
    rng = np.random.default_rng(3)
    n = 20 * 60
    at = pd.DatetimeIndex(np.repeat(pd.date_range(T0, periods=60, freq="min"), 20))
    units = [f"U{i:02d}" for i in range(20)] * 60
    base = pd.DataFrame({"model": "m", "unit": units, "event_time": at, "known_at": at})
    for version in (1, 2):
        made = base.assign(version=version, matures_at=at, role="champion", probability=rng.random(n))
        ledger.telemetry.add_predictions(made, rng.normal(size=(n, 3)).astype(np.float32), NAMES, "0" * 32)
    ledger.telemetry.add_outcomes(base.assign(label=1.0, value=rng.normal(size=n))[: n - 100])
    ids = [f"fill-{i}" for i in range(n)]
    trades = base.assign(fill_id=ids, version=1, book="paper", quantity=rng.normal(size=n), price=1.5, fee=0.25)
    ledger.telemetry.add_fills(trades)
    sides = {"bid": 1 + rng.random(n), "ask": 3.0, "bid_size": 1.0, "ask_size": 2.0}
    ledger.telemetry.store(quote_rows(base.assign(**sides)))
    for version in range(1, 41):
        spans = {"train_start": T0, "train_end": T0, "registered_at": T0}
        ledger.registry.add_bundle(BundleRow("m", version, f"d{version}", "run", "id", horizon_bars=5, **spans))
        why = {"actor": "a", "reason": "r", "evidence_run": "e", "correlation_id": "c"}
        entry = ledger.registry.append_promotion(
            "m", expected=version - 1 or None, to=version, kind="promote", at=T0, **why
        )
        ledger.registry.settle_promotion(entry.id, "applied", T0)
        ledger.alerts.add(Alert(f"rollback:k:{version}", Priority.LOW, "m", "title", T0, {"n": version}))


def guarded(ledger: Ledger) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every reading of what carries a checksum."""
    whole = {"start": T0, "end": END, "as_of": END}
    part = {"start": T0 + timedelta(minutes=7), "end": T0 + timedelta(minutes=40), "as_of": T0 + timedelta(minutes=30)}
    for version in (1, 2):
        yield f"predictions {version}", lambda v=version: ledger.telemetry.predictions("m", version=v, **whole)
    yield "predictions", lambda: ledger.telemetry.predictions("m", **part)
    yield "matured", lambda: ledger.telemetry.matured("m", **whole)
    yield "pending", lambda: ledger.telemetry.pending("m", as_of=END)
    yield "latest", lambda: ledger.telemetry.latest_event_time("m")
    yield "positions", lambda: ledger.telemetry.positions("m", "paper")
    yield "quotes", lambda: _quotes(ledger)
    yield "bundles", lambda: ledger.registry.bundles("m")
    yield "bundle", lambda: ledger.registry.bundle("m", 7)
    yield "promotions", lambda: ledger.registry.promotions("m")
    yield "champion", lambda: ledger.registry.champion("m")


def _quotes(ledger: Ledger) -> Any:
    with ledger.reading() as connection:
        start = microseconds(T0)
        units = [f"U{i:02d}" for i in range(20)]
        return copied(connection, quotes, start, units, end=start + 2 * HOUR_US).to_pydict()


def unguarded(ledger: Ledger) -> Iterator[tuple[str, Callable[[], Any]]]:
    """What has no checksum."""
    yield "alerts", lambda: ledger.alerts.newest(open_only=False)
    yield "events", lambda: ledger.outbox.events(0, 1000)


def archived(ledger: Ledger, folder: Path) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every table of the archive."""
    for table in ("predictions", "outcomes", "quotes", "fills"):
        yield table, lambda t=table: ledger.archive.read(folder, t, start=T0, end=END)


def _read(readings: Iterator[tuple[str, Callable[[], Any]]], confused: list[str]) -> dict[str, bytes]:
    """What each reading gave, to compare; empty where it raised one of our errors or SQLAlchemy's."""
    found = {}
    for name, act in readings:
        try:
            found[name] = pickle.dumps(_plain(act()))
        except (MlopsError, SQLAlchemyError):
            found[name] = b""
        except (ValueError, TypeError) as error:  # an error all the same, but one that says little
            found[name] = b""
            confused.append(f"{name}: {type(error).__name__}")
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, pd.DataFrame):
        return [(name, _column(value[name])) for name in value.columns]
    if isinstance(value, np.ndarray):
        return value.tobytes()
    return [_plain(x) for x in value] if isinstance(value, tuple | list) else repr(value)


def _column(values: pd.Series[Any]) -> bytes:
    if values.dtype == object:
        return repr(values.tolist()).encode()
    return (values.astype("int64") if isinstance(values.dtype, pd.DatetimeTZDtype) else values).to_numpy().tobytes()
