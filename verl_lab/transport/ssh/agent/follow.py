"""Following files: what changed is told together with the bytes that came, as long as they are taken.

What a client asked about in the name of a watch is followed from then on. Little news comes with its bytes; of
much, or where the last bytes have not been taken yet, it is only told that there is some, and the client fetches
it. So nothing piles up, neither here nor there.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verl_lab.transport.ssh.agent import files
from verl_lab.transport.ssh.agent.known import KnownFile, ahead, ends, look, pread, quietly, sized
from verl_lab.transport.ssh.agent.notify import Notify

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LOOK_S = 0.5  # not every file system tells of its changes
BLIND_LOOK_S = 0.05
GATHER_S = 0.004
AHEAD_BYTES = 2**21

_NOTHING: set[tuple[str, str]] = set()


class Watch:
    """The folders of one watcher, and what it follows."""

    def __init__(self) -> None:
        self.folders: list[str] = []
        self.identities: dict[str, tuple[int, int] | None] = {}
        self.files: dict[str, KnownFile] = {}
        self.lists: dict[str, list[str] | None] = {}
        self.told: set[str] = set()
        self.number = 0  # of the newest thing said; what is older than an answer is no news


class Follower:
    """All watches of one connection, and the thread that looks after them."""

    def __init__(self, tell: Callable[[dict[str, Any], bytes], None]) -> None:
        self._tell = tell
        self._watches: dict[int, Watch] = {}
        self._changing = threading.Lock()
        self._notify = Notify()
        self._woken, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        self._is_changed = True
        self._dirty: set[str] = set()
        threading.Thread(target=self._run, daemon=True).start()

    def watch(self, number: int, folders: list[str]) -> None:
        """Replace a watch's folders; each that exists is told at once."""
        with self._changing:
            watch = self._watches.setdefault(number, Watch())
            watch.folders = folders
            watch.identities = {}
            self._is_changed = True
        self._nudge()

    def unwatch(self, number: int) -> None:
        """Forget a watch."""
        with self._changing:
            self._watches.pop(number, None)
            self._is_changed = True
        self._nudge()

    def taken(self, number: int, path: str, end: int) -> None:
        """Note that the client has used a file's bytes up to ``end``."""
        with self._changing:
            watch = self._watches.get(number)
            file = watch.files.get(path) if watch else None
            if watch is None or file is None:
                return
            file.taken = max(file.taken, end)
            is_waiting = file.is_told_behind
            file.is_told_behind = False
        if is_waiting:
            self._nudge(path)

    def stat(self, number: int, path: str) -> tuple[list[Any] | None, int]:
        """Describe a path, and follow that from now on; also return the number of this answer."""
        with self._changing:
            watch = self._watches.setdefault(number, Watch())
            file = watch.files.setdefault(path, KnownFile())
            found = files.described(path)
            file.stat, file.is_stat_known = found, True
            return found, self._next(watch)

    def listed(self, number: int, path: str) -> tuple[list[str], int]:
        """List a folder, and follow that from now on."""
        with self._changing:
            watch = self._watches.setdefault(number, Watch())
            found = files.listed(path)
            watch.lists[path] = found
            self._is_changed = True
            number = self._next(watch)
        self._nudge()
        return found, number

    def read(self, number: int, path: str, offset: int, limit: int) -> tuple[bytes, int, int]:
        """Read, and follow the bytes behind that if they end where the file does; also return its size."""
        with self._changing:
            watch = self._watches.setdefault(number, Watch())
            file = watch.files.setdefault(path, KnownFile())
            descriptor = os.open(files.absolute(path), os.O_RDONLY | os.O_CLOEXEC)
            try:
                content = pread(descriptor, limit, offset)
                end = offset + len(content)
                size = os.fstat(descriptor).st_size
                if len(content) < limit and end == size:
                    head, foot = ends(descriptor, end)
                    file.saw(head, foot, end)
                    file.taken = end
                elif end <= file.end:
                    pass  # a look at the beginning: what is followed stays as it is
                else:
                    file.end = -1
            finally:
                os.close(descriptor)
            self._is_changed = True
            number = self._next(watch)
        self._nudge(path)
        return content, size, number

    def look(
        self, number: int, folders: list[str], wanted: dict[str, int]
    ) -> tuple[dict[str, list[str]], list[list[Any]], bytes, int]:
        """List folders, describe files and read them from an offset to their ends, and follow all that from now on.

        Of each file there is its description, the offset or -1 where its bytes are not among these, and how many
        bytes there are: of its beginning, and from the offset. What cannot be looked at is left out: whoever asks
        for it by itself hears why.
        """
        lists: dict[str, list[str]] = {}
        found: list[list[Any]] = []
        bodies: list[bytes] = []
        left = AHEAD_BYTES
        with self._changing:
            watch = self._watches.setdefault(number, Watch())
            for folder in folders:
                names = quietly(files.listed, folder)
                if names is not None:
                    watch.lists[folder] = lists[folder] = names
            for path, begin in wanted.items():
                file = watch.files.setdefault(path, KnownFile())
                try:
                    file.stat, file.is_stat_known = files.described(path), True
                    read = ahead(path, file, begin, left)
                except (OSError, ValueError):
                    if file.is_stat_known:
                        found.append([path, file.stat, -1])
                    continue
                found.append([path, sized(file.stat, file.end) if read else file.stat, begin if read else -1])
                if read:
                    found[-1] += map(len, read)
                    bodies += read
                    left -= sum(map(len, read))
            self._is_changed = True
            self._dirty |= set(wanted)
            answer = self._next(watch)
        self._nudge()
        return lists, found, b"".join(bodies), answer

    def _next(self, watch: Watch) -> int:
        watch.number += 1
        return watch.number

    def _nudge(self, path: str = "") -> None:
        if path:
            with self._changing:
                self._dirty.add(path)
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake, b"x")

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._woken, select.POLLIN)
        if self._notify.descriptor >= 0:
            poll.register(self._notify.descriptor, select.POLLIN)
        pause_s = LOOK_S if self._notify.descriptor >= 0 else BLIND_LOOK_S
        look_at = 0.0
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(max(0.0, look_at - time.monotonic()) * 1000)}
            if self._woken in ready:
                os.read(self._woken, 4096)
            with self._changing:
                is_told = self._notify.descriptor in ready
                found, is_structural = self._notify.read() if is_told else (_NOTHING, False)
                is_look_due = time.monotonic() >= look_at
                if is_look_due:
                    look_at = time.monotonic() + pause_s
                if is_structural or is_look_due or self._is_changed:
                    self._settle()
                dirty, self._dirty = self._dirty, set()
                for number, watch in self._watches.items():
                    self._news(number, watch, found, dirty, look_at_all=is_look_due or is_structural)
            if found:
                time.sleep(GATHER_S)  # a burst is told as one

    def _settle(self) -> None:
        """Watch what is there now, and tell the folders that were not, until nothing more changes."""
        self._is_changed = False
        wanted: set[str] = set()
        for _ in range(100):
            before = wanted
            wanted = set()
            for watch in self._watches.values():
                self._renew(watch)
                for folder in [*watch.folders, *watch.lists, *map(os.path.dirname, watch.files)]:
                    wanted.add(_nearest(folder))
            self._notify.set(wanted)
            if wanted == before:
                return

    def _renew(self, watch: Watch) -> None:
        for folder in watch.folders:
            identity = _identity(folder)
            if identity != watch.identities.get(folder):
                watch.identities[folder] = identity
                if identity is not None:
                    self._notify.forget(folder)
                    watch.told.add(folder)

    def _news(
        self, number: int, watch: Watch, found: set[tuple[str, str]], dirty: set[str], *, look_at_all: bool
    ) -> None:
        folders = set(watch.folders)
        changed = {_join(folder, name) for folder, name in found}
        watch.told |= {_join(folder, name) for folder, name in found if folder in folders}
        watch.told |= changed & folders
        touched = {folder for folder, _ in found}
        lists: dict[str, list[str] | None] = {}
        for folder in watch.lists:
            if look_at_all or folder in touched or folder in watch.told:
                names = quietly(files.listed, folder)
                if names != watch.lists[folder]:
                    watch.lists[folder] = lists[folder] = names
        looked_at = watch.files if look_at_all else _among(watch.files, changed | dirty, watch.told)
        described: list[list[Any]] = []
        bodies: list[bytes] = []
        for path in looked_at:
            is_touched = path in changed or path in dirty
            news = look(path, watch.files[path], is_touched=is_touched)
            if news is not None:
                described.append([path, *news[:3]])
                bodies.append(news[3])
                if path.rpartition("/")[0] in folders:
                    watch.told.add(path)
        if watch.told or lists or described:
            told, watch.told = sorted(watch.told), set()
            said = {"watch": number, "number": self._next(watch), "changed": told, "lists": lists, "files": described}
            self._tell({**said, "sizes": [len(body) for body in bodies]}, b"".join(bodies))


def _among(followed: dict[str, KnownFile], changed: set[str], folders: Iterable[str]) -> list[str]:
    """Return what is followed and changed, or lies in a folder that came to be."""
    inside = [path for path in followed if path.rpartition("/")[0] in folders]
    return [*inside, *(path for path in changed if path in followed and path not in inside)]


def _identity(folder: str) -> tuple[int, int] | None:
    try:
        found = os.stat(folder)  # noqa: PTH116  called often
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino


def _nearest(folder: str) -> str:
    path = Path(folder)
    while not _is_folder(path) and path != path.parent:
        path = path.parent
    return str(path)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # it may not be looked at
        return False


def _join(folder: str, name: str) -> str:
    return f"{folder.rstrip('/')}/{name}" if name else folder
