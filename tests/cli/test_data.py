"""All kinds of data against slices of the array that they were made of."""

from itertools import pairwise

import h5py
import numpy as np
import pytest
import torch
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tensorstate.cli.data import ArrayData, StreamedData, open_data, scaled
from tests.cli import programs

ROWS = np.arange(50 * 6, dtype=np.int32).reshape(50, 2, 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    np.save(folder / "a.npy", ROWS)
    np.savez(folder / "plain.npz", rows=ROWS)
    np.savez_compressed(folder / "small.npz", rows=ROWS, other=np.ones(3))
    zarr.create_array(folder / "a.zarr", data=ROWS, chunks=(7, 2, 2))
    group = zarr.open_group(folder / "group.zarr", mode="w")
    group.create_array("inside/rows", data=ROWS, chunks=(100, 2, 3))
    group.create_array("other", data=np.ones(3))
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_dataset("inside/rows", data=ROWS, chunks=(11, 1, 3))
    with h5py.File(folder / "plain.hdf5", "w") as file:
        file.create_dataset("rows", data=ROWS)
    return folder


KINDS = {
    "a.npy": None,
    "plain.npz": None,
    "small.npz": "rows",
    "a.zarr": None,
    "group.zarr": "inside/rows",
    "a.h5": None,
    "plain.hdf5": None,
}


@pytest.mark.parametrize(("name", "dataset"), KINDS.items(), ids=list(KINDS))
@given(start=st.integers(0, 50), stop=st.integers(0, 50), size=st.integers(1, 60))
@settings(max_examples=25, deadline=None)
def test_batches_are_slices(folder, name, dataset, start, stop, size):
    data = open_data(str(folder / name), dataset, None)
    assert (data.length, data.shape) == (50, (2, 3))
    start, stop = min(start, stop), max(start, stop)
    batches = list(data.batches(start, stop, size))
    assert [len(batch) for batch in batches[:-1]] == [size] * (len(batches) - 1)
    assert all(0 < len(batch) <= size for batch in batches)
    np.testing.assert_array_equal(np.concatenate([ROWS[:0], *batches]), ROWS[start:stop])


def test_every_chunk_is_read_once():
    read = []

    class Chunked:
        shape, chunks = ROWS.shape, (8, 2, 3)

        def __getitem__(self, rows):
            read.append(rows)
            return ROWS[rows]

    batches = list(ArrayData(Chunked()).batches(5, 45, 3))
    np.testing.assert_array_equal(np.concatenate(batches), ROWS[5:45])
    chunks = [chunk for rows in read for chunk in range(rows.start // 8, -(-rows.stop // 8))]
    assert chunks == sorted(set(chunks))


@given(
    start=st.integers(0, 70),
    stop=st.none() | st.integers(0, 70),
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=8),
    asks=st.booleans(),
)
def test_streams_are_slices(start, stop, sizes, asks):
    edges = np.cumsum([0, *sizes])
    rows = np.arange(edges[-1])

    def whole():
        return ({"a": rows[a:b], "b": rows[a:b, None]} for a, b in pairwise(edges))

    def from_start(start):
        return iter([{"a": rows[start:], "b": rows[start:, None]}] if start < len(rows) else [])

    found = list(StreamedData(from_start if asks else whole).batches(start, stop, 4))
    expected = rows[start:stop]
    np.testing.assert_array_equal(np.concatenate([rows[:0], *(b["a"] for b in found)]), expected)
    for batch in found:
        np.testing.assert_array_equal(batch["b"][:, 0], batch["a"])


def test_what_a_function_may_give():
    array = open_data(programs.ARRAY_NAME, None, None)
    assert (array.length, array.shape) == (60, (1, 8, 8))
    loader = open_data("tests.cli.test_data:loader", None, None)
    for _ in range(2):  # once to try the model, and once to capture
        found = torch.cat(list(loader.batches(4, 11, 99)))
        np.testing.assert_array_equal(found.numpy(), programs.ARRAY[4:11])


def loader():
    return torch.utils.data.DataLoader(torch.from_numpy(programs.ARRAY), batch_size=3)


@pytest.mark.parametrize(
    ("shape", "mode"), [((4, 6, 3), "RGB"), ((3, 4, 6), "RGB"), ((4, 6, 1), "L"), ((1, 4, 6), "L")]
)
def test_images_in_the_order_of_their_paths(tmp_path, shape, mode):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 6, 3), np.uint8)
    (tmp_path / "b").mkdir()
    for number, name in enumerate(["a.png", "b/a.PNG", "b/b.bmp", "c.png", "d.png"]):
        Image.fromarray(pixels[number]).save(tmp_path / name)
    (tmp_path / "labels.txt").write_text("no image")
    data = open_data(str(tmp_path), None, shape)
    assert (data.length, data.shape) == (5, shape)
    expected = np.stack([np.asarray(Image.fromarray(one).convert(mode)) for one in pixels])
    expected = expected.reshape(5, 4, 6, -1)
    expected = expected if shape[0] == 4 else np.moveaxis(expected, 3, 1)
    found = list(data.batches(1, 5, 3))
    assert [len(batch) for batch in found] == [3, 1]
    assert found[0].dtype == np.float32
    np.testing.assert_array_equal(np.concatenate(found), expected[1:])
    resized = open_data(str(tmp_path), None, (8, 8, 3))
    assert next(resized.batches(0, 1, 1)).shape == (1, 8, 8, 3)


def test_an_image_that_is_none(tmp_path):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(OSError, match=r"image .*a\.png cannot be read: cannot identify"):
        next(open_data(str(tmp_path), None, (8, 8, 3)).batches(0, 1, 1))
    with pytest.raises(ValueError, match="give --input-shape"):
        open_data(str(tmp_path), None, None)
    with pytest.raises(ValueError, match="have 1, 3 or 4 channels"):
        open_data(str(tmp_path), None, (8, 8, 2))


@pytest.mark.parametrize(
    ("name", "dataset", "says"),
    [
        ("small.npz", None, "holds the arrays other, rows: name one with --dataset"),
        ("small.npz", "x", "holds no array 'x'; there are: other, rows"),
        ("group.zarr", None, "holds the arrays inside/rows, other: name one"),
        ("nothing.npy", None, "No such file"),
        ("nothing.npz", None, "No such file"),
        ("nothing.h5", None, "No such file"),
        ("nothing", None, "holds no Zarr array and no folder of images"),
        ("text.npy", None, r"text\.npy is not a \.npy file of numbers"),
        ("text.npz", None, r"text\.npz is not a \.npz file"),
        ("text.h5", None, r"text\.h5 is not an HDF5 file"),
        ("text.csv", None, r"text\.csv is no data that can be read: give a \.npy"),
        ("objects.npy", None, "is not a .npy file of numbers"),
        ("fortran.npz", None, "in C order"),
    ],
)
def test_what_is_no_data(folder, name, dataset, says):
    if name.startswith("text"):
        (folder / name).write_text("no data")
    np.save(folder / "objects.npy", np.array([{}], object), allow_pickle=True)
    np.savez(folder / "fortran.npz", rows=np.asfortranarray(ROWS))
    with pytest.raises((OSError, ValueError), match=says):
        open_data(str(folder / name), dataset, None)


def test_scaling_keeps_real_numbers_and_makes_them_of_whole_ones():
    batch = {"a": np.array([0, 255], np.uint8), "b": (np.array([2.0]), torch.ones(2))}
    (found,) = scaled(iter([batch]), 0.5)
    assert found["a"].dtype == np.float32
    assert found["a"].tolist() == [0.0, 127.5]
    assert found["b"][0].dtype == np.float64
    assert found["b"][0].tolist() == [1.0]
    assert found["b"][1].tolist() == [0.5, 0.5]
    assert next(scaled(iter([batch]), None)) is batch
