"""Tasks: the same numbers with any number of workers, and an error that names its task."""

import numpy as np
import pytest

from mlops.compute import SERIAL, Compute
from mlops.errors import DataError, SettingsError


def drawn(index, study, scale):
    """Seeded by the study and the item."""
    return scale * np.random.default_rng([study, index]).standard_normal(4)


def halved(number):
    if number % 2:
        raise DataError(f"number must be even, got {number}. Double it.")
    return number // 2


@pytest.mark.parametrize("threads", [False, True])
def test_the_numbers_and_their_order_are_the_same_with_any_number_of_workers(threads):
    expected = SERIAL.map(drawn, range(9), shared=(7, 2.0))
    for workers in (2, 3, -1):
        results = Compute(workers).map(drawn, range(9), shared=(7, 2.0), threads=threads)
        assert [result.tobytes() for result in expected] == [result.tobytes() for result in results]


def test_what_is_shared_and_large_reaches_every_task_whole():
    table = np.random.default_rng(0).standard_normal((400, 500))
    sums = Compute(2).map(np.multiply, [1.0, 2.0, 3.0], shared=(table,))
    assert all(np.array_equal(result, factor * table) for factor, result in zip((1.0, 2.0, 3.0), sums, strict=True))


def test_nothing_to_do_is_no_result():
    assert [] == Compute(2).map(halved, [])


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_keeps_its_class_and_names_the_task(workers):
    with pytest.raises(DataError, match="number must be even, got 5") as caught:
        Compute(workers).map(halved, [2, 4, 5, 6])
    assert ["in task 2 of halved, item 5"] == caught.value.__notes__


@pytest.mark.parametrize("workers", [0, -2])
def test_no_worker_at_all_is_refused(workers):
    with pytest.raises(SettingsError, match=f"workers must be at least 1, or -1, got {workers}"):
        Compute(workers)
