"""The errors verl-lab raises, as one tree.

::

    VerlLabError
    ├── NotFoundError (LookupError)        no such run, recipe, metric, file; names the nearest
    ├── InvalidInputError (ValueError)     a value from a user is not acceptable; names the field
    │   └── InvalidConfigurationError      one or many problems found in a verl configuration
    ├── FormatError (ValueError)           a file is not what it was taken for
    ├── EnvironmentMismatchError (RuntimeError)  what is installed cannot do what was asked
    ├── LaunchError (RuntimeError)         a run could not be started, stopped or resumed
    ├── TransportError (OSError)           a host or its file system did not answer as it should
    │   ├── UnreachableError               no connection, or it broke; whether what was asked was done is not known
    │   └── NoSpaceError                   there is less room than is needed; nothing was begun
    ├── ReportError (RuntimeError)         a report's notebook stopped before its end; names the cell
    └── StoreError (RuntimeError)          the database refused or is unusable
        └── StoreBusyError             another program holds it, or its server is away: it works again by itself

Every error says what is wrong in its message and what to do next in ``hint``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


class VerlLabError(Exception):
    """Base of all errors of this package.

    Parameters
    ----------
    message
        What is wrong, in one line that a user can act on.
    hint
        What to do next, if there is something to do.
    """

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n{self.hint}" if self.hint else self.message


class NotFoundError(VerlLabError, LookupError):
    """There is no run, recipe, metric or file of that name."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str], hint: str | None = None) -> NotFoundError:
        """Say that ``name`` is no ``kind``, and which known names are nearest."""
        near = nearest(name, known)
        guess = f"The nearest: {', '.join(near)}." if near else None
        return cls(f"There is no {kind} {name!r}.", " ".join(x for x in (guess, hint) if x) or None)


class InvalidInputError(VerlLabError, ValueError):
    """A value given by a user is not acceptable; the message names field, value and what is."""


class InvalidConfigurationError(InvalidInputError):
    """A verl configuration has problems; ``problems`` holds one line for each."""

    def __init__(self, message: str, hint: str | None = None, problems: Sequence[str] = ()) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, tuple(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join([super().__str__(), *(f"  - {problem}" for problem in self.problems)])


class FormatError(VerlLabError, ValueError):
    """A file or line is not in the format it was taken for."""


class EnvironmentMismatchError(VerlLabError, RuntimeError):
    """What is installed here cannot do what was asked."""


class LaunchError(VerlLabError, RuntimeError):
    """A run could not be started, stopped or resumed."""


class TransportError(VerlLabError, OSError):
    """A host or its file system did not answer as it should."""

    def __str__(self) -> str:
        return VerlLabError.__str__(self)


class UnreachableError(TransportError):
    """The host cannot be reached now, which says nothing about what runs on it."""


class NoSpaceError(TransportError):
    """A file system has less room than is needed; the message names both."""


class ReportError(VerlLabError, RuntimeError):
    """A report's notebook stopped before its end; the message names the cell."""


class StoreError(VerlLabError, RuntimeError):
    """The database refused, is locked, or is not one of ours."""


class StoreBusyError(StoreError):
    """The database cannot be used for the moment; nothing was written, and the same may be asked again."""


def nearest(name: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to ``count`` of ``known`` that look most like ``name``, best first."""
    import difflib  # only when something goes wrong: this module is part of what training imports

    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=count, cutoff=0.5)
    inside = [n for n in names if name and name.lower() in n.lower() and n not in close]
    return (close + inside)[:count]
