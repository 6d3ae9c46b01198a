"""Blocking until a run is over, with one line that says how far it is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from IPython.display import display  # pyright: ignore[reportUnknownVariableType]

from verl_lab.domain.run import RunState, Status
from verl_lab.magics.line import MagicError
from verl_lab.widgets.wording import duration

if TYPE_CHECKING:
    from verl_lab.lab import Run

_POLL_S = 0.5
_WIDTH = 24


def wait_with_progress(run: Run) -> None:
    """Block until ``run`` is over; an interrupt ends the waiting, not the run.

    Raises
    ------
    MagicError
        If the run fails or is lost, so that a notebook run headless stops there.
    """
    handle = display(Line(_say(run.status())), display_id=True)
    shown = ""
    try:
        while True:
            status = run.status()
            line = _say(status)
            if handle is not None and line != shown:
                handle.update(Line(line))
                shown = line
            if status.state.is_over:
                break
            time.sleep(_POLL_S)
    except KeyboardInterrupt:
        raise MagicError(f"Not waiting any more; {run.id} goes on. %verl_watch {run.id} shows it.") from None
    run.wait()
    if status.state in (RunState.FAILED, RunState.LOST):
        why = status.reason or "no reason recorded"
        raise MagicError(f"{run.id} {status.state}: {why}\n%verl_logs {run.id} tells more.")


class Line:
    """A line of text that a display handle can replace."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _say(status: Status) -> str:
    end = status.ended if status.ended is not None else time.time()
    gone = f" · {duration(end - status.started)}" if status.started is not None else ""
    if status.step is not None and status.total:
        done = round(_WIDTH * min(1.0, status.step / status.total))
        bar = "█" * done + "░" * (_WIDTH - done)
        return f"{bar} {status.state} · step {status.step} of {status.total}{gone}"
    phase = f": {status.phase}" if status.phase else ""
    return f"{'░' * _WIDTH} {status.state}{phase}{gone}"
