"""Whether a folder lies on a network file system, where SQLite's locks and shared memory do not work."""

from __future__ import annotations

import os
import re
from pathlib import Path

_NETWORK = frozenset(
    (
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "coda",
        "fhgfs",
        "gfs2",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs3",
        "nfs4",
        "ocfs2",
        "pvfs2",
        "smb3",
        "smbfs",
        "wekafs",
    )
)
_NETWORK_FUSE = frozenset(
    (
        "ceph",
        "curlftpfs",
        "davfs2",
        "gcsfuse",
        "glusterfs",
        "juicefs",
        "mfs",
        "rclone",
        "s3fs",
        "seaweedfs",
        "smbnetfs",
        "sshfs",
        "wekafs",
    )
)

NETWORK_TYPES = _NETWORK | {f"fuse.{kind}" for kind in _NETWORK_FUSE}
"""What the kernel calls file systems that another machine serves, and whose times are that machine's."""


def network_file_system(folder: Path, mounts: Path = Path("/proc/mounts")) -> str | None:
    """Return the type of the network file system ``folder`` lies on; None if it lies on none.

    Parameters
    ----------
    folder
        Need not exist yet.
    mounts
        The kernel's table of mounts. Where there is none (macOS), the answer is None.
    """
    try:
        table = mounts.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return None
    place = os.path.realpath(folder)
    found, longest = "", -1
    for line in table.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:  # noqa: PLR2004  device, place, type
            continue
        point = re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), parts[1])
        inside = place == point or place.startswith(point.rstrip("/") + "/")
        # A later mount on the same place hides the earlier one.
        if inside and len(point) >= longest:
            found, longest = parts[2], len(point)
    return found if found in NETWORK_TYPES or found.partition(".")[0] in _NETWORK else None
