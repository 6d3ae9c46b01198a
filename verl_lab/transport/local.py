"""The machine this process runs on."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from watchfiles import Change
from watchfiles._rust_notify import RustNotify  # the public watch() ends for good when it is woken

from verl_lab.errors import TransportError
from verl_lab.transport.base import FileStat, Finished
from verl_lab.transport.reflink import cloned

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from verl_lab.transport.base import Progress

_log = logging.getLogger(__name__)

# A change is told one to two steps after it happened; two milliseconds cost 1 % of one core.
_STEP_MS = 2
_GATHER_MS = 10
_LOOK_AGAIN_S = 0.05
_BUFFER = 2**20

# Forks once more, so that the command belongs to init: nobody here has to wait for it.
_DETACH = """
import os, sys
log = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
told, tell = os.pipe()
pid = os.fork()
if pid == 0:
    try:
        os.setsid()
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.execvp(sys.argv[2], sys.argv[2:])
    except OSError as error:
        os.write(tell, str(error).encode())
    os._exit(127)
os.close(tell)
error = os.read(told, 4096).decode()
sys.exit(error) if error else print(pid)
"""


class LocalHost:
    """The machine this process runs on, as a ``Host``."""

    @property
    def name(self) -> str:
        """Return ``local``."""
        return "local"

    def run(self, argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None) -> Finished:
        """Run a command to its end, without a shell; ``env`` is added to this process's own."""
        with _translated(f"run {argv[0]!r}"):
            try:
                done = subprocess.run(  # an argv, never a shell
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=timeout_s,
                    env={**os.environ, **env} if env else None,
                    check=False,
                )
            except subprocess.TimeoutExpired as error:
                raise TransportError(f"{argv[0]!r} did not end within {timeout_s:g} s.", "It was killed.") from error
        return Finished(done.returncode, done.stdout, done.stderr)

    def start_detached(self, argv: Sequence[str], *, cwd: str, log: str) -> int:
        """Start a command that outlives this process; return its pid."""
        detach = [sys.executable, "-I", "-S", "-c", _DETACH, log, *argv]
        with _translated(f"start {argv[0]!r}"):
            done = subprocess.run(detach, stdin=subprocess.DEVNULL, capture_output=True, cwd=cwd, check=False)
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
            raise TransportError(f"Could not start {argv[0]!r}: {said}.")
        return int(done.stdout)

    def stat(self, path: str) -> FileStat | None:
        """Describe a path, following links; None if there is none."""
        with _translated(f"look at {path}"):
            try:
                found = Path(path).stat()
            except (FileNotFoundError, NotADirectoryError):
                return None
        return FileStat(found.st_size, found.st_mtime_ns, is_dir=stat.S_ISDIR(found.st_mode))

    def list_folder(self, path: str) -> list[str]:
        """Return the sorted names in a folder; empty if it does not exist."""
        with _translated(f"list {path}"):
            try:
                return sorted(entry.name for entry in Path(path).iterdir())
            except FileNotFoundError:
                return []

    def read(self, path: str, offset: int = 0, limit: int | None = None) -> bytes:
        """Return up to ``limit`` bytes from ``offset``."""
        with _translated(f"read {path}"), Path(path).open("rb") as file:
            file.seek(offset)
            return file.read(-1 if limit is None else limit)

    def write_atomic(self, path: str, content: bytes) -> None:
        """Write a file so that a reader sees the old or the new content, never a part."""
        with _translated(f"write {path}"), _written_beside(path, content) as temporary:
            temporary.replace(path)

    def write_new(self, path: str, content: bytes) -> bool:
        """Write a file with its whole content only if none exists; False if one does."""
        with _translated(f"write {path}"), _written_beside(path, content) as temporary:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            return True

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it; one that exists is fine."""
        with _translated(f"make the folder {path}"):
            Path(path).mkdir(parents=True, exist_ok=True)

    def put(self, local: Path, remote: str, *, progress: Progress | None = None) -> str:
        """Copy a file and return its SHA-256; it is in place only when complete and as it was read."""
        with _translated(f"send {local} to {remote}"):
            return _copied(Path(local), _absolute(remote), progress)

    def get(self, remote: str, local: Path, *, progress: Progress | None = None) -> str:
        """Copy a file, as ``put``."""
        with _translated(f"fetch {remote} to {local}"):
            return _copied(_absolute(remote), Path(local), progress)

    def sha256(self, path: str, *, timeout_s: float = 3600) -> str:  # noqa: ARG002  nothing here goes silent
        """Return the SHA-256 of a whole file."""
        with _translated(f"read {path}"), _absolute(path).open("rb", buffering=0) as file:
            return _digest(file.fileno())

    def watcher(self) -> LocalWatcher:
        """Return a new watcher of this machine's folders."""
        return LocalWatcher()

    def close(self) -> None:
        """Do nothing: there is no connection, and whoever made a watcher closes it."""


class LocalWatcher:
    """Waits for changes of the entries of folders, not of what lies in folders below them.

    A folder that does not exist yet is waited for through the nearest one above it that does. Where
    the system has no notifications left to give, ``wait`` returns at its timeout and a warning is
    logged: callers look for themselves at each return, as they must on network file systems.
    """

    def __init__(self) -> None:
        self._interrupt = threading.Event()
        self._is_woken = False
        self._is_closed = False
        self._folders: tuple[str, ...] = ()
        self._waiting = threading.Lock()  # held throughout a wait; guards what follows
        self._notify: RustNotify | None = None
        self._watched: dict[str, _Identity | None] = {}

    def watch(self, folders: Sequence[str]) -> None:
        """Replace the watched folders; one that does not exist yet is waited for."""
        self._folders = tuple(os.path.normpath(folder) for folder in folders)
        self._interrupt.set()

    def wait(self, timeout_s: float) -> set[str]:
        """Return the paths that changed, at the latest after ``timeout_s``, possibly none.

        After the watched folders were replaced, or one of them came to be, every folder is named
        itself: something may have changed in it before it could be watched.
        """
        if self._is_closed:
            raise TransportError("The watcher is closed.")
        until = time.monotonic() + timeout_s
        with self._waiting:
            changed: set[str] = set()
            while not changed:
                self._interrupt.clear()
                if self._is_closed or self._is_woken:
                    self._is_woken = False
                    break
                changed = self._renew()
                left_s = until - time.monotonic()
                if changed or left_s <= 0:
                    break
                changed = self._fetch(left_s)
            return changed

    @property
    def is_broken(self) -> bool:
        """Never: there is no connection."""
        return False

    def names_ahead(self, folders: Sequence[str]) -> None:
        """Do nothing: here asking costs nothing."""

    def read_ahead(self, files: Mapping[str, int]) -> set[str]:
        """Do nothing: every file is there."""
        return set(files)

    def wake(self) -> None:
        """End the present ``wait`` at once, or the next if there is none; callable from any thread."""
        self._is_woken = True
        self._interrupt.set()

    def close(self) -> None:
        """Give back what the operating system lent; a ``wait`` in another thread ends."""
        self._is_closed = True
        self._interrupt.set()
        with self._waiting:
            self._watch_anew({})

    def _renew(self) -> set[str]:
        """Watch what is there now; return the watched folders if that is not what was there before."""
        folders = self._folders
        now = {folder: _identity(folder) for folder in folders}
        for folder in [folder for folder, identity in now.items() if identity is None]:
            above = _nearest_existing(folder)
            now.setdefault(above, _identity(above))
        if now == self._watched:
            return set()
        self._watch_anew(now)
        return {folder for folder in folders if now[folder] is not None}

    def _watch_anew(self, watched: dict[str, _Identity | None]) -> None:
        if self._notify is not None:
            self._notify.close()
            self._notify = None
        self._watched = watched
        present = [folder for folder, identity in watched.items() if identity is not None]
        if not present:
            return
        try:
            self._notify = RustNotify(present, False, False, 0, False, True)  # noqa: FBT003  it takes no keywords
        except FileNotFoundError:
            self._watched = {}  # one went away meanwhile: the next look finds out which
        except OSError as error:
            _log.warning("No file notifications, so changes are seen later: %s", error)

    def _fetch(self, timeout_s: float) -> set[str]:
        if self._notify is None:
            went_away = self._folders and not self._watched
            self._interrupt.wait(min(timeout_s, _LOOK_AGAIN_S) if went_away else timeout_s)
            return set()
        found = self._notify.watch(_GATHER_MS, _STEP_MS, max(1, int(timeout_s * 1000)), self._interrupt)
        if found == "signal":
            raise KeyboardInterrupt
        if not isinstance(found, set):
            return set()
        folders = set(self._folders)
        changed = {path for _, path in found if path.rpartition("/")[0] in folders or path in folders}
        if any(kind == Change.deleted and path in self._watched for kind, path in found):
            # A folder made anew may have the inode of the one that went.
            self._watched = {}
            changed |= self._renew()
        return changed


_Identity = tuple[int, int]


def _identity(folder: str) -> _Identity | None:
    try:
        found = Path(folder).stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _nearest_existing(folder: str) -> str:
    return str(next(above for above in Path(folder).parents if above.is_dir()))


@contextlib.contextmanager
def _translated(task: str) -> Generator[None]:
    try:
        yield
    except TransportError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a null byte in a path or argument
        reason = getattr(error, "strerror", None) or str(error)
        raise TransportError(f"Could not {task}: {reason}.") from error


def _absolute(path: str) -> Path:
    if not path.startswith("/"):
        raise ValueError(f"the path {path!r} is not absolute")
    return Path(path)


def _copied(source: Path, target: Path, progress: Progress | None) -> str:
    """Copy a file beside its place, read it again, and put it there; return its SHA-256."""
    descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise TransportError(f"{source} is no plain file.")
        temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}.part")
        try:
            with temporary.open("x+b", buffering=0) as file:
                read = None if cloned(descriptor, file.fileno()) else _poured(descriptor, file.fileno(), progress)
                after = os.fstat(descriptor)
                if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                    raise TransportError(f"{source} changed while it was copied.", "Copy it again.")
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode) & 0o777)
                os.fsync(file.fileno())
                written = _digest(file.fileno())
            if read not in (None, written):
                raise TransportError(f"{target.parent} does not keep what is written to it.", "Look after its disk.")
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    finally:
        os.close(descriptor)
    if progress is not None:
        progress(before.st_size, before.st_size)
    return written


def _poured(source: int, copy: int, progress: Progress | None) -> str:
    """Copy all bytes, and return the SHA-256 of what was read."""
    digest, done, size = hashlib.sha256(), 0, os.fstat(source).st_size
    buffer = memoryview(bytearray(_BUFFER))
    while count := os.preadv(source, [buffer], done):
        rest = buffer[:count]
        digest.update(rest)
        while rest:
            rest = rest[os.write(copy, rest) :]
        done += count
        if progress is not None and done < size:
            progress(done, size)
    return digest.hexdigest()


def _digest(descriptor: int) -> str:
    digest, done = hashlib.sha256(), 0
    buffer = memoryview(bytearray(_BUFFER))
    while count := os.preadv(descriptor, [buffer], done):
        digest.update(buffer[:count])
        done += count
    return digest.hexdigest()


@contextlib.contextmanager
def _written_beside(path: str, content: bytes) -> Generator[Path]:
    """Write a temporary file in the same folder and remove it afterwards if it is still there."""
    target = Path(path)
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
