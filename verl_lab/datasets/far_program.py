"""What runs on a host that keeps copies: it looks, hashes and puts together. The standard library alone, Python 3.8.

Its argument is a request in JSON, or ``@`` and the path of one; its output is the answer. A copy is described by a
manifest beside all copies of its kind: where it lies, and of each file the size, the hashes, and the stamp (device,
inode, size and times) that it had when they were computed. A file with the same stamp is not read again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import sys
import time
from typing import Any, Dict, List  # noqa: UP035  Python 3.8 runs this

# As near: within two seconds a file can change and look the same.
_SAME_MOMENT_NS = 2 * 10**9
_FICLONE = 0x40049409
_BUFFER = 1 << 20
_DEEPEST = 32
_READ_ONLY = 0o444
_ENTRY = {"size", "blake3", "sha256", "stamp", "checked"}
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EINVAL)

Said = Dict[str, Any]  # noqa: UP006  as above


def look(said: Said) -> Said:
    """Say where a copy lies as it should be; if nowhere, which of the wanted contents are there all the same.

    ``wanted`` is a list of size and BLAKE3; ``network`` says which types of file system are served by others, whose
    times nothing can be told from.
    """
    kind, own = said["kind"], _manifest_path(said)
    trusts = _file_system(kind) not in said["network"]
    manifest = _load(own)
    sound = _sound(manifest, trusts=trusts)
    if manifest and len(sound) == len(manifest["files"]) and _has_only(manifest):
        _write(own, manifest)
        if os.path.lexists(manifest["at"]):  # else it was collected at this moment
            return {"at": manifest["at"]}
    have: Said = {}
    if manifest and manifest["ours"]:
        have = {manifest["files"][name]["blake3"]: _source(manifest, name) for name in sound}
    wanted = {blake3: size for size, blake3 in said.get("wanted") or ()}
    for path in _manifests(kind) if wanted.keys() - have.keys() else ():
        other = _load(path) if path != own else None
        if other is None or not other["ours"]:
            continue
        for name, entry in other["files"].items():
            if entry["blake3"] in wanted and entry["blake3"] not in have:
                source = _source(other, name)
                if _size(source[0]) == entry["size"]:
                    have[entry["blake3"]] = source
    pool = _partial(said)
    arrived = [blake3 for blake3, size in wanted.items() if _size(os.path.join(pool, blake3)) == size]
    return {"at": None, "have": have, "arrived": arrived, "free": _free(kind)}


def settle(said: Said) -> Said:
    """Put a copy together from what arrived and what was there, verify it, and put it in its place.

    ``files`` has size, BLAKE3 and SHA-256 by name; ``sources`` says by BLAKE3 where a content lies, and whether that
    is a copy of ours, which may be linked. Contents that are not what they should be are answered as ``wrong``.
    """
    folder = f"{said['kind']}/{said['hash']}"
    target = f"{folder}/{said['name']}"
    os.makedirs(folder, exist_ok=True)
    with _locked(folder):
        if _is_done(_load(_manifest_path(said)), target):
            return {"at": target}  # someone else was faster
        wrong = _bring(said)
        if wrong:
            return {"wrong": wrong}
        pool = _partial(said)
        made = os.path.join(pool, "copy-" + secrets.token_hex(4))
        for name, (_, blake3, _) in said["files"].items():
            place = os.path.join(made, name) if said["is_folder"] else made
            os.makedirs(os.path.dirname(place), exist_ok=True)
            _link(os.path.join(pool, blake3), place)
        for inside, _, _ in os.walk(made):
            _sync(inside)
        manifest = _manifest(said, target, ours=True, there=made)
        _write(_manifest_path(said), manifest)
        if os.path.isdir(target) and not os.path.islink(target):
            os.rename(target, os.path.join(pool, "old-" + secrets.token_hex(4)))
        elif os.path.lexists(target) and said["is_folder"]:
            os.unlink(target)
        os.rename(made, target)
        _sync(folder)
        shutil.rmtree(pool, ignore_errors=True)
        # Taking away the other names of the files has changed their times.
        _write(_manifest_path(said), _manifest(said, target, ours=True, there=target))
    return {"at": target}


def note(said: Said) -> Said:
    """Remember that a content lies at a path of the user's own, ``at``, and is used there."""
    _write(_manifest_path(said), _manifest(said, said["at"], ours=False, there=said["at"]))
    return {"at": said["at"]}


def files(said: Said) -> Said:
    """Return what a path is, and its files with size and time; those that ``hashed`` names with their SHA-256."""
    path, hashed = said["path"], set(said["hashed"])
    if not os.path.exists(path):
        return {"missing": True}
    is_folder = os.path.isdir(path)
    found: Said = {}
    if is_folder:
        _walk(path, path, 0, found)
    else:
        found[os.path.basename(path)] = path
    listed: Said = {}
    for name, place in sorted(found.items()):
        about, sha256 = _hashed(place) if name in hashed else (os.stat(place), None)
        listed[name] = [about.st_size, about.st_mtime_ns, sha256]
    return {"is_folder": is_folder, "files": listed}


def _is_done(manifest: Said | None, target: str) -> bool:
    """Whether a copy was put in its place, and nothing has touched it since."""
    if manifest is None or manifest["at"] != target or not _has_only(manifest):
        return False
    return all(_same_stamp(manifest, name) for name in manifest["files"])


def _bring(said: Said) -> List[str]:  # noqa: UP006  as above
    """Bring every content into the pool and read it there; return those that are not what they should be."""
    pool = _partial(said)
    os.makedirs(pool, exist_ok=True)
    wrong: List[str] = []  # noqa: UP006  as above
    for size, blake3, sha256 in {entry[1]: entry for entry in said["files"].values()}.values():
        place = os.path.join(pool, blake3)
        try:
            if blake3 in said["sources"]:
                path, is_ours = said["sources"][blake3]
                if os.path.lexists(place):
                    os.unlink(place)
                _link(path, place) if is_ours else _copy(path, place)
            about, digest = _hashed(place)
        except FileNotFoundError:
            wrong.append(blake3)
            continue
        if (about.st_size, digest) != (size, sha256):
            os.unlink(place)
            wrong.append(blake3)
        elif stat.S_IMODE(about.st_mode) != _READ_ONLY:
            os.chmod(place, _READ_ONLY)
    return wrong


def _sound(manifest: Said | None, *, trusts: bool) -> List[str]:  # noqa: UP006  as above
    """Return the files that are what a manifest says; their stamps are brought up to date in it."""
    good: List[str] = []  # noqa: UP006  as above
    if manifest is None:
        return good
    for name, entry in manifest["files"].items():
        path = _place(manifest, name)
        try:
            about = os.stat(path)
            age_ns = entry["checked"] - max(about.st_mtime_ns, about.st_ctime_ns)
            if trusts and _stamp(about) == entry["stamp"] and age_ns > _SAME_MOMENT_NS:
                good.append(name)
                continue
            checked = time.time_ns()
            about, digest = _hashed(path, follows=not manifest["ours"])
        except OSError:
            continue
        if digest == entry["sha256"]:
            entry.update(stamp=_stamp(about), checked=checked)
            good.append(name)
    return good


def _has_only(manifest: Said) -> bool:
    """Whether a folder holds the files of its manifest and no others."""
    if not manifest["is_folder"]:
        return not os.path.isdir(manifest["at"])
    found: Said = {}
    try:
        _walk(manifest["at"], manifest["at"], 0, found)
    except OSError:
        return False
    return found.keys() == manifest["files"].keys()


def _manifest(said: Said, at: str, *, ours: bool, there: str) -> Said:
    """Describe a copy that is to lie ``at``, and lies ``there`` now."""
    entries: Said = {}
    checked = time.time_ns()
    for name, (size, blake3, sha256) in said["files"].items():
        about = os.stat(os.path.join(there, name) if said["is_folder"] else there)
        if about.st_size != size:
            raise OSError(errno.EAGAIN, "was changed meanwhile", at)
        entries[name] = {"size": size, "blake3": blake3, "sha256": sha256, "stamp": _stamp(about), "checked": checked}
    return {"at": at, "ours": ours, "is_folder": said["is_folder"], "files": entries}


def _manifest_path(said: Said) -> str:
    return os.path.join(said["kind"], ".manifests", said["hash"] + "-" + said["name"] + ".json")


def _manifests(kind: str) -> List[str]:  # noqa: UP006  as above
    folder = os.path.join(kind, ".manifests")
    try:
        return [os.path.join(folder, name) for name in sorted(os.listdir(folder)) if name.endswith(".json")]
    except FileNotFoundError:
        return []


def _load(path: str) -> Said | None:
    try:
        with open(path, encoding="utf-8") as file:
            found: Said = json.load(file)
            whole = all(entry.keys() >= _ENTRY for entry in found["files"].values())
            return found if whole and {"at", "ours", "is_folder"} <= found.keys() else None
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):  # there is none, or it is damaged
        return None


def _write(path: str, manifest: Said) -> None:
    os.makedirs(os.path.dirname(path), exist_ok=True)
    beside = path + "." + secrets.token_hex(4)
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(manifest, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(beside, path)


def _partial(said: Said) -> str:
    return os.path.join(said["kind"], said["hash"], ".partial")


def _place(manifest: Said, name: str) -> str:
    return os.path.join(manifest["at"], name) if manifest["is_folder"] else manifest["at"]


def _source(manifest: Said, name: str) -> List[str]:  # noqa: UP006  as above
    return [_place(manifest, name), manifest["files"][name]["sha256"]]


def _same_stamp(manifest: Said, name: str) -> bool:
    try:
        return _stamp(os.stat(_place(manifest, name))) == manifest["files"][name]["stamp"]
    except OSError:
        return False


def _walk(folder: str, root: str, depth: int, found: Said) -> None:
    """Find the plain files below a folder; links to files are followed, hidden files are none of it."""
    if depth > _DEEPEST:
        raise OSError(errno.ELOOP, "has too many folders inside one another", root)
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(".") or (entry.name.startswith("cache-") and entry.name.endswith(".arrow")):
                continue
            if entry.is_dir(follow_symlinks=False):
                _walk(entry.path, root, depth + 1, found)
            elif entry.is_file():
                found[os.path.relpath(entry.path, root)] = entry.path
            else:
                raise OSError(errno.EINVAL, "is no plain file", entry.path)


def _hashed(path: str, *, follows: bool = True) -> Any:
    """Return status and SHA-256 of a plain file that nobody writes to meanwhile."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | (0 if follows else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            raise OSError(errno.EINVAL, "is no plain file", path)
        digest = hashlib.sha256()
        while True:
            piece = os.read(descriptor, _BUFFER)
            if not piece:
                break
            digest.update(piece)
        after = os.fstat(descriptor)
        # Not the change time: a link that is made to it or taken away changes that too.
        if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns):
            raise OSError(errno.EAGAIN, "was written to while it was read", path)
        return before, digest.hexdigest()
    finally:
        os.close(descriptor)


def _link(source: str, place: str) -> None:
    try:
        os.link(source, place)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise
        _copy(source, place)  # a file system without hard links, or with too many of this one


def _copy(source: str, place: str) -> None:
    """Copy a file, sharing its blocks where the file system can."""
    with open(source, "rb") as given, open(place, "xb") as made:
        try:
            fcntl.ioctl(made.fileno(), _FICLONE, given.fileno())
        except OSError:
            shutil.copyfileobj(given, made, _BUFFER)
        made.flush()
        os.fsync(made.fileno())
    os.chmod(place, _READ_ONLY)


@contextlib.contextmanager
def _locked(folder: str) -> Any:
    """Let one at a time put a copy together; where there are no locks, the last one to rename wins, with the same."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
        yield
    finally:
        os.close(descriptor)


def _sync(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _size(path: str) -> int:
    try:
        about = os.lstat(path)
    except OSError:
        return -1
    return about.st_size if stat.S_ISREG(about.st_mode) else -1


def _stamp(about: os.stat_result) -> str:
    return ":".join(map(str, (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, about.st_ctime_ns)))


def _free(path: str) -> int:
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def _file_system(path: str) -> str:
    """Return the type of the file system that a path lies on; empty where the kernel does not say."""
    try:
        with open("/proc/mounts", encoding="utf-8", errors="surrogateescape") as file:
            lines = file.read().splitlines()
    except OSError:
        return ""
    place, kind, longest = os.path.realpath(path), "", -1
    for line in lines:
        parts = line.split(" ")
        if len(parts) < 3:  # noqa: PLR2004  device, place, type
            continue
        point = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found.group(1), 8)), parts[1])
        # Compared by its parts; a later mount on the same place hides the earlier one.
        if os.path.commonpath([place, point]) == point and len(point) >= longest:
            kind, longest = parts[2], len(point)
    return kind


_DO = {"look": look, "settle": settle, "note": note, "files": files}


def main(text: str) -> Said:
    """Answer one request; what the operating system refuses is part of the answer."""
    if text.startswith("@"):
        with open(text[1:], encoding="utf-8") as file:
            request = file.read()
        os.unlink(text[1:])
        text = request
    said = json.loads(text)
    try:
        return _DO[said["do"]](said)
    except OSError as error:
        about = str(error.filename) + ": " if error.filename else ""
        return {"error": about + str(error.strerror or error), "errno": error.errno}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1])))
