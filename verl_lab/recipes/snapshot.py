"""The snapshots of verl's configuration that come with verl-lab, and which of them holds here."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

FOLDER = Path(__file__).parent / "snapshots"
_PREFIX = "verl-"


def versions() -> list[str]:
    """Return the versions of verl there is a snapshot of, oldest first."""
    found = [path.name.removeprefix(_PREFIX) for path in FOLDER.glob(f"{_PREFIX}*")]
    return sorted(found, key=lambda version: [int(part) if part.isdigit() else 0 for part in version.split(".")])


def installed_version() -> str | None:
    """Return the version of the verl that is installed here; None without one. verl is not imported."""
    try:
        return metadata.version("verl")
    except metadata.PackageNotFoundError:
        return None


def chosen_version() -> str:
    """Return the version whose snapshot is taken: the installed one, else the newest."""
    known, installed = versions(), installed_version()
    return installed if installed in known else known[-1]


def folder_of(version: str) -> Path:
    """Return the folder of a snapshot."""
    return FOLDER / f"{_PREFIX}{version}"
