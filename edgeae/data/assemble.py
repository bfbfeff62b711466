"""From the pieces of the files that were given to one set of samples."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeae_runtime import DataError
from edgeae_runtime.errors import Argument
from edgeae_runtime.readers import OpenTable

from .dataset import Data
from .label_codes import LabelEncoder, of_windows
from .series import Segment, cut_windows, nothing_fits, place_windows, segments_of
from .spill import SpillBuffer


@dataclass(frozen=True)
class File:
    """Labels, times and counts of one file, whose values go to the buffer."""

    where: str
    offset: int
    """Rows of the files before."""
    count: int
    times: NDArray[np.datetime64] | None
    codes: NDArray[np.int32] | None


def read_table(
    table: OpenTable, buffer: SpillBuffer, label_encoder: LabelEncoder, normal: str | None, window: int | None
) -> File:
    """Put a file's values into the buffer; without windows only those of normal rows."""
    offset = buffer.rows
    times: list[NDArray[np.datetime64]] = []
    codes: list[NDArray[np.int32]] = []
    for piece in table.pieces:
        if window is not None and piece.values.ndim != 2:
            raise DataError(
                f"{table.where}: holds samples of shape {piece.values.shape[1:]}, which are no readings in "
                "order of time; leave out ",
                Argument("window"),
            )
        keep: Any = slice(None)
        code = None if piece.labels is None else label_encoder.encode(piece.labels)
        if normal is not None and code is not None and window is None:
            keep = np.isin(code, list(label_encoder.matching(normal)))
        if isinstance(keep, slice) or keep.any():
            _append(buffer, piece.values[keep], table.where)
        times += [] if piece.times is None else [piece.times[keep]]
        codes += [] if code is None else [code[keep]]
    return File(
        table.where,
        offset,
        buffer.rows - offset,
        np.concatenate(times) if times else None,
        np.concatenate(codes) if codes else None,
    )


def _append(buffer: SpillBuffer, values: NDArray[Any], where: str) -> None:
    if buffer.like is not None and buffer.like != (values.dtype, values.shape[1:]):
        raise DataError(
            f"{where}: holds {values.dtype} samples of shape {values.shape[1:]}, the file before "
            f"{buffer.like[0]} of shape {buffer.like[1]}; give files of one kind"
        )
    buffer.append(values)


def as_rows(
    values: NDArray[Any],
    features: tuple[str, ...] | None,
    files: list[File],
    label_encoder: LabelEncoder,
) -> Data:
    """Take each row as a sample; they are in order of time where every file has times that never go back."""
    ordered = all(f.times is not None and bool(np.all(f.times[1:] >= f.times[:-1])) for f in files)
    return Data(
        values,
        features,
        labels=_labels(files, label_encoder),
        timestamps=_timestamps(files),
        segments=tuple((range(f.count),) for f in files if f.count) if ordered else None,
    )


def as_windows(
    values: NDArray[Any],
    features: tuple[str, ...] | None,
    files: list[File],
    label_encoder: LabelEncoder,
    normal: str | None,
    window: int,
    stride: int,
) -> Data:
    """Cut the readings of each file into windows."""
    wanted = [] if normal is None else list(label_encoder.matching(normal))
    places: list[tuple[range, ...]] = []
    found: list[Segment] = []
    for file in files:
        keep = None if normal is None or file.codes is None else np.isin(file.codes, wanted)
        here = segments_of(file.count, file.times, keep, file.where)
        places.append(place_windows(here, window, stride))
        found += here
    if not any(places):
        raise nothing_fits(files[0].where if len(files) == 1 else "the data", found, window)
    starts = np.concatenate([f.offset + _positions(p) for f, p in zip(files, places, strict=True)])
    labels, timestamps = None, _timestamps(files)
    if (codes := _codes(files)) is not None:
        labels = label_encoder.decode(
            of_windows(codes, starts, window, label_encoder.normal_of(codes, normal))
        )
    return Data(
        cut_windows(values, tuple(places), [f.offset for f in files], window),
        features,
        labels=labels,
        timestamps=None if timestamps is None else timestamps[starts + window - 1],
        window=window,
        stride=stride,
        segments=tuple(filter(None, places)),
    )


def _positions(places: tuple[range, ...]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, np.int64), *(np.arange(r.start, r.stop, r.step) for r in places)])


def _codes(files: list[File]) -> NDArray[np.int32] | None:
    found = [file.codes for file in files if file.codes is not None]
    return np.concatenate(found) if len(found) == len(files) else None


def _labels(files: list[File], label_encoder: LabelEncoder) -> NDArray[Any] | None:
    codes = _codes(files)
    return None if codes is None else label_encoder.decode(codes)


def _timestamps(files: list[File]) -> NDArray[np.datetime64] | None:
    found = [file.times for file in files if file.times is not None]
    return np.concatenate(found) if len(found) == len(files) else None
