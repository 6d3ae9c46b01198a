"""What a host must be able to do; everything above this line is the same code near and far."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    Progress = Callable[[int, int], None]
    """Called with the bytes that are there, and the bytes in all."""


@dataclass(frozen=True)
class FileStat:
    """Size in bytes, modification time in nanoseconds, and kind of one path."""

    size: int
    mtime_ns: int
    is_dir: bool = False


@dataclass(frozen=True)
class Finished:
    """A command that ran to its end."""

    exit_code: int
    stdout: bytes
    stderr: bytes


class Watcher(Protocol):
    """Waits for a change below some folders."""

    def watch(self, folders: Sequence[str]) -> None:
        """Replace the watched folders; one that does not exist yet is waited for."""
        ...

    def wait(self, timeout_s: float) -> set[str]:
        """Return the paths that changed, at the latest after ``timeout_s``, possibly none."""
        ...

    @property
    def is_broken(self) -> bool:
        """Whether what was known of the host went with the connection to it."""
        ...

    def names_ahead(self, folders: Sequence[str]) -> dict[str, list[str]] | None:
        """Fetch at once what ``list_folder`` is about to be asked by the thread that waits, and return it.

        What cannot be listed is left out. None where asking costs nothing, so that there is nothing to do ahead.
        """
        ...

    def read_ahead(self, files: Mapping[str, int]) -> set[str]:
        """Fetch at once what ``stat`` and ``read`` are about to be asked: files, with where reading begins.

        Returns those that are there as a whole. Not all of much comes at once, and what is too large never does.
        """
        ...

    def wake(self) -> None:
        """End the present ``wait`` at once; callable from any thread."""
        ...

    def close(self) -> None:
        """Give back what the operating system lent."""
        ...


class Host(Protocol):
    """One machine. Paths are absolute and in the host's own notation.

    Every method raises ``TransportError`` when the host or its file system does not answer as it
    should; a path that does not exist is ``None`` from ``stat`` and an error elsewhere.
    """

    @property
    def name(self) -> str:
        """``local``, or the name the user gave the host."""
        ...

    def run(self, argv: Sequence[str], *, timeout_s: float, env: Mapping[str, str] | None = None) -> Finished:
        """Run a command to its end, without a shell; ``env`` is added to the host's own."""
        ...

    def start_detached(self, argv: Sequence[str], *, cwd: str, log: str) -> int:
        """Start a command that outlives this process and connection; return its pid.

        It gets a session of its own, no standard input, and appends its output to ``log``.
        """
        ...

    def stat(self, path: str) -> FileStat | None:
        """Describe a path, following links; None if there is none."""
        ...

    def list_folder(self, path: str) -> list[str]:
        """Return the sorted names in a folder; empty if it does not exist."""
        ...

    def read(self, path: str, offset: int = 0, limit: int | None = None) -> bytes:
        """Return up to ``limit`` bytes from ``offset``."""
        ...

    def write_atomic(self, path: str, content: bytes) -> None:
        """Write a file so that a reader sees the old or the new content, never a part."""
        ...

    def write_new(self, path: str, content: bytes) -> bool:
        """Write a file with its whole content only if none exists; False if one does."""
        ...

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it; one that exists is fine."""
        ...

    def put(self, local: Path, remote: str, *, progress: Progress | None = None) -> str:
        """Bring a file of this machine there; return its SHA-256.

        It is in place only when complete and as it was here. Nothing above it is made.
        """
        ...

    def get(self, remote: str, local: Path, *, progress: Progress | None = None) -> str:
        """Bring a file from there to this machine; otherwise as ``put``."""
        ...

    def sha256(self, path: str, *, timeout_s: float = 3600) -> str:
        """Return the SHA-256 of a whole file, in hex, computed there."""
        ...

    def watcher(self) -> Watcher:
        """Return a new watcher of this host's folders."""
        ...

    def close(self) -> None:
        """End what is held for this host, such as a connection."""
        ...
