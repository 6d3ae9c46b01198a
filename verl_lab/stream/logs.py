"""Which logs lie at a path: a run folder, a file that verl or TensorBoard writes, or a folder of these."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from verl_lab.domain.wire import RunLayout
from verl_lab.errors import FormatError, InvalidInputError, NotFoundError
from verl_lab.stream.formats import tensorboard
from verl_lab.stream.formats.detect import recognise

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verl_lab.transport.base import Host

EXPECTED = (
    "Expected a run folder of verl-lab, the log of verl's file logger "
    '(lines of {"step": …, "data": {…}}), verl\'s console log (lines of \'step:N - key:value - …\'), '
    "TensorBoard's event files, or a folder of these."
)

_FIRST_BYTES = 2**20
_MOST_BYTES = 2**26
_HEAD_BYTES = 4096
_DEEPEST = 6
_MOST_ENTRIES = 5000


class Log(NamedTuple):
    """One log: ``format`` is ``run`` for a run folder, ``tensorboard`` also for a folder of event files."""

    path: str
    format: str


def find_logs(host: Host, path: str) -> list[Log]:
    """Return the logs at a path: one, or where it is a folder of several, all of them, by path.

    Raises
    ------
    NotFoundError
        If nothing lies there.
    FormatError
        If there is no log.
    InvalidInputError
        If it is a folder of too many things to look through.
    """
    found = host.stat(path)
    if found is None:
        raise NotFoundError(f"path: there is nothing at {path}.", EXPECTED)
    if not found.is_dir:
        return [Log(path, _detect_file(host, path))]
    logs = sorted(_Search(host).below(path, 0))
    if not logs:
        raise FormatError(f"The folder {path} is no run folder and holds no log of verl's.", EXPECTED)
    return logs


def is_event_file(host: Host, path: str) -> bool | None:
    """Say whether this is one of TensorBoard's event files; None while it is too short to tell."""
    head = host.read(path, 0, _HEAD_BYTES)
    if tensorboard.begins(head):
        return True
    return None if len(head) < tensorboard.LONGEST_BEGINNING_BYTES else False


class _Search:
    """Looks through a folder, not without end."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._entries = 0

    def below(self, folder: str, depth: int) -> Iterator[Log]:
        names = [name for name in self._host.list_folder(folder) if not name.startswith(".")]
        layout = RunLayout(PurePosixPath(folder))
        if layout.record.name in names or layout.attempts.name in names:
            yield Log(folder, "run")
            return
        self._entries += len(names)
        if self._entries > _MOST_ENTRIES:
            raise InvalidInputError(f"path: {folder} and what is beside it hold too much to look through.", EXPECTED)
        has_event_files = False
        for name in names:
            path = str(PurePosixPath(folder) / name)
            stat = self._host.stat(path)
            if stat is None:  # a link to nowhere, or gone by now
                continue
            if stat.is_dir:
                if depth < _DEEPEST:
                    yield from self.below(path, depth + 1)
                continue
            kind = self._recognised(path)
            has_event_files |= kind == "tensorboard"
            if kind not in (None, "tensorboard"):
                yield Log(path, kind)
        if has_event_files:
            yield Log(folder, "tensorboard")

    def _recognised(self, path: str) -> str | None:
        head = self._host.read(path, 0, _HEAD_BYTES)
        kind = recognise(head)
        if kind is None and len(head) == _HEAD_BYTES and b"\0" not in head:
            kind = recognise(self._host.read(path, 0, _FIRST_BYTES))
        return kind


def _detect_file(host: Host, path: str) -> str:
    limit = _FIRST_BYTES
    while True:
        content = host.read(path, 0, limit)
        name = recognise(content)
        if name is not None:
            return name
        if len(content) < limit or limit >= _MOST_BYTES or b"\0" in content:
            break
        limit *= 8
    said = "is empty" if not content else "is none of verl's logs"
    raise FormatError(f"The file {path} {said}.", EXPECTED)
