import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorstate.counting import blocks
from tensorstate.counting.histogram import StateHistogram
from tensorstate.counting.keys import mixed_hash
from tests.strategies import (
    STRUCTURES,
    as_dict,
    count_by_hand,
    packed_states,
    reproducible,
    structured,
)


def count(rows, bits, first_row=0):
    """Count one array through both kinds of tasks."""
    pieces = blocks.count_block([rows], len(rows), rows.shape[1], first_row, bits)
    return StateHistogram(*blocks.merged(pieces), rows.shape[1])


def as_arrays(counted):
    order = blocks.canonical_order(counted[0])
    return [array[order].tolist() for array in counted]


@reproducible
@given(rows=packed_states(), bits=st.integers(0, 6))
def test_a_block_is_counted(rows, bits):
    assert as_dict(count(rows, bits), rows) == count_by_hand(rows)


@reproducible
@given(rows=packed_states(), bits=st.integers(0, 6), cut=st.integers(0, 300))
def test_pieces_of_several_blocks_add_up(rows, bits, cut):
    pieces = [
        *blocks.count_block([rows[cut:]], rows.shape[1], cut, bits),
        *blocks.count_block([rows[:cut]], rows.shape[1], 0, bits),
    ]
    merged = blocks.merged(pieces)
    assert as_dict(StateHistogram(*merged, rows.shape[1]), rows) == count_by_hand(rows)
    assert as_arrays(merged) == as_arrays(blocks.merge_by_sorting(pieces))


@reproducible
@given(rows=packed_states(), bits=st.integers(0, 6), cut=st.integers(0, 300))
def test_divided_rows_are_counted_by_the_merge(rows, bits, cut):
    keys = blocks.key_words(rows)
    pieces = [blocks.scatter(keys[:cut], bits, 0)]
    if cut < len(keys):
        pieces.append(blocks.scatter(keys[cut:], bits, cut))
    merged = blocks.merged(pieces)
    assert as_dict(StateHistogram(*merged, rows.shape[1]), rows) == count_by_hand(rows)
    assert as_arrays(merged) == as_arrays(blocks.merge_by_sorting(pieces))


@pytest.mark.parametrize("width", [1, 2, 3, 8, 12, 16, 40])
@pytest.mark.parametrize("name", STRUCTURES)
def test_structured_rows(name, width):
    rows = structured(name, 200_000, width)
    found = count(rows, bits=4)
    states, first, counts = np.unique(
        rows.view(f"V{width}").ravel(), return_index=True, return_counts=True
    )
    order = np.argsort(found.first_rows)
    expected = np.argsort(first)
    assert found.distinct == len(states)
    assert np.array_equal(found.first_rows[order], first[expected])
    assert np.array_equal(found.counts[order], counts[expected])


@pytest.mark.parametrize("width", [3, 8, 12, 16, 40])
def test_mostly_new_rows_are_divided_and_others_counted(width):
    rng = np.random.default_rng(1)
    rows = 300_000
    new = rng.integers(0, 256, (rows, width), dtype=np.uint8)
    pool = new[:1000]
    (counted,) = blocks.count_block([pool[rng.integers(0, 1000, rows)]], width, 0, 3)
    assert counted.counts is not None
    assert len(counted.keys) == 1000
    if width > 3:
        early, *divided = blocks.count_block([new], width, 0, 3)
        assert early.counts is not None
        assert divided
        assert all(piece.counts is None for piece in divided)
        assert len(early.keys) < rows // 4


@pytest.mark.parametrize("bits", [0, 5])
def test_partitions_are_ranges_of_the_mixed_hash(bits):
    keys = np.random.default_rng(2).integers(0, 2**64, (5000, 2), dtype=np.uint64)
    piece = blocks.scatter(keys, bits, 0)
    partition = np.repeat(np.arange(1 << bits), np.diff(piece.starts))
    hashes = mixed_hash(piece.keys)
    assert np.array_equal(hashes.astype(object) >> 64 - bits, partition)
    assert np.array_equal(keys[piece.rows], piece.keys)
    chosen = piece.select(1, 3) if bits else piece.select(0, 1)
    assert len(chosen.keys) == chosen.starts[-1] == len(chosen.rows)


def colliding_keys(count):
    """Two-word keys with one and the same mixed hash: pairs of factors of one product."""
    divisors, product = [1], 1
    powers = {2: 9, 3: 5, 5: 3, 7: 2, 11: 1, 13: 1, 17: 1, 19: 1, 23: 1, 29: 1}
    for prime, power in powers.items():
        divisors = [d * prime**k for d in divisors for k in range(power + 1)]
        product *= prime**power
    product *= 31 * 37 * 41 * 43 * 47 * 53 * 59 * 61
    pairs = [(d, product // d) for d in divisors if product // d < 2**64][:count]
    factors = np.array(pairs, np.uint64)
    return factors ^ np.array([0xD6E8FEB86659FD93, 0xA0761D6478BD642F], np.uint64)


def test_keys_that_share_low_or_high_bits_of_their_hash():
    keys = np.random.default_rng(5).integers(0, 2**64, 1 << 22, dtype=np.uint64)
    hashes = mixed_hash(keys)
    for alike in (hashes & np.uint64(0xFF), hashes >> np.uint64(56)):
        some = np.tile(keys[alike == 0], 2)
        found = count(some[:, None].view(np.uint8), bits=6)
        assert found.distinct == len(np.unique(some))
        assert (found.counts == 2).all()


def test_a_flood_of_collisions_is_counted_by_sorting():
    keys = np.tile(colliding_keys(6000), (20, 1))
    assert len(np.unique(mixed_hash(keys))) == 1
    assert len(np.unique(keys, axis=0)) == 6000
    rows = keys.view(np.uint8)
    assert blocks.Table(2).count(blocks.frozen(keys), 0) < len(keys) // 2
    assert as_dict(count(rows, bits=3), rows) == count_by_hand(rows)
