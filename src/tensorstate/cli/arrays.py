"""Arrays in files, opened without reading them: .npy, .npz, Zarr and HDF5."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["NpzArray", "open_hdf5", "open_npy", "open_zarr"]


def open_npy(path: str) -> NDArray[Any]:
    """Map a .npy file into memory.

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ValueError
        If it is none, or holds Python objects.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a .npy file of numbers: {error}") from None
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path} is not a .npy file, but a .npz one: name it so")
    return array


def open_zarr(path: str, dataset: str | None) -> Any:
    """Open a Zarr array, or one of a group, at a path or URL.

    Parameters
    ----------
    path : str
        Where the array or group is.
    dataset : str or None
        Name of the array in the group; not needed if there is one.

    Raises
    ------
    FileNotFoundError
        If nothing is there.
    ValueError
        If there is no such array, or several and none is named.
    """
    import zarr

    try:
        found = zarr.open(path, mode="r")
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path} holds no Zarr array and no folder of images") from None
    if isinstance(found, zarr.Array):
        return found
    arrays = {name: array for name, array in found.members(max_depth=None) if _is_array(array)}
    return arrays[_chosen(list(arrays), dataset, path)]


def open_hdf5(path: str, dataset: str | None) -> Any:
    """Open a dataset of an HDF5 file; see `open_zarr`.

    Raises
    ------
    OSError
        If it is not there or is no HDF5 file.
    ValueError
        If there is no such dataset, or several and none is named.
    """
    import h5py

    try:
        file = h5py.File(path, "r")
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OSError(f"{path} is not an HDF5 file: {error}") from None
    arrays: list[str] = []
    file.visititems(lambda name, item: arrays.append(name) if hasattr(item, "chunks") else None)
    return file[_chosen(arrays, dataset, path)]


class NpzArray:
    """An array in a .npz file, compressed or not, read in order and never as a whole.

    Parameters
    ----------
    path : str
        The file.
    dataset : str or None
        Name of the array; not needed if there is one.

    Attributes
    ----------
    shape : tuple of int
    dtype : numpy.dtype

    Raises
    ------
    FileNotFoundError
        If it is not there.
    ValueError
        If it is no .npz file, has no such array, or that one cannot be read row by row.
    """

    def __init__(self, path: str, dataset: str | None) -> None:
        try:
            with zipfile.ZipFile(path) as file:
                names = [name for name in file.namelist() if name.endswith(".npy")]
        except zipfile.BadZipFile as error:
            raise ValueError(f"{path} is not a .npz file: {error}") from None
        arrays = [name.removesuffix(".npy") for name in names]
        self._path = path
        self._member = f"{_chosen(arrays, dataset, path)}.npy"
        with zipfile.ZipFile(path) as file, file.open(self._member) as stream:
            self.shape, is_fortran, self.dtype = self._header(stream)
        if is_fortran or self.dtype.hasobject:
            raise ValueError(
                f"{path}, array {self._member}: only arrays of numbers in C order can be read row "
                "by row, so save it anew with np.ascontiguousarray"
            )

    def rows(self, start: int, stop: int, step: int) -> Iterator[NDArray[Any]]:
        """Yield the rows from `start` up to `stop`, `step` at a time."""
        row_bytes = int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize
        with zipfile.ZipFile(self._path) as file, file.open(self._member) as stream:
            self._header(stream)
            # Of what is compressed, the bytes before are unpacked, but not kept.
            stream.seek(start * row_bytes, 1)
            for first in range(start, stop, step):
                count = min(step, stop - first)
                content = stream.read(count * row_bytes)
                if len(content) < count * row_bytes:
                    raise ValueError(f"{self._path}, array {self._member} ends before its last row")
                yield np.frombuffer(content, self.dtype).reshape(count, *self.shape[1:])

    def _header(self, stream: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
        try:
            version = np.lib.format.read_magic(stream)
            if version == (1, 0):
                return np.lib.format.read_array_header_1_0(stream)
            if version == (2, 0):
                return np.lib.format.read_array_header_2_0(stream)
            raise ValueError(f"it is of version {version}, which only structured arrays have")
        except ValueError as error:
            raise ValueError(f"{self._path}, array {self._member} is damaged: {error}") from None


def _chosen(names: list[str], wanted: str | None, where: str) -> str:
    """Return the name of the array to read."""
    if wanted is None and len(names) == 1:
        return names[0]
    there = ", ".join(sorted(names)) or "none"
    if wanted is None:
        raise ValueError(f"{where} holds the arrays {there}: name one with --dataset")
    if wanted not in names:
        raise ValueError(f"{where} holds no array {wanted!r}; there are: {there}")
    return wanted


def _is_array(node: Any) -> bool:
    return hasattr(node, "shape")
