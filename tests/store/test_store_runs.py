from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.run import RunState, Status
from verl_lab.errors import NotFoundError
from verl_lab.store import RunRow

if TYPE_CHECKING:
    from verl_lab.store import Store


def test_runs_are_listed_newest_first_in_pages(store: Store):
    for n in range(20):
        store.runs.upsert(
            RunRow(id=f"r{n:02}", name="x", folder="/", created=float(n + 10), kind="attached" if n % 2 else "run")
        )
    assert [r.id for r in store.runs.list(limit=3, offset=1)] == ["r18", "r17", "r16"]
    assert [r.id for r in store.runs.list(limit=2, kind="run")] == ["r18", "r16"]
    assert store.runs.ids()[-2:] == ["r00", "run-1"]
    assert store.runs.get("absent") is None


def test_registering_a_run_again_corrects_its_description_and_leaves_its_state(store: Store):
    store.runs.set_status(Status("run-1", 1, RunState.RUNNING, step=5, total=9, started=2.0, updated=3.0))
    store.runs.upsert(RunRow(id="run-1", name="renamed", folder="/moved", recipe="grpo", created=7.0))
    row = store.runs.get("run-1")
    assert row is not None
    assert (row.name, row.folder, row.recipe) == ("renamed", "/moved", "grpo")
    assert (row.state, row.step, row.total, row.created, row.started) == ("running", 5, 9, 1.0, 2.0)


def test_a_late_status_of_an_older_attempt_changes_nothing(store: Store):
    newer = Status("run-1", 2, RunState.RUNNING, step=3, reason=None)
    store.runs.set_status(replace(newer, attempt=1, state=RunState.FAILED, step=9, reason="killed"))
    store.runs.set_status(newer)
    store.runs.set_status(replace(newer, attempt=1, state=RunState.LOST))
    row = store.runs.get("run-1")
    assert row is not None
    assert (row.attempt, row.state, row.step, row.reason) == (2, "running", 3, None)
    with pytest.raises(NotFoundError, match="run-9"):
        store.runs.set_status(replace(newer, run="run-9"))
