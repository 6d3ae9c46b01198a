"""Judging a run in the process that trains it: findings, marks, stops, alerts."""

from __future__ import annotations

import json
import math
import sys
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.domain.wire import AttemptLayout, EventRecord, encode_event, encode_metrics
from verl_lab.verl_plugin import judge
from verl_lab.verl_plugin.attempt import Attempt
from verl_lab.verl_plugin.checks import run_layout
from verl_lab.verl_plugin.session import TrainingSession

if TYPE_CHECKING:
    from collections.abc import Iterator

ReadEvents = Callable[[Attempt], list[EventRecord]]
ReadProgress = Callable[[Attempt], dict[str, object]]


def give_checks(attempt: Attempt, **fields: Any) -> None:
    record: dict[str, Any] = {"on_critical": "mark", "thresholds": {}, "alerts": {"command": [], "webhook": None}}
    run_layout(attempt).checks.write_text(json.dumps(record | fields))


def train(attempt: Attempt, losses: Mapping[int, float], total: int = 100, resumed_from: int = 0) -> TrainingSession:
    session = TrainingSession(attempt)
    session.begin(total_steps=total, resumed_from=resumed_from, platform="cpu")
    for step, loss in losses.items():
        session.step_ended(step, {"train/loss": loss, "train/grad_norm": 1.0})
    return session


def steady(first: int, last: int) -> dict[int, float]:
    return {step: 2.0 - step / 1000 for step in range(first, last + 1)}


def of_kind(events: list[EventRecord], kind: str) -> list[EventRecord]:
    return [event for event in events if event.kind == kind]


NAN_AT_5 = {**steady(1, 4), 5: math.nan, 6: math.nan, **steady(7, 8)}


def test_healthy_run_has_no_finding_and_no_mark(
    attempt: Attempt, read_events: ReadEvents, read_progress: ReadProgress
) -> None:
    session = train(attempt, steady(1, 10), total=10)
    session.end(is_stopped=False)
    assert {event.kind for event in read_events(attempt)} == {"train_begin", "train_end"}
    assert read_progress(attempt)["critical"] is None


def test_critical_finding_is_recorded_in_full_and_marks_the_run(
    attempt: Attempt, read_events: ReadEvents, read_progress: ReadProgress
) -> None:
    session = train(attempt, NAN_AT_5)
    (finding,) = of_kind(read_events(attempt), "finding")
    assert finding.step == 5
    assert finding.data["rule"] == "non-finite"
    assert finding.data["severity"] == "critical"
    assert finding.data["metric"] == "train/loss"
    assert finding.data["first_step"] == 5
    assert all(finding.data[field] for field in ("evidence", "cause", "suggestion", "source"))
    reason = read_progress(attempt)["critical"]
    assert str(reason).startswith("Critical: non-finite at step 5")
    assert not session.stop_requested()


def test_stop_is_asked_for_once_and_survives_recovery(attempt: Attempt, read_events: ReadEvents) -> None:
    give_checks(attempt, on_critical="stop")
    assert not train(attempt, steady(1, 4)).stop_requested()
    session = train(attempt, NAN_AT_5)
    assert session.stop_requested()
    assert [event.data["rule"] for event in of_kind(read_events(attempt), "stop_decided")] == ["non-finite"]


def test_ignore_records_and_does_nothing_else(
    attempt: Attempt, read_events: ReadEvents, read_progress: ReadProgress
) -> None:
    give_checks(attempt, on_critical="ignore")
    session = train(attempt, NAN_AT_5)
    assert of_kind(read_events(attempt), "finding")
    assert read_progress(attempt)["critical"] is None
    assert not session.stop_requested()


def test_thresholds_of_the_recipe_are_used(attempt: Attempt, read_events: ReadEvents) -> None:
    give_checks(attempt, thresholds={"non-finite": {"enabled": False}})
    train(attempt, NAN_AT_5)
    assert not of_kind(read_events(attempt), "finding")


@pytest.mark.parametrize("content", ["{", "[]", '{"on_critical": "explode", "thresholds": {}, "alerts": {}}'])
def test_unreadable_checks_cost_the_diagnosis_and_not_the_training(
    attempt: Attempt, read_events: ReadEvents, content: str
) -> None:
    run_layout(attempt).checks.write_text(content)
    session = train(attempt, NAN_AT_5)
    session.end(is_stopped=False)
    (failed,) = of_kind(read_events(attempt), "diagnosis_failed")
    assert "checks.json" in failed.data["error"]
    assert len(attempt.layout.metrics.read_bytes().splitlines()) == 1 + len(NAN_AT_5)


def test_values_that_are_no_numbers_cost_neither_the_step_nor_the_judgement(
    attempt: Attempt, read_events: ReadEvents
) -> None:
    session = TrainingSession(attempt)
    session.begin(total_steps=9, resumed_from=0, platform="cpu")
    session.step_ended(1, {"train/loss": [1], "note": "text", "nothing": None, "train/grad_norm": math.inf})
    assert [event.data["metric"] for event in of_kind(read_events(attempt), "finding")] == ["train/grad_norm"]
    assert not of_kind(read_events(attempt), "callback_failed")


def test_ending_before_the_last_step_is_a_finding(
    attempt: Attempt, read_events: ReadEvents, read_progress: ReadProgress
) -> None:
    session = train(attempt, steady(1, 7), total=20)
    session.end(is_stopped=False)
    assert [event.data["rule"] for event in of_kind(read_events(attempt), "finding")] == ["early-end"]
    assert "step 7" in str(read_progress(attempt)["critical"])


def test_events_of_other_processes_are_judged(attempt: Attempt, read_events: ReadEvents) -> None:
    session = train(attempt, steady(1, 2))
    with attempt.layout.events.open("ab") as file:
        file.write(b"not an event\n")
        file.write(encode_event(EventRecord(0, 1.0, "reward_exception", None, "worker-9", {"count": 64})))
        file.write(b'{"torn')
    session.step_ended(3, {"train/loss": 1.0})
    rules = [event.data["rule"] for event in read_events_leniently(attempt) if event.kind == "finding"]
    assert rules == ["aborted"]


def read_events_leniently(attempt: Attempt) -> list[EventRecord]:
    found: list[EventRecord] = []
    for line in attempt.layout.events.read_bytes().splitlines()[1:]:
        entry = json.loads(line) if line.startswith(b'{"seq') else None
        if entry is not None:
            found.append(EventRecord(entry["seq"], entry["time"], entry["kind"], entry["step"], data=entry["data"]))
    return found


def resumed(attempt: Attempt, before: Mapping[int, Mapping[str, float]]) -> Attempt:
    """Return attempt 2 after an attempt 1 that logged these steps."""
    lines = [encode_metrics(seq, step, 1000.0 + step, data) for seq, (step, data) in enumerate(before.items())]
    attempt.layout.metrics.write_bytes(b'{"verl_lab":1}\n' + b"".join(lines) + b'{"seq":9')
    folder = attempt.layout.folder.parent / "2"
    folder.mkdir()
    return Attempt(AttemptLayout(folder), run="run-a", number=2)


def test_resumed_run_is_judged_with_what_came_before_its_checkpoint(attempt: Attempt, read_events: ReadEvents) -> None:
    """A collapse is measured against the best score, which lies in the attempt before."""
    score = {step: {"critic/score/mean": min(1.0, step / 20)} for step in range(1, 31)}
    second = resumed(attempt, score)
    session = TrainingSession(second)
    session.begin(total_steps=60, resumed_from=25, platform="cpu")
    for step in range(26, 40):
        session.step_ended(step, {"critic/score/mean": 0.05})
    assert "reward-collapse" in {event.data["rule"] for event in of_kind(read_events(second), "finding")}


def test_what_was_wrong_at_the_checkpoint_and_still_is_marks_the_new_attempt(
    attempt: Attempt, read_events: ReadEvents, read_progress: ReadProgress
) -> None:
    second = resumed(attempt, {step: {"actor/kl_loss": 9.0} for step in range(1, 21)})
    session = TrainingSession(second)
    session.begin(total_steps=60, resumed_from=10, platform="cpu")
    session.step_ended(11, {"actor/kl_loss": 9.0})
    session.step_ended(12, {"actor/kl_loss": 9.0})
    assert [event.data["rule"] for event in of_kind(read_events(second), "finding")] == ["kl-explosion"]
    assert read_progress(second)["critical"]


def test_standstill_marks_the_run_until_it_goes_on(
    attempt: Attempt, read_events: ReadEvents, read_progress: ReadProgress, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "_LOOK_S", 0.01)
    give_checks(attempt, thresholds={"stall": {"least_minutes": 0.005, "factor": 1}})
    session = train(attempt, steady(1, 3))
    stalled = threading.Event()
    for _ in range(3000):
        if of_kind(read_events(attempt), "finding") and read_progress(attempt)["critical"]:
            break
        stalled.wait(0.01)
    assert [event.data["rule"] for event in of_kind(read_events(attempt), "finding")] == ["stall"]
    session.step_ended(4, {"train/loss": 1.9})
    assert read_progress(attempt)["critical"] is None
    session.end(is_stopped=True)


def test_standstill_has_the_supervisor_end_the_run_if_so_asked(
    attempt: Attempt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(judge, "_LOOK_S", 0.01)
    give_checks(attempt, on_critical="stop", thresholds={"stall": {"least_minutes": 0.005, "factor": 1}})
    session = train(attempt, steady(1, 3))
    pause = threading.Event()
    for _ in range(3000):
        if attempt.layout.stop_request.exists():
            break
        pause.wait(0.01)
    request = json.loads(attempt.layout.stop_request.read_text())
    assert request["mode"] == "graceful"
    assert request["grace_s"] > 0
    session.end(is_stopped=True)


class Webhook:
    """A real web server that keeps what is posted to it."""

    def __init__(self, status: int = 200) -> None:
        heard: list[dict[str, Any]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002, ARG002  named by the base class
                return

        self.heard = heard
        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}/hook?token=SECRET"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Webhook]]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    made: list[Webhook] = []

    def make(status: int = 200) -> Webhook:
        made.append(Webhook(status))
        return made[-1]

    yield make
    for one in made:
        one.server.shutdown()
        one.server.server_close()


KEEP = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text(sys.stdin.read())"


def test_grave_finding_reaches_the_command_and_the_webhook(
    attempt: Attempt, read_events: ReadEvents, webhook: Callable[..., Webhook], tmp_path: Any
) -> None:
    hook, kept = webhook(), tmp_path / "kept; $(touch no) .json"
    give_checks(attempt, alerts={"command": [sys.executable, "-c", KEEP, str(kept)], "webhook": hook.address})
    train(attempt, NAN_AT_5).end(is_stopped=True)
    (posted,) = hook.heard
    assert posted == json.loads(kept.read_text())
    assert posted["run"] == "run-a"
    assert posted["finding"]["rule"] == "non-finite"
    assert "non-finite" in posted["text"]
    sent = {event.data["target"] for event in of_kind(read_events(attempt), "alert_sent")}
    assert sent == {"command", "webhook"}


def test_warnings_alert_nobody(attempt: Attempt, read_events: ReadEvents, webhook: Callable[..., Webhook]) -> None:
    hook = webhook()
    give_checks(attempt, alerts={"command": [], "webhook": hook.address})
    session = TrainingSession(attempt)
    session.begin(total_steps=9, resumed_from=0, platform="cpu")
    for step in range(1, 8):
        session.step_ended(step, {"actor/kl_loss": 1.1})
    session.end(is_stopped=True)
    assert {event.data["severity"] for event in of_kind(read_events(attempt), "finding")} <= {"info", "warning"}
    assert of_kind(read_events(attempt), "finding")
    assert hook.heard == []


def test_alerts_that_fail_are_recorded_without_the_address_and_training_goes_on(
    attempt: Attempt, read_events: ReadEvents, webhook: Callable[..., Webhook]
) -> None:
    hook = webhook(status=503)
    failing = [sys.executable, "-c", "import sys; sys.stderr.write('no pager'); sys.exit(3)"]
    give_checks(attempt, alerts={"command": failing, "webhook": hook.address})
    train(attempt, NAN_AT_5).end(is_stopped=True)
    failed = {event.data["target"]: event.data["error"] for event in of_kind(read_events(attempt), "alert_failed")}
    assert "503" in failed["webhook"]
    assert "exit code 3: no pager" in failed["command"]
    assert b"SECRET" not in attempt.layout.events.read_bytes()
    assert len(attempt.layout.metrics.read_bytes().splitlines()) == 1 + len(NAN_AT_5)


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/SECRET", "file:///etc/hostname?SECRET", "http://[SECRET"])
def test_address_that_cannot_be_posted_to_is_recorded(
    attempt: Attempt, read_events: ReadEvents, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    give_checks(attempt, alerts={"command": ["/no/such/program"], "webhook": address})
    train(attempt, NAN_AT_5).end(is_stopped=True)
    failed = {event.data["target"] for event in of_kind(read_events(attempt), "alert_failed")}
    assert failed == {"command", "webhook"}
    assert b"SECRET" not in attempt.layout.events.read_bytes()


def test_derived_metrics_join_the_step_and_a_failing_one_is_recorded(attempt: Attempt, read_events: ReadEvents) -> None:
    session = TrainingSession(attempt)
    session.begin(total_steps=9, resumed_from=0, platform="cpu")
    session.derive(lambda: {"samples/dead_groups": 0.25})
    session.step_ended(1, {"train/loss": 1.0})
    for _ in range(4):
        session.derive(lambda: {"samples/dead_groups": 1 / 0})
    session.step_ended(2, {"train/loss": 1.0})
    lines = [json.loads(line)["data"] for line in attempt.layout.metrics.read_bytes().splitlines()[1:]]
    assert lines == [{"train/loss": 1.0, "samples/dead_groups": 0.25}, {"train/loss": 1.0}]
    assert [e.data["count"] for e in of_kind(read_events(attempt), "derivation_failed")] == [1, 2, 4]
