"""What the trainer tells the supervisor, and how it hears that it should stop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verl_lab.verl_plugin.progress import Progress, graceful_stop_requested

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab.verl_plugin.attempt import Attempt


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"mode":"graceful","time":1.0,"grace_s":60}', True),
        (b'{"mode":"now","time":1.0}', False),
        (b'{"mode":"grace', False),
        (b"[]", False),
    ],
)
def test_only_a_graceful_request_asks_the_trainer_to_stop(tmp_path: Path, *, content: bytes, expected: bool) -> None:
    request = tmp_path / "stop.json"
    assert not graceful_stop_requested(request)
    request.write_bytes(content)
    assert graceful_stop_requested(request) is expected


def test_progress_keeps_step_and_total_when_the_phase_changes(
    attempt: Attempt, read_progress: Callable[[Attempt], dict[str, object]]
) -> None:
    progress = Progress(attempt.layout.progress)
    progress.enter("loading model")
    assert read_progress(attempt)["step"] is None
    progress.enter("training", step=0, total=30)
    progress.advance(1)
    progress.enter("saving checkpoint")
    assert read_progress(attempt).items() >= {"phase": "saving checkpoint", "step": 1, "total": 30}.items()
    assert [path.name for path in attempt.layout.folder.iterdir()] == ["progress.json"]


def test_steps_in_quick_succession_cost_no_file_each(attempt: Attempt) -> None:
    progress = Progress(attempt.layout.progress)
    progress.enter("training", step=0, total=1000)
    first = attempt.layout.progress.stat().st_ino
    progress.advance(1)
    progress.advance(2)
    assert attempt.layout.progress.stat().st_ino == first


def test_progress_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    Progress(tmp_path / "gone" / "progress.json").enter("training")
    Progress(None).enter("training")
