"""Taking values by the names of their columns, so that their order does not matter.

Nothing is imported for it: a table or a reading is known by what it can do.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .errors import DataError


def by_name(values: Any, features: Sequence[str] | None, *, where: str = "input") -> Any:
    """Return the features' columns as an array, features along the last axis; else ``values`` as they are.

    A data frame (pandas, polars), an Arrow table, a structured array, a mapping or a series with labels has
    names, and so has a named tuple. Other columns than the features are left out, as they are of a file.
    Names that are all integers count as positions; so does everything where no ``features`` are known.

    Raises:
        DataError: a feature is missing or there twice, or the columns do not go into one array.
    """
    found = None if features is None else names_of(values)
    if features is None or found is None:
        return values
    names, pick = found
    known = {*names}
    wrong = [name for name in features if name not in known]
    if not wrong and len(known) < len(names):
        wrong = [name for name in features if names.count(name) > 1]
    if wrong:
        from .arrays import listed  # which takes longer to import than a cold start can spare

        has, found_names = "twice" if wrong[0] in names else "no", listed([str(name) for name in names])
        raise DataError(
            f"{where}: has {has} column {listed(wrong)}, found {found_names}; name the columns as the bundle "
            f"does ({', '.join(features)}), or give an array with them in this order"
        )
    try:
        return np.stack([np.asarray(pick(name)) for name in features], axis=-1)
    except (TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{where}: its columns do not make an array ({reason}); give numbers, as many in each"
        ) from error


def names_of(values: Any) -> tuple[list[Any], Callable[[str], Any]] | None:
    """Return what the columns are called, and what gives one; None where nothing has a name."""
    found = _names_of(values)
    return None if found is None or all(isinstance(n, int | np.integer) for n in found[0]) else found


def _names_of(values: Any) -> tuple[list[Any], Callable[[str], Any]] | None:
    if isinstance(values, np.ndarray | np.void):
        return ([*values.dtype.names], values.__getitem__) if values.dtype.names else None
    if isinstance(values, tuple):
        fields = getattr(values, "_fields", None)
        return ([*fields], lambda name: getattr(values, name)) if fields else None
    if hasattr(values, "column_names"):  # Arrow, whose `columns` are not names
        return [*values.column_names], values.__getitem__
    if hasattr(values, "columns"):
        return [*values.columns], values.__getitem__
    if hasattr(values, "keys"):  # a mapping; a series, whose keys are its labels
        return [*values.keys()], values.__getitem__
    return None
