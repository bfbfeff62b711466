"""Settings that stand in one struct: what they may be, the checks in Python, and a TOML file of them.

A field says all there is to say of a setting, and nothing else says it again::

    epochs: Annotated[int, msgspec.Meta(gt=0, description="At most.")] = 50

Its type and bounds are what `check` and a file are held to and what the command's option takes; its
description is the option's help. ``extra`` may say what None stands for (``derived``), and what the help has
for the value (``metavar``).
"""

import math
import numbers
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from .errors import Argument, EdgeaeError

TABLES = ("train", "export")
"""Of a file of settings: one for each command that has some."""

_BOUNDS = ("gt", "ge", "lt", "le")
_KINDS: dict[type, tuple[type, str]] = {
    int: (numbers.Integral, "a whole number"),
    float: (numbers.Real, "a number"),
    bool: (bool, "true or false"),
    str: (str, "text in quotes"),
    Path: (Path, "a path"),
}
"""What a field may be of: the class that its values have, numpy's too, and its name in a message."""

S = TypeVar("S", bound=msgspec.Struct)


class SettingsError(EdgeaeError, ValueError):
    """A setting has a value that it cannot have, or settings do not go together, or not with the data."""


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """A setting, from a field of a struct and its annotations."""

    name: str
    kind: type
    """int, float, bool, str or Path; of each one where there are several."""
    choices: tuple[str, ...]
    """The known words, in the order of their declaration; none where the setting is no word."""
    several: bool
    optional: bool
    default: Any
    help: str
    derived: str | None
    """What None stands for."""
    bounds: dict[str, Any]
    """Of a number: some of ``gt``, ``ge``, ``lt`` and ``le``."""
    each: str | None
    """What there is one value for, where there are several numbers."""
    metavar: str | None
    """What the help of the command has for the value, where that is not its kind."""

    def has_type(self, value: Any) -> bool:
        """Return whether a value is of the right type, whatever its range; a word is of any."""
        if value is None:
            return self.optional
        values = value if self.several and isinstance(value, tuple | list) else [value]
        if self.several is not isinstance(value, tuple | list):
            return False
        if self.choices:
            return True
        wanted = _KINDS[self.kind][0]
        return all(isinstance(v, wanted) and isinstance(v, bool) is (wanted is bool) for v in values)

    def check(self, value: Any) -> None:
        """Refuse a value that the setting cannot have.

        Raises:
            SettingsError: it is of another type, no known word, out of range, no finite number, or an
                integer of more than 64 bits.
        """
        if not (self.has_type(value) and self._in_range(value)):
            found = repr(value) if isinstance(value, str) else value
            raise SettingsError(f"{self.name}: expected {self._expected(value)}, found {found}")

    def _in_range(self, value: Any) -> bool:
        if value is None:
            return True
        if not self.several:
            return self._fits(value)
        if self.choices and not (value and len(set(map(str, value))) == len(value)):
            return False
        return all(map(self._fits, value))

    def _fits(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        if isinstance(value, bool | str | Path):
            return True
        gt, ge, lt, le = map(self.bounds.get, _BOUNDS)
        finite = (
            -(2**63) <= int(value) < 2**63 if isinstance(value, numbers.Integral) else math.isfinite(value)
        )
        return bool(
            finite
            and (gt is None or value > gt)
            and (ge is None or value >= ge)
            and (lt is None or value < lt)
            and (le is None or value <= le)
        )

    def _expected(self, value: Any) -> str:
        """Return what would do instead of a value that does not."""
        if self.choices:
            words = ", ".join(self.choices)
            return f"a list of some of {words}, each once" if self.several else f"one of {words}"
        kind = "" if self.has_type(value) else _KINDS[self.kind][1]
        text = ", ".join(filter(None, (kind, self._range())))
        if not self.several:
            return text
        return f"{text} in each {self.each}" if self.has_type(value) else f"a list of {text}"

    def _range(self) -> str:
        gt, ge, lt, le = map(self.bounds.get, _BOUNDS)
        if gt is not None and lt is not None:
            return f"between {gt:g} and {lt:g}"
        if ge is not None and le is not None:
            return f"{ge} to {le}"
        if gt is not None:
            return f"more than {gt:g}"
        return f"{ge:g} or more" if ge is not None else ""


@cache
def settings(struct: type[msgspec.Struct]) -> tuple[Setting, ...]:
    """Return what the fields of a struct say, in order."""
    return tuple(map(_setting, msgspec.structs.fields(struct)))


def check(config: msgspec.Struct) -> None:
    """Refuse a struct of settings one of which has a value that it cannot have.

    Raises:
        SettingsError: see `Setting.check`.
    """
    for setting in settings(type(config)):
        setting.check(getattr(config, setting.name))


def read_settings(path: Path, struct: type[S], table: str) -> dict[str, Any]:
    """Read one table of a TOML file, whose keys are the names of a struct's fields.

    Args:
        path: the file.
        struct: of the settings.
        table: one of `TABLES`.

    Returns:
        what the file sets, checked, in the struct's types; what it leaves out is not in there.

    Raises:
        SettingsError: the file cannot be read, has no such table, or a key or a value is wrong; with the
            file, the key, what was expected and what was found.
    """
    content = _load(path)
    for name, value in content.items():
        if name not in TABLES or not isinstance(value, dict):
            found = "another table" if isinstance(value, dict) else "a value outside of them"
            raise SettingsError(
                f"{path}: {_key(name)}: expected only the tables {' and '.join(f'[{t}]' for t in TABLES)}, "
                f"found {found}; put settings below a line [{table}]"
            )
    if table not in content:
        raise SettingsError(
            f"{path}: expected a table [{table}], found none; add it, or leave out ", Argument("config")
        )
    known = {setting.name: setting for setting in settings(struct)}
    values: dict[str, Any] = {}
    for name, value in content[table].items():
        if name not in known:
            raise SettingsError(f"{path}: [{table}] {_key(name)}: {_unknown(name, list(known))}")
        is_path = known[name].kind is Path and isinstance(value, str)
        values[name] = Path(value) if is_path else value  # of which TOML has none
        try:
            known[name].check(values[name])
        except SettingsError as error:
            raise SettingsError(f"{path}: [{table}] {error}; {_remedy(known[name])}") from None
    whole = msgspec.convert(values, struct)
    return {name: getattr(whole, name) for name in values}


def _load(path: Path) -> Mapping[str, Any]:
    import tomllib

    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); name a TOML file") from error
    except (ValueError, RecursionError) as error:  # of text that is not UTF-8 too
        raise SettingsError(f"{path}: expected TOML, found something else ({error}); correct it") from error


def _key(name: str) -> str:
    return name if name.isidentifier() else repr(name)


def _unknown(name: str, known: list[str]) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"found no setting of this name, expected one of {', '.join(known)}; " + (
        f"write {near[0]}, or delete the line" if near else "delete the line"
    )


def _remedy(setting: Setting) -> str:
    if setting.default is None:
        default = setting.derived or "none"
    elif setting.several:
        default = ", ".join(map(str, setting.default))
    else:
        default = str(setting.default).lower() if isinstance(setting.default, bool) else str(setting.default)
    return f"correct it, or delete the line (default: {default})"


def _setting(field: msgspec.structs.FieldInfo) -> Setting:
    kind, notes = _bare(field.type)
    optional = get_origin(kind) in (Union, UnionType)
    if optional:
        (kind,) = (part for part in get_args(kind) if part is not NoneType)
        kind, more = _bare(kind)
        notes |= more
    several = get_origin(kind) is tuple
    of_each = notes
    if several:
        kind, of_each = _bare(get_args(kind)[0])
    choices = get_args(kind) if get_origin(kind) is Literal else ()
    return Setting(
        name=field.name,
        kind=str if choices else kind,
        choices=choices,
        several=several,
        optional=optional,
        default=field.default,
        help=notes["description"],
        derived=notes.get("derived"),
        bounds={name: of_each[name] for name in _BOUNDS if name in of_each},
        each=of_each.get("title") if several else None,
        metavar=notes.get("metavar"),
    )


def _bare(annotation: Any) -> tuple[Any, dict[str, Any]]:
    """Return a type without its annotations, and these."""
    notes: dict[str, Any] = {}
    if get_origin(annotation) is Annotated:
        annotation, *metas = get_args(annotation)
        for meta in metas:
            given = {name: getattr(meta, name) for name in (*_BOUNDS, "title", "description")}
            notes |= {name: value for name, value in given.items() if value is not None} | (meta.extra or {})
    return annotation, notes
