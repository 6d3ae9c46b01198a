"""Packages for a host that reaches no package index: collected here, for its Python and its platform."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.tags import mac_platforms

from verl_lab.errors import EnvironmentMismatchError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

_HASH = re.compile(r"--hash=sha256:([0-9a-f]{64})")
# PEP 600: a wheel for an older glibc fits every later one, and pip takes only the tags that it is told.
_OLDEST_GLIBC = 5
_LEGACY = {5: "manylinux1", 12: "manylinux2010", 17: "manylinux2014"}
_LAST_LINES = 5
_PIECE_BYTES = 2**20


@dataclass(frozen=True)
class Target:
    """The Python that the packages are for.

    Attributes
    ----------
    markers
        What a requirement's marker may ask for, by name.
    libc
        Name and version of the C library, such as ``("glibc", "2.36")``; empty where there is none to name.
    macos
        The version of macOS, else empty.
    """

    markers: Mapping[str, str]
    libc: tuple[str, str]
    macos: str = ""

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Target:
        """Take what the probe said of an interpreter."""
        name, version = said["base"]["libc"]
        return cls(said["markers"], (name, version), said["base"]["macos"])

    @property
    def platforms(self) -> list[str]:
        """The platform tags of the wheels that run there, the newest first."""
        machine = self.markers["platform_machine"]
        if self.macos:
            major, minor = (*map(int, self.macos.split(".")), 0)[:2]
            return list(mac_platforms((major, minor), machine))
        name, version = self.libc
        major, minor = (int(part) for part in version.split(".")[:2])
        if name != "glibc":
            return [f"musllinux_{major}_{number}_{machine}" for number in range(minor, -1, -1)]
        named: list[str] = []
        for number in range(minor, _OLDEST_GLIBC - 1, -1):
            named.append(f"manylinux_2_{number}_{machine}")
            if number in _LEGACY:
                named.append(f"{_LEGACY[number]}_{machine}")
        return [*named, f"linux_{machine}"]

    @property
    def pip_options(self) -> list[str]:
        """What tells pip to look for this Python's wheels instead of its own."""
        # All three numbers: there are packages for 3.11.5 and later. Debian's pre-releases have a + behind them.
        version = self.markers["python_full_version"].rstrip("+")
        options = ["--python-version", version, "--implementation", "cp"]
        return [*options, *(word for platform in self.platforms for word in ("--platform", platform))]

    @property
    def key(self) -> str:
        """A name for the folder of what fits."""
        python = self.markers["python_version"].replace(".", "")
        system = "macos" if self.macos else self.libc[0]
        return f"cp{python}-{system}-{self.macos or self.libc[1]}-{self.markers['platform_machine']}"


@dataclass(frozen=True)
class Pin:
    """One line of a lock: a requirement without its marker, and the hashes of the files that satisfy it."""

    requirement: str
    hashes: frozenset[str]

    @property
    def text(self) -> str:
        """The line, as pip reads it."""
        return " ".join([self.requirement, *(f"--hash=sha256:{one}" for one in sorted(self.hashes))])


def pins_of(lock: str, markers: Mapping[str, str]) -> list[Pin]:
    """Return what of a lock's text is installed where ``markers`` hold.

    pip itself would ask the markers of the Python that it runs on.
    """
    found: list[Pin] = []
    for block in re.split(r"\n(?=\S)", lock):
        if not block[:1].isalnum():
            continue
        one = Requirement(block.split("\n")[0].split(" --hash=")[0].removesuffix("\\").strip())
        if one.marker is None or one.marker.evaluate(dict(markers)):
            extras = f"[{','.join(sorted(one.extras))}]" if one.extras else ""
            found.append(Pin(f"{one.name}{extras}{one.specifier}", frozenset(_HASH.findall(block))))
    return found


def collect(
    pinned: Path, role: str, torch: str | None, target: Target, cache: Path, say: Callable[[str], None]
) -> list[Path]:
    """Fetch the packages of a role as this machine's pip is configured to, and return their files.

    What was fetched before and still has the right hash is not fetched again.

    Parameters
    ----------
    torch
        The version of torch's CPU build, which no lock can hold; None where the lock has torch or there is none.
    cache
        The folder to keep them in.

    Raises
    ------
    EnvironmentMismatchError
        pip did not find them all; its last lines say why.
    """
    folder = cache / target.key
    folder.mkdir(parents=True, exist_ok=True)
    wanted = [pin for name in ("build", role) for pin in pins_of((pinned / f"{name}.txt").read_text(), target.markers)]
    missing = [pin for pin in wanted if not pin.hashes & set(_hashed(folder))]
    if missing:
        say(f"fetching {len(missing)} packages here, which {target.key} needs")
        with tempfile.NamedTemporaryFile("w", suffix=".txt", dir=folder) as lock:
            lock.write("\n".join(pin.text for pin in missing) + "\n")
            lock.flush()
            options = ["--no-deps", "--no-build-isolation", "--require-hashes", "--requirement", lock.name]
            _pip(["download", *options, "--dest", str(folder), *target.pip_options], say)
    by_hash = _hashed(folder)
    files = [folder / by_hash[next(iter(pin.hashes & set(by_hash)))] for pin in wanted]
    if torch is not None:
        files.append(_torch(pinned, torch, target, folder / "torch", say))
    return sorted(set(files))


def _torch(pinned: Path, version: str, target: Target, folder: Path, say: Callable[[str], None]) -> Path:
    """Fetch the CPU build of torch; only such are ever put into ``folder``."""
    folder.mkdir(exist_ok=True)
    pattern = f"torch-{version}[-+]*.whl"
    if not list(folder.glob(pattern)):
        say(f"fetching the CPU build of torch {version} here")
        script = [sys.executable, str(pinned / "install_torch.py"), version, "--download", str(folder)]
        system = target.markers["platform_system"]
        # pip looks at more than wheels otherwise, and refuses that for another platform.
        _run([*script, "--system", system, "--only-binary=:all:", *target.pip_options], say)
    return next(folder.glob(pattern))


def _hashed(folder: Path) -> dict[str, str]:
    """Return the names of the files in a folder by hash; what has not changed is not read again."""
    index = folder / "hashes.json"
    try:
        known: dict[str, list[Any]] = json.loads(index.read_text())
    except (OSError, ValueError):
        known = {}
    found: dict[str, list[Any]] = {}
    for path in _packages(folder):
        status = path.stat()
        was = known.get(path.name)
        is_same = was is not None and was[:2] == [status.st_size, status.st_mtime_ns]
        found[path.name] = was if was is not None and is_same else [status.st_size, status.st_mtime_ns, sha256(path)]
    if found != known:
        part = index.with_suffix(".part")
        part.write_text(json.dumps(found))
        part.replace(index)
    return {entry[2]: name for name, entry in found.items()}


def _packages(folder: Path) -> Iterator[Path]:
    return (path for path in folder.iterdir() if path.name.endswith((".whl", ".tar.gz", ".zip")))


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def _pip(words: list[str], say: Callable[[str], None]) -> None:
    _run([sys.executable, "-m", "pip", *words, "--disable-pip-version-check", "--no-input", "--progress-bar=off"], say)


def _run(command: list[str], say: Callable[[str], None]) -> None:
    """Run a command, its output told line by line."""
    lines: list[str] = []
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        assert process.stdout is not None  # noqa: S101  it was asked for
        for line in process.stdout:
            lines.append(line.rstrip())
            say(lines[-1])
    if process.returncode:
        last = "\n".join(f"    {line}" for line in lines[-_LAST_LINES:])
        raise EnvironmentMismatchError(
            f"The packages for the host could not be fetched here (exit code {process.returncode}):\n{last}",
            "This machine needs a package index, as its pip is configured, and pip itself.",
        )
