"""What a report says of a run in figures, kept inside it: two reports can be compared wherever their runs are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, cast

from pydantic import BaseModel, ConfigDict, ValidationError

from verl_lab.domain.metric import first_charts
from verl_lab.errors import FormatError, NotFoundError, VerlLabError
from verl_lab.lab.comparing.origins import read_origins
from verl_lab.lab.comparing.sides import Side, sides
from verl_lab.lab.view import RunView
from verl_lab.widgets.contrast import value_of
from verl_lab.widgets.judgement import judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from verl_lab.lab.lab import Lab
    from verl_lab.lab.run import Run

FACTS_MIME = "application/vnd.verl-lab.report+json"
_LARGEST_BYTES = 64 << 20


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="strings")


class DataFact(_Part):
    """A data set of the run; its hash is None where it was not recorded."""

    role: str
    name: str
    hash: str | None


class ValueFact(_Part):
    """Where a metric of the run began and ended; the best in the metric's own direction, None where it has none."""

    metric: str
    label: str
    unit: str
    first: float | None
    last: float | None
    best: float | None
    best_step: int | None


class FindingFact(_Part):
    """A finding of the run."""

    rule: str
    title: str
    severity: str
    metric: str
    first_step: int
    is_active: bool


class ConfigurationFact(_Part):
    """What ``lab.sides.Side`` says of the run's configuration."""

    values: dict[str, Any]
    given: list[str] | None
    verl: str | None
    trainer: str | None
    contents: dict[str, str]


class Facts(_Part):
    """One run, as it stood when the report was made.

    Attributes
    ----------
    configuration
        None where it is not known, as of a log that something else writes.
    """

    run: str
    name: str
    state: str
    reason: str | None = None
    step: int | None = None
    total: int | None = None
    elapsed_s: float | None = None
    started: float | None = None
    host: str = "local"
    recipe: str | None = None
    algorithm: str | None = None
    model: str | None = None
    parameters: int | None = None
    verl: str | None = None
    health: int | None = None
    health_reason: str | None = None
    data: tuple[DataFact, ...] = ()
    values: tuple[ValueFact, ...] = ()
    findings: tuple[FindingFact, ...] = ()
    configuration: ConfigurationFact | None = None

    def side(self) -> Side | None:
        """Return the configuration as ``lab.diff`` compares it."""
        kept = self.configuration
        if kept is None:
            return None
        given = None if kept.given is None else frozenset(kept.given)
        return Side(
            f"run {self.run} ({self.name})", kept.values, given, kept.verl, cast("Any", kept.trainer), kept.contents
        )


class _Kept(_Part):
    version: int
    runs: tuple[Facts, ...]


def facts_of(lab: Lab, run: Run) -> Facts:
    """Return what there is to say of a run in figures."""
    view = RunView(lab, run)
    header, judgement = view.header(), judge(view)
    origins = None if run.is_attached else read_origins(run.launcher.read_record(run.folder))
    return Facts(
        run=run.id,
        name=header.name,
        state=header.state,
        reason=header.reason,
        step=header.step,
        total=header.total,
        elapsed_s=header.elapsed_s,
        started=run.status().started,
        host=header.host,
        recipe=header.recipe,
        algorithm=run.row.algorithm,
        model=origins and origins.model,
        parameters=origins and origins.parameters,
        verl=origins and origins.verl,
        health=judgement.health.score,
        health_reason=judgement.health.reason,
        data=tuple(
            DataFact(role=one.role, name=one.name, hash=one.hash) for one in (origins.datasets if origins else ())
        ),
        values=tuple(_values(view)),
        findings=tuple(
            FindingFact(
                rule=one.rule,
                title=one.title or one.rule,
                severity=one.severity.value,
                metric=one.metric,
                first_step=one.first_step,
                is_active=one.is_active,
            )
            for one in judgement.findings
        ),
        configuration=_configuration(lab, run),
    )


def told(facts: tuple[Facts, ...]) -> dict[str, Any]:
    """Return facts as a report keeps them."""
    return json.loads(_Kept(version=1, runs=facts).model_dump_json())


def read_facts(path: Path) -> tuple[Facts, ...]:
    """Return the facts that a report's notebook holds.

    Raises
    ------
    NotFoundError, FormatError
        There is no such file, or it is no report.
    """
    if path.suffix == ".html" and path.with_suffix(".ipynb").is_file():
        path = path.with_suffix(".ipynb")
    if not path.is_file():
        raise NotFoundError(f"report: there is no file {path}.", "Give the .ipynb file of a report, or a run.")
    hint = "Give the .ipynb file that %verl_report made, or a run."
    if path.stat().st_size > _LARGEST_BYTES:
        raise FormatError(f"report: {path} is too large for a report.", hint)
    try:
        found = next(_kept(json.loads(path.read_bytes())), None)
    except (ValueError, RecursionError, AttributeError, TypeError):
        found = None
    if found is None:
        raise FormatError(f"report: {path} is no report.", hint)
    try:
        return _Kept.model_validate(found).runs
    except ValidationError as error:
        raise FormatError(f"report: {path} is of another version of verl-lab.", "Run the notebook again.") from error


def _kept(notebook: Mapping[str, Any]) -> Iterator[Any]:
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            kept = output.get("data", {}).get(FACTS_MIME)
            if kept is not None:
                yield kept


def _values(view: RunView) -> Iterator[ValueFact]:
    for chart in first_charts(view.metric_names()):
        _, values = view.series(chart.metric)
        if values.size:
            found = value_of(view, chart.metric)
            yield ValueFact(
                metric=chart.metric,
                label=chart.label,
                unit=chart.unit,
                first=float(values[0]),
                last=found.last,
                best=found.best,
                best_step=found.best_step,
            )


def _configuration(lab: Lab, run: Run) -> ConfigurationFact | None:
    try:
        side = sides(lab, [run])[0][0]
    except VerlLabError:  # a log of something else's; its host is away; its files are gone
        return None
    return ConfigurationFact(
        values=dict(side.values),
        given=None if side.given is None else sorted(side.given),
        verl=side.verl,
        trainer=side.trainer,
        contents=dict(side.contents),
    )
