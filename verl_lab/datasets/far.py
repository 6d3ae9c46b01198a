"""Copies of data and models on a host: one for each content, under its hash, as ``Snapshots`` keeps them here."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from verl_lab.datasets import far_collect
from verl_lab.datasets.asking import amount, ask, check_space, listing
from verl_lab.datasets.folder import Found, translated
from verl_lab.datasets.snapshot import Kept, kept_name
from verl_lab.errors import InvalidInputError, NoSpaceError, TransportError, UnreachableError
from verl_lab.store.mounts import NETWORK_TYPES
from verl_lab.transport.local import LocalHost
from verl_lab.transport.patience import Patience
from verl_lab.transport.several import move_several

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from verl_lab.datasets.fingerprint import Fingerprint, Fingerprints, Progress
    from verl_lab.transport.base import Host

Kind = Literal["datasets", "models", "checkpoints", "files"]

YOUNG_S = 24 * 3600.0
"""A launch that takes longer than this to send what it needs has to send some of it again."""
_PATIENCE_S = 60.0
_ATTEMPTS_MOST = 3
_TOLD_PARTS = 200
_DEEPEST = 32
_FULL = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))


class FarCopies:
    """The copies below one folder of a host: ``<root>/<kind>/<hash>/<name>``.

    ``<hash>`` is the BLAKE3 that the content has everywhere, ``<name>`` the file or folder as it was called. A copy
    is complete or not there: what is sent arrives beside it, is read again there and compared by SHA-256, and only
    then renamed. What an earlier attempt has brought, what is sound of a damaged copy, and what another version has
    too, is not sent again. Several may send the same at once.

    Parameters
    ----------
    host
        Where they lie.
    root
        The folder, as an absolute path there; made when it is needed.
    python
        An interpreter there, 3.8 or newer; by default ``python3``.
    patience_s
        For how long to try again after a connection broke, from the last byte that moved.
    """

    def __init__(self, host: Host, root: str, *, python: str | None = None, patience_s: float = _PATIENCE_S) -> None:
        self.host = host
        self.python = python
        self.patience_s = patience_s
        self._root = root.rstrip("/")

    def keep(
        self,
        kind: Kind,
        found: Found,
        fingerprints: Fingerprints,
        *,
        at: str | None = None,
        in_place: bool = False,
        progress: Progress | None = None,
    ) -> str:
        """Return where what lies at a path here lies there, sending what is not there yet.

        Parameters
        ----------
        at
            A path there that may hold the same; what it shares with ``found`` is not sent.
        in_place
            Whether that path itself will do if all of it is the same.

        Raises
        ------
        NoSpaceError
            The host has no room for it; nothing was sent.
        TransportError
            It cannot be read, sent or written, or changed meanwhile.
        UnreachableError
            The host was away for too long. What arrived stays, and is gone on with by the next call.
        """
        fingerprint = fingerprints.of(found, progress)
        delivery = _Delivery(self, kind, found, fingerprint, at, progress, in_place=in_place)
        return delivery.done(fingerprints)

    def find(self, kind: Kind, content: str, name: str, *, size: int = 0) -> str | None:
        """Return where a content of ``size`` bytes lies there, verified; None if it is not there as it was."""
        return self.ask("look", kind, content, kept_name(name), size=size, wanted=[])["at"]

    def ask(self, do: str, kind: Kind, content: str, name: str, **said: Any) -> dict[str, Any]:
        """Have something done with the copies of one content."""
        about = {"kind": f"{self._root}/{kind}", "hash": content, "name": name, "network": sorted(NETWORK_TYPES)}
        return ask(self.host, do, python=self.python, aside=f"{self._root}/.requests", **about, **said)

    def collect(self, runs: str, *, dry_run: bool) -> tuple[list[Kept], list[Kept]]:
        """Remove the copies that no run's record names, and return them; with ``dry_run`` only return them.

        Those that were sent or looked for within a day stay, since a launch may be on its way to its record: they are
        returned beside.

        Parameters
        ----------
        runs
            The folder of the runs there.

        Raises
        ------
        TransportError
            A record, or a copy, cannot be read or removed.
        """
        about: dict[str, Any] = {"root": self._root, "runs": runs, "kinds": get_args(Kind), "young_s": YOUNG_S}
        about |= {"python": self.python, "program": far_collect}
        found = ask(self.host, "list", **about)
        if not dry_run and found["free"]:
            found = ask(self.host, "remove", size=sum(one["size"] for one in found["free"]), **about)
        return _kept(found["free"]), _kept(found["recent"])

    def pool(self, kind: Kind, content: str) -> str:
        """Return the folder there in which the files of a content arrive."""
        return f"{self._root}/{kind}/{content}/.partial"


class _Delivery:
    """One content on its way to a host."""

    def __init__(
        self,
        copies: FarCopies,
        kind: Kind,
        found: Found,
        fingerprint: Fingerprint,
        at: str | None,
        progress: Progress | None,
        *,
        in_place: bool,
    ) -> None:
        self._copies = copies
        self._host = copies.host
        self._kind: Kind = kind
        self._found = found
        self._name = kept_name(found.path.name)
        self._fingerprint = fingerprint
        self._at = at
        self._in_place = in_place
        self._progress = progress
        self._patience = Patience(copies.patience_s)
        self._here = {one.hash: (found.files[name], one.size) for name, one in fingerprint.files.items()}
        self._names = {one.hash: name for name, one in fingerprint.files.items()}
        self._digests: dict[str, str] = {}
        self._refused: set[str] = set()
        self._told = ("", -1)
        self._same: dict[str, str] | None = None

    def done(self, fingerprints: Fingerprints) -> str:
        """Return where it lies, when it does."""
        attempts = 0
        while attempts < _ATTEMPTS_MOST:
            try:
                place = self._attempt_or_find(fingerprints)
            except UnreachableError as error:
                self._patience.wait(error)
                continue
            if place is not None:
                return place
            attempts += 1
        raise TransportError(
            f"{self._host.name} does not keep what is written to it: {self._found.path} arrived otherwise than it was"
            f" sent, {_ATTEMPTS_MOST} times.",
            "Look after its disk.",
        )

    def _attempt_or_find(self, fingerprints: Fingerprints) -> str | None:
        try:
            return self._attempt(fingerprints)
        except UnreachableError:
            raise
        except TransportError as error:
            # Another one that sends the same may have put it in place, and cleared what this one was bringing.
            return self._after(error)

    def _attempt(self, fingerprints: Fingerprints) -> str | None:
        """Return where it lies after one attempt; None if something did not arrive as it was sent."""
        self._say("Looking for")
        state = self._look()
        if state["at"] is not None:
            return str(state["at"])
        self._patience.moved(0)
        if self._same is None:
            self._same = self._beside()
        if self._in_place and self._same.keys() == self._here.keys():
            fingerprints.still(self._found, self._fingerprint)
            return str(self._ask("note", at=self._at, **self._entries())["at"])
        beside = {} if self._in_place else self._same
        sources = {one: [path, False] for one, path in beside.items() if one not in self._refused}
        for content, (path, sha256) in state["have"].items():
            if content not in self._refused:
                sources[content] = [path, True]
                self._digests[content] = sha256
        missing = [one for one in self._here if one not in sources and one not in state["arrived"]]
        copied = [one for one, (_, is_ours) in sources.items() if not is_ours]
        needed = sum(self._here[one][1] for one in (*missing, *copied))
        check_space(self._host.name, needed, state["free"])
        self._send(missing)
        for content in state["arrived"]:
            self._digest(content)
        fingerprints.still(self._found, self._fingerprint)
        self._say("Checking")
        answer = self._ask("settle", sources=sources, **self._entries())
        for content in answer.get("wrong", ()):
            self._refused.add(content)
            self._digests.pop(content, None)
        return answer.get("at")

    def _look(self) -> dict[str, Any]:
        return self._ask("look", wanted=[[size, one] for one, (_, size) in self._here.items()])

    def _ask(self, do: str, **said: Any) -> dict[str, Any]:
        size = 2 * sum(size for _, size in self._here.values())
        return self._copies.ask(do, self._kind, self._fingerprint.hash, self._name, size=size, **said)

    def _after(self, error: TransportError) -> str:
        state = self._look()
        if state["at"] is None:
            left = sum(size for one, (_, size) in self._here.items() if one not in state["arrived"])
            if any(reason in error.message for reason in _FULL) and not isinstance(error, NoSpaceError):
                raise NoSpaceError(
                    f"{self._host.name} ran out of room: {amount(state['free'])} are free, {amount(left)} are needed.",
                    "Make room there; what has arrived is not sent again.",
                ) from error
            raise error
        return str(state["at"])

    def _beside(self) -> dict[str, str]:
        """Return what lies at the same path there and has the same content: where, by content."""
        if self._at is None or self._host.stat(self._at) is None:
            return {}
        try:
            return self._same_at(self._at)
        except UnreachableError:
            raise
        except (TransportError, InvalidInputError):
            return {}  # what cannot be read is not the same

    def _same_at(self, at: str) -> dict[str, str]:
        there = listing(self._host, at, python=self._copies.python)
        if there is None or there.is_folder != self._found.is_folder:
            return {}
        # A file alone is the same whatever it is called.
        pairs = (
            [(name, name) for name in there.files.keys() & self._found.files.keys()]
            if there.is_folder
            else list(zip(there.files, self._found.files, strict=True))
        )
        prints = self._fingerprint.files
        same_size = {far: near for far, near in pairs if there.files[far].size == prints[near].size}
        is_whole = there.files.keys() == same_size.keys() and len(same_size) == len(prints)
        if self._in_place and not is_whole:
            return {}
        hashed = listing(self._host, at, hashed=same_size.keys(), python=self._copies.python)
        same: dict[str, str] = {}
        for far, near in same_size.items():
            content = prints[near].hash
            if hashed is not None and far in hashed.files and hashed.files[far].sha256 == self._digest(content):
                same[content] = f"{at}/{far}" if there.is_folder else at
        return same

    def _digest(self, content: str) -> str:
        """Return the SHA-256 of a content, from the file here that has it."""
        if content not in self._digests:
            self._digests[content] = LocalHost().sha256(str(self._here[content][0]))
        return self._digests[content]

    def _entries(self) -> dict[str, Any]:
        files = {name: [one.size, one.hash, self._digest(one.hash)] for name, one in self._fingerprint.files.items()}
        return {"is_folder": self._found.is_folder, "files": files}

    def _send(self, contents: Sequence[str]) -> None:
        sizes = {content: self._here[content][1] for content in contents}
        total = sum(size for _, size in self._here.values())
        before = total - sum(sizes.values())
        pool = self._copies.pool(self._kind, self._fingerprint.hash)
        if contents:
            self._host.make_folder(pool)
        move_several(
            sizes,
            lambda content, tell: self._put(content, f"{pool}/{content}", tell),
            lambda content, sent: self._tell(content, before + sent, total),
        )

    def _put(self, content: str, place: str, tell: Callable[[int, int], None]) -> None:
        path, size = self._here[content]
        try:
            self._digests[content] = self._host.put(path, place, progress=tell)
        except UnreachableError:
            raise
        except TransportError:
            arrived = self._host.stat(place)
            if arrived is None or arrived.size != size:
                raise  # else another one that sends the same was faster with it

    def _say(self, what: str) -> None:
        if self._progress is not None:
            total = sum(size for _, size in self._here.values())
            self._progress(f"{what} {self._found.path.name} on {self._host.name}", 0, total)

    def _tell(self, content: str, done: int, total: int) -> None:
        self._patience.moved(done)
        now = (content, done * _TOLD_PARTS // max(1, total))
        if self._progress is not None and now != self._told:
            self._told = now
            self._progress(f"Sending {self._names[content]} to {self._host.name}", done, total)


def _kept(found: list[dict[str, Any]]) -> list[Kept]:
    return [Kept(one["hash"], int(one["size"]), one["kind"], tuple(one["names"])) for one in found]


def everything(path: str | os.PathLike[str]) -> Found:
    """Return the files of a model's or checkpoint's folder: links to files are followed, wherever they lead.

    That is how the hub's cache keeps models. Hidden files are left out, and ``cache-*.arrow``, as in data sets.

    Raises
    ------
    InvalidInputError
        Something in it is neither a file nor a folder, or has a name that cannot be kept.
    TransportError
        It cannot be read.
    """
    chosen = Path(os.path.abspath(Path(path).expanduser()))  # noqa: PTH100  resolve() would follow the user's link
    files: dict[str, Path] = {}
    with translated(f"look at {chosen}"):
        _walk(chosen, "", 0, files)
    if not files:
        raise InvalidInputError(f"path: {chosen} holds no file.")
    return Found(chosen, is_folder=True, files=dict(sorted(files.items())))


def _walk(folder: Path, inside: str, depth: int, files: dict[str, Path]) -> None:
    if depth > _DEEPEST:
        raise InvalidInputError(f"path: {folder} lies more than {_DEEPEST} folders deep.")
    with os.scandir(folder) as entries:
        for entry in entries:
            name = f"{inside}{entry.name}"
            if entry.name.startswith(".") or (entry.name.startswith("cache-") and entry.name.endswith(".arrow")):
                continue
            if not entry.name.isprintable():
                raise InvalidInputError(f"path: {name!r} has a name that is no readable text.", "Rename it.")
            if entry.is_dir(follow_symlinks=False):
                _walk(Path(entry.path), f"{name}/", depth + 1, files)
            elif entry.is_file():
                files[name] = Path(entry.path).resolve()
            else:
                raise InvalidInputError(f"path: {entry.path} is neither a file nor a folder.", "Take it out.")
