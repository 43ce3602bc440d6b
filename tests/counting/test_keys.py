import numpy as np
import pytest
import xxhash
from hypothesis import given

from tensorstate.counting import keys
from tests.strategies import packed_states, reproducible


@reproducible
@given(rows=packed_states())
def test_a_key_is_the_zero_extended_state_or_its_digest(rows):
    width = rows.shape[1]
    found = keys.key_words(rows)
    assert found.dtype == np.uint64
    assert found.shape == ((len(rows),) if width <= 8 else (len(rows), 2))
    for row, words in zip(rows, found.reshape(len(rows), -1).tolist(), strict=True):
        key = sum(word << 64 * place for place, word in enumerate(words))
        if width <= 16:
            assert key == int.from_bytes(row.tobytes(), "little")
        else:
            assert key == xxhash.xxh3_128_intdigest(row.tobytes())


@pytest.mark.parametrize("exported", [True, False])
def test_digests_are_those_of_the_xxhash_package(exported, monkeypatch):
    monkeypatch.setattr(keys, "HAS_XXH3", exported)
    rng = np.random.default_rng(3)
    for width in (*range(1, 513), 1023, 1024, 1025, 4096, 100_001, 131_072):
        rows = rng.integers(0, 256, (3, width), dtype=np.uint8)
        expected = [xxhash.xxh3_128_intdigest(row.tobytes()) for row in rows]
        found = np.empty((3, 2), np.uint64)
        keys.write_digests(keys.frozen(rows), found)
        found = [low | high << 64 for low, high in found.tolist()]
        assert found == expected, width


def test_the_wheel_exports_its_digest():
    # Where it does not, counting wide states takes ten times as long.
    assert keys.HAS_XXH3


def test_keys_without_the_exported_digest(monkeypatch):
    rows = np.random.default_rng(0).integers(0, 256, (10, 33), dtype=np.uint8)
    expected = keys.key_words(rows)
    monkeypatch.setattr(keys, "HAS_XXH3", False)
    assert np.array_equal(keys.key_words(rows), expected)


@pytest.mark.parametrize("width", [1, 3, 7, 8, 11, 16, 20])
def test_strides_alignment_and_write_protection_do_not_matter(width):
    rows = np.random.default_rng(0).integers(0, 256, (50, width), dtype=np.uint8)
    expected = keys.key_words(rows)
    shifted = np.empty(rows.size + 1, np.uint8)[1:].reshape(rows.shape)
    shifted[...] = rows
    protected = rows.copy()
    protected.flags.writeable = False
    wider = np.zeros((100, width + 3), np.uint8)
    wider[::2, 1:-2] = rows
    for same in (shifted, protected, wider[::2, 1:-2], np.asfortranarray(rows)):
        assert np.array_equal(keys.key_words(same), expected)


def fold(a, b):
    product = a * b
    return product >> 64 ^ product & 2**64 - 1


def test_the_mixed_hash_is_as_documented():
    rng = np.random.default_rng(0)
    one = rng.integers(0, 2**64, 100, dtype=np.uint64)
    for key, mixed in zip(one.tolist(), keys.mixed_hash(one).tolist(), strict=True):
        assert mixed == fold(key ^ 0xD6E8FEB86659FD93, 0x9E3779B97F4A7C15)
    two = rng.integers(0, 2**64, (100, 2), dtype=np.uint64)
    for (a, b), mixed in zip(two.tolist(), keys.mixed_hash(two).tolist(), strict=True):
        both = fold(a ^ 0xD6E8FEB86659FD93, b ^ 0xA0761D6478BD642F)
        assert mixed == fold(both ^ 0xE7037ED1A0B428DB, 0x9E3779B97F4A7C15)
