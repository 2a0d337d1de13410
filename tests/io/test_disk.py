"""A full disk: nothing crashes, nothing that was acknowledged is lost, the flag goes up and comes down by itself."""

import os
import sqlite3
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import psycopg.errors
import pytest
from sqlalchemy.exc import DBAPIError, OperationalError

from mlops.errors import CorruptionError, DiskFull, StorageError
from mlops.io.ledger import Ledger
from mlops.io.ledger.group_commit import Writer
from mlops.io.storage import disk as health
from mlops.io.storage.disk import MIB, Disk, translated
from mlops.types import Alert, Priority


@pytest.fixture
def small(tmp_path):
    """A disk of 8 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        why = f"a small disk could not be mounted ({done.stderr.strip()}); run as root with CAP_SYS_ADMIN"
        if os.environ.get("CI") and os.geteuid() == 0:
            pytest.fail(why)
        pytest.skip(why)
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.fixture
def clock():
    """Seconds, moved by hand."""
    return _Clock()


class _Clock:
    now = 0.0

    def read(self):
        return self.now


def _filled_up(ledger, make):
    """Submit until the disk is full; how many rows were acknowledged, and the error."""
    stored, day = 0, 0
    while True:
        try:
            stored += ledger.telemetry.add_outcomes(make.outcomes([(f"unit number {i}", day) for i in range(200)]))
        except DiskFull as error:
            return stored, str(error)
        day += 1


def _alert(make, key):
    return Alert(f"disk_low:{key}", Priority.HIGH, "", "disk full", make.at(0))


def test_a_full_disk_raises_the_flag_keeps_what_was_acknowledged_and_recovers_by_itself(small, make, clock):
    other = small / "somebody else's"
    other.write_bytes(bytes(4 * MIB))
    disk = Disk(small, ballast_mib=1, clock=clock.read)
    with Ledger(f"sqlite:///{small / 'ledger.db'}", disk) as ledger:
        assert "" == ledger.degraded()
        assert MIB == disk.ballast.stat().st_size

        stored, why = _filled_up(ledger, make)
        assert "must have room" in why
        assert "is full" in ledger.degraded()
        assert not disk.ballast.exists()
        count = {"start": make.at(0), "end": make.at(9999), "as_of": make.at(99999)}
        assert [] == ledger.audit.verify()
        with ledger.reading() as connection:
            assert stored == connection.exec_driver_sql("SELECT count(*) FROM outcomes").scalar()
        assert ledger.telemetry.matured("volatility", **count).empty

        clock.now += health.CHECK_S  # telemetry stays out, what someone relies on goes into the ballast's room
        with pytest.raises(DiskFull, match="is full"):
            ledger.telemetry.add_outcomes(make.outcomes([("late", 0)]))
        assert ledger.alerts.add(_alert(make, "disk"))
        assert "is full" in ledger.degraded()

        other.unlink()
        clock.now += health.CHECK_S
        assert "" == ledger.degraded()
        assert MIB == disk.ballast.stat().st_size
        assert 1 == ledger.telemetry.add_outcomes(make.outcomes([("late", 0)]))
        assert ["disk_low:disk"] == [alert.key for alert in ledger.alerts.newest()]


def test_the_writer_tells_every_caller_that_the_disk_is_full_and_goes_on_afterwards(small, make, clock):
    other = small / "somebody else's"
    other.write_bytes(bytes(4 * MIB))
    with Ledger(f"sqlite:///{small / 'ledger.db'}", Disk(small, ballast_mib=1, clock=clock.read)) as ledger:

        def submit(day):
            return writer.submit_outcomes(make.outcomes([(f"unit number {i}", day) for i in range(300)]))

        with Writer(ledger) as writer, ThreadPoolExecutor(4) as pool:
            futures = list(pool.map(submit, range(200)))
            errors = [future.exception(60) for future in futures]
            assert any(isinstance(error, DiskFull) for error in errors)
            assert all(error is None or isinstance(error, DiskFull) for error in errors)
            stored = sum(future.result() for future in futures if future.exception() is None)
            other.unlink()
            clock.now += health.CHECK_S
            assert 300 == submit(999).result(60)
        with ledger.reading() as connection:
            assert stored + 300 == connection.exec_driver_sql("SELECT count(*) FROM outcomes").scalar()


def test_retention_works_on_a_full_disk(small, make, clock, tmp_path):
    (small / "somebody else's").write_bytes(bytes(3 * MIB))
    with Ledger(f"sqlite:///{small / 'ledger.db'}", Disk(small, ballast_mib=2, clock=clock.read)) as ledger:
        assert "" == ledger.degraded()
        assert (small / "ballast").exists()
        stored, _ = _filled_up(ledger, make)

        assert stored > ledger.archive.prune(tmp_path / "archive", before=make.at(3), at=make.at(9))["outcomes"] > 0


def test_a_ledger_opens_on_a_disk_without_room_for_one_byte_and_takes_an_alert(small, make, clock):
    url = f"sqlite:///{small / 'ledger.db'}"
    with Ledger(url, Disk(small, ballast_mib=2, clock=clock.read)) as ledger:
        ledger.degraded()
    with suppress(OSError), (small / "somebody else's").open("ab", buffering=0) as file:
        while True:
            file.write(bytes(4096))

    began = time.monotonic()
    with Ledger(url, Disk(small, ballast_mib=2, clock=clock.read)) as ledger:  # no room even for the journal's index
        assert ledger.alerts.add(_alert(make, "full"))
        assert "is full" in ledger.degraded()
    with Ledger(url, Disk(small, ballast_mib=2)) as ledger:
        assert ["disk_low:full"] == [alert.key for alert in ledger.alerts.newest()]
    assert time.monotonic() - began < 10  # and does not try for half a minute


def test_little_room_is_reported_while_writes_go_on(tmp_path, make, clock):
    disk = Disk(tmp_path, min_free_mib=2**40, clock=clock.read)
    with Ledger(f"sqlite:///{tmp_path / 'ledger.db'}", disk) as ledger:
        assert "MiB free, less than" in ledger.degraded()
        assert 1 == ledger.telemetry.add_outcomes(make.outcomes([("A", 0)]))


def test_a_ballast_that_somebody_took_away_is_put_back(tmp_path, clock):
    disk = Disk(tmp_path, ballast_mib=1, clock=clock.read)
    assert "" == disk.degraded()
    disk.ballast.unlink()
    clock.now += health.CHECK_S

    assert "" == disk.degraded()
    assert disk.ballast.exists()


def test_a_full_server_is_reported_and_tried_again(clock):
    disk = Disk(None, clock=clock.read)
    full = OperationalError("INSERT", {}, psycopg.errors.DiskFull("could not extend file"))

    assert isinstance(translated(full, disk), DiskFull)
    assert "could not extend file" in disk.degraded()
    clock.now += health.LAPSE_S
    assert "" == disk.degraded()


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OperationalError("", {}, psycopg.errors.DataCorrupted("bad page")), CorruptionError),
        (OperationalError("", {}, psycopg.errors.AdminShutdown("bye")), StorageError),
        (sqlite3.OperationalError("database is locked"), StorageError),
        (sqlite3.OperationalError("Could not decode to UTF-8 column 'unit'"), CorruptionError),
        (sqlite3.IntegrityError("UNIQUE constraint failed"), sqlite3.IntegrityError),
        (DBAPIError("", {}, psycopg.errors.NumericValueOutOfRange("no")), DBAPIError),
    ],
)
def test_errors_of_the_driver_are_told_in_our_words(error, kind):
    assert isinstance(translated(error, Disk(None)), kind)
