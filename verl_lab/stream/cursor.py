"""From the bytes of a growing file to complete lines: pure, it touches no file.

A cursor knows how far a file was read, and what the part read begins and ends with. Before more is
read, both ends are compared: a file that shrank, was truncated and written again, or was replaced by
another one (of whatever size and inode) no longer holds them.
"""

from __future__ import annotations

import hashlib
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
        Bytes read. Always the beginning of a line, unless ``skipping``.
    head, foot
        Digests of the first and the last 1,024 of the bytes read (of all if there are fewer).
    skipping
        Whether the place lies inside a line that is too long and is being passed over.
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


@dataclass(frozen=True)
class Lines:
    """What a stretch of a file holds.

    Attributes
    ----------
    complete
        Every line that ended, without its newline, with the offset of its first byte.
    too_long
        Lines that were cut off at the limit: offset and beginning.
    cursor
        The place behind them.
    """

    complete: list[tuple[int, bytes]]
    too_long: list[tuple[int, bytes]]
    cursor: Cursor


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
    too_long: list[tuple[int, bytes]] = []
    skipping = cursor.skipping
    if end > begin:
        place = cursor.offset
        for line in window[begin : end - 1].split(b"\n"):
            if skipping:
                skipping = False  # this newline ends the line that was given up
            elif len(line) > longest_bytes:
                too_long.append((place, line[:_EXCERPT_BYTES]))
            elif line:
                complete.append((place, line))
            place += len(line) + 1
    else:
        end = begin
    rest = len(window) - end
    if skipping or rest > longest_bytes:
        if not skipping:
            too_long.append((cursor.window_start + end, window[end : end + _EXCERPT_BYTES]))
        skipping = True
        end = len(window)
    return Lines(complete, too_long, _placed(cursor, head, window, end, skipping=skipping))


def _placed(cursor: Cursor, head: bytes, window: bytes, end: int, *, skipping: bool) -> Cursor:
    offset = cursor.window_start + end
    if offset == cursor.offset:
        return cursor
    if cursor.window_start == 0:
        head = window
    return Cursor(
        offset=offset,
        head=_digest(head[: min(PROBE_BYTES, offset)]),
        foot=_digest(window[max(0, end - PROBE_BYTES) : end]),
        skipping=skipping,
    )


def _digest(content: bytes) -> bytes:
    return hashlib.blake2b(content, digest_size=_DIGEST_BYTES).digest()
