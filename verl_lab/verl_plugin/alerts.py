"""Tells people of grave findings: a command of theirs, and a web address. Training waits for neither."""

from __future__ import annotations

import queue
import subprocess
import threading
import time
import urllib.error
import urllib.request
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.domain.finding import Finding
    from verl_lab.verl_plugin.attempt import Attempt
    from verl_lab.verl_plugin.checks import Checks
    from verl_lab.verl_plugin.writer import EventLog

_COMMAND_S = 30.0
_WEBHOOK_S = 10.0
_MOST_WAITING = 100
_LONGEST_SAYING = 300


class Alerts:
    """Sends findings from a thread of its own; what goes wrong is recorded as events ``alert_failed``.

    Parameters
    ----------
    attempt
        What the messages say they are about.
    checks
        Whom to tell.
    events
        Where ``alert_sent`` and ``alert_failed`` are recorded.
    """

    def __init__(self, attempt: Attempt, checks: Checks, events: EventLog) -> None:
        self._attempt = attempt
        self._events = events
        self._targets: dict[str, Callable[[bytes], None]] = {}
        if checks.command:
            self._targets["command"] = lambda message: _run(checks.command, message)
        if checks.webhook is not None:
            address = checks.webhook
            self._targets["webhook"] = lambda message: _post(address, message)
        self._waiting: queue.Queue[tuple[str, bytes] | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None

    def send(self, finding: Finding) -> None:
        """Tell everyone of a finding, soon; returns at once."""
        if not self._targets:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="verl-lab-alerts", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait((finding.rule, self._message(finding)))
        except queue.Full:
            self._events.emit("alert_failed", rule=finding.rule, error=f"{_MOST_WAITING} alerts wait already")

    def close(self, timeout_s: float = 2 * _WEBHOOK_S) -> None:
        """Wait until all is sent, but no longer than this."""
        if self._thread is None:
            return
        until = time.monotonic() + timeout_s
        try:
            self._waiting.put(None, timeout=timeout_s)
        except queue.Full:
            return
        self._thread.join(max(0.0, until - time.monotonic()))
        self._thread = None

    def _work(self) -> None:
        while (waiting := self._waiting.get()) is not None:
            rule, message = waiting
            for target, tell in self._targets.items():
                try:
                    tell(message)
                except Exception as error:  # noqa: BLE001  nothing of it may end the thread, let alone training
                    self._events.emit("alert_failed", target=target, rule=rule, error=_why(error))
                else:
                    self._events.emit("alert_sent", target=target, rule=rule)

    def _message(self, finding: Finding) -> bytes:
        content: dict[str, Any] = {
            # What chat services show of a message.
            "text": f"{self._attempt.run}: {finding.severity} {finding.rule} at step {finding.first_step}. "
            f"{finding.evidence}",
            "run": self._attempt.run,
            "attempt": self._attempt.number,
            "finding": asdict(finding),
        }
        return orjson.dumps(content)


class _RefusedError(Exception):
    """What was told did not take it."""


def _run(command: tuple[str, ...], message: bytes) -> None:
    done = subprocess.run(
        command, input=message, timeout=_COMMAND_S, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip()[-_LONGEST_SAYING:]
        raise _RefusedError(f"it ended with exit code {done.returncode}{': ' if said else ''}{said}")


def _post(address: str, message: bytes) -> None:
    opener = urllib.request.OpenerDirector()
    # Not the usual opener: that one would also open files and FTP.
    for handler in (
        urllib.request.ProxyHandler,
        urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler,
        urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPErrorProcessor,
    ):
        opener.add_handler(handler())
    request = urllib.request.Request(  # noqa: S310  the opener knows http and https alone
        address, data=message, headers={"Content-Type": "application/json"}, method="POST"
    )
    answer: Any = opener.open(request, timeout=_WEBHOOK_S)
    if answer is None:
        raise _RefusedError("it is no http:// or https:// address")
    answer.close()


def _why(error: Exception) -> str:
    """Say what went wrong without the address, which may hold a token."""
    match error:
        case urllib.error.HTTPError():
            return f"the answer was {error.code} {error.reason}"
        case urllib.error.URLError():
            return f"it cannot be reached: {error.reason}"
        case subprocess.TimeoutExpired():
            return f"it did not end within {error.timeout:g} s"
        case _RefusedError() | OSError():
            return str(error) or type(error).__name__
        case _:
            return type(error).__name__
