"""``lab.overview``: all runs at a glance, kept up to date in the background for as long as somebody looks."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verl_lab.domain.run import RunState
from verl_lab.errors import VerlLabError
from verl_lab.lab.diagnosis.diagnoses import RunDiagnosis
from verl_lab.lab.glance import Glance, is_written_to, project_of
from verl_lab.lab.summary import spark

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from verl_lab.domain.finding import Finding, Health
    from verl_lab.domain.run import Status
    from verl_lab.lab.lab import Lab
    from verl_lab.lab.run import Run
    from verl_lab.lab.summary import RunSummary
    from verl_lab.store import RunRow
    from verl_lab.stream import Subscription

_logger = logging.getLogger(__name__)

_TICK_S = 0.5
_LOOK_S = 2.0  # how often folders and logs are looked at for what nobody told
_IDLE_S = 60.0  # nobody has asked for so long: then nothing is read or judged
_MOST_JUDGED = 50  # of the runs that are over, so many of the newest are judged without being asked about
_MOST_SPARKS = 200
_SLICE_S = 0.3  # following, and then judging, goes on for so long before what is new is told
_STALE_S = 5.0  # after this long without a look, whoever asks looks first
_SHORTEST_S = 0.05


@dataclass(frozen=True)
class News:
    """What is new since the last time.

    Attributes
    ----------
    rows
        The runs that are new or not as they were, newest first.
    removed
        The ids of those that are listed no more.
    findings
        Each finding of severity ``warning`` or above that was not there before, or has become graver.
    problem
        Why the list is not up to date, for as long as it is not.
    is_problem_new
        Whether that came, or ended, just now.
    """

    rows: tuple[RunSummary, ...] = ()
    removed: tuple[str, ...] = ()
    findings: tuple[tuple[RunSummary, Finding], ...] = ()
    problem: VerlLabError | None = None
    is_problem_new: bool = False


class Overview:
    """The list of a lab's runs, with health and course, without reading a run to show it.

    What the index says of a run is there at once. Health and course come from a thread that works while somebody
    looks: runs that go on first, then the newest, then those that were asked about. It also takes in runs that
    other processes start.

    Attributes
    ----------
    problem
        Why the list is not up to date, for as long as it is not.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._turn = threading.Condition()
        self._known: dict[str, Glance] = {}
        self._asked: set[str] = set()
        self._told: deque[str] = deque()  # by the feed, from other threads
        self._followed: set[str] = set()  # by this, so that it may end it
        self._listeners: tuple[Callable[[News], object], ...] = ()
        self._looked = -_STALE_S
        self._wanted_until = 0.0
        self._begun = time.time()
        self._thread: threading.Thread | None = None
        self._subscription: Subscription | None = None
        self._is_closed = False
        self.problem: VerlLabError | None = None

    def rows(self) -> list[RunSummary]:
        """Return all runs, newest first; those that other processes made are there within seconds."""
        self._want()
        if time.monotonic() - self._looked > _STALE_S:
            self._look_at_all()
        with self._turn:
            found = [known.summary for known in self._known.values()]
        return sorted(found, key=lambda row: (row.created, row.id), reverse=True)

    def row(self, run: Run) -> RunSummary:
        """Return one run as it stands now; it is judged in the background if it was not."""
        self._want()
        status = None if run.is_attached else run.status()
        row = run.row
        with self._turn:
            known = self._known.setdefault(row.id, Glance.of(row))
            known.take(row, self._lab.store)
            known.status = status
            known.summarise(self._lab.store)
            if not known.is_judged:
                self._asked.add(run.id)
            return known.summary

    def subscribe(self, listener: Callable[[News], object]) -> Callable[[], None]:
        """Call ``listener`` with what is new, at most twice a second, from another thread; return what ends it."""
        with self._turn:
            self._listeners = (*self._listeners, listener)
        self._want()

        def end() -> None:
            with self._turn:
                self._listeners = tuple(one for one in self._listeners if one is not listener)

        return end

    def judge_anew(self, run_id: str) -> None:
        """Judge a run again soon, from its beginning."""
        self._lab.diagnoses.forget(run_id)
        with self._turn:
            if run_id in self._known:
                self._known[run_id].is_judged = False
            self._asked.add(run_id)

    def close(self) -> None:
        """End the thread; what it is at is finished first."""
        with self._turn:
            self._is_closed = True
            thread, subscription = self._thread, self._subscription
            self._turn.notify_all()
        if subscription is not None:
            subscription.close()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _want(self) -> None:
        with self._turn:
            self._wanted_until = time.monotonic() + _IDLE_S
            if self._thread is None and not self._is_closed:
                self._thread = threading.Thread(target=self._work, name="verl-lab overview", daemon=True)
                self._thread.start()
                self._subscription = self._lab.feed.subscribe(lambda update: self._told.append(update.run_id))
            self._turn.notify_all()

    @property
    def _is_wanted(self) -> bool:
        return bool(self._listeners) or time.monotonic() < self._wanted_until

    def _work(self) -> None:
        shown: dict[str, RunSummary] = {}
        while True:
            with self._turn:
                while not self._is_wanted and not self._is_closed:
                    self._turn.wait()
                if self._is_closed:
                    return
            begun = time.monotonic()
            findings: list[tuple[str, Finding]] = []
            problem: VerlLabError | None = None
            try:
                findings = self._look()
            except VerlLabError as error:  # the database is busy, or closed a moment ago: the next time tells
                problem = error
                if self.problem is None:
                    _logger.warning("The list of runs could not be brought up to date: %s", error.message)
            except Exception:  # as above: one bad look does not end them all
                _logger.exception("The list of runs could not be brought up to date.")
            self._tell(shown, findings, problem)
            with self._turn:
                pause_s = max(_SHORTEST_S, _TICK_S - (time.monotonic() - begun))
                self._turn.wait_for(lambda: self._is_closed, pause_s)

    def _look(self) -> list[tuple[str, Finding]]:
        """Bring everything up to date, and judge for a moment; return the findings that are new."""
        if time.monotonic() - self._looked >= _LOOK_S:
            self._look_at_all()
            with self._turn:
                logs = [known.row for known in self._known.values() if known.row.kind == "attached"]
            for row in filter(is_written_to, logs):
                self._attend(row)
        else:
            self._look_at_told()
        with self._turn:
            live = [known for known in self._known.values() if known.is_live]
            for known in live:
                known.summarise(self._lab.store)
        # Of many that nobody has read yet, some each time: the others are not to wait for them.
        until = time.monotonic() + _SLICE_S
        for known in live:
            if time.monotonic() < until or known.row.id in self._followed:
                self._attend(known.row)
        self._leave()
        return self._judge()

    def _look_at_all(self) -> None:
        """Take in what there is, also what other processes have made."""
        self._lab.discover()
        self._told.clear()
        rows = self._lab.store.runs.list()
        with self._turn:
            for row in rows:
                self._take(row)
            for gone in self._known.keys() - {row.id for row in rows}:
                del self._known[gone]
            self._looked = time.monotonic()

    def _look_at_told(self) -> None:
        """Take in what the feed has told of."""
        told = {self._told.popleft() for _ in range(len(self._told))}
        rows = [row for run_id in told if (row := self._lab.store.runs.get(run_id)) is not None]
        with self._turn:
            for row in rows:
                self._take(row)

    def _take(self, row: RunRow) -> None:
        known = self._known.get(row.id)
        if known is None:
            self._known[row.id] = Glance.of(row)
        else:
            known.take(row, self._lab.store)

    def _attend(self, row: RunRow) -> None:
        """Follow a run that goes on, and see where it stands."""
        status: Status | None = None
        try:
            if not self._lab.reader.is_following(row.id):
                self._lab.follow(row)
                self._followed.add(row.id)
            if row.kind != "attached":
                status = self._lab.found(row).status()
        except VerlLabError as error:  # its folder is gone, or its host: the others are looked at all the same
            _logger.debug("%s cannot be followed: %s", row.id, error.message)
        with self._turn:
            known = self._known.get(row.id)
            if known is not None and status is not None and status != known.status:
                known.status = status
                known.summarise(self._lab.store)

    def _leave(self) -> None:
        """Follow no more what was followed here and is over, once it has been read to its end."""
        for run_id in list(self._followed):
            known, read = self._known.get(run_id), self._lab.reader.status(run_id)
            is_over = known is not None and RunState(known.row.state).is_over
            was_read = is_over and read is not None and read[0].state.is_over
            if known is None or (was_read and not self._lab.feed.is_heard(run_id)):
                self._followed.discard(run_id)
                self._lab.reader.unfollow(run_id)

    def _judge(self) -> list[tuple[str, Finding]]:
        """Judge what is due, for a moment; return the findings that are new."""
        news: list[tuple[str, Finding]] = []
        until = time.monotonic() + _SLICE_S
        for row, judges in self._due():
            if time.monotonic() > until or self._is_closed:
                break
            news += self._judge_one(row, judges=judges)
        return news

    def _due(self) -> list[tuple[RunRow, bool]]:
        """Return the runs to look into, the most wanted first, and whether to judge them."""
        with self._turn:
            newest = sorted(self._known.values(), key=lambda one: (one.row.created, one.row.id), reverse=True)
            due: list[tuple[int, RunRow, bool]] = []
            for place, one in enumerate(newest):
                is_asked = one.row.id in self._asked
                if one.is_live or is_asked or place < _MOST_JUDGED:
                    if not one.is_judged and not one.is_unread:
                        due.append((0 if one.is_live else 1 if is_asked else 2, one.row, True))
                elif place < _MOST_SPARKS and not one.is_sparked:
                    due.append((3, one.row, False))
        return [(row, judges) for _, row, judges in sorted(due, key=lambda item: item[0])]

    def _judge_one(self, row: RunRow, *, judges: bool) -> list[tuple[str, Finding]]:
        found: tuple[Health, Sequence[Finding]] | None = None
        course, project = None, None
        run = self._lab.found(row)
        with self._turn:
            self._asked.discard(row.id)
            known = self._known.get(row.id)
            wants_project = known is not None and not known.has_project
            goes_on = known is not None and (known.is_live or row.kind == "attached")
        try:
            if judges:
                found = self._diagnose(run, goes_on=goes_on)
            row = self._lab.store.runs.get(row.id) or row  # to judge it, it was read to its end
            course = spark(self._lab.store, row)
            if wants_project:
                project = project_of(run, row)
        except VerlLabError as error:  # it cannot be read: then it has no health, and the next change tries again
            _logger.debug("%s cannot be judged: %s", row.id, error.message)
        with self._turn:
            known = self._known.get(row.id)
            if known is None:
                return []
            known.take(row, self._lab.store)
            known.is_sparked, known.is_judged = True, known.is_judged or judges
            known.spark = course or known.spark
            known.project, known.has_project = project or known.project, True
            news: list[tuple[str, Finding]] = []
            if found is not None:
                is_first = known.health is None and row.created < self._begun
                known.health, known.findings = found
                news = [(row.id, finding) for finding in found[1] if known.is_news(finding) and not is_first]
            known.summarise(self._lab.store)
            return news

    def _diagnose(self, run: Run, *, goes_on: bool) -> tuple[Health, Sequence[Finding]]:
        if goes_on:
            return self._lab.diagnoses.of(run).ask(lambda d: (d.health(), d.findings()))
        # One that is over says nothing more: it is judged once, and neither kept nor followed.
        was_followed = self._lab.reader.is_following(run.id)
        diagnosis = RunDiagnosis(self._lab, run)
        try:
            return diagnosis.ask(lambda d: (d.health(), d.findings()))
        finally:
            diagnosis.close()
            if not was_followed:
                self._lab.reader.unfollow(run.id)

    def _tell(
        self,
        shown: dict[str, RunSummary],
        findings: Sequence[tuple[str, Finding]],
        problem: VerlLabError | None,
    ) -> None:
        is_problem_new = (problem is None) != (self.problem is None)
        self.problem = problem
        with self._turn:
            now = {run_id: known.summary for run_id, known in self._known.items()}
            listeners = self._listeners
        changed = [row for row in now.values() if row is not (old := shown.get(row.id)) and row.differs_from(old)]
        changed.sort(key=lambda row: (row.created, row.id), reverse=True)
        removed = tuple(shown.keys() - now.keys())
        shown.clear()
        shown.update(now)
        told = tuple((now[run_id], finding) for run_id, finding in findings if run_id in now)
        if not (changed or removed or told or is_problem_new):
            return
        news = News(tuple(changed), removed, told, problem, is_problem_new)
        for listener in listeners:
            try:
                listener(news)
            except Exception:  # a listener is anybody's code; it must not end the others
                _logger.exception("A listener of the list of runs failed.")
