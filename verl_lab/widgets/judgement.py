"""What is known of a run's health at one moment."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verl_lab.domain.finding import Finding, Health
from verl_lab.errors import VerlLabError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verl_lab.widgets.source import PanelSource

_PATIENCE_S = 0.05

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judgement:
    """Findings, health and the rules that say nothing, as a source gave them."""

    findings: Sequence[Finding] = ()
    health: Health = field(default_factory=lambda: Health(None, reason="The run has not been judged yet."))
    not_applicable: Mapping[str, str] = field(default_factory=dict[str, str])


def judge(source: PanelSource) -> Judgement:
    """Ask a source for its judgement; one that cannot judge still has curves to show, and says why."""
    try:
        return Judgement(source.findings(), source.health(), source.not_applicable())
    except VerlLabError as error:
        return Judgement(health=Health(None, reason=error.message))


class Judging:
    """Judges a run beside the drawing of it: curves do not wait for a judgement that takes long.

    Parameters
    ----------
    source
        The run.
    changed
        Called, from a thread of this object's own, when a judgement that was not waited for says something new.
    """

    def __init__(self, source: PanelSource, changed: Callable[[], None]) -> None:
        self._source = source
        self._changed = changed
        self._turn = threading.Condition()
        self._thread: threading.Thread | None = None
        self._latest: Judgement = Judgement()
        self._asked = self._done = 0
        self._is_behind = self._is_ended = False

    def latest(self) -> Judgement:
        """Return the judgement of this moment if it is a matter of milliseconds, else the one before it."""
        with self._turn:
            self._asked += 1
            mine = self._asked
            if self._thread is None and not self._is_ended:
                self._thread = threading.Thread(target=self._judge, name="verl-lab panel judging", daemon=True)
                self._thread.start()
            self._is_behind = not self._turn.wait_for(lambda: self._done >= mine, _PATIENCE_S)
            return self._latest

    def end(self) -> None:
        """Wait for the judgement under way; no other follows."""
        with self._turn:
            self._is_ended = True
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _judge(self) -> None:
        while True:
            with self._turn:
                if self._done == self._asked or self._is_ended:
                    self._thread = None
                    return
                asked = self._asked
            try:
                found = judge(self._source)
            except Exception as error:  # noqa: BLE001  a panel without a judgement still has curves
                _log.exception("The run could not be judged.")
                found = Judgement(health=Health(None, reason=f"The run could not be judged: {error!r}"))
            with self._turn:
                is_news = self._is_behind and found != self._latest
                self._latest, self._done = found, asked
                self._turn.notify_all()
            if is_news:
                self._changed()
