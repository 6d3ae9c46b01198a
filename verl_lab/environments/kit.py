"""What a host needs to make an environment of its own: scripts, locks, and verl-lab itself as a wheel."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from verl_lab.environments import pins
from verl_lab.errors import EnvironmentMismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping

DISTRIBUTION = "verl-lab"
# What the build puts into the wheel from beside the package; a checkout has it there still. As in pyproject.toml.
FROM_BESIDE = {"verl_lab/recipes/builtin": "recipes", "verl_lab/environments/pinned": "environments"}
# All that a training process imports of verl-lab; a change elsewhere makes no host's environment another one.
TRAINS = ("__init__.py", "errors.py", "inputs.py", "diagnostics/", "domain/", "verl_plugin/")
SCRIPTS = ("install.py", "install_torch.py", "verify_env.py", "version.json")
RUNNER = Path(__file__).parent / "far" / "runner.py"
_WHEEL = "Wheel-Version: 1.0\nGenerator: verl-lab\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_LONG_AGO = (1980, 1, 1, 0, 0, 0)  # the same content is the same file, whenever it is packed


@dataclass(frozen=True)
class Kit:
    """The kit of one role.

    Attributes
    ----------
    role
        What it installs.
    pinned
        The folder of scripts and locks.
    package
        Another wheel to install than verl-lab as it is here.
    """

    role: str
    pinned: Path
    package: Path | None = None

    @classmethod
    def of(cls, role: str, pinned: Path | None = None, package: Path | None = None) -> Kit:
        """Return the kit of this release, or one of other parts."""
        return cls(role, pinned or pins.folder(), package)

    @cached_property
    def versions(self) -> dict[str, Any]:
        """What ``version.json`` holds."""
        return json.loads((self.pinned / "version.json").read_text())

    @cached_property
    def packages(self) -> str:
        """A hash of what decides which packages are installed."""
        return _hash({name: (self.pinned / name).read_bytes() for name in self.locks})

    @cached_property
    def code(self) -> str:
        """A hash of what training imports of verl-lab itself as it is here."""
        trains = tuple(f"verl_lab/{part}" for part in TRAINS)
        is_all = self.package is not None
        return _hash({name: content for name, content in self._content.items() if is_all or name.startswith(trains)})

    @cached_property
    def name(self) -> str:
        """A hash of all of it, under which it lies on the host."""
        scripts = {name: (self.pinned / name).read_bytes() for name in (*SCRIPTS, *self.locks)}
        return _hash({**scripts, "runner.py": RUNNER.read_bytes(), "package": _hash(self._content).encode()})[:16]

    @cached_property
    def _content(self) -> dict[str, bytes]:
        return {self.package.name: self.package.read_bytes()} if self.package else _sources()

    @property
    def locks(self) -> tuple[str, ...]:
        """The names of the locks that are installed from, and of what they are completed by."""
        return ("build.txt", f"{self.role}.txt", "install_torch.py")

    @property
    def record(self) -> dict[str, Any]:
        """What is written down on the host when all is installed, and compared before a launch."""
        return {"role": self.role, "versions": self.versions, "packages": self.packages, "code": self.code}

    def write(self, target: Path) -> None:
        """Write the kit as one archive."""
        name, wheel = (self.package.name, self.package.read_bytes()) if self.package else _wheel(self._content)
        files = {f"environments/{one}": (self.pinned / one).read_bytes() for one in {*SCRIPTS, *self.locks}}
        target.write_bytes(_packed({**files, "runner.py": RUNNER.read_bytes(), name: wheel}))

    def differences(self, record: Mapping[str, Any]) -> list[str]:
        """Name what is installed by a record of a host, and is not what would be installed now."""
        there, here = _named(record.get("versions", {}), self.role), _named(self.versions, self.role)
        said = [f"{name} {there.get(name)} there, {here[name]} here" for name in here if there.get(name) != here[name]]
        if record.get("packages") != self.packages and not said:
            said.append(f"other packages there than {self.role}.txt names here")
        if record.get("code") != self.code and not said:
            said.append("verl-lab's own code there is not the same as here")
        return said


def own_wheel() -> tuple[str, bytes]:
    """Pack verl-lab as it is here into a wheel, from a checkout or from what is installed; return name and content.

    Raises
    ------
    EnvironmentMismatchError
        It is not installed here, so that nothing says what it requires.
    """
    return _wheel(_sources())


def _wheel(sources: Mapping[str, bytes]) -> tuple[str, bytes]:
    version = _installed().version
    record = f"verl_lab-{version}.dist-info/RECORD"
    lines = [f"{name},sha256={_digest(content)},{len(content)}" for name, content in sources.items()]
    listed = "\n".join([*lines, f"{record},,", ""]).encode()
    return f"verl_lab-{version}-py3-none-any.whl", _packed({**sources, record: listed})


def _sources() -> dict[str, bytes]:
    """Return all files of the wheel but its list of them, by path, in order."""
    package = Path(__file__).parents[1]
    found = {f"verl_lab/{name}": path for name, path in _files(package)}
    for inside, beside in FROM_BESIDE.items():
        if not (package.parent / inside).exists():
            found.update({f"{inside}/{name}": path for name, path in _files(package.parent / beside)})
    distribution = _installed()
    info = f"verl_lab-{distribution.version}.dist-info"
    told = {name: (distribution.read_text(name) or "").encode() for name in ("METADATA", "entry_points.txt")}
    content = {name: path.read_bytes() for name, path in found.items()}
    content |= {f"{info}/{name}": text for name, text in {**told, "WHEEL": _WHEEL.encode()}.items()}
    return dict(sorted(content.items()))


def _installed() -> metadata.Distribution:
    try:
        return metadata.distribution(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        raise EnvironmentMismatchError(
            "verl-lab is not installed here, so it cannot be installed elsewhere from here.",
            "Install it, e.g. by environments/setup_local_env.sh manager.",
        ) from None


def _files(folder: Path) -> list[tuple[str, Path]]:
    """Return what the folder holds, by relative path, without what Python compiled and what JupyterLab alone shows."""
    left_out = {"__pycache__", "_labextension"}
    found = (path for path in folder.rglob("*") if left_out.isdisjoint(path.parts) and path.is_file())
    return [(path.relative_to(folder).as_posix(), path) for path in found]


def _packed(files: Mapping[str, bytes]) -> bytes:
    """Return a zip archive that depends on nothing but its content."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, _LONG_AGO)
            entry.compress_type = zipfile.ZIP_STORED if name.endswith(".whl") else zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if name.endswith(".sh") else 0o644) << 16
            archive.writestr(entry, content)
    return packed.getvalue()


def _hash(files: Mapping[str, bytes]) -> str:
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _named(versions: Mapping[str, Any], role: str) -> dict[str, Any]:
    """Return what of ``version.json`` matters to a role, as a person calls it."""
    found = {"verl-lab": versions.get("verl_lab"), "the run folder's format": versions.get("plugin_format")}
    if role in versions.get("torch", {}):
        found |= {"verl": versions.get("verl", {}).get("version"), "torch": versions["torch"][role]}
    return found
