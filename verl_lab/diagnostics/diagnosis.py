"""The diagnosis of one run: fed at once or step by step, asked at any step."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from verl_lab.diagnostics.applicability import looks_at, why_not_applicable
from verl_lab.diagnostics.facts import RunFacts
from verl_lab.diagnostics.health import MEMORY_STEPS, score
from verl_lab.diagnostics.rules import RULES
from verl_lab.diagnostics.series import Series, count_up_to, masked
from verl_lab.diagnostics.thresholds import resolve_thresholds
from verl_lab.diagnostics.watch import EVENTS, Watch
from verl_lab.diagnostics.wording import finding_of_episode, finding_of_standing
from verl_lab.domain.finding import Finding, Health
from verl_lab.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from verl_lab.diagnostics.samples import SampleSummary
    from verl_lab.domain.run import Status
    from verl_lab.domain.wire import EventRecord

    Points = tuple[NDArray[np.int64], NDArray[np.float64]]


class Diagnosis:
    """What the rules say about one run, as it grows.

    Feed it with ``add`` (one step) or ``extend`` (any number); both go through the same code and end
    in the same findings. It is not safe for threads: one thread feeds and asks it.

    Parameters
    ----------
    config
        verl's resolved configuration as nested mappings; without it some rules do not apply.
    thresholds
        Changes to the rules' parameters, by rule id; see ``resolve_thresholds``.
    """

    def __init__(self, *, config: Mapping[str, Any] | None = None, thresholds: Mapping[str, Any] | None = None) -> None:
        self._facts = RunFacts(config)
        self._values = resolve_thresholds(thresholds)
        self._rules = [(rule, values) for rule in RULES if (values := self._values[rule.id]) is not None]
        self._watches: dict[str, list[Watch]] = {}  # by metric or event
        self._broken: set[str] = set()  # metrics with a value that was not finite
        self._early: list[EventRecord] = []  # events from before the first step

    def add(
        self,
        step: int,
        values: Mapping[str, float],
        *,
        time: float | None = None,
        samples: SampleSummary | None = None,
        events: Iterable[EventRecord] = (),
    ) -> tuple[Finding, ...]:
        """Take in one more step, or more metrics of the last one, and return what is new or graver.

        Parameters
        ----------
        step, values
            What the trainer logged; NaN and infinity are told as they are.
        time
            Unix time of the record, in seconds.
        samples
            Summary of the step's rollout samples; it comes no later than the step's metrics.
        events
            What happened since the last call.

        Raises
        ------
        InvalidInputError
            The step lies before the last one: after a resume, diagnose the run anew.
        """
        last = self._facts.clock.last_step
        if last is not None and step < last:
            raise InvalidInputError(
                f"step: {step} comes after {last} was given.", "After a resume, diagnose the masked series anew."
            )
        if step != last:
            self._facts.clock.append(step, math.nan if time is None else time)
        if samples is not None:
            values = {**values, **samples.as_metrics()}
        events = tuple(events)
        self._learn_plan(events)
        touched = [name for name, value in values.items() if self._series(name, step, value)]
        raised = self._advance(touched)
        raised += self._note_events(events)
        return tuple(self._newest(watch) for watch in raised if not self._is_repeated(watch))

    def extend(
        self,
        series: Mapping[str, Points],
        *,
        times: Points | None = None,
        samples: Mapping[int, SampleSummary] | None = None,
        events: Iterable[EventRecord] = (),
    ) -> None:
        """Take in any number of further points.

        Parameters
        ----------
        series
            Steps and values by metric, each shape ``(n,)``. Where steps go back, as in a log with a
            resume, what was later is left out; points up to the last one known are left out too.
        times
            Steps and unix times of the records.
        samples, events
            As for ``add``, the summaries by step.

        Raises
        ------
        InvalidInputError
            A metric has more steps than values, or fewer.
        """
        events = tuple(events)
        self._learn_plan(events)
        points = {name: _checked(name, one) for name, one in series.items()}
        if samples:
            points.update(_as_points(samples))
        self._extend_clock([steps for steps, _ in points.values()], None if times is None else masked(*times))
        touched: list[str] = []
        for name, (steps, values) in points.items():
            known = self._known(name)
            new = 0 if known.last_step is None else count_up_to(steps, known.last_step)
            known.extend(steps[new:], values[new:])
            touched.append(name)
        self._advance(touched)
        self._note_events(events)

    def make_room(self) -> None:
        """Get ready for further steps: the first one after ``extend`` is then as cheap as those that follow."""
        for series in (self._facts.clock, *self._facts.series.values()):
            series.make_room()

    def tick(self, now: float) -> tuple[Finding, ...]:
        """Say what the time is (unix time, seconds), and return what that alone shows: a stall."""
        self._facts.now = now
        return tuple(f for f in self._standing() if f.rule == "stall")

    def end(self, status: Status) -> tuple[Finding, ...]:
        """Say how the run ended, and return what that shows: an early end."""
        self._facts.ended = status
        return tuple(f for f in self._standing() if f.rule == "early-end")

    def findings(self, step: int | None = None) -> tuple[Finding, ...]:
        """Return the findings, active ones first, then by severity and age.

        Parameters
        ----------
        step
            Tell them as they stood at this step; None for now.
        """
        return tuple(self._found(step, since=None))

    def health(self, step: int | None = None) -> Health:
        """Return the score from 0 to 100 with what it is made of, as it stood at ``step`` (None: now)."""
        length = self._facts.clock.count_at(step)
        if length == 0:
            return Health(None, reason="The run has logged nothing yet.")
        at = int(self._facts.clock.steps[length - 1])
        return score(self._found(step, since=at - MEMORY_STEPS), at)

    def not_applicable(self) -> dict[str, str]:
        """Return the rules that say nothing about this run, each with the reason."""
        reasons: dict[str, str] = {}
        for rule in RULES:
            values = self._values[rule.id]
            if values is None:
                reasons[rule.id] = "it is switched off"
                continue
            watched = [metric for metric in self._watches if looks_at(rule, metric)]
            reason = why_not_applicable(rule, values, self._facts, watched)
            if reason is not None:
                reasons[rule.id] = reason
        return reasons

    def _found(self, step: int | None, since: int | None) -> list[Finding]:
        """Return the findings as of ``step``, sorted; with ``since``, only those active or cleared after it."""
        found: list[Finding] = []
        for watches in self._watches.values():
            for watch in watches:
                if watch.track.is_empty or self._is_repeated(watch):
                    continue
                series = watch.series
                length = series.count_at(step)
                # A breach is over some points later: what clears after `since` may have breached before.
                first = 0 if since is None else max(0, series.count_at(since) - 1 - watch.rule.clears_after)
                found += [finding_of_episode(watch, episode) for episode in watch.track.episodes(length, first)]
        found += [f for f in self._standing() if step is None or f.first_step <= step]
        return sorted(found, key=lambda f: (not f.is_active, -f.severity.rank, f.first_step, f.rule, f.metric))

    def _known(self, name: str) -> Series:
        series = self._facts.series.get(name)
        if series is None:
            series = self._facts.series[name] = Series()
            self._watch(name, raw=False)
        return series

    def _series(self, name: str, step: int, value: float) -> bool:
        """Append one value; return whether it is new: of two values of a step the first counts."""
        series = self._known(name)
        if series.last_step is not None and step <= series.last_step:
            return False
        series.append(step, float(value))
        return True

    def _watch(self, name: str, *, raw: bool) -> None:
        watches = self._watches.setdefault(name, [])
        watches += [
            Watch(rule, values, name, self._facts)
            for rule, values in self._rules
            if rule.is_about_raw == raw and looks_at(rule, name)
        ]

    def _advance(self, names: Iterable[str]) -> list[Watch]:
        raised: list[Watch] = []
        for name in names:
            if name not in self._broken and self._facts.series[name].bad:
                self._broken.add(name)
                self._watch(name, raw=True)
            # Absurd values may overflow: what comes out infinite or NaN is judged like any other.
            with np.errstate(over="ignore", invalid="ignore"):
                raised += [watch for watch in self._watches[name] if watch.advance()]
        if self._early and self._facts.clock.size:
            early, self._early = self._early, []
            raised += self._note_events(early)
        return raised

    def _learn_plan(self, events: Iterable[EventRecord]) -> None:
        """Read what the trainer said when it began: rules need it before they judge the first step."""
        for event in events:
            if event.kind == "train_begin":
                total, platform = event.data.get("total_steps"), event.data.get("platform")
                self._facts.planned_steps = total if isinstance(total, int) else self._facts.planned_steps
                self._facts.platform = platform if isinstance(platform, str) else self._facts.platform

    def _note_events(self, events: Iterable[EventRecord]) -> list[Watch]:
        raised: list[Watch] = []
        for event in events:
            facts, name = self._facts, EVENTS + event.kind
            if event.time is not None:
                facts.last_event = max(event.time, facts.last_event or event.time)
            if not facts.clock.size:
                self._early.append(event)
                continue
            if name not in self._watches:
                self._watch(name, raw=False)
                self._watch(name, raw=True)
            count = event.data.get("count", 1)
            position = self._position_of(event)
            raised += [watch for watch in self._watches[name] if watch.note(position, float(count))]
        return raised

    def _position_of(self, event: EventRecord) -> int:
        """Return the position among the run's steps at which an event happened."""
        clock = self._facts.clock
        if event.step is not None:
            return max(0, clock.count_at(event.step) - 1)
        if event.time is not None and clock.finite.size:
            # Times may jump; what was recorded by then is the best that is known.
            before = int(np.searchsorted(clock.finite.values, event.time, side="right"))
            return max(0, clock.count_at(int(clock.finite.steps[max(0, before - 1)])) - 1)
        return clock.size - 1

    def _extend_clock(self, steps: list[NDArray[np.int64]], times: Points | None) -> None:
        clock = self._facts.clock
        every = _union([*steps, *([] if times is None else [times[0]])], clock.last_step)
        at = np.full(len(every), np.nan)
        if times is not None and len(times[0]):
            position = np.minimum(np.searchsorted(times[0], every), len(times[0]) - 1)
            at = np.where(times[0][position] == every, times[1][position], np.nan)
        clock.extend(every, at)

    def _standing(self) -> list[Finding]:
        return [
            finding_of_standing(rule, standing, self._facts)
            for rule, values in self._rules
            if rule.standing is not None
            for standing in rule.standing(self._facts, values)
        ]

    def _newest(self, watch: Watch) -> Finding:
        return finding_of_episode(watch, watch.track.newest(watch.series.size))

    def _is_repeated(self, watch: Watch) -> bool:
        """Return whether this tells of events that a metric which is not finite already shows."""
        return watch.metric == f"{EVENTS}non_finite_gradient" and any(n.endswith("grad_norm") for n in self._broken)


def diagnose(
    series: Mapping[str, Points],
    *,
    config: Mapping[str, Any] | None = None,
    thresholds: Mapping[str, Any] | None = None,
    samples: Mapping[int, SampleSummary] | None = None,
    events: Iterable[EventRecord] = (),
    times: Points | None = None,
    now: float | None = None,
    ended: Status | None = None,
) -> Diagnosis:
    """Judge a whole run at once.

    Parameters
    ----------
    series
        Steps (int64) and values (float64) by metric, each shape ``(n,)``. The arrays are kept: do not
        change them afterwards.
    config
        verl's resolved configuration as nested mappings.
    thresholds
        Changes to the rules' parameters, by rule id; see ``resolve_thresholds``.
    samples
        Summaries of the rollout samples, by step.
    events
        What happened besides steps.
    times
        Steps and unix times of the records.
    now
        The present, as unix time; without it nothing is said about a stall.
    ended
        How the run ended; None while it goes on.

    Returns
    -------
    Diagnosis
        To be asked for findings and health, and to be fed with more steps.
    """
    diagnosis = Diagnosis(config=config, thresholds=thresholds)
    diagnosis.extend(series, times=times, samples=samples, events=events)
    if now is not None:
        diagnosis.tick(now)
    if ended is not None:
        diagnosis.end(ended)
    return diagnosis


def _checked(name: str, points: Points) -> Points:
    if len(points[0]) != len(points[1]):
        raise InvalidInputError(
            f"{name}: {len(points[0])} steps but {len(points[1])} values.", "Give one value for each step."
        )
    return masked(*points)


def _as_points(samples: Mapping[int, SampleSummary]) -> dict[str, Points]:
    gathered: dict[str, list[tuple[int, float]]] = {}
    for step in sorted(samples):
        for name, value in samples[step].as_metrics().items():
            gathered.setdefault(name, []).append((step, value))
    return {
        name: (np.array([s for s, _ in points], np.int64), np.array([v for _, v in points], np.float64))
        for name, points in gathered.items()
    }


def _union(steps: list[NDArray[np.int64]], after: int | None) -> NDArray[np.int64]:
    """Return every step after ``after`` that occurs, sorted; most metrics share the same ones."""
    whole = max(steps, key=len, default=np.empty(0, np.int64))
    missing: list[NDArray[np.int64]] = []
    for one in steps:
        if one is whole or len(one) == 0 or (len(one) == len(whole) and np.array_equal(one, whole)):
            continue
        position = np.minimum(np.searchsorted(whole, one), len(whole) - 1)
        strange = one[whole[position] != one]
        if len(strange):
            missing.append(strange)
    every = np.unique(np.concatenate([whole, *missing])) if missing else whole
    return every if after is None else every[count_up_to(every, after) :]
