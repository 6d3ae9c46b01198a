"""What should be installed: ``version.json`` and the locks, as the repository or the wheel has them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from verl_lab.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import Mapping

ROLES = ("base", "manager", "cpu", "test", "training")


@dataclass(frozen=True)
class Versions:
    """``version.json``: what this release of verl-lab was made for.

    Attributes
    ----------
    verl_lab, verl
        Versions.
    verl_source, verl_sha256
        File name and hash of verl's wheel.
    torch
        Version by role; a role without torch is not there.
    python
        Range of Python versions, as a specifier.
    plugin_format
        Version of the run folder's record format.
    """

    verl_lab: str
    verl: str
    verl_source: str
    verl_sha256: str
    torch: Mapping[str, str]
    python: str
    plugin_format: int

    @classmethod
    def load(cls, pinned: Path | None = None) -> Versions:
        """Read the file; from another folder than this release's where one is given."""
        raw: dict[str, Any] = json.loads(((pinned or folder()) / "version.json").read_text())
        return cls(
            verl_lab=raw["verl_lab"],
            verl=raw["verl"]["version"],
            verl_source=raw["verl"]["source"],
            verl_sha256=raw["verl"]["sha256"],
            torch=raw["torch"],
            python=raw["python"],
            plugin_format=raw["plugin_format"],
        )


def folder() -> Path:
    """Return the folder of the locks: inside the installed package, else in the repository."""
    inside = Path(__file__).parent / "pinned"
    return inside if inside.exists() else Path(__file__).parents[2] / "environments"


def requirements(role: str, pinned: Path | None = None) -> list[Requirement]:
    """Return the pins of a role's lock, those for other platforms and Pythons included.

    Parameters
    ----------
    pinned
        The folder of the locks; None for this release's.

    Raises
    ------
    NotFoundError
        There is no such role.
    """
    if role not in ROLES:
        raise NotFoundError.of("role", role, ROLES, f"The roles are {', '.join(ROLES)}.")
    lines = ((pinned or folder()) / f"{role}.txt").read_text().splitlines()
    return [Requirement(line.removesuffix("\\").strip()) for line in lines if line[:1].isalnum()]


def pins(role: str, markers: Mapping[str, str], pinned: Path | None = None) -> dict[str, str]:
    """Return version by canonical name of what a role installs where ``markers`` hold."""
    wanted = (one for one in requirements(role, pinned) if one.marker is None or one.marker.evaluate(dict(markers)))
    return {canonicalize_name(one.name): next(iter(one.specifier)).version for one in wanted}
