"""What is installed on the hosts of a lab, against what this release of verl-lab wants; and installing it there."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from verl_lab.domain.host import LOCAL
from verl_lab.environments.verify import verify
from verl_lab.errors import EnvironmentMismatchError, InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.environments.remote import HostEnvironment, State
    from verl_lab.environments.report import Report
    from verl_lab.lab.lab import Lab


def environment_on(lab: Lab, name: str) -> HostEnvironment:
    """Return the environments of a host.

    Raises
    ------
    NotFoundError
        There is no such host.
    TransportError
        The host has to be asked where home is, and was not reached.
    """
    from verl_lab.environments.remote import HostEnvironment

    return HostEnvironment(lab.hosts.get(name), lab.hosts.root(name), python=lab.hosts.python(name))


def environment(lab: Lab, name: str, role: str | None = None) -> Report:
    """Try what must work in a host's environment; for ``local``, in the one that this runs in.

    Raises
    ------
    NotFoundError
        There is no such host, or no such role.
    TransportError
        The host was not reached.
    """
    return verify(role) if name == LOCAL else environment_on(lab, name).report(role)


def setup(
    lab: Lab,
    name: str,
    role: str | None = None,
    *,
    offline: bool | None = None,
    progress: Callable[[str], None] = lambda _line: None,
) -> Report:
    """Make, complete or repair the environment of a host, and return the report on it.

    Parameters
    ----------
    role
        ``training`` or ``cpu``; None for ``training`` where the host has a GPU, else ``cpu``.
    offline
        Whether packages are collected here and sent; None to do so where the host reaches no package index.
    progress
        Called with each line of the log.

    Raises
    ------
    NotFoundError
        There is no such host.
    InvalidInputError
        It is this machine, or that is no role.
    EnvironmentMismatchError, NoSpaceError
        The host cannot be set up as it is, or the installation failed.
    TransportError
        The host was not reached. What was begun goes on there; the next call follows it.
    """
    if name == LOCAL:
        raise InvalidInputError(
            f"host: {LOCAL!r} is this machine: it trains with the environment that this runs in.",
            "environments/setup_local_env.sh ROLE completes or repairs that one.",
        )
    return environment_on(lab, name).setup(role, offline=offline, progress=progress)


def ready(lab: Lab, name: str) -> State:
    """Return the environment that trains on a host, if it is one that trains as it would here.

    It is asked before every launch, and takes one round trip.

    Raises
    ------
    NotFoundError
        There is no such host.
    EnvironmentMismatchError
        There is none, or it is another one; all differences are named.
    TransportError
        The host was not reached.
    """
    from verl_lab.environments.remote import State

    if name == LOCAL:
        return State(None, sys.executable)
    found = environment_on(lab, name)
    state = found.state()
    if state.mismatches:
        raise EnvironmentMismatchError(
            f"{name} is not set up as this release of verl-lab wants it: {'; '.join(state.mismatches)}.",
            f"{found.fix} mends it.",
        )
    return state
