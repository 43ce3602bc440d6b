"""Keys: a state's identity while counting, as one or two uint64 words.

============== ===========================================================================
bytes W        key words
============== ===========================================================================
1 to 8         one: the packed state, zero-extended, as a little-endian integer
9 to 16        two: the first eight bytes, and the rest zero-extended, both little-endian
17 and more    two: the low and the high word of the XXH3-128 digest of the packed state
============== ===========================================================================

Up to 16 bytes a key is the state, and counts are exact. Two different wider states share a key
with probability below ``u**2 / 2**129`` for u distinct states: 1.5e-21 for a billion.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numba
import numpy as np
import numpy.typing as npt
import xxhash
from numba.extending import overload

from tensorstate.compiled import kernel
from tensorstate.intrinsics import (
    HAS_XXH3,
    folded_product,
    load16,
    load32,
    load64,
    pointer,
    prefetch_at,
    xxh3_128,
)

U64Array: TypeAlias = npt.NDArray[np.uint64]
U8Array: TypeAlias = npt.NDArray[np.uint8]

WIDEST_EXACT = 16
"""Widest packed state, in bytes, that is its own key; wider ones are known by a digest."""

BYTES_AHEAD = 2048

# Odd constants with about as many ones as zeros. They are part of the stored format: the
# canonical order of a histogram is the order of the mixed hashes.
_XOR_LOW = np.uint64(0xD6E8FEB86659FD93)
_XOR_HIGH = np.uint64(0xA0761D6478BD642F)
_XOR_BOTH = np.uint64(0xE7037ED1A0B428DB)
_MULTIPLY = np.uint64(0x9E3779B97F4A7C15)


def words_per_key(width: int) -> int:
    """Return how many uint64 words make the key of a packed state of `width` bytes.

    Examples
    --------
    >>> [words_per_key(width) for width in (1, 8, 9, 16, 17, 1000)]
    [1, 1, 2, 2, 2, 2]
    """
    return 1 if width <= 8 else 2


def are_keys(width: int) -> bool:
    """Whether packed states of `width` bytes are keys as they lie in memory.

    Examples
    --------
    >>> [width for width in range(1, 100) if are_keys(width)]
    [8, 16]
    """
    return width in (8, 16)


def empty_keys(count: int, words: int) -> U64Array:
    """Return an uninitialised array for keys: (count,) for one word, (count, 2) for two."""
    return np.empty(count if words == 1 else (count, 2), np.uint64)


def frozen(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Return `array` as kernels take what they only read: C-contiguous, aligned, read-only.

    Read-only arrays have a type of their own in Numba. Arrays that come from another process or
    from a file may be read-only, so all are made so.
    """
    view = np.require(array, requirements=["C", "A"]).view()
    view.flags.writeable = False
    return view


def key_words(rows: U8Array, room: U64Array | None = None) -> U64Array:
    """Return the keys of packed states.

    Parameters
    ----------
    rows : (n, W) uint8
        Packed states, W at least 1; any strides.
    room : (at least n,) or (at least n, 2) uint64, optional
        Where keys may be written that cannot share the memory of `rows`.

    Returns
    -------
    (n,) uint64 for W <= 8, else (n, 2) uint64
        A read-only array that may share the memory of `rows` or of `room`.

    Examples
    --------
    >>> key_words(np.array([[1, 2], [255, 255]], np.uint8)).tolist()
    [513, 65535]
    """
    count, width = rows.shape
    rows = frozen(rows)
    words = words_per_key(width)
    if are_keys(width):
        return frozen(rows.view("<u8").reshape((count,) if words == 1 else (count, 2)))
    keys = empty_keys(count, words) if room is None else room[:count]
    if width > WIDEST_EXACT:
        write_digests(rows, keys)
    elif words == 1:
        pad_to_one_word(rows, keys)
    else:
        pad_to_two_words(rows, keys)
    return frozen(keys)


def write_digests(rows: U8Array, keys: U64Array) -> None:
    """Write the XXH3-128 digests of rows of bytes.

    Parameters
    ----------
    rows : (n, W) uint8
        C-contiguous rows of any width, frozen.
    keys : (n, 2) uint64
        Filled with the low and the high word of each digest, as
        ``xxhash.xxh3_128_intdigest`` gives them.
    """
    if HAS_XXH3:
        digest_rows(rows, keys)
    else:
        keys[...] = digests_row_by_row(rows)


def digests_row_by_row(rows: U8Array) -> U64Array:
    """Return what `write_digests` writes, for wheels of xxhash that do not export its symbols."""
    digest = xxhash.xxh3_128_digest
    big_endian = b"".join([digest(row) for row in np.ascontiguousarray(rows)])
    high_low = np.frombuffer(big_endian, ">u8").reshape(len(rows), 2)
    return np.ascontiguousarray(high_low[:, ::-1].astype(np.uint64))


def changes(keys: U64Array) -> npt.NDArray[np.bool_]:
    """Return which keys differ from the one before them, for all but the first: (n - 1,) bool.

    Examples
    --------
    >>> changes(np.array([[1, 2], [1, 2], [1, 3]], np.uint64)).tolist()
    [False, True]
    """
    differ = np.asarray(keys[1:] != keys[:-1])
    return differ if keys.ndim == 1 else np.asarray(differ.any(axis=1))


def mixed_hash(keys: U64Array) -> U64Array:
    """Return the hash that orders keys and divides them into partitions.

    Parameters
    ----------
    keys : (n,) or (n, 2) uint64
        Key words.

    Returns
    -------
    (n,) uint64
        ``fold((k ^ D6E8FEB86659FD93) * 9E3779B97F4A7C15)`` for one word and, for two,
        ``fold((fold((a ^ D6E8FEB86659FD93) * (b ^ A0761D6478BD642F)) ^ E7037ED1A0B428DB) *
        9E3779B97F4A7C15)``, where fold is the high word xor the low word of the 128-bit product.

    Examples
    --------
    >>> [hex(value) for value in mixed_hash(np.array([0, 1], np.uint64))]
    ['0xc9d874ca57d9e055', '0x2a00ed70d40265a3']
    """
    hashes = np.empty(len(keys), np.uint64)
    hash_keys(frozen(keys), hashes)
    return hashes


# Helpers that kernels share for keys of one word (1-d arrays) and of two (2-d arrays). Numba
# inlines them: as ordinary functions of arrays they would count references for every row.
# A 2-d array may hold keys of one word too, in its first column: slots of a table do.


def hash_at(keys: Any, i: Any) -> Any:
    """Return the mixed hash of key `i` (in kernels only)."""


@overload(hash_at, inline="always")
def _hash_at(keys: Any, i: Any) -> Any:
    def one_word(keys: Any, i: Any) -> Any:
        return folded_product(keys[i] ^ _XOR_LOW, _MULTIPLY)

    def two_words(keys: Any, i: Any) -> Any:
        both = folded_product(keys[i, 0] ^ _XOR_LOW, keys[i, 1] ^ _XOR_HIGH)
        return folded_product(both ^ _XOR_BOTH, _MULTIPLY)

    return one_word if keys.ndim == 1 else two_words


def hash_in_slot(keys: Any, table: Any, i: Any) -> Any:
    """Return the mixed hash of the key in slot `i` of a table for `keys` (in kernels only)."""


@overload(hash_in_slot, inline="always")
def _hash_in_slot(keys: Any, table: Any, i: Any) -> Any:
    def one_word(keys: Any, table: Any, i: Any) -> Any:
        return folded_product(table[i, 0] ^ _XOR_LOW, _MULTIPLY)

    def two_words(keys: Any, table: Any, i: Any) -> Any:
        both = folded_product(table[i, 0] ^ _XOR_LOW, table[i, 1] ^ _XOR_HIGH)
        return folded_product(both ^ _XOR_BOTH, _MULTIPLY)

    return one_word if keys.ndim == 1 else two_words


def same_key(keys: Any, i: Any, others: Any, j: Any) -> Any:
    """Whether key `i` of `keys` is key `j` of `others` (in kernels only)."""


@overload(same_key, inline="always")
def _same_key(keys: Any, i: Any, others: Any, j: Any) -> Any:
    def one_word(keys: Any, i: Any, others: Any, j: Any) -> Any:
        return keys[i] == others[j]

    def one_word_in_slot(keys: Any, i: Any, others: Any, j: Any) -> Any:
        return keys[i] == others[j, 0]

    def two_words(keys: Any, i: Any, others: Any, j: Any) -> Any:
        return keys[i, 0] == others[j, 0] and keys[i, 1] == others[j, 1]

    if keys.ndim == 2:
        return two_words
    return one_word if others.ndim == 1 else one_word_in_slot


def copy_key(keys: Any, i: Any, target: Any, j: Any) -> Any:
    """Copy key `i` of `keys` to place `j` of `target` (in kernels only)."""


@overload(copy_key, inline="always")
def _copy_key(keys: Any, i: Any, target: Any, j: Any) -> Any:
    def one_word(keys: Any, i: Any, target: Any, j: Any) -> Any:
        target[j] = keys[i]

    def one_word_to_slot(keys: Any, i: Any, target: Any, j: Any) -> Any:
        target[j, 0] = keys[i]

    def one_word_from_slot(keys: Any, i: Any, target: Any, j: Any) -> Any:
        target[j] = keys[i, 0]

    def two_words(keys: Any, i: Any, target: Any, j: Any) -> Any:
        target[j, 0] = keys[i, 0]
        target[j, 1] = keys[i, 1]

    if keys.ndim == 1:
        return one_word if target.ndim == 1 else one_word_to_slot
    return two_words if target.ndim == 2 else one_word_from_slot


def keys_at(keys: Any, address: Any, count: Any) -> Any:
    """Return `count` keys at an address, as an array like `keys` (in kernels only)."""


@overload(keys_at, inline="always")
def _keys_at(keys: Any, address: Any, count: Any) -> Any:
    def one_word(keys: Any, address: Any, count: Any) -> Any:
        return numba.carray(pointer(address), count, np.uint64)

    def two_words(keys: Any, address: Any, count: Any) -> Any:
        return numba.carray(pointer(address), (count, 2), np.uint64)

    return one_word if keys.ndim == 1 else two_words


@kernel
def hash_keys(keys: Any, hashes: Any) -> None:
    """Fill `hashes` with the mixed hashes of `keys`."""
    for i in range(np.uint64(len(hashes))):
        hashes[i] = hash_at(keys, i)


@kernel
def digest_rows(rows: Any, keys: Any) -> None:
    """Fill `keys` with the XXH3-128 digests of `rows`."""
    count, width = rows.shape
    start = np.uint64(rows.ctypes.data)
    length = np.uint64(width)
    for i in range(np.uint64(count)):
        address = start + i * length
        # A digest is so long a computation that the processor does not look ahead by itself.
        for line in range(np.uint64(0), length, np.uint64(64)):
            prefetch_at(address + line + np.uint64(BYTES_AHEAD))
        low, high = xxh3_128(address, length)
        keys[i, 0] = low
        keys[i, 1] = high


# Two loads that overlap read a row without reading past its end: the bytes that both hold fall
# on the same places, so `or` joins them.


@kernel
def pad_to_one_word(rows: Any, keys: Any) -> None:
    """Fill `keys` with rows of 1 to 7 bytes, zero-extended to a word."""
    count, width = rows.shape
    start = np.uint64(rows.ctypes.data)
    stride = np.uint64(width)
    if width >= 4:
        back = np.uint64(width - 4)
        for i in range(count):
            address = start + np.uint64(i) * stride
            tail = load32(address + back)
            keys[i] = load32(address) | tail << (np.uint64(8) * back)
    elif width >= 2:
        back = np.uint64(width - 2)
        for i in range(count):
            address = start + np.uint64(i) * stride
            tail = load16(address + back)
            keys[i] = load16(address) | tail << (np.uint64(8) * back)
    else:
        for i in range(count):
            keys[i] = rows[i, 0]


@kernel
def pad_to_two_words(rows: Any, keys: Any) -> None:
    """Fill `keys` with rows of 9 to 15 bytes, zero-extended to two words."""
    count, width = rows.shape
    start = np.uint64(rows.ctypes.data)
    stride = np.uint64(width)
    back = np.uint64(width - 8)
    overlap = np.uint64(8 * (16 - width))
    for i in range(count):
        address = start + np.uint64(i) * stride
        keys[i, 0] = load64(address)
        keys[i, 1] = load64(address + back) >> overlap
