"""What the host has told about followed files, for the thread that waits for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from verl_lab.transport.base import FileStat

if TYPE_CHECKING:
    from verl_lab.transport.ssh.agent.frames import Frame

_KEPT_BYTES = 2**16
_PROBE_BYTES = 1024


@dataclass
class _Mirrored:
    """One path: how it was described, and its bytes from ``start`` on.

    ``is_whole`` says that they reach to the end the file had. ``number`` is that of the agent's newest word.
    """

    number: int = 0
    stat: FileStat | None = None
    is_stat_known: bool = False
    names: list[str] | None = None
    head: bytes = b""
    start: int = 0
    content: bytes = b""
    is_whole: bool = False
    given: set[str] = field(default_factory=set[str])

    @property
    def end(self) -> int:
        return self.start + len(self.content)

    def give_once(self, what: str) -> bool:
        """Say whether this was not asked before since the last wait: who asks twice wants a new look."""
        is_first = what not in self.given
        self.given.add(what)
        return is_first


class Mirror:
    """Answers from what came with the news, as of the last wait, and each only once.

    So reading what is new costs no round trip. Whoever asks a second time before the next wait does it
    because of what it found, and gets an answer from the host.
    """

    def __init__(self) -> None:
        self._paths: dict[str, _Mirrored] = {}

    def begin_round(self) -> None:
        """Let each answer be given once more."""
        for one in list(self._paths.values()):  # other threads may forget some meanwhile
            one.given.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._paths.clear()

    def forget(self, path: str) -> None:
        """Know nothing of a path any more: someone looked at it, or changed it, past this mirror."""
        self._paths.pop(path, None)

    def apply(self, frame: Frame) -> set[str]:
        """Take in what the agent told; return the paths that changed."""
        head, body = frame
        number = head["number"]
        for folder, names in head["lists"].items():
            one = self._known(folder, number)
            if one is not None:
                one.names = names
        place = 0
        for (path, stat, what, begin), size in zip(head["files"], head["sizes"], strict=True):
            content = body[place : place + size]
            place += size
            one = self._known(path, number)
            if one is not None:
                _take(one, stat, what, begin, content)
        return set(head["changed"])

    def take_ahead(self, frame: Frame) -> None:
        """Take in what was fetched before anybody asked for it."""
        head, body = frame
        number = head["number"]
        for folder, names in head["lists"].items():
            self.saw_names(folder, number, names, is_given=False)
        place = 0
        for path, stat, begin, *sizes in head["files"]:
            one = self._renewed(path, number)
            one.stat, one.is_stat_known = described(stat), True
            one.given.clear()
            if begin >= 0:
                middle, end = place + sizes[0], place + sum(sizes)
                one.head, one.start, one.content, one.is_whole = body[place:middle], begin, body[middle:end], True
                place = end

    def holds_names(self, folder: str) -> bool:
        """Say whether a folder's names would be answered from here."""
        return self.names_held(folder) is not None

    def names_held(self, folder: str) -> list[str] | None:
        """Return a folder's names without giving the answer away."""
        one = self._paths.get(folder)
        return None if one is None else one.names

    def holds(self, path: str, begin: int) -> bool:
        """Say whether a path's description, and its bytes from ``begin`` on, would be answered from here."""
        one = self._paths.get(path)
        if one is None or not one.is_stat_known:
            return False
        if one.stat is None or one.stat.is_dir:
            return True
        has_head = not begin or len(one.head) >= min(begin, _PROBE_BYTES)
        return one.is_whole and one.start <= begin <= one.end and has_head

    def stat(self, path: str) -> tuple[FileStat | None] | None:
        """Return the description in a tuple; None if the host has to be asked."""
        one = self._paths.get(path)
        return (one.stat,) if one is not None and one.is_stat_known and one.give_once("stat") else None

    def names(self, path: str) -> list[str] | None:
        """Return the names in a folder; None if the host has to be asked."""
        one = self._paths.get(path)
        return None if one is None or one.names is None or not one.give_once("names") else list(one.names)

    def read(self, path: str, offset: int, limit: int | None) -> tuple[bytes, int] | None:
        """Return bytes, and the end of what is held if these reach to it (else -1); None to ask the host."""
        one = self._paths.get(path)
        if one is None or not one.is_whole or not one.give_once(f"{offset} {limit}"):
            return None
        if limit is not None and offset + limit <= len(one.head):
            return one.head[offset : offset + limit], -1
        if not one.start <= offset <= one.end:
            return None
        stop = None if limit is None else offset - one.start + limit
        content = one.content[offset - one.start : stop]
        is_end = offset + len(content) == one.end
        if is_end and offset:
            one.start, one.content = offset, content  # nobody asks for what lies before
        return content, one.end if is_end else -1

    def saw_stat(self, path: str, number: int, stat: FileStat | None) -> None:
        """Keep the host's answer."""
        one = self._renewed(path, number)
        one.stat, one.is_stat_known = stat, True
        one.given.add("stat")

    def saw_names(self, path: str, number: int, names: list[str], *, is_given: bool = True) -> None:
        """Keep the host's answer; ``is_given`` if whoever asked has it."""
        one = self._renewed(path, number)
        one.names = names
        if is_given:
            one.given.add("names")
        else:
            one.given.discard("names")

    def saw(self, path: str, number: int, offset: int, content: bytes, *, is_whole: bool) -> None:
        """Keep the bytes the host answered with; ``is_whole`` if the file ends behind them."""
        one = self._renewed(path, number)
        if offset == 0:
            one.head = content[:_PROBE_BYTES]
        if not is_whole and offset + len(content) <= one.end:
            return  # a look at the beginning; what is held goes on
        one.is_whole = is_whole
        kept = max(0, len(content) - _KEPT_BYTES)
        one.start, one.content = offset + kept, content[kept:]

    def _renewed(self, path: str, number: int) -> _Mirrored:
        one = self._paths.setdefault(path, _Mirrored())
        one.number = max(one.number, number)
        return one

    def _known(self, path: str, number: int) -> _Mirrored | None:
        one = self._paths.get(path)
        if one is None or number < one.number:
            return None
        one.number = number
        return one


def _take(one: _Mirrored, stat: list[Any] | None, what: str, begin: int, content: bytes) -> None:
    if one.is_stat_known:
        one.stat = described(stat)
    if what == "anew":
        one.head, one.start, one.content, one.is_whole = content[:_PROBE_BYTES], 0, content, True
    elif what == "more" and one.is_whole and begin == one.end:
        one.content += content
        if begin < _PROBE_BYTES:
            one.head = (one.head[:begin] + content)[:_PROBE_BYTES]
    elif what != "same":
        one.is_whole = False


def described(stat: list[Any] | None) -> FileStat | None:
    """Return what travelled of a ``stat``."""
    return None if stat is None else FileStat(stat[0], stat[1], is_dir=stat[2])
