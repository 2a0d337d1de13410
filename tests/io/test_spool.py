"""A queue on disk: nothing that was appended is lost to a kill, nothing damaged is taken for a record."""

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from mlops.io.spool import Reader, Spool, SpoolFull

WRITER = """
import sys
from pathlib import Path
from mlops.io.spool import Spool
spool = Spool(Path(sys.argv[1]), 2**30)
for i in range(10**9):
    spool.append(f"{sys.argv[2]}:{i}".encode())
    sys.stdout.write(f"{i}\\n")
    sys.stdout.flush()
"""


def taken(folder, reader=None):
    found = []
    (reader or Reader(folder)).take(found.extend)
    return found


def test_records_come_out_once_and_in_order_also_while_they_are_written(tmp_path):
    spool, reader = Spool(tmp_path, 2**20), Reader(tmp_path)
    spool.append(b"a")
    first = taken(tmp_path, reader)
    spool.append(b"b")
    assert not spool.empty()

    assert ([b"a"], [b"b"], []) == (first, taken(tmp_path, reader), taken(tmp_path, reader))
    spool.close()
    assert [] == taken(tmp_path, reader)
    assert [] == [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


def test_a_reader_that_dies_before_it_is_done_takes_the_same_again(tmp_path):
    spool = Spool(tmp_path, 2**20)
    spool.append(b"a")

    def fails(records):
        raise ConnectionError

    reader = Reader(tmp_path)
    with pytest.raises(ConnectionError):
        reader.take(fails)
    assert [b"a"] == taken(tmp_path, reader)
    assert [b"a"] == taken(tmp_path)  # another process knows nothing of the first


def test_no_kill_of_a_writer_loses_a_record_that_it_had_appended(tmp_path):
    reader, told = Reader(tmp_path), []
    rng = random.Random(5)
    for name in ("one", "two", "three"):
        child = subprocess.Popen([sys.executable, "-c", WRITER, str(tmp_path), name], stdout=subprocess.PIPE, text=True)
        last = next(child.stdout)
        time.sleep(rng.uniform(0.05, 0.2))
        os.kill(child.pid, signal.SIGKILL)
        for line in child.stdout:
            last = line if line.endswith("\n") else last
        child.wait()
        told.append((name, int(last)))
        child.stdout.close()

    found = taken(tmp_path, reader)

    for name, last in told:
        mine = [record.decode() for record in found if record.decode().startswith(f"{name}:")]
        assert [f"{name}:{i}" for i in range(len(mine))] == mine
        assert len(mine) > last
    assert [] == list(tmp_path.glob("*.open"))


@pytest.mark.parametrize("harm", ["torn", "flipped"])
def test_a_torn_or_changed_record_is_put_aside_and_the_good_ones_before_it_are_taken(tmp_path, harm):
    spool = Spool(tmp_path, 2**20)
    for record in (b"first", b"second"):
        spool.append(record)
    spool.close()
    path = next(tmp_path.glob("*.closed"))
    data = bytearray(path.read_bytes())
    if harm == "torn":
        del data[-3:]
    else:
        data[-1] ^= 4
    path.write_bytes(data)
    reader = Reader(tmp_path)

    assert [b"first"] == taken(tmp_path, reader)
    assert 1 == reader.bad
    assert 1 == len(list(tmp_path.glob("*.bad")))
    assert [] == list(tmp_path.glob("*.closed"))


def test_past_its_bound_it_says_so_and_goes_on_when_there_is_room(tmp_path):
    spool, reader = Spool(tmp_path, 1000), Reader(tmp_path)

    def fill():
        for _ in range(100):
            spool.append(b"x" * 90)

    with pytest.raises(SpoolFull):
        fill()

    kept = taken(tmp_path, reader)
    assert not spool.empty()  # asks for the segment to be closed
    taken(tmp_path, reader)
    assert spool.empty()
    time.sleep(1.1)
    spool.append(b"y" * 90)
    assert 9 == len(kept)
    assert [b"y" * 90] == taken(tmp_path, reader)


def test_two_writers_share_a_folder_and_one_reader_has_it(tmp_path):
    spools = [Spool(tmp_path, 2**20) for _ in range(2)]
    threads = [
        threading.Thread(target=lambda s=s, i=i: [s.append(f"{i}:{j}".encode()) for j in range(500)])
        for i, s in enumerate(spools)
    ]
    first, second = Reader(tmp_path), Reader(tmp_path)
    assert first.locked() is not None
    assert second.locked() is None
    found = []
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        first.take(found.extend)
    first.take(found.extend)

    assert {f"{i}:{j}".encode() for i in range(2) for j in range(500)} == set(found)
    assert 1000 == len(found)
