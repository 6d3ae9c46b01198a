"""The hash of files and folders, and the stamps by which a file that was hashed before need not be read again."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import signal
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from blake3 import blake3

from verl_lab.datasets.folder import translated
from verl_lab.errors import InvalidInputError, TransportError
from verl_lab.store.mounts import network_file_system

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping
    from pathlib import Path

    from verl_lab.datasets.folder import Found
    from verl_lab.store.datasets import Datasets

    Progress = Callable[[str, int, int], None]
    """Called with what is being done, how many bytes are done, and how many there are."""

# File systems and kernels keep times at up to two seconds apart: within these, a file can change and look the same.
_SAME_MOMENT_NS = 2 * 10**9
_MAPPED_FROM = 32 * 2**20
_SEGMENT = 128 * 2**20
_BUFFER = 4 * 2**20
_MADV_POPULATE_READ = 22  # Linux 5.14; mmap does not name it
_WAIT = "Wait until it is complete."
_FOLDER = "verl-lab 2026 data set: names and hashes of several files"


@dataclass(frozen=True)
class Print:
    """What one file's bytes are, and the stamp it had when they were."""

    hash: str
    size: int
    stamp: str


@dataclass(frozen=True)
class Fingerprint:
    """What a path's bytes are.

    Attributes
    ----------
    hash
        Of the version: see ``DatasetVersion.hash``.
    files
        Each file's, by its path below the folder.
    """

    hash: str
    files: dict[str, Print]


class Fingerprints:
    """Hashes paths, reading only the files that may have changed since they were hashed last.

    A file counts as unchanged while device, inode, size, modification and change time are the same, and it
    had been left alone for two seconds when it was hashed. On a network file system, where the times are
    another machine's, nothing counts as unchanged. What is written through a memory map shows in the times
    only when the kernel writes it back; a data set is no place for that.
    """

    def __init__(self, index: Datasets) -> None:
        self._index = index

    def of(self, found: Found, progress: Progress | None = None) -> Fingerprint:
        """Return what lies at a path.

        Raises
        ------
        TransportError
            A file cannot be read, or is being written.
        """
        known = self._index.hashes(map(str, found.files.values()))
        is_remote = network_file_system(found.path) is not None
        prints: dict[str, Print] = {}
        learnt: dict[str, tuple[str, str]] = {}
        for name, path in found.files.items():
            with opened(path) as descriptor:
                about = os.fstat(descriptor)
                stamp, kept = _stamp(about), known.get(str(path))
                if kept is not None and kept[0] == stamp and not is_remote:
                    prints[name] = Print(kept[1], about.st_size, stamp)
                    continue
                begun = time.time_ns()
                digest = hash_open(descriptor, path, progress)
            prints[name] = Print(digest, about.st_size, stamp)
            if not is_remote and max(about.st_mtime_ns, about.st_ctime_ns) < begun - _SAME_MOMENT_NS:
                learnt[str(path)] = (stamp, digest)
        self._index.remember(learnt)
        return Fingerprint(combined({name: one.hash for name, one in prints.items()}), prints)

    def still(self, found: Found, fingerprint: Fingerprint) -> None:
        """Make sure that nothing was written to since the fingerprint was taken.

        Raises
        ------
        TransportError
            Something was.
        """
        for name, path in found.files.items():
            with opened(path) as descriptor:
                if _stamp(os.fstat(descriptor)) != fingerprint.files[name].stamp:
                    raise TransportError(f"{path} was written to while it was looked at.", _WAIT)

    def forget_missing(self) -> None:
        """Drop what is known about files that are gone."""
        self._index.forget_hashes([path for path in self._index.hashed_paths() if not os.path.exists(path)])  # noqa: PTH110  thousands of them


def combined(hashes: Mapping[str, str]) -> str:
    """Return the hash of a version from those of its files, in any order."""
    if len(hashes) == 1:
        return next(iter(hashes.values()))
    lines = (f"{name}\0{hashes[name]}\n" for name in sorted(hashes))
    return blake3("".join(lines).encode(), derive_key_context=_FOLDER).hexdigest()


@contextlib.contextmanager
def opened(path: Path) -> Generator[int]:
    """Open a plain file for reading; nothing else can be opened, and a link is not followed."""
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with translated(f"read {path}"):
        descriptor = os.open(path, flags)
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise InvalidInputError(f"path: {path} is no plain file.")
            yield descriptor
        finally:
            os.close(descriptor)


def hash_open(descriptor: int, path: Path, progress: Progress | None = None) -> str:
    """Return the BLAKE3 of an open file's bytes, in hex.

    Raises
    ------
    TransportError
        It cannot be read, or was written to meanwhile.
    """
    before = os.fstat(descriptor)
    hasher = blake3(max_threads=blake3.AUTO)
    done = 0
    with _kept_whole(descriptor, before.st_size) as is_kept:
        while is_kept() and done < before.st_size:
            length = min(_SEGMENT, before.st_size - done)
            with mmap.mmap(descriptor, length, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ, offset=done) as part:
                try:
                    # What the disk cannot read is an error here; on first touch it would end the process.
                    part.madvise(_MADV_POPULATE_READ)
                except OSError:
                    break
                hasher.update(part)
            done += length
            _tell(progress, path, done, before.st_size)
    _read(descriptor, done, hasher, lambda read: _tell(progress, path, read, before.st_size))
    if _stamp(os.fstat(descriptor)) != _stamp(before):
        raise TransportError(f"{path} was written to while it was read.", _WAIT)
    return hasher.hexdigest()


@contextlib.contextmanager
def _kept_whole(descriptor: int, size: int) -> Generator[Callable[[], bool]]:
    """Hold off whoever would cut the file short: reading a mapped file that ends early kills the process.

    A lease makes them wait until it is given back. Give a function that says whether it holds and nobody
    waits; False where there can be none (no lease on network file systems, on other people's files, on files
    that are being written) or where the file is too small to be worth it.
    """
    if size < _MAPPED_FROM or not hasattr(fcntl, "F_SETLEASE"):
        yield lambda: False
        return
    try:
        # Whoever waits is told by a signal, which by default would end this process. This one is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except OSError:
        yield lambda: False
        return
    try:
        is_same = os.fstat(descriptor).st_size == size
        yield lambda: is_same and fcntl.fcntl(descriptor, fcntl.F_GETLEASE) == fcntl.F_RDLCK
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)


def _read(descriptor: int, begin: int, hasher: blake3, tell: Callable[[int], None]) -> None:
    buffer = memoryview(bytearray(min(_BUFFER, max(1, os.fstat(descriptor).st_size - begin + 1))))
    while count := os.preadv(descriptor, [buffer], begin):
        hasher.update(buffer[:count])
        begin += count
        if begin % _SEGMENT < count:
            tell(begin)


def _stamp(about: os.stat_result) -> str:
    parts = (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)
    return ":".join(map(str, parts))


def _tell(progress: Progress | None, path: Path, done: int, total: int) -> None:
    if progress is not None:
        progress(f"Hashing {path.name}", done, total)
