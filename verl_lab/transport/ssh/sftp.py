"""Files over SFTP, for hosts that run no commands: the same answers, at a round trip or more each."""

from __future__ import annotations

import contextlib
import errno
import posixpath
import secrets
import stat
from typing import TYPE_CHECKING

from verl_lab.errors import TransportError
from verl_lab.transport.base import FileStat

if TYPE_CHECKING:
    from collections.abc import Iterator

    import paramiko


def described(sftp: paramiko.SFTPClient, path: str) -> FileStat | None:
    """Describe a path, following links; its time is known to the second only."""
    try:
        found = sftp.stat(path)
    except FileNotFoundError:  # also below a file: the protocol has no other word for that
        return None
    is_dir = stat.S_ISDIR(found.st_mode or 0)
    return FileStat(found.st_size or 0, (found.st_mtime or 0) * 10**9, is_dir=is_dir)


def listed(sftp: paramiko.SFTPClient, path: str) -> list[str]:
    """Return the sorted names in a folder; none if it does not exist."""
    try:
        return sorted(sftp.listdir(path))
    except FileNotFoundError:
        if described(sftp, path) is None:
            return []
        raise NotADirectoryError(errno.ENOTDIR, "Not a directory") from None


def read(sftp: paramiko.SFTPClient, path: str, offset: int, limit: int | None) -> bytes:
    """Return up to ``limit`` bytes from ``offset``."""
    with sftp.open(path, "rb") as file:
        size = max(0, (file.stat().st_size or 0) - offset)
        wanted = size if limit is None else min(size, limit)
        if wanted > 2**16:
            file.prefetch(offset + wanted)
        file.seek(offset)
        return file.read(wanted)


def write(sftp: paramiko.SFTPClient, path: str, content: bytes, *, only_new: bool) -> bool:
    """Write a file so that it is there as a whole or not at all; False if it was there and must be new."""
    folder, name = posixpath.split(path)
    temporary = f"{folder}/.{name[:100]}.{secrets.token_hex(4)}"
    try:
        with sftp.open(temporary, "wx") as file:
            file.set_pipelined()
            file.write(content)
        if not only_new:
            sftp.posix_rename(temporary, path)
            return True
        try:
            sftp.rename(temporary, path)  # the plain one never replaces
        except OSError:
            if described(sftp, path) is None:
                raise
            return False
        return True
    finally:
        with contextlib.suppress(OSError):
            sftp.remove(temporary)


def make_folder(sftp: paramiko.SFTPClient, path: str) -> None:
    """Make a folder and those above it."""
    for folder in _with_parents(path):
        try:
            sftp.mkdir(folder)
        except OSError:
            found = described(sftp, folder)
            if found is None or not found.is_dir:
                raise


def check(path: str) -> str:
    """Return a path that may be sent; raises ValueError for one that is relative or holds a null character."""
    if not path.startswith("/") or "\0" in path:
        raise ValueError(f"the path {path!r} is not absolute, or holds a null character")
    return path


def unsupported(host: str, task: str) -> TransportError:
    """Return the error for what files alone cannot do."""
    return TransportError(
        f"Could not {task}: {host} runs no commands for us.", "Ask its administrator for a login that may run Python."
    )


def _with_parents(path: str) -> Iterator[str]:
    place = ""
    for part in path.strip("/").split("/"):
        place = f"{place}/{part}"
        yield place
