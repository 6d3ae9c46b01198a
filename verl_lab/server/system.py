"""About the server's own environment."""

from __future__ import annotations

import threading
from importlib import metadata
from typing import TYPE_CHECKING

from verl_lab.domain.host import LOCAL
from verl_lab.server.hosts import told_report
from verl_lab.server.routing import Asked, Routes

if TYPE_CHECKING:
    from verl_lab.environments.report import Report
    from verl_lab.lab import Lab
    from verl_lab.server.answers import Environment

ROUTES = Routes()
_TOLD = ("verl-lab", "verl", "torch", "transformers", "ray", "vllm", "jupyterlab", "jupyter-server", "pydantic")


class Anew(Asked):
    """Whether to look again: what was found last is answered otherwise, since it takes seconds."""

    anew: bool = False


class _Last:
    """The report of this process's own environment, which seldom changes while it runs."""

    def __init__(self) -> None:
        self._asking = threading.Lock()
        self._report: Report | None = None

    def get(self, lab: Lab, *, anew: bool) -> Report:
        with self._asking:
            if self._report is None or anew:
                self._report = lab.hosts.environment(LOCAL)
            return self._report


_last = _Last()


@ROUTES.add("GET", "system/env", query=Anew, is_slow=True)
def environment(lab: Lab, query: Anew) -> Environment:
    """Check what is installed here against what this release was tested with."""
    return {**told_report(_last.get(lab, anew=query.anew)), "versions": _versions()}


def _versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for package in _TOLD:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found
