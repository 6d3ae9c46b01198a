"""What verl only logs: failures become events, one flood of warnings becomes one line."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from verl_lab.verl_plugin import log_watch
from verl_lab.verl_plugin.writer import EventLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from verl_lab.domain.wire import EventRecord
    from verl_lab.verl_plugin.attempt import Attempt

AGENT_LOOP = logging.getLogger("verl.trainer.ppo.v1.agent_loop_tq")
TOKEN_BUILDER = logging.getLogger("verl.utils.tokenizer.continuous_token_wiring")

# As Ray words the error of a remote method.
REWARD_ERROR = (
    "\x1b[36mray::RewardLoopWorker.compute_score()\x1b[39m (pid=7, ip=127.0.0.1)\n"
    '  File "reward.py", line 5, in compute_score\n'
    "ValueError: no digits in the answer"
)


@pytest.fixture
def watched(attempt: Attempt) -> Iterator[Attempt]:
    before = list(AGENT_LOOP.handlers), list(TOKEN_BUILDER.filters)
    log_watch.install(EventLog(attempt, "worker-1"))
    yield attempt
    AGENT_LOOP.handlers, TOKEN_BUILDER.filters = before


def fail(text: str) -> None:
    """Log an error the way verl's agent loop does."""
    error = RuntimeError(text)
    AGENT_LOOP.error("Error in _run_prompt for uid=1", exc_info=(type(error), error, None))


def test_reward_exceptions_become_events_that_do_not_flood(
    watched: Attempt, read_events: Callable[[Attempt], list[EventRecord]]
) -> None:
    for _ in range(100):
        fail(REWARD_ERROR)
    events = read_events(watched)
    assert {event.kind for event in events} == {"reward_exception"}
    assert [event.data["count"] for event in events] == [1, 2, 4, 8, 16, 32, 64]
    assert events[0].data["error"] == "ValueError: no digits in the answer"
    assert "\x1b" not in events[0].data["traceback"]


def test_failed_rollout_is_told_from_a_failed_reward(
    watched: Attempt, read_events: Callable[[Attempt], list[EventRecord]]
) -> None:
    fail("ray::SamplingServer.generate()\nValueError: text alone")
    (event,) = read_events(watched)
    assert event.kind == "rollout_exception"


def test_repeated_warning_passes_once(watched: Attempt, caplog: pytest.LogCaptureFixture) -> None:
    for family in ("a", "b", "c"):
        TOKEN_BUILDER.warning("No model-specific Continuous Token builder is registered for %r", family)
    TOKEN_BUILDER.warning("Something else")
    assert [record.getMessage() for record in caplog.records] == [
        "No model-specific Continuous Token builder is registered for 'a'",
        "Something else",
    ]
