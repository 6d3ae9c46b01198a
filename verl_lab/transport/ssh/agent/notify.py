"""Changes in folders, from Linux's inotify through the C library; elsewhere there are none, and one has to look."""

from __future__ import annotations

import os
import struct

_MODIFY, _MOVED, _CREATE, _DELETE, _SELF = 0x2, 0xC0, 0x100, 0x200, 0xC00
_ONLY_FOLDERS = 0x01000000
_IGNORED, _OVERFLOW, _IS_FOLDER = 0x8000, 0x4000, 0x40000000
_EVENT = struct.Struct("iIII")
_FLAGS = 0x80800  # not blocking, not inherited


class Notify:
    """The folders that are watched, by path."""

    def __init__(self) -> None:
        self.descriptor = -1
        self._paths: dict[int, set[str]] = {}
        self._numbers: dict[str, int] = {}
        try:
            import ctypes  # not every small Python has it

            self._c = ctypes.CDLL(None, use_errno=True)
            self.descriptor = self._c.inotify_init1(_FLAGS)
        except (ImportError, OSError, AttributeError):
            pass

    def set(self, folders: set[str]) -> None:
        """Watch these folders, and no others; one that cannot be watched is left out."""
        if self.descriptor < 0:
            return
        for path in [path for path in self._numbers if path not in folders]:
            self._drop(path)
        for path in folders:
            if path not in self._numbers:
                mask = _MODIFY | _MOVED | _CREATE | _DELETE | _SELF | _ONLY_FOLDERS
                number = self._c.inotify_add_watch(self.descriptor, os.fsencode(path), mask)
                if number >= 0:
                    self._numbers[path] = number
                    self._paths.setdefault(number, set()).add(path)

    def forget(self, path: str) -> None:
        """Let ``set`` watch a folder anew: another one lies there now."""
        if path in self._numbers:
            self._drop(path)

    def read(self) -> tuple[set[tuple[str, str]], bool]:
        """Return (folder, name) of what changed, and whether folders came or went, or it is not known what did."""
        found: set[tuple[str, str]] = set()
        is_structural = False
        try:
            content = os.read(self.descriptor, 2**16)
        except BlockingIOError:
            return found, False
        place = 0
        while place < len(content):
            number, mask, _, length = _EVENT.unpack_from(content, place)
            place += _EVENT.size + length
            name = os.fsdecode(content[place - length : place].rstrip(b"\0"))
            if mask & (_SELF | _OVERFLOW | _IS_FOLDER | _IGNORED):
                is_structural = True
            for path in self._paths.get(number, ()):
                found.add((path, name))
            if mask & _IGNORED:
                for path in self._paths.pop(number, set()):
                    self._numbers.pop(path, None)
        return found, is_structural

    def _drop(self, path: str) -> None:
        number = self._numbers.pop(path)
        left = self._paths.get(number, set())
        left.discard(path)
        if not left:
            self._paths.pop(number, None)
            self._c.inotify_rm_watch(self.descriptor, number)
