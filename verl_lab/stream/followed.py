"""What a reader is asked to follow."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING, Literal

from verl_lab.domain.run import slug

if TYPE_CHECKING:
    from verl_lab.transport.base import Host


@dataclass(frozen=True)
class FollowedRun:
    """A run, and where it writes.

    Attributes
    ----------
    run_id
        The run's id in the index, where it must be before it is followed.
    host
        Where the files lie.
    path
        The run's folder, or the log of an attached run; absolute.
    kind
        ``run`` for a run folder of ours, ``attached`` for a log that something else writes.
    """

    run_id: str
    host: Host
    path: str
    kind: Literal["run", "attached"] | str = "run"  # noqa: PYI051  the two it takes; rows hold it as text


def attached_run_id(path: str) -> str:
    """Return the run id of a log that something else writes; the same path gives the same id.

    Parameters
    ----------
    path
        Absolute.
    """
    digest = hashlib.blake2b(path.encode("utf-8", "surrogateescape"), digest_size=4).hexdigest()
    return f"attached-{slug(PurePath(path).stem)}-{digest}"
