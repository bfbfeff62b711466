"""Training data: reading it from whatever people have."""

from collections.abc import Sequence

from edgeae_runtime import DataError
from edgeae_runtime.errors import Argument

from .assemble import File, as_rows, as_windows, read_table
from .dataset import Data
from .label_codes import LabelEncoder
from .series import check_window
from .sources import DataSource, open_tables
from .spill import SpillBuffer


def load_data(
    source: DataSource,
    *,
    columns: Sequence[str] | None = None,
    label_column: str | None = None,
    normal: str | int | None = None,
    window: int | None = None,
    stride: int = 1,
) -> Data:
    """Read training data, in raw units; what is too large for memory is kept in a temporary file.

    Of a table, numbers are features, and a column of dates or times is the time of the row.

    Args:
        source: a file (CSV, JSON lines, WAV, Parquet, NumPy or IDX; see docs/data.md), or ``-`` for standard
            input; several files; a folder of tables, or of pictures (``.png``, ``.jpg``); an array (n, …);
            an Arrow table, a pandas DataFrame, or another table that exports itself as Arrow; or
            ``digits``: scikit-learn's 1,797 images of 8x8.
        columns: the features of a table by name, else all columns of numbers; other sources are read whole.
        label_column: the column of a table that holds the labels.
        normal: keep only the rows with this label; for windows, those in which all readings have it.
        window: make samples (window, channels) of so many readings each. None of them reaches from one
            file into the next, nor across a gap: a step in time of more than 1.5 times the usual one.
        stride: readings from the start of one window to the start of the next.

    Raises:
        DataError: a source cannot be read; holds text, NaN or infinity; times do not increase, or no
            window fits, where windows are wanted; pictures differ in size; no row has the normal label.
        (warning) EdgeaeWarning: readings are left out because they are too few for a window.
    """
    check_window(window, stride)
    name = None if normal is None else str(normal)
    buffer, label_encoder, files = SpillBuffer(), LabelEncoder(), list[File]()
    features: tuple[str, ...] | None = None
    for table in open_tables(source, columns, label_column, series=window is not None):
        features = table.features if features is None else features
        files.append(read_table(table, buffer, label_encoder, name, window))
    if name is not None and not label_encoder.names:
        raise DataError(
            f"{files[0].where}: a normal label was named, but no labels; name their ",
            Argument("label_column"),
        )
    if name is not None and not label_encoder.matching(name):
        raise label_encoder.unknown(files[0].where, name)
    values = buffer.finish()
    if window is None:
        return as_rows(values, features, files, label_encoder)
    return as_windows(values, features, files, label_encoder, name, window, stride)
