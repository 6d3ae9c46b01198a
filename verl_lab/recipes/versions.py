"""Every version of every recipe, by the hash of its text, and the changes that led from one to the next.

A folder holds ``<sha256>.yaml`` for each text and ``changes.jsonl``, one line a change, in order.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import time
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import orjson

from verl_lab.errors import InvalidInputError, NotFoundError, StoreError
from verl_lab.recipes.catalog import version_of

if TYPE_CHECKING:
    from collections.abc import Generator

_REVERSIBLE = ("saved", "forked", "imported", "renamed", "deleted")
SHOWN = 12
"""How much of a version is shown to people; as much, or less, finds it again."""
_SHORTEST = 4


@dataclass(frozen=True)
class Change:
    """One thing that happened to a recipe.

    Attributes
    ----------
    action
        ``saved``, ``forked``, ``imported``, ``renamed``, ``deleted``, ``undone``; ``found`` is a
        text that something else wrote, and ``launched`` one that a run was started with.
    name
        The recipe, as it is called after the change.
    file
        Its file.
    before, after
        The versions of the file's text; None where there was no file.
    recipe
        The version of the whole recipe, what it extends included; None for one that is broken.
    was
        The name it had, or the recipe that it was made from.
    parent
        The version it was made from, where that is not ``before``.
    undoes
        The ``id`` of the change that was taken back.
    """

    action: str
    name: str
    file: str
    before: str | None
    after: str | None
    recipe: str | None = None
    was: str | None = None
    parent: str | None = None
    undoes: int | None = None
    time: float = field(default_factory=time.time)
    id: int = -1

    @property
    def reversible(self) -> bool:
        """Whether it is a change that can be taken back."""
        return self.action in _REVERSIBLE

    def __str__(self) -> str:
        of = f" from {self.was}" if self.was and self.action != "saved" else ""
        return f"{self.name}: {self.action}{of}"


class Versions:
    """The versions and changes kept in one folder, which is made when first needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._changes = folder / "changes.jsonl"

    @contextlib.contextmanager
    def writing(self) -> Generator[None]:
        """Keep every other writer of this lab out, in other processes too."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def keep(self, text: str) -> str:
        """Keep a text and return its version."""
        version = version_of(text)
        path = self._path(version)
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            replace_file(path, text)
        return version

    def text(self, version: str) -> str:
        """Return the text of a version.

        Raises
        ------
        NotFoundError
            It is not kept here.
        StoreError
            What is kept is not what was put there.
        """
        try:
            text = self._path(version).read_bytes().decode("utf-8")
        except OSError as error:
            raise NotFoundError(f"The recipe version {version[:SHOWN]} is not kept here.") from error
        if version_of(text) != version:
            raise StoreError(f"{self._path(version)}: holds another text than the one it is named after.")
        return text

    def record(self, change: Change) -> Change:
        """Add a change, inside of ``writing``, and return it with its id."""
        known = self.changes()
        numbered = replace(change, id=known[-1].id + 1 if known else 0)
        torn = self._changes.exists() and not self._changes.read_bytes().endswith(b"\n")
        line = b"\n" * torn + orjson.dumps(asdict(numbered)) + b"\n"
        descriptor = os.open(self._changes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(descriptor, line)
        finally:
            os.close(descriptor)
        return numbered

    def changes(self) -> list[Change]:
        """Return every change, oldest first; a line that was not written whole is passed over."""
        try:
            lines = self._changes.read_bytes().splitlines()
        except FileNotFoundError:
            return []
        return [change for line in lines if (change := _decode(line)) is not None]

    def of(self, name: str) -> list[Change]:
        """Return the changes of the recipe now called ``name``, newest first, those before a rename included."""
        found: list[Change] = []
        for change in reversed(self.changes()):
            if change.name == name:
                found.append(change)
                if change.action == "renamed" and change.was is not None:
                    name = change.was
        return found

    def _path(self, version: str) -> Path:
        return self._folder / f"{version}.yaml"


def match(version: str, known: list[str], name: str) -> str:
    """Return the one of ``known`` that begins with ``version``.

    Raises
    ------
    NotFoundError
        None does.
    InvalidInputError
        Several do, or it is too short to tell.
    """
    found = sorted({one for one in known if one.startswith(version)})
    if len(version) < _SHORTEST or len(found) > 1:
        raise InvalidInputError(
            f"version: {version!r} stands for several versions of {name!r}.", f"Give at least {SHOWN} digits of it."
        )
    if not found:
        raise NotFoundError(
            f"There is no version {version!r} of the recipe {name!r}.", f"'%verl_recipes {name} --versions' lists them."
        )
    return found[0]


def replace_file(path: Path, text: str, *, private: bool = True) -> None:
    """Write a file so that it holds either all of the new text or what it held before."""
    descriptor, scratch = tempfile.mkstemp(prefix=f".{path.stem[:20]}-", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text.encode("utf-8"))
            file.flush()
            if not private:
                os.fchmod(file.fileno(), _usual_mode(path))
            os.fsync(file.fileno())
        Path(scratch).replace(path)
    except BaseException:
        Path(scratch).unlink(missing_ok=True)
        raise


def _usual_mode(path: Path) -> int:
    try:
        return path.stat().st_mode & 0o777
    except OSError:
        mask = os.umask(0)
        os.umask(mask)
        return 0o666 & ~mask


def _decode(line: bytes) -> Change | None:
    try:
        found: object = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(found, dict):
        return None
    record = cast("dict[str, Any]", found)
    try:
        return Change(**{one.name: record[one.name] for one in fields(Change) if one.name in record})
    except TypeError:
        return None
