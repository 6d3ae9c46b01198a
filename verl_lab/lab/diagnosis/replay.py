"""A run shown again as it was, step by step."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from verl_lab.diagnostics.series import count_up_to
from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.widgets.source import PanelHeader, Playback, SampleSheet

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from verl_lab.domain.finding import Finding, Health
    from verl_lab.lab.view import RunView
    from verl_lab.widgets.source import Curves

    Points = tuple[NDArray[np.int64], NDArray[np.float64]]
    Moments = tuple[NDArray[np.float64], NDArray[np.float64]]

SLOWEST, FASTEST = 0.1, 100.0
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.05, 0.5
# A run that stood still over night does not stand still so long when it is shown again.
_LONGEST_GAP_STEPS = 10


class Replay:
    """A finished or running run as the panel's source, as it stood at the step that is shown.

    Curves, findings, health and samples are those of that step: nothing is known of what came later.

    Parameters
    ----------
    view
        The run.
    speed
        How many times faster than the run was, from 0.1 to 100. Where the log has no times, a step
        takes a second at 1.
    start, end
        First and last step; by default all that are there now.

    Raises
    ------
    InvalidInputError
        A number is out of range.
    NotFoundError
        The run has logged nothing yet.
    """

    def __init__(self, view: RunView, *, speed: float = 1.0, start: int | None = None, end: int | None = None) -> None:
        self._view = view
        steps, times = view.pulse()
        self._first, self._last = _range(steps, start, end)
        self._is_timed = bool(np.isfinite(times).any())
        self._steps = steps[(steps >= self._first) & (steps <= self._last)]
        self._at = _seconds(times[(steps >= self._first) & (steps <= self._last)])
        self._begun = {name: int(series[0][0]) for name in view.metric_names() if (series := view.series(name))[0].size}
        self._speed = _checked(speed)
        self._moving = threading.Condition()
        self._place = 0
        self._is_playing = False
        self._thread: threading.Thread | None = None
        self._listeners: list[Callable[[], None]] = []

    @property
    def position(self) -> int:
        """The newest step that is shown."""
        return int(self._steps[self._place])

    def play(self) -> None:
        """Move by itself; at the end, from the beginning again."""
        with self._moving:
            if self._place == len(self._steps) - 1:
                self._place = 0
            self._is_playing = True
            if self._thread is None:
                self._thread = threading.Thread(target=self._move, name="verl-lab replay", daemon=True)
                self._thread.start()
            self._moving.notify_all()
        self._tell()

    def pause(self) -> None:
        """Stand still."""
        self._go(None)

    def seek(self, step: int) -> None:
        """Show the run as it stood at ``step``: at the last one logged by then."""
        self._go(count_up_to(self._steps, step) - 1, stands=False)

    def advance(self, by: int) -> None:
        """Go on, or back, by so many logged steps, and stand still."""
        self._go(self._place + by)

    def set_speed(self, speed: float) -> None:
        """Play so many times faster than the run itself was."""
        with self._moving:
            self._speed = _checked(speed)
            self._moving.notify_all()
        self._tell()

    def subscribe(self, changed: Callable[[], None]) -> Callable[[], None]:
        """Call ``changed`` after each move; what is returned ends that, and the last one ends the moving."""
        self._listeners.append(changed)

        def end() -> None:
            if changed in self._listeners:
                self._listeners.remove(changed)
            if not self._listeners:
                self._end()

        return end

    def header(self) -> PanelHeader:
        """Return where the run stood."""
        header = self._view.header()
        playback = Playback(
            int(self._steps[0]), int(self._steps[-1]), self.position, self._speed, self._is_playing, self._is_timed
        )
        return replace(
            header,
            step=self.position,
            phase=None,
            elapsed_s=float(self._at[self._place]) if self._is_timed else None,
            remaining_s=None,
            can_stop=False,
            can_resume=False,
            playback=playback,
        )

    def metric_names(self) -> list[str]:
        """Return the metrics that had been logged."""
        position = self.position
        return [name for name, first in self._begun.items() if first <= position]

    def series(self, name: str) -> Points:
        """Return one metric up to the step shown."""
        return self._past(self._view.series(name))

    def moments(self, name: str) -> Moments | None:
        """Return what was measured of the host up to the step shown; None for a metric that has steps."""
        found, times = self._view.moments(name), self.clock()[1]
        if found is None:
            return None
        end = int(np.searchsorted(found[0], float(times[-1]), side="right")) if times.size else 0
        return found[0][:end], found[1][:end]

    def clock(self) -> Points:
        """Return when steps were logged, up to the one shown."""
        return self._past(self._view.clock())

    def findings(self, step: int | None = None) -> Sequence[Finding]:
        """Return the findings there were."""
        return self._view.findings(self.position if step is None else step)

    def health(self, step: int | None = None) -> Health:
        """Return the health score as it was."""
        return self._view.health(self.position if step is None else step)

    def not_applicable(self) -> Mapping[str, str]:
        """Return the rules that say nothing about this run, and why."""
        return self._view.not_applicable()

    def samples(self, step: int | None, kind: str) -> SampleSheet:
        """Return the samples of a step that had been dumped."""
        known = self._view.samples(None, kind).steps
        steps = {name: [one for one in all_ if one <= self.position] for name, all_ in known.items()}
        if not steps[kind]:
            raise NotFoundError(f"At step {self.position} the run had dumped no {kind} samples.")
        sheet = self._view.samples(steps[kind][-1] if step is None else min(step, steps[kind][-1]), kind)
        return replace(sheet, steps=steps)

    def log(self, tail: int) -> str:
        """Return the end of the log; it is not known what of it was there at which step."""
        return self._view.log(tail)

    def config(self) -> Mapping[str, Any]:
        """Return verl's resolved configuration."""
        return self._view.config()

    def others(self) -> Mapping[str, str]:
        """Return what can be laid over the curves."""
        return self._view.others()

    def other(self, other_id: str) -> Curves:
        """Return the curves of another run, whole."""
        return self._view.other(other_id)

    def sync(self) -> None:
        """Refuse: a replay shows what there was when it was opened."""
        raise InvalidInputError("A replay is not kept up to date.", "%verl_watch RUN shows the run as it is now.")

    def diagnose(self) -> None:
        """Judge the run anew."""
        self._view.diagnose()

    def stop(self) -> None:
        """Refuse: this is the past."""
        raise InvalidInputError("A replay cannot be stopped.", "%verl_stop RUN stops the run.")

    def resume(self) -> None:
        """Refuse: this is the past."""
        raise InvalidInputError("A replay cannot be resumed.", "%verl_resume RUN goes on with the run.")

    def _past(self, points: Points) -> Points:
        end = count_up_to(points[0], self.position)
        return points[0][:end], points[1][:end]

    def _go(self, place: int | None, *, stands: bool = True) -> None:
        with self._moving:
            if place is not None:
                self._place = min(max(place, 0), len(self._steps) - 1)
            if stands:
                self._is_playing = False
            self._moving.notify_all()
        self._tell()

    def _move(self) -> None:
        """Play in a thread: the run's own time passes, faster or slower, until someone pauses or it ends."""
        me = threading.current_thread()
        place, at, before = self._place, float(self._at[self._place]), time.monotonic()
        wait_s = 0.0
        while True:
            with self._moving:
                if self._thread is not me:
                    return
                now = time.monotonic()
                # Someone may have moved it meanwhile.
                at = at + (now - before) * self._speed if self._place == place else float(self._at[self._place])
                before = now
                shown = self._place
                if self._is_playing:
                    self._place = max(shown, int(np.searchsorted(self._at, at, side="right")) - 1)
                    self._is_playing = self._place < len(self._steps) - 1
                place = self._place
                is_over = not self._is_playing
                if is_over:
                    self._thread = None
                else:
                    wait_s = (float(self._at[place + 1]) - at) / self._speed
            if place != shown or is_over:
                self._tell()
            with self._moving:
                if self._is_playing and not is_over:
                    self._moving.wait(min(max(wait_s, _SHORTEST_WAIT_S), _LONGEST_WAIT_S))

    def _end(self) -> None:
        with self._moving:
            self._is_playing = False
            thread = self._thread
            self._moving.notify_all()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _tell(self) -> None:
        for changed in list(self._listeners):
            changed()


def _range(steps: NDArray[np.int64], start: int | None, end: int | None) -> tuple[int, int]:
    if not steps.size:
        raise NotFoundError("The run has logged nothing yet, so there is nothing to replay.")
    least, most = int(steps[0]), int(steps[-1])
    first, last = least if start is None else start, most if end is None else end
    for name, step in (("start", first), ("end", last)):
        if not least <= step <= most:
            raise InvalidInputError(f"{name}: the run has no step {step}.", f"It logged steps {least} to {most}.")
    if not np.any((steps >= first) & (steps <= last)):
        raise InvalidInputError(f"start: {first} comes after the end, {last}.", "Give a start before the end.")
    return first, last


def _seconds(times: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return when each step comes, in seconds from the first: by its record, else one a second."""
    known = np.isfinite(times)
    if not known.any():
        return np.arange(len(times), dtype=np.float64)
    filled = np.interp(np.arange(len(times)), np.flatnonzero(known), np.maximum.accumulate(times[known]))
    gaps = np.diff(filled)
    usual = float(np.median(gaps[gaps > 0])) if bool((gaps > 0).any()) else 1.0
    return np.concatenate([[0.0], np.cumsum(np.minimum(gaps, _LONGEST_GAP_STEPS * usual))])


def _checked(speed: float) -> float:
    if not SLOWEST <= speed <= FASTEST:
        raise InvalidInputError(f"speed: {speed:g} is out of range.", f"It lies between {SLOWEST} and {FASTEST:g}.")
    return float(speed)
