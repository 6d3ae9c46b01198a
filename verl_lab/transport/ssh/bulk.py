"""Large files, as a stream, checked by SHA-256, gone on with after a break, and in place only when complete."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import stat
from collections import deque
from typing import TYPE_CHECKING, Any

from verl_lab.errors import TransportError
from verl_lab.transport.ssh.agent.files import AT_ONCE_BYTES, PIECE_BYTES, Arriving, at_once, hash_part, read_unchanged
from verl_lab.transport.ssh.errors import UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab.transport.ssh.channel import AgentChannel, Reply

    Progress = Callable[[int, int], None]

_ON_THEIR_WAY = 8
_transfers = itertools.count(1)


def put(agent: AgentChannel, local: Path, remote: str, progress: Progress | None, timeout_s: float) -> str:
    """Send a file; return its SHA-256. What an earlier attempt brought there is not sent again.

    Raises
    ------
    TransportError
        It could not be read or written, or changed meanwhile. After a broken connection, call again.
    """
    transfer = next(_transfers)
    with open(local, "rb", buffering=0, opener=at_once) as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise TransportError(f"{local} is no plain file.")
        token = _token(str(local.absolute()), status.st_size, status.st_mtime_ns)
        if status.st_size <= AT_ONCE_BYTES:
            return _put_at_once(agent, local, remote, file, token, progress, timeout_s)
        begun, _ = agent.ask("begin", transfer=transfer, path=remote, token=token, timeout_s=timeout_s)
        try:
            return _put(agent, local, file, status, begun, transfer, progress, timeout_s)
        except UnreachableError:
            raise
        except BaseException:
            with contextlib.suppress(TransportError):
                agent.ask("leave", transfer=transfer)
            raise


def _put_at_once(
    agent: AgentChannel,
    local: Path,
    remote: str,
    file: Any,
    token: str,
    progress: Progress | None,
    timeout_s: float,
) -> str:
    """Send a small file in one round trip: of many, those make up most of the time."""
    found = read_unchanged(file)
    if found is None:
        raise TransportError(f"{local} changed while it was sent.", "Send it again.")
    content, mode = found
    if progress is not None:
        progress(0, len(content))
    digest = hashlib.sha256(content).hexdigest()
    agent.ask("whole", content, path=remote, token=token, sha256=digest, mode=mode, timeout_s=max(timeout_s, 600.0))
    if progress is not None:
        progress(len(content), len(content))
    return digest


def _put(
    agent: AgentChannel,
    local: Path,
    file: Any,
    status: os.stat_result,
    begun: dict[str, Any],
    transfer: int,
    progress: Progress | None,
    timeout_s: float,
) -> str:
    digest = hashlib.sha256()
    done = begun["size"]
    hash_part(file, digest, done)
    is_restart = done > 0 and (file.tell() != done or digest.hexdigest() != begun["sha256"])
    if is_restart:
        digest, done = hashlib.sha256(), 0
        file.seek(0)
    if progress is not None:
        progress(done, status.st_size)
    sent: deque[tuple[Reply, int]] = deque()
    offset = done
    while True:
        piece = file.read(PIECE_BYTES)
        if piece or is_restart:
            sent.append((agent.begin("piece", piece, transfer=transfer, offset=offset, restart=is_restart), len(piece)))
            digest.update(piece)
            offset += len(piece)
            is_restart = False
        while sent and (len(sent) >= _ON_THEIR_WAY or not piece):
            reply, size = sent.popleft()
            reply.next(timeout_s)
            done += size
            if progress is not None:
                progress(done, status.st_size)
        if not piece:
            break
    said: dict[str, Any] = {"size": offset, "sha256": digest.hexdigest(), "mode": stat.S_IMODE(status.st_mode)}
    now = os.fstat(file.fileno())
    if (now.st_size, now.st_mtime_ns) != (status.st_size, status.st_mtime_ns):
        # What arrived is the beginning of nothing any more.
        agent.begin("piece", transfer=transfer, offset=0, restart=True).next(timeout_s)
        raise TransportError(f"{local} changed while it was sent.", "Send it again.")
    agent.ask("finish", transfer=transfer, timeout_s=max(timeout_s, 600.0), **said)
    return digest.hexdigest()


def get(agent: AgentChannel, remote: str, local: Path, progress: Progress | None) -> str:
    """Fetch a file; return its SHA-256. What an earlier attempt brought is not fetched again.

    Raises
    ------
    TransportError
        It could not be read or written, or changed meanwhile. After a broken connection, call again.
    """
    found, content = agent.ask("peek", path=remote)
    if found["stat"] is None:
        raise TransportError(f"There is no {remote}.")
    size, mtime_ns, _ = found["stat"]
    arriving = Arriving(str(local.absolute()), _token(remote, size, mtime_ns))
    try:
        if found["is_whole"]:  # a small file came at once
            arriving.be(content, hashlib.sha256(content).hexdigest(), found["mode"])
            if progress is not None:
                progress(size, size)
            return arriving.sha256
        if arriving.size > size:
            arriving.restart()
        if progress is not None:
            progress(arriving.size, size)
        reply = agent.begin("send", path=remote, offset=arriving.size)
        while True:
            head, piece = reply.next(agent.patience_s)
            if not head.get("more"):
                break
            arriving.take(arriving.size, piece)
            agent.tell("credit", id=reply.number)
            if progress is not None:
                progress(arriving.size, size)
        if head["sha256"] != arriving.sha256:
            arriving.part.unlink()
            raise TransportError(f"{remote} changed while it was fetched.", "Fetch it again.")
        arriving.finish(head["size"], head["sha256"], head["mode"])
        return str(head["sha256"])
    finally:
        arriving.close()


def _token(path: str, size: int, mtime_ns: int) -> str:
    """Return what tells one state of one file from all others, so that only its own beginning is gone on with."""
    return hashlib.sha256(f"{path}\0{size}\0{mtime_ns}".encode("utf-8", "surrogateescape")).hexdigest()[:16]
