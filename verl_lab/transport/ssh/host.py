"""A machine that is reached over SSH."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko

from verl_lab.errors import TransportError
from verl_lab.transport.base import FileStat, Finished
from verl_lab.transport.ssh import bulk, sftp
from verl_lab.transport.ssh.errors import HostKeyError, UnreachableError
from verl_lab.transport.ssh.link import Link, tell_nobody
from verl_lab.transport.ssh.login import Timings, shown_key
from verl_lab.transport.ssh.mirror import described
from verl_lab.transport.ssh.watcher import SshWatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from verl_lab.domain.host import HostEntry, SecretKind
    from verl_lab.domain.secret import Secret
    from verl_lab.transport.ssh.agent.frames import Frame
    from verl_lab.transport.ssh.bulk import Progress
    from verl_lab.transport.ssh.channel import AgentChannel
    from verl_lab.transport.ssh.known_hosts import KnownHosts
    from verl_lab.transport.ssh.link import Told

_MARGIN_S = 15.0  # for the answer to come, after a command's own time is over
_ONE_LOOK_BYTES = 2**20


def no_secrets(_kind: SecretKind) -> Secret | None:
    """Have no password and no passphrase."""
    return None


class SshHost:
    """A host of the user's, over one connection that is made when it is needed. Usable from any thread.

    Parameters
    ----------
    entry
        How it is reached.
    known
        Which keys hosts are known by.
    secrets
        Gives the password or the key's passphrase when it is needed, or None.
    timings
        How long to wait for what.
    told
        Called with None when the host is reached, and with the error when it is not, or not any more; from any
        thread.

    Every call raises ``UnreachableError`` when there is no connection or it broke, and whether what was
    asked was done is not known then; ``HostKeyError`` and ``AuthenticationError`` before anything is done.
    """

    def __init__(
        self,
        entry: HostEntry,
        known: KnownHosts,
        secrets: Callable[[SecretKind], Secret | None] = no_secrets,
        timings: Timings | None = None,
        told: Told = tell_nobody,
    ) -> None:
        self._entry = entry
        self._known = known
        self._secrets = secrets
        self._link = Link(entry, known, secrets, timings or Timings(), told)
        self._of_thread = threading.local()
        self._watchers: set[SshWatcher] = set()
        self._changing = threading.Lock()

    def __repr__(self) -> str:
        return f"SshHost({self.name!r})"

    @property
    def name(self) -> str:
        """The name the user gave the host."""
        return self._entry.name

    @property
    def entry(self) -> HostEntry:
        """How it is reached."""
        return self._entry

    def change(self, entry: HostEntry) -> None:
        """Reach the host as ``entry`` says, over a new connection, with passwords and keys as they are now.

        Watchers and others who hold this object go on using it.
        """
        self._entry = entry
        self._link.change(entry)

    def renew(self) -> None:
        """Drop the connection: the next call makes it anew, with passwords and keys as they are then."""
        self._link.renew()

    def connect(self) -> dict[str, Any]:
        """Connect if there is no connection; return what the agent said of the host, nothing if it runs none."""
        session = self._link.session()
        return dict(session.agent.about) if session.agent is not None else {}

    def reconnect(self) -> dict[str, Any]:
        """Connect anew at once, after something was changed such as a password or a known key."""
        self._link.renew()
        return self.connect()

    def close(self) -> None:
        """End the connection, and all watchers of this host."""
        with self._changing:
            watchers, self._watchers = list(self._watchers), set()
        for watcher in watchers:
            watcher.close()
        self._link.close()

    def run(self, argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None) -> Finished:
        """Run a command to its end, without a shell; ``env`` is added to the host's own."""
        with self._translated(f"run {argv[0]!r}"):
            said: dict[str, Any] = {"argv": list(argv), "env": dict(env) if env else None}
            agent = self._commanded(f"run {argv[0]!r}")
            head, body = agent.begin("run", **said, timeout_s=timeout_s).next(timeout_s + _MARGIN_S)
            if head.get("timed_out"):
                raise TransportError(f"{argv[0]!r} did not end within {timeout_s:g} s.", "It was killed.")
        return Finished(head["exit_code"], body[: head["stdout_bytes"]], body[head["stdout_bytes"] :])

    def start_detached(self, argv: Sequence[str], *, cwd: str, log: str) -> int:
        """Start a command that outlives this connection; return its pid."""
        with self._translated(f"start {argv[0]!r}"):
            agent = self._commanded(f"start {argv[0]!r}")
            return int(agent.ask("start", argv=list(argv), cwd=cwd, log=log)[0]["pid"])

    def stat(self, path: str) -> FileStat | None:
        """Describe a path, following links; None if there is none."""
        with self._translated(f"look at {path}"):
            watcher = self._watcher_here()
            if watcher is not None:
                known = watcher.mirror.stat(path)
                if known is not None:
                    return known[0]
            answer = self._looked("stat", path, watcher)
            if answer is None:
                return self._by_sftp(lambda client: sftp.described(client, sftp.check(path)))
            found = described(answer[0]["stat"])
            if watcher is not None:
                watcher.mirror.saw_stat(path, answer[0]["number"], found)
            return found

    def list_folder(self, path: str) -> list[str]:
        """Return the sorted names in a folder; empty if it does not exist."""
        with self._translated(f"list {path}"):
            watcher = self._watcher_here()
            if watcher is not None:
                known = watcher.mirror.names(path)
                if known is not None:
                    return known
            answer = self._looked("list", path, watcher)
            if answer is None:
                return self._by_sftp(lambda client: sftp.listed(client, sftp.check(path)))
            names: list[str] = answer[0]["names"]
            if watcher is not None:
                watcher.mirror.saw_names(path, answer[0]["number"], list(names))
            return names

    def read(self, path: str, offset: int = 0, limit: int | None = None) -> bytes:
        """Return up to ``limit`` bytes from ``offset``."""
        with self._translated(f"read {path}"):
            watcher = self._watcher_here()
            if watcher is not None:
                known = watcher.mirror.read(path, offset, limit)
                if known is not None:
                    self._note_taken(watcher, path, known[1])
                    return known[0]
                wanted = _ONE_LOOK_BYTES if limit is None else limit
                answer = self._looked("read", path, watcher, offset=offset, limit=wanted)
                if answer is not None:
                    head, content = answer
                    is_whole = len(content) < wanted and offset + len(content) == head["size"]
                    watcher.mirror.saw(path, head["number"], offset, content, is_whole=is_whole)
                    if limit is not None or len(content) < wanted:
                        return content
            self._forget(path)
            session = self._link.session()
            if session.agent is None:
                return self._by_sftp(lambda client: sftp.read(client, sftp.check(path), offset, limit))
            pieces = session.agent.ask_for_pieces("read", path=path, offset=offset, limit=limit)
            content = b"".join(body for _, body in pieces)
            self._forget(path)
            return content

    def write_atomic(self, path: str, content: bytes) -> None:
        """Write a file so that a reader sees the old or the new content, never a part."""
        self._write(path, content, only_new=False)

    def write_new(self, path: str, content: bytes) -> bool:
        """Write a file with its whole content only if none exists; False if one does."""
        return self._write(path, content, only_new=True)

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it; one that exists is fine."""
        with self._translated(f"make the folder {path}"):
            session = self._link.session()
            if session.agent is None:
                self._by_sftp(lambda client: sftp.make_folder(client, sftp.check(path)))
            else:
                session.agent.ask("make_folder", path=path)
            self._forget(path)

    def sha256(self, path: str, *, timeout_s: float = 3600) -> str:
        """Return the SHA-256 of a whole file, computed there."""
        with self._translated(f"read {path}"):
            agent = self._commanded(f"read {path}")
            return str(agent.ask("sha256", path=path, timeout_s=timeout_s)[0]["sha256"])

    def put(self, local: Path, remote: str, *, progress: Progress | None = None) -> str:
        """Send a file and return its SHA-256; it is in place only when complete and as it was sent.

        ``progress`` is called with the bytes that are there and the bytes in all. After a break, the next
        call for the same file goes on where this one stopped.
        """
        with self._translated(f"send {local} to {remote}"):
            agent = self._commanded("send files in one stream")
            return bulk.put(agent, Path(local), remote, progress, self._link.timings.request_s)

    def get(self, remote: str, local: Path, *, progress: Progress | None = None) -> str:
        """Fetch a file and return its SHA-256; otherwise as ``put``."""
        with self._translated(f"fetch {remote} to {local}"):
            agent = self._commanded("fetch files in one stream")
            return bulk.get(agent, remote, Path(local), progress)

    def watcher(self) -> SshWatcher:
        """Return a new watcher of this host's folders."""
        watcher = SshWatcher(self._link, self._waits)
        with self._changing:
            self._watchers = {one for one in self._watchers if not one.is_closed} | {watcher}
        return watcher

    def accept_key(self, fingerprint: str) -> None:
        """Take the key that was shown with this fingerprint for the host's own from now on.

        Raises
        ------
        HostKeyError
            The host shows another key now, or is known by another one.
        """
        accept_host_key(self._entry, self._known, fingerprint, self._link.timings, self._secrets)

    def _write(self, path: str, content: bytes, *, only_new: bool) -> bool:
        with self._translated(f"write {path}"):
            session = self._link.session()
            try:
                if session.agent is None:
                    return self._by_sftp(
                        lambda client: sftp.write(client, sftp.check(path), content, only_new=only_new)
                    )
                return bool(session.agent.ask("write", content, path=path, only_new=only_new)[0]["written"])
            finally:
                self._forget(path)

    def _looked(self, do: str, path: str, watcher: SshWatcher | None, **said: Any) -> Frame | None:
        """Ask the agent about a path; None if there is no agent. Others' knowledge of the path is then old."""
        if watcher is not None and watcher.channel is not None:
            return watcher.channel.ask(do, path=path, watch=watcher.number, **said)
        agent = self._link.session().agent
        if agent is None:
            return None
        try:
            return agent.ask(do, path=path, **said)
        finally:
            self._forget(path)

    def _waits(self, watcher: SshWatcher) -> None:
        self._of_thread.watcher = watcher

    def _watcher_here(self) -> SshWatcher | None:
        """Return this thread's watcher, if it follows."""
        watcher: SshWatcher | None = getattr(self._of_thread, "watcher", None)
        channel = watcher.channel if watcher is not None else None
        return watcher if channel is not None and not channel.is_closed else None

    def _note_taken(self, watcher: SshWatcher, path: str, end: int) -> None:
        if end >= 0 and watcher.channel is not None:
            watcher.channel.tell("taken", watch=watcher.number, path=path, end=end)

    def _forget(self, path: str) -> None:
        """Let no thread be answered with what is older than what this one was told, or did."""
        with self._changing:
            watchers = list(self._watchers)
        for watcher in watchers:
            watcher.mirror.forget(path)

    def _commanded(self, task: str) -> AgentChannel:
        session = self._link.session()
        if session.agent is None:
            raise sftp.unsupported(self.name, task) from session.no_commands
        return session.agent

    def _by_sftp(self, do: Callable[[paramiko.SFTPClient], Any]) -> Any:
        session = self._link.session()
        try:
            with session.sftp(self._link.timings.request_s) as client:
                return do(client)
        except (TimeoutError, EOFError, paramiko.SSHException) as error:
            self._link.broke(session)
            raise UnreachableError(
                f"{self.name} is unreachable: it does not answer.", "The next call connects again."
            ) from error

    @contextlib.contextmanager
    def _translated(self, task: str) -> Generator[None]:
        """Say what was to be done in errors from the host's file system, and in those from here."""
        try:
            yield
        except TransportError as error:
            if type(error) is TransportError and error.hint is None and not error.message.startswith("Could not"):
                raise TransportError(f"Could not {task}: {error.message.rstrip('.')}.") from error
            raise
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise TransportError(f"Could not {task}: {reason}.") from error


def accept_host_key(
    entry: HostEntry,
    known: KnownHosts,
    fingerprint: str,
    timings: Timings | None = None,
    secrets: Callable[[SecretKind], Secret | None] = no_secrets,
) -> None:
    """Add the key that a host shows to the lab's own file, if it has this fingerprint.

    Where the way leads through other hosts, it is the first of them that is not known.

    Raises
    ------
    HostKeyError
        It shows another key, or is known by another one already.
    UnreachableError
        It does not answer.
    """
    key, host, port, shown = shown_key(entry, known, secrets, timings or Timings())
    if shown != fingerprint:
        raise HostKeyError(
            f"{host} shows a key with the fingerprint {shown}, not {fingerprint}.",
            "Nothing was accepted. Ask the host's administrator which is right.",
            host,
            shown,
        )
    if not known.keys(host, port):
        known.add(host, port, key.get_name(), key.asbytes())
    known.check(host, port, key.get_name(), key.asbytes())
