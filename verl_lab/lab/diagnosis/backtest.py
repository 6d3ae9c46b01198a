"""What rules would have done on the runs there are: when they fire, what a stop saves, and false alarms."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from verl_lab.diagnostics import RULES
from verl_lab.domain.finding import Severity
from verl_lab.errors import NotFoundError, VerlLabError
from verl_lab.lab.diagnosis.diagnoses import RunDiagnosis
from verl_lab.lab.table import Table
from verl_lab.widgets.wording import duration

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from verl_lab.diagnostics import Diagnosis
    from verl_lab.domain.finding import Finding
    from verl_lab.domain.run import Status
    from verl_lab.lab.lab import Lab
    from verl_lab.lab.run import Run

_STEP_SECONDS = ("perf/time_per_step", "timing_s/step")


@dataclass(frozen=True)
class Firing:
    """One rule that would have fired on one run.

    Attributes
    ----------
    rule, run
        Which rule, and the id of the run.
    severity
        The gravest it reached.
    step
        The step at which it reached that.
    first_step
        The step at which it first fired, at whatever severity.
    last_step
        The last step of the run.
    saved_s
        Wall-clock seconds that the run trained on after ``step``: what a stop there would have saved.
        None for a severity below error, which stops nothing, and where the log tells no time.
    gpus
        GPUs (logical ones on a CPU) the run held; ``saved_s`` times this are GPU seconds.
    is_false_alarm
        Whether it fired at error or critical on a run that reached its last step with nothing of either
        severity still weighing on its score.
    evidence
        What was measured.
    """

    rule: str
    run: str
    severity: Severity
    step: int
    first_step: int
    last_step: int
    saved_s: float | None
    gpus: int
    is_false_alarm: bool
    evidence: str

    @property
    def saved_gpu_s(self) -> float | None:
        """GPU seconds that a stop would have saved; None as for ``saved_s``."""
        return None if self.saved_s is None else self.saved_s * self.gpus


@dataclass(frozen=True)
class RuleRecord:
    """How one rule did over all runs.

    Attributes
    ----------
    judged
        Runs to which it applies.
    fired
        Runs on which it fired.
    grave
        Runs on which it reached error or critical.
    false_alarms
        How many of these ended in good health.
    saved_gpu_s
        GPU seconds that stopping the others there would have saved.
    """

    rule: str
    judged: int
    fired: int
    grave: int
    false_alarms: int
    saved_gpu_s: float


@dataclass(frozen=True)
class Backtest:
    """What the rules would have done; shown as a table of rules and one of firings.

    Attributes
    ----------
    runs
        Ids of the runs that were judged.
    rules
        One record a rule, those that saved most first.
    firings
        One for each rule and run where it fired.
    skipped
        By run id, why a run could not be judged.
    """

    runs: tuple[str, ...]
    rules: tuple[RuleRecord, ...]
    firings: tuple[Firing, ...]
    skipped: dict[str, str]

    def __repr__(self) -> str:
        return "\n\n".join([self._title(), *map(repr, self._tables())])

    def _repr_html_(self) -> str:
        tables = "".join(table.to_html() for table in self._tables())
        return f"<p><b>{html.escape(self._title())}</b></p>{tables}"

    def _title(self) -> str:
        saved = sum(record.saved_gpu_s for record in self.rules)
        false = sum(record.false_alarms for record in self.rules)
        alarms = "1 false alarm" if false == 1 else f"{false} false alarms"
        runs = "1 run" if len(self.runs) == 1 else f"{len(self.runs)} runs"
        return f"{len(self.rules)} rules on {runs}: {alarms}; rule by rule, stops would have saved {_gpu_time(saved)}"

    def _tables(self) -> list[Table]:
        rules = tuple(
            (r.rule, str(r.judged), str(r.fired), str(r.grave), str(r.false_alarms), _gpu_time(r.saved_gpu_s))
            for r in self.rules
            if r.judged
        )
        firings = tuple(
            (
                f.rule,
                f.run,
                str(f.severity),
                f"{f.step} of {f.last_step}",
                "-" if f.saved_gpu_s is None else _gpu_time(f.saved_gpu_s),
                "false alarm" if f.is_false_alarm else "",
                f.evidence,
            )
            for f in self.firings
        )
        tables = [
            Table(("rule", "judged", "fired", "grave", "false alarms", "saved"), rules, "No rule applies."),
            Table(("rule", "run", "severity", "step", "saved", "", "evidence"), firings, "No rule would have fired."),
        ]
        if self.skipped:
            tables.append(Table(("not judged", "because"), tuple(self.skipped.items()), ""))
        return tables


def backtest(
    lab: Lab, runs: Sequence[Run], rules: Sequence[str] | None, thresholds: Mapping[str, Any] | None
) -> Backtest:
    """Judge runs as ``Lab.backtest`` says."""
    known = [rule.id for rule in RULES]
    chosen = known if rules is None else list(dict.fromkeys(rules))
    for rule in chosen:
        if rule not in known:
            raise NotFoundError.of("rule", rule, known)
    firings: list[Firing] = []
    judged: dict[str, int] = dict.fromkeys(chosen, 0)
    skipped: dict[str, str] = {}
    done: list[str] = []
    for run in runs:
        try:
            found, left_out = _judge(lab, run, chosen, thresholds)
        except VerlLabError as error:
            skipped[run.id] = error.message
            continue
        done.append(run.id)
        firings += found
        for rule in chosen:
            judged[rule] += rule not in left_out
    records = sorted((_record(rule, judged[rule], firings) for rule in chosen), key=lambda r: (-r.saved_gpu_s, r.rule))
    return Backtest(tuple(done), tuple(records), tuple(firings), skipped)


def _judge(
    lab: Lab, run: Run, rules: Sequence[str], thresholds: Mapping[str, Any] | None
) -> tuple[list[Firing], dict[str, str]]:
    tested = RunDiagnosis(lab, run, thresholds)
    try:
        # Whether the run did well is told by its own thresholds, or the tested ones would judge themselves.
        is_ill = any(finding.is_active and finding.severity >= Severity.ERROR for finding in run.findings())
        did_well = not is_ill and _reached_its_end(run.status(), is_ours=not run.is_attached)
        firings, left_out = tested.ask(lambda diagnosis: (_gravest(diagnosis, rules), diagnosis.not_applicable()))
    finally:
        tested.close()
    clock = _Clock(lab, run)
    found: list[Firing] = []
    for finding, step in firings:
        is_grave = finding.severity >= Severity.ERROR
        found.append(
            Firing(
                rule=finding.rule,
                run=run.id,
                severity=finding.severity,
                step=step,
                first_step=finding.first_step,
                last_step=clock.last_step,
                saved_s=clock.seconds_after(step) if is_grave else None,
                gpus=_gpus(run.config),
                is_false_alarm=is_grave and did_well,
                evidence=finding.evidence,
            )
        )
    return found, left_out


def _gravest(diagnosis: Diagnosis, rules: Sequence[str]) -> list[tuple[Finding, int]]:
    """Return, of each rule that fired, the gravest finding, the earliest of them, and when it got that grave."""
    best: dict[str, tuple[Finding, int]] = {}
    for finding in diagnosis.findings():
        known = best.get(finding.rule)
        if finding.rule not in rules or (known is not None and known[0].severity > finding.severity):
            continue
        step = _step_of(diagnosis, finding)
        if known is None or finding.severity > known[0].severity or step < known[1]:
            best[finding.rule] = (finding, step)
    return [best[rule] for rule in rules if rule in best]


def _step_of(diagnosis: Diagnosis, finding: Finding) -> int:
    """Return the first step at which a finding stood at its severity: by bisection, as it only gets graver."""

    def stood(step: int) -> bool:
        return any(
            (f.rule, f.metric, f.first_step) == (finding.rule, finding.metric, finding.first_step)
            and f.severity >= finding.severity
            for f in diagnosis.findings(step)
        )

    low, high = finding.first_step, finding.last_step
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if stood(middle) else (middle + 1, high)
    return low


class _Clock:
    """How long a run trained after a step."""

    def __init__(self, lab: Lab, run: Run) -> None:
        metrics = lab.store.metrics
        names = metrics.names(run.id)
        every = {name: metrics.read(run.id, name)[0] for name in names}
        longest = max(every, key=lambda name: len(every[name]), default="")
        self.last_step = max((int(steps[-1]) for steps in every.values() if len(steps)), default=0)
        found = metrics.series(run.id, longest)
        self._steps, self._times, self._attempts = found.steps, found.times, found.attempts
        self._ended = run.status().ended
        # A log without times may still say how long each step took.
        self._logged = next((metrics.read(run.id, name) for name in _STEP_SECONDS if name in names), None)

    def seconds_after(self, step: int) -> float | None:
        """Return the seconds of training after ``step``; time between attempts does not count."""
        after: NDArray[np.intp] = np.flatnonzero(self._steps >= step)
        if len(after) and bool(np.isfinite(self._times[after]).all()):
            times, attempts = self._times[after], self._attempts[after]
            gaps = np.diff(times)[attempts[1:] == attempts[:-1]]
            rest = 0.0 if self._ended is None else max(0.0, self._ended - float(times[-1]))
            return float(np.maximum(gaps, 0).sum()) + rest
        if self._logged is not None:
            return float(np.nansum(self._logged[1][self._logged[0] > step]))
        return None


def _reached_its_end(status: Status, *, is_ours: bool) -> bool:
    """Say whether training came to its last step; a log of something else's is taken to have."""
    if not is_ours:
        return True
    # The state will not do: a critical finding makes it "failed", and that finding is what is in question.
    return (
        status.exit_code == 0 and status.step is not None and status.total is not None and status.step >= status.total
    )


def _gpus(config: Mapping[str, Any]) -> int:
    trainer: Mapping[str, Any] = config.get("trainer") or {}
    counts = (trainer.get("n_gpus_per_node"), trainer.get("nnodes"))
    return int(np.prod([count if isinstance(count, int) and count > 0 else 1 for count in counts]))


def _record(rule: str, judged: int, firings: Sequence[Firing]) -> RuleRecord:
    mine = [firing for firing in firings if firing.rule == rule]
    grave = [firing for firing in mine if firing.severity >= Severity.ERROR]
    return RuleRecord(
        rule=rule,
        judged=judged,
        fired=len(mine),
        grave=len(grave),
        false_alarms=sum(firing.is_false_alarm for firing in grave),
        saved_gpu_s=sum(firing.saved_gpu_s or 0.0 for firing in grave if not firing.is_false_alarm),
    )


def _gpu_time(seconds: float) -> str:
    return f"{duration(seconds)} of GPU time" if seconds else "nothing"
