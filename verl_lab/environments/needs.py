"""What a host must have before an environment can be made there; each thing that is missing is named for itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl_lab.environments.report import Check, Report
from verl_lab.errors import EnvironmentMismatchError, NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    Survey = Mapping[str, Any]

PYTHONS = "3.10, 3.11 or 3.12"
GIB = 2**30
# What an environment takes on the disk while it is made, by role: its own size, and a quarter more for what pip
# unpacks on the way.
ROOM_BYTES = {"base": GIB, "cpu": 4 * GIB, "training": 20 * GIB}
# The newest wheels of torch are built on AlmaLinux 8, for glibc 2.28 and later.
GLIBC = (2, 28)


def base_python(survey: Survey, host: str) -> Survey:
    """Return the interpreter to make environments with.

    Raises
    ------
    EnvironmentMismatchError
        There is none; the message names those that were found, the hint the next step.
    """
    tried: Sequence[Survey] = survey["candidates"]
    for one in tried:
        if one["error"] is None and _is_right(one) and one["base"]["makes_environments"]:
            return one
    for one in tried:
        if one["error"] is None and _is_right(one):
            raise EnvironmentMismatchError(
                f"{one['path']} on {host} cannot make environments: it has no venv or no ensurepip module.",
                "Install them there (Debian, Ubuntu: apt-get install python3-venv), or name another Python there.",
            )
    said = "; ".join(f"{one['path']} is {one['error'] or one['python']}" for one in tried)
    raise EnvironmentMismatchError(
        f"{host} has no Python {PYTHONS}{f': {said}' if said else ''}.",
        "Install one there (Debian, Ubuntu: apt-get install python3 python3-venv; without root: conda, pyenv or uv), "
        "or give the host the path of one as its python.",
    )


def require_platform(base: Survey, role: str, host: str) -> None:
    """Refuse a machine for which there are no packages of this role.

    Raises
    ------
    EnvironmentMismatchError
        It has another processor, system or C library.
    """
    markers = base["markers"]
    system, machine = markers["platform_system"], markers["platform_machine"]
    if role == "training" and (system, machine) != ("Linux", "x86_64"):
        raise EnvironmentMismatchError(
            f"{host} is {system} on {machine}; role training is for Linux on x86_64.",
            "verl with vLLM needs such a machine. Role cpu may do for a try.",
        )
    if base["base"]["pointer_bytes"] != 8:  # noqa: PLR2004  bytes of 64 bits
        raise EnvironmentMismatchError(
            f"{base['path']} on {host} is a 32-bit Python.", "Name a 64-bit one as the host's python."
        )
    name, version = base["base"]["libc"]
    if system != "Linux" or role == "base":
        return
    if name != "glibc":
        raise EnvironmentMismatchError(
            f"{host} has no glibc (its C library is {name or 'another'}), for which torch is built.",
            "Use a host with Debian, Ubuntu, RHEL or their like, or train in a container of one.",
        )
    if tuple(int(part) for part in version.split(".")[:2]) < GLIBC:
        raise EnvironmentMismatchError(
            f"{host} has glibc {version}; torch is built for {'.'.join(map(str, GLIBC))} and later.",
            "Use a host with a newer system, or a Python of conda-forge, which brings its own.",
        )


def require_folder(survey: Survey, root: str, host: str) -> None:
    """Refuse a folder that cannot be written to.

    Raises
    ------
    EnvironmentMismatchError
        Nothing can be kept there.
    """
    error = survey["place"]["error"]
    if error is not None:
        raise EnvironmentMismatchError(
            f"{root} on {host} cannot be written to: {error}.",
            "Give the host a runs_root in a folder that can be, such as one below /scratch.",
        )


def require_room(survey: Survey, role: str, root: str, host: str) -> None:
    """Refuse a disk that is too full for the environment.

    Raises
    ------
    NoSpaceError
        It is.
    """
    free, needed = survey["place"]["free_bytes"], ROOM_BYTES[role]
    if free < needed:
        raise NoSpaceError(
            f"{root} on {host} has {free / GIB:.1f} GiB free; role {role} needs {needed / GIB:.0f} GiB.",
            "Make room there, or give the host a runs_root on a larger disk.",
        )


def report_before(survey: Survey, mismatches: Sequence[str], host: str, fix: str) -> Report:
    """Return a report on a host without an environment: what it has to make one with."""
    role = "training" if survey["gpus"] else "cpu"
    checks = [Check("set-up", ok=False, found="; ".join(mismatches), wanted=f"role {role}", fix=fix)]
    python = "none"
    try:
        base = base_python(survey, host)
    except EnvironmentMismatchError as error:
        checks.append(Check("python", ok=False, found=error.message, wanted=PYTHONS, fix=error.hint or ""))
    else:
        python = f"{base['path']} on {host}"
        checks.append(Check("python", ok=True, found=f"{base['python']}, {base['path']}", wanted=PYTHONS))
    place, needed = survey["place"], ROOM_BYTES[role]
    said = place["error"] or f"{place['free_bytes'] / GIB:.0f} GiB free"
    is_enough = place["error"] is None and place["free_bytes"] >= needed
    help_ = "Make room there, or give the host a runs_root elsewhere."
    checks.append(Check("disk", is_enough, said, f"{needed / GIB:.0f} GiB", help_))
    checks.append(Check("gpu", ok=True, found="; ".join(survey["gpus"]) or "none", wanted="none needed for role cpu"))
    return Report(role, python, tuple(checks))


def _is_right(one: Survey) -> bool:
    return ".".join(one["python"].split(".")[:2]) in ("3.10", "3.11", "3.12")
