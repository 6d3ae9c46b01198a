"""Users' callbacks: how they are found, and that a broken one breaks nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.domain.wire import EventRecord, decode_metrics
from verl_lab.errors import InvalidInputError
from verl_lab.verl_plugin import TrainerCallback
from verl_lab.verl_plugin.attempt import Attempt
from verl_lab.verl_plugin.callbacks import CallbackList, load_callbacks
from verl_lab.verl_plugin.session import TrainingSession
from verl_lab.verl_plugin.writer import EventLog

if TYPE_CHECKING:
    from pathlib import Path

ReadEvents = Callable[[Attempt], list[EventRecord]]

USER_MODULE = """
from verl_lab.verl_plugin import TrainerCallback

class Good(TrainerCallback):
    pass

class NeedsArgument(TrainerCallback):
    def __init__(self, path):
        self.path = path

class NoCallback:
    pass
"""


class Recording(TrainerCallback):
    def __init__(self) -> None:
        self.heard: list[object] = []

    def on_train_begin(self) -> None:
        self.heard.append("begin")

    def on_step_end(self, step: int, metrics: Mapping[str, Any]) -> None:
        self.heard.append((step, dict(metrics)))

    def on_train_end(self, state: str) -> None:
        self.heard.append(state)

    def on_exception(self, error: BaseException) -> None:
        self.heard.append(error)


class Broken(TrainerCallback):
    def on_step_end(self, step: int, metrics: Mapping[str, Any]) -> None:
        raise RuntimeError(f"no luck with {len(metrics)} metrics at {step}")


def test_failing_callback_is_recorded_and_the_next_one_is_called(attempt: Attempt, read_events: ReadEvents) -> None:
    recording = Recording()
    callbacks = CallbackList([Broken(), recording], EventLog(attempt, "trainer"))
    callbacks.call("on_step_end", 1, {})
    assert recording.heard == [(1, {})]
    (event,) = read_events(attempt)
    assert event.kind == "callback_failed"
    assert event.data["hook"] == "on_step_end"
    assert event.data["callback"].endswith(".Broken")
    assert event.data["error"] == "RuntimeError: no luck with 0 metrics at 1"
    assert "no luck with 0 metrics" in event.data["traceback"]


def test_callback_that_fails_at_every_step_does_not_flood_the_events(attempt: Attempt, read_events: ReadEvents) -> None:
    callbacks = CallbackList([Broken()], EventLog(attempt, "trainer"))
    for step in range(1, 101):
        callbacks.call("on_step_end", step, {})
    assert [event.data["count"] for event in read_events(attempt)] == [1, 2, 4, 8, 16, 32, 64]


def test_callbacks_are_found_in_the_folder_of_the_launch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "launch_folder_callbacks.py").write_text(USER_MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [path for path in __import__("sys").path if path])
    (found,) = load_callbacks(" launch_folder_callbacks.Good ,")
    assert type(found).__name__ == "Good"


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("nowhere.Callback", "nowhere"),
        ("Callback", "cannot be imported"),
        ("user_callbacks.Missing", "Missing"),
        ("user_callbacks.NoCallback", "no TrainerCallback"),
        ("user_callbacks.NeedsArgument", "path"),
        ("broken_callbacks.Any", "ZeroDivisionError"),
    ],
)
def test_callback_that_cannot_be_made_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    (tmp_path / "user_callbacks.py").write_text(USER_MODULE)
    (tmp_path / "broken_callbacks.py").write_text("1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InvalidInputError, match=what) as caught:
        load_callbacks(name)
    assert repr(name) in caught.value.message


def test_session_writes_the_whole_course_of_a_training(
    attempt: Attempt, read_events: ReadEvents, read_progress: Callable[[Attempt], dict[str, object]]
) -> None:
    session = TrainingSession(attempt)
    session.begin(total_steps=2, resumed_from=0, platform="cpu")
    session.validation_ended(0, {"val-core/task/acc/mean@1": 0.25})
    session.step_ended(1, {"train/loss": 2.0})
    session.step_ended(2, {"train/loss": 1.0})
    session.checkpoint_saved(2, "/somewhere/global_step_2")
    session.end(is_stopped=False)
    kinds = {event.kind: event for event in read_events(attempt)}
    assert list(kinds) == ["train_begin", "validation_end", "checkpoint_saved", "train_end"]
    assert kinds["train_begin"].data["total_steps"] == 2
    assert kinds["train_begin"].data["resumed_from"] == 0
    assert "orjson" not in kinds["train_begin"].data["versions"]
    assert kinds["validation_end"].data == {"metrics": {"val-core/task/acc/mean@1": 0.25}}
    assert kinds["checkpoint_saved"].data == {"path": "/somewhere/global_step_2"}
    assert (kinds["train_end"].step, kinds["train_end"].data) == (2, {"state": "completed"})
    records = [decode_metrics(line) for line in attempt.layout.metrics.read_bytes().splitlines()[1:]]
    assert [(record.step, record.data) for record in records] == [
        (0, {"val-core/task/acc/mean@1": 0.25}),
        (1, {"train/loss": 2.0}),
        (2, {"train/loss": 1.0}),
    ]
    assert read_progress(attempt).items() >= {"phase": "finishing", "step": 2, "total": 2}.items()


def test_validation_after_a_resume_does_not_replace_the_metrics_of_its_step(attempt: Attempt) -> None:
    session = TrainingSession(attempt)
    session.begin(total_steps=20, resumed_from=10, platform="cpu")
    session.validation_ended(10, {"val/loss": 1.0})
    session.step_ended(11, {"train/loss": 1.0})
    records = [decode_metrics(line) for line in attempt.layout.metrics.read_bytes().splitlines()[1:]]
    assert [record.step for record in records] == [11]


def test_gradient_that_is_not_finite_becomes_an_event(attempt: Attempt, read_events: ReadEvents) -> None:
    session = TrainingSession(attempt)
    session.begin(total_steps=9, resumed_from=0, platform="cpu")
    session.step_ended(1, {"actor/grad_norm": 1.5})
    session.step_ended(2, {"actor/grad_norm": math.nan})
    session.step_ended(3, {"actor/grad_norm": math.inf})
    session.step_ended(4, {"actor/grad_norm": math.inf})
    events = [event for event in read_events(attempt) if event.kind == "non_finite_gradient"]
    assert [(event.step, event.data["count"]) for event in events] == [(2, 1), (3, 2)]
    assert "actor/grad_norm is nan" in events[0].data["line"]


def test_error_is_recorded_once_and_heard_by_callbacks(
    attempt: Attempt, read_events: ReadEvents, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = Recording()
    monkeypatch.setattr("verl_lab.verl_plugin.session.load_callbacks", lambda _: [recording])
    session = TrainingSession(attempt, "recording")
    error = ValueError("bad data")
    session.fail(error)
    session.fail(error)
    (event,) = read_events(attempt)
    assert (event.kind, event.data["error"]) == ("exception", "ValueError: bad data")
    assert recording.heard == [error]


def test_outside_a_run_only_callbacks_hear_of_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    session = TrainingSession(None)
    session.begin(total_steps=1, resumed_from=0, platform="cpu")
    session.step_ended(1, {"train/loss": 1.0})
    session.end(is_stopped=False)
    assert not session.stop_requested()
    assert list(tmp_path.iterdir()) == []
