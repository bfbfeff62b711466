"""A command's options for the settings of a struct, and the file of settings beside them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec
from click.core import ParameterSource

from ..settings import Setting, check, read_settings, settings

_RANGES: dict[type, Callable[..., click.ParamType[Any]]] = {int: click.IntRange, float: click.FloatRange}

F = TypeVar("F", bound=Callable[..., Any])
S = TypeVar("S", bound=msgspec.Struct)


class WordList(click.ParamType[tuple[str, ...]]):
    """A comma-separated list of known words."""

    name = "list"

    def __init__(self, known: tuple[str, ...]) -> None:
        """Take the words to choose from."""
        self.known = known

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Return the words, each once.

        Raises:
            click.BadParameter: one is not known.
        """
        if isinstance(value, tuple):
            return value
        words = tuple(dict.fromkeys(word.strip() for word in str(value).split(",")))
        unknown = [word for word in words if word not in self.known]
        if unknown:
            self.fail(f"{', '.join(map(repr, unknown))} is not one of {', '.join(self.known)}", param, ctx)
        return words


def setting_options(struct: type[msgspec.Struct], table: str | None = None) -> Callable[[F], F]:
    """Add an option for each setting of a struct, and ``--config``; `chosen` takes what they say.

    Args:
        struct: of the settings.
        table: its table in a file of settings; where it has none there is no ``--config``.
    """

    def add(command: F) -> F:
        for setting in reversed(settings(struct)):
            command = _option(setting)(command)
        if table is None:
            return command
        return click.option(
            "--config",
            type=click.Path(path_type=Path),
            metavar="FILE.toml",
            help=f"Settings from the table [{table}] of a TOML file, by the names of the options with _ for "
            "-; options given here come before it.",
        )(command)

    return add


def chosen(struct: type[S], table: str | None, given: dict[str, Any]) -> S:
    """Return the settings: those of the command line, else of the file, else of the defaults.

    Args:
        struct: as for `setting_options`.
        table: as for `setting_options`.
        given: the command's parameters; those of the settings and of ``--config`` are taken out.

    Raises:
        SettingsError: the file or a value is wrong.
    """
    path = None if table is None else given.pop("config")
    values = {} if path is None or table is None else read_settings(path, struct, table)
    context = click.get_current_context()
    for setting in settings(struct):
        value = given.pop(setting.name)
        if context.get_parameter_source(setting.name) is not ParameterSource.DEFAULT:
            values[setting.name] = value
    config = struct(**values)
    check(config)  # click's ranges let NaN and infinity through
    return config


def _option(setting: Setting) -> Callable[[F], F]:
    name = setting.name.replace("_", "-")
    text = setting.help
    if setting.derived is not None:
        text += f"  [default: {setting.derived}]"
    more: dict[str, Any] = {"help": text, "metavar": setting.metavar}
    if setting.default is not None:
        more |= {"default": setting.default, "show_default": True}
    if setting.kind is bool:
        return click.option(f"--{name}/--no-{name}", **more)
    if setting.kind is Path:
        more["type"] = click.Path(path_type=Path)
    if setting.kind in _RANGES:
        gt, ge, lt, le = map(setting.bounds.get, ("gt", "ge", "lt", "le"))
        more["type"] = _RANGES[setting.kind](
            min=gt if ge is None else ge,
            max=lt if le is None else le,
            min_open=gt is not None,
            max_open=lt is not None,
        )
    if setting.choices:
        more["type"] = (WordList if setting.several else click.Choice)(setting.choices)
    if setting.choices and setting.several:
        more["default"] = ",".join(setting.default)
    elif setting.several:
        more["multiple"] = True
    return click.option(f"--{name}", **more)
