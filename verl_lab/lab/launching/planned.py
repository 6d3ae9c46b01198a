"""A run that was checked and resolved, and not started."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import yaml

from verl_lab.domain.host import LOCAL
from verl_lab.domain.run import RunState, Status
from verl_lab.errors import InvalidInputError
from verl_lab.lab.launching.plan_report import PlanReport
from verl_lab.lab.run import Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.lab.lab import Lab
    from verl_lab.recipes.render import Rendered
    from verl_lab.store import RunRow


class PlannedRun(Run):
    """What ``lab.train(..., dry_run=True)`` gives: checked and resolved, but neither written nor started.

    Attributes
    ----------
    rendered
        What would be launched.
    overrides
        The overrides it was planned with.
    """

    def __init__(
        self,
        lab: Lab,
        run_id: str,
        folder: str,
        name: str,
        rendered: Rendered,
        overrides: Sequence[str] = (),
        host_name: str = LOCAL,
    ) -> None:
        super().__init__(lab, run_id, folder, host_name)
        self._name = name
        self.rendered = rendered
        self.overrides = tuple(overrides)

    def __repr__(self) -> str:
        return f"PlannedRun({self._name!r}: checked, not started)"

    def _ipython_display_(self) -> None:
        from IPython import display

        cast("Any", display).display(self.report())

    def report(self) -> PlanReport:
        """Return what would run, how it is divided up, what it needs and what is watched, to be read."""
        return PlanReport.of(repr(self), self.rendered)

    @property
    def row(self) -> RunRow:
        """A planned run has no entry in the index."""
        raise InvalidInputError(f"{self._name} was only planned (dry run).", "Launch it without dry_run to use it.")

    @property
    def name(self) -> str:
        """What the user called it."""
        return self._name

    @property
    def is_attached(self) -> bool:
        """A planned run would be ours."""
        return False

    def status(self) -> Status:
        """Return ``created``: nothing runs."""
        return Status(self.id, attempt=0, state=RunState.CREATED, total=self.rendered.total_steps)

    @property
    def config(self) -> dict[str, Any]:
        """verl's resolved configuration, as nested dictionaries."""
        return yaml.safe_load(self.rendered.config_yaml)

    @property
    def command(self) -> str:
        """The command that would run."""
        return self.rendered.command
