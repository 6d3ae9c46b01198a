"""The build hook: puts the built labextension into wheels and source distributions, not into editable installs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class LabextensionHook(BuildHookInterface[Any]):
    """Builds the labextension before it is packed; an editable install links it instead (``make labextension``)."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build it, and say where JupyterLab looks for it."""
        if version == "editable":
            return
        built = Path(self.root) / "verl_lab" / "_labextension"
        subprocess.run([sys.executable, Path(self.root) / "labextension" / "build.py"], check=True)
        if self.target_name == "wheel":
            build_data["shared_data"][str(built)] = "share/jupyter/labextensions/verl-lab"
