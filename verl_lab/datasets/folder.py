"""The files of a data set: those in a folder, and nothing that leads out of it."""

from __future__ import annotations

import contextlib
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from verl_lab.errors import InvalidInputError, NotFoundError, TransportError, VerlLabError
from verl_lab.inputs import is_below

if TYPE_CHECKING:
    from collections.abc import Generator

_MOST_FILES = 100_000
_DEEPEST = 32


@dataclass(frozen=True)
class Found:
    """What lies at a path.

    Attributes
    ----------
    path
        Absolute; a link stays the link that the user chose.
    files
        By their paths below the folder, sorted: where to open each. Of a file, itself alone.
    """

    path: Path
    is_folder: bool
    files: dict[str, Path]


def find(path: str | os.PathLike[str]) -> Found:
    """Return the files that lie at ``path``.

    Hidden files and what ``datasets`` keeps in its folders for itself (``cache-*.arrow``) are no data.

    Raises
    ------
    NotFoundError
        There is nothing.
    InvalidInputError
        Something in it is no plain file, has a name that cannot be kept, or is a link that leads out
        of the folder; or it is too much to be a data set.
    """
    text = os.fspath(path)
    if not text.isprintable() or not text:
        raise InvalidInputError(f"path: {text!r} is no path that can be kept.", "It has to be readable text.")
    chosen = Path(os.path.abspath(Path(text).expanduser()))  # noqa: PTH100  resolve() would follow the user's link
    with translated(f"look at {chosen}"):
        try:
            real = chosen.resolve(strict=True)
        except FileNotFoundError:
            raise NotFoundError(f"There is nothing at {chosen}.", "Give a file, or a folder of files.") from None
        if real.is_dir():
            files: dict[str, Path] = {}
            _walk(real, real, 0, files)
            if not files:
                raise InvalidInputError(f"path: {chosen} holds no file.")
            return Found(chosen, is_folder=True, files=dict(sorted(files.items())))
        if not real.is_file():
            raise InvalidInputError(f"path: {chosen} is neither a file nor a folder.")
        return Found(chosen, is_folder=False, files={chosen.name: real})


@contextlib.contextmanager
def translated(task: str) -> Generator[None]:
    """Turn what the operating system says into an error of ours."""
    try:
        yield
    except VerlLabError:
        raise
    except (OSError, RuntimeError) as error:  # RuntimeError: links in a circle, before Python 3.13
        raise TransportError(f"Could not {task}: {getattr(error, 'strerror', None) or error}.") from error


def _walk(folder: Path, root: Path, depth: int, files: dict[str, Path]) -> None:
    if depth > _DEEPEST:
        raise InvalidInputError(f"path: {root} has more than {_DEEPEST} folders inside one another.")
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.name.startswith(".") or (entry.name.startswith("cache-") and entry.name.endswith(".arrow")):
                continue
            inside = f"{Path(entry.path).relative_to(root)}"
            if not entry.name.isprintable():
                raise InvalidInputError(
                    f"path: {inside!r} in {root} has a name that is no readable text.", "Rename it."
                )
            if entry.is_dir(follow_symlinks=False):
                _walk(Path(entry.path), root, depth + 1, files)
            else:
                files[inside] = _plain_file(entry, inside, root)
            if len(files) > _MOST_FILES:
                raise InvalidInputError(
                    f"path: {root} holds more than {_MOST_FILES:,} files.", "Give one of its parts."
                )


def _plain_file(entry: os.DirEntry[str], inside: str, root: Path) -> Path:
    """Return where an entry's bytes lie."""
    if not entry.is_symlink():
        if entry.is_file(follow_symlinks=False):
            return Path(entry.path)
        kind = stat.S_IFMT(entry.stat(follow_symlinks=False).st_mode)
        raise InvalidInputError(f"path: {inside} in {root} is {_SPECIAL.get(kind, 'no plain file')}.", "Take it out.")
    try:
        target = Path(entry.path).resolve(strict=True)
    except (OSError, RuntimeError):
        raise InvalidInputError(f"path: {inside} in {root} is a link that leads nowhere.", "Take it out.") from None
    if not is_below(target, root):
        hint = "Put the file itself there, or add the file alone."
        raise InvalidInputError(f"path: {inside} in {root} is a link that leads out of the folder.", hint)
    if not target.is_file():
        raise InvalidInputError(f"path: {inside} in {root} is a link to what is no file.", "Take it out.")
    return target


_SPECIAL = {stat.S_IFIFO: "a named pipe", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
