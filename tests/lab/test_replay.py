"""A run shown again: everything is as it was at the step that is shown."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

import pytest

from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.lab.diagnosis.replay import Replay
from verl_lab.lab.view import RunView

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab import Lab
    from verl_lab.lab import Run


@pytest.fixture
def run(lab: Lab, recordings: Path) -> Run:
    """Return an attached run of 30 steps whose KL passes its threshold on the way."""
    return lab.attach(recordings / "grpo-kl-loss-30-steps.jsonl")


@pytest.fixture
def timed(lab: Lab) -> Run:
    """Return a run folder whose records say when they were written: a step each 2 s, and a night after step 5."""
    folder = lab.settings.runs_root / "20260101-000000-timed-0000"
    attempt = folder / "attempts" / "1"
    attempt.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"version": 1, "run": folder.name, "name": "timed", "created": 1.0}))
    header = {"verl_lab": 1, "run": folder.name, "attempt": 1, "pid": 1, "process_start": 1, "boot_id": "b"}
    times = [1e9 + 2 * step + (40_000 if step > 5 else 0) for step in range(1, 11)]
    records = [
        {"seq": k, "step": k + 1, "time": at, "data": {"train/loss": 1.0 / (k + 1)}} for k, at in enumerate(times)
    ]
    (attempt / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (header, *records)))
    return lab.run("timed")


def _eventually(holds: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline, "What was awaited did not come within 60 s."
        time.sleep(0.01)


def test_nothing_later_than_the_step_shown_is_known(lab: Lab, run: Run) -> None:
    replay = Replay(RunView(lab, run))
    assert replay.position == 0
    assert "critic/score/mean" not in replay.metric_names()
    replay.seek(11)
    steps, values = replay.series("critic/score/mean")
    assert steps.tolist() == list(range(1, 12))
    assert values.tolist() == run.metrics("critic/score/mean")[1][:11].tolist()
    assert replay.header().step == 11
    assert not replay.header().can_stop


@pytest.mark.parametrize("step", [0, 2, 3, 11, 12, 20, 30])
def test_findings_and_score_are_those_of_the_step(lab: Lab, run: Run, step: int) -> None:
    replay = Replay(RunView(lab, run))
    replay.seek(step)
    assert list(replay.findings()) == list(run.findings(step))
    assert replay.health() == run.health(step)
    assert all(finding.first_step <= step for finding in replay.findings())


def test_drift_appears_at_its_own_step(lab: Lab, run: Run) -> None:
    first = next(finding.first_step for finding in run.findings() if finding.rule == "kl-explosion")
    replay = Replay(RunView(lab, run))
    seen: list[bool] = []
    for step in (first - 1, first):
        replay.seek(step)
        seen.append("kl-explosion" in {finding.rule for finding in replay.findings()})
    assert seen == [False, True]


def test_steps_forth_and_back_seeking_and_the_ends(lab: Lab, run: Run) -> None:
    replay = Replay(RunView(lab, run), start=5, end=20)
    told: list[int] = []
    end = replay.subscribe(lambda: told.append(replay.position))
    replay.advance(1)
    replay.advance(-3)
    replay.seek(100)
    replay.advance(1)
    replay.seek(-4)
    assert told == [6, 5, 20, 20, 5]
    end()
    playback = replay.header().playback
    assert playback is not None
    assert (playback.first, playback.last, playback.is_timed) == (5, 20, False)


def test_playing_goes_through_every_step_to_the_end_and_its_thread_ends(lab: Lab, run: Run) -> None:
    replay = Replay(RunView(lab, run), speed=100, start=3, end=12)
    seen: list[int] = []
    end = replay.subscribe(lambda: seen.append(replay.position))
    replay.play()
    _eventually(lambda: replay.position == 12 and not replay.header().playback.is_playing)  # type: ignore[union-attr]
    assert seen == sorted(seen)
    assert replay.header().is_over
    _eventually(lambda: not [t for t in threading.enumerate() if t.name == "verl-lab replay"])
    replay.set_speed(0.1)  # nothing may be played while this test waits for its turn
    replay.play()
    assert replay.position < 12
    end()
    assert not [t for t in threading.enumerate() if t.name == "verl-lab replay"]


def test_pause_stands_still_and_speed_changes_while_playing(lab: Lab, run: Run) -> None:
    replay = Replay(RunView(lab, run), speed=0.1)
    end = replay.subscribe(lambda: None)
    replay.play()
    time.sleep(0.3)
    assert replay.position == 0
    replay.set_speed(50)
    _eventually(lambda: replay.position >= 3)
    replay.pause()
    stood = replay.position
    time.sleep(0.2)
    assert replay.position == stood
    end()


def test_time_passes_as_it_did_and_a_night_is_not_waited_for(lab: Lab, timed: Run) -> None:
    replay = Replay(RunView(lab, timed))
    elapsed: list[float | None] = []
    for _ in range(10):
        elapsed.append(replay.header().elapsed_s)
        replay.advance(1)
    assert elapsed == [0, 2, 4, 6, 8, 28, 30, 32, 34, 36]
    assert replay.header().playback.is_timed  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "named"),
    [({"speed": 0.05}, "speed"), ({"speed": 101}, "speed"), ({"speed": float("nan")}, "speed"),
     ({"start": -1}, "start"), ({"end": 31}, "end"), ({"start": 20, "end": 10}, "start")],
)  # fmt: skip
def test_what_is_out_of_range_is_refused_by_name(lab: Lab, run: Run, given: dict[str, float], named: str) -> None:
    with pytest.raises(InvalidInputError, match=named):
        Replay(RunView(lab, run), **given)  # type: ignore[arg-type]


def test_run_without_records_cannot_be_replayed(lab: Lab, tmp_path: Path) -> None:
    folder = lab.settings.runs_root / "20260101-000000-empty-0000"
    (folder / "attempts" / "1").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"version": 1, "run": folder.name, "name": "empty", "created": 1.0}))
    with pytest.raises(NotFoundError, match="nothing"):
        Replay(RunView(lab, lab.run("empty")))


def test_past_is_not_acted_on(lab: Lab, run: Run) -> None:
    replay = Replay(RunView(lab, run))
    for refused in (replay.stop, replay.resume, replay.sync):
        with pytest.raises(InvalidInputError, match="replay"):
            refused()
