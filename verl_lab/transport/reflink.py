"""Copies that share their blocks with the original, where the file system can."""

from __future__ import annotations

import errno
import fcntl

_FICLONE = 0x40049409  # linux/fs.h: share the blocks of another file until either is written to


def cloned(source: int, copy: int) -> bool:
    """Let one open file have another's blocks; False where there can be none, on two file systems or an older one.

    Raises
    ------
    OSError
        The disk is full, or broken.
    """
    try:
        fcntl.ioctl(copy, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.EIO, errno.ENOSPC, errno.EDQUOT):
            raise
        return False
    return True
