"""Row checksums: every flipped bit is found, and nothing that was written is taken for damage."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mlops.io.storage.checksum import MANY_TEXTS, _odds, checksums, matrix_sums, record_sum

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
STORABLE = st.characters(exclude_characters="\0", exclude_categories=["Cs"])  # what the ledger takes
WHOLE = st.integers(-(2**63), 2**63 - 1)


@example(number=2.0, whole=0, bit=62)
@example(number=float.fromhex("0x1.0000000000001p+1023"), whole=0, bit=52)  # becomes a signalling NaN
@given(FLOATS, WHOLE, st.integers(0, 63))
def test_every_single_bit_of_a_number_counts(number, whole, bit):
    def changed(value):
        return (value.view(np.uint64) ^ np.uint64(1 << bit)).view(value.dtype)

    x, i = np.array([number]) + 0.0, np.array([whole])
    before = checksums("fills", {"price": x, "version": i}, 1)

    assert before != checksums("fills", {"price": x, "version": changed(i)}, 1)
    other = changed(x)
    if other[0] != x[0]:  # -0.0 is 0.0 to SQLite
        assert before != checksums("fills", {"price": other, "version": i}, 1)


def test_every_single_bit_of_the_features_counts():
    features = np.random.default_rng(1).normal(size=(1, 40)).astype(np.float32)
    before = matrix_sums(features)
    for column in range(40):
        for bit in range(32):
            other = features.copy()
            other.view(np.uint32)[0, column] ^= np.uint32(1 << bit)
            assert before != matrix_sums(other)


def test_two_flips_cannot_cancel_each_other_out():
    """The same bit of two features cancels only if their multipliers agree, but for a sign, in the low 33 bits."""
    low = [(int(odd) % 2**33) for odd in _odds(1000)]

    assert 2 * len(low) == len({*low, *(2**33 - x for x in low)})
    signs = np.array([[-1.5, 2.5]]), np.array([[1.5, -2.5]])
    assert checksums("t", {"a": signs[0][:, 0], "b": signs[0][:, 1]}, 1) != checksums(
        "t", {"a": signs[1][:, 0], "b": signs[1][:, 1]}, 1
    )


def test_values_that_change_places_are_found():
    a, b = np.array([1.0, 2.0]), np.array([2.0, 1.0])

    assert not (checksums("t", {"a": a, "b": b}, 2) == checksums("t", {"a": b, "b": a}, 2)).any()
    assert not (checksums("t", {"a": a}, 2) == checksums("u", {"a": a}, 2)).any()


@given(st.lists(st.text(STORABLE, max_size=5), min_size=1, max_size=20), st.text(STORABLE, max_size=5))
def test_a_row_has_the_same_checksum_alone_and_among_others(texts, same):
    together = checksums("t", {"unit": texts, "model": same}, len(texts))
    alone = [checksums("t", {"model": [same], "unit": [text]}, 1)[0] for text in texts]

    assert alone == together.tolist()


def test_a_text_has_the_same_checksum_among_few_and_among_many():
    ids = [f"fill-{i}é" for i in range(MANY_TEXTS + 1)]
    few, many = checksums("t", {"fill_id": ids[:9]}, 9), checksums("t", {"fill_id": ids}, len(ids))

    assert few.tolist() == many[:9].tolist()


def test_blocks_do_not_show():
    n = 20_000
    x = np.random.default_rng(2).normal(size=n)

    assert checksums("t", {"x": x}, n)[-1] == checksums("t", {"x": x[-1:]}, 1)[0]
    assert matrix_sums(x.astype(np.float32).reshape(-1, 2))[-1] == matrix_sums(x[-2:].astype(np.float32)[None])[0]


@pytest.mark.parametrize("other", [{"a": 1, "b": None}, {"a": "1", "b": 2}, {"a": 2, "b": 1}, {"a": 1}])
def test_a_record_is_summed_over_all_of_its_fields(other):
    assert record_sum("t", {"a": 1, "b": 2}) != record_sum("t", other)
    assert record_sum("t", {"a": 1, "b": 2}) == record_sum("t", {"b": 2, "a": 1})


def test_the_constants_stay():
    """Another number here means that every ledger in the world reads as damaged."""
    found = checksums("fills", {"price": [1.5], "version": [3], "unit": ["A"]}, 1).tolist()

    assert [15608248524086527861] == found
    assert 17494003049897656320 == matrix_sums(np.array([[1.0, np.nan]], dtype=np.float32)).tolist()[0]


def test_a_row_that_is_older_than_a_column_keeps_its_checksum():
    """Migration adds `multiplier` 1 and an empty `wide` to rows of books; other values count."""
    old = {"unit": ["A", "B"], "quantity": [1, 2]}
    new = [
        checksums("book_events", old | {"multiplier": [1.0, m], "wide": ["", w]}, 2)
        for m, w in ((1.0, ""), (2.0, ""), (1.0, "x"))
    ]

    before = checksums("book_events", old, 2)
    assert [[True, True], [True, False], [True, False]] == [(before == sums).tolist() for sums in new]
