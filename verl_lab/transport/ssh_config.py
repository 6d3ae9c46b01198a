"""The hosts in the user's OpenSSH configuration, as candidates to add.

Read by rules of our own, which are compared with ``ssh -G`` by a test: paramiko's reader knows no ``Include``,
asks the name server about each host, and runs what ``Match exec`` says. Nothing here runs or connects to anything.
"""

from __future__ import annotations

import fnmatch
import getpass
import glob
import os
import re
import shlex
import stat
from dataclasses import dataclass, field
from pathlib import Path

from verl_lab import inputs
from verl_lab.domain.host import SSH_PORT, HostEntry, Jump
from verl_lab.errors import InvalidInputError, TransportError

_LARGEST_FILE = 2**20
_MOST_FILES = 200
_DEEPEST = 16
_MOST_JUMPS_DEEP = 8
_READ = frozenset(("hostname", "user", "port", "identityfile", "proxyjump", "proxycommand"))
# What changes how or whether a host is reached, and is told where it is left out.
_LEFT_OUT = frozenset(
    (
        *("addressfamily", "bindaddress", "bindinterface", "canonicalizehostname", "certificatefile", "hostkeyalias"),
        *("identityagent", "knownhostscommand", "localcommand", "pkcs11provider", "remotecommand"),
        *("securitykeyprovider", "stricthostkeychecking", "userknownhostsfile"),
    )
)
_LINE = re.compile(r"\s*(?P<keyword>[A-Za-z0-9]+)(\s*=\s*|\s+)(?P<rest>.*?)\s*")
_TOKEN = re.compile(r"%(.)")


@dataclass(frozen=True)
class SshAlias:
    """A host of the configuration.

    Attributes
    ----------
    name
        Its alias there.
    entry
        What would be added; None where it cannot be reached from here as it stands.
    notes
        What was left out, or why there is no entry, for a person.
    """

    name: str
    entry: HostEntry | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class SshConfig:
    """What was read: the aliases in their order, and what was left out of the files."""

    aliases: tuple[SshAlias, ...] = ()
    notes: tuple[str, ...] = ()


def read_ssh_config(path: str | os.PathLike[str] = "~/.ssh/config") -> SshConfig:
    """Read a configuration file of OpenSSH's client; one that does not exist has no hosts.

    Raises
    ------
    TransportError
        The file is there, and cannot be read.
    """
    file = Path(path).expanduser()
    reading = _Reading()
    try:
        text = _text(file)
    except FileNotFoundError:
        return SshConfig()
    except OSError as error:
        raise TransportError(f"Could not read {file}: {error.strerror or error}.") from error
    reading.take(file, text, (), 0)
    return SshConfig(tuple(_alias(name, reading.blocks) for name in reading.aliases), tuple(reading.notes))


@dataclass
class _Block:
    """Settings, and the ``Host`` lines that must all match for them to count."""

    hosts: tuple[tuple[str, ...], ...]
    settings: list[tuple[str, str]] = field(default_factory=list[tuple[str, str]])

    def matches(self, name: str) -> bool:
        return all(_matches(patterns, name) for patterns in self.hosts)


@dataclass
class _Reading:
    blocks: list[_Block] = field(default_factory=list[_Block])
    aliases: dict[str, None] = field(default_factory=dict[str, None])
    notes: list[str] = field(default_factory=list[str])
    files: int = 0

    def take(self, file: Path, text: str, above: tuple[tuple[str, ...], ...], depth: int) -> None:
        """Add the blocks of one file, all of which count only where ``above`` matches."""
        self.files += 1
        block = _Block(above)
        self.blocks.append(block)
        for number, line in enumerate(text.splitlines(), 1):
            if not line.strip() or line.lstrip().startswith("#"):
                continue
            place = f"{file.name}, line {number}"
            found = _LINE.fullmatch(line)
            words = _words(found["rest"]) if found else []
            if found is None or not words:
                self.notes.append(f"{place}: it cannot be read, and is left out.")
                continue
            keyword = found["keyword"].lower()
            if keyword == "host":
                block = _Block((*above, tuple(words)))
                self.blocks.append(block)
                plain = [word for word in words if not set(word) & set("*?!")]
                self.aliases |= dict.fromkeys(word for word in plain if block.matches(word))
            elif keyword == "match":
                block = _Block(((),))  # matches nothing, and stands in no list
                self.notes.append(f"{place}: Match is not supported; what it holds is left out.")
            elif keyword == "include":
                if block.hosts != ((),):
                    self._include(words, place, block.hosts, depth)
                    block = _Block(block.hosts)  # what follows comes after what was included
                    self.blocks.append(block)
            else:
                block.settings.append((keyword, found["rest"] if keyword == "proxycommand" else words[0]))

    def _include(self, words: list[str], place: str, above: tuple[tuple[str, ...], ...], depth: int) -> None:
        for word in words:
            for file in _included(word):
                if depth >= _DEEPEST or self.files >= _MOST_FILES:
                    self.notes.append(f"{place}: too many files include one another; the rest is left out.")
                    return
                try:
                    text = _text(file)
                except OSError as error:
                    self.notes.append(f"{place}: {file} is left out: {error.strerror or error}.")
                    continue
                self.take(file, text, above, depth + 1)


@dataclass
class _Found:
    """What counts for one name: of each keyword the first value."""

    values: dict[str, str]
    notes: list[str]


def _alias(name: str, blocks: list[_Block]) -> SshAlias:
    found = _lookup(name, blocks)
    try:
        entry = HostEntry.of(
            name=name,
            hostname=_hostname(name, found),
            user=found.values.get("user"),
            port=found.values.get("port", SSH_PORT),
            identity=_identity(name, found),
            proxy_jump=_jumps(found, blocks, (name,)),
        )
    except InvalidInputError as error:
        return SshAlias(name, None, (*found.notes, error.message))
    return SshAlias(name, entry, tuple(found.notes))


def _lookup(name: str, blocks: list[_Block]) -> _Found:
    values: dict[str, str] = {}
    notes: dict[str, None] = {}
    for block in blocks:
        if not block.matches(name):
            continue
        for keyword, value in block.settings:
            if keyword in _LEFT_OUT:
                notes[f"{keyword} is not supported, and is left out."] = None
            elif keyword == "identityfile" and values.get(keyword, value) != value:
                notes["Of several identity files, the first is taken."] = None
            elif keyword in _READ:
                values.setdefault(keyword, value)
                if keyword in ("proxyjump", "proxycommand"):  # of both, the first counts
                    values.setdefault("proxyjump" if keyword == "proxycommand" else "proxycommand", "none")
    return _Found(values, list(notes))


def _hostname(name: str, found: _Found) -> str:
    return _expanded(found.values.get("hostname", name), {"h": name})


def _identity(name: str, found: _Found) -> str | None:
    text = found.values.get("identityfile", "none")
    if text.lower() == "none":
        return None
    here = getpass.getuser()
    tokens = {"d": str(Path.home()), "h": _hostname(name, found), "r": found.values.get("user", here), "u": here}
    return _expanded(text, {**tokens, "n": name})


def _jumps(found: _Found, blocks: list[_Block], passed: tuple[str, ...]) -> tuple[Jump, ...]:
    """Return the machines to go through, the nearest first, with what the configuration says of each."""
    if found.values.get("proxycommand", "none").lower() != "none":
        raise InvalidInputError("ProxyCommand is not supported, and is not run.", "Use ProxyJump.")
    text = found.values.get("proxyjump", "none")
    if text.lower() == "none":
        return ()
    jumps: list[Jump] = []
    for one in text.split(","):
        told = Jump.parse(one.removeprefix("ssh://"))
        name = told.hostname
        own = _lookup(name, blocks)
        if not jumps:  # the others are reached through the first: what they say about it does not count
            if name in passed or len(passed) > _MOST_JUMPS_DEEP:
                raise InvalidInputError(f"ProxyJump leads in a circle, through {inputs.shown(name)}.")
            jumps += _jumps(own, blocks, (*passed, name))
        fields = {
            "hostname": _hostname(name, own),
            "port": own.values.get("port", SSH_PORT) if told.port == SSH_PORT else told.port,
            "user": told.user or own.values.get("user"),
            "identity": _identity(name, own),
        }
        jumps.append(Jump.of(**fields))
    return tuple(jumps)


def _expanded(text: str, tokens: dict[str, str]) -> str:
    """Put values for OpenSSH's ``%`` tokens; one that is not known stays, and is refused as part of its field."""
    return _TOKEN.sub(lambda found: "%" if found[1] == "%" else tokens.get(found[1], found[0]), text)


def _matches(patterns: tuple[str, ...], name: str) -> bool:
    found = False
    for pattern in patterns:
        # A bracket means nothing special to OpenSSH.
        if fnmatch.fnmatchcase(name, pattern.removeprefix("!").replace("[", "[[]")):
            if pattern.startswith("!"):
                return False
            found = True
    return found


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return []


def _included(word: str) -> list[Path]:
    pattern = Path.home() / ".ssh" / os.path.expanduser(word)  # noqa: PTH111  an unknown ~user is no error here
    # Not Path.glob: there "**" goes through all folders below, which it does not for OpenSSH.
    return [Path(found) for found in sorted(glob.glob(str(pattern)))]  # noqa: PTH207


def _text(file: Path) -> str:
    # Not blocking: a pipe of that name would wait for ever for someone to write to it.
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as opened:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is no plain file")
        return opened.read(_LARGEST_FILE).decode("utf-8", errors="replace")
