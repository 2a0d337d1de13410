"""kill -9 of a writer and flipped bits. The short form; `make faults` is the long one."""

import random
import secrets

import pytest

from benchmarks.faults import ledger as campaign


def test_no_kill_loses_or_doubles_a_row_and_no_flipped_bit_is_read_as_data():
    seed, said = secrets.randbelow(2**31), []

    found = campaign.run(4, seed, said.append)

    expected = {"ledger_kills": 4, "rows_lost": 0, "rows_doubled": 0, "bitflips_silent": 0}
    assert expected == found, f"seed {seed}: " + "\n".join(said)


@pytest.mark.parametrize("durable", [True, False])
def test_no_kill_of_a_writer_loses_or_doubles_a_row(url, durable):
    seed = secrets.randbelow(2**31)

    found = campaign.killed(url, 3, random.Random(seed), durable=durable)

    assert (0, 0) == (found["lost"], found["doubled"]), f"seed {seed}: {found}"
    assert found["acknowledged"] > 0, f"seed {seed}: {found}"
