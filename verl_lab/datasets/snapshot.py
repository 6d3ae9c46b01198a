"""Copies of data that stay as they are: one for each content, under its hash."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from verl_lab.datasets.fingerprint import Fingerprints, opened
from verl_lab.datasets.folder import Found, find, translated
from verl_lab.domain.dataset import name_from
from verl_lab.errors import InvalidInputError, NotFoundError, TransportError
from verl_lab.transport.reflink import cloned

if TYPE_CHECKING:
    from collections.abc import Collection, Generator

    from verl_lab.datasets.fingerprint import Fingerprint, Progress

_BUFFER = 8 * 2**20
_TOLD_EVERY = 128 * 2**20
_SPARE_BYTES = 64 * 2**20
_PARTIAL = ".partial"
_HASH = re.compile(r"[0-9a-f]{64}")
_LONGEST_SUFFIX = 16


@dataclass(frozen=True)
class Kept:
    """One content that is kept.

    Attributes
    ----------
    size
        Bytes that its removal would free, if its blocks are shared with nothing.
    kind
        What it is a copy of: ``datasets``; on a host also ``models``, ``checkpoints`` and ``files``.
    names
        What it is called, where that was asked for.
    """

    hash: str
    size: int
    kind: str = "datasets"
    names: tuple[str, ...] = ()


class Snapshots:
    """The copies below one folder: ``<hash>/<name>``, where ``<name>`` is the file or folder as it was called.

    A copy is complete or not there: it is made beside its place, verified against its hash, and renamed.
    Whoever is killed meanwhile leaves something that the next one removes. Blocks are shared with the
    original where the file system can do that (Btrfs, XFS, …). A hard link never is: it would change with the
    original. The same content under another name is a hard link among our own, read-only, copies.

    Parameters
    ----------
    root
        The folder; made when it is needed.
    """

    def __init__(self, root: Path, fingerprints: Fingerprints) -> None:
        self._root = root
        self._fingerprints = fingerprints

    @contextlib.contextmanager
    def in_use(self) -> Generator[None]:
        """Keep every copy from being collected: held from the making of one until a run's record names it."""
        with translated(f"write to {self._root}"):
            self._root.mkdir(parents=True, exist_ok=True)
        with _locked(self._root / ".lock", fcntl.LOCK_SH):
            yield

    def keep(self, found: Found, fingerprint: Fingerprint, progress: Progress | None = None) -> Path:
        """Return the copy of what lies at a path, making it unless it is there; call it while ``in_use``.

        Raises
        ------
        TransportError
            There is no space for it, it cannot be written, or the original changed meanwhile.
        """
        folder = self._root / fingerprint.hash
        target = folder / kept_name(found.path.name)
        with translated(f"keep a copy of {found.path} in {self._root}"):
            folder.mkdir(exist_ok=True)
            with _locked(folder, fcntl.LOCK_EX):
                shutil.rmtree(folder / _PARTIAL, ignore_errors=True)
                if not self._is_whole(target, fingerprint, is_folder=found.is_folder):
                    (folder / _PARTIAL).mkdir()
                    made = folder / _PARTIAL / "copy"
                    source = self._another(folder, target, fingerprint, is_folder=found.is_folder)
                    if source is None:
                        self._copy(found, fingerprint, made, progress)
                    else:
                        _link(source, made)
                    _put(made, target)
                    shutil.rmtree(folder / _PARTIAL)
        return target

    def intact(self, path: Path, dataset_hash: str) -> bool:
        """Whether a copy is there and holds what its hash says."""
        try:
            return self._fingerprints.of(find(path)).hash == dataset_hash
        except (NotFoundError, InvalidInputError):
            return False

    def of(self, dataset_hash: str) -> list[Path]:
        """Return the copies of one content, under whatever names."""
        folder = self._root / dataset_hash
        if not _HASH.fullmatch(dataset_hash) or not folder.is_dir():
            return []
        return sorted(path for path in folder.iterdir() if path.name != _PARTIAL)

    def kept(self) -> list[Kept]:
        """Return every content that is kept, half-made copies included, by hash."""
        if not self._root.is_dir():
            return []
        folders = sorted(path for path in self._root.iterdir() if _HASH.fullmatch(path.name))
        return [Kept(folder.name, _size(folder)) for folder in folders]

    def collect(self, needed: Collection[str], *, dry_run: bool) -> list[Kept]:
        """Remove what is not needed, and return it; with ``dry_run`` only return it.

        Raises
        ------
        InvalidInputError
            A launch is making copies at this moment.
        """
        if not self._root.is_dir():
            return []
        with _locked(self._root / ".lock", fcntl.LOCK_EX | fcntl.LOCK_NB):
            free = [kept for kept in self.kept() if kept.hash not in needed]
            for kept in [] if dry_run else free:
                with translated(f"remove {self._root / kept.hash}"):
                    shutil.rmtree(self._root / kept.hash)
        return free

    def _is_whole(self, target: Path, fingerprint: Fingerprint, *, is_folder: bool) -> bool:
        return target.is_dir() == is_folder and self.intact(target, fingerprint.hash)

    def _another(self, folder: Path, target: Path, fingerprint: Fingerprint, *, is_folder: bool) -> Path | None:
        others = (path for path in sorted(folder.iterdir()) if path.name != _PARTIAL and path != target)
        return next((path for path in others if self._is_whole(path, fingerprint, is_folder=is_folder)), None)

    def _copy(self, found: Found, fingerprint: Fingerprint, made: Path, progress: Progress | None) -> None:
        total = sum(one.size for one in fingerprint.files.values())
        done = 0
        for name, path in found.files.items():
            copy = made / name if found.is_folder else made
            copy.parent.mkdir(parents=True, exist_ok=True)
            with opened(path) as source, copy.open("xb") as file:
                if not cloned(source, file.fileno()):
                    self._check_space(total - done)
                    for size in _copied(source, file.fileno()):
                        done += size
                        if progress is not None and (done % _TOLD_EVERY < size or done == total):
                            progress(f"Copying {found.path.name}", done, total)
                os.fchmod(file.fileno(), 0o444)
                os.fsync(file.fileno())
        # Under the name it will have, so that a single file of a folder is a folder too.
        if self._fingerprints.of(find(made), progress).hash != fingerprint.hash:
            raise TransportError(f"{found.path} was written to while it was copied.", "Wait until it is complete.")

    def _check_space(self, needed: int) -> None:
        free = shutil.disk_usage(self._root).free
        if needed + _SPARE_BYTES > free:
            raise TransportError(
                f"{self._root} has {free / 1e9:,.1f} GB free; the copy of the data takes {needed / 1e9:,.1f} GB.",
                "lab.datasets.collect() shows what can be removed; data.snapshot=false trains without a copy.",
            )


def kept_name(name: str) -> str:
    """Fit a file's name into a path that is safe anywhere, keeping its suffix: verl tells files by it."""
    pure = Path(name)
    suffix = name_from(pure.suffix[1:])[:_LONGEST_SUFFIX] if pure.suffix else ""
    if not suffix:
        return name_from(name)
    return f"{name_from(pure.stem)[: 63 - len(suffix)]}.{suffix}"


def _copied(source: int, copy: int) -> Generator[int]:
    buffer = memoryview(bytearray(_BUFFER))
    begin = 0
    while count := os.preadv(source, [buffer], begin):
        rest = buffer[:count]
        while rest:
            rest = rest[os.write(copy, rest) :]
        begin += count
        yield count


def _link(source: Path, made: Path) -> None:
    """Give a copy of ours another name, at the cost of nothing where there are hard links."""
    if source.is_dir():
        shutil.copytree(source, made, copy_function=_link_file)
    else:
        _link_file(str(source), str(made))


def _link_file(source: str, made: str) -> None:
    try:
        os.link(source, made)
    except OSError:
        shutil.copy2(source, made)


def _put(made: Path, target: Path) -> None:
    """Move a copy to its place; a damaged one there makes room, and whoever has it open keeps it."""
    if target.is_dir():
        target.rename(made.with_name("old"))
    elif target.exists() and made.is_dir():
        target.unlink()
    made.rename(target)
    for folder in (target.parent, made.parent):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _size(folder: Path) -> int:
    """Return the bytes below a folder, hard links counted once."""
    found: dict[int, int] = {}
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):  # removed meanwhile
                about = os.lstat(os.path.join(place, name))  # noqa: PTH118  in the hot loop of a large folder
                found[about.st_ino] = about.st_size
    return sum(found.values())


@contextlib.contextmanager
def _locked(path: Path, how: int) -> Generator[None]:
    flags = os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT
    with translated(f"lock {path}"):
        descriptor = os.open(path, flags | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, how)
        except BlockingIOError:
            raise InvalidInputError("A launch is making copies of data at this moment.", "Try again later.") from None
        yield
    finally:
        os.close(descriptor)
