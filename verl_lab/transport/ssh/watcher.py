"""Waits for news from a host; all watchers of a host share its one channel."""

from __future__ import annotations

import contextlib
import itertools
import posixpath
import threading
import time
from typing import TYPE_CHECKING

from verl_lab.errors import TransportError
from verl_lab.transport.ssh.mirror import Mirror

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verl_lab.transport.ssh.agent.frames import Frame
    from verl_lab.transport.ssh.channel import AgentChannel
    from verl_lab.transport.ssh.link import Link

_numbers = itertools.count(1)


class SshWatcher:
    """Waits for changes of the entries of folders on a host, as ``LocalWatcher`` does here.

    What the thread that waits then reads of the host is answered from what came with the news, as of its
    last wait. On a host that runs no commands ``wait`` returns at its timeout: callers look for themselves.
    """

    def __init__(self, link: Link, waits: Callable[[SshWatcher], None]) -> None:
        self.number = next(_numbers)
        self.mirror = Mirror()
        self._link = link
        self._waits = waits
        self._news = threading.Condition()
        self._frames: list[Frame] = []
        self._folders: tuple[str, ...] = ()
        self._told_folders: tuple[str, ...] | None = None  # None: this channel has not been told yet
        self._is_woken = False
        self._is_closed = False
        self._waiting = threading.Lock()
        self._channel: AgentChannel | None = None

    @property
    def is_closed(self) -> bool:
        """Whether it follows nothing any more."""
        return self._is_closed

    @property
    def channel(self) -> AgentChannel | None:
        """The channel that follows for this watcher, if there is one now."""
        return self._channel

    def watch(self, folders: Sequence[str]) -> None:
        """Replace the watched folders; one that does not exist yet is waited for."""
        with self._news:
            self._folders = tuple(posixpath.normpath(folder) for folder in folders)
            self._news.notify_all()

    def wait(self, timeout_s: float) -> set[str]:
        """Return the paths that changed, at the latest after ``timeout_s``, possibly none.

        Raises
        ------
        TransportError
            The watcher is closed, or the host is unreachable; the next call connects again.
        """
        if self._is_closed:
            raise TransportError("The watcher is closed.")
        until = time.monotonic() + timeout_s
        with self._waiting:
            self._waits(self)
            self.mirror.begin_round()
            changed: set[str] = set()
            while not changed and self._goes_on():
                if self.is_broken:
                    self._fail()
                connected = self._connected(until)
                if connected and self._told_folders != self._folders:
                    self._tell_folders()
                with self._news:
                    is_due = self._frames or self._is_woken or self._is_closed or self.is_broken
                    if not is_due and self._told_folders in (self._folders, None):
                        left_s = until - time.monotonic()
                        if left_s <= 0:
                            break
                        self._news.wait(left_s)
                    frames, self._frames = self._frames, []
                for frame in frames:
                    changed |= self.mirror.apply(frame)
                if self.is_broken:
                    self._fail()
            return changed

    @property
    def is_broken(self) -> bool:
        """Whether the channel that followed for this watcher has ended."""
        return self._channel is not None and self._channel.is_closed

    def names_ahead(self, folders: Sequence[str]) -> dict[str, list[str]] | None:
        """Fetch what folders hold, in one round trip for all; None on a host that runs no commands.

        Raises
        ------
        TransportError
            The host is unreachable.
        """
        with self._waiting:
            channel = self._channel_now()
            if channel is None:
                return None
            self._fetch(channel, [folder for folder in folders if not self.mirror.holds_names(folder)], {})
            return {folder: names for folder in folders if (names := self.mirror.names_held(folder)) is not None}

    def read_ahead(self, files: Mapping[str, int]) -> set[str]:
        """Fetch files from where reading begins, in one round trip for all that fit into one answer.

        Raises
        ------
        TransportError
            The host is unreachable.
        """
        with self._waiting:
            channel = self._channel_now()
            if channel is not None:
                missing = {path: begin for path, begin in files.items() if not self.mirror.holds(path, begin)}
                self._fetch(channel, [], missing)
            return {path for path, begin in files.items() if self.mirror.holds(path, begin)}

    def wake(self) -> None:
        """End the present ``wait`` at once, or the next if there is none; callable from any thread."""
        with self._news:
            self._is_woken = True
            self._news.notify_all()

    def close(self) -> None:
        """Stop following; a ``wait`` in another thread ends."""
        with self._news:
            self._is_closed = True
            self._news.notify_all()
        with self._waiting:
            channel, self._channel = self._channel, None
            self.mirror.clear()
            if channel is not None:
                with contextlib.suppress(TransportError):  # it ended: nothing is followed any more
                    channel.unsubscribe(self.number)

    def _goes_on(self) -> bool:
        with self._news:
            if self._is_closed:
                return False
            was_woken, self._is_woken = self._is_woken, False
            return not was_woken

    def _channel_now(self) -> AgentChannel | None:
        """Return the channel, for what this thread then reads; connects if there is no connection."""
        if self._is_closed:
            return None
        self._waits(self)
        if self._channel is None or self.is_broken:
            self._channel = None
            agent = self._link.session().agent
            if agent is not None:
                self._take(agent)
        return self._channel

    def _fetch(self, channel: AgentChannel, folders: Sequence[str], files: Mapping[str, int]) -> None:
        if folders or files:
            answer = channel.ask("look", watch=self.number, folders=list(folders), files=dict(files))
            self.mirror.take_ahead(answer)

    def _connected(self, until: float) -> bool:
        """Have a channel, if there is one before the time is up or someone wakes this."""
        if self._channel is not None:
            return True
        if not self._folders:
            return False
        coming = self._link.soon()
        coming.add_done_callback(lambda _: self._notify())
        with self._news:
            while not coming.done() and not self._is_woken and not self._is_closed:
                left_s = until - time.monotonic()
                if left_s <= 0:
                    return False
                self._news.wait(left_s)
        if not coming.done():
            return False
        agent = coming.result().agent
        if agent is None:
            return False
        self._take(agent)
        return True

    def _take(self, agent: AgentChannel) -> None:
        self._told_folders = None
        self.mirror.clear()
        with self._news:
            self._frames.clear()
        agent.subscribe(self.number, self._told)
        self._channel = agent

    def _tell_folders(self) -> None:
        channel, folders = self._channel, self._folders
        if channel is not None:
            channel.tell("watch", watch=self.number, folders=folders)
            self._told_folders = folders

    def _fail(self) -> None:
        channel, self._channel = self._channel, None
        self._told_folders = None
        self.mirror.clear()
        with self._news:
            self._frames.clear()
        if channel is not None:
            raise channel.ended()

    def _notify(self) -> None:
        with self._news:
            self._news.notify_all()

    def _told(self, frame: Frame | None) -> None:
        with self._news:
            if frame is not None:
                self._frames.append(frame)
            self._news.notify_all()
