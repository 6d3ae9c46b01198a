"""Declaring, parsing and documenting a magic's line, and saying what was wrong with it."""

from __future__ import annotations

import argparse
import functools
import shlex
from typing import TYPE_CHECKING, Any, NoReturn, cast

from verl_lab.errors import VerlLabError

if TYPE_CHECKING:
    from collections.abc import Callable


class MagicError(Exception):
    """A user's mistake, shown as its message alone; the cell still counts as failed."""

    def __init__(self, message: str, cause: VerlLabError | None = None) -> None:
        super().__init__(message)
        self.cause = cause

    def _render_traceback_(self) -> list[str]:
        """Tell IPython what to show in place of a traceback."""
        return [str(self)]


class LineParser(argparse.ArgumentParser):
    """An argument parser that raises instead of ending the process."""

    @property
    def flags(self) -> list[str]:
        """Every option's spellings."""
        return [flag for action in self._actions for flag in action.option_strings]

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would have printed before it left."""
        raise MagicError(f"{self.prog}: {message}.\n{self.format_usage().strip()}\n{self.prog}? tells more.")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        """End the magic after ``--help``."""
        raise _HelpShownError(status, message)


class _HelpShownError(Exception):
    pass


def arguments(name: str, summary: str, *declared: tuple[tuple[str, ...], dict[str, Any]]) -> Callable[[Any], Any]:
    """Make a magic from a method that takes the parsed line (and the cell's text, for a cell magic).

    The parser's help becomes the magic's docstring, so ``%name?`` shows it.
    """
    parser = LineParser(prog=f"%{name}", description=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
    for flags, options in declared:
        parser.add_argument(*flags, **options)

    def wrap(method: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(method)
        def magic(self: Any, line: str, cell: str | None = None) -> Any:
            try:
                parsed = parser.parse_args(_split(line))
                return method(self, parsed) if cell is None else method(self, parsed, cell)
            except _HelpShownError:
                return None
            except VerlLabError as error:
                self.last_error = error
                raise MagicError(str(error), error) from error

        magic.__doc__ = parser.format_help()
        cast("Any", magic).parser = parser
        return magic

    return wrap


def argument(*flags: str, **options: Any) -> tuple[tuple[str, ...], dict[str, Any]]:
    """Declare one argument, as ``ArgumentParser.add_argument`` takes it."""
    return flags, options


def thresholds_of(words: list[str]) -> dict[str, dict[str, Any]] | None:
    """Return thresholds from words like ``kl-explosion.threshold=2``; None without any."""
    found: dict[str, dict[str, Any]] = {}
    for word in words:
        name, equals, text = word.partition("=")
        rule, dot, parameter = name.rpartition(".")
        if not (equals and dot and rule and parameter):
            raise MagicError(f"{word!r} is no threshold. Write it as kl-explosion.threshold=2.")
        try:
            value: Any = {"true": True, "false": False}.get(text.lower())
            found.setdefault(rule, {})[parameter] = float(text) if value is None else value
        except ValueError:
            raise MagicError(f"{word!r}: {text!r} is neither a number nor true or false.") from None
    return found or None


def _split(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError as error:
        raise MagicError(f"The line cannot be split into words: {error}.") from error
