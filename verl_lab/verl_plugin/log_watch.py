"""Turns trouble that verl only logs into events, and keeps one flood of warnings short.

Both work through ``logging`` in the process where verl logs, so they are the same on CPU and GPU.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING

from verl_lab.verl_plugin.callbacks import is_worth_recording

if TYPE_CHECKING:
    from verl_lab.verl_plugin.writer import EventLog

# verl/trainer/ppo/v1/agent_loop_tq.py, AgentLoopWorkerTQ._run_prompt: a rollout or its reward failed;
# training goes on without it and no metric tells.
_AGENT_LOOP_LOGGER = "verl.trainer.ppo.v1.agent_loop_tq"
# verl/utils/tokenizer/continuous_token_wiring.py: one warning for every single response.
_TOKEN_BUILDER_LOGGER = "verl.utils.tokenizer.continuous_token_wiring"
# verl/experimental/reward_loop/reward_loop.py: the class whose name Ray puts into its errors.
_REWARD_WORKER = "RewardLoopWorker"

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST_TRACEBACK = 8000


class FailureEvents(logging.Handler):
    """Records the 1st, 2nd, 4th, 8th, … logged failure of a reward function or of a rollout."""

    def __init__(self, events: EventLog) -> None:
        super().__init__(logging.ERROR)
        self._events = events
        self._counts: dict[str, int] = {}

    def emit(self, record: logging.LogRecord) -> None:
        """Record one failure, if it is due."""
        error = record.exc_info[1] if record.exc_info else None
        if error is None:
            return
        text = _COLOUR.sub("", str(error))
        kind = "reward_exception" if _REWARD_WORKER in text else "rollout_exception"
        count = self._counts[kind] = self._counts.get(kind, 0) + 1
        if is_worth_recording(count):
            # Ray quotes the remote traceback; its last line is the error that was raised there.
            lines = text.strip().splitlines() or [type(error).__name__]
            self._events.emit(kind, error=lines[-1], traceback=text[-_LONGEST_TRACEBACK:], count=count)


class FirstOnly(logging.Filter):
    """Lets the first record of each message pass, and none of its repetitions."""

    def __init__(self) -> None:
        super().__init__()
        self._seen: set[object] = set()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether this message is new."""
        is_new = record.msg not in self._seen
        self._seen.add(record.msg)
        return is_new


def install(events: EventLog) -> None:
    """Watch verl's loggers in this process."""
    logging.getLogger(_AGENT_LOOP_LOGGER).addHandler(FailureEvents(events))
    logging.getLogger(_TOKEN_BUILDER_LOGGER).addFilter(FirstOnly())
