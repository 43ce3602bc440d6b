"""A folder of images as data, made to fit what the model takes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["ImageFolder", "image_files"]

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".pgm", ".tif", ".tiff", ".webp")

_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def image_files(folder: Path) -> list[Path]:
    """Return the images in a folder and those below it, in the order of their paths."""
    return sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)


class ImageFolder:
    """Images as float32 arrays of what they store (0 to 255), resized to fit the model.

    Parameters
    ----------
    folder : str
        Names the images in messages.
    files : sequence of Path
        One instance each.
    shape : tuple of int, or None
        What the model takes: (height, width, channels), or (channels, height, width).

    Raises
    ------
    ValueError
        If the shape is not known or not that of images.
    """

    def __init__(
        self, folder: str, files: Sequence[Path], shape: tuple[int | None, ...] | None
    ) -> None:
        if shape is None or len(shape) != 3 or None in shape:
            raise ValueError(
                f"{folder} holds images of any size, and the model does not tell which it takes: "
                "give --input-shape, as 224,224,3"
            )
        self.shape = tuple(int(length or 0) for length in shape)
        self.length = len(files)
        self._files = files
        self._channels_last = self.shape[2] in _MODES
        if not self._channels_last and self.shape[0] not in _MODES:
            raise ValueError(
                f"the model takes instances of the shape {self.shape}, and the images of {folder} "
                "have 1, 3 or 4 channels"
            )

    def batches(self, start: int, stop: int | None, size: int) -> Iterator[NDArray[np.float32]]:
        """Yield the images from `start` up to `stop`, `size` at a time."""
        stop = self.length if stop is None else stop
        for first in range(start, stop, size):
            files = self._files[first : min(first + size, stop)]
            yield np.stack([self._read(path) for path in files])

    def _read(self, path: Path) -> NDArray[np.float32]:
        from PIL import Image

        if self._channels_last:
            height, width, channels = self.shape
        else:
            channels, height, width = self.shape
        try:
            with Image.open(path) as image:
                image = image.convert(_MODES[channels])
                if image.size != (width, height):
                    image = image.resize((width, height), Image.Resampling.BILINEAR)
                pixels = np.asarray(image, np.float32).reshape(height, width, channels)
        except (OSError, SyntaxError) as error:
            raise OSError(f"image {path} cannot be read: {error}") from error
        return pixels if self._channels_last else np.moveaxis(pixels, 2, 0)
