"""Which of some files a folder lacks; what lies there and is not among them, or is not what it should be, goes."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
import time
from pathlib import Path

PIECE_BYTES = 2**20
# The beginning of a file that is still being sent.
PART_AGE_S = 24 * 3600


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for piece in iter(lambda: file.read(PIECE_BYTES), b""):
            digest.update(piece)
    return digest.hexdigest()


def main() -> None:
    """Answer with the names that are missing, and the room that there is."""
    folder, wanted = Path(sys.argv[1]), json.loads(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    there: set[str] = set()
    for path in list(folder.iterdir()):
        is_part = path.name.startswith(".") and time.time() - path.stat().st_mtime < PART_AGE_S
        if path.name in wanted and sha256(path) == wanted[path.name]:
            there.add(path.name)
        elif not is_part:
            path.unlink()
    found = {"missing": sorted(set(wanted) - there), "free_bytes": shutil.disk_usage(folder).free}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
