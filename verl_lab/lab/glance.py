"""What the overview keeps of one run, and what of it is news."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from verl_lab.domain.finding import Severity
from verl_lab.domain.host import LOCAL
from verl_lab.domain.run import RunState
from verl_lab.errors import NotFoundError
from verl_lab.lab.summary import judged, remaining_s, summarise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.domain.finding import Finding, Health
    from verl_lab.domain.run import Status
    from verl_lab.lab.run import Run
    from verl_lab.lab.summary import RunSummary, Spark
    from verl_lab.store import RunRow, Store

_LIVE_LOG_S = 600.0


@dataclass
class Glance:
    """What is known of one run."""

    row: RunRow
    summary: RunSummary
    status: Status | None = None
    spark: Spark | None = None
    health: Health | None = None
    findings: Sequence[Finding] = ()
    project: str | None = None
    has_project: bool = False
    is_judged: bool = False
    is_sparked: bool = False
    # Findings that were told, or were there at the beginning: how grave each was.
    told: dict[tuple[str, str, int], int] = field(default_factory=dict[tuple[str, str, int], int])

    @classmethod
    def of(cls, row: RunRow) -> Glance:
        """Begin with what the index says."""
        return cls(row, summarise(row, None, time.time()))

    @property
    def is_live(self) -> bool:
        """Whether a process works on the run, or is about to."""
        return RunState(self.summary.state).is_live

    @property
    def is_unread(self) -> bool:
        """Whether the index merely says that it goes on, and nobody has looked."""
        return self.is_live and self.status is None and self.row.kind != "attached"

    def take(self, row: RunRow, store: Store) -> None:
        """Take over what the index says by now."""
        if _stand(self.row) != _stand(row):
            status = self.status
            if status is not None and (
                status.attempt < row.attempt or RunState(row.state).is_over != status.state.is_over
            ):
                self.status = None  # it is older than what the index says
            self.row = row
            self.is_judged = self.is_sparked = False
            self.summarise(store)

    def summarise(self, store: Store) -> None:
        """Put into the summary what is known now."""
        summary = summarise(self.row, self.status, time.time())
        is_running = summary.state == RunState.RUNNING.value
        left = self.summary.remaining_s if summary.step == self.summary.step else None
        if is_running and left is None:
            left = remaining_s(store, summary.id, summary.step, summary.total)
        summary = replace(summary, remaining_s=left if is_running else None, spark=self.spark, project=self.project)
        self.summary = judged(summary, self.health.score if self.health else None, self.findings)

    def is_news(self, finding: Finding) -> bool:
        """Whether a finding was not told yet, or not as so grave; it counts as told from here on."""
        key, rank = (finding.rule, finding.metric, finding.first_step), finding.severity.rank
        before = self.told.get(key, 0)
        self.told[key] = max(before, rank)
        return finding.is_active and rank > before and finding.severity >= Severity.WARNING


def _stand(row: RunRow) -> tuple[object, ...]:
    """Return what of a row is news: not that its run was heard of once more."""
    return (row.name, row.recipe, row.state, row.step, row.total, row.reason, row.attempt, row.started, row.ended)


def is_written_to(row: RunRow) -> bool:
    """Whether a log of this machine was written to lately."""
    if row.host != LOCAL:
        return False
    try:
        return time.time() - os.stat(row.folder).st_mtime < _LIVE_LOG_S  # noqa: PTH116  a path with odd bytes will do
    except OSError:
        return False


def project_of(run: Run, row: RunRow) -> str | None:
    """Return the name of the folder that a run was launched from; None where that is not recorded here."""
    if row.kind == "attached" or row.host != LOCAL:
        return None
    try:
        launch: dict[str, Any] = run.launcher.read_record(run.folder).get("launch") or {}
    except NotFoundError:
        return None
    cwd = launch.get("cwd")
    return os.path.basename(cwd.rstrip("/")) or None if isinstance(cwd, str) else None  # noqa: PTH119  as above
