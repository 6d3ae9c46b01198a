"""A release of one package, with the real setup scripts, that is installed in seconds."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from verl_lab.environments.kit import Kit
from verl_lab.environments.remote import HostEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.transport.base import Host

SCRIPTS = Path(__file__).parents[2] / "environments"
# pip itself is borrowed, which is ten times faster than installing it.
QUICK_VENV = """
import pathlib, subprocess, sys
subprocess.run([sys.executable, "-m", "venv", "--without-pip", sys.argv[1]], check=True)
(site,) = pathlib.Path(sys.argv[1]).glob("lib/python*/site-packages")
(site / "borrowed.pth").write_text({borrowed!r} + chr(10))
"""
VERIFY = """
import json, pathlib, time
import tinything, verl_lab
print(json.dumps({"checks": []}))
"""


class TinyRelease:
    """What is installed: a package called ``tinything``, and an empty ``verl_lab``."""

    def __init__(self, folder: Path, wheels: Path, make_wheel: Callable[..., str], version: str = "0.1.0") -> None:
        self.pinned = folder / f"pinned-{version}"
        self.wheels = wheels
        thing = version.removeprefix("0.")
        self.pinned.mkdir(parents=True)
        for name in ("install.py", "install_torch.py"):
            shutil.copy(SCRIPTS / name, self.pinned)
        digest = make_wheel(self.wheels, "tinything", thing)
        make_wheel(folder / "package", "verl_lab", version)
        self.package = folder / "package" / f"verl_lab-{version}-py3-none-any.whl"
        versions = json.loads((SCRIPTS / "version.json").read_text())
        self.write_versions({**versions, "verl_lab": version, "torch": {}})
        (self.pinned / "build.txt").write_text("# nothing\n")
        (self.pinned / "cpu.txt").write_text(f"tinything=={thing} \\\n    --hash=sha256:{digest}\n")
        (self.pinned / "verify_env.py").write_text(VERIFY)

    def write_versions(self, versions: dict[str, object]) -> None:
        """Write ``version.json``."""
        (self.pinned / "version.json").write_text(json.dumps(versions))

    def make_quick(self, folder: Path) -> None:
        """Let environments be made without installing pip into them."""
        borrowed = folder / "borrowed"
        borrowed.mkdir()
        (borrowed / "pip").symlink_to(Path(sysconfig.get_path("purelib")) / "pip")
        (self.pinned / "quick_venv.py").write_text(QUICK_VENV.format(borrowed=str(borrowed)))
        script = self.pinned / "install.py"
        usual, quick = (
            '[sys.executable, "-m", "venv", env.venv]',
            f'[sys.executable, "{self.pinned}/quick_venv.py", env.venv]',
        )
        assert script.read_text().count(usual) == 1
        script.write_text(script.read_text().replace(usual, quick))

    def pretend_set_up(self, root: Path) -> None:
        """Make on this machine what a finished set-up leaves."""
        venv, notes = root / "environments" / "cpu", root / "environments" / ".setups"
        notes.mkdir(parents=True)
        subprocess.run([sys.executable, self.pinned / "quick_venv.py", venv], check=True)
        (site,) = venv.glob("lib/python*/site-packages")
        for wheel in (*self.wheels.glob("tinything-*.whl"), self.package):
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
        (venv / ".verl-lab").mkdir()
        (venv / ".verl-lab" / "made").touch()
        record = {**Kit.of("cpu", self.pinned, self.package).record, "given": None, "kit": "0", "made_with": "python3"}
        (notes / "cpu.ready.json").write_text(json.dumps(record))

    def on(self, host: Host, root: Path, cache: Path | None = None, python: str | None = None) -> HostEnvironment:
        """Return a host's environments of this release."""
        cache = cache or self.pinned.parent / "cache"
        return HostEnvironment(host, str(root), python=python, pinned=self.pinned, package=self.package, cache=cache)
