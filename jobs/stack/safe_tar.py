"""Unpacking what somebody else may have packed: regular files and folders, under names that stay inside, and no more.

Python's own filter of tar archives lets files out of their folder in releases before 3.11.13 (CVE-2025-4517), by way of
links. Here nothing is ever a link: members are read as streams and written to files that must not be there yet.
"""

from __future__ import annotations

import os
import shutil
import stat
import tarfile
from pathlib import Path, PurePosixPath
from typing import IO, Self

import pyarrow as pa

from mlops.errors import CorruptionError

PLAIN = (tarfile.REGTYPE, tarfile.AREGTYPE)  # neither links, devices and pipes, nor sparse files
BYTES_AT_ONCE = 2**20
HEADERS = (tarfile.XHDTYPE, tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK)  # say more of the next member
MOST_HEADER = 2**16  # bytes of one, which is read whole: a path has 4,096
SHOWN = 200  # characters of a name
DEEPEST = 64  # folders in each other; MLflow's artifacts have under twenty
REMEDY = "Nothing was changed; take another backup"


class Member(tarfile.TarInfo):
    """A member whose headers are small. Those for all members and lists of holes have no end: none of ours has any."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """The member of a block; raises ReadError before what it announces is read."""
        member = super().frombuf(buf, encoding, errors)
        if member.type in (tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE, tarfile.GNUTYPE_SPARSE):
            raise tarfile.ReadError(f"a header of kind {member.type!r}")
        if member.type in HEADERS and not 0 <= member.size <= MOST_HEADER:
            raise tarfile.ReadError(f"a header of {member.size} bytes, more than {MOST_HEADER}")
        return member


def untar(source: Path, compression: str, to: Path, most_bytes: int) -> None:
    """Unpack a compressed tar archive into an empty folder; files are for their owner alone.

    Parameters
    ----------
    most_bytes : int
        All files together may have so many.

    Raises
    ------
    CorruptionError
        It cannot be read, or holds something else than files and folders under plain names.
    """
    name, left = "its beginning", most_bytes
    try:
        with (
            pa.CompressedInputStream(pa.OSFile(str(source)), compression) as stream,
            tarfile.open(fileobj=stream, mode="r|", tarinfo=Member) as tar,
        ):
            for member in tar:
                name, target = member.name, to / _inside(member.name, source)
                if member.type == tarfile.DIRTYPE:
                    target.mkdir(parents=True, exist_ok=True, mode=0o700)
                    continue
                if member.type not in PLAIN or member.issparse():
                    raise CorruptionError(
                        f"{source} must hold regular files and folders, got {name!r} of another kind. {REMEDY}."
                    )
                left -= member.size
                if left < 0 or member.size < 0:
                    rule = f"files of {source} must have {most_bytes} bytes together, as there is room for, or less"
                    raise CorruptionError(f"{rule}, got more at {name!r}. Free some space, or take another backup.")
                content = tar.extractfile(member)
                if content is not None:
                    _write(content, target)
    except FileExistsError as error:
        raise CorruptionError(f"{source} must hold each name once, got {name!r} twice. {REMEDY}.") from error
    except (OSError, ValueError, OverflowError, EOFError, RecursionError, tarfile.TarError) as error:
        rule = f"{source} must be readable"
        raise CorruptionError(f"{rule}, got {type(error).__name__}: {error} at or after {name!r}. {REMEDY}.") from error


def copy_folder(source: Path, to: Path) -> None:
    """Copy a folder of regular files and folders into an empty one.

    Raises
    ------
    CorruptionError
        Something in it is a link, a pipe, a socket or a device.
    """
    with os.scandir(source) as scan:
        entries = list(scan)
    for entry in entries:
        kind = entry.stat(follow_symlinks=False).st_mode
        if stat.S_ISDIR(kind):
            (to / entry.name).mkdir(mode=0o700)
            copy_folder(Path(entry.path), to / entry.name)
        elif stat.S_ISREG(kind):
            with open(entry.path, "rb") as content:
                _write(content, to / entry.name)
        else:
            raise CorruptionError(f"{entry.path} must be a regular file or a folder, got another kind. {REMEDY}.")


def _inside(name: str, source: Path) -> PurePosixPath:
    """The name as a path that stays where it is put."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or "\\" in name or not name.isprintable():
        raise CorruptionError(f"{source} must hold names that stay inside, got {name[:SHOWN]!r}. {REMEDY}.")
    if len(path.parts) > DEEPEST:
        rule = f"{source} must hold folders at most {DEEPEST} deep"
        raise CorruptionError(f"{rule}, got {len(path.parts)} at {name[:SHOWN]!r}. {REMEDY}.")
    return path


def _write(content: IO[bytes], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(handle, "wb") as file:
        shutil.copyfileobj(content, file, BYTES_AT_ONCE)
