"""How a run is judged while it trains: checked before launch, and handed to the process that trains."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import ValidationError

from verl_lab.diagnostics import resolve_thresholds
from verl_lab.domain.host import LOCAL
from verl_lab.domain.recipe import Alerts, Problem
from verl_lab.domain.wire import RunLayout
from verl_lab.errors import EnvironmentMismatchError, InvalidInputError
from verl_lab.lab.hosts.room import asked, machine_of, with_room
from verl_lab.lab.launching.code import code_problems
from verl_lab.lab.launching.shipping import sound_there
from verl_lab.recipes.imports import user_code
from verl_lab.recipes.render import render_checked
from verl_lab.recipes.snapshot import installed_version
from verl_lab.recipes.source import read_mapping
from verl_lab.recipes.validate import check, refuse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.domain.recipe import Device, Recipe
    from verl_lab.lab.hosts.hosts import Hosts
    from verl_lab.recipes.render import Rendered
    from verl_lab.recipes.validate import Checked
    from verl_lab.transport.base import Host

ALERTS_FILE = "alerts.yaml"
"""In the lab's home: who is told about every run, where its recipe does not say otherwise."""


def problems_of(recipe: Recipe, overrides: Sequence[str]) -> tuple[Problem, ...]:
    """Return all that is wrong with a recipe, the overrides and the thresholds; what refuses a launch comes first."""
    found = [*check(recipe, overrides).problems, *_threshold_problems(recipe)]
    return tuple(sorted(found, key=lambda problem: problem.severity != "error"))


def rendered_if_sound(
    recipe: Recipe, overrides: Sequence[str], *, for_launch: bool, hosts: Hosts | None = None
) -> Rendered:
    """Render a recipe, its thresholds checked along with all else.

    Parameters
    ----------
    hosts
        Where there may be room for it, if its GPUs here are in use; None to look at what they have alone.
    for_launch
        Whether it is to be trained here, so that verl must be installed.

    Raises
    ------
    InvalidConfigurationError
        With every problem of the recipe, the overrides and the thresholds.
    EnvironmentMismatchError
        verl is not installed here, and is needed.
    """
    checked = check(recipe, overrides)
    if hosts is not None and checked.plan.device == "gpu":
        checked = with_room(hosts, asked(hosts, LOCAL), checked, for_launch=for_launch)
    rendered = _rendered(recipe, checked)
    if for_launch and installed_version() is None:
        raise EnvironmentMismatchError(
            "verl is not installed here, so nothing can be trained.",
            "Install the training or cpu environment, or train on a host; a dry run works without.",
        )
    return rendered


def rendered_for(
    hosts: Hosts,
    name: str,
    recipe: Recipe,
    overrides: Sequence[str],
    *,
    device: Device,
    python: str,
    for_launch: bool = True,
) -> Rendered:
    """Render a recipe for another machine: what it reads may lie there, and there must be room for it.

    Parameters
    ----------
    device
        What that machine trains with.
    python
        The Python that trains there; it is asked for the modules that the user's code imports.
    for_launch
        Whether it is to begin at once, so that what is in use there now counts.

    Raises
    ------
    InvalidConfigurationError
        As ``rendered_if_sound``; and where that machine lacks what it needs.
    TransportError
        It was not reached.
    """
    host, report = hosts.get(name), asked(hosts, name)
    checked = sound_there(check(recipe, overrides, device=device, machine=machine_of(report)), host)
    checked = with_room(hosts, report, checked, for_launch=for_launch)
    missing = code_problems(user_code(checked.plan, Path.cwd()), host, python)
    return _rendered(recipe, replace(checked, problems=(*checked.problems, *missing)))


def _rendered(recipe: Recipe, checked: Checked) -> Rendered:
    thresholds = _threshold_problems(recipe)
    if checked.errors or thresholds:
        raise refuse(recipe, [*checked.problems, *thresholds])
    return render_checked(checked)


def alerts_of_lab(home: Path) -> Alerts:
    """Return whom the lab's own file tells; nobody where there is none.

    Raises
    ------
    InvalidInputError
        The file is no such setting.
    FormatError
        It is no YAML.
    """
    file = home / ALERTS_FILE
    if not file.exists():
        return Alerts()
    try:
        return Alerts.model_validate(read_mapping(file))
    except ValidationError as error:
        # Its values are left out: the address may hold a token.
        said = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'it'}: {e['msg']}" for e in error.errors())
        raise InvalidInputError(f"{file}: {said}.", f"It has: {', '.join(Alerts.model_fields)}.") from None


def hand_over(host: Host, folder: str, recipe: Recipe, alerts: Alerts) -> None:
    """Write what the training process reads: how to judge the run, and whom to tell.

    Parameters
    ----------
    alerts
        The lab's; the recipe's win, field by field.
    """
    path = str(RunLayout(PurePosixPath(folder)).checks)
    command = recipe.alerts.command or alerts.command
    webhook = recipe.alerts.webhook or alerts.webhook
    record: dict[str, Any] = {
        "on_critical": recipe.checks.on_critical,
        "thresholds": recipe.checks.thresholds,
        "alerts": {"command": command, "webhook": None if webhook is None else webhook.get_secret_value()},
    }
    host.make_folder(folder)
    host.write_new(path, orjson.dumps(record, option=orjson.OPT_INDENT_2))
    if webhook is not None:
        host.run(["chmod", "600", path], timeout_s=10)


def _threshold_problems(recipe: Recipe) -> list[Problem]:
    """Check each rule by itself, so that all mistakes are told at once."""
    found: list[Problem] = []
    for rule, changes in recipe.checks.thresholds.items():
        try:
            resolve_thresholds({rule: changes})
        except InvalidInputError as error:
            field, _, why = error.message.partition(": ")
            found.append(Problem(f"checks.{field}", changes, why, error.hint))
    return found
