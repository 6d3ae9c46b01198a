"""Unpacks an archive into a folder that is there as a whole or not at all, and removes the archive."""

from __future__ import annotations

import os
import shutil
import sys
import zipfile
from pathlib import Path


def main() -> None:
    """Unpack the first argument to the second."""
    archive, folder = map(Path, sys.argv[1:3])
    part = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    try:
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(part)
        part.rename(folder)
    except OSError:
        if not folder.is_dir():  # another client was faster: what is there is the same
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
    archive.unlink()


if __name__ == "__main__":
    main()
