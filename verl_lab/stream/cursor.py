"""From the bytes of a growing file to complete lines or records: pure, it touches no file.

A cursor knows how far a file was read, and what the part read begins and ends with. Before more is
read, both ends are compared: a file that shrank, was truncated and written again, or was replaced by
another one (of whatever size and inode) no longer holds them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from verl_lab.errors import FormatError

PROBE_BYTES = 1024
LONGEST_LINE_BYTES = 32 * 2**20

_DIGEST_BYTES = 16
_EXCERPT_BYTES = 500


@dataclass(frozen=True)
class Cursor:
    """A place in a file.

    Attributes
    ----------
    offset
        Bytes read. Always the beginning of a line or record, unless ``skipping``.
    head, foot
        Digests of the first and the last 1,024 of the bytes read (of all if there are fewer).
    skipping
        Whether the place lies inside something that is being passed over, to the next beginning.
    """

    offset: int = 0
    head: bytes = b""
    foot: bytes = b""
    skipping: bool = False

    @property
    def head_bytes(self) -> int:
        """How many bytes of the file's beginning ``head`` is the digest of."""
        return min(PROBE_BYTES, self.offset)

    @property
    def window_start(self) -> int:
        """Where to read from, so that the bytes read begin with those of ``foot``."""
        return max(0, self.offset - PROBE_BYTES)

    @property
    def fingerprint(self) -> bytes:
        """Everything but the offset, to be kept beside it."""
        return bytes([self.skipping]) + self.head + self.foot if self.offset else b""

    @classmethod
    def restore(cls, offset: int, fingerprint: bytes) -> Cursor:
        """Return the cursor that an offset and a fingerprint came from."""
        if not offset:
            return cls()
        if len(fingerprint) != 1 + 2 * _DIGEST_BYTES:
            raise FormatError("The index holds a file position that is not of this version.")
        split = 1 + _DIGEST_BYTES
        return cls(offset, fingerprint[1:split], fingerprint[split:], skipping=bool(fingerprint[0]))

    def holds(self, head: bytes, window: bytes) -> bool:
        """Say whether a file with these bytes is the one that was read.

        Parameters
        ----------
        head
            The file's first bytes, ``PROBE_BYTES`` of them if it has so many.
        window
            The file's bytes from ``window_start``.
        """
        if not self.offset:
            return True
        size = self.offset - self.window_start
        return (
            len(window) >= size
            and _digest(head[: self.head_bytes]) == self.head
            and _digest(window[:size]) == self.foot
        )

    def moved(self, head: bytes, window: bytes, end: int, *, skipping: bool = False) -> Cursor:
        """Return the place ``end`` bytes into the window; ``head`` and ``window`` as for ``holds``."""
        offset = self.window_start + end
        if offset == self.offset:
            return self
        if self.window_start == 0:
            head = window
        return Cursor(
            offset=offset,
            head=_digest(head[: min(PROBE_BYTES, offset)]),
            foot=_digest(window[max(0, end - PROBE_BYTES) : end]),
            skipping=skipping,
        )


@dataclass(frozen=True)
class Lines:
    """What a stretch of a file holds, in lines or in other records.

    Attributes
    ----------
    complete
        Everything that ended, without what marks its end, with the offset of its first byte.
    refused
        What is passed over, such as a line without an end: offset, beginning and reason.
    cursor
        The place behind them.
    """

    complete: list[tuple[int, bytes]]
    refused: list[tuple[int, bytes, str]]
    cursor: Cursor


Split = Callable[[Cursor, bytes, bytes], Lines]
"""Takes a cursor, and head and window as for ``Cursor.holds``; gives what is complete after the cursor."""


def read_lines(cursor: Cursor, head: bytes, window: bytes, *, longest_bytes: int = LONGEST_LINE_BYTES) -> Lines:
    """Return the complete lines after ``cursor``; a torn last line is left for the next time.

    Parameters
    ----------
    head, window
        As for ``Cursor.holds``, which must be true of them.
    longest_bytes
        A line without an end after so many bytes is given up, up to its newline.
    """
    begin = cursor.offset - cursor.window_start
    end = window.rfind(b"\n", begin) + 1
    complete: list[tuple[int, bytes]] = []
    refused: list[tuple[int, bytes, str]] = []
    endless = f"The line has no end within {longest_bytes} bytes."
    skipping = cursor.skipping
    if end > begin:
        place = cursor.offset
        for line in window[begin : end - 1].split(b"\n"):
            if skipping:
                skipping = False  # this newline ends the line that was given up
            elif len(line) > longest_bytes:
                refused.append((place, line[:_EXCERPT_BYTES], endless))
            elif line:
                complete.append((place, line))
            place += len(line) + 1
    else:
        end = begin
    rest = len(window) - end
    if skipping or rest > longest_bytes:
        if not skipping:
            refused.append((cursor.window_start + end, window[end : end + _EXCERPT_BYTES], endless))
        skipping = True
        end = len(window)
    return Lines(complete, refused, cursor.moved(head, window, end, skipping=skipping))


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
