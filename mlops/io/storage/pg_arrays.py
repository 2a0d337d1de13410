"""Columns as PostgreSQL's arrays in their binary form, packed at once; psycopg writes a list value by value, as text.

The format is the server's own (`array_recv`): dimensions, NULLs, type, length and lower bound, then each value behind
its length, in network order. Nothing here is NULL.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import psycopg
from psycopg.adapt import Buffer, Dumper
from psycopg.pq import Format
from sqlalchemy import BigInteger, Float, Integer, LargeBinary
from sqlalchemy.types import TypeEngine

from mlops.errors import DataError
from mlops.io.storage.utc_time import UtcTime

HEAD, LENGTH = struct.Struct(">iiiii"), struct.Struct(">i")
FEW = 8  # times that a text must come, on average, for a look at what was encoded to be quicker than encoding
NUMBERS = {"int8": ">i8", "int4": ">i4", "float8": ">f8"}


class Packed(bytes):
    """An array of one type; each type is a class of its own, by which psycopg tells it to the server."""


def packed(kind: TypeEngine[Any], values: Sequence[Any]) -> Packed:
    """A column of checked values.

    Raises
    ------
    DataError
        A number is missing.
    """
    name = _name(kind)
    array, element = psycopg.adapters.types[name].array_oid, psycopg.adapters.types[name].oid
    head = HEAD.pack(1, 0, element, len(values), 1)
    body = _numbers(NUMBERS[name], values) if name in NUMBERS else _texts(values)
    return ARRAYS[array](head + body)


def _name(kind: TypeEngine[Any]) -> str:
    if isinstance(kind, UtcTime | BigInteger):
        return "int8"
    if isinstance(kind, Integer):
        return "int4"
    if isinstance(kind, Float):
        return "float8"
    return "bytea" if isinstance(kind, LargeBinary) else "text"


def _numbers(form: str, values: Sequence[Any]) -> bytes:
    given = np.asarray(values)
    if given.dtype.kind not in "iuf":
        raise DataError(f"values must be numbers, got {given.dtype}. Fill in what is missing.")
    items = np.empty(len(values), dtype=[("length", ">i4"), ("value", form)])
    items["length"], items["value"] = items.dtype["value"].itemsize, given
    return items.tobytes()


def _texts(values: Sequence[str | bytes]) -> bytes:
    """Each text behind its length; one that comes again (a model, a unit) is encoded once."""
    distinct = set(values)
    if len(distinct) * FEW < len(values):
        images = {value: _framed([value]) for value in distinct}
        return b"".join(map(images.__getitem__, values))
    return _framed(values)


def _framed(values: Sequence[str | bytes]) -> bytes:
    plain = [value if isinstance(value, bytes) else value.encode() for value in values]
    return b"".join(chain.from_iterable(zip(map(LENGTH.pack, map(len, plain)), plain, strict=True)))


def _array(oid: int) -> type[Packed]:
    """The class of an array type, made known to psycopg."""

    class Array(Packed):
        pass

    class ArrayDumper(Dumper):
        format = Format.BINARY

        def dump(self, obj: Packed) -> Buffer:
            return bytes(obj)

    ArrayDumper.oid = oid
    psycopg.adapters.register_dumper(Array, ArrayDumper)
    return Array


ARRAYS = {oid: _array(oid) for oid in (psycopg.adapters.types[n].array_oid for n in (*NUMBERS, "text", "bytea"))}
