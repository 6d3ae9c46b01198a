"""What runs on a host to find the copies that no run needs, and to remove them. The standard library alone, Python 3.8.

Its argument is a request in JSON, its output the answer. A copy is needed while a run's record names its hash, and
may be while it is young: a launch on its way has sent it, or has looked for it, and has written no record yet. Only
what ``far_program`` has put together is taken for a copy, and what it has begun to.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sys
import time
from typing import Any, Dict, List, Set  # noqa: UP035  Python 3.8 runs this

_HASH = re.compile("[0-9a-f]{64}")
_PARTIAL = ".partial"
_ASIDE = ".collected-"

Said = Dict[str, Any]  # noqa: UP006  as above
Texts = List[str]  # noqa: UP006  as above


def collect(said: Said) -> Said:
    """Return the copies below ``root`` that nothing needs, and those that are too young to say; remove the former.

    ``do`` is ``list`` to remove nothing.
    """
    needed = _named(said["runs"])
    kinds: Texts = said["kinds"]
    found: Said = {"free": [], "recent": []}
    for kind in kinds:
        folder = os.path.join(said["root"], kind)
        if said["do"] == "remove":
            for name in _entries(folder):
                if name.startswith(_ASIDE):  # left by one that was interrupted
                    shutil.rmtree(os.path.join(folder, name))
        for name in _entries(folder):
            if not _HASH.fullmatch(name) or name in needed or not _is_ours(folder, name):
                continue
            copy: Said = {"kind": kind, "hash": name, "names": _names(folder, name)}
            copy["size"] = _size(os.path.join(folder, name))
            if _newest(folder, name) > time.time() - said["young_s"]:
                found["recent"].append(copy)
            elif said["do"] == "list" or _remove(folder, name, said["young_s"]):
                found["free"].append(copy)
    return found


def _named(runs: str) -> Set[str]:  # noqa: UP006  as above
    """Return every hash that a run's record names: also of one that is damaged, and that nothing else can read."""
    found: Set[str] = set()  # noqa: UP006  as above
    for run in _entries(runs):
        try:
            with open(os.path.join(runs, run, "run.json"), "rb") as file:
                found.update(_HASH.findall(file.read().decode("ascii", "replace")))
        except (FileNotFoundError, NotADirectoryError):
            continue
    return found


def _is_ours(folder: str, name: str) -> bool:
    """Whether all that lies under a hash was put there for runs of other machines."""
    known = _manifests(folder, name)
    return all(name + "-" + one + ".json" in known for one in _names(folder, name))


def _remove(folder: str, name: str, young_s: float) -> bool:
    """Remove one copy; whoever looks for it at this moment keeps it, or does not find it."""
    place = os.path.join(folder, name)
    aside = os.path.join(folder, _ASIDE + name[:16] + secrets.token_hex(4))
    os.rename(place, aside)
    # A look that found it has noted that before, and one from here on finds nothing there.
    is_young = _newest(folder, name) > time.time() - young_s
    if is_young and not os.path.lexists(place):
        os.rename(aside, place)
        return False
    for one in () if is_young else _manifests(folder, name):
        path = os.path.join(folder, ".manifests", one)
        if _lies_in(path, place):
            os.unlink(path)
    shutil.rmtree(aside)
    return True


def _lies_in(manifest: str, place: str) -> bool:
    """Whether a manifest describes what lay at a place, and not a path of the user's own."""
    try:
        with open(manifest, encoding="utf-8") as file:
            return os.path.dirname(json.load(file)["at"]) == place
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _newest(folder: str, name: str) -> float:
    """Return when something was last sent to a copy, or when it was last looked for."""
    place = os.path.join(folder, name)
    paths = [os.path.join(folder, ".manifests", one) for one in _manifests(folder, name)]
    paths += [place, *(os.path.join(place, _PARTIAL, one) for one in ("", *_entries(os.path.join(place, _PARTIAL))))]
    return max([0.0, *(os.lstat(path).st_mtime for path in paths if os.path.lexists(path))])


def _names(folder: str, name: str) -> Texts:
    return [one for one in _entries(os.path.join(folder, name)) if one != _PARTIAL]


def _manifests(folder: str, name: str) -> Texts:
    return [one for one in _entries(os.path.join(folder, ".manifests")) if one.startswith(name + "-")]


def _entries(folder: str) -> Texts:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def _size(folder: str) -> int:
    """Return the bytes below a folder, hard links counted once."""
    found: Dict[int, int] = {}  # noqa: UP006  as above
    for place, _, names in os.walk(folder):
        for name in names:
            about = os.lstat(os.path.join(place, name))
            found[about.st_ino] = about.st_size
    return sum(found.values())


def main(text: str) -> Said:
    """Answer one request; what the operating system refuses is part of the answer."""
    try:
        return collect(json.loads(text))
    except OSError as error:
        about = str(error.filename) + ": " if error.filename else ""
        return {"error": about + str(error.strerror or error), "errno": error.errno}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])))
