"""A folder of pictures as samples."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
IMAGES_AT_ONCE = 256
_GREY16_MODES = ("I;16", "I;16B", "I;16L", "I")
_GREY8_MODES = ("1", "L")


def read_images(paths: Sequence[Path]) -> Iterator[NDArray[Any]]:
    """Yield pictures, all of one size, in the order of ``paths``.

    Yields:
        Arrays (n, height, width) of uint8 where all are grey (uint16 where all are 16-bit grey), else
        (n, height, width, 3) of uint8: red, green, blue. Transparency is left out.

    Raises:
        DataError: a file is no picture, or of another size than the first.
    """
    from PIL import Image

    modes = set()
    first: tuple[Path, tuple[int, int]] | None = None
    for path in paths:
        with _opened(path) as image:
            is_grey, is_deep = image.mode in (*_GREY8_MODES, "LA"), image.mode in _GREY16_MODES
            modes.add("grey" if is_grey else "deep" if is_deep else "colour")
            first = first or (path, image.size)
            if image.size != first[1]:
                raise DataError(
                    f"{path}: is {image.width} x {image.height} pixels, {first[0].name} is {first[1][0]} x "
                    f"{first[1][1]}; scale all to one size"
                )
    if "deep" in modes and len(modes) > 1:
        raise DataError(f"{paths[0].parent}: holds pictures of 8 and of 16 bits; convert all to one")
    mode = "RGB" if "colour" in modes else "I" if "deep" in modes else "L"
    kind = np.uint16 if mode == "I" else np.uint8

    def pixels(path: Path) -> NDArray[Any]:
        with _opened(path) as image:
            try:
                converted: Image.Image = image.convert(mode)
            except (OSError, SyntaxError, ValueError) as error:
                raise _unreadable(path, error) from error
            return np.asarray(converted).astype(kind)

    for start in range(0, len(paths), IMAGES_AT_ONCE):
        yield np.stack([pixels(path) for path in paths[start : start + IMAGES_AT_ONCE]])


def _opened(path: Path) -> Any:
    from PIL import Image

    try:
        return Image.open(path)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: is not a picture that can be read ({error}); save it again as .png")
