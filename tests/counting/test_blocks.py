import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorstate.counting import blocks, partitions
from tensorstate.counting.histogram import StateHistogram
from tensorstate.counting.keys import frozen, key_words, mixed_hash
from tensorstate.counting.pieces import (
    canonical_order,
    empty_room,
    entries,
    lay_out,
    merge_by_sorting,
    merge_pieces,
    merged,
    part_of,
)
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
    return StateHistogram(*merged(pieces), rows.shape[1])


def in_order(counted):
    order = canonical_order(counted[0])
    return [array[order].tolist() for array in counted]


def divided(keys, bits, first_row=0):
    """Divide keys into partitions without counting them."""
    rows = blocks.Divided(len(keys), keys.ndim, bits)
    rows.count(keys, 0)
    return rows.piece(bits, first_row)


@reproducible
@given(rows=packed_states(), bits=st.integers(0, 6))
def test_a_block_is_counted(rows, bits):
    assert as_dict(count(rows, bits), rows) == count_by_hand(rows)


@reproducible
@given(rows=packed_states(), bits=st.integers(0, 6), cut=st.integers(0, 300))
def test_pieces_of_several_blocks_add_up(rows, bits, cut):
    cut = min(cut, len(rows))
    pieces = [
        *blocks.count_block([rows[:cut]], cut, rows.shape[1], 0, bits),
        *blocks.count_block([rows[cut:]], len(rows) - cut, rows.shape[1], cut, bits),
    ]
    found = merged(pieces)
    assert as_dict(StateHistogram(*found, rows.shape[1]), rows) == count_by_hand(rows)
    assert in_order(found) == in_order(merge_by_sorting(pieces, 0, 1 << bits))


@reproducible
@given(rows=packed_states(), bits=st.integers(0, 6), cut=st.integers(0, 300))
def test_divided_rows_are_counted_by_the_merge(rows, bits, cut):
    keys = key_words(rows)
    cut = min(cut, len(keys))
    pieces = [divided(part, bits, row) for part, row in ((keys[:cut], 0), (keys[cut:], cut))]
    pieces = [piece for piece in pieces if len(piece.keys)]
    found = merged(pieces)
    assert as_dict(StateHistogram(*found, rows.shape[1]), rows) == count_by_hand(rows)
    assert in_order(found) == in_order(merge_by_sorting(pieces, 0, 1 << bits))


@pytest.mark.parametrize("surprise", [False, True])
@pytest.mark.parametrize("width", [3, 5])
def test_few_neurons_that_are_mostly_new_are_counted_in_places_of_their_own(width, surprise):
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 1 << 20, 2_000_000, dtype=np.uint64)
    if surprise:
        numbers[500_000] = 1 << 23
    rows = np.ascontiguousarray(numbers.view(np.uint8).reshape(-1, 8)[:, :width])
    pieces = blocks.count_block([rows], len(rows), width, 0, 3)
    assert [piece.counts is None for piece in pieces] == [False, True][: 1 + surprise]
    keys, counts, first = merged(pieces)
    expected = np.unique(numbers, return_index=True, return_counts=True)
    order = np.argsort(keys)
    for found, wanted in zip((keys, first, counts), expected, strict=True):
        assert np.array_equal(found[order], wanted)
    limited = blocks.count_block([rows], len(rows), width, 0, 3, blocks.ADDRESSED_BYTES - 1)
    assert limited[-1].counts is None


@reproducible
@given(
    rows=packed_states(),
    bits=st.integers(0, 6),
    cut=st.integers(0, 300),
    first_row=st.sampled_from([0, 5, 2**32 + 1]),
)
def test_a_piece_that_is_laid_out_holds_the_same(rows, bits, cut, first_row):
    keys = key_words(rows)
    chunks = blocks.Divided(len(keys), keys.ndim, bits)
    chunks.count(keys[:cut], 0)
    chunks.count(keys[cut:], len(keys[:cut]))
    piece = chunks.piece(bits, first_row)
    whole = lay_out(piece)
    assert len(whole.add) == 1
    assert whole.rows.dtype == np.uint32
    for p in range(1 << bits):
        part, expected = (each.select(p, p + 1) for each in (whole, piece))
        assert np.array_equal(part.keys, expected.keys)
        add = np.repeat(expected.add, np.diff(expected.starts, axis=1)[:, 0])
        assert np.array_equal(part.rows + part.add, expected.rows + add)
    assert in_order(merged([whole])) == in_order(merge_by_sorting([piece], 0, 1 << bits))


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
    (counted,) = blocks.count_block([pool[rng.integers(0, 1000, rows)]], rows, width, 0, 3)
    assert counted.counts is not None
    assert len(counted.keys) == 1000
    if width > 3:
        early, late = blocks.count_block([new], rows, width, 0, 3)
        assert early.counts is not None
        assert late.counts is None
        assert len(early.keys) < rows // 4


@pytest.mark.parametrize("bits", [0, 5])
def test_partitions_are_ranges_of_the_mixed_hash(bits):
    length = partitions.CHUNK_ROWS
    keys = np.random.default_rng(2).integers(0, 2**64, (2 * length + 100, 2), dtype=np.uint64)
    piece = divided(keys, bits, first_row=1000)
    assert piece.add.tolist() == [1000, 1000 + length, 1000 + 2 * length]
    for starts, add in zip(piece.starts, piece.add.tolist(), strict=True):
        chunk = slice(starts[0], starts[-1])
        partition = np.repeat(np.arange(1 << bits), np.diff(starts))
        hashes = mixed_hash(piece.keys[chunk])
        assert np.array_equal(hashes.astype(object) >> 64 - bits, partition)
        assert np.array_equal(keys[piece.rows[chunk].astype(int) + add - 1000], piece.keys[chunk])


@reproducible
@given(rows=packed_states(), bits=st.integers(0, 6), edges=st.tuples(*[st.integers(0, 64)] * 2))
def test_a_selection_merges_to_the_same(rows, bits, edges):
    first, last = (min(edge, 1 << bits) for edge in sorted(edges))
    keys = key_words(rows)
    pieces = [
        *blocks.count_block([rows], len(rows), rows.shape[1], 0, bits),
        divided(keys, bits, len(rows)),
    ]
    room = empty_room(entries(pieces, first, last), keys.ndim)
    distinct = merge_pieces(pieces, first, last, room)
    copies = [piece.select(first, last) for piece in pieces]
    assert in_order(merged(copies)) == in_order(part_of(room, 0, distinct))


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
    assert blocks.Table(2).count(frozen(keys), 0) < len(keys) // 2
    assert as_dict(count(rows, bits=3), rows) == count_by_hand(rows)
