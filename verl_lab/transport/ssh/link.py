"""The one connection to a host: made when it is needed, and made again when it broke."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING

import paramiko

from verl_lab.errors import TransportError, VerlLabError
from verl_lab.transport.ssh.channel import AgentChannel
from verl_lab.transport.ssh.errors import AuthenticationError, HostKeyError, NoCommandsError, UnreachableError
from verl_lab.transport.ssh.login import close_all, closed_if_late, open_transport

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from verl_lab.domain.host import HostEntry
    from verl_lab.transport.ssh.known_hosts import KnownHosts
    from verl_lab.transport.ssh.login import Secrets, Timings

    Told = Callable[[BaseException | None], None]

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.5


def tell_nobody(_error: BaseException | None) -> None:
    """Let nobody hear how it stands with the connection."""


class Session:
    """A connection, and what was started on it."""

    def __init__(self, transports: list[paramiko.Transport]) -> None:
        self.transports = transports
        self.agent: AgentChannel | None = None
        self.no_commands: NoCommandsError | None = None
        self._sftp: paramiko.SFTPClient | None = None
        self._using_sftp = threading.RLock()  # paramiko's client takes one thread at a time

    @property
    def is_alive(self) -> bool:
        """Whether the connection stands, as far as is known."""
        return self.transports[-1].is_active()

    @contextlib.contextmanager
    def sftp(self, timeout_s: float) -> Generator[paramiko.SFTPClient]:
        """Lend the channel for files, for a host that runs no commands, to one thread."""
        with self._using_sftp:
            if self._sftp is None or self._sftp.sock.closed:
                with closed_if_late(self.transports[-1], 2 * timeout_s):
                    channel = self.transports[-1].open_session(timeout=timeout_s)
                    channel.settimeout(timeout_s)
                    channel.invoke_subsystem("sftp")
                    self._sftp = paramiko.SFTPClient(channel)
            yield self._sftp

    def close(self) -> None:
        """End the agent and the connection."""
        if self.agent is not None:
            self.agent.close()
        close_all(self.transports)


class Link:
    """The connection to one host, shared by all threads.

    A connection that broke is made again by the next call. A host that was not reached is asked again
    after a pause that grows; one that refused who we are, not before ``renew``.

    ``told`` is called with None when there is a connection, and with the error when there is none or it broke,
    from any thread; it must not raise.
    """

    def __init__(
        self, entry: HostEntry, known: KnownHosts, secrets: Secrets, timings: Timings, told: Told = tell_nobody
    ) -> None:
        self._entry = entry
        self._known = known
        self._secrets = secrets
        self.timings = timings
        self._told = told
        self._changing = threading.Lock()
        self._session: Session | None = None
        self._coming: Future[Session] | None = None
        self._failures = 0
        self._not_before = 0.0
        self._refused: VerlLabError | None = None
        self._is_closed = False

    def session(self) -> Session:
        """Return the connection, making it if there is none.

        Raises
        ------
        UnreachableError, HostKeyError, AuthenticationError
            With what to do next.
        """
        coming = self.soon()
        try:
            # Through each jump there are as many waits of their own.
            return coming.result(4 * self.timings.connect_s * (1 + len(self._entry.proxy_jump)))
        except TimeoutError:
            raise UnreachableError(
                f"{self._entry.name} is unreachable: no connection yet.", "The next call goes on waiting."
            ) from None

    def soon(self) -> Future[Session]:
        """Return the connection as it is, or as it is being made by a thread of its own."""
        with self._changing:
            if self._is_closed:
                raise TransportError(f"The connection to {self._entry.name} is closed.", "Make a new Lab.")
            session = self._session
            is_whole = session is not None and (session.agent is None or not session.agent.is_closed)
            if session is not None and is_whole and session.is_alive:
                done: Future[Session] = Future()
                done.set_result(session)
                return done
            if self._coming is not None:
                return self._coming
            if self._refused is not None and time.monotonic() < self._not_before:
                raise _again(self._refused)
            coming = self._coming = Future()
            name = f"verl-lab-connect-{self._entry.name}"
            threading.Thread(target=self._connect, args=(coming, session), name=name, daemon=True).start()
            return coming

    def renew(self) -> None:
        """Drop the connection and forget refusals: something was changed, such as a password."""
        with self._changing:
            session, self._session = self._session, None
            coming, self._coming = self._coming, None  # it was begun with what held before
            self._refused, self._failures = None, 0
        if session is not None:
            session.close()
        if coming is not None:
            coming.set_exception(
                UnreachableError(
                    f"{self._entry.name}: the connection was closed here.", "The next call connects again."
                )
            )

    def change(self, entry: HostEntry) -> None:
        """Reach the host in another way from now on."""
        with self._changing:
            self._entry = entry
        self.renew()

    def broke(self, session: Session) -> None:
        """Give up a connection that does not answer."""
        with self._changing:
            if self._session is session:
                self._session = None
        session.close()

    def close(self) -> None:
        """End the connection for good."""
        with self._changing:
            self._is_closed = True
        self.renew()

    def _connect(self, coming: Future[Session], old: Session | None) -> None:
        try:
            session = self._made(old)
        except BaseException as error:  # noqa: BLE001  whoever waits must hear of it
            if self._keep(coming, None, error):
                self._told(error)
                coming.set_exception(error)
            return
        if self._keep(coming, session, None):
            self._told(None)
            coming.set_result(session)
        else:
            session.close()

    def _made(self, old: Session | None) -> Session:
        """Return a session with an agent; the old one's connection is kept where only its agent ended."""
        entry = self._entry
        if old is not None and old.is_alive:
            session = Session(old.transports)
        else:
            if old is not None:
                old.close()
            session = Session(open_transport(entry, self._known, self._secrets, self.timings))
        try:
            python = entry.python or "python3"
            session.agent = AgentChannel(session.transports[-1], entry.name, python, self.timings, self._lost)
        except NoCommandsError as error:
            _log.warning("%s", error)
            session.no_commands = error
        except BaseException:
            session.close()
            raise
        return session

    def _lost(self, agent: AgentChannel) -> None:
        with self._changing:
            is_ours = self._session is not None and self._session.agent is agent
        if is_ours:  # not where it was ended from here
            self._told(agent.ended())

    def _keep(self, coming: Future[Session], session: Session | None, error: BaseException | None) -> bool:
        """Take over how a connection was or was not made; False if nobody waits for that any more."""
        with self._changing:
            if self._coming is not coming:
                return False
            self._coming = None
            self._session = session
            self._refused = None
            if isinstance(error, AuthenticationError):
                self._refused, self._not_before = error, float("inf")
            elif isinstance(error, VerlLabError) and not isinstance(error, HostKeyError):
                self._refused = error
                pause_s = min(_FIRST_PAUSE_S * 2**self._failures, self.timings.longest_pause_s)
                self._failures = min(self._failures + 1, 16)
                self._not_before = time.monotonic() + pause_s
            elif error is None:
                self._failures = 0
            return True


def _again(error: VerlLabError) -> VerlLabError:
    """Return the same error once more, without the trace of where it was raised first."""
    return type(error)(*error.args)
