"""Checkpoints and models brought from a run's host to this machine."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from verl_lab.datasets.asking import check_space, listing
from verl_lab.datasets.folder import translated
from verl_lab.domain.host import LOCAL
from verl_lab.errors import InvalidInputError, NotFoundError, TransportError, UnreachableError
from verl_lab.inputs import below
from verl_lab.lab import files
from verl_lab.lab.comparing.origins import checkpoint_of
from verl_lab.lab.launching.again import steps_of
from verl_lab.transport.local import LocalHost
from verl_lab.transport.patience import Patience
from verl_lab.transport.several import move_several

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from verl_lab.datasets.asking import FarFound
    from verl_lab.datasets.fingerprint import Progress
    from verl_lab.lab.run import Run
    from verl_lab.transport.base import Host

_PATIENCE_S = 60.0
_TOLD_PARTS = 200


def fetch_checkpoint(
    run: Run,
    step: int | None = None,
    to: str | os.PathLike[str] | None = None,
    *,
    home: Path,
    python: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Return the folder on this machine of a run's checkpoint, fetching what is not here yet.

    Parameters
    ----------
    step
        Of one that training can go on from; None is the newest.
    to
        The folder to make, or made before; by default one of the lab's, and for a run of this machine its own.
    home
        The lab's.

    Raises
    ------
    NotFoundError
        There is no such checkpoint; those that there are are named.
    InvalidInputError
        ``to`` holds something else.
    NoSpaceError
        There is no room for it here.
    TransportError
        As ``pull``.
    """
    have = steps_of(run.host, run)
    wanted = step if step is not None else max(have, default=None)
    if wanted is None or wanted not in have:
        hint = (
            f"There are those of steps {', '.join(map(str, have))}." if have else "It has none: set trainer.save_freq."
        )
        which = "no checkpoint" if wanted is None else f"no whole checkpoint of step {wanted}"
        raise NotFoundError(f"{run.id} has {which}.", hint)
    folder = str(run.layout.checkpoints / f"global_step_{wanted}")
    return _fetched(run, folder, to, home / "fetched" / run.id / f"global_step_{wanted}", python, progress)


def fetch_model(
    run: Run,
    step: int | None = None,
    to: str | os.PathLike[str] | None = None,
    *,
    home: Path,
    python: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Return the folder on this machine of a checkpoint's model in Hugging Face form.

    Parameters and errors otherwise as ``fetch_checkpoint``.

    Raises
    ------
    NotFoundError
        There is no such checkpoint, or it holds no weights in this form.
    """
    folder = files.model_path(run.host, run.layout, step)
    checkpoint = checkpoint_of(folder)
    name = "model" if checkpoint is None else f"model_step_{checkpoint[2]}"
    return _fetched(run, folder, to, home / "fetched" / run.id / name, python, progress)


def pull(
    host: Host,
    remote_folder: str,
    local_folder: str | os.PathLike[str],
    *,
    python: str | None = None,
    patience_s: float = _PATIENCE_S,
    progress: Progress | None = None,
) -> Path:
    """Make a folder of this machine hold what one of a host's holds; return it.

    Only what differs is fetched, and what an earlier call brought is gone on with. It is complete or not there: it is
    made beside its place, each file is read again and compared, and renamed at the end.

    Parameters
    ----------
    python
        An interpreter there, 3.8 or newer; by default ``python3``.
    patience_s
        For how long to try again after a connection broke, from the last byte that moved.

    Raises
    ------
    NotFoundError
        There is no such folder there.
    InvalidInputError
        The folder here holds something else; or a name there cannot be that of a file here.
    NoSpaceError
        There is no room for it here; nothing was fetched.
    TransportError
        It could not be read or written, or changed meanwhile.
    """
    target = Path(local_folder).expanduser().resolve()
    with translated(f"write to {target.parent}"):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target) as work:
            fetch = _Fetch(host, remote_folder, target, work, python, Patience(patience_s), progress)
            while True:
                try:
                    fetch.attempt()
                    break
                except UnreachableError as error:
                    fetch.patience.wait(error)
            shutil.rmtree(work)
    return target


class _Fetch:
    """One folder on its way here, into ``work`` first."""

    def __init__(
        self,
        host: Host,
        folder: str,
        target: Path,
        work: Path,
        python: str | None,
        patience: Patience,
        progress: Progress | None,
    ) -> None:
        self._host = host
        self._folder = folder.rstrip("/")
        self._target = target
        self._copy = work / "copy"
        self._old = work / "old"
        self._python = python
        self.patience = patience
        self._progress = progress
        self._told = ("", -1)
        self._here: dict[str, str] = {}  # the SHA-256 of what is known to be here, by name

    def attempt(self) -> None:
        """Fetch what is missing, and put all in place."""
        there = self._look()
        self.patience.moved(0)
        self._refuse_other(there)
        if self._reuse(there):
            return
        total, done = there.size, sum(there.files[name].size for name in self._here)
        check_space(str(self._target.parent), total - done, shutil.disk_usage(self._copy).free)
        missing = {name: one.size for name, one in there.files.items() if name not in self._here}
        move_several(missing, self._get, lambda name, arrived: self._tell(name, done + arrived, total))
        now = self._look()
        if {name: (one.size, one.mtime_ns) for name, one in now.files.items()} != {
            name: (one.size, one.mtime_ns) for name, one in there.files.items()
        }:
            self._here.clear()
            raise TransportError(
                f"{self._folder} on {self._host.name} changed while it was fetched.", "Fetch it again."
            )
        self._clear(there)
        self._put()

    def _look(self) -> FarFound:
        found = listing(self._host, self._folder, python=self._python)
        if found is None:
            raise NotFoundError(f"There is no {self._folder} on {self._host.name}.")
        if not found.is_folder:
            raise InvalidInputError(f"{self._folder} on {self._host.name} is no folder.")
        return found

    def _refuse_other(self, there: FarFound) -> None:
        """Let nothing of the user's go that is no part of what is fetched."""
        if not self._target.exists():
            return
        if not self._target.is_dir():
            raise InvalidInputError(f"to: {self._target} is no folder.", "Give one that is not there yet.")
        for place, _, names in os.walk(self._target):
            for name in names:
                inside = (Path(place) / name).relative_to(self._target).as_posix()
                if inside not in there.files:
                    raise InvalidInputError(
                        f"to: {self._target} holds {inside!r}, which is no part of what is fetched.",
                        "Give a folder that is not there yet.",
                    )

    def _reuse(self, there: FarFound) -> bool:
        """Take what is here already; whether that is all, and in its place."""
        unknown = [name for name in there.files if name not in self._here]
        places = {name: [self._copy / name, self._target / name] for name in unknown}
        maybe = {name: [place for place in places[name] if _size(place) == there.files[name].size] for name in unknown}
        asked = [name for name, some in maybe.items() if some]
        hashed = listing(self._host, self._folder, hashed=asked, python=self._python) if asked else there
        in_place = 0
        self._copy.mkdir(exist_ok=True)
        for name in asked:
            far = hashed.files.get(name) if hashed is not None else None
            for place in maybe[name]:
                if far is None or LocalHost().sha256(str(place)) != far.sha256:
                    continue
                if place != self._copy / name:
                    in_place += 1
                    self._take(place, name)
                self._here[name] = str(far.sha256)
                break
        return bool(there.files) and in_place == len(there.files)

    def _take(self, place: Path, name: str) -> None:
        target = self._place(name)
        target.unlink(missing_ok=True)
        try:
            os.link(place, target)
        except OSError:
            shutil.copy2(place, target)

    def _get(self, name: str, tell: Callable[[int, int], None]) -> None:
        place = self._place(name)
        digest = self._host.get(f"{self._folder}/{name}", place, progress=tell)
        if LocalHost().sha256(str(place)) != digest:
            raise TransportError(f"{self._target.parent} does not keep what is written to it.", "Look after its disk.")
        place.chmod(0o644)
        self._here[name] = digest

    def _place(self, name: str) -> Path:
        """Return where a file is to lie, in a folder of ours; its name was given by the host."""
        place = below("name", self._copy / name, [self._copy])
        place.parent.mkdir(parents=True, exist_ok=True)
        return place

    def _clear(self, there: FarFound) -> None:
        """Take away what earlier attempts brought and is no part of it any more."""
        for place, _, names in os.walk(self._copy):
            for name in names:
                path = Path(place) / name
                if path.relative_to(self._copy).as_posix() not in there.files:
                    path.unlink()

    def _put(self) -> None:
        shutil.rmtree(self._old, ignore_errors=True)
        if self._target.exists():
            self._target.rename(self._old)
        self._copy.rename(self._target)
        descriptor = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def _tell(self, name: str, done: int, total: int) -> None:
        self.patience.moved(done)
        now = (name, done * _TOLD_PARTS // max(1, total))
        if self._progress is not None and now != self._told:
            self._told = now
            self._progress(f"Fetching {name} from {self._host.name}", done, total)


def _fetched(
    run: Run,
    folder: str,
    to: str | os.PathLike[str] | None,
    usual: Path,
    python: str | None,
    progress: Progress | None,
) -> Path:
    if to is None and run.host.name == LOCAL:
        return Path(folder)
    return pull(run.host, folder, usual if to is None else to, python=python, progress=progress)


@contextlib.contextmanager
def _alone(target: Path) -> Generator[Path]:
    """Give the folder beside ``target`` in which it is made, to one at a time."""
    work = target.with_name(f".{target.name[:100]}.partial")
    while True:
        work.mkdir(mode=0o700, exist_ok=True)
        descriptor = os.open(work, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if work.exists() and os.path.samestat(os.fstat(descriptor), work.lstat()):
                try:
                    yield work
                finally:
                    with contextlib.suppress(OSError):  # what has arrived stays, to be gone on with
                        (work / "copy").rmdir()
                    with contextlib.suppress(OSError):
                        work.rmdir()
                return
        finally:
            os.close(descriptor)


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() and not path.is_symlink() else -1
