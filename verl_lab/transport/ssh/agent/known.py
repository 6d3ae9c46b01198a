"""One followed file: what the client knows of it, and what is new about it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from verl_lab.transport.ssh.agent import files

if TYPE_CHECKING:
    from collections.abc import Callable

PROBE_BYTES = 1024
PUSHED_BYTES = 2**16


class KnownFile:
    """What the client knows of a file: how it was described, where its bytes end, and what they begin and end with."""

    def __init__(self) -> None:
        self.stat: list[Any] | None = None
        self.is_stat_known = False
        self.end = -1  # its bytes are not followed
        self.taken = 0
        self.head = b""
        self.foot = b""
        self.is_told_behind = False

    def saw(self, head: bytes, foot: bytes, end: int) -> None:
        """Note that the client has its bytes up to ``end``, and what these begin and end with."""
        self.head, self.foot, self.end = head, foot, end
        self.is_told_behind = False


def ahead(path: str, file: KnownFile, begin: int, limit: int) -> tuple[bytes, bytes] | None:
    """Return a file's beginning, if it lies before ``begin``, and all from there on; None if that is too much."""
    if file.stat is None or file.stat[2] or not begin <= file.stat[0] <= begin + limit:
        return None
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        content = pread(descriptor, limit + 1, begin)
        if len(content) > limit:
            return None
        end = begin + len(content)
        head, foot = ends(descriptor, end)
        file.saw(head, foot, end)
        file.taken = end
        return head, content
    finally:
        os.close(descriptor)


def look(path: str, file: KnownFile, *, is_touched: bool) -> tuple[list[Any] | None, str, int, bytes] | None:
    """Return what is new about a file: its description, what became of its bytes, where new ones begin, and those.

    What became of them is ``same``, ``more``, ``anew`` or ``behind``: the client then has to fetch them.
    """
    found: list[Any] | None = quietly(files.described, path)
    is_new = not file.is_stat_known or found != file.stat
    if not is_new and not is_touched:
        return None
    file.stat, file.is_stat_known = found, True
    was_told_behind = file.is_told_behind or file.end < 0
    try:
        what, begin, content = _bytes(path, file)
    except OSError:
        file.end = -1
        what, begin, content = "behind", 0, b""
    if not is_new and (what == "same" or (what == "behind" and was_told_behind)):
        return None
    if content:
        found = sized(found, file.end)
    return found, what, begin, content


def _bytes(path: str, file: KnownFile) -> tuple[str, int, bytes]:
    if file.end < 0:
        return "behind", 0, b""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        size = os.fstat(descriptor).st_size
        if size < file.end or ends(descriptor, file.end) != (file.head, file.foot):
            if size > PUSHED_BYTES:
                file.end = -1
                return "behind", 0, b""
            content = pread(descriptor, PUSHED_BYTES, 0)
            file.saw(*ends(descriptor, len(content)), len(content))
            file.taken = 0
            return "anew", 0, content
        begin = file.end
        if size == begin:
            return "same", 0, b""
        if size - file.taken > PUSHED_BYTES:
            file.is_told_behind = True
            return "behind", 0, b""
        content = pread(descriptor, PUSHED_BYTES, begin)
        end = begin + len(content)
        file.saw(*ends(descriptor, end), end)
        return "more", begin, content
    finally:
        os.close(descriptor)


def sized(found: list[Any] | None, size: int) -> list[Any] | None:
    """Return the description with the size that the bytes told have: the file may have grown between two looks."""
    return found and [size, *found[1:]]


def ends(descriptor: int, end: int) -> tuple[bytes, bytes]:
    """Return what a file's bytes up to ``end`` begin and end with."""
    start = max(0, end - PROBE_BYTES)
    return pread(descriptor, min(PROBE_BYTES, end), 0), pread(descriptor, end - start, start)


def pread(descriptor: int, size: int, offset: int) -> bytes:
    """Return ``size`` bytes from ``offset``, less only where the file ends."""
    content = os.pread(descriptor, size, offset)
    while 0 < len(content) < size:
        more = os.pread(descriptor, size - len(content), offset + len(content))
        if not more:
            break
        content += more
    return content


def quietly(look: Callable[[str], Any], path: str) -> Any:
    """Look; what cannot be looked at is not there, and whoever asks for it by itself hears why."""
    try:
        return look(path)
    except (OSError, ValueError):
        return None
