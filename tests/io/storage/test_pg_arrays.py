"""Arrays in the server's binary form."""

import math

import numpy as np
import pytest
from sqlalchemy import BigInteger, Float, Integer, LargeBinary, Text, bindparam, func, select
from sqlalchemy.types import NULLTYPE

from mlops.errors import DataError
from mlops.io.storage.pg_arrays import packed
from mlops.io.storage.utc_time import UtcTime

COLUMNS = [
    (BigInteger(), [0, -1, 2**63 - 1, -(2**63)]),
    (UtcTime(), [1_772_485_200_000_000]),
    (Integer(), [0, -1, 2**31 - 1, -(2**31)]),
    (Float(53), [0.0, 1, -0.1, 5e-324, 1.7976931348623157e308, math.inf]),
    (Text(), ["", "a", "{}", '"\\', "NULL", "é\U0001f600", "x" * 10_000]),
    (LargeBinary(), [b"", b"\0\xff\\x", np.arange(5, dtype="<f4").tobytes()]),
    (Text(), []),
    (Text(), ["m", "", "é"] * 50),  # few different ones: each is encoded once
    (LargeBinary(), [b"\0", b""] * 50),
]


@pytest.mark.parametrize(("kind", "values"), COLUMNS, ids=lambda x: str(x)[:20])
def test_the_server_reads_what_was_packed(ledger, kind, values):
    if "postgresql" not in ledger.url:
        pytest.skip("the form is PostgreSQL's")
    with ledger.reading() as connection:
        column = func.unnest(bindparam("a", packed(kind, values), type_=NULLTYPE))
        assert values == [row[0] for row in connection.execute(select(column))]


def test_a_missing_number_is_not_turned_into_one():
    with pytest.raises(DataError, match="must be numbers"):
        packed(Float(53), [1.0, None])
