"""Is what is installed what was pinned, and does it work? ``verify`` answers for one interpreter."""

from __future__ import annotations

import html
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version

from verl_lab.environments.pins import Versions, pins
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


@dataclass(frozen=True)
class Check:
    """One question put to an environment: what was found, what was wanted, how to mend it."""

    name: str
    ok: bool
    found: str
    wanted: str
    fix: str = ""


@dataclass(frozen=True)
class Report:
    """The answers for one role and interpreter."""

    role: str
    python: str
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether every check holds."""
        return all(check.ok for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints."""
        return {"role": self.role, "python": self.python, "ok": self.ok, "checks": [asdict(c) for c in self.checks]}

    def __str__(self) -> str:
        rows = [("", "check", "found", "wanted"), *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        fixes = [f"{check.name}: {check.fix}" for check in self.checks if not check.ok and check.fix]
        return "\n".join([f"role {self.role}, {self.python}", *lines, *fixes])

    def _repr_html_(self) -> str:
        head = "".join(f'<th style="text-align:left">{title}</th>' for title in ("", "check", "found", "wanted"))
        body = "".join(
            "<tr>" + "".join(f'<td style="text-align:left">{html.escape(cell)}</td>' for cell in row) + "</tr>"
            for row in self._rows()
        )
        fixes = "".join(
            f"<li>{html.escape(check.name)}: {html.escape(check.fix)}</li>"
            for check in self.checks
            if not check.ok and check.fix
        )
        title = f"<p>role {html.escape(self.role)}, {html.escape(self.python)}</p>"
        return f"{title}<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table><ul>{fixes}</ul>"

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [("✓" if check.ok else "✗", check.name, check.found, check.wanted) for check in self.checks]


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
    installed: dict[str, str] = {}
    for name, version in found["distributions"]:
        # Of two with the same name the first on the path is the one that is imported.
        installed.setdefault(canonicalize_name(name), version)
    chosen = role or _role_of(installed)
    versions = Versions.load()
    wanted = pins(chosen, found["markers"])
    setup = f"environments/setup_local_env.sh {chosen}"
    checks = [
        Check("python", SpecifierSet(versions.python).contains(found["python"]), found["python"], versions.python),
        _packages(installed, wanted, setup, f"{chosen}.txt"),
        _exact("verl-lab", installed.get("verl-lab"), versions.verl_lab, setup),
        _sqlite(found["sqlite"]),
    ]
    if chosen in versions.torch:
        deep = _probe(python, "--deep")
        checks.extend(_training_checks(deep, versions, chosen, setup))
    return Report(chosen, python, tuple(checks))


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
    found: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        # Libraries print while they are imported; only a line of our own is a finding.
        if line.startswith('{"name": '):
            record = json.loads(line)
            found[record["name"]] = record["finding"]
    if "gpus" not in found:
        reason = done.stderr.strip().splitlines()[-1:] or [f"exit code {done.returncode}"]
        raise InvalidInputError(f"python={python!r} is not a Python that can be asked: {reason[0]}")
    return found


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


def _sqlite(found: str) -> Check:
    ok = Version(found) >= Version(SQLITE_MINIMUM)
    wanted = f"{SQLITE_MINIMUM} or later; {SQLITE_SOUND} mends a rare corruption that verl-lab works around"
    return Check("sqlite", ok, found, wanted, "Use a Python that is built with a newer SQLite.")


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
