"""Groups and arrays of others: only what the package stores is opened, and nothing is run."""

import json
import pickle
import tracemalloc

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, BytesCodec, Crc32cCodec, GzipCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.storage import MemoryStore, StorePath

from tensorstate.nodes import (
    MOST_CHUNK_BYTES,
    check_checksum,
    read_array,
    read_group,
    update_attributes,
    with_checksum,
)
from tests.strategies import reproducible

CODECS = [BloscCodec(cname="lz4", shuffle="noshuffle", typesize=1), Crc32cCodec()]


def put(store, key, content):
    store._store_dict[key] = default_buffer_prototype().buffer.from_bytes(content)


def new_array(store=None, name="a", compressors=CODECS, **options):
    options = {"shape": (10, 2), "chunks": (4, 2), "dtype": "uint8", **options}
    path = StorePath(MemoryStore() if store is None else store)
    array = zarr.create_array(path, name=name, compressors=compressors, **options)
    array[...] = np.arange(array.size).reshape(array.shape) % 200
    return StorePath(path.store, name)


def document_of(path):
    return json.loads(path.store._store_dict[f"{path.path}/zarr.json"].to_bytes())


def change(path, change):
    document = document_of(path)
    change(document)
    put(path.store, f"{path.path}/zarr.json", json.dumps(document).encode())


@pytest.mark.parametrize("dtype", ["uint8", "int32", "int64", "uint64"])
@pytest.mark.parametrize(
    "compressors", [[], CODECS, CODECS[:1], CODECS[1:], [BloscCodec(cname="zstd")]]
)
def test_what_the_package_stores_is_read(dtype, compressors):
    path = new_array(dtype=dtype, compressors=compressors)
    array = read_array(path)
    np.testing.assert_array_equal(array[...], zarr.open_array(path)[...])
    assert array.metadata.to_dict() == zarr.open_array(path).metadata.to_dict()
    assert read_group(path) is None
    assert read_array(path / "nothing") is None
    group = zarr.create_group(MemoryStore(), attributes={"a": 1})
    assert read_group(group.store_path).attrs["a"] == 1
    assert read_array(group.store_path) is None


@pytest.mark.parametrize(
    "options",
    [
        {"compressors": [GzipCodec()]},
        {"compressors": [ZstdCodec()]},
        {"compressors": [Crc32cCodec(), CODECS[0]]},
        {"filters": [zarr.codecs.TransposeCodec(order=(1, 0))]},
        {"shards": (8, 2)},
        {"serializer": BytesCodec(endian="big"), "dtype": "int64", "filters": [], "name": "big"},
    ],
)
def test_other_codecs_are_refused(options):
    path = new_array(**options)
    if options.get("name") == "big":
        np.testing.assert_array_equal(read_array(path)[...], zarr.open_array(path)[...])
        return
    with pytest.raises(ValueError, match=r"^the metadata of .*a are damaged: its (codecs|chunks)"):
        read_array(path)


@pytest.mark.parametrize("name", ["pickle", "numcodecs.pickle", "numcodecs.zlib", "x", 7, None, {}])
def test_no_codec_is_looked_up_that_others_name(name, monkeypatch):
    path = new_array()
    change(path, lambda document: document["codecs"].append({"name": name, "configuration": {}}))

    def refuse(*_):
        raise AssertionError("a codec was looked up")

    monkeypatch.setattr("zarr.registry.get_codec_class", refuse)
    monkeypatch.setattr(numcodecs, "get_codec", refuse)
    with pytest.raises(ValueError, match="only bytes, blosc and crc32c are used"):
        read_array(path)


def test_arrays_of_zarr_2_are_not_opened():
    store = MemoryStore()
    array = {"zarr_format": 2, "shape": [3], "chunks": [3], "dtype": "|O", "fill_value": None}
    array |= {"order": "C", "compressor": None, "filters": [{"id": "pickle", "protocol": 5}]}
    put(store, "a/.zarray", json.dumps(array).encode())
    put(store, "a/0", pickle.dumps([1, 2, 3]))
    assert read_array(StorePath(store, "a")) is None
    put(store, "a/zarr.json", json.dumps({**array, "node_type": "array"}).encode())
    with pytest.raises(ValueError, match="not those of a node of Zarr's format 3"):
        read_array(StorePath(store, "a"))


@pytest.mark.parametrize(
    ("change_it", "says"),
    [
        (lambda d: d.update(shape=[10**15, 2]), "its shape is"),
        (lambda d: d.update(shape=[-1, 2]), "its shape is"),
        (lambda d: d.update(shape=[True, 2]), "its shape is"),
        (lambda d: d.update(shape=[]), "its shape is"),
        (lambda d: d.update(shape=[1] * 40), "its shape is"),
        (lambda d: d.update(data_type="string"), "its type is 'string'"),
        (lambda d: d.update(data_type={"name": "numpy.datetime64"}), "its type is"),
        (lambda d: d["chunk_grid"]["configuration"].update(chunk_shape=[10**9, 2]), "more than"),
        (lambda d: d["chunk_grid"]["configuration"].update(chunk_shape=[0, 2]), "chunks have the"),
        (lambda d: d["chunk_grid"]["configuration"].update(chunk_shape=[4]), "chunks have the sh"),
        (lambda d: d.update(chunk_grid={"name": "rectilinear"}), "chunks have the shape None"),
        (lambda d: d["chunk_key_encoding"].update(name="v2"), "names that are not those"),
        (lambda d: d.update(storage_transformers=[{"name": "x"}]), "storage transformers"),
        (lambda d: d.update(fill_value="much"), "Error: "),
        (lambda d: d.update(unknown=7), "Error: "),
        (lambda d: d.update(attributes=[1]), "no names with values"),
        (lambda d: d.update(node_type="ship"), "'ship', not of a group or an array"),
        (lambda d: d.update(zarr_format=4), "Zarr's format 3"),
    ],
)
def test_metadata_are_checked_before_zarr_believes_them(change_it, says):
    path = new_array()
    change(path, change_it)
    with pytest.raises(ValueError, match=f"^the metadata of memory.*/a are damaged: .*{says}"):
        read_array(path)


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"null", b"[]", b'"zarr"', b"1" * 10_000]
)
def test_what_is_no_metadata(content):
    store = MemoryStore()
    put(store, "a/zarr.json", content)
    for read in (read_array, read_group):
        with pytest.raises(ValueError, match=r"^the metadata of .* are damaged: they are"):
            read(StorePath(store, "a"))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(max_size=8), values),
    max_leaves=8,
)


@reproducible
@given(
    name=st.sampled_from(sorted(document_of(new_array()))),
    value=json_values,
    drop=st.booleans(),
)
def test_any_value_in_metadata_is_read_or_refused(name, value, drop):
    path = new_array()
    change(path, lambda d: d.pop(name) if drop else d.update({name: value}))
    for read in (read_array, read_group):
        try:
            read(path)
        except ValueError as error:
            assert "are damaged: " in str(error)  # noqa: PT017


@pytest.mark.parametrize("field", [4, 8, 12])
def test_a_chunk_makes_no_more_room_than_it_has(field):
    path = new_array(shape=(1000, 8), chunks=(1000, 8), compressors=CODECS[:1])
    key = f"{path.path}/c/0/0"
    content = bytearray(path.store._store_dict[key].to_bytes())
    content[field : field + 4] = (2**31 - 17).to_bytes(4, "little")
    put(path.store, key, bytes(content))
    array = read_array(path)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"it says that \d+ bytes in blocks of \d+ were"):
            array[...]
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    put(path.store, key, b"short")
    with pytest.raises(ValueError, match="too few for blosc"):
        array[...]


def test_the_largest_chunk():
    path = new_array(shape=(1, 1), chunks=(MOST_CHUNK_BYTES // 8, 1), dtype="int64")
    assert read_array(path)[0, 0] == 0
    change(
        path, lambda d: d["chunk_grid"]["configuration"]["chunk_shape"].__setitem__(0, 2**23 + 1)
    )
    with pytest.raises(ValueError, match="more than 67108864 bytes"):
        read_array(path)


def test_attributes_and_their_checksum():
    path = new_array(attributes=with_checksum("", {"rows": 3, "names": ["ä", 1.5]}))
    array = read_array(path)
    check_checksum("", array.attrs, "here", required=True)
    other = update_attributes(array, {"rows": 4})
    assert (array.attrs["rows"], other.attrs["rows"], read_array(path).attrs["rows"]) == (3, 4, 4)
    check_checksum("", read_array(path).attrs, "here", required=True)
    for attributes in ({**other.attrs, "rows": 5}, {**other.attrs, "more": 0}, {"checksum": 1}):
        with pytest.raises(ValueError, match=r"^here has attributes with the checksum .* by hand$"):
            check_checksum("", attributes, "here")
    check_checksum("", {"rows": 5}, "here")
    with pytest.raises(ValueError, match="the checksum None instead of"):
        check_checksum("", {"rows": 5}, "here", required=True)
    with pytest.raises(ValueError, match="instead of"):
        check_checksum("another name", other.attrs, "here")
    group = zarr.create_group(MemoryStore()).create_group("layer")
    update_attributes(group, {"neurons": 3})
    check_checksum("layer", read_group(group.store_path).attrs, "here", required=True)
