"""Where verl-lab keeps things, from arguments and the environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Settings:
    """Paths and addresses of one ``Lab``.

    Attributes
    ----------
    home
        The folder everything of verl-lab's lives in (``VERL_LAB_HOME``).
    runs_root
        Where new runs get their folders (``VERL_LAB_RUNS``).
    database_url
        SQLAlchemy URL of the index of runs (``VERL_LAB_DATABASE``).
    """

    home: Path
    runs_root: Path
    database_url: str

    @classmethod
    def resolve(cls, home: str | os.PathLike[str] | None = None) -> Settings:
        """Take ``home``, else ``VERL_LAB_HOME``, else the user's data folder."""
        chosen = home or os.environ.get("VERL_LAB_HOME") or platformdirs.user_data_dir("verl-lab")
        root = Path(chosen).expanduser().resolve()
        # A given home is a lab of its own: the environment then has no say in where its parts lie.
        environment: Mapping[str, str] = {} if home else os.environ
        return cls(
            home=root,
            runs_root=Path(environment.get("VERL_LAB_RUNS", root / "runs")).expanduser().resolve(),
            database_url=environment.get("VERL_LAB_DATABASE", f"sqlite:///{root / 'verl-lab.db'}"),
        )

    @property
    def recipes_folder(self) -> Path:
        """The user's own recipes."""
        return self.home / "recipes"

    @property
    def datasets_folder(self) -> Path:
        """The copies of data that runs train on."""
        return self.home / "datasets"
