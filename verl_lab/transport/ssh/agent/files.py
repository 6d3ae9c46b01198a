"""Files on the host: looking, reading, writing whole, and taking in large ones."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PIECE_BYTES = 2**20  # each costs an answer and a change of threads at both ends
AT_ONCE_BYTES = 2**18
_WRITE_BYTES = 2**18  # for more at once the kernel takes larger pages, and fresh ones: thrice as slow
_WRITE_BEHIND = 2**23


def described(path: str) -> list[Any] | None:
    """Return size, time and kind of a path, following links; None if there is none."""
    try:
        found = Path(absolute(path)).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return describe(found)


def describe(found: os.stat_result) -> list[Any]:
    """Return what travels of a ``stat``."""
    return [found.st_size, found.st_mtime_ns, stat.S_ISDIR(found.st_mode)]


def listed(path: str) -> list[str]:
    """Return the sorted names in a folder; none if it does not exist."""
    try:
        return sorted(entry.name for entry in Path(absolute(path)).iterdir())
    except FileNotFoundError:
        return []


def absolute(path: str) -> str:
    """Return the path, if it does not depend on where this process happens to be."""
    if not path.startswith("/"):
        raise ValueError(f"the path {path!r} is not absolute")
    return path


def make_folder(path: str) -> None:
    """Make a folder and those above it."""
    Path(absolute(path)).mkdir(parents=True, exist_ok=True)


def write(path: str, content: bytes, *, only_new: bool) -> bool:
    """Write a file so that it is there as a whole or not at all; False if it was there and must be new."""
    target = Path(absolute(path))
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if not only_new:
            temporary.replace(target)
            return True
        try:
            os.link(str(temporary), str(target))
        except FileExistsError:
            return False
        return True
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def pieces(path: str, offset: int, limit: int | None) -> Iterator[bytes]:
    """Give up to ``limit`` bytes from ``offset``, all from the file that was there at the beginning."""
    with Path(absolute(path)).open("rb") as file:
        file.seek(offset)
        left = limit
        while left is None or left > 0:
            piece = file.read(PIECE_BYTES if left is None else min(left, PIECE_BYTES))
            if not piece:
                return
            left = None if left is None else left - len(piece)
            yield piece


def send(path: str, offset: int, give: Callable[[dict[str, Any], memoryview], bool]) -> dict[str, Any]:
    """Give everything from ``offset``, and return size and SHA-256 of the whole file; stops when nobody takes it.

    What is given holds until ``give`` returns.
    """
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(PIECE_BYTES))
    with open(absolute(path), "rb", buffering=0, opener=at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is no plain file")
        hash_part(file, digest, offset)
        size = file.tell()
        while True:
            piece = buffer[: file.readinto(buffer) or 0]
            if not piece:
                break
            digest.update(piece)
            size += len(piece)
            if not give({"size": status.st_size}, piece):
                break
    return {"size": size, "sha256": digest.hexdigest(), "mode": stat.S_IMODE(status.st_mode)}


def peek(path: str) -> tuple[dict[str, Any], bytes]:
    """Describe a path; of a small file also return what it holds and its mode."""
    found = described(path)
    if found is not None and not found[2] and found[0] <= AT_ONCE_BYTES:
        with open(path, "rb", buffering=0, opener=at_once) as file:
            if stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                read = read_unchanged(file)
                if read is not None and len(read[0]) == found[0]:
                    return {"stat": found, "is_whole": True, "mode": read[1]}, read[0]
    return {"stat": found, "is_whole": False}, b""


def read_unchanged(file: Any) -> tuple[bytes, int] | None:
    """Return what an unbuffered, small file holds, and its mode; None if it changed meanwhile, or is not small."""
    before = os.fstat(file.fileno())
    content = b""
    while len(content) <= AT_ONCE_BYTES:
        piece = file.read(AT_ONCE_BYTES + 1)
        if not piece:
            break
        content += piece
    after = os.fstat(file.fileno())
    if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns) or len(content) != after.st_size:
        return None
    return content, stat.S_IMODE(after.st_mode)


def at_once(path: str, flags: int) -> int:
    """Open a file, for ``open``; a pipe is not waited for."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC)


def sha256(path: str) -> str:
    """Return the SHA-256 of a whole file."""
    digest = hashlib.sha256()
    for piece in pieces(path, 0, None):
        digest.update(piece)
    return digest.hexdigest()


def hash_part(file: Any, digest: Any, size: int) -> None:
    """Take the next ``size`` bytes into a digest, or as many as there are."""
    while size > 0:
        piece = file.read(min(size, PIECE_BYTES))
        if not piece:
            return
        digest.update(piece)
        size -= len(piece)


class Arriving:
    """A large file that is being sent here, in pieces that come in order, to a hidden file beside its place."""

    def __init__(self, path: str, token: str) -> None:
        target = Path(absolute(path))
        self._target = target
        self.part = target.with_name(f".{target.name[:100]}.{token}.part")
        # Not through a link: whoever may write into the folder must not choose what is overwritten.
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(str(self.part), flags, 0o600)
        self._digest = hashlib.sha256()
        self.size = 0
        with open(self._descriptor, "rb", closefd=False) as file:
            self.size = os.fstat(self._descriptor).st_size
            hash_part(file, self._digest, self.size)
        self._on_its_way = self.size

    @property
    def sha256(self) -> str:
        """Of what has arrived."""
        return self._digest.hexdigest()

    def restart(self) -> None:
        """Forget what has arrived; whoever else is bringing the same file keeps the part that it writes to."""
        self.part.unlink()
        os.close(self._descriptor)
        self._descriptor = -1
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(str(self.part), flags, 0o600)
        self._digest = hashlib.sha256()
        self.size = self._on_its_way = 0

    def take(self, offset: int, piece: bytes) -> None:
        """Add the next piece."""
        if offset != self.size:
            raise ValueError(f"a piece for offset {offset} came at {self.size}")
        view = memoryview(piece)
        while view:
            written = os.pwrite(self._descriptor, view[:_WRITE_BYTES], self.size)
            self._digest.update(view[:written])
            self.size += written
            view = view[written:]
        # What has been written goes to the disk while more comes, so that little is left for the end to wait for.
        ready = self.size - self.size % _WRITE_BEHIND
        if ready > self._on_its_way:
            os.posix_fadvise(self._descriptor, self._on_its_way, ready - self._on_its_way, os.POSIX_FADV_DONTNEED)
            self._on_its_way = ready

    def be(self, content: bytes, sha256: str, mode: int) -> None:
        """Take all of it at once, whatever arrived before, and put it into its place."""
        if self.size:
            self.restart()
        self.take(0, content)
        self.finish(len(content), sha256, mode)

    def finish(self, size: int, sha256: str, mode: int) -> None:
        """Put the file into its place if it is what was sent; else throw it away."""
        try:
            if (self.size, self.sha256) != (size, sha256):
                self.part.unlink()
                raise ValueError("what arrived is not what was sent; it was thrown away")
            os.fchmod(self._descriptor, mode & 0o777)
            os.fsync(self._descriptor)
            # Another transfer of the same file may have put the part in place, and a third one begun a new part.
            mine = self.part.with_name(f"{self.part.name}.{secrets.token_hex(4)}")
            self.part.rename(mine)
            if not os.path.samestat(os.fstat(self._descriptor), mine.lstat()):
                mine.rename(self.part)
                raise ValueError("another transfer of the same file was faster")
            mine.replace(self._target)
        finally:
            self.close()

    def close(self) -> None:
        """Keep what has arrived, to be gone on with."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
            if self.size == 0:
                with contextlib.suppress(FileNotFoundError):
                    self.part.unlink()
