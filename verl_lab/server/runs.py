"""Runs: the list, one of them, what it wrote, what can be done with it."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

from pydantic import Field

from verl_lab.domain.recipe import LONGEST_NAME, NAME
from verl_lab.domain.run import RunState
from verl_lab.errors import InvalidInputError
from verl_lab.lab.curves import reduced
from verl_lab.lab.diagnosis.replay import Replay
from verl_lab.lab.view import RunView
from verl_lab.server.faults import ConflictError
from verl_lab.server.routing import Asked, Nothing, Override, Routes, Step, Text
from verl_lab.server.run_answers import RunDetails
from verl_lab.server.told import told_finding, told_health

if TYPE_CHECKING:
    from collections.abc import Generator

    from verl_lab.lab import Lab
    from verl_lab.lab.diagnosis.report import RunReport
    from verl_lab.lab.summary import RunSummary
    from verl_lab.server.run_answers import (
        Configuration,
        Event,
        EventList,
        Findings,
        Health,
        Judgement,
        Judgements,
        Log,
        Metrics,
        Replayed,
        RunList,
        SampleGroup,
        Samples,
    )

ROUTES = Routes()

_MOST_POINTS = 100_000  # in one answer, over all metrics
_MOST_NAMES = 200
_LONGEST_TEXT = 20_000


class ListQuery(Asked):
    """Which runs."""

    state: RunState | None = None
    recipe: Text | None = None
    search: Text | None = None
    limit: Annotated[int, Field(ge=1, le=5000)] = 500
    offset: Annotated[int, Field(ge=0, le=10**9)] = 0


class Launch(Asked):
    """What to launch, as ``lab.train`` takes it."""

    recipe: Annotated[str, Field(pattern=NAME, max_length=LONGEST_NAME)] | None = None
    overrides: Annotated[list[Override], Field(max_length=500, default_factory=list[str])]
    name: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    host: Text = "local"
    preset: Text | None = None
    parent: Annotated[str, Field(max_length=100)] | None = None
    from_step: Step | None = None


class Stop(Asked):
    """How to stop a run."""

    now: bool = False


class AtStep(Asked):
    """As of a step; now, if none is given."""

    step: Step | None = None


class ReplayQuery(Asked):
    """The step to look back to."""

    step: Step


class MetricsQuery(Asked):
    """Which metrics, which steps, how many points of each."""

    names: Annotated[str, Field(max_length=5000)] = ""
    start: Step | None = None
    end: Step | None = None
    points: Annotated[int, Field(ge=8, le=20_000)] = 1500


class EventsQuery(Asked):
    """Which events: after how many, and how many at most."""

    after: Annotated[int, Field(ge=0, le=10**9)] = 0
    limit: Annotated[int, Field(ge=1, le=5000)] = 500


class LogQuery(Asked):
    """How many lines."""

    tail: Annotated[int, Field(ge=1, le=20_000)] = 400


class SamplesQuery(Asked):
    """Which samples: their kind, their step, and the prompt to begin with."""

    kind: Literal["validation", "rollout"] = "validation"
    step: Step | None = None
    start: Annotated[int, Field(ge=0, le=10**9)] = 0


@ROUTES.add("GET", "runs", query=ListQuery)
def runs(lab: Lab, query: ListQuery) -> RunList:
    """List the runs, newest first."""
    words = (query.search or "").lower().split()
    found = [
        row
        for row in lab.overview.rows()
        if (query.state is None or row.state == query.state.value)
        and (query.recipe is None or row.recipe == query.recipe)
        and all(word in _searched(row) for word in words)
    ]
    return {"rows": found[query.offset : query.offset + query.limit], "total": len(found)}


@ROUTES.add("POST", "runs", body=Launch, status=201, is_slow=True)
def launch(lab: Lab, body: Launch) -> RunSummary:
    """Check a recipe and launch it."""
    if body.recipe is None and body.parent is None:
        raise InvalidInputError("recipe: there is none.", "Give a recipe, or the run to start from as parent.")
    run = lab.train(
        body.recipe,
        body.overrides,
        body.name,
        body.host,
        parent=body.parent,
        from_step=body.from_step,
        preset=body.preset,
    )
    return lab.overview.row(run)


@ROUTES.add("GET", "runs/{run}", is_slow=True)
def run_(lab: Lab, run: str) -> RunDetails:
    """Say where one run stands, and what there is to see of it."""
    found = lab.run_of(run)
    row = lab.overview.row(found)
    ours = not found.is_attached
    record: dict[str, Any] = found.launcher.read_record(found.folder) if ours else {}
    return RunDetails(
        **{name: getattr(row, name) for name in row.__dataclass_fields__},
        command=found.command if ours else None,
        overrides=list(record.get("overrides") or ()),
        config_available=ours,
        metrics=found.metric_names(),
        findings=len(found.findings()),
    )


@ROUTES.add("POST", "runs/{run}/stop", body=Stop, is_slow=True)
def stop(lab: Lab, run: str, body: Stop) -> RunSummary:
    """Ask a run to save a checkpoint and end; or, with ``now``, to end at once."""
    with _state_allows():
        return lab.overview.row(lab.run_of(run).stop(now=body.now))


@ROUTES.add("POST", "runs/{run}/resume", body=Nothing, is_slow=True)
def resume(lab: Lab, run: str, body: Nothing) -> RunSummary:
    """Go on from a run's last checkpoint."""
    del body
    with _state_allows():
        return lab.overview.row(lab.run_of(run).resume())


@ROUTES.add("POST", "runs/{run}/sync", body=Nothing, is_slow=True)
def sync(lab: Lab, run: str, body: Nothing) -> RunSummary:
    """Read everything a run has written up to now."""
    del body
    return lab.overview.row(lab.run_of(run).sync())


@ROUTES.add("POST", "runs/{run}/diagnose", body=Nothing, is_slow=True)
def diagnose(lab: Lab, run: str, body: Nothing) -> Judgement:
    """Judge a run anew, from its beginning."""
    del body
    found = lab.run_of(run)
    lab.overview.judge_anew(found.id)
    return _report(lab.diagnose(found)[0])


@ROUTES.add("POST", "diagnose", body=Nothing, is_slow=True)
def diagnose_all(lab: Lab, body: Nothing) -> Judgements:
    """Judge all runs that are live."""
    del body
    return {"reports": [{"run": one.run, **_report(one)} for one in lab.diagnose()]}


@ROUTES.add("GET", "runs/{run}/metrics", query=MetricsQuery)
def metrics(lab: Lab, run: str, query: MetricsQuery) -> Metrics:
    """Give metrics over the steps, reduced to what a chart can show; without names, all of them."""
    found = lab.run_of(run)
    names = list(dict.fromkeys(name for name in query.names.split(",") if name)) or found.metric_names()
    if len(names) > _MOST_NAMES and query.names:
        raise InvalidInputError(f"names: {len(names)} are too many.", f"Ask for {_MOST_NAMES} at once.")
    points = max(8, min(query.points, _MOST_POINTS // max(1, len(names))))
    series = reduced(found, names, query.start, query.end, points=points)
    return {"series": {name: {"steps": s.tolist(), "values": v.tolist()} for name, (s, v) in series.items()}}


@ROUTES.add("GET", "runs/{run}/events", query=EventsQuery)
def events(lab: Lab, run: str, query: EventsQuery) -> EventList:
    """List what happened to a run besides steps, oldest first."""
    found = lab.run_of(run).events()
    rows = [cast("Event", asdict(event)) for event in found[query.after : query.after + query.limit]]
    return {"rows": rows, "total": len(found)}


@ROUTES.add("GET", "runs/{run}/findings", query=AtStep, is_slow=True)
def findings(lab: Lab, run: str, query: AtStep) -> Findings:
    """Say what is wrong with a run, as of a step or now."""
    return {"findings": [told_finding(one) for one in lab.run_of(run).findings(query.step)]}


@ROUTES.add("GET", "runs/{run}/health", query=AtStep, is_slow=True)
def health(lab: Lab, run: str, query: AtStep) -> Health:
    """Give a run's health from 0 to 100 and what it is made of, as of a step or now."""
    return told_health(lab.run_of(run).health(query.step))


@ROUTES.add("GET", "runs/{run}/config")
def config(lab: Lab, run: str) -> Configuration:
    """Give verl's resolved configuration; empty for a log that something else writes."""
    return {"config": lab.run_of(run).config}


@ROUTES.add("GET", "runs/{run}/log", query=LogQuery)
def log(lab: Lab, run: str, query: LogQuery) -> Log:
    """Give the last lines that training printed."""
    return {"text": lab.run_of(run).logs(query.tail)}


@ROUTES.add("GET", "runs/{run}/samples", query=SamplesQuery, is_slow=True)
def samples(lab: Lab, run: str, query: SamplesQuery) -> Samples:
    """Give the prompts and responses of a step, 20 prompts at once, long texts cut short."""
    sheet = RunView(lab, lab.run_of(run)).samples(query.step, query.kind)
    groups: list[SampleGroup] = [
        {
            "prompt": _short(group.prompt),
            "samples": [
                {
                    "response": _short(one.response),
                    "score": one.score,
                    "expected": None if one.expected is None else _short(one.expected),
                }
                for one in group.samples
            ],
        }
        for group in sheet.groups[query.start : query.start + 20]
    ]
    return {"kind": sheet.kind, "step": sheet.step, "steps": sheet.steps, "groups": groups, "total": len(sheet.groups)}


@ROUTES.add("GET", "runs/{run}/replay", query=ReplayQuery, is_slow=True)
def replay(lab: Lab, run: str, query: ReplayQuery) -> Replayed:
    """Say how a run stood at a step: nothing is known of what came later."""
    shown = Replay(RunView(lab, lab.run_of(run)))
    shown.seek(query.step)
    last = {name: series[-1] for name in shown.metric_names() if (series := shown.series(name)[1]).size}
    return {
        "header": shown.header(),
        "health": told_health(shown.health()),
        "findings": [told_finding(one) for one in shown.findings()],
        "values": {name: float(value) for name, value in last.items()},
    }


@contextmanager
def _state_allows() -> Generator[None]:
    """Take what is refused for what the run's state does not allow: its name was right."""
    try:
        yield
    except InvalidInputError as error:
        raise ConflictError(error.message, error.hint) from error


def _report(report: RunReport) -> Judgement:
    return {"health": told_health(report.health), "findings": [told_finding(one) for one in report.findings]}


def _searched(row: RunSummary) -> str:
    return " ".join(filter(None, (row.id, row.name, row.recipe, row.algorithm, row.host, row.state))).lower()


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_TEXT else f"{text[:_LONGEST_TEXT]}…"
