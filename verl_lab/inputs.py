"""The one place where names, numbers and paths from outside are checked before anything is done with them.

What is allowed is listed, never what is forbidden. A path is compared by its parts after all links were
followed, or opened part by part where something else may change it meanwhile: never by how its text begins.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from verl_lab.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable

_SHOWN = 60
# What may be a key, or an address with a password in it, is repeated nowhere.
_PERHAPS_SECRET = re.compile(r"-----BEGIN|:[^@]*@")
_WHOLE = re.compile(r"-?[0-9]{1,19}")
_PATH = re.compile(r"(~|(~?/)|(~?(/[\w.+=@,: -]+)+/?))")
_LONGEST_PATH = 1024
_LONGEST_INSIDE = 4096


@dataclass(frozen=True)
class Shape:
    """What a text may look like.

    Attributes
    ----------
    pattern
        Must match the whole text.
    longest
        In characters.
    valid
        What is allowed, as a sentence for whoever gave something else.
    """

    pattern: re.Pattern[str]
    longest: int
    valid: str

    def check(self, field: str, value: object) -> str:
        """Return ``value`` if it has this shape.

        Raises
        ------
        InvalidInputError
            It has not; the message names ``field``.
        """
        if not isinstance(value, str) or len(value) > self.longest or not self.pattern.fullmatch(value):
            raise InvalidInputError(f"{field}: {shown(value)} will not do.", self.valid)
        return value


_FAR_PATH = Shape(
    _PATH,
    _LONGEST_PATH,
    "It is absolute or begins with ~/, has letters, digits, spaces and . _ - + = @ , : only, and no '..'.",
)


def shown(value: object) -> str:
    """Write a refused value for a message: short, on one line, and not at all where it may hold a secret."""
    if isinstance(value, str) and _PERHAPS_SECRET.search(value):
        return "what was given (it may hold a secret, so it is not shown)"
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def whole_number(field: str, value: object, *, low: int, high: int) -> int:
    """Return ``value`` as a number from ``low`` to ``high``; of texts, plain decimal digits will do.

    Raises
    ------
    InvalidInputError
        It is none, or outside.
    """
    number = value
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        number = int(value)
    if not isinstance(number, int) or isinstance(number, bool) or not low <= number <= high:
        raise InvalidInputError(
            f"{field}: {shown(value)} will not do.", f"It is a whole number from {low:,} to {high:,}."
        )
    return number


def path_text(field: str, value: object) -> str:
    """Return the text of a path, here or on another machine, if it can be nothing else than a path.

    It is absolute or begins with ``~/``, leads nowhere upwards, and no part of it means anything to a shell.
    Whether it lies where it may is another question: ``below``.

    Raises
    ------
    InvalidInputError
        It is something else.
    """
    text = _FAR_PATH.check(field, value)
    if any(part == ".." or part != part.strip() for part in text.split("/")):
        raise InvalidInputError(f"{field}: {shown(text)} will not do.", _FAR_PATH.valid)
    return text


def below(field: str, path: str | os.PathLike[str], roots: Iterable[str | os.PathLike[str]]) -> Path:
    """Return where ``path`` really lies, all links followed, if that is in one of ``roots``.

    It need not exist. Use ``open_below`` where someone else can change the folders in between.

    Raises
    ------
    InvalidInputError
        It lies elsewhere, or cannot be a path.
    """
    allowed = [Path(root).resolve() for root in roots]
    try:
        found = Path(path).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # null characters, links in a circle
        raise InvalidInputError(f"{field}: {shown(os.fspath(path))} is no path.") from error
    if not any(found.is_relative_to(root) for root in allowed):
        places = ", ".join(str(root) for root in allowed)
        raise InvalidInputError(
            f"{field}: {shown(os.fspath(path))} lies outside of what is open to it.", f"It has to lie in {places}."
        )
    return found


def path_here(field: str, path: str | os.PathLike[str]) -> Path:
    """Return a path of this machine that a user gave, with ``~`` as their home; nothing need lie there.

    Raises
    ------
    InvalidInputError
        Nothing could ever lie there: there is no such user, or no file can be called so.
    """
    try:
        found = Path(path).expanduser()
        found.exists()
    except (OSError, RuntimeError, ValueError) as error:
        said = getattr(error, "strerror", None) or str(error)
        raise InvalidInputError(f"{field}: {shown(os.fspath(path))} is no path: {said}.") from error
    return found


def is_path_here(text: str) -> bool:
    """Whether a text that may be a name is meant as a path: it has a slash, or something here is called so."""
    try:
        return "/" in text or path_here("path", text).exists()
    except InvalidInputError:
        return False


def is_below(path: str | os.PathLike[str], *roots: str | os.PathLike[str]) -> bool:
    """Whether a path really lies in one of ``roots``, as ``below``; for a message that says what that means."""
    try:
        below("path", path, roots)
    except InvalidInputError:
        return False
    return True


def path_inside(field: str, value: object) -> str:
    """Return the text of a path below some folder, if it can be nothing else: the name of a file in an archive or far.

    Raises
    ------
    InvalidInputError
        It is absolute, leads upwards, has a part without a name, or what nobody can read.
    """
    if (
        not isinstance(value, str)
        or not value.isprintable()
        or len(value) > _LONGEST_INSIDE
        or any(part in ("", ".", "..") for part in value.split("/"))
    ):
        raise InvalidInputError(f"{field}: {shown(value)} will not do.", "It is a path below the folder.")
    return value


def open_below(field: str, root: str | os.PathLike[str], inside: str, flags: int = os.O_RDONLY) -> int:
    """Open a file below ``root`` and return its descriptor; no link is followed on the way there.

    Each part is opened in the folder opened before it, so that nobody can swap one for a link meanwhile.

    Parameters
    ----------
    inside
        The path below ``root``, with ``/`` between its parts.
    flags
        Those of ``os.open``.

    Raises
    ------
    InvalidInputError
        It is absolute, leads upwards, or is or passes a link.
    NotFoundError
        There is no such file.
    """
    parts = PurePosixPath(inside).parts
    if not parts or "\0" in inside or inside.startswith("/") or ".." in parts:
        raise InvalidInputError(f"{field}: {shown(inside)} will not do.", "It is a path below the folder.")
    always = os.O_NOFOLLOW | os.O_CLOEXEC
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in parts[:-1]:
            further = os.open(part, os.O_RDONLY | os.O_DIRECTORY | always, dir_fd=folder)
            os.close(folder)
            folder = further
        return os.open(parts[-1], flags | always, 0o600, dir_fd=folder)
    except FileNotFoundError:
        raise NotFoundError(f"There is no {field} {shown(inside)}.") from None
    except UnicodeEncodeError:
        raise InvalidInputError(f"{field}: {shown(inside)} will not do.", "No file can have this name.") from None
    except OSError as error:  # ELOOP for a link, ENOTDIR for one where a folder should be
        raise InvalidInputError(f"{field}: {shown(inside)} cannot be opened: {error.strerror}.") from error
    finally:
        os.close(folder)
