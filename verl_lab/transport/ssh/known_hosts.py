"""Which keys hosts are known by, in OpenSSH's own files and in one of the lab's."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from verl_lab.errors import TransportError
from verl_lab.transport.ssh.errors import HostKeyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

USUAL_FILES = (Path("~/.ssh/known_hosts"), Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2"))
SSH_PORT = 22


@dataclass(frozen=True)
class KnownKey:
    """A key that a file holds for a host, and where."""

    type: str
    key: bytes
    is_revoked: bool
    place: str


class KnownHosts:
    """The keys of hosts, from ``own`` and the user's and system's files.

    Parameters
    ----------
    own
        The lab's file: the only one that is ever written to.
    others
        Further files in OpenSSH's format.
    """

    def __init__(self, own: Path, others: Sequence[Path] = USUAL_FILES) -> None:
        self._own = own
        self._others = tuple(others)

    def keys(self, host: str, port: int) -> list[KnownKey]:
        """Return what the files hold for a host, the revoked keys included."""
        name = lookup_name(host, port)
        return [key for file in (self._own, *self._others) for key in _keys(file.expanduser(), name)]

    def check(self, host: str, port: int, key_type: str, key: bytes) -> None:
        """Accept the key a host showed, or refuse it.

        Raises
        ------
        HostKeyError
            The key is not known, is another one than is known, or was revoked.
        """
        name, shown = lookup_name(host, port), fingerprint(key)
        keys = self.keys(host, port)
        if any(known.key == key and known.is_revoked for known in keys):
            raise HostKeyError(f"{name} shows a key that was revoked: {shown}.", "Do not connect.", name, shown)
        known = [known for known in keys if not known.is_revoked]
        if any(hmac.compare_digest(one.key, key) for one in known):
            return
        if known:
            hint = (
                f"It may be another machine that pretends to be it. If its administrator says that it was set up"
                f" anew and has this fingerprint, remove {known[0].place}."
            )
            told = ", ".join(sorted({f"{fingerprint(one.key)} ({one.type})" for one in known}))
            raise HostKeyError(f"{name} shows another key than it is known by: {shown}, not {told}.", hint, name, shown)
        hint = "Compare the fingerprint with what the host's administrator says, then accept it."
        raise HostKeyError(f"{name} is not known. Its {key_type} key is {shown}.", hint, name, shown, can_accept=True)

    def add(self, host: str, port: int, key_type: str, key: bytes) -> None:
        """Write a key to the lab's own file.

        Raises
        ------
        TransportError
            It cannot be written.
        """
        line = f"{lookup_name(host, port)} {key_type} {base64.b64encode(key).decode()}\n"
        try:
            self._own.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._own, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, line.encode())
            finally:
                os.close(descriptor)
        except OSError as error:
            raise TransportError(f"Could not write {self._own}: {error.strerror}.") from error


def fingerprint(key: bytes) -> str:
    """Return a key's fingerprint as OpenSSH shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def lookup_name(host: str, port: int) -> str:
    """Return the name a host has in these files."""
    return host.lower() if port == SSH_PORT else f"[{host.lower()}]:{port}"


def _keys(file: Path, name: str) -> Iterator[KnownKey]:
    try:
        text = file.read_text("utf-8", "replace")
    except FileNotFoundError:
        return
    except OSError as error:  # a file that hides a revoked key must not look as if there were none
        raise TransportError(f"Could not read {file}: {error.strerror}.") from error
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) < 3 or words[0].startswith("#") or marker not in ("", "@revoked"):  # noqa: PLR2004  name, type, key
            continue
        try:
            key = base64.b64decode(words[2], validate=True)
        except binascii.Error:
            continue
        if _matches(words[0], name):
            yield KnownKey(words[1], key, marker == "@revoked", f"line {number} of {file}")


def _matches(patterns: str, name: str) -> bool:
    if patterns.startswith("|1|"):
        try:
            salt, hashed = (base64.b64decode(part, validate=True) for part in patterns[3:].split("|"))
        except (ValueError, binascii.Error):
            return False
        return hmac.compare_digest(hmac.new(salt, name.encode(), "sha1").digest(), hashed)
    found = False
    for pattern in patterns.lower().split(","):
        # A bracket stands for itself here: it is part of a name with a port.
        if fnmatch.fnmatchcase(name, pattern.removeprefix("!").replace("[", "[[]")):
            if pattern.startswith("!"):
                return False
            found = True
    return found
