"""Install the torch build for a machine without a GPU, as a step of its own.

``python install_torch.py VERSION`` with the interpreter of the environment it is for. torch's CPU
and CUDA builds share a version but not their files, so no hash-checked lock can hold both. Taken
is, in this order: what is installed; PyTorch's CPU index; what ``torch==VERSION`` resolves to with
pip's own configuration. A build that needs CUDA's packages is refused before it is downloaded.

``--download FOLDER --system SYSTEM`` only fetches the wheel, for a machine that is described by
pip's own options (``--platform`` and so on), which follow.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from importlib import metadata
from urllib.parse import unquote

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
PIP = [sys.executable, "-m", "pip"]
QUIETLY = ["--no-deps", "--disable-pip-version-check", "--no-input"]
# Where the index cannot be reached, a minute is enough to know.
FROM_INDEX = ["--index-url", CPU_INDEX, "--retries", "2", "--timeout", "15"]
SOURCES: dict[str, list[str]] = {"PyTorch's CPU index": FROM_INDEX, "pip's own configuration": []}


def needs_cuda(requires: list[str], system: str = platform.system()) -> bool:
    """Tell a CUDA build from a CPU build by what its wheel requires (on Linux, where both exist)."""
    return system == "Linux" and any(line.startswith(("nvidia-", "cuda-")) for line in requires)


def resolve(requirement: str, options: list[str]) -> tuple[str, list[str]] | str:
    """Ask pip what it would install.

    Returns
    -------
    tuple of str and list of str, or str
        The wheel's address and what the wheel requires; or, where pip finds none, its last word.
    """
    command = [
        *PIP,
        "install",
        *QUIETLY,
        "--quiet",
        "--dry-run",
        "--ignore-installed",
        "--report",
        "-",
        *options,
        requirement,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        return (done.stderr.strip() or "pip gave no reason").splitlines()[-1]
    found = json.loads(done.stdout)["install"][0]
    return found["download_info"]["url"], found["metadata"].get("requires_dist", [])


def has_cpu_build(version: str) -> bool:
    """Whether the CPU build of ``version`` is installed. Importing it must wait for what it requires."""
    try:
        found = metadata.distribution("torch")
    except metadata.PackageNotFoundError:
        return False
    return found.version.split("+")[0] == version and not needs_cuda(found.requires or [])


def main(words: list[str] | None = None) -> int:
    """Install or fetch the CPU build of one version of torch, and say where it came from."""
    parser = argparse.ArgumentParser(prog="install_torch.py", description="Install the CPU build of torch.")
    parser.add_argument("version")
    parser.add_argument("--download", metavar="FOLDER", help="fetch the wheel into this folder, install nothing")
    parser.add_argument("--system", default=platform.system(), help="what it is for (default: %(default)s)")
    args, target = parser.parse_known_args(words)
    version: str = args.version
    if args.download is None and has_cpu_build(version):
        print(f"torch {metadata.version('torch')} is installed already")
        return 0
    later = [] if sys.dont_write_bytecode else ["--no-compile"]
    do = ["download", "--dest", args.download] if args.download else ["install", "--force-reinstall", *later]
    requirement, refused = f"torch=={version}", list[str]()
    for source, found_by in SOURCES.items():
        options = [*found_by, *target]
        answer = resolve(requirement, options)
        if isinstance(answer, str):
            refused.append(f"{source}: {answer}")
            continue
        url, requires = answer
        wheel = unquote(url.rsplit("/", 1)[-1])
        if needs_cuda(requires, args.system):
            refused.append(f"{source}: {wheel} is a CUDA build")
        else:
            if "pytorch.org/" not in url:
                print("torch: PyTorch's CPU index offers nothing here; taking what pip is configured to find")
            print(f"torch: {'fetching' if args.download else 'installing'} {wheel}", flush=True)
            return subprocess.run([*PIP, *do, *QUIETLY, *options, requirement], check=False).returncode
    print(f"torch: there is no CPU build of torch {version} to be had for Python {platform.python_version()}:")
    print("\n".join(f"  - {line}" for line in refused))
    print(f"Make {CPU_INDEX} reachable, or put the wheel into a folder and set PIP_FIND_LINKS to it.")
    return 1


if __name__ == "__main__":
    sys.exit(main())
