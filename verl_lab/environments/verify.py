"""Is what is installed what was pinned, and does it work? ``verify`` answers for one interpreter."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from verl_lab.environments.gpu import gpu_checks
from verl_lab.environments.pins import Versions, pins
from verl_lab.environments.report import Check, Report
from verl_lab.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

PROBE = Path(__file__).with_name("probe.py")
# Importing verl takes 6 s on a quiet machine.
PROBE_TIMEOUT_S = 300.0
# The first with RETURNING, which the store uses.
SQLITE_MINIMUM = "3.35"
# sqlite.org/wal.html, "the WAL-reset bug": the store serialises its checkpoints to stay clear of it.
SQLITE_SOUND = "3.51.3"
SHOWN_PACKAGES = 6


def verify(role: str | None = None, python: str = sys.executable) -> Report:
    """Compare an environment with what this release of verl-lab pins, and try what must work in it.

    Parameters
    ----------
    role
        ``base``, ``manager``, ``cpu``, ``test`` or ``training``; None takes it from what is installed.
    python
        The interpreter of the environment. It is asked in a process of its own, so that torch and
        verl are never imported here.

    Raises
    ------
    NotFoundError
        There is no such role.
    InvalidInputError
        ``python`` is not an interpreter that runs.
    """
    found = _probe(python)
    chosen = role or role_of(found)
    if chosen in Versions.load().torch:
        found = _probe(python, "--deep")
    return judge(found, chosen, python, f"environments/setup_local_env.sh {chosen}")


def judge(found: Mapping[str, Any], role: str, python: str, fix: str, pinned: Path | None = None) -> Report:
    """Compare what the probe found, in whichever environment on whichever machine, with what is pinned.

    Parameters
    ----------
    found
        From ``findings``; of ``--deep`` for a role that has torch.
    fix
        The command that sets the environment up.
    pinned
        The folder of the locks; None for this release's.

    Raises
    ------
    NotFoundError
        There is no such role.
    """
    versions = Versions.load(pinned)
    checks = [*judge_packages(found, role, fix, pinned), _sqlite(found["sqlite"])]
    if role in versions.torch:
        checks.extend(_training_checks(found, versions, role, fix))
    return Report(role, python, tuple(checks))


def judge_packages(found: Mapping[str, Any], role: str, fix: str, pinned: Path | None = None) -> list[Check]:
    """Compare the Python and the versions of what is installed with what is pinned; otherwise as ``judge``."""
    installed, versions = _installed(found), Versions.load(pinned)
    return [
        Check("python", SpecifierSet(versions.python).contains(found["python"]), found["python"], versions.python),
        _packages(installed, pins(role, found["markers"], pinned), fix, f"{role}.txt"),
        _exact("verl-lab", installed.get("verl-lab"), versions.verl_lab, fix),
    ]


def findings(output: str, errors: str, python: str, exit_code: int) -> dict[str, Any]:
    """Return what the probe said, by name.

    Raises
    ------
    InvalidInputError
        It said nothing: ``python`` is no Python.
    """
    found: dict[str, Any] = {}
    for line in output.splitlines():
        # Libraries print while they are imported; only a line of our own is a finding.
        if line.startswith('{"name": '):
            record = json.loads(line)
            found[record["name"]] = record["finding"]
    if "gpus" not in found:
        reason = errors.strip().splitlines()[-1:] or [f"exit code {exit_code}"]
        raise InvalidInputError(f"python={python!r} is not a Python that can be asked: {reason[0]}")
    return found


def role_of(found: Mapping[str, Any]) -> str:
    """Return the largest role that is installed, by a package that smaller ones have not."""
    return _role_of(_installed(found))


def _installed(found: Mapping[str, Any]) -> dict[str, str]:
    installed: dict[str, str] = {}
    for name, version in found["distributions"]:
        # Of two with the same name the first on the path is the one that is imported.
        installed.setdefault(canonicalize_name(name), version)
    return installed


def _probe(python: str, *options: str) -> dict[str, Any]:
    command = [python, str(PROBE), *options]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, stdin=subprocess.DEVNULL, check=False
        )
    except OSError as error:
        raise InvalidInputError(
            f"python={python!r} does not run: {error.strerror}.", "Give a Python's path."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise InvalidInputError(f"python={python!r} gave no answer in {PROBE_TIMEOUT_S:.0f} s.") from error
    return findings(done.stdout, done.stderr, python, done.returncode)


def _role_of(installed: Mapping[str, str]) -> str:
    for package, role in (("vllm", "training"), ("verl", "cpu"), ("jupyterlab", "manager")):
        if package in installed:
            return role
    return "base"


def _exact(name: str, found: str | None, wanted: str, fix: str) -> Check:
    return Check(name, found == wanted, found or "not installed", wanted, fix)


def _packages(installed: Mapping[str, str], wanted: Mapping[str, str], fix: str, lock: str) -> Check:
    # A local version such as 2.13.0+cpu is another build of the same release.
    wrong = [name for name, version in wanted.items() if installed.get(name, "").split("+")[0] != version]
    if not wrong:
        return Check("packages", ok=True, found=f"{len(wanted)} as pinned", wanted=lock)
    shown = [f"{name} {installed.get(name, 'missing')} (not {wanted[name]})" for name in wrong[:SHOWN_PACKAGES]]
    more = f" and {len(wrong) - len(shown)} more" if len(wrong) > len(shown) else ""
    found = f"{len(wrong)} of {len(wanted)} differ: {', '.join(shown)}{more}"
    return Check("packages", ok=False, found=found, wanted=lock, fix=fix)


def _sqlite(found: str | None) -> Check:
    ok = found is not None and Version(found) >= Version(SQLITE_MINIMUM)
    wanted = f"{SQLITE_MINIMUM} or later; {SQLITE_SOUND} mends a rare corruption that verl-lab works around"
    return Check("sqlite", ok, found or "none", wanted, "Use a Python that is built with a newer SQLite.")


def _training_checks(deep: Mapping[str, Any], versions: Versions, role: str, fix: str) -> Iterator[Check]:
    crashed = {"error": "the process ended while importing it"}
    torch, verl, gpus = deep.get("torch", crashed), deep.get("verl", crashed), deep["gpus"]
    needs_gpu = role == "training"
    wanted = f"{versions.torch[role]}, built {'for CUDA' if needs_gpu else 'for CPU'}"
    if "error" in torch:
        yield Check("torch", ok=False, found=torch["error"], wanted=wanted, fix=fix)
    else:
        ok = torch["version"].split("+")[0] == versions.torch[role] and bool(torch["cuda"]) == needs_gpu
        yield Check("torch", ok, f"{torch['version']}, CUDA {torch['cuda'] or 'none'}", wanted, fix)
    if "error" in verl:
        yield Check("verl", ok=False, found=verl["error"], wanted=versions.verl, fix=fix)
    else:
        yield _exact("verl", verl["version"], versions.verl, fix)
        found = "loaded by import verl" if verl["plugin"] else "not loaded by import verl"
        help_ = f"{fix}; and leave VERL_USE_EXTERNAL_PLUGINS unset"
        yield Check("plugin", verl["plugin"], found, "loaded by import verl", help_)
    seen = torch.get("devices", 0)
    found = f"{'; '.join(gpus) or 'none'}, {seen} seen by torch"
    ok = bool(gpus and seen) if needs_gpu else True
    wanted = "one or more that nvidia-smi and torch see" if needs_gpu else "none needed"
    yield Check("gpu", ok, found, wanted, "Check the driver with nvidia-smi, and CUDA_VISIBLE_DEVICES.")
    if needs_gpu and gpus:
        yield from gpu_checks(deep, torch.get("cuda"))
