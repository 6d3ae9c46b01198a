"""Asks the program that runs on a host (``far_program``), and checks what comes back."""

from __future__ import annotations

import errno
import json
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from verl_lab.datasets import far_program
from verl_lab.domain.host import LOCAL
from verl_lab.errors import InvalidInputError, NoSpaceError, TransportError
from verl_lab.inputs import path_inside, shown

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from types import ModuleType

    from verl_lab.transport.base import Host

_SPARE_BYTES = 64 * 2**20
_PATIENCE_S = 120.0
_SLOWEST_BYTES_A_S = 20e6  # what a host reads and hashes at least
_LONGEST_ARGUMENT = 60_000  # Linux takes 128 KiB
_AT_ONCE_BYTES = 4 * 2**30


@dataclass(frozen=True)
class FarFile:
    """One file on a host; ``sha256`` is None where it was not asked for."""

    size: int
    mtime_ns: int
    sha256: str | None = None


@dataclass(frozen=True)
class FarFound:
    """What lies at a path on a host: a folder's files by their paths below it, or a file by its name."""

    is_folder: bool
    files: dict[str, FarFile]

    @property
    def size(self) -> int:
        """All bytes."""
        return sum(file.size for file in self.files.values())


def ask(
    host: Host,
    do: str,
    *,
    size: int = 0,
    python: str | None = None,
    aside: str | None = None,
    program: ModuleType = far_program,
    **said: Any,
) -> dict[str, Any]:
    """Have something done on a host.

    Parameters
    ----------
    size
        How many bytes are read there at most: a large one may take its time.
    python
        The interpreter there.
    aside
        A folder there for a request that is too long for a command; None where none is.
    program
        What does it.

    Raises
    ------
    TransportError
        It could not be done; ``NoSpaceError`` where there is no room for it.
    """
    request = json.dumps({"do": do, **said})
    if len(request) > _LONGEST_ARGUMENT and aside is not None:
        path = f"{aside}/{_token(request)}.json"
        host.make_folder(aside)
        host.write_atomic(path, request.encode())
        request = f"@{path}"
    interpreter = python or (sys.executable if host.name == LOCAL else "python3")
    argv = [interpreter, "-I", "-S", "-X", "utf8", "-c", _text(program), request]
    done = host.run(argv, timeout_s=_PATIENCE_S + size / _SLOWEST_BYTES_A_S)
    try:
        answer = cast("dict[str, Any]", json.loads(done.stdout))
        failed = answer.get("error")
    except (ValueError, AttributeError) as error:
        told = done.stderr.decode(errors="replace").strip().rpartition("\n")[2][-300:] or "it answered nothing"
        raise TransportError(f"{host.name}: its files could not be looked after: {told}.") from error
    if failed is not None:
        kind = NoSpaceError if answer.get("errno") in (errno.ENOSPC, errno.EDQUOT) else TransportError
        raise kind(f"{host.name}: {failed}.")
    return answer


def listing(
    host: Host, path: str, *, hashed: Collection[str] = (), all_hashed: bool = False, python: str | None = None
) -> FarFound | None:
    """Return the files at a path on a host; None if there is nothing.

    Hidden files, and what ``datasets`` keeps for itself (``cache-*.arrow``), are left out. A link to a file counts
    as the file.

    Parameters
    ----------
    hashed
        Names of files whose SHA-256 is wanted.
    all_hashed
        Whether those of all are.

    Raises
    ------
    TransportError
        It cannot be read, or was written to meanwhile.
    InvalidInputError
        A name that the host gave cannot be one below the folder.
    """
    found = _listed(host, path, (), 0, python)
    if found is None:
        return None
    wanted = found.files.keys() if all_hashed else set(hashed) & found.files.keys()
    files = dict(found.files)
    for names in _batches(wanted, found.files):
        size = sum(found.files[name].size for name in names)
        more = _listed(host, path, names, size, python)
        files |= {name: more.files[name] for name in names if more is not None and name in more.files}
    return FarFound(found.is_folder, files)


def check_space(where: str, needed: int, free: int, hint: str | None = None) -> None:
    """Refuse what does not fit.

    Raises
    ------
    NoSpaceError
        With what is needed, and what is free.
    """
    if needed and needed + _SPARE_BYTES > free:
        raise NoSpaceError(
            f"{where} has {amount(free)} free; {amount(needed + _SPARE_BYTES)} are needed.",
            hint or "Make room there, or choose another place.",
        )


def amount(size: int) -> str:
    """Write a number of bytes for people."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e8 else f"{size / 1e6:,.1f} MB"  # noqa: PLR2004  a tenth of a GB


def _listed(host: Host, path: str, hashed: Iterable[str], size: int, python: str | None) -> FarFound | None:
    answer = ask(host, "files", path=path, hashed=list(hashed), size=size, python=python)
    if answer.get("missing"):
        return None
    try:
        given = cast("Mapping[str, tuple[int, int, str | None]]", answer["files"])
        files = {
            str(name): FarFile(int(size), int(mtime_ns), sha256) for name, (size, mtime_ns, sha256) in given.items()
        }
        is_folder = bool(answer["is_folder"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TransportError(f"{host.name}: what it says of {path} cannot be understood.") from error
    return FarFound(is_folder, {_name(host, name): file for name, file in files.items()})


def _name(host: Host, name: str) -> str:
    """Return a name that a host gave, if it can be nothing else than that of a file below a folder."""
    try:
        return path_inside("name", name)
    except InvalidInputError:
        what = f"{host.name}: {shown(name)} is no name that a file here may have."
        raise InvalidInputError(what, "Rename it there.") from None


def _batches(names: Iterable[str], files: Mapping[str, FarFile]) -> Iterator[list[str]]:
    """Give the names in parts, so that no request is too long and none takes too long."""
    batch: list[str] = []
    size = letters = 0
    for name in sorted(names):
        batch.append(name)
        size += files[name].size
        letters += len(json.dumps(name)) + 2
        if size > _AT_ONCE_BYTES or letters > _LONGEST_ARGUMENT // 2:
            yield batch
            batch, size, letters = [], 0, 0
    if batch:
        yield batch


def _token(text: str) -> str:
    import hashlib
    import secrets

    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]}-{secrets.token_hex(4)}"


@cache
def _text(program: ModuleType) -> str:
    return Path(str(program.__file__)).read_text("utf-8")
