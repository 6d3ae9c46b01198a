"""Opening a connection: reaching the host, checking its key, and only then saying who we are."""

from __future__ import annotations

import contextlib
import getpass
import logging
import socket
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import paramiko

from verl_lab.transport.ssh.errors import AuthenticationError, UnreachableError
from verl_lab.transport.ssh.known_hosts import fingerprint, lookup_name

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from verl_lab.domain.host import HostEntry, Jump, SecretKind
    from verl_lab.domain.secret import Secret
    from verl_lab.transport.ssh.known_hosts import KnownHosts

    Secrets = Callable[[SecretKind], Secret | None]

# A cipher that authenticates by itself costs one call a packet; the others cost two, and a copy.
_FAST_CIPHERS = ("aes128-gcm@openssh.com", "aes256-gcm@openssh.com")
_WINDOW_BYTES = 2**24
_USUAL_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_MOST_KEYS = 5  # OpenSSH hangs up after six attempts
_PARAMIKO_LOG = "verl_lab.paramiko"  # apart from what others do with it
logging.getLogger(_PARAMIKO_LOG).setLevel(logging.CRITICAL)  # it logs what is raised here as well


@dataclass(frozen=True)
class Timings:
    """How long to wait for what, in seconds."""

    connect_s: float = 15.0
    request_s: float = 30.0
    keepalive_s: float = 5.0
    longest_pause_s: float = 30.0

    @property
    def silence_s(self) -> float:
        """How long a connection may be silent before it counts as broken."""
        return 3 * self.keepalive_s


def open_transport(entry: HostEntry, known: KnownHosts, secrets: Secrets, timings: Timings) -> list[paramiko.Transport]:
    """Connect to a host, through its jumps; return the connections, the host's own last.

    Raises
    ------
    UnreachableError, HostKeyError, AuthenticationError
        With what to do next.
    """
    opened: list[paramiko.Transport] = []
    try:
        for place in (*entry.proxy_jump, entry):
            opened.append(_greeted(place, opened[-1] if opened else None, known, timings))
            _log_in(opened[-1], place, entry, secrets)
    except BaseException:
        close_all(opened)
        raise
    return opened


def shown_key(entry: HostEntry, known: KnownHosts, secrets: Secrets, timings: Timings) -> tuple[Any, str, int, str]:
    """Return the first key on the way to a host that is not known, with its host, port and fingerprint.

    Raises
    ------
    UnreachableError, HostKeyError, AuthenticationError
        As for ``open_transport``; a host whose key is known gives that.
    """
    opened: list[paramiko.Transport] = []
    try:
        for place in (*entry.proxy_jump, entry):
            opened.append(_started(place, opened[-1] if opened else None, known, timings))
            key = opened[-1].get_remote_server_key()
            if place is entry or not known.keys(place.hostname, place.port):
                return key, place.hostname, place.port, fingerprint(key.asbytes())
            known.check(place.hostname, place.port, key.get_name(), key.asbytes())
            _log_in(opened[-1], place, entry, secrets)
    finally:
        close_all(opened)
    raise AssertionError("the host itself comes last")


@contextlib.contextmanager
def closed_if_late(transport: paramiko.Transport, timeout_s: float) -> Generator[None]:
    """Close a connection on which something takes too long: some of paramiko's waits have no end of their own."""
    timer = threading.Timer(timeout_s, close, (transport,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def close_all(opened: list[paramiko.Transport]) -> None:
    """Close connections, the ones that go through others first."""
    for transport in reversed(opened):
        close(transport)


def close(what: paramiko.Transport | paramiko.Channel) -> None:
    """Close a connection or channel; one that broke has nobody to say goodbye to."""
    with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
        what.close()


def _greeted(
    place: HostEntry | Jump, through: paramiko.Transport | None, known: KnownHosts, timings: Timings
) -> paramiko.Transport:
    """Connect, and make sure that it is the host that is known."""
    transport = _started(place, through, known, timings)
    try:
        key = transport.get_remote_server_key()
        known.check(place.hostname, place.port, key.get_name(), key.asbytes())
    except BaseException:
        close(transport)
        raise
    return transport


def _started(
    place: HostEntry | Jump, through: paramiko.Transport | None, known: KnownHosts, timings: Timings
) -> paramiko.Transport:
    name = lookup_name(place.hostname, place.port)
    link: Any = None
    transport: paramiko.Transport | None = None
    try:
        if through is None:
            link = socket.create_connection((place.hostname, place.port), timings.connect_s)
            link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            where = (place.hostname, place.port)
            link = through.open_channel("direct-tcpip", where, ("127.0.0.1", 0), timeout=timings.connect_s)
        transport = paramiko.Transport(link, default_window_size=_WINDOW_BYTES)
        transport.set_log_channel(_PARAMIKO_LOG)
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = timings.connect_s
        options: Any = transport.get_security_options()
        options.ciphers = (*_FAST_CIPHERS, *(cipher for cipher in options.ciphers if cipher not in _FAST_CIPHERS))
        # Ask for a key of a kind that is known, else a host that has several would look changed.
        kinds = [key.type for key in known.keys(place.hostname, place.port) if not key.is_revoked]
        kinds += ["rsa-sha2-512", "rsa-sha2-256"] if "ssh-rsa" in kinds else []
        options.key_types = sorted(options.key_types, key=lambda kind: kind not in kinds)
        transport.start_client(timeout=timings.connect_s)
        if not transport.initial_kex_done:  # it does not say when its time is up
            raise TimeoutError
    except (OSError, EOFError, paramiko.SSHException) as error:
        if transport is not None:
            close(transport)
        elif link is not None:
            link.close()
        raise UnreachableError(f"{name} is unreachable: {_reason(error)}.", _next_step(error)) from error
    return transport


def _log_in(transport: paramiko.Transport, place: HostEntry | Jump, entry: HostEntry, secrets: Secrets) -> None:
    """Say who we are, in the ways the host takes and the entry allows; each secret is sent once."""
    user = place.user or getpass.getuser()
    name = lookup_name(place.hostname, place.port)
    notes: list[str] = []
    with _refusals(name, transport, notes):
        try:
            transport.auth_none(user)
        except paramiko.BadAuthenticationType as error:
            accepted = set(error.allowed_types)
        else:
            return
        own = place is entry
        for way in entry.auth:
            if way in ("agent", "key") and "publickey" in accepted:
                keys = _agent_keys() if way == "agent" else _file_keys(place.identity, secrets, notes)
                if way == "agent" and place.identity is not None:
                    continue  # the user said which key
                if any(_is_taken(transport, user, key, notes) for key in keys):
                    return
            secret = secrets("password") if own and way in accepted and way in _WITH_PASSWORD else None
            if secret is None:
                continue
            tried = f"{way}: it was refused"
            if _WITH_PASSWORD[way](transport, user, secret):
                return
            notes.append(tried)
            break  # one attempt with one password
    ways = ", ".join(sorted(accepted))
    said = "; ".join(notes) or "there is no key and no password for it here"
    raise AuthenticationError(
        f"{name} refused to log in {user}: {said}. It takes {ways}.",
        "Give the right user, key or password, then connect again; until then it is not asked again.",
    )


@contextlib.contextmanager
def _refusals(name: str, transport: paramiko.Transport, notes: list[str]) -> Generator[None]:
    try:
        yield
    except paramiko.AuthenticationException as error:
        # paramiko calls it a failed login too when the connection breaks in the midst of one.
        if not notes and not transport.is_active():
            raise UnreachableError(f"{name} is unreachable: it hung up.", _next_step(EOFError())) from None
        raise AuthenticationError(
            f"{name} ended the login: {_reason(error)}.", "Give the right user, key or password."
        ) from None
    except (OSError, EOFError, paramiko.SSHException) as error:
        raise UnreachableError(f"{name} is unreachable: {_reason(error)}.", _next_step(error)) from None


def _is_taken(transport: paramiko.Transport, user: str, key: Any, notes: list[str]) -> bool:
    try:
        left = transport.auth_publickey(user, key)
    except paramiko.AuthenticationException:
        if not transport.is_active():
            raise
        notes.append(f"key {fingerprint(key.asbytes())}: it was refused")
        return False
    if left:
        notes.append(f"the key is right, but the host also wants {', '.join(left)}")
    return not left


def _by_password(transport: paramiko.Transport, user: str, secret: Secret) -> bool:
    try:
        return not transport.auth_password(user, secret.reveal(), fallback=False)
    except paramiko.AuthenticationException:
        return False


def _by_questions(transport: paramiko.Transport, user: str, secret: Secret) -> bool:
    was_asked = False

    def answer(_title: str, _instructions: str, questions: list[tuple[str, bool]]) -> list[str]:
        nonlocal was_asked
        # Only one hidden question can be the password; anything else is not answered with it.
        if not questions:
            return []
        if was_asked or len(questions) > 1 or questions[0][1]:
            raise paramiko.AuthenticationException("it asks more than a password")
        was_asked = True
        return [secret.reveal()]

    try:
        return not transport.auth_interactive(user, answer)
    except paramiko.AuthenticationException:
        return False


_WITH_PASSWORD = {"password": _by_password, "keyboard-interactive": _by_questions}


def _agent_keys() -> Iterator[Any]:
    try:
        agent = paramiko.Agent()
    except (OSError, paramiko.SSHException):  # no agent that answers is no agent
        return
    try:
        yield from agent.get_keys()[:_MOST_KEYS]
    finally:
        agent.close()


def _file_keys(identity: str | None, secrets: Secrets, notes: list[str]) -> Iterator[Any]:
    usual = [Path("~/.ssh", name).expanduser() for name in _USUAL_KEYS]
    for path in [Path(identity).expanduser()] if identity else [path for path in usual if path.exists()]:
        key = _loaded(path, secrets, notes)
        if key is not None:
            yield key


def _loaded(path: Path, secrets: Secrets, notes: list[str]) -> Any:
    try:
        try:
            return paramiko.PKey.from_path(path)
        except (paramiko.PasswordRequiredException, TypeError):  # both mean that it is encrypted
            secret = secrets("passphrase")
            if secret is None:
                notes.append(f"key {path}: it needs its passphrase")
                return None
            locked: Any = paramiko.PKey.from_path  # it says text, and takes bytes alone
            return locked(path, secret.reveal().encode())
    except OSError as error:
        notes.append(f"key {path}: {error.strerror}")
    except (ValueError, paramiko.SSHException):
        notes.append(f"key {path}: it is not a private key, or its passphrase is wrong")
    return None


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer"
    if isinstance(error, EOFError):
        return "it hung up"
    return (getattr(error, "strerror", None) or str(error) or type(error).__name__).rstrip(".")


def _next_step(error: BaseException) -> str:
    if isinstance(error, socket.gaierror):
        return "Check the host's name, and that the network it is in can be reached."
    if isinstance(error, ConnectionRefusedError):
        return "Check the port, and that an SSH server runs there."
    if isinstance(error, paramiko.SSHException):
        return "Check that what answers on this port is an SSH server, and what it logs."
    return "Check that the host is on and the network reaches it; runs there go on by themselves."
