"""Archives that somebody made to hurt: nothing outside the fresh folder is touched, and the message says what is wrong."""

import gzip
import io
import os
import random
import tarfile
import tracemalloc

import pyarrow as pa
import pytest

from jobs.stack.backup import backup, restore
from jobs.stack.safe_tar import HEADERS, untar
from jobs.stack.servers import own_secret
from mlops.errors import CorruptionError, MlopsError
from mlops.settings import Settings
from tests.jobs.stack.test_backup import NOW

KINDS = (tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)


def _packed(path, members):
    """A compressed archive of (name, content or type, more fields of the member)."""
    with (
        pa.CompressedOutputStream(str(path), "gzip") as stream,
        tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, content, *more in members:
            member, kind = tarfile.TarInfo(name), content in KINDS
            member.type, member.size = (content, 0) if kind else (tarfile.REGTYPE, len(content))
            for field, value in (more or [{}])[0].items():
                setattr(member, field, value)
            tar.addfile(member, None if kind else io.BytesIO(content))
    return path


def _untar(path, to, most_bytes=2**30):
    to.mkdir(exist_ok=True)
    untar(path, "gzip", to, most_bytes)


def _cve_2025_4517():
    """Links whose resolved path is longer than the system takes: Python's filter then checks another one."""
    step, deep, members = "d" * 247, "", []
    for letter in "abcdefghijklmnop":
        members.append((os.path.join(deep, step), tarfile.DIRTYPE))
        members.append((os.path.join(deep, letter), tarfile.SYMTYPE, {"linkname": step}))
        deep = os.path.join(deep, step)
    long = os.path.join("/".join("abcdefghijklmnop"), "l" * 254)
    members.append((long, tarfile.SYMTYPE, {"linkname": "../" * 16}))
    members.append(("escape", tarfile.SYMTYPE, {"linkname": f"{long}/../outside"}))
    members.append(("door", tarfile.LNKTYPE, {"linkname": "escape/victim"}))
    return [*members, ("door", b"overwritten")]


HOSTILE = {
    "a parent": [("../victim", b"x")],
    "a parent further in": [("a/../../victim", b"x")],
    "an absolute name": [("/tmp/victim", b"x")],
    "a backslash": [("..\\victim", b"x")],
    "a line break": [("a\nb", b"x")],
    "a link out": [("a", tarfile.SYMTYPE, {"linkname": "../outside"}), ("a/victim", b"x")],
    "a link inside": [("a", tarfile.SYMTYPE, {"linkname": "b"})],
    "a hard link": [("a", tarfile.LNKTYPE, {"linkname": "../outside/victim"})],
    "a pipe": [("a", tarfile.FIFOTYPE)],
    "a device": [("a", tarfile.CHRTYPE, {"devmajor": 1, "devminor": 5})],
    "a name twice": [("a", b"x"), ("a", b"y")],
    "a name twice, written otherwise": [("a", b"x"), ("./a", b"y")],
    "a file and a folder of one name": [("a", b"x"), ("a/b", b"y")],
    "more than there is room for": [("a", bytes(2000))],
    "a sparse file": [("a", b"x", {"pax_headers": {"GNU.sparse.map": "0,1", "GNU.sparse.size": "99999999999999"}})],
    "CVE-2025-4517": _cve_2025_4517(),
}


@pytest.mark.parametrize("how", HOSTILE)
def test_what_a_hostile_archive_aims_at_is_not_touched(tmp_path, how):
    victim = tmp_path / "outside" / "victim"
    victim.parent.mkdir()
    victim.write_text("mine")
    archive = _packed(tmp_path / "bad.tar.gz", HOSTILE[how])

    with pytest.raises(CorruptionError, match=r"must (hold|have|be readable)"):
        _untar(archive, tmp_path / "into", 1000)

    assert "mine" == victim.read_text()
    assert not (tmp_path / "victim").exists()
    assert not [path for path in (tmp_path / "into").rglob("*") if path.is_symlink()]


def test_modes_that_an_archive_asks_for_are_not_given(tmp_path):
    _untar(_packed(tmp_path / "a.tar.gz", [("a/b", b"x", {"mode": 0o4777})]), tmp_path / "into")

    assert (0o700, 0o600) == tuple((tmp_path / "into" / name).stat().st_mode & 0o7777 for name in ("a", "a/b"))


@pytest.mark.parametrize("content", [b"", b"\x00", b"\x1f\x8b", b"no archive at all", bytes(2000)])
@pytest.mark.parametrize("ending", ["tar.gz", "tar.zst"])
def test_what_is_no_archive_is_said_to_be_none(tmp_path, content, ending):
    (tmp_path / f"a.{ending}").write_bytes(content)

    with pytest.raises(CorruptionError):
        restore(Settings(state=tmp_path / "new"), tmp_path / f"a.{ending}", NOW)


def test_a_folder_with_a_link_in_it_is_refused(tmp_path):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "a").symlink_to("/etc/passwd")

    with pytest.raises(CorruptionError, match="regular file or a folder"):
        restore(Settings(state=tmp_path / "new"), tmp_path / "copy", NOW)


@pytest.mark.parametrize(
    "manifest", [b"", b"[]", b"{}", b'{"files": 1}', b'{"format": 1, "files": {"a": {"sha256": 1}}}', b"\xff"]
)
def test_a_manifest_that_is_none_is_refused_without_a_trace(tmp_path, manifest):
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "manifest.json").write_bytes(manifest)

    with pytest.raises(CorruptionError, match=r"readable manifest\.json"):
        restore(Settings(state=tmp_path / "new"), tmp_path / "copy", NOW)


@pytest.mark.parametrize("ending", ["tar.gz", "tar.zst"])
def test_no_flip_of_a_bit_and_no_cut_ends_in_anything_but_our_own_error_or_the_same_files(tmp_path, ending):
    settings = Settings(state=tmp_path / "live")
    secret = own_secret(settings.state, "webhook")
    whole = tmp_path / f"copy.{ending}"
    backup(settings, whole, NOW)
    content, rng = whole.read_bytes(), random.Random(1)
    for turn in range(150):
        changed = bytearray(content)
        if turn % 3:
            changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        else:
            changed = changed[: rng.randrange(len(content))]
        (tmp_path / f"bad.{ending}").write_bytes(changed)
        new = Settings(state=tmp_path / f"new{turn}")
        try:
            restore(new, tmp_path / f"bad.{ending}", NOW)
        except MlopsError:
            assert not new.state.exists()
        else:
            assert secret == (new.state / "secrets" / "webhook").read_text()


def _headers(path, kind, sizes, content=b"\0" * 2**20):
    """An archive of headers that announce so many bytes and have them, each before a folder."""
    with gzip.open(path, "wb", 1) as file:
        for size in sizes:
            header = tarfile.TarInfo("x")
            header.type, header.size = kind, size
            file.write(header.tobuf(tarfile.USTAR_FORMAT))
            for _ in range(size // len(content)):
                file.write(content)
            folder = tarfile.TarInfo("a")
            folder.type = tarfile.DIRTYPE
            file.write(folder.tobuf())
        file.write(b"\0" * 1024)
    return path


@pytest.mark.parametrize("kind", [*HEADERS, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE])
def test_headers_that_would_fill_the_memory_are_not_read(tmp_path, kind):
    source = _headers(tmp_path / "a.tar.gz", kind, [200 * 2**20])
    tracemalloc.start()
    try:
        with pytest.raises(CorruptionError, match="must be readable, got ReadError: a header of"):
            _untar(source, tmp_path / "to")
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


def test_a_chain_of_headers_and_a_path_without_end_are_our_own_errors(tmp_path):
    with gzip.open(tmp_path / "chain.tar.gz", "wb") as file:
        header = tarfile.TarInfo("x")
        header.type = tarfile.XHDTYPE
        file.write(header.tobuf(tarfile.USTAR_FORMAT) * 5000)
    with pytest.raises(CorruptionError, match="RecursionError"):
        _untar(tmp_path / "chain.tar.gz", tmp_path / "to")
    deep = _packed(tmp_path / "deep.tar.gz", [("a/" * 1800 + "f", b"x")])
    with pytest.raises(CorruptionError, match="at most 64 deep, got 1801") as told:
        _untar(deep, tmp_path / "to")
    assert len(str(told.value)) < 600
